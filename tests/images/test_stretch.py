"""The stretch of fluxes: black at the sky, white at the brightest of the source, true colours."""

import math

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from astropy.visualization import make_lupton_rgb

from galfig.images.decoders import UnusableError
from galfig.images.stretch import MAD_TO_SIGMA, Lupton, Stretch, measure_sky, stretch_image

SIZE = 120


def draw_source(peak, radius, sky=50.0, noise=1.0, size=SIZE, seed=0):
    """A Gaussian source in the middle of a noisy sky."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    source = peak * np.exp(-(x**2 + y**2) / (2 * radius**2))
    return source + np.random.default_rng(seed).normal(sky, noise, (size, size))


def test_sky_is_that_of_astropy():
    """Clipped at three sigma of the median absolute deviation, by an independent library."""
    image = draw_source(300, 6)
    _, median, _ = sigma_clipped_stats(image, sigma=3, cenfunc="median", stdfunc="mad_std")
    sky, noise = measure_sky(image)
    assert sky == pytest.approx(median, abs=0.02)
    assert noise == pytest.approx(1.0, rel=0.03)
    assert pytest.approx(1.482602218505602, rel=1e-5) == MAD_TO_SIGMA


@pytest.mark.parametrize("peak", [10, 100, 10_000])
@pytest.mark.parametrize("radius", [1.5, 5, 15])
def test_small_source_is_bright_on_a_dark_sky(peak, radius):
    """Whatever fills the frame: the percentiles that this replaces showed the noise at half."""
    pixels = stretch_image(draw_source(peak, radius))
    middle = pixels[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1]
    assert np.median(pixels[:20]) <= 8
    assert middle.mean() > 200


def test_values_are_those_of_the_formula():
    """Sky, noise and peak put into the formula of the docstring, in double precision."""
    image = draw_source(100, 8)
    sky, noise = measure_sky(image)
    centre = np.sort(image[30:90, 30:90].ravel()) - sky
    white = centre[-1 - 3]
    soft = 3 * noise
    shown = np.arcsinh((image - sky) / soft) / math.asinh(white / soft)
    expected = np.rint(255 * np.clip(shown, 0, 1))
    assert np.abs(stretch_image(image) - expected).max() <= 1


def test_a_star_at_the_edge_and_a_cosmic_ray_are_not_white_alone():
    """The brightest of the source, not of the image, is white."""
    plain = draw_source(50, 6)
    expected = stretch_image(plain)
    plain[5, 5] = 1e5
    plain[60, 70:72] = 1e5
    pixels = stretch_image(plain)
    assert pixels[5, 5] == 255
    others = np.delete(np.abs(pixels.astype(int) - expected).ravel(), [605, 7270, 7271])
    assert others.max() <= 12


def test_blank_sky_stays_dark():
    """Noise alone is not stretched to full scale."""
    assert np.median(stretch_image(draw_source(0, 1))) <= 3
    assert stretch_image(draw_source(0, 1)).mean() < 40


def test_simulations_without_noise():
    """A sky of one value has no noise; a source of few pixels is seen all the same."""
    image = np.zeros((40, 40))
    image[20, 20] = 5.0
    assert stretch_image(image)[20, 20] == 255
    image = draw_source(1e-12, 4, sky=0, noise=0)
    pixels = stretch_image(image)
    assert pixels.max() == 255
    assert not pixels[0, 0]


def test_colours_are_those_of_the_fluxes():
    """The ratios of planes above their sky stay, however bright; each plane has its own sky."""
    source = draw_source(200, 8, sky=0, noise=0)
    skies = np.array([10.0, 500.0, -3.0])
    ratios = np.array([1.0, 0.5, 0.25])
    noise = np.random.default_rng(1).normal(0, 0.5, (3, SIZE, SIZE))
    pixels = stretch_image(source * ratios[:, None, None] + skies[:, None, None] + noise)
    middle = pixels[55:65, 55:65].mean(axis=(0, 1))
    np.testing.assert_allclose(middle / middle[0], ratios, atol=0.03)


def test_three_planes_follow_lupton():
    """With the sky, the softening and the peak of this stretch, astropy gives the same colours."""
    rng = np.random.default_rng(2)
    planes = draw_source(150, 7, sky=0, noise=0) * np.array([0.9, 1.0, 0.6])[:, None, None]
    planes += rng.normal(0, 1, planes.shape)
    pixels = stretch_image(planes)
    sky = np.array([measure_sky(plane)[0] for plane in planes])
    above = planes - sky[:, None, None]
    light = above.mean(axis=0)
    soft = 3 * measure_sky(light)[1]
    white = np.sort(light[30:90, 30:90].ravel())[-1 - 3]
    # asinh(Q I / s) / asinh(Q w / s) * 255 in astropy's parameters: any small Q.
    strength = 10 * math.sinh(0.1 * math.asinh(white / soft))
    expected = make_lupton_rgb(*above, stretch=strength * soft, Q=strength)
    bright = light > 5 * soft / 3
    difference = np.abs(pixels.astype(int) - expected)[bright]
    assert np.median(difference) <= 2


def test_any_number_of_planes():
    """One, two, four and five planes, each shown by its share of the light."""
    image = draw_source(80, 6)
    for n in (1, 2, 4, 5):
        pixels = stretch_image(np.stack([image] * n))
        assert pixels.shape == (SIZE, SIZE, n)
        assert np.abs(pixels.astype(int) - stretch_image(image)[..., None]).max() <= 1


def test_infinite_and_missing_values():
    """NaN is black and infinity white; nothing finite is refused."""
    image = draw_source(30, 5)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, np.inf, -np.inf
    pixels = stretch_image(image)
    assert pixels[0, :3].tolist() == [0, 255, 0]
    with pytest.raises(UnusableError, match="no finite value"):
        stretch_image(np.full((9, 9), np.nan))
    with pytest.raises(UnusableError, match="a range beyond float64"):
        stretch_image(np.tile([-1.5e308, 1.5e308], (9, 5)), Stretch(kind="percentiles"))


def test_rows_at_a_time_give_the_same(monkeypatch):
    """The image is stretched in blocks, which must not show."""
    image = draw_source(60, 9)
    expected = stretch_image(image)
    monkeypatch.setattr("galfig.images.stretch.BLOCK", 500)
    np.testing.assert_array_equal(stretch_image(image), expected)


def draw_planes(seed=3):
    """Red, green and blue of a source with noise, in float32 as surveys send them."""
    rng = np.random.default_rng(seed)
    ratios = np.array([1.0, 0.6, 0.3])[:, None, None]
    planes = draw_source(20, 9, sky=0, noise=0) * ratios
    return (planes + rng.normal(0, 0.05, planes.shape)).astype(np.float32)


@pytest.mark.parametrize(
    "lupton",
    [Lupton(), Lupton((0.0, 0.0, 0.0), 0.25, 8.0), Lupton((0.1, -0.05, 0.02), 2.0, 20.0)],
)
def test_lupton_is_astropys_and_the_formula(lupton):
    """The picture of `make_lupton_rgb`, and of the formula of the paper written out."""
    planes = draw_planes()
    pixels = stretch_image(planes, Stretch(kind="lupton", lupton=lupton))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SIZE, SIZE, 3)
    double = planes.astype(np.float64)
    expected = make_lupton_rgb(
        *double, minimum=list(lupton.minimum), stretch=lupton.stretch, Q=lupton.softening
    )
    np.testing.assert_array_equal(pixels, expected)
    above = double - np.array(lupton.minimum)[:, None, None]
    light = above.mean(axis=0)
    q = lupton.softening
    shown = np.arcsinh(q * light / lupton.stretch) * 0.1 / np.arcsinh(0.1 * q)
    with np.errstate(all="ignore"):
        factor = np.where(light > 0, shown / light, 0)
    written = np.maximum(255 * above * factor, 0)
    written *= 255 / np.maximum(written.max(axis=0), 255)
    # astropy drops the fraction, whose last bit may be another.
    difference = np.abs(pixels - np.floor(np.moveaxis(written, 0, -1)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-2


def test_lupton_preserves_colours_where_a_plane_would_exceed_white():
    """The ratios of the planes stay, from the faint to the saturated."""
    ratios = np.array([1.0, 0.5, 0.25])[:, None, None]
    planes = np.geomspace(0.5, 1e6, 64).reshape(1, 8, 8) * ratios
    pixels = stretch_image(planes, Stretch(kind="lupton", lupton=Lupton(stretch=1.0)))
    assert (pixels[..., 0] == 255).sum() > 20
    assert np.abs(pixels - pixels[..., :1] * ratios.reshape(1, 1, 3)).max() <= 1


def test_lupton_of_values_that_are_no_numbers():
    """NaN and minus infinity are black, infinity is white, and others stay what they were."""
    planes = draw_planes().astype(np.float64)
    stretch = Stretch(kind="lupton", lupton=Lupton((0.1, 0.1, 0.1), 0.5))
    plain = stretch_image(planes, stretch)
    planes[:, 0, 0] = np.nan
    planes[:, 0, 1] = -np.inf
    planes[:, 0, 2] = np.inf
    planes[:, 0, 3] = 1.7e308
    planes[0, 0, 4] = np.nan
    pixels = stretch_image(planes, stretch)
    np.testing.assert_array_equal(pixels[0, :4, 0], [0, 0, 255, 255])
    np.testing.assert_array_equal(pixels[0, :4, 2], [0, 0, 255, 255])
    assert pixels[0, 4, 0] == 0
    np.testing.assert_array_equal(pixels[1:], plain[1:])
    np.testing.assert_array_equal(pixels[0, 5:], plain[0, 5:])


@pytest.mark.parametrize(("n", "words"), [(1, "one plane"), (2, "2 planes"), (4, "4 planes")])
def test_lupton_needs_three_planes(n, words):
    """One, two and four planes make no colours; the message says what to do."""
    planes = np.stack([draw_source(5, 5)] * n)
    with pytest.raises(UnusableError, match=rf"^{words}, expected red, green and blue .* planes"):
        stretch_image(planes[0] if n == 1 else planes, Stretch(kind="lupton"))


def test_lupton_in_blocks_is_that_of_the_whole(monkeypatch):
    """A large image is stretched some rows at a time."""
    planes = draw_planes()
    stretch = Stretch(kind="lupton", lupton=Lupton(stretch=0.3))
    whole = stretch_image(planes, stretch)
    monkeypatch.setattr("galfig.images.stretch.BLOCK", 500)
    np.testing.assert_array_equal(stretch_image(planes, stretch), whole)
