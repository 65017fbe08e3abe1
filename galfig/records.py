"""Records: the metadata of stores and checkpoints, read into typed models.

Another version of galfig may have written fewer or more keys: optional values that are missing are
None, and unknown keys are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from galfig.config import MAX_CHANNELS, MAX_NETWORKS, Form, Settings, restore_settings
from galfig.runtime.documents import load_json
from galfig.runtime.messages import find_unprintable, make_printable
from galfig.runtime.options import SPLITS, Cue, Split

# Size of the digest of a galaxy: 8 bytes of its identifier, 8 bytes of its image.
DIGEST_SIZE = 16
# File beside the catalog of simulated galaxies whose class one component decides.
TRUTH_FILE = "truth.json"
# File beside the catalog of a folder that 'galfig fetch' filled.
FETCH_FILE = "fetch.json"
# What rounding may add to a share or a correlation of 1.
_ROUNDING = 1e-6


def _check_printable(text: str) -> str:
    if found := find_unprintable(text):
        raise ValueError(f"holds {found!r}, expected printable text")
    return text


def _check_use(word: str) -> str:
    if word not in SPLITS:
        raise ValueError(f"should be {', '.join(map(repr, SPLITS[:-1]))} or {SPLITS[-1]!r}")
    return word


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("the same name twice")
    return names


def _parse(value: Any) -> Any:
    return load_json(value) if isinstance(value, str) else value


def _as_nan(value: Any) -> Any:
    # JSON has no NaN. Older versions of galfig wrote it all the same.
    return float("nan") if value is None else value


# The types of what a file says of itself. They are strict: a number is no text.
PrintableText = Annotated[str, Field(max_length=10_000), AfterValidator(_check_printable)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_check_printable)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_check_distinct)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=1 << 64)]
Side = Annotated[int, Field(strict=True, ge=1, le=8192)]
Truth = Annotated[bool, Field(strict=True)]
Number = Annotated[FiniteFloat, Field(strict=True)]
Positive = Annotated[FiniteFloat, Field(strict=True, gt=0)]
NumberOrNan = Annotated[float, Field(strict=True), BeforeValidator(_as_nan)]


def _restore(tables: Any) -> Any:
    return restore_settings(tables) if isinstance(tables, dict) else tables


RecordedSettings = Annotated[Settings, BeforeValidator(_restore)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Epoch(_Record):
    """Losses and metrics of the network after an epoch; NaN where a metric is undefined."""

    train_loss: NumberOrNan
    valid_loss: NumberOrNan
    accuracy: NumberOrNan
    roc_auc: NumberOrNan
    f1: NumberOrNan
    # None in checkpoints of galfig 0.1.
    balanced_accuracy: Annotated[float, Field(strict=True)] | None = None


class LearningRateCurve(_Record):
    """The loss at each learning rate that the finder tried."""

    lr: tuple[Positive, ...]
    loss: tuple[NumberOrNan, ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> "LearningRateCurve":
        if len(self.lr) != len(self.loss):
            raise ValueError(f"{len(self.lr)} learning rates with {len(self.loss)} losses")
        return self


class Import(_Record):
    """How a network came from another program; see `galfig.networks.importing`."""

    weights_sha256: PrintableText
    # Whether the weights were matched by their order, since their names did not fit.
    by_order: Truth = False
    # Galaxies for which its probabilities were compared with the original's, and the largest
    # difference; 0 and None if none were.
    n_checked: Count = 0
    largest_difference: Annotated[FiniteFloat, Field(strict=True, ge=0)] | None = None


class Training(_Record):
    """How a network was trained; only ``arch`` is known for a network trained elsewhere."""

    arch: Name
    # Only of a network from another program, in stores with the side of the images that it sees.
    imported: Import | None = None
    network_size: Side | None = None
    # Number of galaxies of each class.
    n_train: dict[Name, Count] | None = None
    n_valid: dict[Name, Count] | None = None
    simulated: Truth | None = None
    lr: Positive | None = None
    lr_finder: LearningRateCurve | None = None
    history: tuple[Epoch, ...] | None = None
    metrics: dict[Name, NumberOrNan] | None = None
    seeds: dict[Name, Seed] | None = None
    # The weights that the training started from, where they were not random.
    start: dict[Name, PrintableText] | None = None
    settings: RecordedSettings | None = None
    versions: dict[Name, PrintableText] | None = None
    # What the training computed in, and how many processes shared it, where it was not one process
    # in float32.
    precision: PrintableText | None = None
    processes: Count | None = None


class ImageShift(_Record):
    """How far the images differ from the training images; see `galfig.networks.shift`."""

    is_unlike: Truth
    measure: Name
    value: NumberOrNan
    threshold: NumberOrNan


class EngineChoice(_Record):
    """How maps were computed, and why not faster; see `galfig.attribution.engine`."""

    path: str
    layout: str
    n_fused: int
    n_packed: int
    copies: bool
    reasons: tuple[str, ...] = ()


class AccuracyCheck(_Record):
    """Accuracy on labelled galaxies before a build; see `galfig.networks.accuracy`."""

    n: Count
    accuracy: Number
    # Of the majority class among these galaxies.
    majority_share: Number
    recorded: Number | None = None
    warning: PrintableText = ""
    # The order of the classes in which the accuracy would be as expected.
    class_order: tuple[Name, ...] | None = None


class PrecisionCheck(_Record):
    """Which precision was chosen, and what bfloat16 changes; see `galfig.pipeline.precision`.

    The numbers are None where no galaxies were compared.
    """

    chosen: Literal["float32", "bfloat16"]
    reason: PrintableText = ""
    n: Count | None = None
    n_changed: Count | None = None
    # Upper limit (95 %) of the share of galaxies whose class changes.
    changed_at_most: Number | None = None
    # Largest change of a logit.
    logit_error: Number | None = None
    # Of the largest change of a map, relative to its largest value.
    map_error: Number | None = None
    map_error_95: Number | None = None
    largest_map_error: Number | None = None


class ReceptiveField(_Record):
    """On which part of the image a pixel of the maps depends; see `galfig.networks.receptive`."""

    # Side of a square [pixels of the cutout]; None for all of the image.
    side_px: Positive | None


class Network(_Record):
    """What differs between the networks of an ensemble: how one of them was trained."""

    checkpoint_sha256: PrintableText
    seeds: dict[Name, Seed] | None = None
    lr: Positive | None = None
    lr_finder: LearningRateCurve | None = None
    history: tuple[Epoch, ...] | None = None
    metrics: dict[Name, NumberOrNan] | None = None


# How training used a galaxy; "" where that is not known. See `galfig.runtime.options.SPLITS`.
_Use = Annotated[str, AfterValidator(_check_use)]
_Rows = Annotated[tuple[tuple[Number, ...], ...], Field(max_length=64)]


class Whole(_Record):
    """What summaries and captions say of all galaxies of a store, whichever they show.

    Attributes
    ----------
    n_galaxies : int
        Their number.
    n_in_class : tuple of int
        How many have each true class.
    splits, scored : dict of str to int
        How training used all of them, and those that the accuracy was measured on.
    n_not_scored : int
        Number of galaxies of known class that the accuracy was not measured on.
    n_right : int
        How many of ``scored`` are classified correctly.
    n_scored : tuple of int
        How many of them have each true class.
    balanced_accuracy : float
        See `galfig.metrics.Accuracy`; NaN where it is not defined.
    agreement : float
        Median agreement of the networks of an ensemble; NaN where there is none.
    pixel_scale : float
        Pixel scale that all cutouts have [arcsec/pixel]; NaN where they differ, or it is unknown.
    """

    n_galaxies: Count
    n_in_class: tuple[Count, ...]
    splits: dict[_Use, Count]
    scored: dict[_Use, Count]
    n_not_scored: Count
    n_right: Count
    n_scored: tuple[Count, ...]
    balanced_accuracy: NumberOrNan
    agreement: NumberOrNan
    pixel_scale: NumberOrNan

    @model_validator(mode="after")
    def _check_counts(self) -> "Whole":
        if not (self.n_galaxies >= 1 and sum(self.n_in_class) <= self.n_galaxies):
            raise ValueError(f"{sum(self.n_in_class)} labels of {self.n_galaxies} galaxies")
        if self.n_right > sum(self.n_scored):
            raise ValueError(f"{self.n_right} right of {sum(self.n_scored)} galaxies")
        if len(self.n_in_class) != len(self.n_scored):
            raise ValueError("numbers of other classes in n_scored than in n_in_class")
        if sum(self.splits.values()) != self.n_galaxies:
            raise ValueError(f"splits of {sum(self.splits.values())} of {self.n_galaxies} galaxies")
        if any(n > self.splits.get(use, 0) for use, n in self.scored.items()):
            raise ValueError("more galaxies scored than their split holds")
        n_scored = sum(self.n_scored)
        if sum(self.scored.values()) != n_scored:
            raise ValueError(f"scored {sum(self.scored.values())} galaxies, and {n_scored} labels")
        if n_scored + self.n_not_scored != sum(self.n_in_class):
            n_labels = sum(self.n_in_class)
            raise ValueError(f"{n_scored} scored and {self.n_not_scored} not of {n_labels} labels")
        if any(n > of for n, of in zip(self.n_scored, self.n_in_class, strict=True)):
            raise ValueError("more galaxies of a class scored than it has")
        return self

    @model_validator(mode="after")
    def _check_measures(self) -> "Whole":
        # NaN passes: it says that there is none.
        if self.balanced_accuracy < 0 or self.balanced_accuracy > 1 + _ROUNDING:
            raise ValueError(
                f"balanced accuracy {self.balanced_accuracy:g}, expected one from 0 to 1"
            )
        if abs(self.agreement) > 1 + _ROUNDING:
            raise ValueError(f"agreement {self.agreement:g}, expected a correlation")
        if self.pixel_scale <= 0 or self.pixel_scale == float("inf"):
            raise ValueError(f"pixel scale {self.pixel_scale:g}, expected a positive number")
        return self


class Comparison(_Record):
    """Galaxies of a store with which those of a figure are compared, to say what maps add up to.

    Attributes
    ----------
    logits, totals : tuple of tuple of float
        Of each galaxy, the logit and the sum of the map of each class [logit].
    sums : tuple of tuple of float or None
        Of each galaxy, the sum of the evidence map for each class [log-odds]; None where the method
        gives no evidence.
    """

    logits: _Rows
    totals: _Rows
    sums: _Rows | None = None


class Subset(_Record):
    """What a store says of the larger store that it is a part of.

    Attributes
    ----------
    plan_digest : str
        Its plan digest, by which the maps of both were made.
    whole : Whole
        What it says of all its galaxies.
    compared : Comparison
        Some of its galaxies.
    order : tuple of int
        Positions of the galaxies of the subset in the order in which they were chosen; nothing if
        that is their order.
    """

    plan_digest: Name
    whole: Whole
    compared: Comparison
    order: tuple[Count, ...] = ()


class FetchRecord(_Record):
    """Where the catalog and the cutouts of a folder came from, as 'galfig fetch' wrote it.

    Attributes
    ----------
    service : str
        The service that gave the cutouts.
    release : str
        Data release, layer or HiPS of the cutouts.
    address : str
        The address of the service, without what was asked; several, with commas between them, if a
        mirror went on where it stopped.
    is_mirror : bool
        Whether any is another address than the service's own, such as that of a local server.
    catalog : str
        Name of the catalog in the folder.
    images : str
        Template of the paths of the cutouts, relative to the folder.
    query : str or None
        SQL by which the catalog was asked for; None if the user gave the catalog.
    bands : str or None
        Bands of the cutouts, in the order red, green, blue; None if the service chose them.
    pixel_scale : float
        [arcsec/pixel]
    size : int
        Side of a cutout [pixels].
    is_north_up : bool
        Whether north is up and east to the left in each cutout.
    first, last : str
        Days on which the first and the last cutout were fetched, as YYYY-MM-DD.
    n, n_failed : int
        Galaxies of the catalog, and those whose cutout could not be fetched.
    galfig_version : str
        The version that wrote this last.
    """

    service: Literal["sdss", "legacy", "hips"]
    release: Name
    address: PrintableText
    is_mirror: Truth
    catalog: Name
    images: PrintableText
    query: Annotated[str, Field(max_length=100_000)] | None = None
    bands: Name | None = None
    pixel_scale: Positive
    size: Side
    is_north_up: Truth
    first: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    last: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    n: Count
    n_failed: Count
    galfig_version: Name


class StoreRecord(_Record):
    """The root attributes of a store."""

    galfig_version: PrintableText
    plan_digest: Name
    catalog_sha256: PrintableText
    # Of an ensemble, the digest of those of its networks.
    checkpoint_sha256: PrintableText
    # How many networks the maps are the mean of, and each of them where there are several.
    n_networks: Annotated[int, Field(strict=True, ge=1, le=MAX_NETWORKS)] = 1
    networks: Annotated[tuple[Network, ...], BeforeValidator(_parse)] = ()
    class_names: Annotated[Names, BeforeValidator(_parse)]
    # Number of galaxies of each class of the catalog, including classes that were not kept.
    class_counts: Annotated[dict[Name, Count], BeforeValidator(_parse)] = {}
    target_layer: PrintableText
    split: Split
    cutout_size: Side
    # [arcsec/pixel]; None unless all cutouts share one scale.
    pixel_scale: Annotated[float, Field(strict=True)] | None = None
    simulated: Truth
    settings: Annotated[RecordedSettings, BeforeValidator(_parse)] = Field(alias="config")
    training: Annotated[Training, BeforeValidator(_parse)]
    image_shift: Annotated[ImageShift | None, BeforeValidator(_parse)] = None
    engine: Annotated[EngineChoice | None, BeforeValidator(_parse)] = None
    # The method of attribution. Older versions knew no other.
    method: Name = "grad-cam"
    # What the totals of the maps of each class lack to the logits, where that is the same for all
    # galaxies; None where it is not, or not known.
    head_bias: Annotated[tuple[Number, ...] | None, BeforeValidator(_parse)] = None
    # Norm of the difference between Grad-CAM and HiResCAM over that of HiResCAM, the median over
    # the first galaxies; None where they are the same, or not known.
    hires_distance: Annotated[FiniteFloat, Field(strict=True, ge=0)] | None = None
    # Whether the image also reaches the logits past the layer.
    layer_is_bypassed: Truth = False
    # None in older stores, and where it could not be measured.
    receptive_field: Annotated[ReceptiveField | None, BeforeValidator(_parse)] = None
    accuracy_check: Annotated[AccuracyCheck | None, BeforeValidator(_parse)] = None
    # What is stored of each galaxy. A store without cutouts says how many channels they have, one
    # without maps the shape of these, and both where the images were, relative to the store.
    form: Form = Field("full", alias="store")
    n_channels: Annotated[int, Field(strict=True, ge=1, le=MAX_CHANNELS)] | None = None
    map_shape: Annotated[tuple[Side, Side] | None, BeforeValidator(_parse)] = None
    images_dir: PrintableText | None = None
    # Of a store that was built with precision "auto".
    precision_check: Annotated[PrecisionCheck | None, BeforeValidator(_parse)] = None
    # What decided where FITS images are black and white: "range", "sky" or "percentiles". Older
    # versions, which took percentiles, did not say so.
    stretch: PrintableText = ""
    # Where catalog and cutouts were fetched from; None if that is not recorded.
    fetched: Annotated[FetchRecord | None, BeforeValidator(_parse)] = None
    # Versions of the programs that made the store, by name. Older versions did not say.
    software: Annotated[dict[Name, Name], BeforeValidator(_parse), Field(max_length=1000)] = {}
    # Of a store that is a part of a larger one.
    subset: Annotated[Subset | None, BeforeValidator(_parse)] = None

    @property
    def precision(self) -> str:
        """Arithmetic with which the maps were computed."""
        if self.settings.maps.precision != "auto":
            return self.settings.maps.precision
        return "float32" if self.precision_check is None else self.precision_check.chosen

    @field_validator("networks")
    @classmethod
    def _check_networks(
        cls, networks: tuple[Network, ...], info: ValidationInfo
    ) -> tuple[Network, ...]:
        n_networks = info.data.get("n_networks")
        if networks and len(networks) != n_networks:
            raise ValueError(f"{len(networks)} networks, expected {n_networks}, as n_networks says")
        return networks

    @field_validator("head_bias")
    @classmethod
    def _check_bias(
        cls, bias: tuple[float, ...] | None, info: ValidationInfo
    ) -> tuple[float, ...] | None:
        if bias is not None and len(bias) != len(info.data.get("class_names", bias)):
            raise ValueError(f"{len(bias)} numbers, expected one for each class")
        return bias

    @field_validator("subset")
    @classmethod
    def _check_subset(cls, subset: Subset | None, info: ValidationInfo) -> Subset | None:
        n_classes = len(info.data.get("class_names", ()))
        if subset is not None and n_classes:
            whole, compared = subset.whole, subset.compared
            rows = [*compared.logits, *compared.totals, *(compared.sums or ())]
            lists = [whole.n_in_class, whole.n_scored, *rows]
            n_rows = {len(compared.logits), len(compared.totals)}
            n_rows |= set() if compared.sums is None else {len(compared.sums)}
            if any(len(one) != n_classes for one in lists) or len(n_rows) > 1:
                raise ValueError("numbers of other classes than those of the store")
        return subset

    @field_validator("pixel_scale")
    @classmethod
    def _check_scale(cls, scale: float | None) -> float | None:
        # NaN is unknown, as in the dataset of that name.
        if scale is not None and (scale <= 0 or scale == float("inf")):
            raise ValueError(f"{scale}, expected a positive number")
        return scale


class Estimate(_Record):
    """A number that an audit measured on some galaxies.

    Attributes
    ----------
    value : float
        The number.
    low, high : float
        Bounds of its 95 % bootstrap interval over galaxies.
    n : int
        Number of galaxies.
    unit : str
        Unit of the number and its bounds; "" for a pure number.
    """

    value: Number
    low: Number
    high: Number
    n: Count
    unit: Annotated[str, Field(max_length=100), AfterValidator(_check_printable)] = ""


# More than any measure has, of numbers and of points of a curve.
_MAX_NUMBERS, _MAX_POINTS = 1000, 1000
_Estimates = Annotated[dict[Name, Estimate], Field(max_length=_MAX_NUMBERS)]
_Curve = Annotated[tuple[NumberOrNan, ...], Field(max_length=_MAX_POINTS)]
_Sentences = Annotated[tuple[PrintableText, ...], Field(max_length=100)]


class Measured(_Record):
    """What one measure of an audit found.

    Attributes
    ----------
    name : str
        The measure, such as "deletion".
    numbers : dict of str to Estimate
        What was measured. A number that cannot be given is absent, and a note says why.
    controls : dict of str to Estimate
        What the numbers are to be compared with.
    curves : dict of str to tuple of float
        Curves by name; ``curves["share"]`` is the abscissa of all.
    per_galaxy : dict of str to tuple of float
        Columns with one value for each galaxy of the audit, NaN where there is none.
    notes : tuple of str
        Caveats, in plain sentences.
    passes : bool or None
        Of a measure that is passed or failed.
    supports, not_supported : str
        One sentence on what the numbers support, and one on what they do not; "" for none.
    """

    name: Name
    numbers: _Estimates = {}
    controls: _Estimates = {}
    curves: Annotated[dict[Name, _Curve], Field(max_length=_MAX_NUMBERS)] = {}
    per_galaxy: Annotated[dict[Name, tuple[NumberOrNan, ...]], Field(max_length=_MAX_NUMBERS)] = {}
    notes: _Sentences = ()
    passes: Truth | None = None
    supports: PrintableText = ""
    not_supported: PrintableText = ""

    @model_validator(mode="after")
    def _check_curves(self) -> "Measured":
        lengths = {len(curve) for curve in self.curves.values()}
        if len(lengths) > 1:
            raise ValueError(f"curves of {sorted(lengths)} points, expected as many in each")
        if self.curves and "share" not in self.curves:
            raise ValueError("curves without 'share', expected the abscissa of all")
        return self


class AuditedStore(_Record):
    """What an audit says of the store that it measured."""

    plan_digest: Name
    catalog_sha256: PrintableText
    checkpoint_sha256: PrintableText
    # Digest of each part of what it holds; see `galfig.store.content.read_content`.
    content: dict[Name, PrintableText]
    class_names: Names
    target_layer: PrintableText
    method: PrintableText
    arch: Name
    simulated: Truth
    n_galaxies: Count


class AuditRecord(_Record):
    """The root attributes of an audit.

    Attributes
    ----------
    galfig_version : str
        Version that wrote it.
    audit_digest : str
        Digest of what it was made from: store, networks, galaxies, seed and measures.
    store : AuditedStore
        The store.
    checkpoints : tuple of str
        SHA-256 of each network.
    n_asked, seed : int
        How many galaxies were asked for, and the seed of the draw and of each measure.
    n_trained, n_unknown : int
        Galaxies of the store that were left out because they trained the network, and galaxies
        of the audit of which the split is unknown.
    keys : dict of str to str
        What each measure was made from, by its name.
    verdict : tuple of str
        What the maps support and what they do not, in sentences.
    """

    galfig_version: PrintableText
    audit_digest: Name
    store: Annotated[AuditedStore, BeforeValidator(_parse)]
    checkpoints: Annotated[Names, BeforeValidator(_parse)]
    n_asked: Count
    seed: Seed
    n_trained: Count
    n_unknown: Count
    keys: Annotated[dict[Name, Name], Field(max_length=100), BeforeValidator(_parse)]
    verdict: Annotated[_Sentences, BeforeValidator(_parse)]


def _check_digests(data: bytes) -> bytes:
    if len(data) % DIGEST_SIZE:
        raise ValueError(f"{len(data)} bytes, expected digests of {DIGEST_SIZE} bytes each")
    return data


_Digests = Annotated[Base64Bytes, AfterValidator(_check_digests)]


class Members(_Record):
    """Digests of the galaxies that a training used; see `galfig.networks.membership`."""

    train: _Digests
    valid: _Digests
    test: _Digests = b""

    def count(self) -> dict[str, int]:
        """Return the number of galaxies of each split."""
        return {word: len(data) // DIGEST_SIZE for word, data in self}


def _check_not_blank(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name.strip() for name in names):
        raise ValueError("a name of blanks, expected a word for each class")
    return names


def _check_bands(mean: list[float]) -> list[float]:
    if not 1 <= len(mean) <= MAX_CHANNELS:
        raise ValueError(
            f"{len(mean)} numbers, expected one for each channel: 3 for colours, 1 for one band, "
            f"at most {MAX_CHANNELS}"
        )
    return mean


def _check_scale(value: float) -> float:
    if 1 < value <= 255:
        raise ValueError(
            f"{value:g}, expected a number for pixel values in [0, 1]; divide by 255 what is for "
            "values up to 255"
        )
    return value


# Means and deviations of channels, for pixel values in [0, 1]. The least deviation is well below a
# 16-bit grey level.
_Mean = Annotated[Number, AfterValidator(_check_scale), Field(ge=0, le=1)]
_Deviation = Annotated[Number, AfterValidator(_check_scale), Field(ge=1e-6, le=1)]


class CheckpointRecord(Training):
    """The metadata of a checkpoint; those without a default are needed in order to use it."""

    class_names: Annotated[
        Names, Field(min_length=2, max_length=1000), AfterValidator(_check_not_blank)
    ]
    layer: Name
    cutout_size: Side
    image_size: Side
    mean: Annotated[list[_Mean], AfterValidator(_check_bands)]
    std: list[_Deviation]
    catalog_sha256: PrintableText | None = None
    digest: PrintableText | None = None
    # None in checkpoints of other programs, and of older versions.
    members: Members | None = None
    images: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    # Whether the layer gives maps (N, h, w, K), and whether the image reaches the logits past it.
    layer_channels_last: Truth = False
    layer_is_bypassed: Truth = False

    @field_validator("std")
    @classmethod
    def _check_lengths(cls, std: list[float], info: ValidationInfo) -> list[float]:
        n_channels = len(info.data.get("mean", std))
        if len(std) != n_channels:
            raise ValueError(f"{len(std)} numbers, expected {n_channels}, as many as mean has")
        return std


class TruthRecord(_Record):
    """What is known of simulated galaxies whose class one component decides.

    Attributes
    ----------
    cue : str
        What decides the class; see `galfig.catalog.cues.simulate_cue`.
    seed, n, size : int
        Seed, number of galaxies, and side of the cutouts and masks [pixels].
    class_names : tuple of str
        The two classes, in the order of the logits of a network that galfig trains.
    components : dict of str to bool
        Whether the class can be told from each component; a map that lights up another is wrong.
    digest : str
        SHA-256 of all identifiers, pixels and masks, as hexadecimal digits.
    """

    cue: Cue
    seed: Seed
    n: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    size: Side
    class_names: Annotated[Names, Field(min_length=2)]
    components: Annotated[dict[Name, Truth], Field(min_length=1, max_length=10)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("components")
    @classmethod
    def _check_components(cls, components: dict[str, bool]) -> dict[str, bool]:
        if not any(components.values()):
            raise ValueError("none tells the class, expected one that does")
        return components


def read_store_record(attrs: Mapping[str, Any]) -> StoreRecord:
    """Read the root attributes of a store, some of which hold JSON.

    Parameters
    ----------
    attrs : mapping
        The attributes, by name.

    Returns
    -------
    StoreRecord

    Raises
    ------
    ValueError
        If an attribute is missing, is not valid JSON, or has the wrong type
        (`pydantic.ValidationError`).
    """
    return StoreRecord.model_validate(dict(attrs))


def recall_split(record: StoreRecord) -> str:
    """Return the split of all galaxies of a store of schema version 1; "" if it is not known.

    Such a store records which galaxies were explained, by a draw from its own catalog. This is the
    split of the training only if the training used the same catalog and the same draw.

    Parameters
    ----------
    record : StoreRecord
        Its root attributes.

    Returns
    -------
    {"train", "valid", ""}
    """
    trained = record.training.settings
    if record.split == "all" or trained is None:
        return ""
    tables = ("catalog", "classes", "split")
    is_same = all(getattr(trained, table) == getattr(record.settings, table) for table in tables)
    return record.split if is_same else ""


def describe_invalid(exc: ValidationError) -> tuple[str, str]:
    """Return the key of the first field that is not valid, and the reason."""
    error = exc.errors()[0]
    reason = error["ctx"]["error"] if error["type"] == "value_error" else error["msg"]
    key = ".".join(make_printable(part)[:80] for part in error["loc"])
    return key, make_printable(reason).lower()
