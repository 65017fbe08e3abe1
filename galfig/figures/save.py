"""Saving figures: reproducible bytes, with the provenance inside the file."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import galfig
from galfig.config import StyleSettings
from galfig.errors import OutputError
from galfig.figures.captions import LATEX, PLAIN
from galfig.figures.drawing import Drawing, DrawOptions
from galfig.figures.pdf import PagewisePdf
from galfig.figures.style import keep_layout, paper_style
from galfig.runtime.documents import dump_json, load_json
from galfig.runtime.files import ErrorOrReplace, check_output, replace_file
from galfig.runtime.progress import track
from galfig.store.audits import Audit
from galfig.store.reader import Store
from galfig.store.selection import Query, Selection
from galfig.tables.columns import Table
from galfig.tables.formats import check_table, write_table

# With more galaxies, the metadata would be larger than the figure.
MAX_LISTED = 10_000
FORMATS = (".pdf", ".png", ".svg")
# How the metadata of a PDF, PNG and SVG begin to name galfig, and within how many bytes of the
# beginning or the end of the file.
_MARKS = (b"/Creator (galfig ", b"Software\x00galfig ", b"<dc:title>galfig ")
_METADATA = 1 << 20


def write_drawing(
    drawing: Drawing,
    provenance: Mapping[str, Any],
    path: Path,
    *,
    data: Path | None = None,
    if_exists: ErrorOrReplace = "error",
) -> list[Path]:
    """Write a figure and, beside it, its caption (.tex, .txt) and alternative text (.alt.txt).

    A caption file that already has the same content is kept, so that a figure can be written as
    PDF and then as PNG. Another file in its place is replaced only if a figure of galfig is beside
    it, whose caption it can be: ``paper.pdf`` may be drawn beside the ``paper.tex`` of an author.

    Parameters
    ----------
    drawing : Drawing
        The figure.
    provenance : mapping
        What the figure was made from, for its metadata; see `describe_provenance`.
    path : Path
        Figure to write: .pdf, .png or .svg.
    data : Path, optional
        Table to write with the numbers that the figure shows, in a format of
        `galfig.tables.formats`.
    if_exists : {"error", "replace"}, default "error"
        What to do if a file already exists.

    Returns
    -------
    list of Path
        The figure, its captions and alternative text, and the table.

    Raises
    ------
    OutputError
        If a file has another suffix, already exists, or cannot be written.
    """
    check_format(path, drawing.n_pages)
    check_table(data)
    tables = [] if data is None else [data]
    for file in (path, *tables):
        check_output(file, if_exists=if_exists)
    captions = describe_beside(drawing, path)
    drawn = [path.with_suffix(suffix) for suffix in FORMATS]
    new = find_new_texts(captions, path, drawn, if_exists=if_exists)
    pages = drawing.pages
    if drawing.n_pages > 1:
        pages = track(pages, "drawing", drawing.n_pages, "pages")
    save_figure(
        pages,
        path,
        title=drawing.title,
        description=drawing.describe(PLAIN).strip(),
        provenance=provenance,
        style=drawing.style,
        if_exists=if_exists,
    )
    write_texts(new)
    for file in tables:
        write_data(file, drawing, provenance, if_exists=if_exists)
    return [path, *captions, *tables]


def write_data(
    path: Path,
    drawing: Drawing,
    provenance: Mapping[str, Any],
    *,
    if_exists: ErrorOrReplace = "error",
) -> None:
    """Write the numbers behind a figure, and in FITS its images, with provenance."""
    table = Table(drawing.title, drawing.tabulate(), provenance)
    write_table(path, table, images=drawing.images(), if_exists=if_exists)


def describe_beside(drawing: Drawing, path: Path) -> dict[Path, str]:
    """Return the texts that belong beside a figure: captions and alternative text, by file."""
    return {
        path.with_suffix(".tex"): drawing.describe(LATEX),
        path.with_suffix(".txt"): drawing.describe(PLAIN),
        path.with_suffix(".alt.txt"): f"{drawing.alt}\n",
    }


def find_new_texts(
    texts: Mapping[Path, str],
    path: Path,
    drawn: Iterable[Path],
    *,
    if_exists: ErrorOrReplace = "error",
) -> dict[Path, str]:
    """Find the texts beside a figure that must be written, and check that they may be.

    Parameters
    ----------
    texts : mapping of Path to str
        The texts, by file.
    path : Path
        The figure, for messages.
    drawn : iterable of Path
        Figures whose texts files in their place can be.
    if_exists : {"error", "replace"}, default "error"
        What to do if a file already exists that belongs to one of those figures.

    Returns
    -------
    dict of Path to str
        The texts whose files do not hold them already.

    Raises
    ------
    OutputError
        If a file exists and is an author's, or must not be replaced.
    """
    new = {file: words for file, words in texts.items() if not _holds(file, words)}
    is_ours = any(map(_is_drawn, drawn))
    for file in new:
        advice = f"the caption of {path.name} goes there; choose another `path`"
        if is_ours:
            advice += ', or use `if_exists="replace"` to replace both'
        check_output(file, if_exists=if_exists if is_ours else "error", advice=advice)
    return new


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write texts by file; `find_new_texts` has checked that they may be written."""
    for file, words in texts.items():
        with replace_file(file, if_exists="replace") as temporary:
            temporary.write_text(words, encoding="utf-8")


def save_figure(
    pages: Iterable[Figure],
    path: Path,
    *,
    title: str,
    description: str,
    provenance: Mapping[str, Any],
    style: StyleSettings | None = None,
    if_exists: ErrorOrReplace = "error",
) -> None:
    """Write a figure as PDF, PNG or SVG, by suffix, with its provenance in the metadata.

    Parameters
    ----------
    pages : iterable of Figure
        The pages; only a PDF may have more than one.
    path : Path
        The file, which appears only when it is complete.
    title, description : str
        Title and description for the metadata.
    provenance : mapping
        What the figure was made from. It is written as JSON, in the Keywords of a PDF, the text
        chunk Comment of a PNG, or the keywords of an SVG.
    style : StyleSettings, optional
        The style that it was drawn in.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Raises
    ------
    OutputError
        If the file has another suffix, already exists, or cannot be written.
    """
    check_format(path)
    record = dump_json(provenance)
    creator = f"galfig {galfig.__version__}"
    # A date would make the bytes of two runs differ.
    by_format: dict[str, dict[str, Any]] = {
        ".pdf": {
            "Title": title,
            "Subject": description,
            "Keywords": record,
            "Creator": creator,
            "CreationDate": None,
        },
        ".png": {
            "Title": title,
            "Description": description,
            "Comment": record,
            "Software": creator,
        },
        ".svg": {
            "Title": title,
            "Description": description,
            "Keywords": record,
            "Creator": creator,
            "Date": None,
        },
    }
    metadata = by_format[path.suffix.lower()]
    with paper_style(style), replace_file(path, if_exists=if_exists) as temporary:
        if path.suffix.lower() == ".pdf":
            with PagewisePdf(temporary, metadata) as pdf:
                for page in pages:
                    with keep_layout(page):
                        pdf.add_page(page)
        else:
            (page,) = pages
            with keep_layout(page):
                page.savefig(temporary, format=path.suffix.lower()[1:], metadata=metadata)


def _holds(path: Path, words: str) -> bool:
    """Return whether a file exists and has exactly this content."""
    return path.is_file() and path.read_bytes() == words.encode()


def _is_drawn(path: Path) -> bool:
    """Return whether a file is a figure of galfig, as its metadata say."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        ends = [file.read(_METADATA)]
        file.seek(max(0, path.stat().st_size - _METADATA))
        ends.append(file.read())
    return any(mark in end for mark in _MARKS for end in ends)


def describe_provenance(
    name: str, store: Store, selection: Selection | None, options: DrawOptions
) -> dict[str, Any]:
    """Describe what a figure was made from, for its metadata.

    Parameters
    ----------
    name : str
        Name of the figure.
    store : Store
        An open store.
    selection : Selection or None
        The galaxies of the figure; None if it shows none.
    options : DrawOptions
        The options of the figure.

    Returns
    -------
    dict
        Version, digests, options, settings, selection and identifiers, as JSON can hold them.
    """
    other = {} if options.other is None else {"other": _describe_store(options.other)}
    if options.audit is not None:
        other["audit"] = _describe_audit(options.audit)
    shown = {"settings": load_json(store.attrs["config"])}
    if selection is not None:
        shown = {**_describe_choice(store, selection), "objid": _list_galaxies(store, selection)}
    return {
        "figure": name,
        "galfig_version": galfig.__version__,
        "store": _describe_store(store),
        **other,
        "options": {
            "width": options.width,
            "unit": options.unit,
            **({"classes": list(options.classes)} if options.classes else {}),
            **{
                key: value
                for key, value in (("column", options.column), ("statistic", options.statistic))
                if value is not None
            },
            **({"map": options.map} if options.map else {}),
            **({"cutouts": True} if options.cutouts else {}),
            **({"projection": options.projection} if options.projection else {}),
            **_describe_style(options),
        },
        **shown,
    }


def describe_source(store: Store, selection: Selection | None = None) -> dict[str, Any]:
    """Describe which store, and which of its galaxies, a file is made from, for its metadata.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection, optional
        How the galaxies were selected, if that is known.

    Returns
    -------
    dict
        Version, digests, settings and selection, as JSON can hold them; without identifiers.
    """
    return {
        "galfig_version": galfig.__version__,
        "store": _describe_store(store),
        **_describe_choice(store, selection),
    }


def _describe_choice(store: Store, selection: Selection | None) -> dict[str, Any]:
    chosen = {}
    if selection is not None:
        query = _describe_query(selection.query)
        chosen["selection"] = {"n_candidates": selection.n_candidates, **query}
    # Galaxies that are named are the same, from whichever store they are read.
    is_part = store.is_subset and (selection is None or not selection.query.objids)
    part = {"subset": {"n": len(store), "of": store.whole.n_galaxies}} if is_part else {}
    return {"settings": load_json(store.attrs["config"]), **chosen, **part}


def _describe_query(query: Query) -> dict[str, Any]:
    """Return the conditions of a selection; those that are newer only where they are given."""
    asked = asdict(query)
    return {key: value for key, value in asked.items() if key != "like" or value is not None}


def _list_galaxies(store: Store, selection: Selection) -> Any:
    """Return the identifiers of galaxies; of very many, their number and a digest of them.

    Those of all galaxies can be read from the store, and others be selected again.
    """
    n = len(selection.indices)
    if n == store.whole.n_galaxies:
        return "all"
    objids = store.objids(selection.indices).tolist()
    if n <= MAX_LISTED:
        return objids
    return {"n": n, "sha256": hashlib.sha256("\n".join(objids).encode()).hexdigest()}


def describe_audit_provenance(name: str, audit: Audit, options: DrawOptions) -> dict[str, Any]:
    """Describe what a figure of an audit was made from, for its metadata.

    Parameters
    ----------
    name : str
        Name of the figure.
    audit : Audit
        The audit.
    options : DrawOptions
        The options of the figure.

    Returns
    -------
    dict
        Version, digests and options, as JSON can hold them.
    """
    return {
        "figure": name,
        "galfig_version": galfig.__version__,
        "audit": _describe_audit(audit),
        "options": {"width": options.width, **_describe_style(options)},
    }


def _describe_style(options: DrawOptions) -> dict[str, Any]:
    """Return the style for the metadata, if it is not the default; of a file, its name alone."""
    style = options.style.model_dump(mode="json", exclude_defaults=True)
    if "sheet" in style:
        style["sheet"] = Path(style["sheet"]).name
    return {"style": style} if style else {}


def _describe_audit(audit: Audit) -> dict[str, Any]:
    record = audit.record
    return {
        "audit_digest": record.audit_digest,
        "galfig_version": record.galfig_version,
        "checkpoints": list(record.checkpoints),
        "plan_digest": record.store.plan_digest,
        "n": len(audit),
        "seed": record.seed,
    }


def _describe_store(store: Store) -> dict[str, Any]:
    keys = ("catalog_sha256", "checkpoint_sha256", "galfig_version", "simulated")
    return {"plan_digest": store.whole_digest, **{key: store.attrs[key] for key in keys}}


def check_format(path: Path, n_pages: int = 1) -> None:
    """Raise OutputError if figures with so many pages cannot be written with this suffix."""
    formats = FORMATS if n_pages == 1 else FORMATS[:1]
    if path.suffix.lower() not in formats:
        pages = "" if n_pages == 1 else f" for {n_pages} pages"
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected {', '.join(formats)}{pages}")
