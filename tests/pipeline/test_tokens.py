"""Networks whose layer gives a sequence: their maps are built, drawn and audited as any others."""

import json

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from galfig.auditing.main import audit
from galfig.networks.checkpoint import wrap_network
from galfig.pipeline.main import build_maps
from galfig.store.reader import open_store

SIZE, MEAN, STD = 32, [0.1] * 3, [0.2] * 3


class Patches(nn.Module):
    """Patches as wide as high or not, behind a class token that nothing reads; and their mean."""

    def __init__(self, height, width):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, (height, width), (height, width))
        self.prefix = nn.Parameter(torch.randn(1, 1, 6))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1))
        return self.head(x[:, 1:].mean(dim=1))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 8)])
def test_maps_of_tokens_are_those_of_the_head(galaxy_folder, tmp_path, height, width):
    """Σ_k w_ck A_k of each patch over the number of patches; and the audit explains them again."""
    model = Patches(height, width).eval()
    options = {"class_names": ["low", "high"], "mean": MEAN, "std": STD, "cutout_size": SIZE}
    path = tmp_path / "maps.h5"
    build_maps(galaxy_folder / "catalog.csv", path, model=model, **options)
    network = wrap_network(model, **options)
    with open_store(path) as store:
        with torch.no_grad():
            images = network.normalise(store.cutouts(slice(None)))
            x = model.norm(model.patches(images).flatten(2).transpose(1, 2)).double()
            weights = model.head.weight.double()
            expected = (x @ weights.T).transpose(1, 2).unflatten(2, (SIZE // height, SIZE // width))
        cams = np.asarray(store.cams(slice(None)))
        # The store keeps float16.
        assert np.allclose(cams, expected / x.shape[1], atol=2e-3 * np.abs(cams).max())
        found = audit(store, model=network, measures=["completeness", "receptive-field"])
    with h5py.File(path) as file:
        assert json.loads(file.attrs["receptive_field"]) == {"side_px": max(height, width)}
        # Nothing reads the class token.
        assert "layer_is_bypassed" not in file.attrs
    assert found.measures["receptive-field"].numbers["side"].value == max(height, width)
