"""Settings: the TOML by which galfig reads a folder of fetched cutouts."""

import json
from collections.abc import Mapping
from typing import Any

from galfig.config import CatalogSettings, Settings

# Keys of the user's own settings that say where other images are, and what they hold.
_OF_IMAGES = (
    *("path", "images", "images_dir", "bands", "extensions", "planes", "array", "rgb", "scale"),
    *("pixel_scale", "fits_range", "stretch", "lupton_q", "lupton_stretch", "lupton_minimum"),
)
# Keys of the split that name files beside the user's settings.
_OF_FILES = ("test", "files")


def write_settings(settings: Settings, name: str, images: Mapping[str, Any]) -> str:
    """Write the settings that read a folder of fetched cutouts.

    Parameters
    ----------
    settings : Settings
        Those with which the user's catalog is read.
    name : str
        Name of the catalog in the folder.
    images : mapping
        Keys of ``[catalog]`` that say where the images are and how they become pixels.

    Returns
    -------
    str
        TOML with the tables ``[catalog]``, ``[classes]`` and ``[split]`` as far as they are needed;
        "" where the defaults read the folder, given the path of its catalog.
    """
    given = settings.model_dump(mode="json", exclude_unset=True)
    catalog = given.get("catalog", {})
    kept = {key: catalog[key] for key in catalog if key not in _OF_IMAGES}
    table = settings.catalog_files[0].table
    path = name if table is None else f"{name}[{table}]"
    split = {key: value for key, value in given.get("split", {}).items() if key not in _OF_FILES}
    classes = given.get("classes", {})
    if "edges" in classes:
        # TOML has no word for nothing; without bins, the list is empty.
        classes["edges"] = classes["edges"] or []
    tables = {
        "catalog": {"path": path, **kept, **images},
        "classes": classes,
        "split": split,
    }
    fields = CatalogSettings.model_fields
    defaults = {key: fields[key].default for key in tables["catalog"]} | {"path": name}
    if tables["catalog"] == defaults and not tables["classes"] and not split:
        return ""
    lines = []
    for title, keys in tables.items():
        values = {key: value for key, value in keys.items() if value is not None}
        if values:
            lines += [f"[{title}]", *(f"{key} = {_write(values[key])}" for key in values), ""]
    return "\n".join(lines)


def _write(value: Any) -> str:
    """Write a value as TOML, which differs from JSON in tables only."""
    if isinstance(value, Mapping):
        pairs = (f"{_write(key)} = {_write(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write, value))}]"
    return json.dumps(value, ensure_ascii=False)
