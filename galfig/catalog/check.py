"""Check: what galfig understands of a catalog, by the very code that reads it for a job."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.columns import EMPTY_CELLS, read_numbers
from galfig.catalog.findings import (
    AbsentColumn,
    CatalogCheck,
    ClassFacts,
    ColumnFacts,
    Histogram,
    ImageFacts,
    Kind,
    LeftOut,
    PositionFacts,
    RedshiftFacts,
)
from galfig.catalog.formats import FEATHER, FITS, HDF5, PARQUET, VOTABLE
from galfig.catalog.frames import choose_evenly, report_frames, survey_frames
from galfig.catalog.galaxies import (
    MAX_REDSHIFT,
    MIN_REDSHIFT,
    SPLITS,
    Galaxies,
    Reading,
    assign_classes,
    find_alike,
    load_galaxies,
)
from galfig.catalog.paths import parse_templates
from galfig.catalog.sample import name_catalog
from galfig.catalog.sets import check_channels, check_sets, check_split, count_classes
from galfig.config import CatalogSettings, Settings
from galfig.errors import CatalogError, ConfigError, CutoutError, GalfigError
from galfig.images.arrays import Element
from galfig.images.cutouts import choose_decoding, iter_cutouts
from galfig.images.survey import Frame
from galfig.metrics import describe_few
from galfig.runtime.messages import find_near, one_line, quote, require_choice
from galfig.runtime.options import Split
from galfig.runtime.progress import track
from galfig.sky import match_sky_columns

logger = logging.getLogger(__name__)

Decode = int | Literal["all"]
# Examples of cells of a column, of images that are absent, and of galaxies for one reason.
N_EXAMPLES = 3
# Different cells of a column of text that may be classes, at most.
MAX_WORDS = 20
# What other catalogs call a column, in lower case and without underscores.
_SYNONYMS = {
    "[catalog] id": (
        *("objid", "id", "objectid", "sourceid", "targetid", "specobjid", "galaxyid", "name"),
        *("iauname", "dr7objid", "bestobjid", "nsaid", "galaxy"),
    ),
    "[catalog] redshift": ("z", "redshift", "zspec", "specz", "zsp", "zbest", "zphot", "photoz"),
}
# Bars of a histogram: at least and at most, and into how many a step between edges is divided.
_MIN_BARS, _MAX_BARS = 10, 24
_DIVISORS = (1, 2, 4, 5, 10, 20)
# What differs between galaxies that are left out for one kind of reason, and what is put in place.
_DIFFERENCES = (
    (re.compile(r"^no image .+; .+ is there$"), "no image, but one with another suffix"),
    (re.compile(r"^no images? .+$"), "no image"),
    (re.compile(r"^\d+ images .+, expected one: .+$"), "several images, expected one"),
    (re.compile(r"^.+ (?P<end>leads out of the folder)"), r"a path \g<end>"),
    (re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"(?:\.\.\.)?"""), "…"),
    (re.compile(r"\brow \d+(?: of (?!in every).+?)?(?= in every column$|$)"), "another row"),
    (re.compile(r" = \S+ (?=outside )"), " "),
    (re.compile(r" = [^\s,]+(?=, (?:below|expected) )"), " = …"),
    (re.compile(r"value, \S+ is there"), "value, one is there"),
    (re.compile(r"\b\d+(?: × \d+)+|\b\d+ of \d+\b|^\d+(?= )"), "…"),
)
_SUFFIXES = {
    **dict.fromkeys(PARQUET, "Parquet"),
    **dict.fromkeys(FEATHER, "Arrow"),
    **dict.fromkeys(FITS, "FITS"),
    **dict.fromkeys(VOTABLE, "VOTable"),
    **dict.fromkeys(HDF5, "HDF5"),
    ".csv": "CSV",
    ".ecsv": "ECSV",
    ".npy": "an array of numpy",
}


def check_catalog(
    path: Path | str | None = None,
    *,
    settings: Settings | Mapping[str, Any] | Path | str | None = None,
    images_dir: Path | str | None = None,
    labelled: bool = True,
    split: Split | None = None,
    decode: Decode = 0,
) -> CatalogCheck:
    """Say what galfig understands of a catalog, before anything is built.

    The catalog is read by the very code with which `galfig.build_maps` reads it, and its galaxies
    are checked as before a training. What concerns the network, the device and the output is not
    checked.

    Parameters
    ----------
    path, settings, images_dir
        As of `galfig.load_catalog`.
    labelled : bool, default True
        False if a network is trained already: then neither classes nor splits are needed.
    split : {"valid", "train", "test", "all"}, optional
        Galaxies to explain, as of `galfig.build_maps`. By default the validation set, or all
        without labels.
    decode : int or "all", default 0
        Number of images to decode, evenly over the galaxies that would train a network or be
        explained. Only "all" tells how many galaxies are left out because of their image.

    Returns
    -------
    CatalogCheck
        ``refusal`` says why `galfig.build_maps` would refuse the catalog; the rest is what was
        understood until then.

    Raises
    ------
    ConfigError
        If a setting or parameter is unknown or has the wrong type.
    CatalogError
        If nothing is named, and the built-in sample is not there.
    """
    return check_settings(
        name_catalog(path, settings, images_dir), labelled=labelled, split=split, decode=decode
    )


def check_settings(
    settings: Settings,
    *,
    labelled: bool = True,
    split: Split | None = None,
    decode: Decode = 0,
) -> CatalogCheck:
    """Say what galfig understands of the catalog that the settings name; see `check_catalog`."""
    if split is not None:
        require_choice("split", split, get_args(Split))
    if decode != "all" and (isinstance(decode, bool) or not isinstance(decode, int) or decode < 0):
        raise ConfigError(f"`decode` {decode!r}: expected a number of images, or 'all'")
    path = settings.catalog_path
    default = CatalogSettings.model_fields["path"].default
    if settings.catalog.path == default and not path.exists() and not settings.split.catalogs:
        raise CatalogError(
            f"{path}: no such file, expected a catalog; it is the built-in sample, which "
            "'galfig simulate' makes; name a catalog of your own to check it"
        )
    reading, trial = Reading(), _Trial()
    split = split or ("valid" if labelled else "all")
    logger.info("%s: reading the catalog, and looking for its images", path)
    try:
        _try(settings, reading, trial, labelled=labelled, split=split, decode=decode)
        refusal = ""
    except GalfigError as exc:
        refusal = one_line(exc)
    return _describe(settings, reading, trial, refusal, split=split, labelled=labelled)


class _Trial:
    """What became of the galaxies on the way to a training, as far as it went.

    Attributes
    ----------
    galaxies : Galaxies or None
        Those that were loaded.
    readable : Galaxies or None
        Those whose image was not found to be damaged.
    frames : list of (int, Frame)
        From the headers of some images.
    n_surveyed, n_decoded, n_damaged : int
        Headers that were read, images that were decoded, and those of them that could not be.
    """

    def __init__(self) -> None:
        self.galaxies: Galaxies | None = None
        self.readable: Galaxies | None = None
        self.frames: list[tuple[int, Frame]] = []
        self.n_surveyed = self.n_decoded = self.n_damaged = 0


def _try(
    settings: Settings,
    reading: Reading,
    trial: _Trial,
    *,
    labelled: bool,
    split: str,
    decode: Decode,
) -> None:
    """Do what a job does with its catalog before a network is trained; raise what it raises."""
    catalog = settings.catalog
    galaxies = load_galaxies(settings, labelled=labelled, reading=reading)
    trial.galaxies = trial.readable = galaxies
    is_used = galaxies.in_train | galaxies.in_valid if labelled else np.zeros(len(galaxies), bool)
    is_explained = _find_split(galaxies, split)
    shown = galaxies.take(is_used) if labelled else galaxies
    trial.n_surveyed = len(choose_evenly(len(shown)))
    trial.frames = survey_frames(shown, catalog)
    if labelled:
        report_frames(
            shown,
            catalog,
            settings.cutout_size,
            settings.catalog_path,
            is_chosen="cutout_size" in settings.training.model_fields_set,
            surveyed=trial.frames,
        )
    rows = np.flatnonzero(is_used | is_explained)
    if decode != "all":
        rows = rows[choose_evenly(len(rows), decode)]
    reasons, is_constant = _decode(galaxies, rows, settings)
    trial.n_decoded, trial.n_damaged = len(rows), len(reasons)
    trial.readable = galaxies.reject(reasons)
    if labelled:
        # A training sees no others, and its messages name the last that it left out.
        used = {row: reason for row, reason in reasons.items() if is_used[row]}
        check_sets(galaxies.reject(used), settings.split)
        check_channels(is_constant if decode == "all" else ())
    check_split(galaxies, split, settings.catalog_path)
    if not _find_split(trial.readable, split).any():
        row = int(np.argmax(is_explained))
        raise CatalogError(
            f"{settings.catalog_path}: none of {int(is_explained.sum())} galaxies could be "
            f"explained, first: {quote(galaxies.objid[row])} ({reasons[row]})"
        )


def _find_split(galaxies: Galaxies, split: str) -> NDArray[np.bool_]:
    """Return which galaxies would be explained, (N,)."""
    if split == "all":
        return np.ones(len(galaxies), dtype=bool)
    return np.asarray(galaxies.split == split, dtype=bool)


def _decode(
    galaxies: Galaxies, rows: NDArray[np.intp], settings: Settings
) -> tuple[dict[int, str], NDArray[np.bool_]]:
    """Decode the images of some galaxies.

    Returns why an image cannot be decoded, by position, and which channels are the same in every
    pixel of the training set, (n_channels,).
    """
    decoding = choose_decoding(settings.catalog, settings.n_channels)
    low, high = np.full(decoding.n_channels, 255), np.zeros(decoding.n_channels, int)
    paths = (galaxies.paths[row] for row in rows)
    reasons: dict[int, str] = {}
    decoded = iter_cutouts(paths, settings.cutout_size, decoding)
    tracked = track(decoded, "decoding images", len(rows), "images", leave=False)
    for row, cutout in zip(rows.tolist(), tracked, strict=True):
        if isinstance(cutout, CutoutError):
            reasons[row] = str(cutout)
        elif galaxies.split[row] == "train":
            low = np.minimum(low, cutout.min(axis=(0, 1)))
            high = np.maximum(high, cutout.max(axis=(0, 1)))
    return reasons, low == high


class _Classes(NamedTuple):
    """The class of each row, as far as it could be told."""

    counts: dict[str, int]
    value: NDArray[np.float64] | None


def _describe(
    settings: Settings,
    reading: Reading,
    trial: _Trial,
    refusal: str,
    *,
    split: str,
    labelled: bool,
) -> CatalogCheck:
    """Put together what was understood."""
    table = pd.DataFrame() if reading.table is None else reading.table
    path, readable = settings.catalog_path, trial.readable
    classes = _find_classes(settings, reading, table)
    rejected = _list_rejected(reading, readable)
    sky = _find_positions(table, path)
    doubts = [
        f"{quote(a)} and {quote(b)}: are these one class?" for a, b in find_alike([*classes.counts])
    ]
    if readable is not None and labelled:
        found = (count_classes(readable, mask) for mask in (readable.in_train, readable.in_valid))
        doubts += [f"few galaxies: {words}" for words in describe_few(*found)]
    if sky is not None and sky.doubt:
        doubts.append(sky.doubt)
    is_other = np.zeros(0, bool)
    if reading.label is not None and reading.rejected is not None and classes.counts:
        is_other = (reading.label < 0) & (reading.rejected == "")
    usable = [] if reading.objid is None else [name for name in reading.objid.tolist() if name]
    return CatalogCheck(
        path=str(path),
        format=_name_format(path),
        files={_name_file(file.path, file.table): n for file, n in reading.rows.items()},
        n_rows=len(table),
        columns=tuple(_describe_columns(table, settings, sky)),
        absent=tuple(_find_absent(table, settings, labelled=labelled)) if len(table) else (),
        class_column=settings.classes.column,
        classes=tuple(_describe_classes(classes.counts, settings, readable, reading, labelled)),
        histogram=_make_histogram(classes.value, settings),
        n_distinct=len(set(usable)),
        n_unusable=0 if reading.unusable is None else int(np.sum(reading.unusable != "")),
        images=_describe_images(settings, reading, trial),
        redshift=_describe_redshift(table, settings),
        positions=sky,
        left_out=tuple(_group(rejected)),
        n_left_out=len(rejected),
        n_other_classes=int(is_other.sum()),
        n_train=0 if readable is None or not labelled else _count_trained(readable),
        n_explained=0 if readable is None else int(_find_split(readable, split).sum()),
        split=split,
        doubts=tuple(doubts),
        refusal=refusal,
    )


def _count_trained(galaxies: Galaxies) -> int:
    return int(np.sum(galaxies.in_train | galaxies.in_valid))


def _name_file(path: Path, table: str | None) -> str:
    return path.name if table is None else f"{path.name}[{table}]"


def _name_format(path: Path) -> str:
    """Name the format of a file by its suffix; the content of a text may be any of many."""
    if path.is_dir():
        return "a folder of Parquet"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = ", packed by gzip" if suffixes[-1:] == [".gz"] else ""
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    return f"{_SUFFIXES.get(suffix[0], 'text') if suffix else 'no suffix'}{packed}"


def _describe_columns(
    table: pd.DataFrame, settings: Settings, sky: PositionFacts | None
) -> Iterable[ColumnFacts]:
    """Describe each column, and what it is taken for."""
    roles = _list_roles(settings, sky)
    units = table.attrs.get("units", {})
    descriptions = table.attrs.get("descriptions", {})
    for name in table.columns:
        yield _describe_column(
            table[name],
            str(name),
            unit=one_line(units.get(name, "")),
            description=one_line(descriptions.get(name, "")),
            roles=tuple(roles.get(str(name), ())),
        )


def _describe_column(
    series: pd.Series, name: str, *, unit: str, description: str, roles: tuple[str, ...]
) -> ColumnFacts:
    kind = _find_kind(series)
    cells = series.dropna()
    if kind == "text":
        cells = cells[~cells.isin(EMPTY_CELLS)]
    kind = kind if len(cells) else "empty"
    try:
        distinct = cells.unique()
    except TypeError:
        # Lists have no order and no hash.
        distinct = None
    low = high = None
    if kind in ("integer", "number"):
        finite = cells if kind == "integer" else cells[np.isfinite(cells.astype(np.float64))]
        if len(finite):
            low, high = finite.min().item(), finite.max().item()
    some = cells.head(N_EXAMPLES) if distinct is None else distinct[:N_EXAMPLES]
    return ColumnFacts(
        name=name,
        kind=kind,
        unit=unit,
        description=description,
        n_empty=len(series) - len(cells),
        n_distinct=None if distinct is None else len(distinct),
        low=low,
        high=high,
        first=tuple(quote(cell) if kind == "other" else one_line(cell)[:60] for cell in some),
        roles=roles,
    )


def _find_kind(series: pd.Series) -> Kind:
    kinds: dict[str, Kind] = {"i": "integer", "u": "integer", "f": "number", "b": "truth value"}
    if kind := kinds.get(series.dtype.kind):
        return kind
    is_text = isinstance(series.dtype, pd.StringDtype)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return _find_kind(series.cat.categories.to_series())
    if not is_text and series.dtype.kind == "O":
        is_text = pd.api.types.infer_dtype(series, skipna=True) in ("string", "empty", "bytes")
    return "text" if is_text else "other"


def _list_roles(settings: Settings, sky: PositionFacts | None) -> dict[str, list[str]]:
    """Return what each column is taken for, by its name."""
    catalog, classes = settings.catalog, settings.classes
    roles: dict[str, list[str]] = {}

    def note(column: object, role: str) -> None:
        if isinstance(column, str) and role not in roles.setdefault(column, []):
            roles[column].append(role)

    note(catalog.id, "identifier")
    for column in classes.columns or (classes.column,):
        how = "largest" if classes.columns else "binned" if classes.edges else "text"
        note(column, f"classes ({how})")
    for column in _list_image_columns(settings):
        note(column, "image path")
    note(catalog.redshift, "redshift")
    note(catalog.pixel_scale, "pixel scale")
    note(settings.split.column, "split")
    note("simulated", "marks simulations")
    if sky is not None:
        note(sky.ra, "right ascension")
        note(sky.dec, "declination")
    return roles


def _list_image_columns(settings: Settings) -> list[str]:
    """Return the columns that the templates of image paths name, if they are valid."""
    if settings.catalog.array is not None:
        return []
    try:
        templates = parse_templates(settings.catalog)
    except CatalogError:
        return []
    return [column for template in templates for column in template.columns]


def _find_absent(
    table: pd.DataFrame, settings: Settings, *, labelled: bool
) -> Iterable[AbsentColumn]:
    """Find the columns that the settings name and the table lacks."""
    catalog, classes = settings.catalog, settings.classes
    needed = [(catalog.id, "[catalog] id", True)]
    setting = "[classes] columns" if classes.columns else "[classes] column"
    needed += [(name, setting, labelled) for name in classes.columns or (classes.column,) if name]
    needed += [(name, "[catalog] images", True) for name in _list_image_columns(settings)]
    is_named = "redshift" in catalog.model_fields_set
    optional = [
        (catalog.redshift, "[catalog] redshift", is_named),
        (catalog.pixel_scale, "[catalog] pixel_scale", True),
        (settings.split.column, "[split] column", True),
    ]
    needed += [(name, where, is_so) for name, where, is_so in optional if isinstance(name, str)]
    columns = [str(name) for name in table.columns]
    seen: set[str] = set()
    for name, where, is_needed in needed:
        if name not in columns and name not in seen:
            seen.add(name)
            near = _find_likely(name, where, columns)
            if near is None and where == "[classes] column":
                near = _find_words(table, catalog.id)
            yield AbsentColumn(name, where, is_needed, near)


def _find_words(table: pd.DataFrame, id_column: str) -> str | None:
    """Return the first column of text with so few different cells that they may be classes."""
    for name in table.columns:
        if name != id_column and _find_kind(table[name]) == "text":
            n_words = table[name].replace(EMPTY_CELLS, None).nunique()
            if 2 <= n_words <= MAX_WORDS:
                return str(name)
    return None


def _find_likely(name: str, setting: str, columns: Sequence[str]) -> str | None:
    """Return the column that is probably meant: of a similar name, or one that others use."""
    if near := find_near(name, columns):
        return near
    plain = {column.lower().replace("_", "").lstrip("#"): column for column in reversed(columns)}
    return next((plain[word] for word in _SYNONYMS.get(setting, ()) if word in plain), None)


def _find_classes(settings: Settings, reading: Reading, table: pd.DataFrame) -> _Classes:
    """Return the classes that were read; those of the table, if it was refused before."""
    if reading.counts is not None:
        return _Classes(reading.counts, reading.value)
    classes = settings.classes
    needed = classes.columns or (classes.column,)
    if not len(table) or not all(name in table.columns for name in needed):
        return _Classes({}, None)
    try:
        names, value, _ = assign_classes(table, classes, settings.catalog_path)
    except CatalogError:
        return _Classes({}, None)
    found = Counter(names.tolist())
    order = classes.labels or classes.columns or sorted(set(found) - {""})
    return _Classes({name: found[name] for name in order}, value)


def _describe_classes(
    counts: Mapping[str, int],
    settings: Settings,
    galaxies: Galaxies | None,
    reading: Reading,
    labelled: bool,
) -> Iterable[ClassFacts]:
    if not counts:
        return
    classes = settings.classes
    edges = dict(
        zip(
            classes.labels or (),
            zip(classes.edges or (), (classes.edges or ())[1:], strict=False),
            strict=False,
        )
    )
    kept = dict.fromkeys(reading.class_names or classes.keep or counts)
    numbers: dict[str, list[int]] = {}
    if galaxies is not None:
        masks = [np.ones(len(galaxies), bool), *(galaxies.split == word for word in SPLITS)]
        columns = [_count_labels(galaxies, mask) for mask in masks[: 4 if labelled else 1]]
        rows = zip(*columns, strict=True)
        numbers = {name: list(row) for name, row in zip(galaxies.class_names, rows, strict=True)}
    # A class that is kept and nowhere in the catalog is the reason of a refusal.
    for name in [*counts, *(name for name in kept if name not in counts)]:
        low, high = edges.get(name, (None, None))
        found: list[int | None] = [*numbers.get(name, ()), None, None, None, None]
        yield ClassFacts(name, low, high, counts.get(name, 0), name in kept, *found[:4])


def _count_labels(galaxies: Galaxies, mask: NDArray[np.bool_]) -> list[int]:
    """Count some galaxies by class, (C,)."""
    labels = galaxies.label[mask]
    counts = np.bincount(labels[labels >= 0], minlength=len(galaxies.class_names))
    return [int(n) for n in counts]


def _make_histogram(value: NDArray[np.float64] | None, settings: Settings) -> Histogram | None:
    """Count the numbers that are binned, in bars that end where a class does."""
    classes = settings.classes
    if value is None or classes.edges is None or classes.labels is None:
        return None
    known = value[np.isfinite(value)]
    if not len(known):
        return None
    edges = _divide(classes.edges)
    bars = np.searchsorted(edges, known, side="left") - 1
    is_inside = (bars >= 0) & (bars < len(edges) - 1)
    counts = np.bincount(bars[is_inside], minlength=len(edges) - 1)
    middles = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
    places = np.searchsorted(classes.edges, middles, side="left") - 1
    return Histogram(
        edges=tuple(edges),
        counts=tuple(counts.tolist()),
        classes=tuple(classes.labels[place] for place in places.tolist()),
        n_below=int(np.sum(known <= edges[0])),
        n_above=int(np.sum(known > edges[-1])),
        least=float(known.min()),
        largest=float(known.max()),
    )


def _divide(edges: Sequence[float]) -> list[float]:
    """Divide bins into bars of one width, if there is one that ends at every edge.

    Otherwise each bin is a bar: bars of several widths would draw another shape.
    """
    scale = 10**6
    whole = [round(edge * scale) for edge in edges]
    step = int(np.gcd.reduce(np.diff(whole)))
    is_exact = all(abs(edge * scale - one) < 1e-3 for edge, one in zip(edges, whole, strict=True))
    n_steps = (whole[-1] - whole[0]) // step if step else 0
    fitting = [n for n in _DIVISORS if _MIN_BARS <= n * n_steps <= _MAX_BARS]
    if not is_exact or not fitting:
        return list(edges)
    n_bars = n_steps * fitting[0]
    # From whole numbers, so that an edge of a class stays the number that it is.
    bars = [(whole[0] * n_bars + (whole[-1] - whole[0]) * i) / n_bars for i in range(n_bars + 1)]
    exact = dict(zip(whole, edges, strict=True))
    return [exact.get(round(bar), bar / scale) for bar in bars]


def _describe_images(settings: Settings, reading: Reading, trial: _Trial) -> ImageFacts | None:
    """Describe the images, if they were looked for."""
    if reading.images is None or reading.label is None or reading.rejected is None:
        return None
    catalog = settings.catalog
    lost = [*reading.lost.values()]
    is_found = np.ones(len(reading.label), bool)
    if reading.counts:
        is_found = reading.label >= 0
    is_found &= reading.rejected == ""
    rows = np.flatnonzero(is_found)
    sizes = Counter(f"{frame.width} × {frame.height}" for _, frame in trial.frames)
    first = reading.images[0] if len(reading.images) else None
    is_element = isinstance(first, Element)
    return ImageFacts(
        templates=() if is_element else catalog.bands or (catalog.images,),
        folder=str(first.path if isinstance(first, Element) else settings.images_dir),
        n_wanted=len(rows) + len(lost),
        n_found=len(rows),
        absent=tuple(lost[:N_EXAMPLES]),
        n_shared=reading.images.take(rows).count_shared(),
        sizes=dict(sizes.most_common()),
        n_measured=len(trial.frames),
        n_unmeasured=trial.n_surveyed - len(trial.frames),
        n_decoded=trial.n_decoded,
        n_damaged=trial.n_damaged,
        n_channels=settings.n_channels,
        pixel_scale=_describe_scale(trial.galaxies),
        origin=_describe_origin(trial.galaxies),
    )


def _describe_scale(galaxies: Galaxies | None) -> str:
    """Say where the pixel scale is taken from; "" if nothing is known of the galaxies."""
    if galaxies is None:
        return ""
    settings = galaxies.settings.catalog
    in_headers = "in the FITS headers, where they have sky coordinates"
    if galaxies.pixel_scale is None:
        unknown = "unknown, so that figures have no scale bar; see [catalog] pixel_scale"
        return in_headers if galaxies.have_headers else unknown
    if isinstance(settings.pixel_scale, str):
        n_known = int(np.isfinite(galaxies.pixel_scale).sum())
        return f"in column {quote(settings.pixel_scale)}, known for {n_known} of {len(galaxies)}"
    if settings.pixel_scale is not None:
        return f"{settings.pixel_scale:g} arcsec/pixel, by the settings"
    fetched = f"{galaxies.pixel_scale[0]:g} arcsec/pixel, as fetched"
    return f"{in_headers}, otherwise {fetched}" if galaxies.have_headers else fetched


def _describe_origin(galaxies: Galaxies | None) -> str:
    """Say where the folder was fetched from; "" if that is not recorded."""
    if galaxies is None or galaxies.origin is None:
        return ""
    origin = galaxies.origin
    days = origin.first if origin.first == origin.last else f"{origin.first} to {origin.last}"
    north = ", north up and east to the left" if origin.is_north_up else ""
    return f"{origin.release} from {origin.address}, {days}{north}"


def _describe_redshift(table: pd.DataFrame, settings: Settings) -> RedshiftFacts | None:
    column = settings.catalog.redshift
    if column is None or column not in table.columns:
        return None
    try:
        redshift = read_numbers(table, column, settings.catalog_path, "[catalog] redshift", bad={})
    except CatalogError:
        return RedshiftFacts(column, 0, len(table), None, None)
    known = redshift[(redshift >= MIN_REDSHIFT) & (redshift <= MAX_REDSHIFT)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (None, None)
    return RedshiftFacts(column, len(known), len(table) - len(known), low, high)


def _find_positions(table: pd.DataFrame, path: Path) -> PositionFacts | None:
    """Find the columns of positions, and say what speaks against degrees."""
    names = match_sky_columns(map(str, table.columns))
    if names is None:
        return None
    try:
        ra, dec = (read_numbers(table, name, path, "positions") for name in names)
    except CatalogError:
        return PositionFacts(*names, f"{names[0]} and {names[1]} are not numbers, expected degrees")
    ra, dec = ra[np.isfinite(ra)], dec[np.isfinite(dec)]
    doubt = ""
    n_outside = int(np.sum((ra < 0) | (ra > 360))) + int(np.sum(np.abs(dec) > 90))
    if n_outside:
        doubt = f"{n_outside} cells of {names[0]} and {names[1]} are no degrees of the sky"
    elif len(ra) >= 10 and len(dec) and ra.max() <= 2 * np.pi and np.abs(dec).max() <= np.pi / 2:
        doubt = f"{names[0]} is below 6.3 and {names[1]} within 1.6 everywhere: are they radians?"
    elif len(ra) >= 100 and 12 < ra.max() <= 24:
        doubt = f"{names[0]} runs from {ra.min():.3g} to {ra.max():.3g}: are these hours?"
    return PositionFacts(*names, doubt)


def _list_rejected(reading: Reading, galaxies: Galaxies | None) -> dict[str, str]:
    """Return why galaxies are left out, by identifier, or by row where that is none."""
    if galaxies is not None:
        return galaxies.rejected
    if reading.rejected is None or reading.unusable is None or reading.objid is None:
        return {}
    found: dict[str, str] = {}
    for row in np.flatnonzero(reading.rejected != "").tolist():
        name = f"row {row + 1}" if reading.unusable[row] else reading.objid[row]
        found[name] = reading.rejected[row]
    return found


def _group(rejected: Mapping[str, str]) -> list[LeftOut]:
    """Count galaxies that are left out by kind of reason, the most frequent first."""
    counts: Counter[str] = Counter()
    examples: dict[str, dict[str, str]] = {}
    for objid, reason in rejected.items():
        kind = classify_reason(reason)
        counts[kind] += 1
        some = examples.setdefault(kind, {})
        if len(some) < N_EXAMPLES:
            some[objid] = reason
    return [LeftOut(kind, n, examples[kind]) for kind, n in counts.most_common()]


def classify_reason(reason: str) -> str:
    """Return the kind of a reason: what is left without what differs between galaxies.

    Parameters
    ----------
    reason : str
        Why a galaxy is left out, such as "oh_p50 = 7.9 outside (8.1, 9.3]".

    Returns
    -------
    str
        Such as "oh_p50 outside (8.1, 9.3]".
    """
    # Of an image that cannot be decoded, the path comes first.
    path, colon, rest = reason.partition(": ")
    is_path = colon and "/" in path and "'" not in path and ", expected" not in path
    words = rest if is_path else reason
    for pattern, instead in _DIFFERENCES:
        words = pattern.sub(instead, words, count=1)
    return one_line(words)
