"""Origin: what the folder of a catalog records of where its galaxies came from.

'galfig fetch' leaves the record beside the catalog and the cutouts that it fetched. It counts only
for that catalog with those cutouts: another one in the same folder may come from anywhere.
"""

import logging
from pathlib import Path

from pydantic import ValidationError

from galfig.config import CatalogSettings, Settings
from galfig.records import FETCH_FILE, FetchRecord, describe_invalid
from galfig.runtime.documents import load_json
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import one_line, quote
from galfig.runtime.storage import Address

logger = logging.getLogger(__name__)

# Largest record [byte]. The SQL in it has at most 100 000 characters.
_MAX_BYTES = 1_000_000


def read_origin(settings: Settings) -> FetchRecord | None:
    """Read where the galaxies that the settings name came from.

    The maps do not follow from it, so that a record that cannot be used is worth a warning and
    stops nothing.

    Parameters
    ----------
    settings : Settings
        The settings; those of the catalog say which table and which cutouts are used.

    Returns
    -------
    FetchRecord or None
        None if nothing is recorded; if the record cannot be used, with a warning; and if it is of
        another catalog or of other cutouts than those of the settings.
    """
    if len(settings.catalog_files) > 1 or isinstance(settings.images_dir, Address):
        return None
    catalog = settings.catalog_path
    path = catalog.parent / FETCH_FILE
    try:
        record = FetchRecord.model_validate(load_json(read_regular(path, _MAX_BYTES)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as exc:
        where, what = describe_invalid(exc)
        _warn(path, f"{where}: {what}")
        return None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else one_line(exc)
        _warn(path, f"cannot be read ({reason})")
        return None
    if catalog.name != record.catalog:
        logger.info(
            "%s: is of %s, so that nothing is known of the origin of %s",
            path,
            quote(record.catalog),
            catalog.name,
        )
        return None
    if not (_is_same_folder(settings) and _names_images(settings.catalog, record.images)):
        logger.info(
            "%s: is of the cutouts %s, so that nothing is known of the origin of those used",
            path,
            quote(record.images),
        )
        return None
    return record


def _warn(path: Path, reason: str) -> None:
    logger.warning(
        "%s: %s, expected what 'galfig fetch' wrote; where the galaxies come from is not recorded",
        path,
        reason,
    )


def _is_same_folder(settings: Settings) -> bool:
    """Return whether the cutouts are looked for in the folder of the catalog."""
    images, folder = settings.images_dir, settings.catalog_path.parent
    return isinstance(images, Path) and (images == folder or images.resolve() == folder.resolve())


def _names_images(catalog: CatalogSettings, template: str) -> bool:
    """Return whether the settings take the cutouts of a template, one file for each galaxy."""
    if catalog.bands is not None or catalog.array is not None:
        return False
    # '.*' is any suffix.
    stem = catalog.images.removesuffix(".*")
    is_any = stem != catalog.images and "." not in template.removeprefix(stem)[1:]
    return catalog.images == template or (is_any and template.startswith(f"{stem}."))
