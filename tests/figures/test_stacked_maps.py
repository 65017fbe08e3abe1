"""Stacked maps: means of signed maps."""

import numpy as np

from galfig.figures.stacked_maps import make_stacked_maps, stack_maps
from galfig.store.reader import open_store


def test_stacks_are_means_of_signed_maps(store_path):
    """Each stack averages the galaxies of its pair of classes, all galaxies in one stack."""
    with open_store(store_path) as store:
        stacks = stack_maps(store, np.arange(12))
        assert sum(stack.n for stack in stacks) == 12
        for stack in stacks:
            pair = (store.label == stack.true) & (store.predicted == stack.predicted)
            members = np.flatnonzero(pair)
            assert stack.n == len(members)
            np.testing.assert_allclose(
                stack.cams, np.mean([store.cams(i) for i in members], axis=0), atol=1e-9
            )
            np.testing.assert_allclose(
                stack.cutout, np.mean([store.cutouts(i) for i in members], axis=0), atol=1e-9
            )
    fig = make_stacked_maps(stacks, ["low", "high"], 0.4)
    first, low, high, _ = fig.axes[:4]
    assert first.texts[1].get_text() == f"low, N = {stacks[0].n}"
    assert [ax.texts[1].get_text() for ax in (low, high)] == ["✓\xa0low", "high"]
