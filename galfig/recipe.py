"""The recipe of a network: what it follows from, so that two that are equal need one training."""

from collections.abc import Mapping
from typing import Any

from galfig.catalog import Galaxies
from galfig.config import Settings


def describe_recipe(galaxies: Galaxies, settings: Settings) -> dict[str, Any]:
    """Say what a checkpoint follows from: two equal recipes need be trained only once."""
    return {
        "catalog_sha256": galaxies.catalog_sha256,
        "images": settings.catalog.images,
        "images_dir": settings.catalog.images_dir,
        "fits_range": settings.catalog.model_dump(mode="json")["fits_range"],
        **{
            table: getattr(settings, table).model_dump(mode="json")
            for table in ("classes", "split", "training")
        },
    }


def describe_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name the first ingredient in which two recipes differ."""
    for key in wanted:
        before, after = found.get(key), wanted[key]
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            inside = describe_difference(before, after)
            # [training] epochs, but versions torch: only settings have tables.
            return f"[{key}] {inside}" if key in Settings.model_fields else f"{key} {inside}"
        if key == "catalog_sha256":
            return "the catalog is another file, or was edited"
        if isinstance(after, list):
            return f"another {key}"
        return f"{key} {_name(before)}, now {_name(after)}"
    return "older format"


def _name(value: Any) -> str:
    return "none" if value is None else repr(value)
