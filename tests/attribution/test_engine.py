"""The engine: same numbers on every path."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from reference import make_cases, make_residual, reference_cams, relative_error
from samples import make_tiny_cnn
from torch import nn

from galfig.attribution import variants
from galfig.attribution.engine import _describe, make_engine, measure_footprint, open_workers
from galfig.attribution.gradcam import CamBatch, grad_cam
from galfig.attribution.probe import explain_one_by_one
from galfig.errors import ConfigError
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.device import choose_device

CASES = make_cases()
# The reference takes seconds for networks with more than a handful of layers.
TIMED = [
    pytest.param(case, marks=pytest.mark.slow) if "residual" in case or "in-place" in case else case
    for case in CASES
]


@pytest.fixture
def images():
    return torch.randn(19, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", TIMED)
def test_engine_equals_the_reference(case, images):
    """Folded, split or in closed form, maps and logits are those of the network to 1e-5."""
    model, layer_name = CASES[case]
    engine = make_engine(model, model.get_submodule(layer_name))
    found = engine(images)
    assert relative_error(found.cams, reference_cams(model, images, layer_name)) <= 1e-5
    assert relative_error(found.logits, model.double()(images.double()).detach()) <= 1e-5
    model.float()


@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("conv3", "auto"),
        pytest.param("conv3", "conv2", marks=pytest.mark.slow),
        pytest.param("xresnet18", "auto", marks=pytest.mark.slow),
    ],
)
def test_neither_batch_nor_threads_change_a_bit(arch, layer):
    """Alone, in batches of any size, and in any number of threads: the same bits."""
    torch.manual_seed(0)
    model = build_network(arch, 2).eval()
    _, module = find_layer(model, layer, 48)
    images = torch.randn(13, 3, 48, 48)
    engine, n_threads = make_engine(model, module), torch.get_num_threads()
    whole = engine(images)
    for size in (1, 5, 12):
        batches = [engine(batch) for batch in images.split(size)]
        assert torch.equal(torch.cat([batch.cams for batch in batches]), whole.cams)
        assert torch.equal(torch.cat([batch.logits for batch in batches]), whole.logits)
    for n_workers in (1, 3):
        with open_workers(n_workers) as pool:
            batches = list(pool.map(engine.explain, images.split(4)))
        assert torch.equal(torch.cat([batch.cams for batch in batches]), whole.cams)
    assert torch.get_num_threads() == n_threads


def test_micro_batch_follows_the_cache(tiny_cnn, monkeypatch):
    """A power of two whose widest activations fill half the cache, or what is asked for."""
    # The batch norm behind 12 maps of 24 x 24 reads and writes as many.
    footprint = 2 * 12 * 24 * 24 * 4
    assert measure_footprint(tiny_cnn, (3, 24, 24)) == footprint
    for cache, expected in ((8 * footprint, 4), (footprint, 1), (1 << 40, 32)):
        monkeypatch.setattr("galfig.attribution.engine.read_cache_size", lambda cache=cache: cache)
        engine = make_engine(tiny_cnn, tiny_cnn[1])
        assert engine.choose_micro_batch((3, 24, 24)) == expected
    engine = make_engine(tiny_cnn, tiny_cnn[1], micro_batch=7)
    assert engine.choose_micro_batch((3, 24, 24)) == 7


def test_workers_leave_torch_as_it_was():
    """Within, each thread computes alone; behind, torch has its threads again."""
    before = torch.get_num_threads()
    with open_workers(3) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == before


def test_call_leaves_torch_its_threads(tiny_cnn, images):
    """An engine has threads of its own; torch computes with as many as before."""
    before = torch.get_num_threads()
    engine = make_engine(tiny_cnn, tiny_cnn[1])
    for _ in range(2):
        engine(images)
        assert torch.get_num_threads() == before


def test_engine_chooses_its_path():
    """Pooling + linear right behind the layer needs no backward pass; anything else does."""
    paths = {
        case: make_engine(model, model.get_submodule(name), shape=(3, 24, 24)).record.path
        for case, (model, name) in CASES.items()
    }
    assert paths["pooling and linear"] == "closed form"
    assert paths["residual with in-place ReLUs"] == "closed form"
    assert paths["middle layer"] == "cut graph"
    assert paths["two linear layers"] == "cut graph"


@pytest.mark.parametrize(
    ("arch", "n_fused"), [("conv3", 3), pytest.param("xresnet18", 22, marks=pytest.mark.slow)]
)
def test_batch_norms_are_folded(arch, n_fused):
    """Every batch norm behind a convolution is folded, and the maps stay the same."""
    torch.manual_seed(0)
    model = build_network(arch, 2).eval()
    images = torch.randn(3, 3, 64, 64)
    _, layer = find_layer(model, "auto", 64)
    engine = make_engine(model, layer, shape=(3, 64, 64))
    assert engine.record.n_fused == n_fused
    assert engine.record.reasons == ()
    assert relative_error(engine(images).cams, grad_cam(model, images, layer).cams) <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_network_without_onednn_is_the_same(case, images, monkeypatch):
    """Where weights cannot be packed PyTorch's own convolutions compute the same."""
    model, layer_name = CASES[case]
    layer = model.get_submodule(layer_name)
    packed = make_engine(model, layer, shape=(3, 24, 24))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = make_engine(model, layer, shape=(3, 24, 24))
    assert plain.record.n_packed == 0
    assert relative_error(packed(images).cams, plain(images).cams) <= 1e-5


def test_hooks_are_obeyed(tiny_cnn, images):
    """A hook that changes what a module gives is neither folded away nor stepped over."""
    tiny_cnn[0][1].register_forward_hook(lambda module, inputs, output: 2 * output)
    tiny_cnn[4].register_forward_hook(lambda module, inputs, output: 3 * output)
    engine = make_engine(tiny_cnn, tiny_cnn[1], shape=(3, 24, 24))
    assert engine.record.path == "cut graph"
    assert engine.record.n_fused == 1
    expected = grad_cam(tiny_cnn, images, tiny_cnn[1])
    assert relative_error(engine(images).cams, expected.cams) <= 1e-5
    assert relative_error(engine(images).logits, expected.logits) <= 1e-5


def test_network_is_not_touched(tiny_cnn, images):
    """The engine works on a copy."""
    before = {name: tensor.clone() for name, tensor in tiny_cnn.state_dict().items()}
    make_engine(tiny_cnn, tiny_cnn[1])(images)
    after = tiny_cnn.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bfloat16_stays_close(tiny_cnn, images):
    """Reduced precision keeps the maps to 1e-2 of their largest value."""
    exact = grad_cam(tiny_cnn, images, tiny_cnn[1])
    found = make_engine(tiny_cnn, tiny_cnn[1], precision="bfloat16")(images)
    assert found.cams.dtype == found.logits.dtype == torch.float32
    assert relative_error(found.cams, exact.cams) <= 1e-2
    assert not torch.equal(found.cams, exact.cams)


def test_arithmetic_is_put_back(tiny_cnn, images):
    """tf32 is a setting of the whole process: the engine leaves it as it was."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    make_engine(tiny_cnn, tiny_cnn[1], precision="tf32")(images)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_autocast_of_the_caller_does_not_reach_in(device, images):
    """Whoever explains within a block of bfloat16 still gets the arithmetic that was asked for."""
    model = make_tiny_cnn().to(device)
    expected = make_engine(model, model[1])(images)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = make_engine(model, model[1])(images)
    assert torch.equal(found.cams, expected.cams)
    assert torch.equal(found.logits, expected.logits)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_cuda_equals_the_reference(case, images):
    """On a GPU, in float32, maps and logits are those of float64 on a processor."""
    model, layer_name = CASES[case]
    expected = reference_cams(model, images, layer_name)
    logits = copy.deepcopy(model).double()(images.double()).detach()
    on_device = copy.deepcopy(model).cuda()
    engine = make_engine(on_device, on_device.get_submodule(layer_name))
    found = engine(images)
    assert found.cams.is_cuda
    assert engine.record.layout == "channels-last"
    assert engine.record.path != "plain"
    assert relative_error(found.cams.cpu(), expected) <= 1e-4
    assert relative_error(found.logits.cpu(), logits) <= 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("layer", ["auto", "conv2"])
def test_neither_batch_nor_time_change_a_bit_on_cuda(layer):
    """Alone or among others, today or tomorrow: batches of one shape, computed in one order."""
    torch.manual_seed(0)
    model = build_network("conv3", 2).eval().cuda()
    _, module = find_layer(model, layer, 48)
    images = torch.randn(300, 3, 48, 48)
    whole = make_engine(model, module)(images)
    again = make_engine(model, module)
    for size in (1, 100, 300):
        batches = [again(batch) for batch in images.split(size)[:3]]
        cams = torch.cat([batch.cams for batch in batches])
        assert torch.equal(cams, whole.cams[: len(cams)])


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "bound"), [("tf32", 5e-3), ("bfloat16", 5e-2)])
def test_precisions_stay_close_on_cuda(precision, bound, images):
    """Each is less exact than float32, by what it rounds."""
    model = make_tiny_cnn().cuda()
    exact = make_engine(model, model[1])(images)
    found = make_engine(model, model[1], precision=precision)(images)
    assert found.cams.dtype == torch.float32
    assert relative_error(found.cams, exact.cams) <= bound


def test_mistakes_are_refused(tiny_cnn):
    """An unknown precision, a model in training mode and a missing device say so."""
    with pytest.raises(ValueError, match="float16"):
        make_engine(tiny_cnn, tiny_cnn[1], precision="float16")
    model = make_residual().train()
    with pytest.raises(ValueError, match="training mode"):
        make_engine(model, model[3])
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"


class Shared(nn.Module):
    """A residual unit whose activation is another's, too."""

    def __init__(self, act):
        super().__init__()
        self.act, self.conv = act, nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + self.conv(self.act(x))


class Walk(nn.Module):
    """Runs the children of a sequence itself, in one of several manners."""

    def __init__(self, manner):
        super().__init__()
        self.steps = nn.Sequential(*make_tiny_cnn()[0], nn.Conv2d(8, 8, 3, padding=1))
        self.manner, self.fc = manner, nn.Linear(8, 2)

    def forward(self, x):
        if self.manner == "loop":
            kept = []
            for step in self.steps:
                x = step(x)
                kept.append(x)
            x = x + kept[0]
        elif self.manner == "slices":
            x = self.steps[:1](x)
            x = self.steps[1:](x) + x
        else:
            x = self.steps(x) + self.steps[2](self.steps[0](x) - 1)
        return self.fc(x.mean((2, 3)))


class Tutorial(nn.Module):
    """The network of PyTorch's first tutorial, whose view needs contiguous maps."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8 * 22 * 22, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(-1, 8 * 22 * 22))


class Deep(nn.Module):
    """A convolution of three dimensions among those of two."""

    def __init__(self):
        super().__init__()
        self.conv, self.volume = nn.Conv2d(3, 8, 3), nn.Conv3d(1, 1, 3)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.volume(self.conv(x).relu()[:, None])[:, 0].mean((2, 3)))


class Always(nn.Dropout):
    """A dropout that does something in evaluation mode."""

    def forward(self, x):
        return x.clamp(max=0.01)


def make_odd():
    """Return name → (network, layer, what the engine's record must say)."""
    torch.manual_seed(0)
    act = nn.ReLU()
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    conv = [nn.Conv2d(3, 8, 3, padding=1), act, nn.Conv2d(8, 8, 3, padding=1)]
    cases = {"shared activation": (nn.Sequential(nn.Sequential(*conv), Shared(act), *head), "1")}
    for manner in ("loop", "slices", "child again"):
        cases[manner] = (Walk(manner), "steps.3")
    cases["view"] = (Tutorial(), "conv")
    cases["three dimensions"] = (Deep(), "conv")
    dropout = [*make_tiny_cnn()[:4], Always(), nn.Linear(12, 2)]
    cases["subclass of dropout"] = (nn.Sequential(*dropout), "1")
    hooked = make_tiny_cnn()
    hooked[4].register_full_backward_hook(lambda module, grad_in, grad_out: (2 * grad_in[0],))
    cases["backward hook"] = (hooked, "1")
    replaced = make_tiny_cnn()
    forward = replaced.forward
    replaced.forward = lambda x: forward(2 * x)
    cases["closure"] = (replaced, "1")
    return {name: (model.eval(), layer) for name, (model, layer) in cases.items()}


EXPECTED = {
    "shared activation": ("closed form", "channels-last", True),
    "loop": ("cut graph", "channels-last", True),
    "view": ("cut graph", "contiguous", True),
    "three dimensions": ("cut graph", "contiguous", True),
    "subclass of dropout": ("cut graph", "channels-last", True),
    "backward hook": ("cut graph", "channels-last", True),
    "closure": ("plain", "contiguous", False),
}


@pytest.mark.parametrize("name", make_odd())
def test_odd_networks_get_the_exact_maps(name, images):
    """Whatever a network does with its modules, and on the fastest path that is right."""
    model, layer = make_odd()[name]
    engine = make_engine(model, model.get_submodule(layer))
    found = engine(images)
    expected = explain_one_by_one(model, images, model.get_submodule(layer))
    assert relative_error(found.cams, expected.cams) <= 1e-4
    assert relative_error(found.logits, expected.logits) <= 1e-4
    record = engine.record
    if name in EXPECTED:
        assert (record.path, record.layout, record.copies) == EXPECTED[name]
    assert json.loads(json.dumps(asdict(record)))["reasons"] == list(record.reasons)


@pytest.mark.parametrize("fault", ["fold_batch_norms", "pack_convolutions", "separate_rows"])
def test_a_wrong_optimisation_is_left_out(tiny_cnn, images, monkeypatch, caplog, fault):
    """Were one of them to change the network, the engine would go without it and say so."""

    def spoil(model, *arguments):
        linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
        linear.weight = nn.Parameter(linear.weight * 1.01)
        return 1

    monkeypatch.setattr(f"galfig.attribution.variants.{fault}", spoil)
    caplog.set_level("INFO")
    engine = make_engine(tiny_cnn, tiny_cnn[1])
    expected = grad_cam(tiny_cnn, images, tiny_cnn[1])
    assert relative_error(engine(images).cams, expected.cams) <= 1e-5
    assert "differ by 0.0" in engine.record.reasons[0]
    assert caplog.messages == [f"engine: {_describe(engine.record)}"]
    assert engine.record.reasons[0] in caplog.text


def test_images_of_your_own_are_compared_too(tiny_cnn, images, monkeypatch):
    """What only they show slows the engine down, for their shape."""
    engine = make_engine(tiny_cnn, tiny_cnn[1], shape=(3, 24, 24))
    assert engine.record.path == "closed form"
    engine.verify(images)
    assert engine.record.path == "closed form"
    bright = images + 100
    original = variants._explain_linear_head

    def err_on_bright(*arguments):
        batch = original(*arguments)
        return CamBatch(batch.cams * (1 + (arguments[-1].mean() > 50)), batch.logits)

    monkeypatch.setattr(variants, "_explain_linear_head", err_on_bright)
    engine = make_engine(tiny_cnn, tiny_cnn[1], shape=(3, 24, 24))
    assert engine.record.path == "closed form"
    engine.verify(bright)
    assert engine.record.path == "cut graph"
    assert "maps differ by 1 of the largest" in engine.record.reasons[0]
    assert relative_error(engine(bright).cams, grad_cam(tiny_cnn, bright, tiny_cnn[1]).cams) < 1e-5


def test_network_that_nothing_reproduces_is_refused(tiny_cnn, monkeypatch):
    """With the last reason."""
    monkeypatch.setattr(
        "galfig.attribution.engine.find_disagreement", lambda *arguments, **options: "maps differ"
    )
    with pytest.raises(ValueError, match="no way of computing many maps agrees"):
        make_engine(tiny_cnn, tiny_cnn[1], shape=(3, 24, 24))


def test_lack_of_memory_is_no_disagreement(tiny_cnn, monkeypatch):
    """It stops, where a slower path would run out of memory as well."""

    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("galfig.attribution.engine.prepare", fail)
    with pytest.raises(MemoryError):
        make_engine(tiny_cnn, tiny_cnn[1], shape=(3, 24, 24))


@pytest.mark.parametrize("is_closed", [True, False])
def test_logits_keep_their_digits_in_bfloat16(tiny_cnn, images, is_closed):
    """The sum of the last layer is in float32, so that margins are no multiples of 2^-7."""
    nn.init.zeros_(tiny_cnn[-1].bias)
    head = [nn.Dropout(), nn.Sequential(tiny_cnn[-1])]
    model = tiny_cnn if is_closed else nn.Sequential(*tiny_cnn[:-1], *head).eval()
    engine = make_engine(model, model[1], precision="bfloat16")
    logits = engine(images).logits
    assert engine.record.path == ("closed form" if is_closed else "cut graph")
    assert (logits != logits.bfloat16().float()).float().mean() > 0.9


def test_precision_must_run(images):
    """A network that cannot compute in bfloat16 says so before the first galaxy."""

    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

        def forward(self, x):
            maps = self.conv(x)
            if maps.dtype != torch.float32:
                raise RuntimeError("float32 only")
            return self.fc(maps.mean((2, 3)))

    model = Strict().eval()
    make_engine(model, model.conv, shape=(3, 24, 24))
    with pytest.raises(ValueError, match=r'float32 only\); use precision="float32"'):
        make_engine(model, model.conv, precision="bfloat16", shape=(3, 24, 24))


def test_engine_takes_what_grad_cam_takes(tiny_cnn, images):
    """A key of the output, a layer of pixels (N, h, w, K), and the wrapper of torch.compile."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last, self.fc = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            maps = self.last(self.conv(x).permute(0, 2, 3, 1))
            return {"logits": self.fc(maps.mean((1, 2))), "maps": maps}

    model = Pixels().eval()
    options = {"channels_last": True, "output": "logits"}
    found = make_engine(model, model.last, **options)(images)
    assert found.cams.shape == (19, 2, 22, 22)
    expected = grad_cam(model, images, model.last, **options)
    assert relative_error(found.cams, expected.cams) <= 1e-5
    compiled = torch.compile(tiny_cnn)
    found = make_engine(compiled, tiny_cnn[1])(images)
    assert relative_error(found.cams, grad_cam(tiny_cnn, images, tiny_cnn[1]).cams) <= 1e-5


def test_threads_do_not_share_what_a_module_notes(images):
    """A module that keeps its input on itself, in the closed form: every thread has its own."""

    class Stash(nn.Module):
        def forward(self, x):
            self.kept = x
            return x * 2

    class Recall(nn.Module):
        def __init__(self, stash):
            super().__init__()
            self.stash = stash

        def forward(self, x):
            return x + self.stash.kept[:, :1]

    stash = Stash()
    model = nn.Sequential(
        *(stash, nn.Conv2d(3, 8, 3, padding=1), Recall(stash)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    ).eval()
    engine = make_engine(model, model[2], shape=(3, 24, 24), micro_batch=1)
    assert engine.record.path == "closed form"
    expected = grad_cam(model, images, model[2]).cams
    for _ in range(10):
        with open_workers(4) as pool:
            found = list(pool.map(engine.explain, images.split(1)))
        assert relative_error(torch.cat([batch.cams for batch in found]), expected) <= 1e-5
