"""Random networks: engine, grad_cam and float64 agree, or say why the network is refused."""

import time

import differential
import pytest
from differential import Case, find_fault, make_case, make_timm_case, try_seed
from torch import nn

from galfig.attribution.gradcam import CamBatch

# torch deprecates its old weight norm, which networks still have.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
N_SEEDS = 15


def test_random_networks_agree():
    """A fixed number of seeds: what fails names its seed."""
    assert [words for seed in range(N_SEEDS) if (words := try_seed(seed))] == []


@pytest.mark.slow
def test_random_networks_agree_for_as_long_as_told(request):
    """With --minutes, networks of new seeds until the time is up."""
    end, seed, faults = time.monotonic() + 60 * request.config.getoption("--minutes"), N_SEEDS, []
    while time.monotonic() < end:
        faults += [words for words in (try_seed(seed),) if words]
        seed += 1
    assert faults == []


@pytest.mark.parametrize(
    ("kind", "make", "n_short", "n_full"),
    [
        ("networks drawn at random, one in ten of them to be refused", make_case, 5, 1000),
        ("networks of timm, with random weights and layers", make_timm_case, 1, 60),
    ],
)
def test_networks_of_the_campaign(campaign, kind, make, n_short, n_full):
    """Engine, grad_cam and float64 agree, or the network is refused for the true reason."""
    for seed in range(N_SEEDS, N_SEEDS + campaign.n(n_short, n_full)):
        with campaign.trial(kind):
            assert try_seed(seed, make) == ""


@pytest.mark.slow
def test_a_wrong_engine_is_found(monkeypatch):
    """The comparison sees maps that are off by a thousandth, and a refusal without reason."""

    class Wrong:
        record = None

        def __call__(self, images):
            batch = differential.explain_one_by_one(case.model, images, case.layer)
            return CamBatch(batch.cams * 1.001, batch.logits)

    def refuse(*arguments, **options):
        raise ValueError("model: too odd")

    case = next(
        case
        for case in map(make_case, range(50))
        if case.output is None and not case.is_refused and find_fault(case) == ""
    )
    monkeypatch.setattr(differential, "make_engine", lambda *arguments, **options: Wrong())
    assert "engine against grad_cam: maps differ by 0.001" in find_fault(case)
    monkeypatch.setattr(differential, "make_engine", refuse)
    assert "refused, although grad_cam explains it" in find_fault(case)


def test_networks_that_mix_images_are_among_the_cases():
    """Both kinds of networks that must be refused are drawn, and an error in one is reported."""
    assert sum(make_case(seed).is_refused for seed in range(80)) > 2
    assert "cannot be made" in try_seed(7, _fail)


def _fail(seed: int) -> Case:
    raise RuntimeError(f"{nn.Module} {seed} cannot be made")
