"""Commands of a recipe: the commands and options that it may use, and what they write.

Only what is listed here is accepted, so that a new option of galfig does not open a way out of the
manuscript's folder.
"""

import shlex
import unicodedata
from pathlib import PurePosixPath
from typing import NamedTuple

from galfig.config import CatalogSettings

# Options whose value is a path, which must stay inside the manuscript's folder.
PATHS = ("--config", "--catalog", "--images", "--init", "--model", "--out")
FLAGS = ("--overwrite", "--quiet", "-q", "--verbose", "-v", "--debug")
# Further options with a value, and without one, by command.
VALUES = {
    "simulate": ("--cue", "--n", "--seed"),
    "train": (
        *("--arch", "--batch-size", "--body-lr-ratio", "--class-weights", "--crop-margin"),
        *("--cutout-size", "--device", "--epochs", "--freeze", "--image-size"),
        *("--label-smoothing", "--layer", "--lr", "--precision", "--sampler", "--schedule"),
        "--seed",
    ),
    "build-maps": (
        *("--device", "--layer", "--method", "--networks", "--precision", "--shard-size"),
        *("--split", "--store", "--workers"),
    ),
    "audit": ("--device", "--measures", "--n", "--r50", "--r90", "--seed"),
}
SWITCHES = {
    "simulate": (),
    "train": ("--grayscale", "--resume", "--takeover"),
    "build-maps": ("--features", "--grayscale", "--takeover", "--tta", "--update"),
    "audit": ("--json", "--takeover", "--update"),
}
# Default and suffixes of what --out names: another suffix may be that of an author's own file.
OUTPUTS = {
    "train": ("model.safetensors", (".safetensors",)),
    "build-maps": ("maps.h5", (".h5", ".hdf5")),
    "audit": ("maps.audit.h5", (".h5", ".hdf5")),
}
# Options that no recipe may have, by command: a manuscript may be anybody's, and these run code of
# one's own, use a network or start workers. Several networks are a folder, and a step of a recipe
# makes a file: build-maps trains them on the way; and it makes a store, not some of its parts, in
# the folder.
REFUSED = {
    "train": ("--pretrained", "--networks"),
    "build-maps": ("--address", "--arch", "--engine", "--shards", "--storage"),
    "audit": ("--arch",),
}
# The options of `PATHS` that a command has, where it does not have all but one.
_PATHS_OF = {"simulate": (), "audit": ("--images", "--model", "--out")}
MAX_LENGTH = 200
# Suffixes of the tables of galaxies that are written beside an audit.
_TABLES = (".parquet", ".ecsv")


class Command(NamedTuple):
    """A command of a recipe.

    Attributes
    ----------
    name : str
        A key of `VALUES`.
    arguments : tuple of str
        The words that follow ``galfig``.
    paths : dict of str to str
        The value of each of the options in `PATHS` that is given.
    folder : str
        The folder that ``simulate`` writes; "" for other commands.
    store : str
        The store that ``audit`` reads; "" for other commands.
    """

    name: str
    arguments: tuple[str, ...]
    paths: dict[str, str]
    folder: str
    store: str = ""

    @property
    def out(self) -> str:
        """The file or folder that the command is asked to write."""
        if self.name == "audit" and "--out" not in self.paths:
            return str(PurePosixPath(self.store).with_suffix(".audit.h5"))
        return self.folder or self.paths.get("--out", OUTPUTS.get(self.name, ("",))[0])

    @property
    def model(self) -> str | None:
        """The network that the command is given, or the folder of several; None without one."""
        return self.paths.get("--model")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Each file and folder that the command may write or remove, in the folder."""
        out = PurePosixPath(self.out)
        if self.name == "simulate":
            # With --cue, also the last three.
            names = ("catalog.csv", "images", "cue.toml", "masks", "truth.json")
            return tuple(str(out / name) for name in names)
        files = [str(out)]
        if self.name == "build-maps" and "--model" not in self.paths:
            # Trained on the way, and kept beside the store: one network, or a folder of several.
            files += [str(out.with_suffix(suffix)) for suffix in (".safetensors", ".networks")]
        made = [f"{file}{suffix}" for file in files for suffix in ("", ".lock", ".parts")]
        paths = [PurePosixPath(file) for file in files]
        if self.name == "audit":
            return (*made, *(str(out.with_suffix(suffix)) for suffix in _TABLES))
        made += [str(path.with_name(f"{path.stem}.resume{path.suffix}")) for path in paths]
        return tuple(made)

    @property
    def sample(self) -> tuple[str, ...]:
        """What the command writes if the settings name the built-in sample and it is absent."""
        if self.name in ("simulate", "audit"):
            return ()
        catalog = CatalogSettings.model_fields["path"].default
        folder = PurePosixPath(self.paths.get("--config", "")).parent / PurePosixPath(catalog)
        return (str(folder), str(folder.parent / "images"))


def parse_command(command: str) -> Command:
    """Parse a command of a recipe, and refuse what it may not do.

    Parameters
    ----------
    command : str
        The command with its arguments, as in a shell.

    Returns
    -------
    Command

    Raises
    ------
    ValueError
        If it is another command, an option is not known, or a path leaves the folder.
    """
    words = shlex.split(command)
    if len(words) < 2 or words[0] != "galfig" or words[1] not in VALUES:
        expected = ", ".join(f"galfig {name}" for name in VALUES)
        raise ValueError(f"command {command!r}, expected one of {expected}")
    name, rest = words[1], words[2:]
    with_value = (*_PATHS_OF.get(name, PATHS), *VALUES[name])
    # Each of the two has one that the other lacks.
    lacking = {"train": "--model", "build-maps": "--init"}.get(name)
    with_value = tuple(option for option in with_value if option != lacking)
    paths: dict[str, str] = {}
    folders: list[str] = []
    while rest:
        word = rest.pop(0)
        option, is_joined, value = word.partition("=")
        if not word.startswith("-"):
            folders.append(normalise(word))
        elif option in with_value:
            if not is_joined:
                if not rest:
                    raise ValueError(f"command {command!r}: {option} has no value")
                value = rest.pop(0)
            if option in PATHS:
                paths[option] = normalise(value)
        elif word not in (*FLAGS, *SWITCHES[name]):
            known = ", ".join((*with_value, *SWITCHES[name], *FLAGS))
            raise ValueError(f"command {command!r}: {option!r}, expected one of {known}")
    one = {"simulate": "one folder", "audit": "one store"}
    if len(folders) != (name in one):
        expected = one.get(name, "options only")
        raise ValueError(f"command {command!r}: found {folders}, expected {expected}")
    parsed = Command(
        name,
        tuple(words[1:]),
        paths,
        folders[0] if name == "simulate" else "",
        folders[0] if name == "audit" else "",
    )
    if name in OUTPUTS and PurePosixPath(parsed.out).suffix not in OUTPUTS[name][1]:
        expected = " or ".join(OUTPUTS[name][1])
        raise ValueError(f"command {command!r}: writes {parsed.out!r}, expected {expected}")
    return parsed


def normalise(path: str) -> str:
    """Return a path inside a manuscript in its shortest form, and refuse any other path.

    make, TeX and shells give a meaning to most other characters, and a line break would end a rule
    of make.

    Parameters
    ----------
    path : str
        A path of a manifest.

    Returns
    -------
    str
        The same path, relative, without "." and doubled slashes.

    Raises
    ------
    ValueError
        If the path is not one of letters, digits, blanks and ``. _ + -``, inside the folder.
    """
    parsed = PurePosixPath(path)
    if not parsed.parts or parsed.is_absolute() or ".." in parsed.parts or "\\" in path:
        raise ValueError(f"{path!r} leaves the folder, expected a relative path inside it")
    if len(path) > MAX_LENGTH or not all(map(_is_plain, parsed.parts)):
        raise ValueError(
            f"{path!r}, expected at most {MAX_LENGTH} letters, digits, blanks, '.', '_', '+' and "
            "'-', where each part of the path begins with a letter or digit"
        )
    return str(parsed)


def fold(path: str) -> tuple[str, ...]:
    """Return the parts of a path as file systems compare them that ignore case."""
    return tuple(unicodedata.normalize("NFKC", part).casefold() for part in path.split("/"))


def _is_plain(part: str) -> bool:
    has_only_these = all(char.isalnum() or char in "._+- " for char in part)
    return has_only_these and (part[0].isalnum() or part[0] == "_") and part[-1] not in " ."
