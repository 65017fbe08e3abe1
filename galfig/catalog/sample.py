"""The galaxies that a command works on: simulated where absent, read, counted, reported."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galfig.catalog.galaxies import Galaxies, load_galaxies, report_counts, report_rejected
from galfig.config import CatalogSettings, Settings, load_settings

logger = logging.getLogger(__name__)

N_SIMULATED = 600


def load_catalog(
    path: Path | str | None = None,
    *,
    settings: Settings | Mapping[str, Any] | Path | str | None = None,
    labelled: bool = True,
) -> Galaxies:
    """Load the galaxies of a catalog: classes named, images found, training and validation split.

    Parameters
    ----------
    path : Path or str, optional
        Catalog: CSV, Parquet, FITS or ECSV; default that of the settings, which for the defaults is
        the built-in simulated sample.
    settings : Settings, mapping, Path or str, optional
        What ``galfig.toml`` may say, such as ``{"classes": {"column": "morphology"}}``, or the path
        of such a file; default ``galfig.toml`` of the working directory where there is one.
    labelled : bool, default True
        Without, a catalog that has no class column is taken whole.

    Returns
    -------
    Galaxies
        In the order of the catalog. What was left out, and why, is in ``rejected``; the settings
        are in ``settings``, for `galfig.train` and `galfig.build_maps`.

    Raises
    ------
    ConfigError
        A setting that is unknown or of the wrong type.
    CatalogError
        A table that cannot be read, or says something that galfig cannot use; see
        `galfig.catalog.galaxies.load_galaxies`.
    """
    overrides = {("catalog", "path"): None if path is None else Path(path)}
    return load_sample(load_settings(settings, overrides), labelled=labelled)


def load_sample(settings: Settings, *, labelled: bool = True) -> Galaxies:
    """Load the galaxies; where the embedded default is asked for and absent, simulate it first.

    What was left out, and the counts of the classes before and after, are logged.
    """
    default = CatalogSettings.model_fields["path"].default
    if settings.catalog.path == default and not settings.catalog_path.exists():
        # Its import brings astropy's and matplotlib's, which a catalog of one's own does without.
        from galfig.catalog.simulate import write_simulated

        logger.info("%s is absent: simulating %d galaxies", settings.catalog_path, N_SIMULATED)
        write_simulated(settings.catalog_path.parent, N_SIMULATED)
    galaxies = load_galaxies(settings, labelled=labelled)
    report_counts(galaxies)
    report_rejected(galaxies, settings.catalog_path)
    return galaxies
