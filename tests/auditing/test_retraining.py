"""Retraining: maps of networks that are told true and permuted classes, compared with a store's."""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from samples import make_tiny_cnn

import galfig
from galfig.auditing import retraining
from galfig.auditing.retraining import choose_galaxies, divide, permute_classes, stretch_epochs
from galfig.cli import main
from galfig.config import Settings
from galfig.errors import ConfigError
from galfig.records import Estimate

from .conftest import MEAN, STD, draw_cutouts, make_colour_network

LABELS = np.repeat([0, 1, 2], [41, 26, 33]).astype(np.int16)


def test_halves_have_the_same_classes():
    """To one galaxy of each class; another seed draws others."""
    first, second = (divide(LABELS, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.sum() == 50
    counts = np.bincount(LABELS[first]), np.bincount(LABELS[~first])
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert (first != second).any()


def test_permuted_classes_say_nothing_of_the_true_ones():
    """Each class is told all classes in the same shares, which a plain permutation misses."""

    def tabulate(told):
        table = np.zeros((3, 3))
        np.add.at(table, (LABELS, told), 1)
        return table

    expected = np.outer(np.bincount(LABELS), np.bincount(LABELS)) / len(LABELS)
    plain, told = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        told.append(permute_classes(LABELS, rng))
        assert np.bincount(told[-1]).tolist() == np.bincount(LABELS).tolist()
        # Both ends of a run of galaxies may cut the mixture of the classes.
        assert np.abs(tabulate(told[-1]) - expected).max() < 2
        plain.append(np.abs(tabulate(rng.permutation(LABELS)) - expected).max())
    assert np.median(plain) > 2
    # Which galaxies of a class are told which is drawn.
    assert (told[0] != told[1]).any()
    agreements = [np.mean(one == LABELS) for one in told]
    assert np.mean(agreements) == pytest.approx(np.trace(expected) / len(LABELS), abs=0.02)


@pytest.mark.parametrize(
    ("n_trained", "n_train", "epochs"),
    [
        (640, 64, 50),  # ten steps an epoch before, one now
        (640, 160, 25),  # ten, and two
        (64, 640, 5),  # never fewer epochs
        (64_000, 64, 50),  # nor more than ten times as many
        (30, 15, 5),  # fewer than a batch are one
    ],
)
def test_fewer_galaxies_train_for_more_epochs(n_trained, n_train, epochs):
    """As many steps as before, within bounds."""
    stretched = stretch_epochs(Settings(), n_trained, n_train).training
    assert stretched.epochs == epochs
    assert stretched.model_copy(update={"epochs": 5}) == Settings().training


def test_galaxies_of_known_class_are_used(make_sample, monkeypatch):
    """At most a few, spread over the sample; a class of too few is refused."""
    label = np.tile([0, -1, 1], 12)
    used, labels = choose_galaxies(make_sample(label=label))
    assert used.tolist() == np.flatnonzero(label >= 0).tolist()
    assert labels.tolist() == [0, 1] * 12
    few = np.array([0] * 30 + [1] * 9)
    with pytest.raises(ConfigError, match="9 audited galaxies of class 'high', expected at least"):
        choose_galaxies(make_sample(label=few))
    monkeypatch.setattr(retraining, "MAX_USED", 22)
    assert len(choose_galaxies(make_sample(label=label))[0]) == 22


def test_a_network_from_elsewhere_is_refused(make_sample):
    """Its recipe is not known."""
    with pytest.raises(ConfigError, match="comes from elsewhere, expected one that galfig trained"):
        retraining.measure(make_sample(n=24))


def about(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high, n=100)


@pytest.mark.parametrize(
    ("skill", "leak", "over_galaxies", "lead", "passes", "words"),
    [
        ((0.3, 0.6), (-2, -1), (0.1, 0.2), (0.05, 0.25), True, ""),
        ((0.3, 0.6), (-2, -1), (-0.01, 0.02), (-0.1, 0.1), False, ""),
        ((0.3, 0.6), (-2, -1), (0.1, 0.2), (-0.1, 0.4), None, "other pairs may have none"),
        ((0.01, 0.6), (-2, -1), (0.1, 0.2), (0.05, 0.25), None, "do not teach"),
        ((0.3, 0.6), (0.5, 0.6), (0.1, 0.2), (0.05, 0.25), None, "leaks"),
    ],
)
def test_outcomes(skill, leak, over_galaxies, lead, passes, words):
    """It passes by both intervals, fails by that over galaxies, and else is undecided."""
    bounds = [about(*one) for one in (skill, leak, over_galaxies, lead)]
    found, note = retraining._judge(*bounds)
    assert found is passes
    assert words in note


@pytest.fixture
def stand_in(monkeypatch):
    """Give a function that has networks stand in for those that are trained, without training."""

    def replace(true, permuted, loss=0.5):
        told = []

        def fit(half, cutouts, settings, *, keep, **options):
            # The trainer learns from all galaxies that are not of the validation set.
            assert (half.in_train ^ half.in_valid).all()
            assert len(cutouts) == len(half)
            assert half.in_valid.sum() == len(half.class_names)
            told.append(half.label[half.in_train])
            for _ in range(settings.training.epochs - 1):
                keep({})
            model = (true, permuted)[(len(told) - 1) % 2]
            return model, {"mean": MEAN, "std": STD, "history": [{"valid_loss": loss}]}

        monkeypatch.setattr(retraining, "fit_model", fit)
        monkeypatch.setattr(retraining, "read_recipe", lambda sample: Settings())
        monkeypatch.setattr(retraining, "check_trainable", lambda *given: None)
        monkeypatch.setattr(retraining, "list_caveats", lambda sample: [])
        return told

    return replace


def test_what_the_truth_adds(make_sample, stand_in):
    """A network like that of the store beside one of random weights; each pair has its labels."""
    told = stand_in(make_colour_network(30.0), make_tiny_cnn_of_one_pixel())
    done = []
    found = retraining.measure(make_sample(make_colour_network(), n=40), progress=done.append)
    assert found.passes is True, found
    assert found.controls["true classes"].value == pytest.approx(1, abs=1e-2)
    assert found.numbers["lead"].low > 0
    assert len(told) == 2 * retraining.N_PAIRS
    for true, permuted in zip(told[::2], told[1::2], strict=True):
        assert sorted(true) == sorted(permuted)
        assert np.mean(true == permuted) == pytest.approx(0.5, abs=0.1)
    # The bar moves while networks train, and ends where it should.
    assert sum(done) == 40
    assert len([n for n in done if n]) > 2 * retraining.N_PAIRS
    assert np.isfinite(found.per_galaxy["lead"]).all()


def make_tiny_cnn_of_one_pixel():
    """Return a network of the shape of `make_colour_network` that sees green alone."""
    model = make_colour_network()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 1, 0], [0, 0, 0]]).reshape(2, 3, 1, 1))
        model[3].weight.copy_(torch.tensor([[0.1, 0], [-0.1, 0]]))
        model[3].bias.zero_()
    return model


def test_maps_that_stay_the_same_fail(make_sample, stand_in):
    """Those of a network that is the same whatever it is told, as an edge detector is."""
    stand_in(make_colour_network(30.0), make_colour_network(30.0))
    found = retraining.measure(make_sample(make_colour_network(), n=40))
    # Networks that were told nothing and know the classes would be a leak.
    assert found.passes is None
    assert "leaks" in found.notes[-1]
    blunt = make_colour_network(30.0)
    with torch.no_grad():
        blunt[3].bias.add_(torch.tensor([50.0, -50]))
    stand_in(make_colour_network(30.0), blunt)
    found = retraining.measure(make_sample(make_colour_network(), n=40))
    assert found.passes is False
    assert found.numbers["lead"].value == pytest.approx(0, abs=1e-3)
    assert "as much as those" in found.not_supported


def test_a_half_that_teaches_nothing_decides_nothing(make_sample, stand_in):
    """Neither does a training that diverges."""
    stand_in(make_tiny_cnn(), make_tiny_cnn())
    found = retraining.measure(make_sample(n=40))
    assert found.passes is None
    assert "do not teach" in found.notes[-1]
    stand_in(make_tiny_cnn(), make_tiny_cnn(), loss=float("nan"))
    found = retraining.measure(make_sample(n=40))
    assert found.passes is None
    assert not found.numbers
    assert "diverged" in found.notes[-1]


def write_catalog(folder, n, *, seed, permuted=False):
    """Write galaxies that are blue or red by class; or whose classes are permuted."""
    (folder / "images").mkdir(parents=True)
    label = np.arange(n) % 2
    names = [str(seed * 10_000 + number) for number in range(n)]
    for name, cutout in zip(names, draw_cutouts(label, seed=seed * 1000), strict=True):
        Image.fromarray(cutout).save(folder / "images" / f"{name}.png")
    known = np.random.default_rng(seed).permutation(label) if permuted else label
    table = {"objID": names, "kind": np.array(["blue", "red"])[known]}
    pd.DataFrame(table).to_csv(folder / "catalog.csv", index=False)
    (folder / "galfig.toml").write_text(
        '[catalog]\npath = "catalog.csv"\nimages = "images/{objID}.png"\n'
        '[classes]\ncolumn = "kind"\n'
        "[training]\ncutout_size = 24\nbatch_size = 16\nepochs = 6\nthreads = 1\nlr = 0.02\n"
    )
    return galfig.load_catalog(settings=folder / "galfig.toml")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Give a function that trains a network, and builds the maps of galaxies of true class."""

    def make(*, permuted):
        folder = tmp_path_factory.mktemp("retraining")
        training = write_catalog(folder / "training", 160, seed=1, permuted=permuted)
        network = galfig.train(training, folder / "net.safetensors", device="cpu")
        others = write_catalog(folder / "others", 100, seed=2)
        store = galfig.build_maps(others, folder / "maps.h5", model=network, split="all")
        store.close()
        return folder

    return make


@pytest.mark.long
def test_a_trained_network_passes_and_one_of_permuted_classes_does_not(build):
    """Told apart by the command, which makes this measure only where it is named."""
    folder = build(permuted=False)
    arguments = ["audit", str(folder / "maps.h5"), "--model", str(folder / "net.safetensors")]
    others = "completeness,common-mode"
    printed = CliRunner().invoke(main, [*arguments, "--measures", others])
    assert printed.exit_code == 0, printed.stderr
    state = torch.get_rng_state()
    printed = CliRunner().invoke(main, [*arguments, "--update", "--measures", "retraining"])
    assert printed.exit_code == 0, printed.stderr
    assert torch.equal(torch.get_rng_state(), state)
    audit = galfig.open_audit(folder / "maps.audit.h5")
    assert list(audit.measures) == [*others.split(","), "retraining"]
    found = audit.measures["retraining"]
    assert found.passes is True, found
    assert found.controls["skill of permuted classes"].low < retraining.MAX_LEAN
    assert "retraining" in printed.stdout
    assert any("told the true classes" in words for words in audit.verdict)
    # The same seed gives the same bytes.
    again = galfig.audit(
        folder / "maps.h5",
        model=folder / "net.safetensors",
        measures=[*others.split(","), "retraining"],
        out=folder / "again.h5",
    )
    assert again.path.read_bytes() == (folder / "maps.audit.h5").read_bytes()

    folder = build(permuted=True)
    audit = galfig.audit(
        folder / "maps.h5", model=folder / "net.safetensors", measures=["retraining"]
    )
    assert audit.measures["retraining"].passes is not True, audit.measures["retraining"]
