"""Export: the table and the maps of chosen galaxies, as files that other programs open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galfig.errors import OutputError, SelectionError
from galfig.export.galaxies import tabulate_store
from galfig.figures.cubes import Sky, iter_cubes
from galfig.figures.save import describe_source
from galfig.pipeline.addresses import describe_root
from galfig.runtime.files import ErrorOrReplace, check_apart, check_output, replace_file
from galfig.runtime.messages import quote, shorten, suggest
from galfig.runtime.progress import track
from galfig.sky import match_sky_columns
from galfig.store.reader import Store, open_store
from galfig.store.selection import Query, Rows, RowsLike, find_positions, select_galaxies
from galfig.store.subset import write_subset
from galfig.tables.columns import Table
from galfig.tables.formats import check_table, find_format, write_table

# More extensions than this make a file of FITS slow to open.
MAX_CUBES = 5000


def export_table(
    store: Store | Path | str,
    path: Path | str,
    rows: RowsLike | None = None,
    *,
    statistics: bool = True,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Write what a store holds of galaxies as a table.

    Parameters
    ----------
    store : Store, Path or str
        The store.
    path : Path or str
        The file, in the format of its suffix: .fits, .csv, .ecsv, .vot, .xml, .parquet or .mrt.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies, in this order; by default, all. See `Store`.
    statistics : bool, default True
        Whether to measure their maps, which reads all of them.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Returns
    -------
    Path
        The file. Each row is a galaxy: ``objid`` as text, the columns of the catalog, split, true
        and predicted class, probabilities, loss, statistics of the maps and, of an ensemble,
        standard deviations over its networks.

    Raises
    ------
    OutputError
        If the suffix is another one, or the file exists or cannot be written.
    SelectionError
        If the store does not hold a galaxy, or none is chosen.
    StoreError
        If the store is closed or damaged.
    """
    path = Path(path)
    check_table(path)
    with _opened(store) as source:
        check_apart(path, [source.path])
        check_output(path, if_exists=if_exists)
        positions = _choose(source, rows)
        columns = tabulate_store(source, positions, with_statistics=statistics)
        table = Table("Galaxies of a store of maps", columns, _describe(source, rows), "GALAXIES")
        write_table(path, table, if_exists=if_exists)
    return path


def export_maps(
    store: Store | Path | str,
    path: Path | str,
    rows: RowsLike | None = None,
    *,
    ra: str | None = None,
    dec: str | None = None,
    north_up: bool = False,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Write the cutouts and maps of galaxies as FITS, with a table of them in front.

    Parameters
    ----------
    store : Store, Path or str
        The store.
    path : Path or str
        The file: .fits or .fit.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies, in this order; by default, all, up to `MAX_CUBES`. See `Store`.
    ra, dec : str, optional
        Columns of the catalog with the position of each galaxy [deg]; by default, those that are
        called so, or as VizieR does; see `galfig.sky.match_sky_columns`.
    north_up : bool, default False
        Whether images have north up and east to the left where the store does not know how they lie
        on the sky. With an orientation, images have sky coordinates, with the position of the
        galaxy in their centre; otherwise those of offsets from their centre.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Returns
    -------
    Path
        The file; see `galfig.figures.cubes.iter_cubes` for its extensions.

    Raises
    ------
    OutputError
        If the suffix is another one, or the file exists or cannot be written.
    SelectionError
        If the store does not hold a galaxy, none or too many are chosen, or there is no such
        column of positions.
    StoreError
        If the store is closed or damaged.
    """
    path = Path(path)
    check_maps(path)
    with _opened(store) as source:
        check_apart(path, [source.path])
        check_output(path, if_exists=if_exists)
        positions = _choose(source, rows)
        if len(positions) > MAX_CUBES:
            raise SelectionError(
                f"{source.path}: {len(positions)} galaxies, expected at most {MAX_CUBES} in a file "
                "of images, of which each has several; choose fewer with `n`"
            )
        sky = find_sky(source, ra, dec, north_up=north_up)
        columns = tabulate_store(source, positions)
        table = Table("Cutouts and maps", columns, _describe(source, rows), "GALAXIES")
        source.announce(positions)
        shown = track(positions.tolist(), "writing maps", len(positions), "galaxies")
        write_table(path, table, images=iter_cubes(source, shown, sky), if_exists=if_exists)
    return path


def check_maps(path: Path) -> None:
    """Raise OutputError if maps cannot be written under a name, which its suffix tells."""
    if find_format(path) != ".fits":
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected .fits for images")


def subset(
    store: Store | Path | str,
    path: Path | str,
    rows: RowsLike | None = None,
    *,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Write a small store with some galaxies of another one, from which figures are drawn again.

    A figure of galaxies that are named has the same bytes from both stores. The small one records
    what captions say of all galaxies, such as the accuracy of the network, and of how many
    galaxies it is a subset, which other captions, `galfig.store.summary.describe` and
    ``galfig info`` say. It has checksums of its own.

    Parameters
    ----------
    store : Store, Path or str
        The store; a subset of a subset is one of the whole store.
    path : Path or str
        The file to write: .h5 or .hdf5.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; by default, all. See `Store`. The file holds each once, in the order of the
        store, and records this one.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the suffix is another one, the path is that of the store, or the file exists or cannot
        be written.
    SelectionError
        If the store does not hold a galaxy, or none is chosen.
    StoreError
        If the store cannot be read, or is damaged.
    """
    path = Path(path)
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected .h5 for a store")
    with _opened(store) as source:
        check_apart(path, [source.path])
        check_output(path, if_exists=if_exists)
        positions = _choose(source, rows)
        with replace_file(path, if_exists=if_exists) as temporary:
            write_subset(temporary, source, positions, _describe_images(source, path))
    return path


def _describe_images(store: Store, path: Path) -> dict[str, str | None]:
    """Return where the images of a store that is not full are, from the folder of another one."""
    named = store.record.images_dir
    if named is None:
        return {}
    return {"images_dir": describe_root(store.path.parent / named, path)}


@contextmanager
def _opened(store: Store | Path | str) -> Iterator[Store]:
    """Give a store that is open already, or open it for the time being."""
    if isinstance(store, Store):
        yield store
        return
    with open_store(store) as opened:
        yield opened


def select_rows(store: Store, query: Query) -> Rows:
    """Select galaxies as the command line does: where no order is asked for, in that of the store.

    Parameters
    ----------
    store : Store
        An open store.
    query : Query
        The request.

    Returns
    -------
    Rows
        Positions of galaxies.

    Raises
    ------
    SelectionError
        As `galfig.store.selection.select_galaxies`.
    """
    selection = select_galaxies(store, query)
    if query.sort == "random" and not query.objids:
        selection = replace(selection, indices=np.sort(selection.indices))
    return Rows.of(selection, store.record.plan_digest)


def find_sky(
    store: Store, ra: str | None = None, dec: str | None = None, *, north_up: bool = False
) -> Sky | None:
    """Find the positions of the galaxies of a store; see `export_maps`.

    Returns
    -------
    Sky or None
        None if the catalog has no positions, and none were asked for.
    """
    usual = dict(zip(("ra", "dec"), match_sky_columns(store.columns) or (), strict=False))
    found: dict[str, NDArray[np.float64]] = {}
    for parameter, asked, limits in (("ra", ra, (-360, 360)), ("dec", dec, (-90, 90))):
        name = asked or usual.get(parameter, parameter)
        if name not in store.columns:
            if ra is None and dec is None and not north_up:
                return None
            hint = suggest(name, store.columns, f"there are {shorten([*store.columns])}")
            raise SelectionError(
                f"{store.path}: `{parameter}` {quote(name)}: no column of the catalog, expected "
                f"one with a position [deg]; {hint}"
            )
        values = _read_degrees(store, name, limits)
        if values is None:
            if asked is None and not north_up:
                return None
            raise SelectionError(
                f"{store.path}: `{parameter}` {quote(name)}: expected numbers [deg] from "
                f"{limits[0]} to {limits[1]}"
            )
        found[parameter] = values
    return Sky(found["ra"], found["dec"], north_up)


def _read_degrees(
    store: Store, name: str, limits: tuple[float, float]
) -> NDArray[np.float64] | None:
    """Return a column of angles [deg]; None if it holds anything else, such as hours as text."""
    column, unit = store.columns[name], store.describe_column(name).unit
    if column.dtype.kind not in "iuf" or unit not in ("", "deg", "degree", "degrees"):
        return None
    values = column.to_numpy(np.float64, na_value=np.nan)
    known = values[np.isfinite(values)]
    is_within = bool(len(known)) and limits[0] <= known.min() and known.max() <= limits[1]
    return values if is_within else None


def _choose(store: Store, rows: RowsLike | None) -> NDArray[np.intp]:
    """Return the positions of galaxies; by default, all."""
    if rows is None:
        return np.arange(len(store))
    found = np.atleast_1d(np.asarray(find_positions(store, rows), np.intp))
    if not len(found):
        raise SelectionError(f"{store.path}: `rows` hold no galaxy, expected at least one")
    return found


def _describe(store: Store, rows: RowsLike | None) -> dict[str, Any]:
    """Describe what a file is made from, as JSON can hold it."""
    return describe_source(store, rows.selection if isinstance(rows, Rows) else None)
