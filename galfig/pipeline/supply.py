"""Supply: a store that does not hold its maps or cutouts, with what it takes to make them again."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.config import PIXEL_METHODS
from galfig.errors import CheckpointError
from galfig.pipeline.addresses import Images, StoredImages
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions
from galfig.runtime.storage import Address, find_folder
from galfig.store.reader import Store, open_store

if TYPE_CHECKING:
    from galfig.networks.checkpoint import Checkpoint
    from galfig.pipeline.again import Maps

# What is made again, as a full store calls it.
_CUTOUTS, _MAPS, _FEATURES = ("cutouts",), ("cams", "cams_sd", "evidence_sd"), ("features",)


class Sources(NamedTuple):
    """From what maps and cutouts are made again, as far as the user names it.

    Attributes
    ----------
    models : sequence of Path or Checkpoint
        Networks, or folders of several of one recipe, among which that of a store is found by its
        digest; by default, one in the folder of the store.
    images : Path, Address or None
        The folder of the images, or the address that the user typed; by default, the one that the
        store names below its own.
    arch : str or None
        The architecture of a checkpoint that the user's own code builds.
    run : RunOptions
        Device and threads.
    """

    models: "Sequence[Path | Checkpoint]" = ()
    images: Path | Address | None = None
    arch: str | None = None
    run: RunOptions = DEFAULT_RUN

    def open(self, path: Path | str) -> Store:
        """Open a store, and attach what makes again what it does not hold; see `attach`."""
        store = open_store(path)
        attach(store, self)
        return store


def explain_again(
    store: Store | Path | str,
    *,
    model: "Path | str | Checkpoint | None" = None,
    images: Path | str | None = None,
    arch: str | None = None,
    device: Device = "auto",
    workers: int | None = None,
) -> Store:
    """Have a store explain galaxies again whose maps it does not hold.

    The methods of the store and all figures then work as with a full store: ``store.cams(rows)``
    explains these galaxies, and ``store.cutouts(rows)`` reads their images. Nothing is read before
    it is needed. Each image is compared with the digest that the store recorded, the network with
    that of the file, and the logits with those of the build.

    A store that was built without features of the explained layer computes them, too: a full one
    from its own cutouts, so that it needs only the network.

    Parameters
    ----------
    store : Store, Path or str
        A store that was built with ``store="native"`` or ``store="statistics"``, or without
        ``[maps] features``. One that lacks nothing is returned as it is.
    model : Path, str or Checkpoint, optional
        The network that it was built with, or the folder of several. By default, it is looked for
        by its digest among the files in the folder of the store.
    images : Path or str, optional
        The folder that image paths are relative to, or an address such as
        ``"s3://bucket/cutouts"``. By default, the folder that it was at the time of the build, if
        that was below the folder of the store.
    arch : str, optional
        The architecture of a checkpoint that the user's own code builds, such as
        "python:package.module:function"; that code runs.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where the network runs; "auto" takes CUDA where there is one.
    workers : int, optional
        Number of threads; default one per processor.

    Returns
    -------
    Store
        The same store, or the one that was opened.

    Raises
    ------
    StoreError
        If the store cannot be read. Reading maps or cutouts raises it if an image is missing or
        has changed, or if logits differ from those of the store by more than rounding.
    CheckpointError
        Reading maps raises it if the network is missing, or is another one.

    Notes
    -----
    On the machine of the build, with the same version of PyTorch, the maps of a store of statistics
    are those of a full store bit for bit. Elsewhere they may differ by rounding; the log says so.
    """
    opened = store if isinstance(store, Store) else open_store(store)
    found = Path(model) if isinstance(model, str) else model
    sources = Sources(
        () if found is None else (found,),
        None if images is None else find_folder(images, "images"),
        arch,
        RunOptions(device=device, n_workers=workers),
    )
    attach(opened, sources)
    return opened


def attach(store: Store, sources: Sources, *, with_maps: bool = False) -> None:
    """Attach to a store what makes again what it does not hold; nothing if that is nothing.

    Parameters
    ----------
    store : Store
        An open store.
    sources : Sources
        From what it is made.
    with_maps : bool, default False
        Whether maps are made again even if the store holds them, rounded to 8 bits.
    """
    names: tuple[str, ...] = ()
    if store.form != "full":
        are_made = with_maps or store.form == "statistics"
        names = (*_CUTOUTS, *_MAPS) if are_made else _CUTOUTS
    if not store.has_features and store.method not in PIXEL_METHODS:
        names = (*names, *_FEATURES)
    if names:
        store.attach(_Supply(store, sources, names))


class _Supply:
    """See `galfig.store.supply.Supply`."""

    def __init__(self, store: Store, sources: Sources, names: Collection[str]) -> None:
        self.names = names
        self._store = store
        self._sources = sources
        self._announced: NDArray[np.intp] = np.empty(0, np.intp)

    @cached_property
    def _images(self) -> "Images | StoredImages":
        if self._store.form == "full":
            return StoredImages(self._store)
        return Images(self._store, self._sources.images)

    @cached_property
    def _maps(self) -> "Maps":
        # torch takes seconds to import, and figures of numbers do without.
        from galfig.pipeline.again import Maps
        from galfig.pipeline.origin import find_network

        sources = self._sources
        checkpoint = find_network(self._store, sources.models, sources.arch)
        return Maps(self._store, checkpoint, self._images, sources.run)

    def announce(self, rows: NDArray[np.intp]) -> None:
        """Take notice of the galaxies that will be read."""
        self._announced = rows

    def read(self, name: str, row: int) -> NDArray[Any]:
        """Return a cutout, maps or features of one galaxy."""
        if name == "cutouts":
            return self._images.read(row)
        if name == "features":
            try:
                maps = self._maps
            except CheckpointError as exc:
                raise CheckpointError(
                    f"{exc}; or build the store with `features=True`, since it holds no features"
                ) from exc
            return maps.read_features(row, self._announced)
        return self._maps.read(name, row, self._announced)
