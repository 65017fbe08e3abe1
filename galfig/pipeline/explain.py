"""Decode, explain and compress images, a few galaxies per thread at a time."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from galfig.attribution.engine import Engine
from galfig.attribution.gradcam import CamBatch
from galfig.attribution.methods import METHODS
from galfig.catalog.galaxies import Galaxies
from galfig.config import Form
from galfig.cosmology import kpc_per_arcsec
from galfig.errors import CutoutError, LostCutoutError
from galfig.images.ahead import map_ahead
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.images.identity import NO_DIGEST, note_digest
from galfig.images.sources import Source
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.memory import refusing_too_large
from galfig.pipeline.addresses import write_address
from galfig.pipeline.casting import casts_exactly, scale_on_device
from galfig.pipeline.moments import collect_statistics, measure_maps
from galfig.pipeline.pixels import Normaliser
from galfig.pipeline.spread import Combined, collect_numbers, combine, list_spreads
from galfig.pipeline.stages import Stages, explain_in_stages
from galfig.pipeline.transfer import Transfer
from galfig.runtime.machine import count_processors
from galfig.runtime.storage import Address
from galfig.runtime.timing import Stopwatch
from galfig.store.chunks import Encoded, ScaledMaps, encode_galaxy
from galfig.store.forms import list_lacking
from galfig.store.writer import Part

Kept = TypeVar("Kept")
# Of one galaxy; scaled on a device, or still to be scaled.
Maps = NDArray[np.float32] | ScaledMaps
# Smallest number of galaxies that a thread takes at a time; and groups ahead, per processor.
GROUP_SIZE = 8
N_AHEAD = 4
# The most memory of the cutouts, and of maps of their size, that a thread takes at a time [byte],
# but one at least.
GROUP_BYTES = 256_000_000
# Number of galaxies on which the engine is compared with the exact maps.
N_FIRST = 6


class Explained(NamedTuple):
    """The result for one galaxy.

    Attributes
    ----------
    encoded : Encoded or None
        Its maps and its cutout; None for a store of statistics.
    logits : (C,) ndarray of float32
        Its logits.
    map_shape : (C, h, w)
        Shape of its maps.
    numbers : dict of str to float or ndarray
        Further datasets: of an ensemble, see `galfig.pipeline.spread.Combined`; of a store of
        statistics, see `galfig.pipeline.moments.measure_maps`.
    """

    encoded: Encoded | None
    logits: NDArray[np.float32]
    map_shape: tuple[int, ...]
    numbers: Mapping[str, NDArray[np.float32] | float] = MappingProxyType({})


def explain_galaxies(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    decoding: Decoding,
    *,
    pool: ThreadPoolExecutor,
    tta: bool = False,
    has_contrast: bool = True,
    form: Form = "full",
    root: Path | Address | None = None,
    progress: Callable[[int], object] = lambda n: None,
    stopwatch: Stopwatch | None = None,
) -> Part:
    """Decode, crop, normalise, explain and compress some galaxies; see `explain_images`.

    Parameters
    ----------
    galaxies : Galaxies
        The N galaxies to explain.
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    engines : sequence of Engine
        The engine of that network or, of an ensemble, of each of its networks.
    decoding : Decoding
        How image files become pixels.
    pool : ThreadPoolExecutor
        The threads, from `galfig.attribution.engine.open_workers`.
    tta : bool, default False
        Explain the network averaged over the eight orientations of each image; see
        `galfig.attribution.orientations.explain_averaged`.
    has_contrast : bool, default True
        Whether evidence is a contrast of the maps; see `galfig.pipeline.spread.combine_networks`.
    form : {"full", "native", "statistics"}, default "full"
        What is kept of each galaxy; see `galfig.store.forms`.
    root : Path or Address, optional
        The folder that the addresses of images are relative to, unless the store is full; see
        `galfig.pipeline.addresses.find_root`.
    progress : callable, optional
        Called with the number of galaxies done since the last call.
    stopwatch : Stopwatch, optional
        Adds up the time of each stage.

    Returns
    -------
    Part
        The galaxies that were explained. Its ``rejected`` says why the others were not: the image
        cannot be decoded, or a map or logit is not finite.

    Raises
    ------
    LostCutoutError
        If an image file has disappeared.
    """
    method = engines[0].method

    def keep(one: Combined, cutout: NDArray[np.uint8]) -> Explained:
        if form == "statistics":
            numbers = measure_maps(one.cams, one.logits, method, checkpoint.cutout_size)
            return Explained(None, one.logits, one.cams.shape, {**one.numbers, **numbers})
        encoded = encode_galaxy(one.cams, cutout, one.spreads, form)
        return Explained(encoded, one.logits, one.cams.shape, one.numbers)

    explained, digests = explain_images(
        galaxies.paths,
        checkpoint,
        engines,
        decoding,
        keep,
        pool=pool,
        tta=tta,
        has_contrast=has_contrast,
        is_full=form == "full",
        progress=progress,
        stopwatch=stopwatch,
    )
    return _make_part(
        galaxies, checkpoint, explained, digests, has_contrast=has_contrast, form=form, root=root
    )


def explain_images(
    paths: Sequence[Source],
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    decoding: Decoding,
    keep: Callable[[Combined, NDArray[np.uint8]], Kept],
    *,
    pool: ThreadPoolExecutor,
    tta: bool = False,
    has_contrast: bool = True,
    is_full: bool = False,
    progress: Callable[[int], object] = lambda n: None,
    stopwatch: Stopwatch | None = None,
) -> tuple[list[Kept | str], NDArray[np.uint64]]:
    """Decode, crop, normalise and explain some images, and keep something of each.

    Each thread takes a few images through all the stages: while one thread waits for a file or
    compresses, another computes. If they take turns at a device, they decode and compress for it,
    and the calling thread has it compute; see `galfig.pipeline.stages`. Images are decoded once,
    however many networks explain them.

    Parameters
    ----------
    paths : sequence of Path, BandFiles or Element
        The N images.
    checkpoint, engines, decoding, pool, tta, has_contrast, progress, stopwatch
        As in `explain_galaxies`.
    keep : callable
        Called in a thread with the maps and logits of a galaxy and its cutout; what it returns is
        kept.
    is_full : bool, default False
        Whether ``keep`` compresses the maps as a full store holds them, and nothing else, so that a
        device may round them.

    Returns
    -------
    explained : list
        For each image, what ``keep`` returned; or, as text, why it cannot be explained.
    digests : (N,) ndarray of uint64
        Digest of each image; `galfig.images.identity.NO_DIGEST` where it could not be read.

    Raises
    ------
    LostCutoutError
        If an image file has disappeared.
    """
    stopwatch = stopwatch or Stopwatch()
    size = (checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size)
    n_bytes = checkpoint.n_channels * checkpoint.cutout_size**2
    n_batch = engines[0].choose_micro_batch(size)
    n_group = max(GROUP_SIZE, n_batch)
    if METHODS[engines[0].method].of_pixels:
        # Maps as large as the image, one for each class, in float32.
        n_bytes += 4 * len(checkpoint.class_names) * checkpoint.image_size**2
    n_group = max(1, min(n_group, GROUP_BYTES // n_bytes))
    groups = [paths[start : start + n_group] for start in range(0, len(paths), n_group)]

    digests: dict[Source, int] = {}
    explainers = [engine.explain_averaged if tta else engine.explain for engine in engines]

    def explain(group: Sequence[Source]) -> list[Kept | str]:
        return _explain_group(
            group,
            checkpoint,
            explainers,
            decoding,
            keep,
            stopwatch,
            digests,
            n_batch=n_batch,
            has_contrast=has_contrast,
        )

    if engines[0].takes_turns:
        found_groups = explain_in_stages(
            paths,
            _make_stages(
                checkpoint,
                engines,
                explainers,
                decoding,
                keep,
                stopwatch,
                digests,
                has_contrast=has_contrast,
                is_full=is_full,
            ),
            Transfer(engines[0].device),
            pool,
            n_batch=n_group,
            shape=(*size[1:], size[0]),
            stopwatch=stopwatch,
        )
    else:
        found_groups = map_ahead(pool, explain, groups, n_ahead=N_AHEAD * count_processors())
    explained: list[Kept | str] = []
    for found in found_groups:
        explained += found
        progress(len(found))
    return explained, np.array([digests.get(path, NO_DIGEST) for path in paths], np.uint64)


def read_first_images(
    galaxies: Galaxies, checkpoint: Checkpoint, decoding: Decoding
) -> Tensor | None:
    """Read the images of the first few galaxies that have one, to compare the engine on.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies to explain.
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    decoding : Decoding
        How image files become pixels.

    Returns
    -------
    (N, n_channels, H, W) Tensor of float32 or None
        At most `N_FIRST` normalised images; None if none of eight times as many can be read.
    """
    cutouts: list[NDArray[np.uint8]] = []
    for path in galaxies.paths[: 8 * N_FIRST]:
        # Whoever explains the galaxies says what is wrong with the others.
        with contextlib.suppress(CutoutError, LostCutoutError):
            cutouts.append(read_cutout(path, checkpoint.cutout_size, decoding))
        if len(cutouts) == N_FIRST:
            break
    if not cutouts:
        return None
    scaled = np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in cutouts])
    return checkpoint.normalise(scaled)


def _explain_group(
    paths: Sequence[Source],
    checkpoint: Checkpoint,
    explainers: Sequence[Callable[[Tensor], CamBatch]],
    decoding: Decoding,
    keep: Callable[[Combined, NDArray[np.uint8]], Kept],
    stopwatch: Stopwatch,
    digests: dict[Source, int],
    *,
    n_batch: int,
    has_contrast: bool,
) -> list[Kept | str]:
    """Explain some files in one thread; return the result for each, or why there is none."""
    cutouts = _decode(paths, checkpoint, decoding, stopwatch, digests)
    readable = [cutout for cutout in cutouts if not isinstance(cutout, str)]
    if not readable:
        return [str(cutout) for cutout in cutouts]
    with stopwatch.time("compute"):
        scaled = np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in readable])
        images = checkpoint.normalise(scaled)
    # The maps of several networks are held for a few images only.
    n_batch = n_batch if len(explainers) > 1 else len(images)
    found: list[Kept | str] = []
    for start in range(0, len(images), n_batch):
        chosen = slice(start, start + n_batch)
        found += _explain_batch(
            images[chosen], readable[chosen], explainers, keep, stopwatch, has_contrast=has_contrast
        )
    explained = iter(found)
    return [cutout if isinstance(cutout, str) else next(explained) for cutout in cutouts]


def _decode(
    paths: Sequence[Source],
    checkpoint: Checkpoint,
    decoding: Decoding,
    stopwatch: Stopwatch,
    digests: dict[Source, int],
) -> list[NDArray[np.uint8] | str]:
    """Return the cutout of each file, or why there is none."""
    note = partial(note_digest, digests)
    with stopwatch.time("decode"):
        cutouts: list[NDArray[np.uint8] | str] = []
        for path in paths:
            try:
                cutouts.append(read_cutout(path, checkpoint.cutout_size, decoding, on_bytes=note))
            except CutoutError as exc:
                # A LostCutoutError ends the build. If its galaxy were rejected instead, it would
                # stay rejected when the file is back.
                # A store names no folder of the machine that built it.
                cutouts.append(str(exc).replace(str(path), path.name))
    return cutouts


def _make_stages(
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    explainers: Sequence[Callable[..., CamBatch]],
    decoding: Decoding,
    keep: Callable[[Combined, NDArray[np.uint8]], Kept],
    stopwatch: Stopwatch,
    digests: dict[Source, int],
    *,
    has_contrast: bool,
    is_full: bool,
) -> Stages[Kept]:
    """Return what happens to galaxies that are explained on a device in large batches."""
    device = engines[0].device
    normalise = Normaliser(checkpoint, device)
    # Maps of several networks are combined before they are rounded, and other forms need all bits.
    is_cast = is_full and len(engines) == 1 and casts_exactly(device)

    def explain(pixels: Tensor) -> list[Tensor]:
        with refusing_too_large("explaining"):
            images = pixels.permute(0, 3, 1, 2)
            batches = [explain(images, normalise) for explain in explainers]
            if is_cast:
                return [*scale_on_device(batches[0].cams), batches[0].logits]
            return [tensor for batch in batches for tensor in (batch.cams, batch.logits)]

    def finish(
        rows: Sequence[Sequence[NDArray[Any]]], cutouts: Sequence[NDArray[np.uint8]]
    ) -> list[Kept | str]:
        if is_cast:
            cams: Sequence[Iterable[Maps]] = [list(map(ScaledMaps, rows[0], rows[1]))]
            logits = rows[2:]
        else:
            cams, logits = rows[::2], rows[1::2]
        return _finish(cams, logits, cutouts, keep, stopwatch, has_contrast=has_contrast)

    return Stages(
        decode=lambda paths: _decode(paths, checkpoint, decoding, stopwatch, digests),
        scale=lambda cutout: scale_cutout(cutout, checkpoint.image_size),
        explain=explain,
        finish=finish,
    )


def _explain_batch(
    images: Tensor,
    cutouts: Sequence[NDArray[np.uint8]],
    explainers: Sequence[Callable[[Tensor], CamBatch]],
    keep: Callable[[Combined, NDArray[np.uint8]], Kept],
    stopwatch: Stopwatch,
    *,
    has_contrast: bool,
) -> list[Kept | str]:
    """Explain images with each network; return the result for each, or why there is none."""
    with stopwatch.time("compute"), refusing_too_large("explaining"):
        batches = [explain(images) for explain in explainers]
        cams = [batch.cams.cpu().numpy() for batch in batches]
        numbers = [batch.logits.cpu().numpy() for batch in batches]
    return _finish(cams, numbers, cutouts, keep, stopwatch, has_contrast=has_contrast)


def _finish(
    cams: Sequence[Iterable[Maps]],
    numbers: Sequence[Iterable[NDArray[np.float32]]],
    cutouts: Sequence[NDArray[np.uint8]],
    keep: Callable[[Combined, NDArray[np.uint8]], Kept],
    stopwatch: Stopwatch,
    *,
    has_contrast: bool,
) -> list[Kept | str]:
    """Combine and compress the maps of some galaxies by each network, and their logits."""
    with stopwatch.time("combine") if len(cams) > 1 else contextlib.nullcontext():
        galaxies = zip(zip(*cams, strict=True), zip(*numbers, strict=True), strict=True)
        combined = [
            combine(*galaxy, has_contrast=has_contrast) if _is_finite(galaxy) else None
            for galaxy in galaxies
        ]
    with stopwatch.time("compress"):
        return [
            "the network gives numbers that are not finite" if one is None else keep(one, cutout)
            for one, cutout in zip(combined, cutouts, strict=True)
        ]


def _is_finite(galaxy: tuple[Sequence[Maps], Sequence[NDArray[np.float32]]]) -> bool:
    """Return whether maps and logits of a galaxy are finite, by each network."""
    cams = [maps.scale if isinstance(maps, ScaledMaps) else maps for maps in galaxy[0]]
    return all(np.isfinite(array).all() for array in (*cams, *galaxy[1]))


def _make_part(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    explained: Sequence[Explained | str],
    digests: NDArray[np.uint64],
    *,
    has_contrast: bool,
    form: Form,
    root: Path | Address | None,
) -> Part:
    """Collect the galaxies that were explained, and the reasons for the others."""
    n_classes, size = len(checkpoint.class_names), checkpoint.cutout_size
    rows = np.array([i for i, found in enumerate(explained) if isinstance(found, Explained)], int)
    found = [one for one in explained if isinstance(one, Explained)]
    reasons = zip(galaxies.objid, explained, strict=True)
    rejected = {objid: reason for objid, reason in reasons if isinstance(reason, str)}
    stored = galaxies.take(rows)
    logits = np.array([one.logits for one in found], np.float32).reshape(-1, n_classes)
    arrays = {
        "objid": stored.objid,
        "image_digest": digests[rows],
        "redshift": stored.redshift,
        "label": stored.label,
        "split": stored.split,
        "value": stored.value,
        "logits": logits,
        "probs": softmax(logits.astype(np.float64), axis=1).astype(np.float32),
        "kpc_per_arcsec": kpc_per_arcsec(stored.redshift),
    }
    # Statistics leave out a scale that all share: the attribute of that name says it.
    is_shared = isinstance(galaxies.settings.catalog.pixel_scale, float)
    if stored.pixel_scale is not None and not (form == "statistics" and is_shared):
        arrays["pixel_scale"] = stored.pixel_scale
    if form != "full":
        addresses = [write_address(path, root) for path in stored.paths]
        arrays["image"] = np.array(addresses, dtype=object)
    # If no galaxy was explained, the size of the maps is unknown, and there are none to store.
    map_shape = found[0].map_shape if found else (n_classes, 1, 1)
    spread_shapes: Mapping[str, tuple[int, ...]] = {}
    if len(checkpoint.networks) > 1:
        spread_shapes = list_spreads(map_shape, has_contrast=has_contrast)
        arrays |= collect_numbers([one.numbers for one in found], n_classes)
    if form == "statistics":
        arrays |= collect_statistics([one.numbers for one in found], n_classes)
    lacking = list_lacking(form)
    return Part(
        {name: array for name, array in arrays.items() if name not in lacking},
        [one.encoded for one in found if one.encoded is not None],
        map_shape,
        (size, size, checkpoint.n_channels),
        rejected,
        {
            objid: int(digest)
            for objid, digest in zip(galaxies.objid, digests, strict=True)
            if objid in rejected
        },
        spread_shapes,
        form,
    )
