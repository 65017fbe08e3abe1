"""Making a gallery: a folder with a page, the data of its galaxies and sheets of thumbnails."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image, features

from galfig.config import StyleSettings, make_style
from galfig.errors import FigureError, OutputError
from galfig.figures.captions import name_classes
from galfig.figures.choice import choose_maps, find_classes
from galfig.figures.composing import PLAIN_LOOK, SIGNED_LOOK, compose_scale
from galfig.figures.drawing import DrawOptions
from galfig.figures.methods import find_words
from galfig.figures.registry import Opener, check_colormap
from galfig.figures.save import describe_provenance
from galfig.gallery.data import iter_catalog, make_columns, write_script
from galfig.gallery.sprites import (
    CUTOUT,
    EVIDENCE,
    N_ACROSS,
    N_SHEET,
    Sheets,
    choose_shown,
    has_evidence,
    write_sheets,
)
from galfig.gallery.words import describe_gallery, describe_maps_briefly
from galfig.runtime.files import ErrorOrReplace, check_folder, replace_folder
from galfig.runtime.messages import make_printable
from galfig.sky import match_sky_columns
from galfig.store.reader import Store, open_store
from galfig.store.selection import Query, Rows, RowsLike, Selection, find_positions, select_galaxies

# Largest side of a thumbnail, which is that of the cutout in most stores [pixel].
THUMBNAIL, MIN_THUMBNAIL, MAX_THUMBNAIL = 96, 16, 512
# Quality of the compression. SDSS galaxies of 96 pixels then take less than 3 kB with two classes.
QUALITY = 70
# More galaxies would make the page higher than browsers can scroll.
MAX_GALAXIES = 500_000
# What a gallery consists of beside its page. A folder with anything else is never replaced.
_SCALES = ("scale.png", "signed-scale.png")
_FOLDERS = {"data": r"core\.js|catalog-\d+\.js", "sheets": r"\d+-(cutout|evidence|map-\d+)\.webp"}
_MARK = "galfig gallery"
# How the script with the description of a gallery begins; others may have a file of that name.
_CORE = "data/core.js"
_BEGINNING = f'galfigGallery.open({{"kind": "{_MARK}"'.encode()


def write_gallery(
    path: Path,
    query: Query,
    out: Path,
    *,
    classes: Sequence[str] = (),
    thumbnail: int = THUMBNAIL,
    quality: int = QUALITY,
    style: StyleSettings | None = None,
    if_exists: ErrorOrReplace = "error",
    opener: Opener = open_store,
) -> Path:
    """Make a gallery of the galaxies of a store that a query asks for; see `make_gallery`.

    Parameters
    ----------
    path : Path
        The store.
    query : Query
        The galaxies.
    out, classes, thumbnail, quality, style, if_exists
        See `make_gallery`.
    opener : callable, optional
        Opens the store; `galfig.pipeline.supply.Sources.open` also makes again what it does not
        hold.

    Returns
    -------
    Path
        The page.
    """
    check_folder(out, find_foreign=find_foreign, if_exists=if_exists)
    with opener(path) as store:
        return _make(
            store,
            select_galaxies(store, query),
            out,
            classes=classes,
            thumbnail=thumbnail,
            quality=quality,
            style=style or StyleSettings(),
            if_exists=if_exists,
        )


def make_gallery(
    store: Store | Path | str,
    out: Path | str,
    rows: RowsLike | None = None,
    *,
    classes: Sequence[str] = (),
    thumbnail: int = THUMBNAIL,
    quality: int = QUALITY,
    style: StyleSettings | Mapping[str, Any] | str | None = None,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Make a page to browse galaxies and their maps, which needs neither a server nor a network.

    Parameters
    ----------
    store : Store, Path or str
        A store, open or not. One that was built without maps or cutouts is opened with
        `galfig.explain_again`.
    out : Path or str
        Folder to write.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies, in the order in which the page shows them first; by default, all that did not
        train the network, in a random order.
    classes : sequence of str, optional
        Classes whose maps are shown. By default, all of up to four; of more, the true and the
        predicted class.
    thumbnail : int, default 96
        Largest side of a thumbnail [pixel]; cutouts are never enlarged.
    quality : int, default 70
        Quality of the compression of the thumbnails (WebP), from 1 to 100.
    style : StyleSettings, mapping or str, optional
        Of how figures look, the colour map alone matters here.
    if_exists : {"error", "replace"}, default "error"
        What to do if the folder already exists.

    Returns
    -------
    Path
        The page, ``index.html`` in the folder.

    Raises
    ------
    FigureError
        If a class or the colour map is unknown, a number is out of range, ``rows`` is empty, or
        there are more than 500 000 galaxies.
    SelectionError
        If ``rows`` belongs to another store, or contains an identifier that this one does not hold.
    StoreError
        If the store cannot be read, or holds no maps or cutouts and was not opened with
        `galfig.explain_again`.
    OutputError
        If the folder exists and must not be replaced, holds files that are not of a gallery, or
        cannot be written; or if Pillow cannot write WebP.
    """
    opened = store if isinstance(store, Store) else open_store(store)
    if rows is None:
        selection = select_galaxies(opened, Query(n=None))
    elif isinstance(rows, Rows) and rows.selection is not None:
        find_positions(opened, rows)
        selection = rows.selection
    else:
        selection = _list_galaxies(opened, rows)
    return _make(
        opened,
        selection,
        Path(out),
        classes=classes,
        thumbnail=thumbnail,
        quality=quality,
        style=make_style(style),
        if_exists=if_exists,
    )


def find_foreign(folder: Path) -> str:
    """Return the name of something in a folder that is not of a gallery; "" if there is nothing.

    Parameters
    ----------
    folder : Path
        A folder that holds something.

    Returns
    -------
    str
    """
    files = {*(file.name for file in _iter_page()), *_SCALES}
    foreign, names = [], sorted(entry.name for entry in folder.iterdir())
    for name in names:
        is_folder = name in _FOLDERS
        if not (is_folder or name in files) or not _is_plain(folder / name, is_folder):
            foreign.append(name)
        elif is_folder:
            inner = sorted((folder / name).iterdir())
            foreign += [
                f"{name}/{entry.name}"
                for entry in inner
                if not re.fullmatch(_FOLDERS[name], entry.name) or not _is_plain(entry, False)
            ]
    if foreign or not names:
        return (foreign or [""])[0]
    if "index.html" not in names or not (folder / _CORE).is_file():
        return names[0]
    with (folder / _CORE).open("rb") as file:
        return "" if file.read(len(_BEGINNING)) == _BEGINNING else _CORE


def _is_plain(path: Path, is_folder: bool) -> bool:
    """Return whether a path is a folder or a regular file, and no link to one."""
    return not path.is_symlink() and (path.is_dir() if is_folder else path.is_file())


def _list_galaxies(store: Store, rows: RowsLike) -> Selection:
    import numpy as np

    indices = np.atleast_1d(np.asarray(find_positions(store, rows), np.intp))
    if not len(indices):
        raise FigureError(f"{store.path}: `rows` hold no galaxy, expected at least one")
    return Selection(indices, len(indices), Query(n=None, objids=tuple(store.objids(indices))))


def _make(
    store: Store,
    selection: Selection,
    out: Path,
    *,
    classes: Sequence[str],
    thumbnail: int,
    quality: int,
    style: StyleSettings,
    if_exists: ErrorOrReplace,
) -> Path:
    """Make the gallery of a selection of galaxies."""
    _check(store, selection, thumbnail, quality, style)
    chosen = find_classes(store, classes)
    rows = selection.indices
    n_maps = len(choose_maps(store, int(rows[0]), chosen))
    maps = tuple(f"map-{slot}" for slot in range(n_maps))
    slots = (CUTOUT, *maps, *((EVIDENCE,) if has_evidence(store) else ()))
    side = min(thumbnail, store.record.cutout_size)
    sheets = Sheets(side, slots, quality, PLAIN_LOOK._replace(cmap=style.cmap))
    with replace_folder(out, find_foreign=find_foreign, if_exists=if_exists) as folder:
        for name in _FOLDERS:
            (folder / name).mkdir()
        shown = choose_shown(store, rows, chosen)
        measured = write_sheets(store, rows, shown, sheets, folder / "sheets")
        columns = make_columns(store, rows, shown, measured)
        catalog = []
        for number, column in enumerate(iter_catalog(store, rows)):
            file = f"data/catalog-{number:03d}.js"
            write_script(folder / file, "galfigGallery.receive", {column.id: column.encode()})
            catalog.append({**column.describe(), "file": file})
        described = {
            **_describe(store, selection, sheets, style, classes),
            "columns": [column.describe() for column in columns],
            "catalog": catalog,
            "legend": describe_gallery(store, selection, chosen, sheets, measured, style),
        }
        values = {column.id: column.encode() for column in columns}
        write_script(folder / "data" / "core.js", "galfigGallery.open", described, values)
        _write_page(folder, sheets)
    return out / "index.html"


def _check(
    store: Store, selection: Selection, thumbnail: int, quality: int, style: StyleSettings
) -> None:
    """Raise FigureError or OutputError for what cannot be made."""
    if not MIN_THUMBNAIL <= thumbnail <= MAX_THUMBNAIL:
        raise FigureError(
            f"`thumbnail` {thumbnail}: expected {MIN_THUMBNAIL} to {MAX_THUMBNAIL} pixels"
        )
    if not 1 <= quality <= 100:
        raise FigureError(f"`quality` {quality}: expected 1 to 100")
    if style.cmap is not None:
        check_colormap(style.cmap)
    n = len(selection.indices)
    if n > MAX_GALAXIES:
        raise FigureError(
            f"{store.path}: {n} galaxies, expected at most {MAX_GALAXIES} on one page; choose "
            "fewer with `n` or `where`"
        )
    if not features.check("webp"):
        raise OutputError("Pillow cannot write WebP here; install one that can, such as PyPI's")


def _describe(
    store: Store,
    selection: Selection,
    sheets: Sheets,
    style: StyleSettings,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return what the page must know of the store, the galaxies and the sheets."""
    options = DrawOptions(style=style, classes=tuple(classes))
    provenance = describe_provenance("gallery", store, selection, options)
    # The columns hold them.
    del provenance["objid"]
    sky = None if store.record.simulated else match_sky_columns(store.columns)
    return {
        "kind": _MARK,
        "store": make_printable(store.path.name),
        "digest": store.record.plan_digest,
        "n": len(selection.indices),
        "sort": selection.query.sort if not selection.query.objids else "given",
        "title": describe_maps_briefly(store),
        "classes": [make_printable(name) for name in name_classes(store)],
        "unit": find_words(store.record).unit,
        "evidence": _name_evidence(store),
        "isSimulated": store.record.simulated,
        "sky": None if sky is None else [f"catalog.{name}" for name in sky],
        "sheets": {
            **{"side": sheets.side, "pitch": sheets.pitch},
            **{"across": N_ACROSS, "each": N_SHEET, "slots": list(sheets.slots)},
        },
        "provenance": {**provenance, "options": dataclasses.asdict(sheets)},
    }


def _name_evidence(store: Store) -> str:
    """Name what the signed map speaks for."""
    names = name_classes(store)
    return make_printable(f"evidence for {names[1] if len(names) == 2 else 'the predicted class'}")


def _write_page(folder: Path, sheets: Sheets) -> None:
    """Write the page itself, and the colours of its scales."""
    for file in _iter_page():
        (folder / file.name).write_bytes(file.read_bytes())
    for look, name in zip((sheets.look, SIGNED_LOOK), _SCALES, strict=True):
        Image.fromarray(compose_scale(look)).save(folder / name)


def _iter_page() -> list[Any]:
    """List the files of the page, which are the same for all galleries."""
    files = (resources.files("galfig.gallery") / "page").iterdir()
    return sorted(
        (file for file in files if file.name.endswith((".html", ".css", ".js"))),
        key=lambda file: file.name,
    )
