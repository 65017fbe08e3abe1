"""Training several networks: one recipe, other seeds, complete or absent, and resumable."""

import logging

import pytest
from samples import CPU, make_settings, note_progress, train

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CheckpointError, OutputError
from galfig.networks import main as module
from galfig.networks import training
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.ensemble import describe_accuracies, load_networks
from galfig.networks.main import check_trained, derive_seed, load_or_train, train_networks


def short(folder, **training):
    """Return settings of short trainings in one thread, which wait for no other process."""
    return make_settings(folder, threads=1, **training)


@pytest.fixture
def inputs(galaxy_folder):
    """Return galaxies and the settings of three short trainings."""
    settings = short(galaxy_folder, networks=3)
    return load_galaxies(settings), settings


def read(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_networks_differ_in_their_seed_alone(inputs, tmp_path, monkeypatch, galaxy_folder):
    """The first is that of a single training; all share split and recipe, and one bar."""
    noted = note_progress(monkeypatch, module)
    found = train_networks(*inputs, tmp_path / "nets", run=CPU)
    names = [f"network-{number}.safetensors" for number in (1, 2, 3)]
    assert list(read(tmp_path / "nets")) == names
    seeds = [network.record.seeds for network in found.networks]
    assert [one["training"] for one in seeds] == [derive_seed(256, n) for n in (1, 2, 3)]
    assert {one["split"] for one in seeds} == {256}
    assert load_networks(tmp_path / "nets").digest == found.digest
    assert noted == [{"task": "training", "total": 3, "initial": 0, "done": 3}]
    alone = tmp_path / "alone.safetensors"
    galaxies, settings = load_galaxies(short(galaxy_folder)), short(galaxy_folder)
    module.train_checkpoint(galaxies, settings, alone, run=CPU)
    assert alone.read_bytes() == (tmp_path / "nets" / names[0]).read_bytes()
    assert describe_accuracies(found).startswith("3 networks, accuracies ")
    assert not list(tmp_path.glob("*.lock"))


def test_the_number_of_networks_is_no_part_of_a_recipe(galaxy_folder):
    """So that more of them can be trained later, and older checkpoints stay up to date."""
    one, three = short(galaxy_folder), short(galaxy_folder, networks=3)
    assert one.record() == three.record()
    assert load_settings(three).training.networks == 3


def test_seeds_are_far_apart():
    """Ensembles of consecutive seeds share no network."""
    seeds = {derive_seed(seed, number) for seed in range(50) for number in range(1, 21)}
    assert len(seeds) == 50 * 20
    assert derive_seed(7, 1) == 7
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_what_is_there_is_not_trained_again(inputs, tmp_path, monkeypatch):
    """After an interruption, the same command goes on; the others keep their bytes."""
    folder, trained = tmp_path / "nets", []
    original = module.train_network

    def stop_at_the_third(*args, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(args[3])
        return original(*args, **options)

    monkeypatch.setattr(module, "train_network", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        load_or_train(*inputs, folder, run=CPU)
    before = read(folder)
    assert len(before) == 2
    monkeypatch.setattr(module, "train_network", original)
    noted = note_progress(monkeypatch, module)
    load_or_train(*inputs, folder, run=CPU)
    assert noted == [{"task": "training", "total": 3, "initial": 2, "done": 3}]
    after = read(folder)
    assert {name: after[name] for name in before} == before
    monkeypatch.setattr(module, "train_network", None)
    assert len(load_or_train(*inputs, folder, run=CPU).networks) == 3


def test_a_folder_is_not_overwritten_in_silence(inputs, tmp_path):
    """As one file is not; `resume` adds what is missing, and another recipe is refused."""
    galaxies, settings = inputs
    folder = tmp_path / "nets"
    two = settings.model_copy(
        update={"training": settings.training.model_copy(update={"networks": 2})}
    )
    train_networks(galaxies, two, folder, run=CPU)
    before = read(folder)
    with pytest.raises(OutputError, match="holds 2 networks already; use `resume`"):
        train_networks(*inputs, folder, run=CPU)
    train_networks(*inputs, folder, resume="always", run=CPU)
    after = read(folder)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    with pytest.raises(OutputError, match=r"network-3.safetensors as well, expected 2 networks"):
        train_networks(galaxies, two, folder, resume="always", run=CPU)
    other = settings.model_copy(
        update={"training": settings.training.model_copy(update={"lr": 0.01})}
    )
    for resume in ("always", "if_same"):
        with pytest.raises(CheckpointError, match=r"network-1.*another recipe \(\[training\] lr"):
            train_networks(galaxies, other, folder, resume=resume, run=CPU)
    assert read(folder) == after


def test_replacing_leaves_no_other_network(inputs, tmp_path, caplog):
    """What another recipe made is trained again, and what is beyond the number goes."""
    galaxies, settings = inputs
    folder = tmp_path / "nets"
    train_networks(*inputs, folder, run=CPU)
    other = settings.model_copy(
        update={"training": settings.training.model_copy(update={"lr": 0.01, "networks": 2})}
    )
    caplog.set_level(logging.INFO, logger="galfig")
    found = train_networks(galaxies, other, folder, if_exists="replace", run=CPU)
    assert list(read(folder)) == ["network-1.safetensors", "network-2.safetensors"]
    assert [one.metadata["settings"]["training"]["lr"] for one in found.networks] == [0.01] * 2
    updated = load_or_train(*inputs, folder, if_exists="update", run=CPU)
    assert [one.metadata["settings"]["training"]["lr"] for one in updated.networks] == [0.08] * 3


def test_an_unfinished_network_is_resumed(inputs, tmp_path, monkeypatch, galaxy_folder):
    """After its last epoch, to the bytes of a run that was not interrupted."""
    settings = short(galaxy_folder, networks=2, epochs=2)
    galaxies = load_galaxies(settings)
    train_networks(galaxies, settings, tmp_path / "whole", run=CPU)
    original = training.save_progress

    def stop(path, *args):
        original(path, *args)
        if "network-2" in path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_progress", stop)
    with pytest.raises(KeyboardInterrupt):
        train_networks(galaxies, settings, tmp_path / "nets", run=CPU)
    monkeypatch.setattr(training, "save_progress", original)
    noted = note_progress(monkeypatch, module)
    train_networks(galaxies, settings, tmp_path / "nets", resume="always", run=CPU)
    assert noted == [{"task": "training", "total": 4, "initial": 2, "done": 4}]
    assert read(tmp_path / "nets") == read(tmp_path / "whole")


def test_places_that_are_no_folder(inputs, tmp_path):
    """Nor is anything of the user's own removed."""
    _, settings = inputs
    for name in ("model.safetensors", "words"):
        (tmp_path / "words").write_text("words")
        with pytest.raises(OutputError, match="names a file, expected a folder for 3 networks"):
            check_trained(settings, tmp_path / name)
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "mine.safetensors").write_text("mine")
    for if_exists in ("update", "replace"):
        with pytest.raises(OutputError, match=r"mine.safetensors: is none of the networks"):
            check_trained(settings, folder, if_exists=if_exists)
    assert (folder / "mine.safetensors").read_text() == "mine"


def test_one_network_is_a_file(inputs, tmp_path):
    """A folder of one would have no error bars."""
    path = tmp_path / "model.safetensors"
    galaxies, settings = inputs
    train(galaxies, settings, path)
    assert load_networks(path).ensemble == ()
    assert load_networks(path).digest == load_checkpoint(path).digest
