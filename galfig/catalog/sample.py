"""Sample: the galaxies that a command works on, read or simulated, and counted."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galfig.catalog.galaxies import Galaxies, load_galaxies, report_counts, report_rejected
from galfig.config import CatalogSettings, Settings, load_settings
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.options import Cue
from galfig.runtime.storage import find_folder

logger = logging.getLogger(__name__)

N_SIMULATED = 600


def simulate(
    folder: Path | str,
    n: int = N_SIMULATED,
    seed: int = 0,
    *,
    cue: Cue | None = None,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Simulate SDSS-like galaxies: cutouts and a catalog.

    Parameters
    ----------
    folder : Path or str
        Output folder, created if needed.
    n : int, default 600
        Number of galaxies.
    seed : int, default 0
        Random seed.
    cue : {"core", "disk", "knots", "corner", "conjunction", "suppressor"}, optional
        Have one component alone decide the class, and write masks of it; see
        `galfig.catalog.cues.write_cue`. By default, the class depends on colour, bulge and knots,
        as in `galfig.catalog.simulate.write_simulated`.
    if_exists : {"error", "replace"}, default "error"
        What to do if the catalog exists.

    Returns
    -------
    Path
        Path of the catalog.

    Raises
    ------
    CatalogError
        If the catalog exists and ``if_exists`` is "error".
    ConfigError
        If there is no such cue.
    OutputError
        If the folder or a file cannot be written.
    ValueError
        If ``n`` is less than 1 or ``seed`` is negative.
    """
    # These import astropy and matplotlib, which a user's own catalog does not need.
    if cue is None:
        from galfig.catalog.simulate import write_simulated

        return write_simulated(Path(folder), n, seed, if_exists=if_exists)
    from galfig.catalog.cues import write_cue

    return write_cue(Path(folder), cue, n, seed, if_exists=if_exists)


def load_catalog(
    path: Path | str | None = None,
    *,
    settings: Settings | Mapping[str, Any] | Path | str | None = None,
    images_dir: Path | str | None = None,
    labelled: bool = True,
) -> Galaxies:
    """Load a catalog: assign the classes, find the images, and split training and validation.

    Parameters
    ----------
    path : Path or str, optional
        Catalog: text, FITS, VOTable, Parquet, HDF5, ...; ``"cat.fits[NAME]"`` is another table of
        a file. It is the whole catalog: files for the splits are not read. By default, that of the
        settings; the default settings name the built-in simulated sample.
    settings : Settings, mapping, Path or str, optional
        Settings as in ``galfig.toml``, such as ``{"classes": {"column": "morphology"}}``, or the
        path of such a file. By default, ``galfig.toml`` of the working directory where there is
        one.
    images_dir : Path or str, optional
        Folder that image paths are relative to, or an address such as ``"s3://bucket/cutouts"``;
        see `galfig.runtime.storage`. By default, that of the settings or of the catalog.
    labelled : bool, default True
        If False, a catalog without the class column is accepted, and every galaxy is kept.

    Returns
    -------
    Galaxies
        In the order of the catalog. ``rejected`` lists the galaxies that were left out, and why;
        ``settings`` holds the settings, for `galfig.train` and `galfig.build_maps`.

    Raises
    ------
    ConfigError
        If a setting is unknown or has the wrong type.
    CatalogError
        If the table cannot be read, or holds something that galfig cannot use; see
        `galfig.catalog.galaxies.load_galaxies`.
    """
    return load_sample(name_catalog(path, settings, images_dir), labelled=labelled)


def name_catalog(
    path: Path | str | None = None,
    settings: Settings | Mapping[str, Any] | Path | str | None = None,
    images_dir: Path | str | None = None,
) -> Settings:
    """Return the settings with which a catalog is read, as of `load_catalog`, and read nothing."""
    folder = None if images_dir is None else find_folder(images_dir, "images_dir")
    overrides: dict[tuple[str, str], Any] = {
        ("catalog", "path"): None if path is None else Path(path),
        ("catalog", "images_dir"): folder,
    }
    return load_settings(settings, overrides)


def load_sample(settings: Settings, *, labelled: bool = True) -> Galaxies:
    """Load the galaxies that the settings name, and log their counts.

    If the settings name the built-in sample and it does not exist yet, it is simulated first.

    Parameters
    ----------
    settings : Settings
        The settings.
    labelled : bool, default True
        If False, a catalog without the class column is accepted, and every galaxy is kept.

    Returns
    -------
    Galaxies
        In the order of the catalog.

    Raises
    ------
    CatalogError
        As `galfig.catalog.galaxies.load_galaxies`.
    OutputError
        If the simulated sample cannot be written.
    """
    default = CatalogSettings.model_fields["path"].default
    is_default = settings.catalog.path == default and "train" not in settings.split.catalogs
    if is_default and not settings.catalog_path.exists():
        # This imports astropy and matplotlib, which a user's own catalog does not need.
        from galfig.catalog.simulate import write_simulated

        logger.info("%s is absent: simulating %d galaxies", settings.catalog_path, N_SIMULATED)
        write_simulated(settings.catalog_path.parent, N_SIMULATED)
    galaxies = load_galaxies(settings, labelled=labelled)
    # Galaxies without need of labels are for a network that other galaxies may have trained.
    report_counts(galaxies, with_splits=labelled)
    report_rejected(galaxies, settings.catalog_path)
    return galaxies
