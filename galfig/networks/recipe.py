"""Recipe: all that a trained network depends on, so that the same recipe is trained only once."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from galfig.catalog.galaxies import Galaxies
from galfig.config import CatalogSettings, Settings
from galfig.images.sources import find_stretch
from galfig.networks.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


def describe_recipe(
    galaxies: Galaxies,
    settings: Settings,
    image_digest: str | None = None,
    init_digest: str | None = None,
) -> dict[str, Any]:
    """Return all that a trained network depends on.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies of the catalog.
    settings : Settings
        The settings.
    image_digest : str, optional
        Digest of all images that train and validate the network, from
        `galfig.images.identity.combine_digests`; by default, the recipe does not name them.
    init_digest : str, optional
        SHA-256 of the file that ``[training] init`` names, if it names one.

    Returns
    -------
    dict
        The recipe, ready for JSON. Equal recipes need only one training.
    """
    tables = settings.record()
    digests = {"image_digest": image_digest, "init_digest": init_digest}
    return {
        **{key: digest for key, digest in digests.items() if digest is not None},
        "catalog_sha256": galaxies.catalog_sha256,
        **settings.catalog.record_images(),
        **settings.catalog.record_pixels(),
        **_record_stretch(galaxies, settings),
        "fits_range": settings.catalog.model_dump(mode="json")["fits_range"],
        **{table: tables[table] for table in ("classes", "split", "training")},
    }


def _record_stretch(galaxies: Galaxies, settings: Settings) -> dict[str, Any]:
    """Return what a recipe says of the stretch of fluxes, besides the range of the settings."""
    kind = find_stretch(galaxies.paths, settings.catalog)
    if kind == "lupton":
        # Through JSON, in which it is compared.
        lupton = settings.catalog.record_lupton()
        return {"stretch": "lupton", "lupton": lupton | {"minimum": list(lupton["minimum"])}}
    # Images of FITS were stretched otherwise before this was recorded.
    return {"stretch": "sky"} if kind == "sky" else {}


def restore_recipe(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe that a checkpoint recorded as it would be recorded now.

    Parameters
    ----------
    found : mapping
        The recipe; galfig 0.1 recorded the folders of images as paths.

    Returns
    -------
    dict
        The recipe without them.
    """
    folder, images = found.get("images_dir"), found.get("images")
    if not isinstance(images, str) or not isinstance(folder, str | None):
        return dict(found)
    return {**found, **CatalogSettings(images=images, images_dir=folder).record_images()}


def is_same_recipe(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether two recipes agree, as far as the file says.

    Parameters
    ----------
    found : mapping
        The recipe that a file recorded. An older galfig recorded neither the images nor the number
        of threads.
    wanted : mapping
        The recipe of the current settings.

    Returns
    -------
    bool
    """
    before, now = dict(found), dict(wanted)
    if not ("image_digest" in before and "image_digest" in now):
        before.pop("image_digest", None)
        now.pop("image_digest", None)
    training = before.get("training")
    if isinstance(training, dict) and "threads" not in training:
        now["training"] = {key: now["training"][key] for key in now["training"] if key != "threads"}
    return before == now


def describe_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describe the first difference between two recipes.

    Parameters
    ----------
    found : mapping
        The recipe that a file recorded.
    wanted : mapping
        The recipe of the current settings.

    Returns
    -------
    str
        Such as "[training] epochs 5, now 10".
    """
    for key in wanted:
        before, after = found.get(key), wanted[key]
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            inside = describe_difference(before, after)
            # "[training] epochs", but "versions torch": only tables of the settings have brackets.
            return f"[{key}] {inside}" if key in Settings.model_fields else f"{key} {inside}"
        if key == "image_digest":
            return "images were replaced under the same names"
        if key == "init_digest":
            return "the weights to start from are another file"
        if key == "catalog_sha256":
            return "the catalog is another file, or was edited"
        if isinstance(after, list):
            return f"another {key}"
        return f"{key} {_name(before)}, now {_name(after)}"
    return "older format"


def _name(value: Any) -> str:
    return "none" if value is None else repr(value)


def _warn_of_other_pixels(
    checkpoint: Checkpoint, galaxies: Galaxies, settings: Settings, path: Path
) -> None:
    """Warn if the files of images become other pixels than those that trained a network."""
    trained = checkpoint.record.recipe
    if not trained:
        return
    keys = ("extensions", "planes", "scale", "stretch", "lupton", "fits_range")
    now = describe_recipe(galaxies, settings)
    # Only images of FITS are stretched.
    is_fits = bool(find_stretch(galaxies.paths, settings.catalog))
    for key in keys if is_fits else ("scale",):
        before, after = trained.get(key), now.get(key)
        if before != after:
            advice = ' (set [catalog] stretch = "percentiles")' if key == "stretch" else ""
            logger.warning(
                "%s: was trained on images with %s %s, and these have %s%s",
                path,
                key,
                _name(before),
                _name(after),
                advice if after == "sky" else "",
            )
            return


def warn_of_mismatch(
    checkpoint: Checkpoint, galaxies: Galaxies, settings: Settings, path: Path
) -> None:
    """Warn if a network was trained on other classes, or cannot tell which galaxies trained it.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network.
    galaxies : Galaxies
        The galaxies to explain.
    settings : Settings
        The settings that the galaxies were read with.
    path : Path
        Path of the checkpoint, for messages.
    """
    if settings.training.grayscale and checkpoint.n_channels != 1:
        logger.warning("%s: was trained on RGB and explains RGB; `grayscale` has no effect", path)
    if "settings" not in checkpoint.metadata:
        return
    try:
        trained = Settings.model_validate(checkpoint.metadata["settings"])
    except ValidationError:
        logger.warning(
            "%s: was trained by another version of galfig, whose settings cannot be read here; "
            "compare its classes and split by hand ('galfig info %s')",
            path,
            path,
        )
        return
    _warn_of_other_pixels(checkpoint, galaxies, settings, path)
    for key in ("column", "edges"):
        before, now = getattr(trained.classes, key), getattr(settings.classes, key)
        if before != now and galaxies.class_counts:
            logger.warning(
                "%s: was trained on classes by %s %s, but these galaxies have classes by %s; "
                "captions say so, and the accuracy compares different classes",
                path,
                key,
                before,
                now,
            )
            return
    is_same_catalog = checkpoint.record.catalog_sha256 == galaxies.catalog_sha256
    is_unknown = checkpoint.record.members is None
    if is_same_catalog and is_unknown and trained.split != settings.split:
        logger.warning(
            "%s: was trained on another split of this catalog, and does not say which galaxies "
            "trained it; set [split] to what 'galfig info %s' shows",
            path,
            path,
        )
