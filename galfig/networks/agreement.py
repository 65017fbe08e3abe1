"""Agreement: does an imported network answer as the original did, and if not, what differs?

A network explains any image, also with its classes in the wrong order, or with images that are
normalised or scaled in another way than those that trained it. The original's own probabilities of
a few galaxies tell.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from galfig.images.cutouts import crop_or_pad, scale_cutout
from galfig.records import CheckpointRecord

# Largest difference of a probability: rounding, of other processors and of printed numbers.
TOLERANCE = 1e-3
# Where the probabilities of all galaxies are nearly the same, a wrong network passes easily: no
# more than this share of their range may differ. Printed numbers have few digits.
_SHARE_OF_RANGE, _LEAST_TOLERANCE = 0.05, 1e-5
# Where the probabilities vary by less, agreement says little; and below that, nothing.
LITTLE, NOTHING = 1e-2, 1e-5
# Galaxies for which other ways are tried.
N_TRIED = 8
# Ways to crop and scale that are tried together with other things.
N_FRAMES = 6
_BATCH_SIZE = 16
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Sides of images that networks are often trained with [pixels].
_SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299)
# Epsilons of batch norm: those of PyTorch, of TensorFlow, and of some of timm's networks.
_EPSILONS = (1e-3, 1e-5, 1e-6)

Pixels = NDArray[np.uint8]
Normaliser = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reference:
    """Galaxies with the probabilities that the original network gave them.

    Attributes
    ----------
    images : sequence of (H, W, n_channels) ndarray of uint8
        N decoded images, before cropping.
    probs : (N, C) ndarray of float64
        Probability of each class, in the order of the classes of the import.
    """

    images: Sequence[Pixels]
    probs: NDArray[np.float64]

    def take(self, rows: NDArray[np.intp]) -> "Reference":
        """Return some of the galaxies."""
        return Reference([self.images[row] for row in rows], self.probs[rows])


@dataclass(frozen=True)
class _Way:
    """A way from the pixels of a file to the input of a network, and words for what it changes."""

    frame: Callable[[Pixels], Pixels]
    normalise: Normaliser
    swaps_bands: bool = False
    eps: float | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answer:
    """How far a network's answers are from the original's, for the best order and output."""

    distance: float
    order: tuple[int, ...]
    output: str


def find_tolerance(probs: NDArray[np.float64]) -> float:
    """Return the largest difference of probabilities that counts as agreement.

    Parameters
    ----------
    probs : (N, C) ndarray of float64
        Probabilities of the original network.

    Returns
    -------
    float
        `TOLERANCE`, or less where the probabilities of all galaxies are nearly the same.
    """
    if len(probs) < 2:
        return TOLERANCE
    return min(TOLERANCE, max(_LEAST_TOLERANCE, _SHARE_OF_RANGE * measure_spread(probs)))


def measure_spread(probs: NDArray[np.float64]) -> float:
    """Return the largest range of the probabilities of a class.

    Parameters
    ----------
    probs : (N, C) ndarray of float64
        Probabilities of N galaxies.

    Returns
    -------
    float
        From 0 to 1; 0 for a single galaxy.
    """
    return float(np.ptp(probs, axis=0).max())


def measure_difference(model: nn.Module, record: CheckpointRecord, reference: Reference) -> float:
    """Return the largest difference between a network's probabilities and the original's.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on the CPU.
    record : CheckpointRecord
        Its sizes, mean and standard deviation.
    reference : Reference
        The galaxies.

    Returns
    -------
    float
        From 0 to 1; NaN if an output is not finite.
    """
    logits = _run(model, _make_way(record), reference.images)
    return float(np.abs(_softmax(logits) - reference.probs).max())


def find_differences(
    model: nn.Module, record: CheckpointRecord, reference: Reference, tolerance: float
) -> str:
    """Find out what makes a network differ from the original, by trying what users get wrong.

    Each thing is tried alone: the order of the classes, what the columns of the original are, the
    normalisation, the order of the bands, size and crop, and the epsilon of batch norm. Then
    normalisation, bands and size are tried together.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on the CPU; it is left as it was.
    record : CheckpointRecord
        Its classes, sizes, mean and standard deviation.
    reference : Reference
        The galaxies.
    tolerance : float
        Largest difference of probabilities that counts as agreement.

    Returns
    -------
    str
        A clause: with what the network agrees, or how near anything came.
    """
    reference = reference.take(_draw_different(reference.probs))
    given = _make_way(record)
    choices = (
        _list_normalisations(record),
        [_swap_bands] if len(record.mean) == 3 else [],
        _list_frames(record, reference.images),
        _list_epsilons(model),
    )
    ways = [given, *(change(given) for changes in choices for change in changes)]
    found = _try_ways(model, ways, reference, tolerance)
    if found[0][0].distance > tolerance:
        # Of the sizes, those that the user seems to mean, since there are many combinations.
        frames = [change for change in choices[2] if _keeps_side(change(given), reference, record)]
        ways = [
            change_size(change_bands(change_range(given)))
            for change_size, change_bands, change_range in product(
                [_keep, *frames[:N_FRAMES]], [_keep, *choices[1]], [_keep, *choices[0]]
            )
        ]
        few = reference.take(np.arange(0, len(reference.probs), 2))
        found += _try_ways(model, [way for way in ways if len(way.words) > 1], few, tolerance)
        found.sort(key=lambda pair: _rank(*pair))
    return _describe(found, record, tolerance)


def _keeps_side(way: _Way, reference: Reference, record: CheckpointRecord) -> bool:
    """Return whether a way gives images of the side that the user named."""
    return len(way.frame(reference.images[0])) in (record.image_size, record.cutout_size)


def _keep(way: _Way) -> _Way:
    return way


def _rank(answer: _Answer, way: _Way) -> tuple[float, int]:
    """Order answers by their distance, as far as it means anything, and then by simplicity."""
    return (max(answer.distance, 1e-5), len(way.words))


def _try_ways(
    model: nn.Module, ways: Sequence[_Way], reference: Reference, tolerance: float
) -> list[tuple[_Answer, _Way]]:
    """Return the answers in each way up to the first that agrees, the nearest first."""
    found: list[tuple[_Answer, _Way]] = []
    for way in ways:
        try:
            logits = _run(model, way, reference.images)
        # A network refuses images of a size that it was not made for in ways of its own.
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
            continue
        found.append((_judge(logits, reference.probs), way))
        if found[-1][0].distance <= tolerance:
            break
    return sorted(found, key=lambda pair: _rank(*pair))


def _judge(logits: NDArray[np.float64], probs: NDArray[np.float64]) -> _Answer:
    """Return the least difference over all orders of the classes and kinds of outputs."""
    n_classes = probs.shape[1]
    same = tuple(range(n_classes))
    answers = []
    for output, take in _OUTPUTS.items():
        ours = take(logits)
        cost = np.abs(ours[:, :, None] - probs[:, None, :]).max(axis=0)
        _, order = linear_sum_assignment(np.nan_to_num(cost, nan=np.inf, posinf=1e300))
        for columns in (same, tuple(int(column) for column in order)):
            distance = float(np.nan_to_num(cost[same, columns].max(), nan=np.inf))
            answers.append(_Answer(distance, columns, output))
    # The first of equals is the plainest: the softmax, in the order that was given.
    return min(answers, key=lambda answer: max(answer.distance, 1e-5))


def _describe(
    found: Sequence[tuple[_Answer, _Way]], record: CheckpointRecord, tolerance: float
) -> str:
    """Say with what a network agrees, or how near the nearest is."""
    best, way = found[0]
    words = list(way.words)
    names = record.class_names
    if best.order != tuple(range(len(names))):
        order = ",".join(names[column] for column in best.order)
        words.append(f"the classes in the order `class_names` {order}")
    if best.output != "softmax":
        words.append(f"columns that hold {best.output} instead of a softmax")
    if best.distance <= tolerance:
        return f"it agrees to {best.distance:.1e} with {' and with '.join(words)}"
    tried = (
        "none of these alone makes it agree: another order of the classes, normalisation, scale of "
        "255, order of the bands, size, crop, interpolation, epsilon of batch norm, or a sigmoid; "
        "perhaps the weights are of another `arch` that has the same shapes, or of another epoch"
    )
    # What brings a network much nearer is one of several things that differ.
    if words and best.distance < 0.2 * _find_distance_as_given(found):
        return f"{tried}; nearest, to {best.distance:.1g}, with {' and with '.join(words)}"
    return tried


def _find_distance_as_given(found: Sequence[tuple[_Answer, _Way]]) -> float:
    return next((answer.distance for answer, way in found if not way.words), math.inf)


def _draw_different(probs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the positions of a few galaxies with probabilities as different as possible."""
    order = np.argsort(probs[:, 0], kind="stable")
    return np.unique(order[np.linspace(0, len(order) - 1, N_TRIED).astype(int)])


def _run(model: nn.Module, way: _Way, images: Sequence[Pixels]) -> NDArray[np.float64]:
    """Return the logits (N, C) of images that reach a network in some way."""
    logits = []
    with _with_eps(model, way.eps), torch.inference_mode():
        for start in range(0, len(images), _BATCH_SIZE):
            cutouts = np.stack([way.frame(image) for image in images[start : start + _BATCH_SIZE]])
            pixels = torch.from_numpy(cutouts).permute(0, 3, 1, 2).float().div_(255.0)
            if way.swaps_bands:
                pixels = pixels.flip(1)
            logits.append(model(way.normalise(pixels)))
    return torch.cat(logits).double().numpy()


@contextmanager
def _with_eps(model: nn.Module, eps: float | None) -> Iterator[None]:
    """Give the batch norms of a network another epsilon, within the block."""
    norms = _list_norms(model) if eps is not None else []
    before = [norm.eps for norm in norms]
    try:
        for norm in norms:
            norm.eps = float(eps or 0)
        yield
    finally:
        for norm, value in zip(norms, before, strict=True):
            norm.eps = value


def _list_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _make_way(record: CheckpointRecord) -> _Way:
    frame = partial(_crop_and_scale, record.cutout_size, record.image_size)
    return _Way(frame, partial(_normalise, record.mean, record.std))


def _normalise(mean: Sequence[float], std: Sequence[float], pixels: Tensor) -> Tensor:
    mean_, std_ = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return (pixels - mean_) / std_


def _standardise(pixels: Tensor) -> Tensor:
    """Scale each image to mean 0 and standard deviation 1 by itself."""
    axes = (1, 2, 3)
    spread = pixels.std(axes, keepdim=True).clamp_min(1e-6)
    return (pixels - pixels.mean(axes, keepdim=True)) / spread


def _list_normalisations(record: CheckpointRecord) -> list[Callable[[_Way], _Way]]:
    """List other normalisations, each as a change of a way."""
    n = len(record.mean)
    options: dict[str, Normaliser] = {}

    def add(words: str, mean: Sequence[float], std: Sequence[float]) -> None:
        if n not in (len(mean), len(std)) or (list(mean), list(std)) == (record.mean, record.std):
            return
        given = " and ".join(
            f"`{key}` {','.join(f'{value:.4g}' for value in values)}"
            for key, values in (("mean", mean), ("std", std))
        )
        options[f"{words} ({given})"] = partial(_normalise, mean, std)

    add("no normalisation", [0.0] * n, [1.0] * n)
    if n == 3:
        add("the normalisation of ImageNet", *_IMAGENET)
        add("the normalisation of CLIP", *_CLIP)
    add("pixel values from -1 to 1", [0.5] * n, [0.5] * n)
    add("pixel values from 0 to 255", [0.0] * n, [1 / 255] * n)
    add(
        "this normalisation of pixel values from 0 to 255",
        [value / 255 for value in record.mean],
        [value / 255 for value in record.std],
    )
    twice = partial(_normalise, [255 * v for v in record.mean], [255 * v for v in record.std])
    options["pixel values that are divided by 255 twice, which galfig cannot do"] = twice
    if n == 3:
        # Caffe's means are those of blue, green and red.
        caffe = [value / 255 for value in (123.68, 116.779, 103.939)]
        add("the mean of Caffe", caffe, [1 / 255] * 3)
        add("the mean of Caffe, of blue first", caffe[::-1], [1 / 255] * 3)
    options["each image normalised by itself, which galfig cannot do"] = _standardise
    return [partial(_replace_normaliser, words, how) for words, how in options.items()]


def _replace_normaliser(words: str, normalise: Normaliser, way: _Way) -> _Way:
    return replace(way, normalise=normalise, words=(*way.words, words))


def _swap_bands(way: _Way) -> _Way:
    words = (
        "the bands in the order blue, green, red, as OpenCV reads them; galfig reads red first: "
        "turn the first convolution round (weight.flip(1)), and `mean` and `std` too"
    )
    return replace(way, swaps_bands=True, words=(*way.words, words))


def _list_epsilons(model: nn.Module) -> list[Callable[[_Way], _Way]]:
    """List other epsilons of batch norm, each as a change of a way."""
    used = {norm.eps for norm in _list_norms(model)}
    return [partial(_replace_eps, eps) for eps in _EPSILONS if used and used != {eps}]


def _replace_eps(eps: float, way: _Way) -> _Way:
    words = f"an epsilon of {eps:g} in batch norm: choose an `arch` that has it"
    return replace(way, eps=eps, words=(*way.words, words))


def _list_frames(
    record: CheckpointRecord, images: Sequence[Pixels]
) -> list[Callable[[_Way], _Way]]:
    """List other ways to crop and scale an image, each as a change of a way."""
    crop, side = record.cutout_size, record.image_size
    sides = {length for image in images for length in image.shape[:2]}
    options: dict[str, Callable[[Pixels], Pixels]] = {}
    # Much larger ones than the images would only take long.
    likely = [size for size in _SIDES if size <= 2 * max(*sides, side)]
    for size in dict.fromkeys((side, crop, *likely)):
        if size != side:
            words = f"`cutout_size` {crop} scaled to `image_size` {size}"
            options[words] = partial(_crop_and_scale, crop, size)
        if (size, size) != (crop, side) and size <= max(sides):
            words = f"`cutout_size` {size}, not scaled"
            options[words] = partial(_crop_and_scale, size, size)
        if sides != {crop}:
            whole = f"`cutout_size` {sides.copy().pop()}" if len(sides) == 1 else "whatever size"
            words = f"the whole image ({whole}) scaled to `image_size` {size}"
            options[words] = partial(_scale_whole, size, Image.Resampling.BILINEAR)
            words = (
                f"the shorter side scaled to {size * 8 // 7} and the central {size} pixels of that"
            )
            options[words] = partial(_scale_and_crop, size * 8 // 7, size)
    no_choice = ", where galfig scales bilinearly and averages"
    for kind in ("NEAREST", "BICUBIC", "LANCZOS", "BOX"):
        how = Image.Resampling[kind]
        if crop != side:
            words = f"{kind.lower()} interpolation{no_choice}"
            options[words] = partial(_crop_and_scale, crop, side, how=how)
        if sides not in ({crop}, {side}):
            words = f"the whole image scaled to {side} by {kind.lower()} interpolation{no_choice}"
            options[words] = partial(_scale_whole, side, how)
    if crop != side:
        words = f"bilinear interpolation without averaging, as in OpenCV{no_choice}"
        options[words] = partial(_crop_and_interpolate, crop, side)
    options["images upside down, as FITS counts rows"] = partial(_turn, crop, side)
    return [partial(_replace_frame, words, frame) for words, frame in options.items()]


def _replace_frame(words: str, frame: Callable[[Pixels], Pixels], way: _Way) -> _Way:
    return replace(way, frame=frame, words=(*way.words, words))


def _crop_and_scale(
    crop: int, side: int, image: Pixels, how: Image.Resampling | None = None
) -> Pixels:
    cutout = crop_or_pad(image, crop)
    return scale_cutout(cutout, side) if how is None else _resize(cutout, (side, side), how)


def _scale_whole(side: int, how: Image.Resampling, image: Pixels) -> Pixels:
    return _resize(image, (side, side), how)


def _scale_and_crop(shorter: int, side: int, image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    factor = shorter / min(height, width)
    size = (round(width * factor), round(height * factor))
    return crop_or_pad(_resize(image, size, Image.Resampling.BILINEAR), side)


def _crop_and_interpolate(crop: int, side: int, image: Pixels) -> Pixels:
    pixels = torch.from_numpy(crop_or_pad(image, crop)).permute(2, 0, 1)[None].float()
    scaled = nn.functional.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
    return scaled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def _turn(crop: int, side: int, image: Pixels) -> Pixels:
    return _crop_and_scale(crop, side, image)[::-1].copy()


def _resize(image: Pixels, size: tuple[int, int], how: Image.Resampling) -> Pixels:
    # Pillow takes no array of shape (H, W, 1).
    source = Image.fromarray(image if image.shape[2] > 1 else image[..., 0])
    return np.asarray(source.resize(size, how)).reshape(size[1], size[0], -1)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(torch.sigmoid(torch.from_numpy(logits)).numpy())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(torch.log_softmax(torch.from_numpy(logits), dim=1).numpy())


# What the columns of the original may hold, made from the logits.
_OUTPUTS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "softmax": _softmax,
    "sigmoids, each class by itself,": _sigmoid,
    "logits": np.asarray,
    "logarithms of probabilities": _log_softmax,
}
