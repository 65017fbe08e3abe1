"""Explaining: a galaxy without finite numbers is rejected by name."""

import numpy as np
import pytest
import torch
from samples import load_with_settings

from galfig.attribution.engine import make_engine, open_workers
from galfig.images.cutouts import Decoding, load_cutouts
from galfig.pipeline.explain import explain_galaxies


def test_galaxy_without_finite_numbers_is_rejected(galaxy_folder, tmp_path, checkpoint):
    """NaN from the network is reported with the galaxy, not stored as a map."""
    galaxies, _ = load_with_settings(galaxy_folder)
    engine = make_engine(checkpoint.model, checkpoint.model.get_submodule("conv3"))
    explain = engine.explain
    cutouts, _ = load_cutouts(galaxies.paths, checkpoint.cutout_size, checkpoint.image_size)
    sick = checkpoint.normalise(cutouts[2:3])

    def explain_sick(images):
        batch = explain(images)
        batch.logits[(images == sick).all(dim=(1, 2, 3))] = torch.nan
        return batch

    engine.explain = explain_sick
    with open_workers(2) as pool:
        part = explain_galaxies(galaxies, checkpoint, [engine], Decoding(), pool=pool)
    assert list(part.rejected) == [galaxies.objid[2]]
    assert "not finite" in part.rejected[galaxies.objid[2]]
    assert len(part.images) == len(part.arrays["objid"]) == 23


@pytest.mark.parametrize(("n_bytes", "n_expected"), [(1, 1), (3 * 32**2 * 5, 5)])
def test_large_cutouts_are_taken_a_few_at_a_time(
    monkeypatch, galaxy_folder, checkpoint, n_bytes, n_expected
):
    """The memory of a thread bounds its group, and the maps stay the same to the last bit."""
    galaxies, _ = load_with_settings(galaxy_folder)
    engine = make_engine(checkpoint.model, checkpoint.model.get_submodule("conv3"))
    explain, sizes = engine.explain, []

    def note(images):
        sizes.append(len(images))
        return explain(images)

    with open_workers(2) as pool:
        whole = explain_galaxies(galaxies, checkpoint, [engine], Decoding(), pool=pool)
        monkeypatch.setattr("galfig.pipeline.explain.GROUP_BYTES", n_bytes)
        engine.explain = note
        few = explain_galaxies(galaxies, checkpoint, [engine], Decoding(), pool=pool)
    assert max(sizes) == n_expected
    assert sum(sizes) == len(galaxies)
    assert np.array_equal(whole.arrays["logits"], few.arrays["logits"])
    assert [one.cams for one in whole.images] == [one.cams for one in few.images]
