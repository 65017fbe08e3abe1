"""The training job: what is there by the same recipe is used, and anything else is not."""

import pytest
from samples import CPU, make_checkpoint, make_settings

from galfig.catalog.galaxies import load_galaxies
from galfig.errors import CheckpointError
from galfig.networks.checkpoint import save_checkpoint
from galfig.networks.main import load_or_train
from galfig.networks.recipe import describe_recipe


def test_checkpoint_of_images_that_were_replaced_is_not_used(galaxy_folder, tmp_path):
    """It says of which images it is; one without that, of an older galfig, is used as before."""
    settings, path = make_settings(galaxy_folder), tmp_path / "m.safetensors"
    galaxies = load_galaxies(settings)
    load_or_train(galaxies, settings, path, run=CPU)
    before = path.read_bytes()
    load_or_train(galaxies, settings, path, run=CPU)
    assert path.read_bytes() == before
    galaxies.paths[4].write_bytes(galaxies.paths[9].read_bytes())
    with pytest.raises(CheckpointError, match="images were replaced under the same names"):
        load_or_train(galaxies, settings, path, run=CPU)
    load_or_train(galaxies, settings, path, if_exists="update", run=CPU)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("if_exists", "recipe", "expected"),
    [
        ("error", "this", "used"),
        ("error", "another", "refused"),
        ("error", "none", "error"),
        ("update", "this", "used"),
        ("update", "another", "replace"),
        ("update", "none", "error"),
        ("replace", "this", "replace"),
        ("replace", "another", "replace"),
        ("replace", "none", "replace"),
    ],
)
def test_network_that_is_there_is_used_or_trained_anew(
    galaxy_folder, tmp_path, monkeypatch, if_exists, recipe, expected
):
    """What is done with a network of this recipe, of another, and where there is none."""
    settings, path = make_settings(galaxy_folder), tmp_path / "m.safetensors"
    galaxies = load_galaxies(settings)
    if recipe != "none":
        written = make_checkpoint(path)
        ingredients = describe_recipe(galaxies, settings) if recipe == "this" else {}
        metadata = {**written.metadata, "recipe": ingredients}
        save_checkpoint(path, written.model, metadata, if_exists="replace")

    trained = []

    def note(*args, if_exists, resume, **options):
        assert resume == "if_same"
        trained.append(if_exists)

    monkeypatch.setattr("galfig.networks.main.train_checkpoint", note)
    if expected == "refused":
        with pytest.raises(CheckpointError, match="was trained with another recipe"):
            load_or_train(galaxies, settings, path, if_exists=if_exists)
    else:
        load_or_train(galaxies, settings, path, if_exists=if_exists)
    assert trained == ([] if expected in ("used", "refused") else [expected])
