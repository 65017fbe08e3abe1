"""The engine: same numbers on every path."""

import pytest
import torch
from reference import make_cases, make_residual, reference_cams, relative_error

from galfig.attribution.engine import make_engine, measure_footprint, open_workers
from galfig.attribution.gradcam import grad_cam
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
        ("conv3", "conv2"),
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


@pytest.mark.parametrize(("arch", "n_fused"), [("conv3", 3), ("xresnet18", 22)])
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
