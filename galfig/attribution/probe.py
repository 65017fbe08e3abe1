"""Probes: what a network does to a few images, measured before many are explained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from galfig.attribution.devices import is_out_of_memory
from galfig.attribution.gradcam import (
    RANDOM,
    ROUNDING,
    CamBatch,
    Output,
    Tokens,
    differ,
    grad_cam,
    join_batches,
    take_logits,
)
from galfig.attribution.variants import Copy

# The first few of these images are white noise, the last is a galaxy on a flat sky, and the others
# are as smooth as galaxies are.
N_PROBES = 5
N_WHITE = 2
# Changes of an image, relative to its largest value, that do no more than rounding in a network
# of many layers, each in some directions and their opposites; see `find_disagreement`.
NUDGES = (2e-6, -2e-6, 1e-5, -1e-5)
N_DIRECTIONS = 2
# What rounding adds to the output of a module, relative to its largest value; group norm of
# channels-last tensors rounds that coarsely.
ROUNDING_STEP = 1e-6
# Faster ways agree to this, relative to the largest value. Rounding stays below 6e-6 in networks of
# timm; group norm of channels-last tensors, which torch computes less exactly, reaches 2e-4.
AGREEMENT = 3e-5
# A map is as good as zero below this share of the logit that a pixel holds on average.
NEGLIGIBLE = 1e-2
# An activation at a kink moves a map by less than this; what is wrong, by more.
LARGEST_KINK = 0.1

# How often one copy of a network is interrupted by another, at modules spread over it.
N_INTERRUPTIONS = 12

MIXED = (
    "model: gives other logits for an image alone than among others, expected the same, or the map "
    "of a galaxy would depend on its neighbours; it may use statistics of the batch (a mean over "
    "the images, functional.batch_norm with training=True) or reshape across images"
)


def make_probes(shape: Sequence[int], like: Tensor) -> Tensor:
    """Draw images of noise, the same ones each time.

    Parameters
    ----------
    shape : sequence of int
        Shape (n_channels, H, W) of an image.
    like : Tensor
        A tensor of the network, with its device and dtype.

    Returns
    -------
    (N_PROBES, n_channels, H, W) Tensor
        About zero, with unit variance, as normalised cutouts are.
    """
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(N_PROBES, *shape, generator=generator)
    coarse = torch.randn(N_PROBES, shape[0], 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, tuple(shape[1:]), mode="bilinear")
    # A little noise keeps neighbouring pixels from being equal.
    images = torch.cat([white[:N_WHITE], smooth[N_WHITE:] + 0.05 * white[N_WHITE:]])
    y, x = (torch.linspace(-2, 2, side) for side in shape[1:])
    images[-1] = images[-1] * torch.exp(-2 * (y[:, None] ** 2 + x**2)) - 0.5
    return images.to(like.device, like.dtype if like.is_floating_point() else torch.float32)


def check_function_of_one_image(model: nn.Module, images: Tensor, output: Output = None) -> Tensor:
    """Check that a network gives an image the same logits each time, alone or among others.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode.
    images : (N, n_channels, H, W) Tensor
        Images that differ, two or more.
    output : str, int or callable, optional
        Where the logits are in the output of ``model``; see `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    (N, C) Tensor
        Logits of the images, each computed alone.

    Raises
    ------
    ValueError
        If two runs differ by more than 1e-4 of the largest logit, or an image alone from the same
        image among others; or if the network runs only alone or only among others.
    """
    with torch.no_grad():
        runs = [_classify(model, batch, output) for batch in (images, images, *images.split(1))]
    failures = [run for run in runs if isinstance(run, Exception)]
    if len(failures) == len(runs):
        raise failures[0]
    if failures:
        raise ValueError(f"{MIXED}; {str(failures[0]).partition(chr(10))[0][:200]}")
    together, again, *each = cast("list[Tensor]", runs)
    alone = torch.cat(each)
    if differ(again, together) > _tolerance(alone):
        raise ValueError(RANDOM)
    if differ(together, alone) > _tolerance(alone):
        raise ValueError(MIXED)
    return alone


def _classify(model: nn.Module, images: Tensor, output: Output) -> Tensor | Exception:
    """Return the logits of some images, or the error that torch raises."""
    try:
        return take_logits(model(images), len(images), output)
    except (RuntimeError, ValueError) as exc:
        if is_out_of_memory(exc):
            raise
        return exc


def explain_one_by_one(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    explain: Callable[..., CamBatch] = grad_cam,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    """Explain images by the exact function of a method, each alone.

    The parameters and the result are those of `galfig.attribution.gradcam.grad_cam`, and
    ``explain`` is that function or another.
    """
    batches = [
        explain(
            model,
            image[None].contiguous(),
            layer,
            channels_last=channels_last,
            tokens=tokens,
            output=output,
        )
        for image in images
    ]
    return join_batches(batches)


def find_disagreement(
    found: CamBatch,
    expected: CamBatch,
    measure_kinks: Callable[[int], float],
    *,
    dtype: torch.dtype = torch.float32,
    is_plain: bool = False,
) -> str:
    """Return how maps and logits differ from those of the exact path, or "" if they agree.

    Logits agree to 3e-5 of the largest, and so do the maps of an image, or to 3e-7 of the largest
    logit over the number of pixels: before an instance norm, for example, maps are zero but for
    rounding. There is one exception. Where an activation above the layer is so close to the kink
    of a ReLU that rounding decides on which side it lies, both gradients are right. So up to half
    of the images may differ more, each by no more than four times as much as the exact path itself
    differs if rounding is added to the image, and by less than a tenth.

    Parameters
    ----------
    found, expected : CamBatch
        Maps and logits of N images.
    measure_kinks : callable
        Returns by how much the exact map of an image, given by its index, differs at most if the
        image changes by rounding.
    dtype : torch.dtype, default torch.float32
        That of the network. In half precision, rounding is coarser.
    is_plain : bool, default False
        Whether this is the exact path itself, run on several images at a time: 1e-4 in place of
        3e-5 is enough then, and any number of images may be at kinks, or not finite.

    Returns
    -------
    str
    """
    if not is_plain and not expected.cams.isfinite().any():
        return "no map is finite, so that nothing can be compared"
    tolerance = _tolerance(torch.empty(0, dtype=dtype), ROUNDING if is_plain else AGREEMENT)
    logits = differ(found.logits, expected.logits)
    if logits > tolerance:
        return f"logits differ by {logits:.2g} of the largest"
    if found.cams.shape != expected.cams.shape:
        return f"maps of shape {tuple(found.cams.shape)}, expected {tuple(expected.cams.shape)}"
    floor = find_floor(expected)
    errors = [differ(*pair, floor) for pair in zip(found.cams, expected.cams, strict=True)]
    apart = [index for index, error in enumerate(errors) if error > tolerance]
    if not apart:
        return ""
    worst = f"maps differ by {max(errors):.2g} of the largest"
    if not is_plain and (len(apart) > len(errors) / 2 or max(errors) > LARGEST_KINK):
        return worst
    if any(errors[index] > 4 * measure_kinks(index) for index in apart):
        return worst
    return ""


def measure_kinks(
    explain: Callable[[Tensor], CamBatch],
    model: nn.Module,
    images: Tensor,
    expected: CamBatch,
    index: int,
) -> float:
    """Return by how much the map of an image changes with rounding.

    Parameters
    ----------
    explain : callable
        The exact path, of a batch of images.
    model : torch.nn.Module
        The network that it explains.
    images : (N, n_channels, H, W) Tensor
        Images.
    expected : CamBatch
        Their maps.
    index : int
        Which image to change.

    Returns
    -------
    float
        Largest change over `N_DIRECTIONS` changes of the image by each of `NUDGES`, and of the
        output of every module by `ROUNDING_STEP`, relative to the largest value of the map.
    """
    generator = torch.Generator().manual_seed(0)
    image = images[index]
    noise = torch.randn(N_DIRECTIONS, *image.shape, generator=generator).to(image)
    nudged = torch.cat([image + size * image.abs().max() * noise for size in NUDGES])
    floor = find_floor(expected)
    batches = [explain(nudged)]
    with _rounding(model):
        batches.append(explain(image.repeat(2 * N_DIRECTIONS, 1, 1, 1)))
    return max(differ(cam, expected.cams[index], floor) for batch in batches for cam in batch.cams)


@contextmanager
def _rounding(model: nn.Module) -> Iterator[None]:
    """Change the output of every module as rounding does.

    A changed image leaves pixels equal whose neighbourhoods are equal, such as those of an empty
    sky. Which of them a maximum takes is up to rounding in between.
    """
    generator = torch.Generator().manual_seed(0)

    def shake(module: nn.Module, inputs: object, found: object) -> object:
        if not isinstance(found, Tensor) or not found.is_floating_point():
            return found
        noise = torch.randn(found.shape, generator=generator).to(found)
        return found + ROUNDING_STEP * found.detach().abs().max() * noise

    handles = [module.register_forward_hook(shake) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure_interference(first: Copy, second: Copy, images: Tensor) -> float:
    """Return by how much the maps of one copy of a network change if another runs in the middle.

    In two threads this happens at any time. A test by threads would find it only now and then.

    Parameters
    ----------
    first, second : Copy
        Two copies; hooks remain on the first.
    images : (N, n_channels, H, W) Tensor
        Images. The first copy explains the first, the second copy the last.

    Returns
    -------
    float
        Change relative to the largest value, of maps or of logits.
    """
    place, stops = 0, frozenset[int]()

    def step(module: nn.Module, inputs: object, found: object) -> None:
        nonlocal place
        place += 1
        if place in stops:
            second.explain(images[-1:])

    for module in first.model.modules():
        module.register_forward_hook(step)
    expected = first.explain(images[:1])
    n_steps, place = place, 0
    stops = frozenset(1 + i * n_steps // N_INTERRUPTIONS for i in range(N_INTERRUPTIONS))
    found = first.explain(images[:1])
    return max(differ(found.logits, expected.logits), differ(found.cams, expected.cams))


def find_floor(batch: CamBatch) -> float:
    """Return the value of a map below which it is as good as zero.

    Parameters
    ----------
    batch : CamBatch
        Maps (N, C, h, w) and logits.

    Returns
    -------
    float
        `NEGLIGIBLE` of the largest logit over h × w.
    """
    largest = batch.logits.abs().nan_to_num(0, 0, 0).max()
    return NEGLIGIBLE * float(largest) / batch.cams[0, 0].numel()


def _tolerance(numbers: Tensor, least: float = ROUNDING) -> float:
    """Return what two ways of computing may differ by: more in half precision."""
    return max(least, 8 * torch.finfo(numbers.dtype).eps)
