"""Decode, explain and compress images, a few galaxies per thread at a time."""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from galfig.attribution.engine import Engine
from galfig.attribution.gradcam import CamBatch
from galfig.catalog.galaxies import Galaxies
from galfig.cosmology import kpc_per_arcsec
from galfig.errors import CutoutError, LostCutoutError
from galfig.images.ahead import map_ahead
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.images.identity import NO_DIGEST, note_digest
from galfig.images.sources import Source
from galfig.networks.checkpoint import Checkpoint
from galfig.runtime.machine import count_processors
from galfig.runtime.timing import Stopwatch
from galfig.store.chunks import Encoded, encode_galaxy
from galfig.store.writer import Part

# Smallest number of galaxies that a thread takes at a time; and groups ahead, per processor.
GROUP_SIZE = 8
N_AHEAD = 4
# The most memory of the cutouts that a thread takes at a time [byte], but one at least.
GROUP_BYTES = 256_000_000
# Number of galaxies on which the engine is compared with the exact maps.
N_FIRST = 6


class Explained(NamedTuple):
    """The result for one galaxy: its encoded maps and cutout, and its logits (C,)."""

    encoded: Encoded
    logits: NDArray[np.float32]
    map_shape: tuple[int, ...]


def explain_galaxies(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    engine: Engine,
    decoding: Decoding,
    *,
    pool: ThreadPoolExecutor,
    tta: bool = False,
    progress: Callable[[int], object] = lambda n: None,
    stopwatch: Stopwatch | None = None,
) -> Part:
    """Decode, crop, normalise, explain and compress some galaxies.

    Each thread takes a few galaxies through all the stages: while one thread waits for a file or
    compresses, another computes.

    Parameters
    ----------
    galaxies : Galaxies
        The N galaxies to explain.
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    engine : Engine
        The engine of that network.
    decoding : Decoding
        How image files become pixels.
    pool : ThreadPoolExecutor
        The threads, from `galfig.attribution.engine.open_workers`.
    tta : bool, default False
        Explain the network averaged over the eight orientations of each image; see
        `galfig.attribution.orientations.explain_averaged`.
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
    stopwatch = stopwatch or Stopwatch()
    size = (checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size)
    n_bytes = checkpoint.n_channels * checkpoint.cutout_size**2
    n_group = max(GROUP_SIZE, engine.choose_micro_batch(size))
    n_group = max(1, min(n_group, GROUP_BYTES // n_bytes))
    groups = [galaxies.paths[start : start + n_group] for start in range(0, len(galaxies), n_group)]

    digests: dict[Source, int] = {}
    explain_batch = engine.explain_averaged if tta else engine.explain

    def explain(paths: Sequence[Source]) -> list[Explained | str]:
        return _explain_group(paths, checkpoint, explain_batch, decoding, stopwatch, digests)

    explained: list[Explained | str] = []
    for group in map_ahead(pool, explain, groups, n_ahead=N_AHEAD * count_processors()):
        explained += group
        progress(len(group))
    found = np.array([digests.get(path, NO_DIGEST) for path in galaxies.paths], np.uint64)
    return _make_part(galaxies, checkpoint, explained, found)


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
    explain: Callable[[Tensor], CamBatch],
    decoding: Decoding,
    stopwatch: Stopwatch,
    digests: dict[Source, int],
) -> list[Explained | str]:
    """Explain some files in one thread; return the result for each, or why there is none."""
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
    readable = [cutout for cutout in cutouts if not isinstance(cutout, str)]
    if not readable:
        return [str(cutout) for cutout in cutouts]
    with stopwatch.time("compute"):
        images = np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in readable])
        batch = explain(checkpoint.normalise(images))
        cams, logits = batch.cams.cpu().numpy(), batch.logits.cpu().numpy()
    explained: list[Explained | str] = []
    numbers = zip(cams, logits, strict=True)
    with stopwatch.time("compress"):
        for cutout in cutouts:
            if isinstance(cutout, str):
                explained.append(cutout)
                continue
            cam, logit = next(numbers)
            if np.isfinite(logit).all() and np.isfinite(cam).all():
                explained.append(Explained(encode_galaxy(cam, cutout), logit, cam.shape))
            else:
                explained.append("the network gives numbers that are not finite")
    return explained


def _make_part(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    explained: Sequence[Explained | str],
    digests: NDArray[np.uint64],
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
    if stored.pixel_scale is not None:
        arrays["pixel_scale"] = stored.pixel_scale
    return Part(
        arrays,
        [one.encoded for one in found],
        # If no galaxy was explained, the size of the maps is unknown, and there are none to store.
        found[0].map_shape if found else (n_classes, 1, 1),
        (size, size, checkpoint.n_channels),
        rejected,
        {
            objid: int(digest)
            for objid, digest in zip(galaxies.objid, digests, strict=True)
            if objid in rejected
        },
    )
