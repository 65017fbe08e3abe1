"""Distribution shift: are new images like those that a network was trained on?

A network classifies any image, and does not tell when an image is unlike its training images. Its
checkpoint therefore describes the training images, and how far the validation images lie from
them. New images are compared with this description.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from galfig.catalog.galaxies import Galaxies
from galfig.errors import CheckpointError, CutoutError
from galfig.images.ahead import map_ahead
from galfig.images.cutouts import (
    N_AHEAD,
    Decoding,
    choose_ahead,
    decode_image,
    fit_image,
    scale_cutout,
)
from galfig.images.sources import Source
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import computing_with
from galfig.runtime.machine import count_processors

logger = logging.getLogger(__name__)

# Images sampled from the training set and from the validation set, measured once; and from new
# images, compared at each build. These numbers fix the measures well and cost about a second.
N_SAMPLED = 256
N_COMPARED = 64
# Below these values, images are alike enough even if the difference is significant: a large
# difference in the sense of Cohen (1988), and three pairs of images in four.
LEAST_OFFSET = 0.8
LEAST_SUPERIORITY = 0.75
# Standard errors by which two samples of one kind may differ. The offset is the largest of
# several numbers, so it may differ by more.
N_SIGMA_OFFSET = 4.0
N_SIGMA_SUPERIORITY = 3.0

# Small, so that the maps of a batch stay in the processor's cache.
_BATCH_SIZE = 8
# Smallest spread, as a fraction of the mean spread: a statistic that hardly varied in training
# must not dominate.
_LEAST_SPREAD = 0.1
# A quarter of a grey level, added so that black has a logarithm.
_BLACK = 1e-3
_CHANNELS = {1: ("",), 3: (" in red", " in green", " in blue")}


@dataclass(frozen=True)
class Measurements:
    """Statistics of a sample of images.

    Attributes
    ----------
    rows : (N,) array of int
        Positions of the images that could be decoded.
    shapes : (N, 2) array of int
        Height and width before cropping [pixels].
    pixels : (N, P) array of float64
        Statistics of the pixels that the network sees, for values in [0, 1]: the mean of each
        channel; the standard deviation of each channel; the root mean square radius of the light,
        as a fraction of the side of the image; and the mean difference of neighbouring pixels.
    features : (N, K) array of float64
        Spatial mean of each feature map of the explained layer.
    """

    rows: NDArray[np.intp]
    shapes: NDArray[np.int64]
    pixels: NDArray[np.float64]
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Statistics of the training images, with which new images are compared.

    Attributes
    ----------
    class_counts : (C,) array of float64
        Number of training images of each class.
    pixel_centers, feature_centers : (C, P), (C, K) array of float64
        Mean of each class; for pixels, the mean of the logarithm.
    pixel_spread, feature_spread : (P,), (K,) array of float64
        Standard deviation of an image about the mean of its class.
    valid_distances : (M,) array of float64
        Distances of the validation images from the training images, sorted.
    """

    class_counts: NDArray[np.float64]
    pixel_centers: NDArray[np.float64]
    feature_centers: NDArray[np.float64]
    pixel_spread: NDArray[np.float64]
    feature_spread: NDArray[np.float64]
    valid_distances: NDArray[np.float64]


def describe_images(
    checkpoint: Checkpoint, galaxies: Galaxies, decoding: Decoding
) -> dict[str, Any]:
    """Describe the images that a network was trained on, for its checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        The trained network; its model may be on any device.
    galaxies : Galaxies
        Its training and validation set, with images that can be decoded. At most `N_SAMPLED`
        images of either set are used, always the same for the same galaxies.
    decoding : Decoding
        How the files become pixels.

    Returns
    -------
    dict
        Few values, ready for JSON: ``n_train`` and ``n_valid``, the number of images used;
        ``height`` and ``width`` before cropping [pixels]; ``pixel_scale`` [arcsec/pixel]; ``mean``
        and ``std`` of the channels, with their spread over images; and a ``reference`` for
        `compare_images`.

    Raises
    ------
    LostCutoutError
        If an image has disappeared.
    """
    train = galaxies.take(draw_rows(galaxies.in_train, N_SAMPLED))
    valid = galaxies.take(draw_rows(galaxies.in_valid, N_SAMPLED))
    seen = measure_images(checkpoint, train.paths, decoding)
    held_out = measure_images(checkpoint, valid.paths, decoding)
    reference = _make_reference(seen, train.label[seen.rows], held_out)
    n_channels = checkpoint.n_channels
    mean, std = seen.pixels[:, :n_channels], seen.pixels[:, n_channels : 2 * n_channels]
    return {
        "n_train": len(seen.rows),
        "n_valid": len(held_out.rows),
        **_describe_geometry(seen, train),
        "mean": _describe_spread(mean),
        "std": _describe_spread(std),
        "reference": {name: array.tolist() for name, array in vars(reference).items()},
    }


def compare_images(
    checkpoint: Checkpoint, galaxies: Galaxies, decoding: Decoding, path: Path | str = "checkpoint"
) -> dict[str, Any] | None:
    r"""Compare images with those that trained a network.

    Two measures are used, and the images are unlike if either exceeds its threshold.

    The first measure is Cohen's d [1]_: how far the mean of a pixel statistic over the new images
    lies outside the means of the training classes, in standard deviations of an image about the
    mean of its class. The largest value over the pixel statistics is taken (brightness and
    contrast of each channel, size of the galaxy in the frame, fineness). The mean of any mix of
    the training classes lies between the means of the classes.

    The second measure also compares whole distributions, and the features of the network. The
    distance :math:`d` of an image from the training images is given by

    .. math:: d^2 = \min_c \overline{(x_j - \mu_{cj})^2 / \sigma_j^2} ,

    where the mean is over the statistics :math:`j` of pixels and features, and the minimum over
    the classes :math:`c`. This is the Mahalanobis distance for a diagonal covariance that the
    classes share [2]_. The measure is the probability that a new image is farther than a
    validation image: the Mann-Whitney statistic U [3]_ over its maximum. It is 1/2 for images of
    the same kind.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network; its model may be on any device.
    galaxies : Galaxies
        The galaxies with the new images, of which at most `N_COMPARED` are decoded.
    decoding : Decoding
        How the files become pixels.
    path : Path or str, optional
        Path of the checkpoint, for messages.

    Returns
    -------
    dict or None
        Values ready for JSON: ``is_unlike``; ``measure``, ``value`` and ``threshold`` of the
        measure with the largest ratio of value to threshold; ``measures``, the list of both
        measures; ``n_images`` and ``n_valid``, the number of new and of validation images;
        ``height`` and ``width`` [pixels], and ``pixel_scale`` [arcsec/pixel]. None if the
        checkpoint does not describe its training images, or no image can be decoded.

    Raises
    ------
    CheckpointError
        If the checkpoint's description of its training images is not valid.
    LostCutoutError
        If an image has disappeared.

    References
    ----------
    .. [1] Cohen 1988, Statistical Power Analysis for the Behavioral Sciences
    .. [2] Lee et al. 2018, NeurIPS, arXiv:1807.03888
    .. [3] Mann & Whitney 1947, Annals of Mathematical Statistics 18, 50
    """
    record = checkpoint.metadata.get("images")
    if record is None:
        return None
    sample = galaxies.take(draw_rows(np.ones(len(galaxies), bool), N_COMPARED))
    new = measure_images(checkpoint, sample.paths, decoding)
    if not len(new.rows):
        return None
    reference = _read_reference(record, new, path)
    measures = [_compare_means(reference, new), _compare_distances(reference, new)]
    found = max(measures, key=lambda measure: measure["value"] / measure["threshold"])
    return {
        **found,
        "is_unlike": found["value"] > found["threshold"],
        "measures": measures,
        "n_images": len(new.rows),
        "n_valid": len(reference.valid_distances),
        **_describe_geometry(new, sample),
    }


def describe_geometry(trained: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe the sizes and pixel scales of new and training images, if they differ.

    Parameters
    ----------
    trained : mapping
        The result of `describe_images`.
    new : mapping
        The result of `compare_images`.

    Returns
    -------
    str
        Such as "64 × 64 pixels of 0.8 arcsec against 128 × 128 pixels of 0.4 arcsec"; "" if the
        two are the same.
    """
    before, now = _write_geometry(trained), _write_geometry(new)
    return "" if before == now else f"{now} against {before}"


def superiority(new: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """Return the fraction of pairs in which the new number is the larger; ties count half.

    Parameters
    ----------
    new : (N,) ndarray of float64
        Numbers of the new images.
    held_out : (M,) ndarray of float64
        Numbers of the validation images.

    Returns
    -------
    float
        0 to 1, and 1/2 for samples of the same kind.
    """
    # Only the statistic is used; this method computes the unused p-value fastest.
    u = mannwhitneyu(new, held_out, method="asymptotic").statistic
    return float(u / (len(new) * len(held_out)))


def superiority_threshold(n_new: int, n_held_out: int) -> float:
    """Return the value that `superiority` exceeds only for samples of different kinds.

    In small samples it scatters widely, with the variance of the Mann-Whitney statistic U.

    Parameters
    ----------
    n_new, n_held_out : int
        Sizes of the two samples.

    Returns
    -------
    float
        `LEAST_SUPERIORITY` to 1.
    """
    error = np.sqrt((n_new + n_held_out + 1) / (12 * n_new * n_held_out))
    return min(1.0, max(LEAST_SUPERIORITY, 0.5 + N_SIGMA_SUPERIORITY * float(error)))


def offset_threshold(n_new: int, n_class: int) -> float:
    """Return the value that Cohen's d exceeds only for samples of different kinds.

    It follows from the standard error of a difference of means.

    Parameters
    ----------
    n_new : int
        Number of new images.
    n_class : int
        Number of training images of the smallest class.

    Returns
    -------
    float
        In standard deviations of one image, at least `LEAST_OFFSET`.
    """
    return max(LEAST_OFFSET, N_SIGMA_OFFSET * float(np.sqrt(1 / n_new + 1 / n_class)))


def measure_images(
    checkpoint: Checkpoint, paths: Sequence[Source], decoding: Decoding
) -> Measurements:
    """Measure images as a network sees them, skipping those that cannot be decoded.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network, in evaluation mode.
    paths : sequence of Path
        Image files.
    decoding : Decoding
        How the files become pixels.

    Returns
    -------
    Measurements
        Statistics of the images that can be decoded.

    Raises
    ------
    LostCutoutError
        If an image has disappeared.
    """
    rows: list[int] = []
    shapes, pixels, features = [], [], []
    for row, shape, cutouts in read_batches(paths, checkpoint, decoding):
        rows += row
        shapes += shape
        pixels.append(_measure_pixels(cutouts))
        features.append(_measure_features(checkpoint, cutouts))
    return Measurements(
        np.array(rows, np.intp),
        np.array(shapes, np.int64).reshape(-1, 2),
        np.concatenate(pixels) if pixels else np.empty((0, 0)),
        np.concatenate(features) if features else np.empty((0, 0)),
    )


def draw_rows(mask: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    """Draw positions where a mask is true.

    They are drawn at random, since a catalog may be sorted or periodic, and with a fixed seed.

    Parameters
    ----------
    mask : (N,) ndarray of bool
        True for what may be drawn.
    n : int
        Largest number of positions.

    Returns
    -------
    (M,) ndarray of int
        In increasing order.
    """
    rows = np.flatnonzero(mask)
    if len(rows) <= n:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, n, replace=False))


def read_batches(
    paths: Sequence[Source], checkpoint: Checkpoint, decoding: Decoding
) -> Iterator[tuple[list[int], list[tuple[int, int]], NDArray[np.uint8]]]:
    """Decode files in threads, a batch at a time, skipping those that cannot be decoded.

    Parameters
    ----------
    paths : sequence of Path
        Image files.
    checkpoint : Checkpoint
        The network, for its sizes.
    decoding : Decoding
        How the files become pixels.

    Yields
    ------
    rows : list of int
        Positions of the files of a batch.
    shapes : list of (int, int)
        Height and width before cropping [pixels].
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images, as the network sees them.

    Raises
    ------
    LostCutoutError
        If an image has disappeared.
    """

    def read(path: Source) -> tuple[tuple[int, int], NDArray[np.uint8]] | None:
        try:
            image = decode_image(path, decoding)
        except CutoutError:
            return None
        cutout = fit_image(image, checkpoint.cutout_size, is_whole=decoding.is_whole)
        return image.shape[:2], scale_cutout(cutout, checkpoint.image_size)

    n_workers = count_processors()
    n_bytes = checkpoint.image_size**2 * checkpoint.n_channels
    n_ahead = choose_ahead(N_AHEAD * n_workers, n_bytes, n_workers)
    with (
        ThreadPoolExecutor(n_workers) as pool,
        closing(map_ahead(pool, read, paths, n_ahead=n_ahead)) as images,
    ):
        for start in range(0, len(paths), _BATCH_SIZE):
            batch = enumerate(islice(images, _BATCH_SIZE), start)
            found = [(row, *image) for row, image in batch if image is not None]
            if found:
                rows, shapes, cutouts = zip(*found, strict=True)
                yield list(rows), list(shapes), np.stack(cutouts)


def _measure_pixels(cutouts: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the statistics (N, P) of each image, named by `_name_pixels`."""
    images = cutouts / 255
    light = images.mean(axis=3)
    fineness = [np.abs(np.diff(light, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    moments = [images.mean(axis=(1, 2)), images.std(axis=(1, 2))]
    return np.column_stack([*moments, _measure_radius(light), np.mean(fineness, axis=0)])


def _measure_radius(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rms radius (N,) of the light above the median, over the side."""
    size = light.shape[1]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    above = np.maximum(light - np.median(light, axis=(1, 2), keepdims=True), 0)
    total = above.sum(axis=(1, 2))
    moment = (above * (x**2 + y**2)).sum(axis=(1, 2))
    return np.sqrt(np.divide(moment, total, out=np.zeros_like(total), where=total > 0)) / size


def _name_pixels(n_channels: int) -> list[str]:
    others = tuple(f" in channel {number}" for number in range(n_channels))
    channels = _CHANNELS.get(n_channels, others)
    moments = [f"{name}{channel}" for name in ("brightness", "contrast") for channel in channels]
    return [*moments, "size of the galaxy in the frame", "fineness"]


def _measure_features(checkpoint: Checkpoint, cutouts: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the spatial means (N, K) of the explained layer's feature maps."""
    means: list[Tensor] = []
    axes = (1, 2) if checkpoint.metadata.get("layer_channels_last") else (2, 3)

    def note(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        # Averaged here, since the next layer may overwrite the maps. Tokens have a single axis.
        where = axes if output.ndim == 4 else (1,)
        means.append(output.mean(dim=where, dtype=torch.float64))

    model = checkpoint.model
    device = next(model.parameters()).device
    handle = model.get_submodule(checkpoint.layer_name).register_forward_hook(note)
    try:
        # One thread, so that the comparison has the same result on any number of processors.
        with torch.inference_mode(), computing_with(1):
            model(checkpoint.normalise(cutouts).to(device))
    finally:
        handle.remove()
    return torch.cat(means).cpu().numpy()


def _make_reference(
    seen: Measurements, label: NDArray[np.int16], held_out: Measurements
) -> Reference:
    """Make the reference from the training images and the distances of the held-out images."""
    arrays = (
        np.unique(label, return_counts=True)[1],
        *_summarise_classes(_take_logarithm(seen.pixels), label),
        *_summarise_classes(seen.features, label),
    )
    # Rounded before they are used, so that they equal the numbers that are read back later.
    counts, pixel_centers, pixel_spread, feature_centers, feature_spread = map(_round, arrays)
    reference = Reference(
        counts, pixel_centers, feature_centers, pixel_spread, feature_spread, np.empty(0)
    )
    return replace(reference, valid_distances=np.sort(_measure_distances(reference, held_out)))


def _compare_means(reference: Reference, new: Measurements) -> dict[str, Any]:
    """Return Cohen's d of the pixel statistic that lies farthest outside the classes."""
    mean, centers = _take_logarithm(new.pixels).mean(axis=0), reference.pixel_centers
    above, below = mean - centers.max(axis=0), centers.min(axis=0) - mean
    offsets = np.maximum(np.maximum(above, below), 0) / reference.pixel_spread
    worst = int(np.argmax(offsets))
    name = _name_pixels((len(offsets) - 2) // 2)[worst]
    threshold = offset_threshold(len(new.rows), int(reference.class_counts.min()))
    return {
        "measure": f"offset of the mean {name} from the training classes in standard deviations",
        "value": round(float(offsets[worst]), 3),
        "threshold": round(threshold, 3),
    }


def _compare_distances(reference: Reference, new: Measurements) -> dict[str, Any]:
    """Return how often a new image is farther from the training images than a validation image."""
    distances = _measure_distances(reference, new)
    held_out = reference.valid_distances
    return {
        "measure": "probability that an image is farther from the training images than one of the "
        "validation set",
        "value": round(superiority(distances, held_out), 3),
        "threshold": round(superiority_threshold(len(distances), len(held_out)), 3),
    }


def _summarise_classes(
    values: NDArray[np.float64], label: NDArray[np.int16]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each class (C, J), and the standard deviation about these means (J,)."""
    classes, which = np.unique(label, return_inverse=True)
    centers = np.stack([values[which == index].mean(axis=0) for index in range(len(classes))])
    residuals = values - centers[which]
    variance = (residuals**2).sum(axis=0) / max(len(values) - len(classes), 1)
    spread = np.sqrt(variance)
    least = max(_LEAST_SPREAD * float(spread.mean()), float(np.finfo(np.float32).tiny))
    return centers, np.maximum(spread, least)


def _measure_distances(reference: Reference, images: Measurements) -> NDArray[np.float64]:
    """Return the distance of each image from the nearest class of the training images, (N,).

    Pixel statistics and features have the same total weight, whatever their numbers.
    """
    groups = (
        (_take_logarithm(images.pixels), reference.pixel_centers, reference.pixel_spread),
        (images.features, reference.feature_centers, reference.feature_spread),
    )
    squares = np.zeros((len(images.rows), len(reference.pixel_centers)))
    for values, centers, spread in groups:
        for index, center in enumerate(centers):
            squares[:, index] += (((values - center) / spread) ** 2).mean(axis=1) / len(groups)
    # An image at which the network overflows is infinitely far. Rounding makes the distance of an
    # image the same as it was in training.
    return _round(np.sqrt(np.nan_to_num(squares, nan=np.inf).min(axis=1)))


def _take_logarithm(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms, in which faint and bright galaxies have a similar spread."""
    return np.log(pixels + _BLACK)


def _describe_geometry(images: Measurements, galaxies: Galaxies) -> dict[str, Any]:
    """Return the sizes before cropping [pixels], and the pixel scale [arcsec/pixel] if known."""
    height, width = images.shapes.T
    scale = galaxies.pixel_scale
    known = np.empty(0) if scale is None else scale[images.rows]
    known = known[np.isfinite(known)]
    return {
        "height": _describe_range(height),
        "width": _describe_range(width),
        "pixel_scale": _describe_range(known) if len(known) else None,
    }


def _write_geometry(record: Mapping[str, Any]) -> str:
    """Return the median size and scale, such as '128 × 128 pixels of 0.4 arcsec'."""
    size = f"{record['height']['median']:g} × {record['width']['median']:g} pixels"
    scale = record["pixel_scale"]
    return f"{size} of {scale['median']:g} arcsec" if scale else f"{size} of unknown scale"


def _describe_range(values: NDArray[Any]) -> dict[str, Any]:
    return {
        "median": _round(np.median(values)).item(),
        "range": _round(np.array([values.min(), values.max()])).tolist(),
    }


def _describe_spread(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the mean and standard deviation over N images of each column of (N, J)."""
    return {
        "mean": _round(values.mean(axis=0)).tolist(),
        "std": _round(values.std(axis=0)).tolist(),
    }


def _round(values: ArrayLike) -> NDArray[np.float64]:
    """Round numbers to seven significant digits, those of float32."""
    array = np.asarray(values, np.float64)
    return np.array([float(f"{value:.7g}") for value in array.ravel()]).reshape(array.shape)


def _read_reference(record: Any, images: Measurements, path: Path | str) -> Reference:
    """Read the reference that `describe_images` wrote; check it against the images' statistics."""
    try:
        stored = record["reference"]
        reference = Reference(
            **{field.name: np.array(stored[field.name], np.float64) for field in fields(Reference)}
        )
        n_classes = len(reference.pixel_centers)
        n_pixels, n_features = images.pixels.shape[1], images.features.shape[1]
        expected = (
            (n_classes,),
            (n_classes, n_pixels),
            (n_classes, n_features),
            (n_pixels,),
            (n_features,),
            (reference.valid_distances.size,),
        )
        for array, shape in zip(vars(reference).values(), expected, strict=True):
            if array.shape != shape or not array.size or not np.isfinite(array).all():
                raise ValueError(f"numbers of shape {array.shape} for {shape}")
        for array in (reference.class_counts, reference.pixel_spread, reference.feature_spread):
            if array.min() <= 0:
                raise ValueError(f"{array.min():g} for a number above zero")
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(
            f"{path}: its record of the training images cannot be read "
            f"({type(exc).__name__}: {exc}), expected that of 'galfig train'; train it again"
        ) from exc
    return reference


def warn_of_shift(checkpoint: Checkpoint, shift: Mapping[str, Any] | None, path: Path) -> None:
    """Warn if images are unlike those that a network was trained on.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network.
    shift : mapping or None
        The result of `compare_images`.
    path : Path
        Path of the checkpoint, for the message.
    """
    if shift is None or not shift["is_unlike"]:
        return
    geometry = describe_geometry(checkpoint.metadata["images"], shift)
    logger.warning(
        "%s: these images are unlike those it was trained on, so its predictions may be "
        "unreliable: %s is %.2f, expected at most %.2f%s; train on images like these, or prepare "
        "these images like those",
        path,
        shift["measure"],
        shift["value"],
        shift["threshold"],
        f" ({geometry})" if geometry else "",
    )
