"""Decode, explain and compress images, a few galaxies per thread at a time."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from galfig.attribution.engine import Engine
from galfig.attribution.gradcam import CamBatch
from galfig.attribution.methods import METHODS
from galfig.catalog.galaxies import Galaxies
from galfig.config import Form
from galfig.cosmology import kpc_per_arcsec
from galfig.errors import CutoutError
from galfig.images.ahead import map_ahead
from galfig.images.celestial import UNKNOWN, View
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.images.identity import NO_DIGEST, note_digest
from galfig.images.sources import Source
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.memory import refusing_too_large
from galfig.pipeline.addresses import write_address
from galfig.pipeline.casting import casts_exactly, scale_on_device
from galfig.pipeline.moments import collect_statistics, measure_maps
from galfig.pipeline.pixels import Normaliser
from galfig.pipeline.placement import place_cutouts
from galfig.pipeline.spread import Combined, collect_numbers, combine, is_contrasted, list_spreads
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
Cutout = NDArray[np.uint8]
# Smallest number of galaxies that a thread takes at a time; and groups ahead, per processor.
GROUP_SIZE = 8
N_AHEAD = 4
# The most memory of the cutouts, and of maps of their size, that a thread takes at a time [byte],
# but one at least.
GROUP_BYTES = 256_000_000


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
        statistics, see `galfig.pipeline.moments.measure_maps`; and ``features``.
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
    form: Form = "full",
    with_features: bool = False,
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
    form : {"full", "native", "statistics"}, default "full"
        What is kept of each galaxy; see `galfig.store.forms`.
    with_features : bool, default False
        Whether features of the layer that is explained are kept of each galaxy, too.
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

    def keep(one: Combined, cutout: Cutout) -> Explained:
        if form == "statistics":
            numbers = measure_maps(one.cams, one.logits, method, checkpoint.cutout_size)
            return Explained(None, one.logits, one.cams.shape, {**one.numbers, **numbers})
        encoded = encode_galaxy(one.cams, cutout, one.spreads, form)
        return Explained(encoded, one.logits, one.cams.shape, one.numbers)

    views: dict[Source, View] = {}
    explained, digests = explain_images(
        galaxies.paths,
        checkpoint,
        engines,
        decoding,
        keep,
        pool=pool,
        tta=tta,
        is_full=form == "full",
        with_features=with_features,
        on_view=views.__setitem__,
        progress=progress,
        stopwatch=stopwatch,
    )
    views_of = [views.get(path, UNKNOWN) for path in galaxies.paths]
    return _make_part(
        galaxies, checkpoint, explained, digests, views_of, method, form=form, root=root
    )


def explain_images(
    paths: Sequence[Source],
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    decoding: Decoding,
    keep: Callable[[Combined, Cutout], Kept],
    *,
    pool: ThreadPoolExecutor,
    tta: bool = False,
    is_full: bool = False,
    with_features: bool = False,
    on_view: Callable[[Source, View], object] | None = None,
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
    checkpoint, engines, decoding, pool, tta, progress, stopwatch
        As in `explain_galaxies`.
    keep : callable
        Called in a thread with the maps and logits of a galaxy and its cutout; what it returns is
        kept.
    is_full : bool, default False
        Whether ``keep`` compresses the maps as a full store holds them, and nothing else, so that a
        device may round them.
    with_features : bool, default False
        Whether ``numbers`` of what ``keep`` is called with hold ``features``, those of several
        networks side by side.
    on_view : callable, optional
        Called in a thread with each image and how its cutout lies on the sky; see
        `galfig.images.cutouts.read_cutout`.

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
    n_batch = engines[0].choose_micro_batch(size)
    n_group = _choose_group_size(checkpoint, engines[0].method, n_batch)
    steps = _Steps(
        checkpoint,
        [engine.explain_averaged if tta else engine.explain for engine in engines],
        decoding,
        keep,
        stopwatch,
        has_contrast=is_contrasted(engines[0].method),
        with_features=with_features,
        on_view=on_view,
    )
    if engines[0].takes_turns:
        found_groups = explain_in_stages(
            paths,
            steps.make_stages(engines[0].device, is_full=is_full),
            Transfer(engines[0].device),
            pool,
            n_batch=n_group,
            shape=(*size[1:], size[0]),
            stopwatch=stopwatch,
        )
    else:
        groups = (paths[start : start + n_group] for start in range(0, len(paths), n_group))
        explain = partial(steps.explain, n_batch=n_batch)
        found_groups = map_ahead(pool, explain, groups, n_ahead=N_AHEAD * count_processors())
    explained: list[Kept | str] = []
    for found in found_groups:
        explained += found
        progress(len(found))
    return explained, np.array([steps.digests.get(path, NO_DIGEST) for path in paths], np.uint64)


def _choose_group_size(checkpoint: Checkpoint, method: str, n_batch: int) -> int:
    """Return how many galaxies a thread takes at a time, so that their pixels fit its memory."""
    n_bytes = checkpoint.n_channels * checkpoint.cutout_size**2
    if METHODS[method].of_pixels:
        # Maps as large as the image, one for each class, in float32.
        n_bytes += 4 * len(checkpoint.class_names) * checkpoint.image_size**2
    return max(1, min(max(GROUP_SIZE, n_batch), GROUP_BYTES // n_bytes))


@dataclass(frozen=True)
class _Steps(Generic[Kept]):
    """What is done with each image; the threads share it.

    Attributes
    ----------
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    explainers : sequence of callable
        What explains images, by network.
    decoding : Decoding
        How image files become pixels.
    keep : callable
        See `explain_images`.
    stopwatch : Stopwatch
        Adds up the time of each stage.
    has_contrast : bool
        See `galfig.pipeline.spread.combine_networks`.
    with_features : bool
        See `explain_images`.
    on_view : callable or None
        See `explain_images`.
    digests : dict of Source to int
        The digests of the images that were read.
    """

    checkpoint: Checkpoint
    explainers: Sequence[Callable[..., CamBatch]]
    decoding: Decoding
    keep: Callable[[Combined, Cutout], Kept]
    stopwatch: Stopwatch
    has_contrast: bool
    with_features: bool = False
    on_view: Callable[[Source, View], object] | None = None
    digests: dict[Source, int] = field(default_factory=dict)

    def explain(self, paths: Sequence[Source], n_batch: int) -> list[Kept | str]:
        """Explain a few images in one thread; return what is kept, or why nothing is."""
        cutouts = self._decode(paths)
        readable = [cutout for cutout in cutouts if not isinstance(cutout, str)]
        if not readable:
            return [str(cutout) for cutout in cutouts]
        with self.stopwatch.time("compute"):
            images = self.checkpoint.normalise(np.stack([*map(self._scale, readable)]))
        # The maps of several networks are held for a few images only.
        n_batch = n_batch if len(self.explainers) > 1 else len(images)
        found: list[Kept | str] = []
        for start in range(0, len(images), n_batch):
            chosen = slice(start, start + n_batch)
            cams, logits, features = self._compute(images[chosen])
            found += self._finish(cams, logits, features, readable[chosen])
        explained = iter(found)
        return [cutout if isinstance(cutout, str) else next(explained) for cutout in cutouts]

    def make_stages(self, device: torch.device, *, is_full: bool) -> Stages[Kept]:
        """Return the same steps as stages, for a device that explains large batches."""
        normalise = Normaliser(self.checkpoint, device)
        # Maps of several networks are combined before they are rounded, and other forms need all
        # bits.
        is_cast = is_full and len(self.explainers) == 1 and casts_exactly(device)

        def explain(pixels: Tensor) -> list[Tensor]:
            with refusing_too_large("explaining"):
                images = pixels.permute(0, 3, 1, 2)
                batches = [explain(images, normalise) for explain in self.explainers]
                logits, features = self._split(batches)
                if is_cast:
                    return [*scale_on_device(batches[0].cams), *logits, *features]
                return [*(batch.cams for batch in batches), *logits, *features]

        def finish(
            rows: Sequence[Sequence[NDArray[Any]]], cutouts: Sequence[Cutout]
        ) -> list[Kept | str]:
            if is_cast:
                scaled = list(map(ScaledMaps, rows[0], rows[1]))
                return self._finish([scaled], rows[2:3], rows[3:], cutouts)
            n = len(self.explainers)
            return self._finish(rows[:n], rows[n : 2 * n], rows[2 * n :], cutouts)

        return Stages(decode=self._decode, scale=self._scale, explain=explain, finish=finish)

    def _decode(self, paths: Sequence[Source]) -> list[Cutout | str]:
        """Return the cutout of each file, or why there is none."""
        note, size = partial(note_digest, self.digests), self.checkpoint.cutout_size
        cutouts: list[Cutout | str] = []
        with self.stopwatch.time("decode"):
            for path in paths:
                try:
                    cutout = read_cutout(
                        path, size, self.decoding, on_bytes=note, on_view=self.on_view
                    )
                    cutouts.append(cutout)
                except CutoutError as exc:
                    # A LostCutoutError ends the build. If its galaxy were rejected instead, it
                    # would stay rejected when the file is back.
                    # A store names no folder of the machine that built it.
                    cutouts.append(str(exc).replace(str(path), path.name))
        return cutouts

    def _scale(self, cutout: Cutout) -> Cutout:
        return scale_cutout(cutout, self.checkpoint.image_size)

    def _compute(self, images: Tensor) -> tuple[list[NDArray[np.float32]], ...]:
        """Return the maps, the logits and, if kept, the features of images, each by network."""
        with self.stopwatch.time("compute"), refusing_too_large("explaining"):
            batches = [explain(images) for explain in self.explainers]
            found = ([batch.cams for batch in batches], *self._split(batches))
            return tuple([tensor.cpu().numpy() for tensor in tensors] for tensors in found)

    def _split(self, batches: Sequence[CamBatch]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the logits of batches, and the features if they are kept."""
        features = [one.features for one in batches if one.features is not None]
        return [one.logits for one in batches], features if self.with_features else []

    def _finish(
        self,
        cams: Sequence[Iterable[Maps]],
        logits: Sequence[Iterable[NDArray[np.float32]]],
        features: Sequence[Iterable[NDArray[np.float32]]],
        cutouts: Sequence[Cutout],
    ) -> list[Kept | str]:
        """Combine what each network gives of a few galaxies, and keep what is asked."""
        with self.stopwatch.time("combine") if len(cams) > 1 else contextlib.nullcontext():
            by_galaxy = (zip(*one, strict=True) for one in (cams, logits))
            pooled = zip(*features, strict=True) if features else repeat((), len(cutouts))
            combined = [
                self._combine(*galaxy) if _is_finite(galaxy) else None
                for galaxy in zip(*by_galaxy, pooled, strict=True)
            ]
        with self.stopwatch.time("compress"):
            return [
                "the network gives numbers that are not finite"
                if one is None
                else self.keep(one, cutout)
                for one, cutout in zip(combined, cutouts, strict=True)
            ]

    def _combine(
        self,
        cams: Sequence[Any],
        logits: Sequence[NDArray[np.float32]],
        features: Sequence[NDArray[np.float32]],
    ) -> Combined:
        one = combine(cams, logits, has_contrast=self.has_contrast)
        if not features:
            return one
        return one._replace(numbers={**one.numbers, "features": np.concatenate(features)})


def _is_finite(galaxy: tuple[Sequence[Any], ...]) -> bool:
    """Return whether maps, logits and features of a galaxy are finite, by each network."""
    arrays = (
        maps.scale if isinstance(maps, ScaledMaps) else maps for one in galaxy for maps in one
    )
    return all(np.isfinite(array).all() for array in arrays)


def _make_part(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    explained: Sequence[Explained | str],
    digests: NDArray[np.uint64],
    views: Sequence[View],
    method: str,
    *,
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
    placed, remarks = place_cutouts(stored, [views[row] for row in rows])
    if form == "statistics" and is_shared:
        del placed["pixel_scale"]
    arrays |= placed
    if form != "full":
        addresses = [write_address(path, root) for path in stored.paths]
        arrays["image"] = np.array(addresses, dtype=object)
    # If no galaxy was explained, the size of the maps is unknown, and there are none to store.
    map_shape = found[0].map_shape if found else (n_classes, 1, 1)
    spread_shapes: Mapping[str, tuple[int, ...]] = {}
    if len(checkpoint.networks) > 1:
        spread_shapes = list_spreads(map_shape, has_contrast=is_contrasted(method))
        arrays |= collect_numbers([one.numbers for one in found], n_classes)
    if form == "statistics":
        arrays |= collect_statistics([one.numbers for one in found], n_classes)
    if found and "features" in found[0].numbers:
        arrays["features"] = np.array([one.numbers["features"] for one in found], np.float32)
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
        remarks,
    )
