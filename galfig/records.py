"""Records: the metadata of stores and checkpoints, read into typed models.

Another version of galfig may have written fewer or more keys: optional values that are missing are
None, and unknown keys are ignored.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from galfig.config import Settings, Split, restore_settings

# Attributes of a store that hold JSON.
_JSON = ("class_names", "class_counts", "config", "training", "image_shift", "engine")


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


class EngineChoice(_Record):
    """How maps were computed, and why not faster; see `galfig.attribution.engine`."""

    path: str
    layout: str
    n_fused: int
    n_packed: int
    copies: bool
    reasons: tuple[str, ...] = ()


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
    engine: EngineChoice | None = None


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


def describe_invalid(exc: ValidationError) -> tuple[str, str]:
    """Return the key of the first field that is not valid, and the reason."""
    error = exc.errors()[0]
    return ".".join(map(str, error["loc"])), str(error["msg"]).lower()
