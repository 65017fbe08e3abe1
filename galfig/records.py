"""Records: the metadata of stores and checkpoints, read into typed models.

Another version of galfig may have written fewer or more keys: optional values that are missing are
None, and unknown keys are ignored.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
)

from galfig.config import Settings, restore_settings
from galfig.runtime.options import Split

# Size of the digest of a galaxy: 8 bytes of its identifier, 8 bytes of its image.
DIGEST_SIZE = 16
# Attributes of a store that hold JSON.
_JSON = ("class_names", "class_counts", "config", "training", "image_shift")


def _restore(tables: Any) -> Any:
    return restore_settings(tables) if isinstance(tables, dict) else tables


RecordedSettings = Annotated[Settings, BeforeValidator(_restore)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Epoch(_Record):
    """Losses and metrics of the network after an epoch; NaN where a metric is undefined."""

    train_loss: float
    valid_loss: float
    accuracy: float
    roc_auc: float
    f1: float
    # None in checkpoints of galfig 0.1.
    balanced_accuracy: float | None = None


class LearningRateCurve(_Record):
    """The loss at each learning rate that the finder tried."""

    lr: tuple[float, ...]
    loss: tuple[float, ...]


class Training(_Record):
    """How a network was trained; only ``arch`` is known for a network trained elsewhere."""

    arch: str
    # Number of galaxies of each class.
    n_train: dict[str, int] | None = None
    n_valid: dict[str, int] | None = None
    simulated: bool | None = None
    lr: float | None = None
    lr_finder: LearningRateCurve | None = None
    history: tuple[Epoch, ...] | None = None
    metrics: dict[str, float] | None = None
    seeds: dict[str, int] | None = None
    settings: RecordedSettings | None = None
    versions: dict[str, str] | None = None


class ImageShift(_Record):
    """How far the images differ from the training images; see `galfig.networks.shift`."""

    is_unlike: bool
    measure: str
    value: float
    threshold: float


class StoreRecord(_Record):
    """The root attributes of a store."""

    galfig_version: str
    plan_digest: str
    catalog_sha256: str
    checkpoint_sha256: str
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    # Number of galaxies of each class of the catalog, including classes that were not kept.
    class_counts: dict[str, int] = {}
    target_layer: str
    split: Split
    cutout_size: Annotated[int, Field(ge=1)]
    # [arcsec/pixel]; None unless all cutouts share one scale.
    pixel_scale: float | None = None
    simulated: bool
    settings: RecordedSettings = Field(alias="config")
    training: Training
    image_shift: ImageShift | None = None


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


class CheckpointRecord(_Record):
    """The metadata that a checkpoint needs in order to be used."""

    arch: str
    class_names: Annotated[list[str], Field(min_length=2)]
    layer: str
    cutout_size: Annotated[int, Field(ge=1, le=8192)]
    image_size: Annotated[int, Field(ge=1, le=8192)]
    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    std: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1)]
    catalog_sha256: str | None = None
    digest: str | None = None
    # None in checkpoints of other programs, and of older versions.
    members: Members | None = None


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
    return StoreRecord.model_validate(
        {key: json.loads(attrs[key]) if key in _JSON else attrs[key] for key in attrs}
    )


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
    return ".".join(map(str, error["loc"])), str(error["msg"]).lower()
