"""Settings: one model, read from ``galfig.toml``, overridden by options, recorded with results."""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

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
from galfig.runtime.messages import find_unprintable, suggest

DEFAULT_FILE = "galfig.toml"
# Largest file of settings [byte].
MAX_BYTES = 1_000_000

# Choices that the settings and the command line share.
Precision = Literal["float32", "tf32", "bfloat16"]


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


class _Table(BaseModel):
    """A table of ``galfig.toml``; it is immutable and accepts only declared keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        # Python treats true as 1, so 'epochs = true' would train for one epoch.
        cells = value if isinstance(value, list | tuple) else [value]
        if cls.model_fields[str(info.field_name)].annotation is not bool and any(
            isinstance(cell, bool) for cell in cells
        ):
            raise ValueError(f"found {value!r}; input should not be a boolean")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_unprintable(cls, value: Any, info: ValidationInfo) -> Any:
        # A path may hold anything. All other words may end in a figure or its caption.
        if info.field_name in ("path", "images", "images_dir", "init"):
            return value
        for words in value if isinstance(value, tuple) else (value,):
            if isinstance(words, str) and (found := find_unprintable(words)):
                raise ValueError(f"{words!r} holds {found!r}, expected printable text")
        return value


class CatalogSettings(_Table):
    """Where the galaxies are, and what the columns of their catalog mean."""

    path: str = Field(
        "data/simulated/catalog.csv",
        description="Catalog: CSV (also .gz), Parquet, FITS or ECSV; relative to the settings file",
    )
    id: str = Field("objID", description="Column with the identifier of each galaxy")
    images: str = Field(
        "images/{objID}.jpg",
        description="Template of each image's path, relative to the catalog; "
        "{column} stands for the galaxy's value in that column",
    )
    images_dir: str | None = Field(
        None,
        description="Folder that the template is relative to, instead of the catalog's own",
    )
    redshift: str | None = Field("z", description="Column with the redshift, used where present")
    pixel_scale: Annotated[float, Field(gt=0)] | str | None = Field(
        None, description="Pixel scale [arcsec/pixel]: a number, or the column that holds it"
    )
    fits_range: tuple[float, float] | None = Field(
        None,
        description="Values of FITS images shown as black and as white, asinh between; default "
        "two percentiles of each image",
    )

    def record_images(self) -> dict[str, str | None]:
        """Return ``images`` and ``images_dir`` without the folders of this machine."""
        folder = self.images_dir
        constant, brace, rest = self.images.partition("{")
        head, slash, name = constant.rpartition("/")
        if head.startswith(("/", "..")):
            constant = f"{record_folder(head)}{slash}{name}"
        return {
            "images": f"{constant}{brace}{rest}",
            "images_dir": None if folder is None else record_folder(folder),
        }

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


class ClassSettings(_Table):
    """The classes that the network separates: bins of a number, or a column of text."""

    column: str = Field("oh_p50", description="Column that is binned, or that holds the classes")
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
        if self.edges is None:
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
            labels = self.labels or self.keep
            unknown = [name for name in self.keep if name not in labels]
            if unknown:
                raise ValueError(
                    f"keep names {unknown[0]!r}, which is not one of the labels {list(labels)}"
                )
        return self


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
        return self

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Checkpoints that were trained before these keys existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        for key in ("test_fraction", "allow_missing"):
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
        0, ge=0, description="Of the epochs, the first ones that train the last layer alone"
    )
    body_lr_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learning rate below the last layer, as a fraction of that of the last",
    )
    epochs: int = Field(5, ge=1, description="Passes over the training set")
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        8e-2, description="Peak learning rate, or 'auto' to take it from the finder"
    )
    schedule: Literal["one-cycle", "flat-cos"] = Field(
        "one-cycle", description="Learning-rate schedule"
    )
    batch_size: int = Field(64, ge=2, description="Galaxies per training step")
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
    threads: int = Field(
        4, ge=1, le=256, description="Threads that compute on a CPU; they determine the rounding"
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
        for key in ("pretrained", "init", "freeze", "body_lr_ratio", "crop_margin"):
            if key in keys and keys[key] == fields[key].default:
                del keys[key]
        return keys

    def record(self) -> dict[str, Any]:
        """Return the settings ready for JSON, without the folder of ``init``."""
        keys = self.model_dump(mode="json")
        if self.init is not None:
            keys["init"] = PurePath(self.init).name
        return keys

    @property
    def network_size(self) -> int:
        """Side of the images that the network sees [pixels]."""
        return self.image_size or self.cutout_size

    @property
    def n_channels(self) -> int:
        """Number of channels that the network sees: 1 for one band, 3 for RGB."""
        return 1 if self.grayscale else 3


class MapSettings(_Table):
    """The Grad-CAM maps."""

    layer: str = Field(
        "auto", description="Layer to explain; 'auto' is the last one with feature maps"
    )
    shard_size: int = Field(512, ge=1, description="Galaxies computed and written as one unit")
    micro_batch: int | None = Field(
        None, ge=1, le=4096, description="Images computed at a time; default set by the cache size"
    )
    precision: Precision = Field(
        "float32", description="Arithmetic of the forward pass; tf32 only matters on CUDA"
    )
    tta: bool = Field(
        False,
        description="Explain the network averaged over the eight orientations of each image "
        "(test-time augmentation)",
    )

    @model_serializer(mode="wrap")
    def _leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Stores that were built before this key existed stay up to date.
        keys: dict[str, Any] = serialize(self)
        if not keys.get("tta", True):
            del keys["tta"]
        return keys


class Settings(_Table):
    """Everything that ``galfig.toml`` may contain; every table and every key is optional."""

    catalog: CatalogSettings = CatalogSettings()
    classes: ClassSettings = ClassSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    maps: MapSettings = MapSettings()

    # Not recorded, since outputs must not depend on the location of the folder.
    _folder: Path = PrivateAttr(default_factory=Path)

    def record(self) -> dict[str, Any]:
        """Return the settings that determine the results, ready for JSON.

        The shard size is left out: it divides the work but does not change the results. So are the
        folders of this machine; see `record_folder`.

        Returns
        -------
        dict
            A dict for each table, by name.
        """
        tables = self.model_dump(mode="json", exclude={"maps": {"shard_size"}})
        # The digest of the catalog, recorded beside the settings, tells it from another.
        tables["catalog"]["path"] = PurePath(self.catalog.path).name
        tables["catalog"] |= self.catalog.record_images()
        tables["training"] = self.training.record()
        return tables

    @property
    def catalog_path(self) -> Path:
        """Path of the catalog, relative to the working directory."""
        return self._folder / self.catalog.path

    @property
    def init_path(self) -> Path | None:
        """Path of the weights to start from, relative to the working directory."""
        return None if self.training.init is None else self._folder / self.training.init

    @property
    def images_dir(self) -> Path:
        """Folder that the template of image paths is relative to."""
        if self.catalog.images_dir is None:
            return self.catalog_path.parent
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
        Values that replace those of ``source``; None leaves a value unchanged. A `Path` among
        them is relative to the working directory.

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
    for (table, key), value in (overrides or {}).items():
        if value is None:
            continue
        if isinstance(value, Path):
            value = os.path.relpath(value, folder)
        tables.setdefault(table, {})[key] = value
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as exc:
        place = tuple(map(str, exc.errors()[0]["loc"][:2]))
        options = {place for place, value in (overrides or {}).items() if value is not None}
        where = "arguments" if place in options else path or "settings"
        raise ConfigError(f"{where}: {_describe(exc)}") from exc
    settings._folder = folder
    return settings


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
    # For a union, pydantic appends the member that it tried ('float', 'literal[...]') to the key.
    keys = [str(part) for part in error["loc"][:2]]
    where = f"[{keys[0]}] {keys[1]}" if len(keys) > 1 else f"[{keys[0]}]"
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
