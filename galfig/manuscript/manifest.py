"""The manifest of a paper: how to make its stores, and which figures it shows."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from galfig.config import DEFAULT_FILE, StyleSettings
from galfig.errors import FigureError, ManuscriptError
from galfig.figures.labels import check_labels
from galfig.figures.registry import (
    check_colormap,
    check_figure,
    check_style,
    find_figure,
    parse_width,
)
from galfig.figures.sheets import SHEETS
from galfig.manuscript.commands import Command, fold, normalise, parse_command
from galfig.manuscript.folder import read_file
from galfig.runtime.documents import load_toml
from galfig.runtime.messages import quote
from galfig.runtime.options import MapKind, Projection
from galfig.store.picks import MARK, is_listed
from galfig.store.selection import Query

FILE_NAME, RECORD = "manuscript.toml", "manuscript.lock"
VALUES, GALAXIES = "values.tex", "galaxies.tex"
# Folder of LaTeX's auxiliary files.
AUX = "build"
# What latexmk makes beside the paper, if its author runs it there.
_LATEX = (".pdf", ".aux", ".bbl", ".blg", ".log", ".out", ".fls", ".fdb_latexmk")
# Bounds on what is read and parsed; the manifest of a paper has a few kB.
MAX_BYTES = 1 << 20
MAX_FIGURES, MAX_STEPS = 1000, 100
# More than this of a value makes no message clearer.
_MAX_QUOTED = 200

Inside = Annotated[str, AfterValidator(normalise)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Step(_Table):
    """A command of galfig, and the file that it makes in the manuscript's folder.

    Attributes
    ----------
    command : str
        The command with its arguments; see `galfig.manuscript.commands`.
    makes : str
        The file that it makes, relative to the folder.
    kept : bool
        Whether the file is kept with the paper, and remade only when the network is retrained. An
        audit is also remade when it is not of the store of its command.
    """

    command: str = Field(max_length=2000, description="Such as 'galfig build-maps --out maps.h5'")
    makes: Inside = Field(description="File that it makes; where it is there the step is done")
    kept: bool = Field(
        False, description="The file is kept with the paper, and made anew only by a retraining"
    )

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: str) -> str:
        parse_command(command)
        return command

    @property
    def parsed(self) -> Command:
        """The command, with its paths and with what it writes."""
        return parse_command(self.command)


class FigureSpec(_Table):
    """A figure of the paper.

    Attributes
    ----------
    name : str
        Its name in the paper: letters, digits and hyphens.
    figure : str
        Kind of figure, a name that `galfig.figures.registry.find_figure` knows.
    store, other : str or None
        Name of its store, and of the second store of "compare".
    audit : str or None
        Name of its audit: instead of the store for figures of an audit, beside it for
        "attribution-vs".
    width : str, float or None
        "column", "text", or a number [inch].
    unit : str or None
        Column with the radius [arcsec] that is the unit of distance.
    classes : tuple of str
        Classes whose maps are shown; nothing for the figure's default.
    column, statistic : str or None
        What "attribution-vs" plots against each other.
    map : {"grad-cam", "evidence"} or None
        What maps "panels" shows, if not those of the store's method.
    cutouts : bool
        Whether "feature-space" shows cutouts in place of points.
    projection : {"pca", "umap"} or None
        How "feature-space" projects features.
    style : StyleSettings
        How it looks.
    file : str or None
        Path of the figure in the folder; None for ``figures/NAME.pdf``.
    selection : Query
        The galaxies.
    """

    name: str = Field(
        max_length=100, description="Its name in the paper: letters, digits and hyphens"
    )
    figure: str = Field(max_length=100, description="One of those that 'galfig figure' draws")
    store: str | None = Field(None, max_length=100, description="Name of its store")
    other: str | None = Field(
        None, max_length=100, description="Name of the second store of 'compare'"
    )
    audit: str | None = Field(
        None, max_length=100, description="Name of its audit: 'audit-...' and 'attribution-vs'"
    )
    width: str | float | None = Field(None, description="'column', 'text' or inches")
    unit: str | None = Field(None, description="Column with the radius, of 'radial-profile'")
    classes: tuple[str, ...] = Field(
        (), max_length=100, description="Classes whose maps 'panels' and 'compare' show"
    )
    column: str | None = Field(
        None, max_length=255, description="Column of the catalog, of 'attribution-vs'"
    )
    statistic: str | None = Field(
        None, max_length=255, description="Column of the audit's table, of 'attribution-vs'"
    )
    map: MapKind | None = Field(
        None, description="'evidence' for signed maps in 'panels', or 'grad-cam'"
    )
    cutouts: bool | None = Field(None, description="'feature-space' shows cutouts, not points")
    projection: Projection | None = Field(
        None, description="'pca' or 'umap', of 'feature-space'; the latter needs the extra umap"
    )
    style: StyleSettings = Field(
        StyleSettings(), description="How it looks: the keys of [style] in galfig.toml"
    )
    file: Inside | None = Field(None, description="Default figures/NAME.pdf")
    selection: Query = Field(Query(n=None), description="The options of every figure")

    @field_validator("selection", mode="before")
    @classmethod
    def _complete_selection(cls, selection: Any) -> Any:
        if not isinstance(selection, dict):
            return selection
        unknown = sorted(set(selection) - set(Query.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"selection has {unknown[0]!r}, expected {', '.join(Query.__dataclass_fields__)}"
            )
        if isinstance(selection.get("objids"), str):
            selection = {**selection, "objids": [selection["objids"]]}
        return {"n": None, **selection}

    @field_validator("selection")
    @classmethod
    def _check_lists(cls, selection: Query) -> Query:
        objids = [_normalise_list(name) for name in selection.objids]
        return dataclasses.replace(selection, objids=tuple(objids))

    @field_validator("style")
    @classmethod
    def _check_style(cls, style: StyleSettings) -> StyleSettings:
        # Of a stranger's manuscript, nothing but the manifest and what it lists is read.
        if style.sheet not in SHEETS:
            raise ValueError(f"style {quote(style.sheet)}, expected {', '.join(SHEETS)}")
        return style

    @model_validator(mode="after")
    def _check_figure(self) -> "FigureSpec":
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}", self.name):
            raise ValueError(f"name {self.name!r}, expected letters, digits and hyphens")
        try:
            is_of_audit = find_figure(self.figure).source == "audit"
            check_figure(
                self.figure,
                unit=self.unit,
                other=None if self.other is None else Path(self.other),
                classes=self.classes,
                audit=None if self.audit is None or is_of_audit else Path(self.audit),
                column=self.column,
                statistic=self.statistic,
                map=self.map,
                cutouts=bool(self.cutouts),
                projection=self.projection,
            )
            parse_width(self.width)
            if self.style.cmap is not None:
                check_colormap(self.style.cmap)
            check_labels(self.style.labels)
            check_style(self.figure, self.style, self.style.model_fields_set, self.map)
        except FigureError as exc:
            raise ValueError(str(exc)) from exc
        if (self.audit if is_of_audit else self.store) is None:
            raise ValueError(f"{'audit' if is_of_audit else 'store'}: missing")
        if is_of_audit and self.store is not None:
            raise ValueError(f"store {self.store!r}, expected only the audit it is drawn from")
        if not self.path.endswith(".pdf"):
            raise ValueError(f"file {self.path!r}, expected .pdf")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stores and audits that it is drawn from."""
        return tuple(name for name in (self.store, self.other, self.audit) if name is not None)

    @property
    def lists(self) -> tuple[str, ...]:
        """Files that list galaxies of its selection, each as ``@FILE``."""
        return tuple(filter(is_listed, self.selection.objids))

    @property
    def path(self) -> str:
        """Path of the figure, relative to the manuscript's folder."""
        return self.file or f"figures/{self.name}.pdf"

    @property
    def caption_path(self) -> str:
        """Path of its caption, relative to the manuscript's folder."""
        return f"captions/{self.name}.tex"

    @property
    def alt_path(self) -> str:
        """Path of its alternative text, relative to the manuscript's folder."""
        return f"captions/{self.name}.alt.txt"


class Manifest(_Table):
    """The content of ``manuscript.toml``.

    Attributes
    ----------
    tex : str
        Source file of the paper.
    steps : tuple of Step
        Commands that make the files of the paper, in order.
    stores, audits : dict of str to str
        Path of each store and of each audit, by name.
    figure : tuple of FigureSpec
        The figures, in order.
    """

    tex: Inside = Field("paper.tex", description="The paper")
    steps: tuple[Step, ...] = Field(
        (), max_length=MAX_STEPS, description="How its files are made, in order"
    )
    stores: dict[str, Inside] = Field(description="File of each store, by name")
    audits: dict[str, Inside] = Field({}, description="File of each audit, by name")
    figure: tuple[FigureSpec, ...] = Field(
        min_length=1, max_length=MAX_FIGURES, description="The figures, in order"
    )

    @field_validator("tex")
    @classmethod
    def _check_tex(cls, tex: str) -> str:
        if not tex.endswith(".tex") or " " in tex:
            raise ValueError(f"{tex!r}, expected the name of a file .tex, without blanks")
        return tex

    @property
    def lists(self) -> tuple[str, ...]:
        """Files that list galaxies, each as ``@FILE``, without those that come again."""
        return tuple(dict.fromkeys(name for spec in self.figure for name in spec.lists))

    @model_validator(mode="after")
    def _check_names(self) -> "Manifest":
        for kind, names in (("store", self.stores), ("audit", self.audits)):
            for name in names:
                if not (name.isascii() and name.isalpha() and len(name) <= 100):
                    raise ValueError(
                        f"{kind} {quote(name)}, expected letters: LaTeX's macros begin with it"
                    )
        if both := sorted(set(self.stores) & set(self.audits)):
            raise ValueError(f"audit {both[0]!r}: a store has the same name, expected another")
        seen: set[str] = set()
        for spec in self.figure:
            for store in (spec.store, spec.other):
                if store is not None and store not in self.stores:
                    raise ValueError(
                        f"figure {spec.name!r}: store {store!r}, expected one of "
                        f"{', '.join(self.stores)}"
                    )
            if spec.audit is not None and spec.audit not in self.audits:
                known = ", ".join(self.audits) or "those of a table [audits]"
                raise ValueError(
                    f"figure {spec.name!r}: audit {spec.audit!r}, expected one of {known}"
                )
            if spec.name in seen:
                raise ValueError(f"figure {spec.name!r}: {spec.name!r} appears twice")
            seen.add(spec.name)
        made = [step.makes for step in self.steps]
        for name in made:
            if made.count(name) > 1:
                raise ValueError(f"steps: {name!r} is made twice, expected one step for each file")
        return self

    @model_validator(mode="after")
    def _check_collisions(self) -> "Manifest":
        """Refuse a manifest by which two things would write one file, or one inside the other."""
        claims: dict[tuple[str, ...], str] = {}
        for owner, path in self._iter_claims():
            other = claims.setdefault(fold(path), owner)
            if other != owner:
                raise ValueError(f"{owner}: would write {path!r}, which is that of {other}")
        for parts, owner in claims.items():
            for length in range(1, len(parts)):
                other = claims.get(parts[:length], owner)
                if other != owner:
                    raise ValueError(
                        f"{owner}: would write {'/'.join(parts)!r}, which is below that of {other}"
                    )
        return self

    def _iter_claims(self) -> Iterator[tuple[str, str]]:
        """Yield each file that belongs to something, with what it belongs to.

        Steps and stores count as one, since the steps of a recipe work on each other's files.
        """
        yield "the manifest", FILE_NAME
        yield "the record", RECORD
        yield "the settings", DEFAULT_FILE
        yield "the numbers of the text", VALUES
        yield "the table of galaxies", GALAXIES
        for path in (self.tex, AUX):
            yield "the paper", path
        for suffix in _LATEX:
            yield "the paper", str(PurePosixPath(self.tex).with_suffix(suffix))
        for step in self.steps:
            for path in (step.makes, *step.parsed.outputs):
                yield "a step or store", path
        for path in (*self.stores.values(), *self.audits.values()):
            yield "a step or store", path
        for name in self.lists:
            yield "a list of galaxies", name.removeprefix(MARK)
        for spec in self.figure:
            for path in (spec.path, spec.caption_path, spec.alt_path):
                yield f"figure {spec.name!r}", path


def _normalise_list(name: str) -> str:
    """Return the name of a list of galaxies, ``@FILE``, in its shortest form; others unchanged."""
    if not is_listed(name):
        return name
    path = normalise(name.removeprefix(MARK))
    if PurePosixPath(path).suffix not in ("", ".txt"):
        raise ValueError(f"{quote(name)}, expected a text file .txt with one identifier per line")
    return f"{MARK}{path}"


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a manuscript.

    Parameters
    ----------
    folder : Path
        The manuscript's folder, which contains ``manuscript.toml``.

    Returns
    -------
    Manifest

    Raises
    ------
    ManuscriptError
        If the manifest is missing or is not valid TOML; if a key, figure or store is unknown; if a
        path leaves the folder; or if a command is not one of galfig's.
    """
    path = folder / FILE_NAME
    data = read_file(folder, FILE_NAME, MAX_BYTES)
    if data is None:
        raise ManuscriptError(
            f"{path}: cannot be read (No such file or directory), expected a manuscript's manifest"
        )
    try:
        tables = load_toml(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ManuscriptError(f"{path}: not valid TOML ({exc})") from exc
    except ValueError as exc:
        raise ManuscriptError(f"{path}: {exc}") from exc
    try:
        return Manifest.model_validate(tables)
    except ValidationError as exc:
        raise ManuscriptError(f"{path}: {_describe(exc, tables)}") from exc


def _describe(exc: ValidationError, tables: dict[str, Any]) -> str:
    """Describe the first of pydantic's errors in one line."""
    error = exc.errors()[0]
    where = []
    for part in error["loc"]:
        where.append(f"{part + 1}" if isinstance(part, int) else str(part))
    place = " ".join(where)
    if where[:1] == ["figure"] and len(where) > 1:
        spec = tables["figure"][int(where[1]) - 1]
        if isinstance(spec, dict) and "name" in spec:
            place = " ".join(["figure", repr(spec["name"]), *where[2:]])
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
    elif error["type"] == "extra_forbidden":
        tables_of: dict[str, type[BaseModel]] = {"figure": FigureSpec, "steps": Step}
        table = tables_of.get(str(error["loc"][0]), Manifest) if len(where) > 1 else Manifest
        message = f"unknown key, expected one of {', '.join(table.model_fields)}"
    elif error["type"] == "missing":
        message = "missing"
    else:
        message = f"found {quote(error['input'], _MAX_QUOTED)}; {error['msg'].lower()}"
    return f"{place}: {message}" if place else message
