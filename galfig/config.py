"""Settings: one model, read from ``galfig.toml``, overridden by options, recorded with results."""

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from galfig.errors import ConfigError
from galfig.runtime.documents import load_toml
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import find_unprintable, quote, suggest
from galfig.runtime.options import Annotation, Layout, Overlay, Scale
from galfig.runtime.storage import Address, find_place, is_address, quote_address

DEFAULT_FILE = "galfig.toml"
# Largest file of settings [byte].
MAX_BYTES = 1_000_000

# Choices that the settings and the command line share.
Precision = Literal["float32", "tf32", "bfloat16", "auto"]
TrainingPrecision = Literal["float32", "bfloat16", "auto"]
Form = Literal["full", "native", "statistics"]
Method = Literal[
    "grad-cam",
    "hires-cam",
    "grad-cam++",
    "layer-cam",
    "x-grad-cam",
    "evidence",
    "integrated-gradients",
    "input-x-gradient",
]
# Methods whose maps are not linear in the explained output: the difference of two of their maps is
# not the map of a difference.
NONLINEAR_METHODS = ("grad-cam++", "layer-cam")
# Methods that explain the pixels of the image, and no layer.
PIXEL_METHODS = ("integrated-gradients", "input-x-gradient")
# The most channels of an image: beyond these, a file is a cube of spectra.
MAX_CHANNELS = 16
# The most networks of an ensemble: beyond these, error bars hardly change.
MAX_NETWORKS = 100
# Keys of `[catalog]` that older versions did not know. Left at their defaults, they are not
# recorded, so that what was made before them stays up to date.
_NEW_CATALOG_KEYS = (
    *("names", "duplicates", "columns"),
    *("bands", "extensions", "planes", "rgb", "stretch", "scale", "array"),
    *("lupton_q", "lupton_stretch", "lupton_minimum"),
)


# A value of an image, in any unit.
Flux = Annotated[float, Field(ge=-1e30, le=1e30)]


def _check_distinct(key: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not name.strip():
            raise ValueError(f"an empty name in {key}")
        if not name.isprintable():
            raise ValueError(f"{name!r} in {key}, expected no line breaks or control characters")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} appears twice in {key}")


def record_folder(folder: str) -> str:
    """Return a name for a folder that says nothing of where it is, but tells it from others.

    Parameters
    ----------
    folder : str
        Its path, or what this function returned.

    Returns
    -------
    str
        The path if it is a plain name, and otherwise a digest of it.
    """
    path = PurePath(folder)
    if len(path.parts) < 2 and not path.is_absolute() and path.name != "..":
        return folder
    return f"~{sha256(os.fsencode(folder)).hexdigest()[:8]}"


# A file of several tables, and the one that is meant: "cat.fits[OBJECTS]", "cat.h5[group/table]".
_CHOSEN = re.compile(r"(?P<file>.*\.\w+)\[(?P<table>[^\[\]]+)\]", re.DOTALL)


class CatalogFile(NamedTuple):
    """A file with galaxies.

    Attributes
    ----------
    path : Path
        The file, relative to the working directory.
    table : str or None
        Name or number of a table in it.
    split : str
        "train", "valid" or "test" where the file says it of all its galaxies; "" otherwise.
    """

    path: Path
    table: str | None
    split: str


def _parse_file(path: str, folder: Path, split: str = "") -> CatalogFile:
    """Return the file and the table that a path of the settings names."""
    found = _CHOSEN.fullmatch(path)
    if found is None:
        return CatalogFile(folder / path, None, split)
    return CatalogFile(folder / found["file"], found["table"], split)


def _record_name(path: str) -> str:
    """Return a path of a catalog without its folder."""
    file = _parse_file(path, Path())
    return file.path.name + (f"[{file.table}]" if file.table is not None else "")


class _Table(BaseModel):
    """A table of ``galfig.toml``; it is immutable and accepts only declared keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        # Python treats true as 1, so 'epochs = true' would train for one epoch.
        cells = value if isinstance(value, list | tuple) else [value]
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind not in (bool, bool | None) and any(isinstance(cell, bool) for cell in cells):
            raise ValueError(f"found {value!r}; input should not be a boolean")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_unprintable(cls, value: Any, info: ValidationInfo) -> Any:
        # A path may hold anything. All other words may end in a figure or its caption.
        paths = ("path", "images", "images_dir", "bands", "test", "files", "init", "sheet")
        if info.field_name in paths:
            return value
        for words in value if isinstance(value, tuple) else (value,):
            if isinstance(words, str) and (found := find_unprintable(words)):
                raise ValueError(f"{words!r} holds {found!r}, expected printable text")
        return value


class CatalogSettings(_Table):
    """Where the galaxies are, and what the columns of their catalog mean."""

    path: str = Field(
        "data/simulated/catalog.csv",
        description="Catalog: text, FITS, VOTable, Parquet, ...; relative to the settings file. "
        "'cat.fits[NAME]' is another table of a file",
    )
    names: tuple[str, ...] | None = Field(
        None, description="Names of the columns of a text file that has no header line"
    )
    columns: tuple[str, ...] | None = Field(
        None,
        description="Columns that the store keeps besides those that other settings name; "
        "default all",
    )
    duplicates: Literal["none", "first"] = Field(
        "none", description="Galaxies kept of those that share an identifier"
    )
    id: str = Field("objID", description="Column with the identifier of each galaxy")
    images: str = Field(
        "images/{objID}.jpg",
        description="Template of each image's path, relative to the catalog; {column} stands for "
        "the galaxy's value in that column, {column[:4]} for a part of it, .* for any suffix",
    )
    images_dir: str | None = Field(
        None,
        description="Folder that the template is relative to, instead of the catalog's own",
    )

    @field_validator("images_dir")
    @classmethod
    def _refuse_address(cls, value: str | None) -> str | None:
        # A file of settings, and a store that holds settings, may be anybody's.
        if value is not None and is_address(value):
            raise ValueError(
                f"{quote_address(value)} is an address, expected a folder; an address is opened "
                "only where it is typed: give it as `images_dir`"
            )
        return value

    redshift: str | None = Field("z", description="Column with the redshift, used where present")
    pixel_scale: Annotated[float, Field(gt=0)] | str | None = Field(
        None, description="Pixel scale [arcsec/pixel]: a number, or the column that holds it"
    )
    fits_range: tuple[float, float] | None = Field(
        None,
        description="Values of FITS images shown as black and as white, asinh between; default "
        "from each image, see 'stretch'",
    )
    stretch: Literal["sky", "percentiles", "lupton"] = Field(
        "sky",
        description="How each FITS image is stretched without 'fits_range': from its sky to the "
        "brightest of its source, or between two percentiles of its pixels; or all of them alike, "
        "three planes to colours, by the stretch of Lupton et al. 2004",
    )
    lupton_q: float = Field(
        8.0, gt=0, le=1000, description="Q of the stretch of Lupton et al., its softening"
    )
    lupton_stretch: float = Field(
        5.0,
        ge=1e-30,
        le=1e30,
        description="Linear stretch of that of Lupton et al., in the unit of the images",
    )
    lupton_minimum: Flux | tuple[Flux, Flux, Flux] = Field(
        0.0,
        description="Value shown as black by the stretch of Lupton et al., or one for each of red, "
        "green and blue",
    )
    bands: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        max_length=MAX_CHANNELS,
        description="Templates of the paths of several files, one per band, instead of 'images'",
    )
    extensions: tuple[Annotated[int, Field(ge=0)] | str, ...] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHANNELS,
        description="Extensions of FITS files, by name or number, instead of the first image",
    )
    planes: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHANNELS,
        description="Planes of FITS cubes, counted from 0, in the order red, green, blue, others",
    )
    rgb: tuple[int, int, int] | None = Field(
        None,
        description="Channels that figures show as red, green and blue, counted from 0; default "
        "the first three",
    )
    scale: Literal["pixels", "whole"] = Field(
        "pixels",
        description="Crop or pad each image to the cutout, or scale the whole image to it",
    )
    array: str | None = Field(
        None,
        description="Array or column that holds the images, in a catalog that holds them itself; "
        "default the only one",
    )

    @field_validator("names", "columns")
    @classmethod
    def _check_names(
        cls, names: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if names is not None:
            _check_distinct(str(info.field_name), names)
        return names

    @property
    def n_channels(self) -> int:
        """Number of channels that the files are asked for: 3 unless bands or planes are named."""
        chosen = self.bands or self.planes or self.extensions or ()
        # One plane alone is a grey image.
        return 3 if len(chosen) < 2 else len(chosen)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel, as far as the settings give one."""
        numbers = range(self.n_channels)
        if self.planes and len(self.planes) > 1:
            return tuple(f"plane {plane}" for plane in self.planes)
        if self.extensions and len(self.extensions) > 1:
            return tuple(f"extension {key}" for key in self.extensions)
        if self.bands:
            # Such as g and r of '{id}_g.fits' and '{id}_r.fits', or of 'g/{id}.fits'.
            for words in ([PurePosixPath(band).name for band in self.bands], self.bands):
                start = _count_shared(words)
                end = _count_shared([one[start:][::-1] for one in words])
                names = [one[start : len(one) - end] for one in words]
                if all(name.isalnum() and len(name) < 9 for name in names):
                    return tuple(f"band {name}" for name in names)
        return tuple(f"channel {number}" for number in numbers)

    def record_images(self) -> dict[str, Any]:
        """Return the templates and ``images_dir`` without the folders of this machine."""
        folder = self.images_dir
        bands = {"bands": [*map(_record_template, self.bands)]} if self.bands else {}
        return {
            "images": _record_template(self.images),
            "images_dir": None if folder is None else record_folder(folder),
            **bands,
        }

    def record_pixels(self) -> dict[str, Any]:
        """Return the settings, other than those of the stretch, by which files become other pixels.

        Those at their defaults are left out.
        """
        keys = ("extensions", "planes", "scale", "array")
        found = self.model_dump(mode="json")
        return {key: found[key] for key in keys if key in found}

    def record_lupton(self) -> dict[str, Any]:
        """Return the parameters of the stretch of Lupton et al., by name."""
        black = self.lupton_minimum
        return {
            "minimum": black if isinstance(black, tuple) else (black, black, black),
            "stretch": self.lupton_stretch,
            "softening": self.lupton_q,
        }

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        keys: dict[str, Any] = serialize(self)
        for key in _NEW_CATALOG_KEYS:
            if key in keys and getattr(self, key) == type(self).model_fields[key].default:
                del keys[key]
        return keys

    @model_validator(mode="after")
    def _check_channels(self) -> "CatalogSettings":
        if self.planes and self.bands:
            raise ValueError("planes are of a single file, expected either bands or planes")
        if self.planes and self.extensions and len(self.extensions) > 1:
            raise ValueError("planes are of one extension, expected one, or no planes")
        if self.extensions and self.bands and len(self.extensions) > 1:
            raise ValueError("several extensions and several bands, expected either")
        chosen = self.bands or self.planes or self.extensions
        if self.stretch == "lupton" and chosen and len(chosen) != 3:
            channels = "one channel" if len(chosen) == 1 else f"{len(chosen)} channels"
            raise ValueError(f'{channels} with stretch = "lupton", expected red, green and blue')
        if self.rgb is not None and not all(0 <= band < self.n_channels for band in self.rgb):
            raise ValueError(
                f"rgb {list(self.rgb)}, expected channels from 0 to {self.n_channels - 1}"
            )
        return self

    @model_validator(mode="after")
    def _check_stretch(self) -> "CatalogSettings":
        if self.stretch == "lupton":
            if self.fits_range is not None:
                raise ValueError(
                    'fits_range and stretch = "lupton", expected one of them; lupton_minimum and '
                    "lupton_stretch say what is black and white"
                )
            return self
        for key in ("lupton_q", "lupton_stretch", "lupton_minimum"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f'{key} with stretch = "{self.stretch}", expected "lupton"')
        return self

    @field_validator("fits_range")
    @classmethod
    def _check_range(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"fits_range {list(limits)} is not increasing")
        return limits

    @model_validator(mode="before")
    @classmethod
    def _name_images_by_id(cls, values: Any) -> Any:
        if isinstance(values, dict) and "id" in values and "images" not in values:
            values = {**values, "images": f"images/{{{values['id']}}}.jpg"}
        return values


def _count_shared(texts: Sequence[str]) -> int:
    """Return the number of characters with which all texts begin."""
    return sum(1 for _ in takewhile(lambda chars: len(set(chars)) == 1, zip(*texts, strict=False)))


def _record_template(template: str) -> str:
    """Return a template of paths without the folders of this machine."""
    constant, brace, rest = template.partition("{")
    head, slash, name = constant.rpartition("/")
    if head.startswith(("/", "..")):
        constant = f"{record_folder(head)}{slash}{name}"
    return f"{constant}{brace}{rest}"


class ClassSettings(_Table):
    """The classes that the network separates: bins of a number, or a column of text."""

    column: str = Field("oh_p50", description="Column that is binned, or that holds the classes")
    columns: tuple[str, ...] | None = Field(
        None,
        description="Columns of numbers, such as fractions of votes, of which the largest gives "
        "the class",
    )
    threshold: float | None = Field(
        None, description="Least value that the largest of the columns must have"
    )
    edges: tuple[float, ...] | None = Field(
        (8.1, 8.7, 9.1, 9.3),
        description="Increasing bin edges; bins are (a, b] as in pandas.cut. "
        "[] when the column holds the classes as text",
    )
    labels: tuple[str, ...] | None = Field(
        ("low", "medium", "high"), description="Class of each bin, in the order of the edges"
    )
    keep: tuple[str, ...] | None = Field(
        ("low", "high"),
        description="Classes the network is trained on, in the order of the panels; default all",
    )
    name: str = Field(
        "metallicity", description="The quantity; panels then say 'low-metallicity'. May be empty"
    )
    symbol: str = Field(
        "", description="Its symbol on axes, such as Z in 'Predicted Z'; default the name"
    )

    @model_validator(mode="before")
    @classmethod
    def _forget_default_bins(cls, values: Any) -> Any:
        # The defaults describe the default column. Settings that name another column or other
        # edges must not inherit the bins, the labels or the name of metallicity.
        if isinstance(values, dict):
            values = dict(values)
            if isinstance(columns := values.get("columns"), list | tuple):
                words = f"the largest of {', '.join(map(str, columns))}"
                if values.setdefault("column", words) != words:
                    raise ValueError("column and columns are given, expected one of them")
                if values.get("edges"):
                    raise ValueError("edges and columns are given, expected one of them")
            if values.get("column", "oh_p50") != "oh_p50":
                values.setdefault("edges", None)
                values.setdefault("name", "")
            if "edges" in values:
                values["edges"] = None if values["edges"] in ([], ()) else values["edges"]
                values.setdefault("labels", None)
            if "edges" in values or "labels" in values:
                values.setdefault("keep", None)
        return values

    @model_validator(mode="after")
    def _check_bins(self) -> "ClassSettings":
        if self.columns is not None:
            _check_distinct("columns", self.columns)
            if len(self.columns) < 2:
                raise ValueError(f"columns {list(self.columns)} are fewer than two")
            if self.labels is not None:
                _check_distinct("labels", self.labels)
                if len(self.labels) != len(self.columns):
                    raise ValueError(
                        f"{len(self.columns)} columns, but there are {len(self.labels)} labels "
                        f"{list(self.labels)}"
                    )
        elif self.threshold is not None:
            raise ValueError("threshold is given without columns")
        elif self.edges is None:
            if self.labels is not None:
                raise ValueError("labels are given without edges; a text column needs only 'keep'")
        else:
            if len(self.edges) < 2 or any(
                a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)
            ):
                raise ValueError(f"edges {list(self.edges)} are not two or more increasing numbers")
            n_bins = len(self.edges) - 1
            if self.labels is None:
                raise ValueError(f"edges make {n_bins} bins, but no labels are given")
            if len(self.labels) != n_bins:
                raise ValueError(
                    f"{len(self.edges)} edges make {n_bins} bins, but there are "
                    f"{len(self.labels)} labels {list(self.labels)}"
                )
            _check_distinct("labels", self.labels)
        if self.keep is not None:
            _check_distinct("keep", self.keep)
            if len(self.keep) < 2:
                raise ValueError(f"keep {list(self.keep)} names fewer than two classes")
            labels = self.labels or self.columns or self.keep
            unknown = [name for name in self.keep if name not in labels]
            if unknown:
                raise ValueError(
                    f"keep names {unknown[0]!r}, which is not one of the labels {list(labels)}"
                )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Stores and checkpoints that were made before these keys existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        for key in ("columns", "threshold"):
            if key in keys and keys[key] is None:
                del keys[key]
        return keys


class SplitSettings(_Table):
    """Which galaxies train the network, which validate it, and which are kept out of both."""

    valid_fraction: float = Field(0.2, gt=0, lt=1, description="Fraction drawn for validation")
    test_fraction: float = Field(
        0.0, ge=0, lt=1, description="Fraction drawn as a test set, kept out of both"
    )
    seed: int = Field(256, ge=0, lt=2**32, description="Seed of that draw")
    column: str | None = Field(
        None, description="Column that says 'train', 'valid' or 'test', instead of a random draw"
    )
    test: str | None = Field(None, description="Another catalog, whose galaxies are the test set")
    files: dict[Literal["train", "valid", "test"], str] | None = Field(
        None, description="A catalog for each of 'train', 'valid' and 'test'"
    )
    allow_missing: bool = Field(
        False, description="Train although the validation set lacks a class"
    )

    @model_validator(mode="after")
    def _check_fractions(self) -> "SplitSettings":
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"valid_fraction {self.valid_fraction:g} and test_fraction "
                f"{self.test_fraction:g} leave nothing to train on"
            )
        if self.test is not None and "test" in (self.files or {}):
            raise ValueError("test and files.test are given, expected one of them")
        if self.files is not None and self.column is not None:
            raise ValueError("files and column are given, expected one of them")
        if self.files is not None and not self.files:
            raise ValueError("files is empty, expected a catalog for 'train', 'valid' or 'test'")
        return self

    @property
    def catalogs(self) -> dict[str, str]:
        """The catalogs that say the split of all their galaxies, by split."""
        found = {str(split): path for split, path in (self.files or {}).items()}
        return found if self.test is None else {**found, "test": self.test}

    def record(self) -> dict[str, Any]:
        """Return the table, ready for JSON, without the folders of this machine."""
        keys = self.model_dump(mode="json")
        if self.test is not None:
            keys["test"] = _record_name(self.test)
        if self.files is not None:
            keys["files"] = {split: _record_name(path) for split, path in self.files.items()}
        return keys

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Checkpoints that were trained before these keys existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        for key in ("test_fraction", "test", "files", "allow_missing"):
            if key in keys and not keys[key]:
                del keys[key]
        return keys


class TrainingSettings(_Table):
    """The network and how it is trained."""

    arch: str = Field(
        "conv3",
        description="Network: conv3, xresnet18, xresnet34 or xresnet50, these also with _mish, _sa "
        "or _mish_sa, timm:NAME or torchvision:NAME",
    )
    pretrained: bool = Field(
        False, description="Start from the weights that timm or torchvision offers for the network"
    )
    init: str | None = Field(
        None,
        description="Start from the weights of this checkpoint or state dict, with a new last "
        "layer; relative to the settings file",
    )
    freeze: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Of the epochs, the first ones that train the last layer alone",
    )
    body_lr_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learning rate below the last layer, as a fraction of that of the last",
    )
    epochs: int = Field(5, ge=1, le=1_000_000, description="Passes over the training set")
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        8e-2, description="Peak learning rate, or 'auto' to take it from the finder"
    )
    schedule: Literal["one-cycle", "flat-cos"] = Field(
        "one-cycle", description="Learning-rate schedule"
    )
    batch_size: int = Field(64, ge=2, le=1_000_000, description="Galaxies per training step")
    cutout_size: int = Field(
        96, ge=8, le=8192, description="Crop or pad images around their centre to this [pixels]"
    )
    image_size: int | None = Field(
        None, ge=8, le=8192, description="Resize cutouts to this [pixels]"
    )
    crop_margin: int = Field(
        0,
        ge=0,
        le=4096,
        description="Train on random crops, off the centre by up to this along each side [pixels]",
    )
    grayscale: bool = Field(False, description="Train on one band: the luminance of a colour image")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Class weights in the loss: equal, or by inverse frequency"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label-smoothing factor")
    sampler: Literal["none", "balanced"] = Field(
        "none", description="Galaxies of an epoch: each once, or all classes equally often"
    )
    seed: int = Field(256, ge=0, lt=2**32, description="Seed of weights, order, augmentation")
    networks: int = Field(
        1,
        ge=1,
        le=MAX_NETWORKS,
        description="Networks to train, with other seeds, whose scatter gives error bars",
    )
    threads: int = Field(
        4, ge=1, le=256, description="Threads that compute on a CPU; they determine the rounding"
    )
    precision: TrainingPrecision = Field(
        "float32",
        description="Arithmetic of the training; 'auto' takes bfloat16 where the processor is made "
        "for it",
    )

    @model_validator(mode="after")
    def _check_start(self) -> "TrainingSettings":
        if self.pretrained and self.init is not None:
            raise ValueError("pretrained and init exclude each other; give one")
        if self.freeze > self.epochs:
            raise ValueError(
                f"freeze {self.freeze} is more than epochs {self.epochs}, of which it is a part"
            )
        if self.freeze and not (self.pretrained or self.init is not None):
            raise ValueError(
                f"freeze {self.freeze} would keep random weights; set pretrained or init, too"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Checkpoints that were trained before these keys existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        fields = type(self).model_fields
        for key in (
            *("pretrained", "init", "freeze", "body_lr_ratio", "crop_margin"),
            "precision",
        ):
            if key in keys and keys[key] == fields[key].default:
                del keys[key]
        return keys

    def record(self) -> dict[str, Any]:
        """Return the settings ready for JSON, without the folder of ``init``.

        Neither is the number of networks: each follows from its own seed, and not from how many
        others there are.
        """
        keys = self.model_dump(mode="json")
        del keys["networks"]
        if self.init is not None:
            keys["init"] = PurePath(self.init).name
        return keys

    @property
    def output(self) -> str:
        """Where to train to if nothing is said: a checkpoint, or a folder of several networks."""
        return "networks" if self.networks > 1 else "model.safetensors"

    @property
    def network_size(self) -> int:
        """Side of the images that the network sees [pixels]."""
        return self.image_size or self.cutout_size


class MapSettings(_Table):
    """The maps."""

    method: Method = Field(
        "grad-cam", description="Method of attribution; 'evidence' contrasts the classes"
    )
    layer: str = Field(
        "auto", description="Layer to explain; 'auto' is the last one with feature maps"
    )
    shard_size: int = Field(
        512, ge=1, le=1_000_000, description="Galaxies computed and written as one unit"
    )
    micro_batch: int | None = Field(
        None, ge=1, le=4096, description="Images computed at a time; default set by the cache size"
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of the forward pass; tf32 only matters on CUDA, and 'auto' takes "
        "bfloat16 where it is faster and agrees",
    )
    tta: bool = Field(
        False,
        description="Explain the network averaged over the eight orientations of each image "
        "(test-time augmentation)",
    )
    store: Form = Field(
        "full",
        description="What is stored of each galaxy: maps and cutout; 'native', maps of 8 bits; or "
        "'statistics', numbers only, and figures explain galaxies again",
    )
    features: bool = Field(
        False,
        description="Store features of each galaxy: the mean of each feature map of the layer",
    )

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Stores that were built before these keys existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        for key in ("method", "tta", "store", "features"):
            if key in keys and keys[key] == type(self).model_fields[key].default:
                del keys[key]
        return keys

    @model_validator(mode="after")
    def _check_tta(self) -> "MapSettings":
        if self.tta and self.method == "grad-cam++":
            raise ValueError(
                "method 'grad-cam++' with tta, expected another method: its map of an averaged "
                "network is not the average of the maps"
            )
        return self

    @model_validator(mode="after")
    def _check_features(self) -> "MapSettings":
        if self.features and self.method in PIXEL_METHODS:
            raise ValueError(
                f"features with method {self.method!r}, expected a method that explains a layer; "
                "it explains the pixels of the image"
            )
        return self


# Longest name of a class or of a column in a figure, in characters.
MAX_WORDS = 200


class StyleSettings(_Table):
    """How figures look. No store depends on it or records it."""

    sheet: str = Field(
        "journal",
        description="journal; talk, dark and 16:9 with larger type; poster, with larger type; or a "
        "style sheet of matplotlib, FILE.mplstyle, on top of journal",
    )
    cmap: str | None = Field(
        None, description="Colour map of the maps, a name of matplotlib; best dark at zero"
    )
    overlay: Overlay = Field(
        "opaque",
        description="How rows show maps: 'opaque' over the dimmed cutout, 'blend' with the galaxy "
        "shining through, 'contour' as lines over the cutout, or 'side' beside it",
    )
    scale: Scale = Field(
        "row",
        description="Which maps of rows share a colour scale: those of a 'row', none ('panel'), or "
        "all of the 'figure'",
    )
    negative: bool = Field(
        False,
        description="Whether rows show negative values of maps, too, on a diverging colour scale",
    )
    font: str | None = Field(None, description="Family of the font, which must be installed")
    font_size: float | None = Field(
        None, ge=4, le=60, description="Size of the text [pt]; that of labels and numbers follows"
    )
    columns: int | None = Field(
        None, ge=1, le=50, description="Galaxies abreast in rows of panels; default as a page needs"
    )
    layout: Layout = Field(
        "rows",
        description="Where the maps of a galaxy stand: 'rows' beside its cutout, 'grid' below it",
    )
    pages: bool = Field(
        False, description="Whether rows of panels go on over several pages of a PDF"
    )
    annotate: tuple[Annotation, ...] = Field(
        ("objid", "true", "p", "sum"),
        description="What stands on the panels of a galaxy: objid, name (by its position), z, "
        "value (of the binned quantity), true (its class), p, and sum (of each map)",
    )
    designation: str = Field(
        "J",
        max_length=40,
        description="What names by position begin with, such as 'SDSS J', before the coordinates",
    )
    title: str | None = Field(
        None, max_length=500, description="Title above rows of panels and charts"
    )
    letters: bool = Field(False, description="Whether rows of panels have letters: (a), (b), ...")
    compass: bool | None = Field(
        None,
        description="Whether arrows on cutouts point to the north and the east, where these are "
        "known; default where they are not up and to the left in all cutouts of a figure",
    )
    class_names: dict[str, str] = Field(
        {}, description="Names of classes in figures, by their names in the store"
    )
    labels: dict[str, str] = Field(
        {}, description="What axes and captions call columns of the catalog, with the unit"
    )

    @field_validator("class_names", "labels")
    @classmethod
    def _check_words(cls, words: dict[str, str]) -> dict[str, str]:
        found = {old: new.strip() for old, new in words.items()}
        for old, new in found.items():
            if not new:
                raise ValueError(f"{quote(old)} has an empty name, expected words")
            if len(new) > MAX_WORDS or find_unprintable(new):
                raise ValueError(
                    f"{quote(old)} is named {quote(new)}, expected at most {MAX_WORDS} printable "
                    "characters in one line"
                )
        return found


DEFAULT_STYLE = StyleSettings()


class AuthorSettings(_Table):
    """A person who made what is published."""

    name: str = Field(min_length=1, description="Name as it is printed")
    orcid: str | None = Field(None, description="ORCID iD, such as 0000-0002-1825-0097")
    affiliation: str | None = Field(None, description="Institution")

    @field_validator("orcid")
    @classmethod
    def _check_orcid(cls, value: str | None) -> str | None:
        if value is None:
            return None
        number = value.removeprefix("https://orcid.org/")
        if not re.fullmatch(r"(\d{4}-){3}\d{3}[\dX]", number, re.ASCII):
            raise ValueError(f"orcid {value!r}, expected one such as 0000-0002-1825-0097")
        # The last digit is a checksum, ISO 7064 mod 11-2.
        total = 0
        for digit in number.replace("-", "")[:-1]:
            total = 2 * (total + int(digit)) % 11
        if number[-1] != "0123456789X"[(12 - total) % 11]:
            raise ValueError(f"orcid {value!r}: its last digit does not match; correct it")
        return number


class PublicationSettings(_Table):
    """How what is published is described. No store depends on it or records it."""

    title: str | None = Field(None, description="Title of what is published")
    description: str | None = Field(
        None, description="What it is, in a few sentences; default what its files say"
    )
    authors: tuple[AuthorSettings, ...] = Field(
        (), max_length=10_000, description="Authors: name, orcid and affiliation of each"
    )
    license: str | None = Field(
        None, description="Licence: an identifier of SPDX, such as CC-BY-4.0, or an address"
    )
    doi: str | None = Field(None, description="DOI, where it is reserved already")
    date: str | None = Field(None, description="Day of publication, 2026-11-26; default today")
    keywords: tuple[str, ...] = Field((), description="Keywords")
    surveys: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Surveys that galaxies come from, where stores do not record it, such as "
        "sdss-dr17; what 'galfig cite' and a crate then cite",
    )

    @field_validator("license")
    @classmethod
    def _check_license(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*|https?://[!-~]+", value):
            return value
        raise ValueError(f"{value!r}, expected an identifier such as CC-BY-4.0, or an address")

    @field_validator("doi")
    @classmethod
    def _check_doi(cls, value: str | None) -> str | None:
        if value is None:
            return None
        doi = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", value)
        if not re.fullmatch(r"10\.\d{4,9}/[!-~]+", doi, re.ASCII):
            raise ValueError(f"{value!r}, expected one such as 10.5281/zenodo.1234567")
        return doi

    @field_validator("date", mode="before")
    @classmethod
    def _check_date(cls, value: Any) -> Any:
        # TOML has days without quotes, too.
        if type(value) is datetime.date:
            return value.isoformat()
        try:
            return datetime.date.fromisoformat(value).isoformat() if value is not None else None
        except (TypeError, ValueError) as exc:
            raise ValueError(f"{value!r}, expected a day such as 2026-11-26") from exc


class Settings(_Table):
    """Everything that ``galfig.toml`` may contain; every table and every key is optional."""

    catalog: CatalogSettings = CatalogSettings()
    classes: ClassSettings = ClassSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    maps: MapSettings = MapSettings()
    style: StyleSettings = DEFAULT_STYLE
    publication: PublicationSettings = PublicationSettings()

    @model_validator(mode="after")
    def _check_images(self) -> "Settings":
        if self.training.grayscale and self.catalog.n_channels != 3:
            raise ValueError(
                f"[catalog] names {self.catalog.n_channels} channels, of which there is no "
                "luminance; expected three, or training without grayscale"
            )
        if self.catalog.scale == "whole" and self.catalog.pixel_scale is not None:
            raise ValueError(
                '[catalog] scale = "whole" changes the pixel scale of each image, expected no '
                "pixel_scale"
            )
        if self.catalog.scale == "whole" and self.training.crop_margin:
            raise ValueError(
                '[catalog] scale = "whole" leaves nothing beside it, expected no crop_margin'
            )
        return self

    @property
    def n_channels(self) -> int:
        """Number of channels that a network trained with these settings sees."""
        return 1 if self.training.grayscale else self.catalog.n_channels

    @property
    def cutout_size(self) -> int:
        """Side of the cutouts that a training makes of the images [pixels]."""
        is_whole = self.catalog.scale == "whole"
        return self.training.network_size if is_whole else self.training.cutout_size

    # Not recorded, since outputs must not depend on the location of the folder.
    _folder: Path = PrivateAttr(default_factory=Path)
    # Never recorded, and never read from a file.
    _storage: Address | None = PrivateAttr(default=None)

    def record(self) -> dict[str, Any]:
        """Return the settings that determine the results, ready for JSON.

        The shard size is left out: it divides the work but does not change the results. So are the
        style of figures, the publication and the folders of this machine; see `record_folder`.

        Returns
        -------
        dict
            A dict for each table, by name.
        """
        tables = self.model_dump(
            mode="json", exclude={"maps": {"shard_size"}, "style": True, "publication": True}
        )
        # The digest of the catalog, recorded beside the settings, tells it from another.
        tables["catalog"]["path"] = _record_name(self.catalog.path)
        tables["catalog"] |= self.catalog.record_images()
        tables["split"] = self.split.record()
        tables["training"] = self.training.record()
        return tables

    @property
    def catalog_files(self) -> tuple[CatalogFile, ...]:
        """The files with galaxies, the catalog first; see `SplitSettings.catalogs`."""
        catalogs = self.split.catalogs
        first = _parse_file(catalogs.get("train", self.catalog.path), self._folder)
        others = [
            _parse_file(path, self._folder, split)
            for split, path in catalogs.items()
            if split != "train"
        ]
        return first, *others

    @property
    def catalog_path(self) -> Path:
        """Path of the catalog, relative to the working directory."""
        return self.catalog_files[0].path

    @property
    def init_path(self) -> Path | None:
        """Path of the weights to start from, relative to the working directory."""
        return None if self.training.init is None else self._folder / self.training.init

    @property
    def input_files(self) -> tuple[Path, ...]:
        """The files with galaxies and the weights to start from, none of which may be replaced."""
        start = () if self.init_path is None else (self.init_path,)
        return *(file.path for file in self.catalog_files), *start

    @property
    def figure_style(self) -> StyleSettings:
        """The style of figures, with the path of its sheet relative to the working directory."""
        if not self.style.sheet.endswith(".mplstyle"):
            return self.style
        return self.style.model_copy(update={"sheet": str(self._folder / self.style.sheet)})

    @property
    def images_dir(self) -> Path | Address:
        """Folder or address that the template of image paths is relative to."""
        return self.find_images(self.catalog_files[0])

    def find_images(self, file: CatalogFile) -> Path | Address:
        """Return the folder or address that the image paths of a file are relative to.

        Parameters
        ----------
        file : CatalogFile
            One of ``catalog_files``.

        Returns
        -------
        Path or Address
            ``images_dir`` of the settings, or else the folder of the file.
        """
        if self._storage is not None:
            return self._storage
        if self.catalog.images_dir is None:
            return file.path.parent
        return self._folder / self.catalog.images_dir


def restore_settings(tables: Mapping[str, Any]) -> Settings:
    """Restore recorded settings, ignoring keys that this version does not know.

    Parameters
    ----------
    tables : mapping
        The tables that `Settings.record` returned.

    Returns
    -------
    Settings

    Raises
    ------
    ValueError
        If a value is one that no version wrote (`pydantic.ValidationError`).
    """
    known: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        found = tables.get(name, {})
        if isinstance(found, Mapping):
            fields = getattr(field.annotation, "model_fields", {})
            found = {key: value for key, value in found.items() if key in fields}
        known[name] = found
    return Settings.model_validate(known)


def load_settings(
    source: "Path | str | Mapping[str, Any] | Settings | None" = None,
    overrides: Mapping[tuple[str, str], Any] | None = None,
) -> Settings:
    """Read the settings and apply overrides to them.

    Parameters
    ----------
    source : Path, str, mapping or Settings, optional
        A TOML file, or its tables. By default, ``galfig.toml`` of the working directory where
        there is one. Otherwise the defaults apply, which describe the built-in simulated sample.
    overrides : mapping of (table, key) to value, optional
        Values that replace those of ``source``; None leaves a value unchanged, and a mapping adds
        to what is there. A `Path` among
        them is relative to the working directory. The folder of the images may be an address, such
        as ``"s3://bucket/cutouts"``; in ``source`` it may not.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown (the message suggests the nearest known key),
        or a value has the wrong type or is out of range.
    """
    if source is None and _may_exist(Path(DEFAULT_FILE)):
        source = Path(DEFAULT_FILE)
    path, tables, folder = _open_source(source)
    storage = source._storage if isinstance(source, Settings) else None
    for (table, key), value in (overrides or {}).items():
        if value is None:
            continue
        if (table, key) == ("catalog", "images_dir"):
            place = find_place(value, "images_dir") if is_address(value) else value
            storage = place if isinstance(place, Address) else None
            if storage is not None:
                continue
            value = place
        if isinstance(value, Path):
            value = os.path.relpath(value, folder)
        before = tables.setdefault(table, {}).get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            value = {**before, **value}
        tables[table][key] = value
        if (table, key) == ("catalog", "path") and isinstance(tables.get("split"), dict):
            # A catalog that is given is all of it: the files of the settings are another's splits.
            split = tables["split"]
            tables["split"] = {k: split[k] for k in split if k not in ("test", "files")}
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as exc:
        place = tuple(map(str, exc.errors()[0]["loc"][:2]))
        options = {place for place, value in (overrides or {}).items() if value is not None}
        where = "arguments" if place in options else path or "settings"
        raise ConfigError(f"{where}: {_describe(exc)}") from exc
    if "path" in tables.get("catalog", {}) and "train" in settings.split.catalogs:
        raise ConfigError(
            f"{path or 'settings'}: [catalog] path and [split] files.train are given, expected one "
            "of them"
        )
    settings._folder, settings._storage = folder, storage
    return settings


def make_style(style: "StyleSettings | Mapping[str, Any] | str | None") -> StyleSettings:
    """Return the style that an argument stands for.

    Parameters
    ----------
    style : StyleSettings, mapping, str or None
        The style, its keys, or the sheet alone; None for the default.

    Returns
    -------
    StyleSettings

    Raises
    ------
    ConfigError
        If a key is unknown, or a value has the wrong type or is out of range.
    """
    if isinstance(style, StyleSettings):
        return style
    keys = {"sheet": style} if isinstance(style, str) else dict(style or {})
    try:
        return StyleSettings.model_validate(keys)
    except ValidationError as exc:
        raise ConfigError(f"`style`: {_describe(exc)}") from exc


def _may_exist(path: Path) -> bool:
    """Return False only if there is nothing of this name.

    A broken link, a folder, or a folder around it that may not be searched is an error when it is
    read: the defaults would be other settings.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _open_source(
    source: Path | str | Mapping[str, Any] | Settings | None,
) -> tuple[Path | None, dict[str, Any], Path]:
    """Return the path of the settings file (or None), its tables, and the folder of its paths."""
    if isinstance(source, Settings):
        # Some checks depend on whether a key was set or left at its default.
        return None, source.model_dump(exclude_unset=True), source._folder
    if source is None or isinstance(source, Mapping):
        tables = {
            name: dict(table) if isinstance(table, Mapping) else table
            for name, table in (source or {}).items()
        }
        return None, tables, Path()
    path = Path(source)
    return path, _read_toml(path), path.parent


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = load_toml(read_regular(path, MAX_BYTES).decode("utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not valid TOML ({exc})") from exc
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    for name, table in tables.items():
        if name in Settings.model_fields and not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} is {table!r}, expected a table [{name}]")
    return tables


def _describe(exc: ValidationError) -> str:
    """Describe the first of pydantic's errors in one line."""
    error = exc.errors()[0]
    if not error["loc"]:
        # Of two tables that do not fit each other; the message names them.
        return str(error["ctx"]["error"])
    # For a union, pydantic appends the member that it tried ('float', 'literal[...]') to the key.
    keys = [str(part) for part in error["loc"][:2]]
    where = f"[{keys[0]}] {keys[1]}" if len(keys) > 1 else f"[{keys[0]}]"
    if error["type"] == "extra_forbidden" and len(error["loc"]) > 2:
        return f"{where}: unknown key {quote(error['loc'][-1])} in an item"
    if error["type"] == "extra_forbidden":
        table = Settings if len(keys) == 1 else type(getattr(Settings(), keys[0]))
        known = sorted(table.model_fields)
        hint = suggest(keys[-1], known, f"expected one of {', '.join(known)}")
        if len(keys) == 1 and not isinstance(error["input"], dict):
            places = [
                name
                for name, field in Settings.model_fields.items()
                if keys[0] in getattr(field.annotation, "model_fields", {})
            ]
            under = f"; put it under [{places[0]}]" if places else f", {hint}"
            return f"{keys[0]}: outside a table{under}"
        return f"{where}: unknown {'table' if len(keys) == 1 else 'key'}; {hint}"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    # A union fails once per member: report what each of them expected.
    expected = [e["msg"] for e in exc.errors() if e["loc"][:2] == error["loc"][:2]]
    words = " or ".join(dict.fromkeys(expected)).lower().replace("a valid tuple", "a list")
    return f"{where}: found {error['input']!r}; {words}"
