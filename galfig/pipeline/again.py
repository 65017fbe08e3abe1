"""Again: explain some galaxies of a store again, which does not hold their maps or features.

They go through the same functions as in the build, in batches of the same size. What they give is
compared with the logits that the store holds.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from galfig.attribution.engine import Engine, open_workers
from galfig.attribution.gradcam import join_batches
from galfig.config import PIXEL_METHODS
from galfig.errors import CheckpointError, LostCutoutError, StoreError
from galfig.networks.architectures import LayerTraits, describe_layer
from galfig.networks.checkpoint import Checkpoint
from galfig.pipeline.addresses import Images, StoredImages
from galfig.pipeline.explain import explain_images
from galfig.pipeline.proof import N_FIRST, prepare_images, prove_engines
from galfig.pipeline.spread import Combined
from galfig.runtime.messages import quote
from galfig.runtime.options import RunOptions
from galfig.runtime.progress import show_progress
from galfig.store.chunks import round_maps
from galfig.store.reader import Store

logger = logging.getLogger(__name__)

# The most galaxies of a store that are explained again, the memory of their maps [byte], and how
# many are explained in one go.
MAX_AGAIN, MAX_BYTES, GROUP = 10_000, 1 << 30, 256
# Galaxies whose features a thread computes at a time.
N_PART = 32
# Difference of logits, relative to the largest, up to which it is rounding: in float32, and in
# bfloat16, which keeps eight bits.
AGREEMENT, COARSE_AGREEMENT = 1e-4, 0.02


class _Galaxy(NamedTuple):
    """What is kept of a galaxy: maps as a full store returns them, by dataset, and logits."""

    maps: dict[str, NDArray[np.float32]]
    logits: NDArray[np.float32]


class Maps:
    """The maps of galaxies of a store, made again when they are read.

    Parameters
    ----------
    store : Store
        An open store.
    checkpoint : Checkpoint
        Its network, from `galfig.pipeline.origin.find_network`.
    images : Images or StoredImages
        Its images; those of a store that is not full, where maps are read.
    run : RunOptions
        Device and threads.
    """

    def __init__(
        self, store: Store, checkpoint: Checkpoint, images: Images | StoredImages, run: RunOptions
    ) -> None:
        self._store = store
        self._checkpoint = checkpoint
        self._images = images
        self._run = run
        self._known: dict[int, _Galaxy] = {}
        self._features: dict[int, NDArray[np.float32]] = {}
        self._has_warned = False

    def read(self, name: str, row: int, announced: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return maps of a galaxy.

        Parameters
        ----------
        name : {"cams", "cams_sd", "evidence_sd"}
            Which.
        row : int
            Position of the galaxy.
        announced : (n,) ndarray of int
            Positions of galaxies that will be read, too, some of which are explained with it.

        Returns
        -------
        (n, h, w) ndarray of float32
            As a full store returns them.

        Raises
        ------
        StoreError
            If there are too many to be explained again, an image is missing or has changed, or
            logits differ from those of the store by more than rounding.
        """
        if row not in self._known:
            rows = announced.tolist() if row in announced else [row]
            missing = [one for one in dict.fromkeys(rows) if one not in self._known]
            n_galaxies, n_most = len(self._known) + len(missing), self._count_most()
            if n_galaxies > n_most:
                raise StoreError(
                    f"{self._store.path}: {n_galaxies} galaxies to explain again, expected at most "
                    f'{n_most}; choose fewer with `n`, or build the store with `store="full"` or '
                    '`store="native"`'
                )
            self._explain(missing)
        return self._known[row].maps[name]

    def read_features(self, row: int, announced: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features of a galaxy.

        Parameters
        ----------
        row, announced
            As in `read`.

        Returns
        -------
        (K,) ndarray of float32
            As a store returns them that was built with them.

        Raises
        ------
        StoreError
            As `read`.
        """
        if row not in self._features:
            rows = announced.tolist() if row in announced else [row]
            self._pool([one for one in dict.fromkeys(rows) if one not in self._features])
        return self._features[row]

    def _pool(self, rows: Sequence[int]) -> None:
        """Compute the features of galaxies from their cutouts, a few hundred in one go."""
        tta, engines = self._store.settings.maps.tta, self._engines
        with (
            show_progress("computing features", len(rows), "galaxies", leave=False) as advance,
            open_workers(self._run.n_workers) as pool,
        ):
            for start in range(0, len(rows), GROUP):
                chosen = rows[start : start + GROUP]
                cutouts = [self._images.read(row) for row in chosen]
                parts = [cutouts[first : first + N_PART] for first in range(0, len(chosen), N_PART)]
                batches = []
                for engine in engines:
                    explain = engine.explain_averaged if tta else engine.explain
                    found = pool.map(lambda part, e=explain: e(self._prepare(part)), parts)
                    batches.append(join_batches(list(found)))
                logits = np.stack([one.logits.cpu().numpy() for one in batches]).mean(axis=0)
                features = [one.features for one in batches if one.features is not None]
                pooled = torch.cat(features, dim=1).cpu().numpy()
                for row, one, values in zip(chosen, logits, pooled, strict=True):
                    self._compare(row, one)
                    self._features[row] = values
                n_bytes = len(self._features) * pooled[0].nbytes
                if n_bytes > MAX_BYTES:
                    raise StoreError(
                        f"{self._store.path}: {len(rows)} galaxies with {pooled.shape[1]} features "
                        "are more than the memory is meant to hold; choose fewer with `n`, or "
                        "build the store with `features=True`"
                    )
                advance(len(chosen))

    def _prepare(self, cutouts: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        images = prepare_images(cutouts, self._checkpoint)
        if images is None:
            raise ValueError("no cutouts, expected some")
        return images

    def _count_most(self) -> int:
        """Return the number of galaxies whose maps the memory holds."""
        store, side = self._store, self._store.record.cutout_size
        height, width = store.record.map_shape or (side, side)
        # Of several networks, there are up to two standard deviations for each map.
        n_maps = len(store.class_names) * (3 if store.n_networks > 1 else 1)
        return min(MAX_AGAIN, max(1, MAX_BYTES // (4 * n_maps * height * width)))

    def _explain(self, rows: Sequence[int]) -> None:
        """Explain galaxies again, a few hundred in one go."""
        engines, images = self._engines, self._images
        if isinstance(images, StoredImages):
            raise TypeError("a full store, expected one that lacks maps")
        with (
            show_progress("explaining again", len(rows), "galaxies", leave=False) as advance,
            open_workers(self._run.n_workers) as pool,
        ):
            for start in range(0, len(rows), GROUP):
                chosen = rows[start : start + GROUP]
                paths = [images.find(row) for row in chosen]
                try:
                    found, digests = explain_images(
                        paths,
                        self._checkpoint,
                        engines,
                        images.decoding,
                        _keep,
                        pool=pool,
                        tta=self._store.settings.maps.tta,
                        progress=advance,
                    )
                except LostCutoutError as exc:
                    # Whoever reads them one by one says which it is.
                    for row in chosen:
                        images.read(row)
                    raise StoreError(f"{self._store.path}: {exc}") from exc
                for row, one, digest in zip(chosen, found, digests.tolist(), strict=True):
                    images.check(row, digest)
                    if isinstance(one, str):
                        raise images.refuse(row, CheckpointError(one))
                    self._compare(row, one.logits)
                    self._known[row] = one

    def _compare(self, row: int, logits: NDArray[np.float32]) -> None:
        """Raise StoreError if logits differ from those of the store by more than rounding."""
        expected = self._store.logits[row]
        if np.array_equal(logits, expected):
            return
        wide = expected.astype(np.float64)
        difference = float(np.abs(logits - wide).max() / max(1.0, np.abs(wide).max()))
        is_exact = self._store.record.precision == "float32"
        if not difference <= (AGREEMENT if is_exact else COARSE_AGREEMENT):
            raise StoreError(
                f"{self._store.path}: explained again, galaxy {quote(self._store.objid[row])} has "
                f"logits that differ by {difference:.2g} of the largest, expected those of the "
                "build up to rounding; use the version of galfig and PyTorch that built it, or "
                "build it again"
            )
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s: explained again, galaxy %s has logits that differ by %.2g of the largest, as "
                "on another processor or with another PyTorch; its maps agree up to rounding, and "
                "not bit for bit",
                self._store.path,
                quote(self._store.objid[row]),
                difference,
            )

    @cached_property
    def _engines(self) -> list[Engine]:
        """The engine of each network, which compute in the way that the build chose."""
        settings, name = self._store.settings, self._store.record.target_layer
        first, traits = self._checkpoint.networks[0], LayerTraits()
        if settings.maps.method not in PIXEL_METHODS:
            described = (first.image_size, first.record.arch, first.n_channels)
            traits = describe_layer(first.model, name, *described)
        engines = prove_engines(
            self._checkpoint, self._read_first(), settings, name, traits, self._run
        )
        for engine in engines:
            # The build may have chosen it by measuring.
            engine.set_precision(self._store.record.precision)
        recorded = self._store.record.engine
        ways = {_describe_way(engine.record) for engine in engines}
        if recorded is not None and ways != {_describe_way(recorded)}:
            logger.warning(
                "%s: its maps were computed by %s, and are explained again by %s; they agree up to "
                "rounding, and not bit for bit",
                self._store.path,
                _describe_way(recorded),
                " and ".join(sorted(ways)),
            )
        return engines

    def _read_first(self) -> torch.Tensor | None:
        """Read the images on which the build examined the network, as far as they are here."""
        cutouts = []
        for row in range(min(N_FIRST, len(self._store))):
            try:
                cutouts.append(self._images.read(row))
            except StoreError:
                # Who draws a few galaxies may have the images of these only.
                continue
        return prepare_images(cutouts, self._checkpoint)


def _keep(one: Combined, cutout: NDArray[np.uint8]) -> _Galaxy:
    """Keep the maps of a galaxy as a full store returns them, and its logits."""
    maps = {"cams": one.cams, **one.spreads}
    return _Galaxy({name: round_maps(values) for name, values in maps.items()}, one.logits)


def _describe_way(record: object) -> str:
    """Describe the way of computing of an engine, or of the record of one."""
    found = [getattr(record, key, "") for key in ("path", "layout", "n_fused", "n_packed")]
    return f"{found[0]}, {found[1]}, {found[2]} norms folded, {found[3]} convolutions packed"
