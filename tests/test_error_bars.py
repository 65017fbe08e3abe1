"""Error bars: the interval of several networks holds what one more network says."""

import numpy as np
import pytest
from samples import CPU

from benchmarks.error_bars import explain_all, measure_honesty
from galfig.catalog.sample import load_catalog
from galfig.catalog.simulate import write_simulated
from galfig.networks.main import train_networks


def test_coverage_of_normal_numbers():
    """By Student's t it is 95 %, and by twice the standard deviation of four networks too little.

    Where the mean is zero, its interval holds zero in 95 % of the pixels.
    """
    evidence = np.random.default_rng(0).normal(size=(5, 30, 20, 20))
    found = measure_honesty(evidence)
    assert found.coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert found.coverage_two_sigma.mean() < 0.88
    assert found.share_open == pytest.approx(0.95, abs=0.01)
    assert np.abs(found.agreement).max() < 0.1
    certain = measure_honesty(evidence + 1e3 * np.arange(400).reshape(20, 20))
    assert certain.coverage == pytest.approx(found.coverage)
    assert certain.share_open < 0.01
    assert certain.agreement.min() > 0.999


def test_a_network_that_is_unlike_the_others_is_told():
    """A check that cannot fail would be no check: its pixels lie outside."""
    evidence = np.random.default_rng(0).normal(size=(5, 30, 20, 20))
    evidence[2] += 20
    found = measure_honesty(evidence)
    assert found.coverage[2] < 0.1
    assert found.coverage.argmin() == 2


@pytest.mark.long
def test_intervals_of_networks_are_honest(tmp_path):
    """On simulated galaxies that trained none of five networks, leaving out each in turn."""
    settings = {
        "catalog": {"path": str(write_simulated(tmp_path))},
        "training": {"image_size": 16, "networks": 5, "threads": 1},
    }
    galaxies = load_catalog(settings=settings)
    networks = train_networks(galaxies, galaxies.settings, tmp_path / "networks", run=CPU)
    found = measure_honesty(explain_all(networks, galaxies.take(galaxies.in_valid)))
    assert 0.93 < found.coverage.mean() < 0.97
    assert found.coverage_two_sigma.mean() < found.coverage.mean() - 0.03
    assert np.nanmedian(found.agreement) > 0.5
