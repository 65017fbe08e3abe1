"""The training set: the images that train and validate a network, read once."""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sets import check_channels
from galfig.config import Settings, TrainingSettings
from galfig.images.cutouts import choose_decoding, load_cutouts, scale_cutout
from galfig.images.identity import NO_DIGEST, combine_digests, digest_files, note_digest
from galfig.images.sources import Source


class Labelled(Protocol):
    """What training needs of galaxies, besides their images; `Galaxies` has it."""

    @property
    def label(self) -> NDArray[np.int16]:
        """Position of the class of each galaxy in ``class_names``, (N,)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, (C,)."""

    @property
    def in_train(self) -> NDArray[np.bool_]:
        """True for galaxies of the training set, (N,)."""

    @property
    def in_valid(self) -> NDArray[np.bool_]:
        """True for galaxies of the validation set, (N,)."""

    def __len__(self) -> int: ...


def take_used(galaxies: Galaxies) -> Galaxies:
    """Return the galaxies that train and validate a network.

    Parameters
    ----------
    galaxies : Galaxies
        Galaxies of any split.

    Returns
    -------
    Galaxies
        Those of the training and validation set.
    """
    return galaxies.take(galaxies.in_train | galaxies.in_valid)


def read_training_set(
    galaxies: Galaxies,
    settings: Settings,
    *,
    n_workers: int | None = None,
    digests: dict[Source, int] | None = None,
) -> tuple[Galaxies, NDArray[np.uint8]]:
    """Decode every image of the training and validation set once.

    Galaxies whose image fails move to ``rejected``. Otherwise a single truncated file would abort
    the training loop.

    Parameters
    ----------
    galaxies : Galaxies
        Galaxies of any split.
    settings : Settings
        The tables ``catalog`` and ``training`` set the range of FITS images and the sizes.
    n_workers : int, optional
        Number of threads that decode; default one per processor.
    digests : dict of Path (or other source) to int, optional
        Receives the digest of each image that could be read, from
        `galfig.images.identity.digest_image`.

    Returns
    -------
    galaxies : Galaxies
        The N galaxies of the training and validation set whose image is readable.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, as the network sees them. With ``crop_margin``, they are the wider images,
        not yet scaled, out of which the training crops at random; see `take_centres`.

    Raises
    ------
    LostCutoutError
        If an image has disappeared since the catalog was read.
    OutputError
        If the images do not fit in the memory, nor in a temporary file.
    """
    training = settings.training
    decoding = choose_decoding(settings.catalog, settings.n_channels)
    galaxies = take_used(galaxies)
    wide_size = settings.cutout_size + 2 * training.crop_margin
    cutouts, reasons = load_cutouts(
        galaxies.paths,
        wide_size,
        wide_size if training.crop_margin else training.network_size,
        decoding,
        n_workers=n_workers,
        on_bytes=partial(note_digest, {} if digests is None else digests),
    )
    stays = [row for row in range(len(galaxies)) if row not in reasons]
    for row, source in enumerate(stays if reasons else ()):
        # In place, since the memory may not hold the images twice.
        cutouts[row] = cutouts[source]
    return galaxies.reject(reasons), cutouts[: len(stays)]


def take_centres(cutouts: NDArray[np.uint8], training: TrainingSettings) -> NDArray[np.uint8]:
    """Return the images as the network sees them when it is not trained.

    Parameters
    ----------
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images from `read_training_set`.
    training : TrainingSettings
        Their sizes, and the margin of random crops.

    Returns
    -------
    (N, h, w, n_channels) ndarray of uint8
        The same array if there is no margin.
    """
    margin = training.crop_margin
    if not margin:
        return cutouts
    return np.stack([crop_at(cutout, (margin, margin), training) for cutout in cutouts])


def crop_at(
    cutout: NDArray[np.uint8], corner: tuple[int, int], training: TrainingSettings
) -> NDArray[np.uint8]:
    """Cut ``cutout_size`` out of a wider image, and scale it for the network.

    Parameters
    ----------
    cutout : (H, W, n_channels) ndarray of uint8
        Image with a margin.
    corner : (y, x) tuple of int
        First pixel of the crop, between 0 and twice ``crop_margin``.
    training : TrainingSettings
        The sizes.

    Returns
    -------
    (h, w, n_channels) ndarray of uint8
    """
    (y, x), size = corner, training.cutout_size
    # A copy, since torch shares the memory and expects to write to it.
    return np.array(scale_cutout(cutout[y : y + size, x : x + size], training.network_size))


def digest_training_set(
    galaxies: Galaxies,
    *,
    known: Mapping[Source, int] | None = None,
    n_workers: int | None = None,
) -> str:
    """Return one digest of all images that train and validate a network.

    Parameters
    ----------
    galaxies : Galaxies
        Galaxies of any split.
    known : mapping of Path (or other source) to int, optional
        Digests of the images, from `read_training_set`, which could not read the others; by
        default, the files are read.
    n_workers : int, optional
        Number of threads that read.

    Returns
    -------
    str
        SHA-256, as hexadecimal digits.

    Raises
    ------
    LostCutoutError
        If an image has disappeared since the catalog was read.
    """
    used = take_used(galaxies)
    if known is None:
        digests = digest_files(used.paths, n_workers=n_workers).tolist()
    else:
        digests = [known.get(path, NO_DIGEST) for path in used.paths]
    return combine_digests(used.objid.tolist(), digests)


def channel_statistics(
    cutouts: NDArray[np.uint8], in_train: NDArray[np.bool_]
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel over the training set.

    The sums are over 8-bit integers, so they are exact and independent of the order. They run
    over the whole training set; fastai's ``Normalize`` would use one random batch.

    Parameters
    ----------
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images.
    in_train : (N,) ndarray of bool
        True for images of the training set.

    Returns
    -------
    mean, std : (n_channels,) list of float
        For values in [0, 1].

    Raises
    ------
    CatalogError
        If a channel is the same in every pixel of every image.
    """
    n_channels, n_pixels = cutouts.shape[-1], 0
    total, squares = np.zeros(n_channels, np.int64), np.zeros(n_channels, np.int64)
    for row in np.flatnonzero(in_train):
        pixels = cutouts[row].reshape(-1, n_channels).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
        n_pixels += len(pixels)
    mean = total / n_pixels
    variance = squares / n_pixels - mean**2
    check_channels(variance <= 0)
    return (mean / 255).tolist(), (np.sqrt(variance) / 255).tolist()
