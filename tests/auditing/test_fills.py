"""What takes the place of removed pixels."""

import numpy as np
import pytest
import torch

from galfig.auditing.fills import (
    fill_linearly,
    fill_with,
    impute,
    make_blurred_image,
    make_sky_image,
)
from galfig.auditing.sky import Level, Sky, find_regions


def make_masks(size, seed=0):
    """Masks that keep half, a tenth, all but a large square, and one pixel."""
    rng = np.random.default_rng(seed)
    masks = np.stack([rng.random((size, size)) < share for share in (0.5, 0.1, 1.0, 0.0)])
    masks[2, 3:-2, 2:-4] = False
    masks[3, 1, 2] = True
    return torch.from_numpy(masks)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_imputation_is_that_of_road():
    """The same numbers as the sparse solver of pytorch-grad-cam, for holes of all kinds."""
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    image = torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(1))
    masks = make_masks(20)
    found = impute(image, masks)
    for one, mask in zip(found, masks, strict=True):
        expected = road.NoisyLinearImputer(noise=0)(image, mask.float())
        assert (one - expected).abs().max() < 1e-5


def test_imputation_solves_its_system():
    """Each removed pixel is the weighted mean of its neighbours; solved densely in float64."""
    size = 9
    image = torch.randn(1, size, size, generator=torch.Generator().manual_seed(2))
    mask = make_masks(size)[0]
    matrix, right = np.zeros((size**2, size**2)), np.zeros(size**2)
    for y, x in np.ndindex(size, size):
        i = y * size + x
        if mask[y, x]:
            matrix[i, i], right[i] = 1, image[0, y, x]
            continue
        for dy, dx in np.ndindex(3, 3):
            row, column, weight = y + dy - 1, x + dx - 1, {1: 1 / 6, 2: 1 / 12}
            away = abs(dy - 1) + abs(dx - 1)
            if away and 0 <= row < size and 0 <= column < size:
                matrix[i, i] += weight[away]
                matrix[i, row * size + column] -= weight[away]
    expected = np.linalg.solve(matrix, right).reshape(size, size)
    assert impute(image, mask[None])[0, 0].numpy() == pytest.approx(expected, abs=1e-6)


def test_kept_pixels_stay_as_they_are():
    """With every fill; noise is added to the others alone."""
    image, other = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    masks = make_masks(16)
    for fill in (fill_with(image, other), fill_linearly(image, torch.ones_like(image))):
        for one, mask in zip(fill(masks), masks, strict=True):
            assert torch.equal(one[:, mask], image[:, mask])
    replaced = fill_with(image, other)(masks)
    assert torch.equal(replaced[0][:, ~masks[0]], other[:, ~masks[0]])
    noisy = fill_linearly(image, torch.ones_like(image))(masks)
    assert torch.allclose((noisy - impute(image, masks))[1][:, ~masks[1]], torch.ones(1))


def test_nothing_kept_is_the_mean():
    """The system has no right side then, and any constant solves it."""
    image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(4))
    found = impute(image, torch.zeros(1, 8, 8, dtype=torch.bool))
    assert torch.allclose(found, image.mean(dim=(1, 2))[None, :, None, None].expand_as(found))


def test_sky_pixels_are_sky(draw):
    """Each pixel of the fill is one of the cutout's sky, with its channels together."""
    pixels = draw()
    regions = find_regions(pixels)
    sky = Sky(Level(0, 1), np.full((5, 3), 77, np.uint8))
    found = make_sky_image(pixels, regions, sky, np.random.default_rng(0))
    own = {tuple(pixel) for pixel in pixels[regions.sky]}
    assert {tuple(pixel) for pixel in found.reshape(-1, 3)} <= own
    filled = regions._replace(sky=np.zeros_like(regions.sky))
    assert (make_sky_image(pixels, filled, sky, np.random.default_rng(0)) == 77).all()


def test_blur_keeps_the_light(draw):
    """A constant image stays, and a galaxy becomes fainter at its centre."""
    assert (make_blurred_image(np.full((20, 20, 3), 9, np.uint8)) == 9).all()
    assert make_blurred_image(draw())[24, 24].max() < draw()[24, 24].max()
