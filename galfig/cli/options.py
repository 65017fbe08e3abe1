"""Options shared by several commands, and the error handling and logging of all commands."""

import dataclasses
import functools
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin

import click

from galfig.cli.environment import settle_environment
from galfig.cli.messages import translate
from galfig.cli.signals import Stopped, stop_on_signals, write_farewell
from galfig.errors import ElsewhereError, GalfigError
from galfig.runtime.inputs import is_shortage
from galfig.runtime.launch import find_place
from galfig.runtime.messages import make_printable, one_line
from galfig.runtime.options import STYLED, Annotation, Layout, Overlay, Scale
from galfig.runtime.progress import write_line
from galfig.runtime.storage import find_folder, is_address

Function = TypeVar("Function", bound=Callable[..., Any])

EXIT_FAILED = 1

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file.  [default: galfig.toml, if present]",
)
catalog_option = click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    help="Catalog: text, FITS, VOTable, Parquet, HDF5, ..., or the folder of a HATS catalog; "
    "FILE[NAME] for a table of a file.",
)


class FolderOrAddress(click.Path):
    """A folder, or an address of a storage; of the latter, a path would lose a slash."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an address as text, and anything else as a path."""
        return value if is_address(value) else super().convert(value, param, ctx)


images_option = click.option(
    "--images",
    type=FolderOrAddress(path_type=Path, file_okay=False),
    help="Folder that image paths are relative to, or an address such as s3://bucket/cutouts.  "
    "[default: that of the catalog]",
)
storage_option = click.option(
    "--storage",
    metavar="ADDRESS",
    help="Where parts are kept besides, such as s3://bucket/run, so that machines without a common "
    "folder share them.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")
update_option = click.option(
    "--update", is_flag=True, help="Rebuild only outputs whose inputs changed."
)
takeover_option = click.option(
    "--takeover",
    is_flag=True,
    help="Take over a stale lock from another host.",
)


own_code_option = click.option(
    "--arch",
    metavar="python:MODULE:FUNCTION",
    help="Your own code, if it builds the network of the checkpoint; it is imported and run.",
)


def if_exists_options(*, with_update: bool = False) -> Callable[[Function], Function]:
    """Add --overwrite and optionally --update; the command receives them as ``if_exists``."""

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, overwrite: bool, update: bool = False, **given: Any) -> Any:
            if overwrite and update:
                raise click.UsageError("--overwrite and --update exclude each other; give one")
            if_exists = "replace" if overwrite else "update" if update else "error"
            return function(*args, if_exists=if_exists, **given)

        # click lists the option that is added last first.
        choices = [update_option, overwrite_option] if with_update else [overwrite_option]
        for choice in choices:
            run = choice(run)
        return run  # type: ignore[return-value]

    return add


class Integer(click.IntRange):
    """An integer within bounds, so called in help and errors."""

    name = "integer"


class Number(click.FloatRange):
    """A number within bounds, so called in help and errors."""

    name = "number"


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the numbers as a tuple."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} are not numbers with commas between them.", param, ctx)


class Words(click.ParamType):  # type: ignore[type-arg]
    """Words with commas between them, of some that are known; then "none" is none of them."""

    name = "words"

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = known

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the words as a tuple."""
        if isinstance(value, tuple):
            return value
        words = tuple(map(str.strip, value.split(",")))
        if self._known and words == ("none",):
            return ()
        for word in words:
            if self._known and word not in self._known:
                self.fail(f"{word!r} is not one of {', '.join(self._known)}, none.", param, ctx)
        return words


class NumberOrAll(click.ParamType):  # type: ignore[type-arg]
    """How many of some things: a whole number from 1, or all."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number, or "all"."""
        if value == "all" or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdecimal() and int(value[:10]) > 0):
            self.fail(f"{value!r} is neither a whole number from 1 nor 'all'.", param, ctx)
        return int(value[:10])


class _Renaming(click.ParamType):  # type: ignore[type-arg]
    """Two names with a sign of equality between them."""

    def __init__(self, name: str = "OLD=NEW") -> None:
        self.name = name

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the names are written."""
        return self.name

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return both names."""
        if isinstance(value, tuple):
            return value
        old, equals, new = value.partition("=")
        if not equals or not old.strip() or not new.strip():
            self.fail(f"{value!r}, expected {self.name}.", param, ctx)
        return old.strip(), new.strip()


class BracketedOption(click.Option):
    """An option whose help ends in its default, and which passes None if it is not given."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return switches and help, with the default and the range in one pair of brackets."""
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].replace("]  [", "; "))


class OppositeFlags(click.Option):
    """A pair of opposite flags, of which only one may be given; click alone takes the last."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser collect the flags."""
        for switches, value in ((self.opts, True), (self.secondary_opts, False)):
            parser.add_option(
                obj=self, opts=switches, dest=self.name, action="append_const", const=value
            )

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value that the flags agree on."""
        if isinstance(value, list):
            if len(set(value)) > 1:
                switches = " and ".join([*self.opts, *self.secondary_opts])
                raise click.UsageError(f"{switches} exclude each other; give one", ctx)
            value = value[-1]
        return super().type_cast_value(ctx, value)


class _NumberOrWord(click.ParamType):  # type: ignore[type-arg]
    """A number within bounds, or one of a few words."""

    name = "number"

    def __init__(self, number: click.ParamType, words: Sequence[str]) -> None:  # type: ignore[type-arg]
        self._number, self._words = number, words
        self.metavar = "|".join(["NUMBER", *words])

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number or the word."""
        if value in self._words:
            return value
        try:
            number = float(value)
        except ValueError:
            expected = " nor ".join(map(repr, self._words))
            self.fail(f"{value!r} is neither a number nor {expected}.", param, ctx)
        return self._number.convert(number, param, ctx)


def setting(
    table: str, key: str, *, help: str | None = None, default: str | None = None
) -> Callable[[Function], Function]:
    """Add the option of a setting, with the type, choices, bounds and default declared there.

    Parameters
    ----------
    table, key : str
        Table and key of the setting in `galfig.config.Settings`; the key names the option.
    help : str, optional
        Help of the option; by default, the description of the setting.
    default : str, optional
        Default to show in the help, if that of the setting is None.

    Returns
    -------
    callable
        A decorator for the function of a command.
    """
    # Import pydantic only for commands that have such options.
    from galfig.config import Settings

    field = type(getattr(Settings(), table)).model_fields[key]
    words = help or f"{field.description}."
    switch = f"--{key.replace('_', '-')}"
    if field.annotation is bool:
        return click.option(switch, is_flag=True, default=None, help=words)
    kind = _make_type(field.annotation, field.metadata)
    return click.option(
        switch,
        cls=BracketedOption,
        type=kind,
        metavar=kind.metavar if isinstance(kind, _NumberOrWord) else None,
        help=f"{words}  [default: {default or field.default}]",
    )


def _make_type(annotation: Any, bounds: Sequence[Any] = ()) -> click.ParamType:  # type: ignore[type-arg]
    """Return the click type for the annotation of a setting."""
    if get_origin(annotation) is Annotated:
        annotation, *fields = get_args(annotation)
        return _make_type(annotation, [bound for field in fields for bound in field.metadata])
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    members = [member for member in get_args(annotation) if member is not NoneType]
    if len(members) == 2:
        number, words = members
        return _NumberOrWord(_make_type(number), get_args(words))
    if members:
        return _make_type(members[0], bounds)
    limits = {
        name: getattr(bound, name)
        for bound in bounds
        for name in ("ge", "gt", "le", "lt")
        if hasattr(bound, name)
    }
    if annotation is str:
        return click.STRING
    make: Callable[..., click.ParamType] = Integer if annotation is int else Number  # type: ignore[type-arg]
    return make(
        min=limits.get("ge", limits.get("gt")),
        max=limits.get("le", limits.get("lt")),
        min_open="gt" in limits,
        max_open="lt" in limits,
    )


def device_option(function: Function) -> Function:
    """Add the option for the device that runs the network."""
    return click.option(
        "--device",
        type=_DeviceName(),
        metavar="[auto|cpu|cuda|cuda:N]",
        default="auto",
        show_default=True,
        help="Where the network runs; auto uses CUDA if there is a device.",
    )(function)


class _DeviceName(click.ParamType):  # type: ignore[type-arg]
    """The name of a device, which this machine may lack."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from galfig.runtime.options import DEVICES, is_device

        if not is_device(value):
            self.fail(f"{value!r}, expected {DEVICES}.", param, ctx)
        return value


def figure_options(function: Function) -> Function:
    """Add the options of every figure: its width, and a table of its data."""
    function = click.option(
        "--data",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Also write the numbers behind the figure to this table: .fits, .csv, .ecsv, .vot, "
        ".parquet or .mrt.",
    )(function)
    return click.option(
        "--width",
        metavar="column|text|INCHES",
        help="Figure width; column and text are those of AASTeX, 3.39 and 7.10 inches.",
    )(function)


# Options of the style, by key of its settings.
_STYLE_OPTIONS: dict[str, Callable[[Function], Function]] = {
    "sheet": click.option(
        "--style",
        metavar="journal|talk|poster|FILE.mplstyle",
        help="Style sheet; talk is dark and 16:9, a file is applied on top of journal.  "
        "[default: journal]",
    ),
    "cmap": click.option("--cmap", help="Colour map of unsigned maps, by matplotlib's name."),
    "overlay": click.option(
        "--overlay",
        type=click.Choice(get_args(Overlay)),
        help="How rows show maps: over the dimmed cutout, with the galaxy shining through, as "
        "lines, or beside the cutout.  [default: opaque]",
    ),
    "scale": click.option(
        "--scale",
        type=click.Choice(get_args(Scale)),
        help="Which maps of rows share a colour scale: those of a row, none, or all.  "
        "[default: row]",
    ),
    "negative": click.option(
        "--negative",
        is_flag=True,
        default=None,
        help="Show negative values of maps, too, on a diverging colour scale.",
    ),
    "font": click.option("--font", help="Family of the font, which must be installed."),
    "font_size": click.option(
        "--font-size",
        cls=BracketedOption,
        type=Number(min=4, max=60),
        help="Size of the text [pt].",
    ),
    "class_names": click.option(
        "--class-name",
        "class_names",
        multiple=True,
        type=_Renaming(),
        help="Name of a class in figures, by its name in the store; may be repeated.",
    ),
    "labels": click.option(
        "--label",
        "labels",
        multiple=True,
        type=_Renaming("COLUMN=TEXT"),
        help="What axes and captions call a column of the catalog, such as 'oh_p50=12 + "
        "log(O/H)'; may be repeated.",
    ),
    "layout": click.option(
        "--layout",
        type=click.Choice(get_args(Layout)),
        help="Where rows show the maps of a galaxy: beside its cutout, or in a grid below it.  "
        "[default: rows]",
    ),
    "columns": click.option(
        "--columns",
        cls=BracketedOption,
        type=Integer(min=1, max=50),
        help="Galaxies abreast in rows of panels.  [default: as a page needs]",
    ),
    "pages": click.option(
        "--pages",
        is_flag=True,
        default=None,
        help="Let rows of panels go on over several pages of a PDF.",
    ),
    "annotate": click.option(
        "--annotate",
        type=Words(get_args(Annotation)),
        metavar="WORD[,WORD...]|none",
        help="What stands on the panels: objid, name (by position), z, value (of the binned "
        "quantity), true (class), p and sum (of a map).  [default: objid,true,p,sum]",
    ),
    "designation": click.option(
        "--designation",
        metavar="TEXT",
        help="What names by position begin with, such as 'SDSS J'.  [default: J]",
    ),
    "title": click.option("--title", help="Title above rows of panels and charts."),
    "letters": click.option(
        "--letters",
        is_flag=True,
        default=None,
        help="Letters for rows of panels: (a), (b), ...",
    ),
    "compass": click.option(
        "--compass/--no-compass",
        default=None,
        help="Arrows to the north and the east on cutouts, where these are known.  [default: "
        "where they are not up and to the left in all cutouts]",
    ),
}


def style_options(function: Function) -> Function:
    """Add the options of the style; the command receives them as ``style``."""

    @functools.wraps(function)
    def run(*args: Any, config: Path | None, **given: Any) -> Any:
        from galfig.config import load_settings

        given["sheet"] = given.pop("style")
        keys = {key: given.pop(key) for key in _STYLE_OPTIONS}
        if keys["sheet"] is not None and keys["sheet"].endswith(".mplstyle"):
            # A path is relative to the working directory, and not to the settings file.
            keys["sheet"] = Path(keys["sheet"])
        for key in ("class_names", "labels"):
            keys[key] = dict(keys[key]) or None
        asked = {key for key, value in keys.items() if value is not None}
        try:
            settings = load_settings(config, {("style", key): value for key, value in keys.items()})
            if asked & {*STYLED, "cmap"}:
                from galfig.figures.registry import check_style

                name = given.get("name", "panels")
                check_style(name, settings.figure_style, asked, given.get("map"))
        except GalfigError as exc:
            # The command has not begun, and with it the report of errors.
            _fail(exc, click.get_current_context(), debug=given.get("debug", False))
        return function(*args, style=settings.figure_style, **given)

    for choice in reversed([*_STYLE_OPTIONS.values(), config_option]):
        run = choice(run)
    return run  # type: ignore[return-value]


def again_options(function: Function) -> Function:
    """Add the options of stores that hold no maps; the command receives them as ``opener``."""

    @functools.wraps(function)
    def run(
        *args: Any,
        model: Sequence[Path],
        images: Path | str | None,
        arch: str | None,
        **given: Any,
    ) -> Any:
        from galfig.pipeline.supply import Sources

        folder = None if images is None else find_folder(images, "images")
        return function(*args, opener=Sources(model, folder, arch).open, **given)

    choices = [
        click.option(
            "--model",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Network of a store that holds no maps or features, to explain galaxies again; "
            "may be repeated.  [default: found by its digest in the folder of the store]",
        ),
        click.option(
            "--images",
            type=FolderOrAddress(path_type=Path, file_okay=False),
            help="Folder or address of the images of a store that holds no cutouts.  [default: as "
            "in the build, if below the folder of the store]",
        ),
        own_code_option,
    ]
    for choice in reversed(choices):
        run = choice(run)
    return run  # type: ignore[return-value]


def classes_option(function: Function) -> Function:
    """Add the option for the classes whose maps are shown."""
    return click.option(
        "--classes",
        multiple=True,
        metavar="CLASS[,CLASS...]",
        help="Show the maps of these classes.  [default: all of up to four; of more, those of the "
        "true and the predicted class]",
    )(function)


def map_option(function: Function) -> Function:
    """Add the option for what maps panels show."""
    from galfig.runtime.options import MapKind

    return click.option(
        "--map",
        type=click.Choice(get_args(MapKind)),
        help="Show signed maps of the log-odds of a class in place of those of the store's method, "
        "or insist on Grad-CAM (panels).",
    )(function)


def selection_options(
    n: int | None, *, split: str = "all that did not train"
) -> Callable[[Function], Function]:
    """Add the options that select galaxies; the command receives them as ``query``.

    ``split`` says which galaxies the command chooses from where the option is not given.
    """
    from galfig.runtime.options import Split
    from galfig.store.picks import expand_objids
    from galfig.store.selection import Query, Sort

    choices = [
        click.option(
            "--split",
            type=click.Choice(get_args(Split)),
            help=f"Only galaxies that the training used so.  [default: {split}]",
        ),
        click.option(
            "--n",
            cls=BracketedOption,
            default=n,
            show_default=n is not None,
            type=Integer(min=1),
            help="Number of galaxies." if n is not None else "Number of galaxies.  [default: all]",
        ),
        click.option("--zmin", type=float, help="Only galaxies above this redshift."),
        click.option("--zmax", type=float, help="Only galaxies below this redshift."),
        click.option("--true", metavar="CLASS", help="Only galaxies of this true class."),
        click.option(
            "--predicted", metavar="CLASS", help="Only galaxies classified as this class."
        ),
        click.option(
            "--correct/--wrong",
            cls=OppositeFlags,
            default=None,
            help="Only galaxies classified correctly, or only those misclassified.",
        ),
        click.option(
            "--where",
            metavar="CONDITION",
            help="Only galaxies that meet this condition on catalog columns, e.g. 'oh_p50 > 9.15'.",
        ),
        click.option(
            "--sort",
            type=click.Choice(get_args(Sort)),
            default=Query.sort,
            show_default=True,
            help="Order: at random, or by decreasing loss, decreasing p or increasing redshift.",
        ),
        click.option(
            "--seed",
            default=Query.seed,
            show_default=True,
            type=Integer(min=0),
            help="Seed of the random order.",
        ),
        click.option(
            "--like",
            metavar="OBJID",
            help="Show this galaxy and those whose features are most alike, nearest first.",
        ),
        click.option(
            "--objid",
            "objids",
            multiple=True,
            metavar="OBJID|@FILE",
            help="Only this galaxy; may be repeated. @FILE stands for those of a file, with one "
            "identifier per line, of a table with a column objid, or of a store.",
        ),
    ]

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, **given: Any) -> Any:
            asked = {key.name: given.pop(key.name) for key in dataclasses.fields(Query)}
            asked["objids"] = expand_objids(asked["objids"], _read_picks)
            return function(*args, query=Query(**asked), **given)

        for choice in reversed(choices):
            run = choice(run)
        return run  # type: ignore[return-value]

    return add


def _read_picks(name: str) -> tuple[str, ...]:
    """Read the identifiers of a table or, if it is none by its suffix, of a list."""
    from galfig.store.picks import read_picks

    path = Path(name)
    if not path.suffix or path.suffix.lower() == ".txt":
        return read_picks(path)
    if path.suffix.lower() in (".h5", ".hdf5"):
        from galfig.store.reader import open_store

        with open_store(path) as store:
            return tuple(store.chosen)
    # This imports pandas, which a list does not need.
    from galfig.catalog.picks import is_table, read_objids

    return read_objids(path) if is_table(path) else read_picks(path)


# What follows "interrupted" for commands that can resume, by name of their function.
_HOW_TO_GO_ON = {
    "train": "; run the same command again with --resume to continue",
    "build_maps": "; run the same command again to continue",
    "build": "; run the same command again to continue",
    "audit": "; run the same command again to continue",
    "sdss": "; run the same command again to continue",
    "legacy": "; run the same command again to continue",
    "hips": "; run the same command again to continue",
}


def standard_options(function: Function) -> Function:
    """Add -q, -v and --debug, log to stderr, and report expected failures in one line."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
    @click.option("-v", "--verbose", count=True, help="Print more details.")
    @click.option("--debug", is_flag=True, help="Print the traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, quiet: bool, verbose: int, debug: bool, **options: Any) -> Any:
        ctx = click.get_current_context()
        # Of several processes, one speaks for all.
        is_main = find_place().is_main
        is_quiet = quiet or not is_main
        _start_logging(
            logging.ERROR if is_quiet else logging.DEBUG if verbose else logging.INFO, ctx
        )
        how = _HOW_TO_GO_ON.get(function.__name__, "")
        farewell = f"interrupted{how}" if is_main else ""
        try:
            with stop_on_signals(farewell):
                settle_environment()
                return function(*args, **options)
        except ElsewhereError:
            sys.exit(EXIT_FAILED)
        except (GalfigError, MemoryError, ImportError, RuntimeError) as exc:
            is_short = is_shortage(exc)
            if not is_short and not isinstance(exc, GalfigError):
                raise
            _fail(exc, ctx, debug=debug)
        except Stopped as exc:
            write_farewell(farewell)
            sys.exit(exc.exit_code)

    return run  # type: ignore[return-value]


def _fail(exc: BaseException, ctx: click.Context, *, debug: bool) -> NoReturn:
    """Report an error in one line, and exit."""
    if debug:
        traceback.print_exc()
    # A path or a cell in the message may contain newlines.
    words = _describe_shortage(exc) if is_shortage(exc) else translate(one_line(exc), ctx)
    click.echo(f"galfig: error: {words}", err=True)
    sys.exit(EXIT_FAILED)


def _describe_shortage(exc: BaseException) -> str:
    """Say that the machine is short of something; libraries say it in many lines."""
    reason = one_line(exc)[:200] or type(exc).__name__
    return f"not enough memory, threads or open files ({reason})"


def _start_logging(level: int, ctx: click.Context) -> None:
    logger = logging.getLogger("galfig")
    logger.handlers = [_StderrHandler(ctx)]
    logger.setLevel(level)
    logger.propagate = False


class _StderrHandler(logging.Handler):
    """Writes a line to stderr, above the progress bar if there is one."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__()
        # click's context is not available in other threads that log.
        self._ctx = ctx

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        # What a file says of itself must not reach the terminal as it is.
        words = "\n".join(map(make_printable, record.getMessage().split("\n")))
        write_line(f"{prefix}{translate(words, self._ctx)}")
