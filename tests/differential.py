"""Random networks, on which the engine, grad_cam and float64 must agree.

``python tests/differential.py --minutes 60 --seed 0`` tries networks until the time is up and
prints those that fail, each with the seed that makes it again:
``python tests/differential.py --only 1234``.
"""

import argparse
import random
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from reference import explain_by_the_book
from torch import Tensor, nn
from torch.nn import functional

from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import CamBatch, differ, take_logits
from galfig.attribution.probe import explain_one_by_one, measure_kinks

WIDTH = 8
# What two ways of computing may differ by, relative to the largest value.
TOLERANCE = 1e-4
# Small members of many families, with odd parts.
TIMM = (
    *("resnet18", "resnet50", "resnetv2_50", "res2net50_26w_4s", "skresnet18", "nf_resnet50"),
    *("vgg11_bn", "densenet121", "dla34", "dpn68", "darknet53", "vovnet39a", "cspresnet50"),
    *("regnety_002", "efficientnet_b0", "mobilenetv3_small_100", "mobilenetv4_conv_small"),
    *("repvgg_a0", "mobileone_s0", "repvit_m0_9", "fastvit_t8", "ghostnet_050", "tinynet_e"),
    *("convnext_atto", "edgenext_xx_small", "mambaout_femto", "poolformer_s12", "lcnet_050"),
    *("inception_v3", "xception41", "hrnet_w18_small", "selecsls42b", "hardcorenas_a"),
    *("rexnet_100", "levit_128s", "pvt_v2_b0", "starnet_s1", "lambda_resnet26t", "botnet26t_256"),
    *("halonet26t", "eca_resnet33ts", "gernet_s", "coatnet_pico_rw_224", "maxvit_pico_rw_256"),
    *(
        "swin_tiny_patch4_window7_224",
        "efficientformer_l1",
        "mixnet_s",
        "nest_tiny",
        "focalnet_tiny_srf",
    ),
)


class UnsuitableError(Exception):
    """A network does not take images of the size that was drawn."""


@dataclass
class Case:
    """A network, the layer to explain, and images."""

    name: str
    model: nn.Module
    layer: nn.Module
    images: Tensor
    micro_batch: int | None = None
    output: object = None
    channels_last: bool | None = None
    # Whether the network must be refused, since it is no function of one image.
    is_refused: bool = False


class Residual(nn.Module):
    """x + conv(act(x)), with an activation that may belong to others, too."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.conv = _conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.act(x))


class Loop(nn.Module):
    """Runs the children of a sequence itself, and keeps what some of them give."""

    def __init__(self, steps: nn.Sequential, kept: int) -> None:
        super().__init__()
        self.steps, self.kept = steps, kept

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for step in self.steps:
            x = step(x)
            found.append(x)
        return x + found[self.kept]


class Sliced(nn.Module):
    """Runs a sequence in two halves, and its first child once more."""

    def __init__(self, steps: nn.Sequential, cut: int, *, again: bool) -> None:
        super().__init__()
        self.steps, self.cut, self.again = steps, cut, again

    def forward(self, x: Tensor) -> Tensor:
        half = self.steps[: self.cut](x)
        y = self.steps[self.cut :](half) + half
        return y + self.steps[0](x) if self.again else y


class Both(nn.Module):
    """Runs a sequence whole, and one of its children by itself."""

    def __init__(self, steps: nn.Sequential, index: int) -> None:
        super().__init__()
        self.steps, self.index = steps, index

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x) + self.steps[self.index](x - 0.3)


class Stash(nn.Module):
    """Remembers its input on itself, for another module."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        return x * 1.1


class Recall(nn.Module):
    """Adds what another module remembers."""

    def __init__(self, stash: Stash) -> None:
        super().__init__()
        self.stash = (stash,)
        self.inner = stash

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner.kept


class Remembering(nn.Module):
    """Adds to the output of its steps what a hook keeps of their first, for all copies alike."""

    def __init__(self, steps: nn.Sequential) -> None:
        super().__init__()
        self.steps = steps
        kept: dict[str, Tensor] = {}
        steps[0].register_forward_hook(lambda module, inputs, found: kept.update(found=found))
        self.recall = lambda: kept["found"]

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x) + self.recall()


class Ghost(nn.Module):
    """Adds to a slice of an earlier result, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(WIDTH, 2 * WIDTH, 1)
        self.conv = _conv()

    def forward(self, x: Tensor) -> Tensor:
        part = self.wide(x)[:, :WIDTH]
        part += self.conv(x)
        return part


class Frozen(nn.Module):
    """Runs its inner part under torch.no_grad()."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner(x)


class Volume(nn.Module):
    """A convolution in three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, None])[:, 0]


class Shuffled(nn.Module):
    """Shuffles channels by view, which needs contiguous tensors."""

    def forward(self, x: Tensor) -> Tensor:
        n, k, h, w = x.shape
        return x.view(n, 2, k // 2, h * w).transpose(1, 2).reshape(n, k, h, w)


class Flat(nn.Module):
    """Mixes all pixels by a view of the memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.view(len(x), -1).flip(1).view(x.shape).tanh()


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Conv2d(WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Halving(nn.Dropout):
    """A subclass of Dropout that does something in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x


class Doubling(nn.ReLU):
    """A subclass of ReLU that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Attention(nn.Module):
    """A head that pools by attention."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.score, self.fc = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.fc((self.score(tokens).softmax(1) * tokens).sum(1))


class Wrapped(nn.Module):
    """A network that gives its logits in a dictionary or a tuple."""

    def __init__(self, body: nn.Module, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.body, self.wrap = body, wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.body(x))


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _conv(**options: object) -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, **{"padding": 1, **options})


def _draw_activation(rng: random.Random, shared: list[nn.Module]) -> nn.Module:
    if shared and rng.random() < 0.4:
        return rng.choice(shared)
    kinds = [nn.ReLU, nn.ReLU, nn.ReLU, partial(nn.ReLU, True), nn.SiLU, nn.GELU, Doubling]
    act = rng.choice(kinds)()
    shared.append(act)
    return act


def _draw_steps(rng: random.Random, shared: list[nn.Module]) -> nn.Sequential:
    """Draw a sequence of convolutions, batch norms and activations."""
    steps: list[nn.Module] = []
    for _ in range(rng.randint(1, 3)):
        options = rng.choice(
            [{}, {}, {"bias": False}, {"groups": 2}, {"groups": WIDTH}, {"padding_mode": "reflect"}]
        )
        conv = _conv(**options)
        wrap = rng.random()
        if wrap < 0.05:
            conv = nn.utils.weight_norm(conv)
        elif wrap < 0.1:
            conv = nn.utils.parametrizations.weight_norm(conv)
        elif wrap < 0.15:
            conv = nn.utils.spectral_norm(conv, n_power_iterations=20)
            # As after a training: before, its largest singular value is a small difference.
            conv(torch.zeros(1, WIDTH, 8, 8))
        steps.append(conv)
        if rng.random() < 0.6:
            steps.append(
                rng.choice([nn.BatchNorm2d, nn.BatchNorm2d, partial(nn.GroupNorm, 2)])(WIDTH)
            )
        if rng.random() < 0.8:
            steps.append(_draw_activation(rng, shared))
        if rng.random() < 0.1:
            steps.append(rng.choice([nn.Identity(), nn.Dropout(), Halving()]))
    return nn.Sequential(*steps)


def _draw_block(rng: random.Random, shared: list[nn.Module], size: int) -> nn.Module:
    steps = _draw_steps(rng, shared)
    kinds: list[Callable[[], nn.Module]] = [
        lambda: steps,
        lambda: steps,
        lambda: Residual(_draw_activation(rng, shared)),
        lambda: Loop(steps, rng.randrange(len(steps))),
        lambda: Sliced(steps, rng.randint(1, len(steps)), again=rng.random() < 0.5),
        lambda: Both(steps, rng.randrange(len(steps))),
        lambda: Frozen(steps),
        lambda: nn.Sequential(steps, Ghost()),
        lambda: nn.Sequential(Volume(), steps),
        lambda: nn.Sequential(steps, rng.choice([Shuffled, Flat, Gate, Halving])()),
        lambda: _stash(steps),
        lambda: Remembering(steps),
        lambda: nn.Sequential(steps, nn.MaxPool2d(2) if size >= 16 else nn.Identity()),
    ]
    return rng.choice(kinds)()


def _stash(steps: nn.Sequential) -> nn.Sequential:
    stash = Stash()
    return nn.Sequential(stash, steps, Recall(stash))


def _draw_head(rng: random.Random, n_classes: int) -> list[nn.Module]:
    linear = nn.Linear(WIDTH, n_classes)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return rng.choice(
        [
            [*pool, linear],
            [*pool, linear],
            [*pool, nn.Dropout(), linear],
            [*pool, Halving(), linear],
            [*pool, nn.Linear(WIDTH, WIDTH), nn.ReLU(), linear],
            [nn.AdaptiveMaxPool2d(1), nn.Flatten(), linear],
            [Function(lambda x: x.mean((2, 3))), linear, *[nn.LogSoftmax(1)] * (n_classes > 1)],
            [
                nn.AdaptiveAvgPool2d(2),
                Function(lambda x: x.view(len(x), -1)),
                nn.Linear(4 * WIDTH, n_classes),
            ],
            [Attention(n_classes)],
        ]
    )


def _alter(rng: random.Random, model: nn.Module) -> str:
    """Add a hook, or replace a forward, somewhere; return which."""
    # Modules that torch adds for a parametrization take no image.
    module = rng.choice([m for m in model.modules() if "param" not in type(m).__module__])
    # torch forbids to write over what a backward hook watches.
    is_safe = not any(getattr(m, "inplace", False) for m in model.modules())
    kind = rng.choice(["forward", "pre", "backward", "replaced", "closure"])
    if kind == "forward":
        module.register_forward_hook(_scale_output)
    elif kind == "pre":
        module.register_forward_pre_hook(_shift_input)
    elif kind == "backward" and is_safe:
        module.register_full_backward_hook(_scale_gradient)
    elif kind == "replaced":
        module.forward = types.MethodType(_forward_twice, module)
    elif kind == "closure":
        forward = module.forward
        module.forward = lambda x: forward(0.7 * x)
    return kind


def _scale_output(module: nn.Module, inputs: object, found: object) -> object:
    return found * 1.3 if isinstance(found, Tensor) else found


def _shift_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    return inputs[0] + 0.1


def _scale_gradient(module: nn.Module, grad_in: tuple, grad_out: tuple) -> tuple:
    return tuple(None if g is None else 1.5 * g for g in grad_in)


def _forward_twice(self: nn.Module, x: Tensor) -> Tensor:
    return 2 * type(self).forward(self, x)


def _mix(x: Tensor) -> Tensor:
    return x - 0.5 * x.mean(0, keepdim=True)


def make_case(seed: int) -> Case:
    """Make the network of a seed, of parts drawn at random."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    size, n_classes = rng.choice([12, 17, 24]), rng.choice([1, 2, 2, 3])
    shared: list[nn.Module] = []
    first = rng.choice([{}, {"stride": 2}, {"dilation": 2}])
    stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1, **first), _draw_activation(rng, shared))
    blocks = [_draw_block(rng, shared, size) for _ in range(rng.randint(1, 4))]
    fault = rng.choice([*[None] * 18, "mixed", "random"])
    if fault == "mixed":
        blocks.insert(rng.randint(0, len(blocks)), Function(_mix))
    elif fault == "random":
        blocks.append(Function(functional.dropout))
    model: nn.Module = nn.Sequential(stem, *blocks, *_draw_head(rng, n_classes))
    _randomise_norms(model)
    model.eval()
    words = [type(block).__name__ for block in blocks]
    if rng.random() < 0.3:
        words.append(_alter(rng, model))
    output = None
    if rng.random() < 0.1:
        output, wrap = rng.choice(
            [
                ("logits", lambda y: {"logits": y}),
                (1, lambda y: (None, y)),
                (lambda y: y[0], lambda y: [y]),
            ]
        )
        model = Wrapped(model, wrap).eval()
    images = _draw_images(rng, seed, size)
    try:
        layer = _draw_layer(rng, model, images)
    except RuntimeError as exc:
        if "Padding size" not in str(exc):
            raise
        raise UnsuitableError("pads maps of one pixel by reflection") from exc
    return Case(
        f"{seed}: {', '.join(words)}, {size} px",
        model,
        layer,
        images,
        micro_batch=rng.choice([None, None, 1, 3]),
        output=output,
        is_refused=fault is not None,
    )


def make_timm_case(seed: int) -> Case:
    """Make a network of timm, at a size and with a layer drawn at random."""
    import timm

    rng = random.Random(seed)
    torch.manual_seed(seed)
    name, size = rng.choice(TIMM), rng.choice([32, 64, 64, 96, 128])
    try:
        model = timm.create_model(name, num_classes=2, img_size=size)
    except TypeError:
        model = timm.create_model(name, num_classes=2)
    _randomise_norms(model)
    model.eval()
    images = _draw_images(rng, seed, size)
    try:
        layer = _draw_layer(rng, model, images)
    except (AssertionError, RuntimeError) as exc:
        raise UnsuitableError(f"{name} takes no images of {size} pixels") from exc
    return Case(f"{seed}: {name}, {size} px", model, layer, images)


def _randomise_norms(model: nn.Module) -> None:
    """Give batch norms statistics and weights as after a training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)


def _draw_images(rng: random.Random, seed: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(5, 3, size, size, generator=generator)
    if rng.random() < 0.5:
        # As a galaxy on a sky of one colour.
        y, x = torch.meshgrid(*[torch.linspace(-2, 2, size)] * 2, indexing="ij")
        images = images * torch.exp(-(x**2 + y**2) * 2) - 0.5
    return images


def _draw_layer(rng: random.Random, model: nn.Module, images: Tensor) -> nn.Module:
    """Draw a module that gives maps once in a forward pass."""
    ran: list[nn.Module] = []

    def note(module: nn.Module, inputs: object, found: object) -> None:
        is_map = isinstance(found, Tensor) and found.ndim == 4 and len(found) == 1
        ran.extend([module] if is_map else [module, module])

    handles = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(images[:1])
    for handle in handles:
        handle.remove()
    return rng.choice([module for module in ran if ran.count(module) == 1])


def find_fault(case: Case) -> str:
    """Return what is wrong with the maps of a network, or "" if nothing is."""
    model, layer, images = case.model, case.layer, case.images
    options = {"channels_last": case.channels_last, "output": case.output}
    explain = partial(explain_one_by_one, model, layer=layer, **options)
    try:
        engine = make_engine(model, layer, micro_batch=case.micro_batch, **options)
        found = engine(images)
    except ValueError as exc:
        return _judge_refusal(case, explain, exc)
    if case.is_refused and (effect := _measure_mixing(case)) > TOLERANCE:
        return f"is not refused, although other images or chance change its logits by {effect:.2g}"
    plain = explain(images)
    exact = _explain_in_float64(case)
    # What float32 itself loses: many layers of random weights amplify rounding.
    loss = 0.0 if exact is None else differ(plain.logits, exact.logits.float())
    compare = partial(_compare, explain=explain, model=model, images=images, loss=loss)
    if words := compare(found, plain):
        return f"engine against grad_cam: {words}; {engine.record}"
    if exact is not None and (words := compare(found, exact)):
        return f"engine against float64: {words}; {engine.record}"
    return ""


def _explain_in_float64(case: Case) -> CamBatch | None:
    """Return maps by the book; None if the layer runs under torch.no_grad()."""
    model, images, size = case.model, case.images, case.images.dtype
    model.double()
    try:
        return explain_by_the_book(model, images.double(), case.layer, output=case.output)
    except RuntimeError:
        # There, only galfig's leaf has a gradient.
        return None
    finally:
        model.to(size)


def _judge_refusal(case: Case, explain: Callable, exc: ValueError) -> str:
    """Return why a network should not have been refused, or ""."""
    if case.is_refused:
        is_told = str(exc).startswith("model: ") or _measure_mixing(case) <= TOLERANCE
        return "" if is_told else f"refused for {exc}"
    try:
        explain(case.images)
    except ValueError:
        return ""
    return f"refused, although grad_cam explains it: {exc}"


def _measure_mixing(case: Case) -> float:
    """Return by how much logits depend on the other images or on chance: some hardly see images."""
    with torch.no_grad():
        together, again, *alone = [
            take_logits(case.model(batch), len(batch), case.output)
            for batch in (case.images, case.images, *case.images.split(1))
        ]
    return max(differ(again, together), differ(torch.cat(alone), together))


def _compare(
    found: CamBatch,
    exact: CamBatch,
    *,
    explain: Callable,
    model: nn.Module,
    images: Tensor,
    loss: float,
) -> str:
    """Compare maps image by image; where they differ, the network must be at a kink there."""
    exact = CamBatch(exact.cams.float(), exact.logits.float())
    if (error := differ(found.logits, exact.logits)) > max(TOLERANCE, 4 * loss):
        return f"logits differ by {error:.2g}"
    # What a pixel holds of a logit on average: maps below a hundredth of it are rounding.
    floor = 0.01 * float(exact.logits.abs().max()) / exact.cams[0, 0].numel()
    errors = [differ(*pair, floor) for pair in zip(found.cams, exact.cams, strict=True)]
    for index, error in enumerate(errors):
        if error > TOLERANCE and error > 4 * measure_kinks(explain, model, images, exact, index):
            return f"maps differ by {error:.2g}"
    return ""


def try_seed(seed: int, make: Callable[[int], Case] = make_case) -> str:
    """Return what is wrong with the network of a seed, with its name, or ""."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        # Old weight norm is deprecated.
        warnings.simplefilter("ignore")
        name = str(seed)
        try:
            case = make(seed)
            name = case.name
            fault = find_fault(case)
        except UnsuitableError:
            fault = ""
        except Exception as exc:
            place = traceback.extract_tb(exc.__traceback__)[-1]
            fault = f"{type(exc).__name__}: {exc} ({place.name}:{place.lineno})"
    return fault and f"{name}: {fault}"


def main() -> int:
    """Try networks for some minutes; print those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--only", type=int, help="try the network of this seed alone")
    parser.add_argument("--timm", action="store_true", help="networks of timm only")
    options = parser.parse_args()
    make = make_timm_case if options.timm else make_case
    if options.only is not None:
        words = try_seed(options.only, make)
        sys.stdout.write((words or "agrees") + "\n")
        return bool(words)
    seed, n_faults, end = options.seed, 0, time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        if words := try_seed(seed, make):
            n_faults += 1
            sys.stdout.write(words + "\n")
            sys.stdout.flush()
        seed += 1
    sys.stdout.write(f"{seed - options.seed} networks, {n_faults} with faults\n")
    return n_faults > 0


if __name__ == "__main__":
    sys.exit(main())
