"""The galaxies that a command works on: simulated where absent, read, counted, reported."""

import logging
from pathlib import Path

from galfig.catalog import Galaxies, describe_rejected, load_galaxies
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
        from galfig.simulate import write_simulated

        logger.info("%s is absent: simulating %d galaxies", settings.catalog_path, N_SIMULATED)
        write_simulated(settings.catalog_path.parent, N_SIMULATED)
    galaxies = load_galaxies(settings, labelled=labelled)
    report_counts(galaxies)
    report_rejected(galaxies, settings.catalog_path)
    return galaxies


def report_counts(galaxies: Galaxies) -> None:
    """Log how many galaxies each class has in the catalog, in training and in validation."""
    if not galaxies.class_counts:
        logger.info("%d galaxies without classes", len(galaxies))
        return
    width = max(len(name) for name in (*galaxies.class_counts, "class"))
    logger.info("%-*s  catalog  train  valid", width, "class")
    for name, n_catalog in galaxies.class_counts.items():
        if name in galaxies.class_names:
            is_class = galaxies.label == galaxies.class_names.index(name)
            n_valid = int((is_class & galaxies.in_valid).sum())
            n_train = int(is_class.sum()) - n_valid
            logger.info("%-*s  %7d  %5d  %5d", width, name, n_catalog, n_train, n_valid)
        else:
            logger.info("%-*s  %7d      -      -", width, name, n_catalog)


def report_rejected(galaxies: Galaxies, path: Path, *, n_known: int = 0) -> None:
    """Warn once, with a count, about galaxies that were left out; ``n_known`` were reported."""
    if len(galaxies.rejected) > n_known:
        before = f", {n_known} of them known before" if n_known else ""
        logger.warning("%s: %s%s", path, describe_rejected(galaxies.rejected), before)
