"""The plan: whose labels hold, and what its digest follows from."""

import numpy as np
import pytest
from samples import build_at, load_with_settings, make_checkpoint

from galfig.errors import CheckpointError, ConfigError
from galfig.pipeline.plan import make_plan
from galfig.store.reader import open_store


def test_labels_follow_the_checkpoint(galaxy_folder, tmp_path):
    """A network that counts high first gets its labels in its own order."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", class_names=("high", "low"))
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    galaxies, _ = load_with_settings(galaxy_folder)
    with open_store(tmp_path / "maps.h5") as store:
        assert store.class_names == ("high", "low")
        np.testing.assert_array_equal(store.label, 1 - galaxies.label)


def test_network_of_other_classes_is_refused(galaxy_folder, tmp_path):
    """A network that tells spirals from ellipticals has nothing to say of metallicity."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", class_names=("spiral", "elliptical"))
    with pytest.raises(CheckpointError, match=r"classes are 'spiral', 'elliptical', expected"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)


@pytest.mark.slow
def test_plan_digest_follows_what_matters(galaxy_folder, tmp_path):
    """Split, layer and network change the digest; planning again does not."""
    galaxies, settings = load_with_settings(galaxy_folder)
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", galaxies=galaxies)
    _, other_layer = load_with_settings(galaxy_folder, layer="conv2")
    other = make_checkpoint(tmp_path / "other.safetensors", image_size=24, galaxies=galaxies)
    plans = [
        make_plan(galaxies, settings, checkpoint, "valid"),
        make_plan(galaxies, settings, checkpoint, "train"),
        make_plan(galaxies, other_layer, checkpoint, "valid"),
        make_plan(galaxies, settings, other, "valid"),
    ]
    assert len({plan.digest for plan in plans}) == 4
    assert make_plan(galaxies, settings, checkpoint, "valid").digest == plans[0].digest
    with pytest.raises(ConfigError, match="not a layer"):
        make_plan(*load_with_settings(galaxy_folder, layer="conv9"), checkpoint)
