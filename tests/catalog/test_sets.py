"""Sets: what a training asks of its galaxies; see also tests/networks/test_training.py."""

import pytest

from galfig.catalog.galaxies import load_galaxies
from galfig.catalog.sets import check_channels, check_split, count_classes
from galfig.config import load_settings
from galfig.errors import CatalogError


@pytest.fixture
def galaxies(galaxy_folder):
    """Load 24 galaxies, 19 to train and 5 to validate."""
    return load_galaxies(load_settings({"catalog": {"path": str(galaxy_folder / "catalog.csv")}}))


def test_classes_are_counted_by_mask(galaxies):
    """For each class that is kept."""
    assert count_classes(galaxies, galaxies.in_train | galaxies.in_valid) == {"low": 12, "high": 12}
    assert sum(count_classes(galaxies, galaxies.in_valid).values()) == 5


def test_a_split_without_galaxies_is_refused(galaxies, tmp_path):
    """With the numbers of those that have some; all is a split, too."""
    for split in ("train", "valid", "all"):
        check_split(galaxies, split, tmp_path)
    with pytest.raises(CatalogError, match=r"in split 'test'.* they are 19 train, 5 valid"):
        check_split(galaxies, "test", tmp_path)


@pytest.mark.parametrize(
    ("is_constant", "name"),
    [
        ([False, True, True], "green"),
        ([True], "the band"),
        ([False, False, False, True], "channel 3"),
    ],
)
def test_a_channel_of_nothing_is_named(is_constant, name):
    """The first of them."""
    with pytest.raises(CatalogError, match=f"^training set: {name} is the same in every pixel"):
        check_channels(is_constant)
    check_channels([False] * len(is_constant))
