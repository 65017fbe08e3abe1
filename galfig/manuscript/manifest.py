"""The manifest of a paper: how to make its stores, and which figures it shows."""

import re
import shlex
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

from galfig.errors import FigureError, ManuscriptError
from galfig.figures.registry import check_figure, parse_width
from galfig.runtime.documents import load_toml
from galfig.store.selection import Query

FILE_NAME = "manuscript.toml"
# A recipe may run only these commands of galfig, which make files, and no other program.
COMMANDS = ("simulate", "train", "build-maps")


def _check_inside(path: str) -> str:
    """Refuse a path that leaves the manuscript's folder."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} leaves the folder, expected a relative path inside it")
    return path


Inside = Annotated[str, AfterValidator(_check_inside)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Step(_Table):
    """A command of galfig, and the file that it makes in the manuscript's folder.

    Attributes
    ----------
    command : str
        The command with its arguments; one of ``COMMANDS``.
    makes : str
        The file that it makes, relative to the folder.
    kept : bool
        Whether the file is kept with the paper, and remade only when the network is retrained.
    """

    command: str = Field(description="Such as 'galfig build-maps --out maps.h5'")
    makes: Inside = Field(description="File that it makes; where it is there the step is done")
    kept: bool = Field(
        False, description="The file is kept with the paper, and made anew only by a retraining"
    )

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: str) -> str:
        words = shlex.split(command)
        if len(words) < 2 or words[0] != "galfig" or words[1] not in COMMANDS:
            expected = ", ".join(f"galfig {name}" for name in COMMANDS)
            raise ValueError(f"command {command!r}, expected one of {expected}")
        # A command may read files anywhere, but write only inside the folder.
        for word, following in zip(words[2:], [*words[3:], ""], strict=True):
            if word == "--out":
                _check_inside(following)
            elif word.startswith("--out="):
                _check_inside(word.removeprefix("--out="))
            elif words[1] == "simulate" and not word.startswith("-"):
                _check_inside(word)
        return command

    @property
    def arguments(self) -> list[str]:
        """The arguments that follow ``galfig``."""
        return shlex.split(self.command)[1:]


class FigureSpec(_Table):
    """A figure of the paper.

    Attributes
    ----------
    name : str
        Its name in the paper: letters, digits and hyphens.
    figure : str
        Kind of figure, a name that `galfig.figures.registry.find_figure` knows.
    store, other : str
        Name of its store, and of the second store of "compare" (or None).
    width : str, float or None
        "column", "text", or a number [inch].
    unit : str or None
        Column with the radius [arcsec] that is the unit of distance.
    file : str or None
        Path of the figure in the folder; None for ``figures/NAME.pdf``.
    selection : Query
        The galaxies.
    """

    name: str = Field(description="Its name in the paper: letters, digits and hyphens")
    figure: str = Field(description="One of those that 'galfig figure' draws")
    store: str = Field(description="Name of its store")
    other: str | None = Field(None, description="Name of the second store of 'compare'")
    width: str | float | None = Field(None, description="'column', 'text' or inches")
    unit: str | None = Field(None, description="Column with the radius, of 'radial-profile'")
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
        return {"n": None, **selection}

    @model_validator(mode="after")
    def _check_figure(self) -> "FigureSpec":
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", self.name):
            raise ValueError(f"name {self.name!r}, expected letters, digits and hyphens")
        try:
            other = None if self.other is None else Path(self.other)
            check_figure(self.figure, unit=self.unit, other=other)
            parse_width(self.width)
        except FigureError as exc:
            raise ValueError(str(exc)) from exc
        if not self.path.endswith(".pdf"):
            raise ValueError(f"file {self.path!r}, expected .pdf")
        return self

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
    stores : dict of str to str
        Path of each store, by name.
    figure : tuple of FigureSpec
        The figures, in order.
    """

    tex: Inside = Field("paper.tex", description="The paper")
    steps: tuple[Step, ...] = Field((), description="How its files are made, in order")
    stores: dict[str, Inside] = Field(description="File of each store, by name")
    figure: tuple[FigureSpec, ...] = Field(min_length=1, description="The figures, in order")

    @model_validator(mode="after")
    def _check_names(self) -> "Manifest":
        for name in self.stores:
            if not (name.isascii() and name.isalpha()):
                raise ValueError(f"store {name!r}, expected letters: LaTeX's macros begin with it")
        seen: set[str] = set()
        for spec in self.figure:
            for store in (spec.store, spec.other):
                if store is not None and store not in self.stores:
                    raise ValueError(
                        f"figure {spec.name!r}: store {store!r}, expected one of "
                        f"{', '.join(self.stores)}"
                    )
            for key in (spec.name, spec.path):
                if key in seen:
                    raise ValueError(f"figure {spec.name!r}: {key!r} appears twice")
                seen.add(key)
        return self


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
    try:
        tables = load_toml(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ManuscriptError(
            f"{path}: cannot be read ({exc.strerror}), expected a manuscript's manifest"
        ) from exc
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
        message = f"found {error['input']!r}; {error['msg'].lower()}"
    return f"{place}: {message}" if place else message
