"""The galaxies that a command works on: simulated where absent, read, counted, reported."""

import logging

from galfig.catalog.galaxies import Galaxies, load_galaxies, report_counts, report_rejected
from galfig.config import CatalogSettings, Settings

logger = logging.getLogger(__name__)

N_SIMULATED = 600


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
