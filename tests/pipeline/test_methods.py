"""Methods on their way into a store: what it records of them, and what is refused."""

import numpy as np
import pytest

import galfig
from galfig.config import Settings, load_settings
from galfig.errors import ConfigError


@pytest.fixture
def build(galaxy_folder, untrained, tmp_path):
    path, _ = untrained

    def run(method, name="a.h5", **options):
        galaxies = galfig.load_catalog(galaxy_folder / "catalog.csv")
        return galfig.build_maps(
            galaxies,
            tmp_path / name,
            model=path,
            method=method,
            split="all",
            device="cpu",
            **options,
        )

    return run


def test_sums_and_biases_are_the_logits_or_the_log_odds(build):
    """As the store says by itself; the maps are float16."""
    with build(None, "a.h5") as store:
        assert store.method == "grad-cam"
        assert "method" not in store.attrs
        bias = np.array(store.record.head_bias)
        totals, logits = store.cams(slice(None)).sum(axis=(2, 3)), store.logits
        np.testing.assert_allclose(totals + bias, logits, rtol=0, atol=1e-3)
        digest = store.record.plan_digest
    with build("evidence", "b.h5") as store:
        assert store.attrs["method"] == store.method == "evidence"
        cams = store.cams(slice(None))
        np.testing.assert_array_equal(cams[:, 0], -cams[:, 1])
        found = cams[:, 1].sum(axis=(1, 2)) + bias[1] - bias[0]
        np.testing.assert_allclose(found, logits[:, 1] - logits[:, 0], rtol=0, atol=1e-3)
        assert store.record.plan_digest != digest


def test_methods_that_add_up_to_nothing_record_no_bias(build):
    """Their totals are no logits."""
    with build("layer-cam") as store:
        assert store.method == "layer-cam"
        assert store.record.head_bias is None
        assert store.record.hires_distance is None


def test_pixels_have_no_layer(build, untrained):
    """Their maps have the size of the image that the network sees."""
    pytest.importorskip("captum")
    with build("input-x-gradient") as store:
        assert store.record.target_layer == ""
        assert store.map_shape == (untrained[1].image_size,) * 2
        assert store.record.head_bias is None


def test_layer_is_refused_for_pixels(build):
    """Nothing would come of it."""
    with pytest.raises(ConfigError, match="explains the pixels of the image, expected no layer"):
        build("input-x-gradient", layer="conv2")


def test_absent_captum_is_said_first(build, tmp_path, monkeypatch):
    """In one line, before anything is computed or written."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs captum; pip install 'galfig\[captum\]'"):
        build("integrated-gradients")
    assert not (tmp_path / "a.h5").exists()


def test_unknown_methods_are_refused(build):
    """With those that there are."""
    with pytest.raises(ConfigError, match=r"\[maps\] method: found 'lime'.*'hires-cam'"):
        build("lime")


def test_default_is_not_recorded():
    """So that stores that were built before there was a choice stay up to date."""
    assert "method" not in Settings().record()["maps"]
    assert load_settings({"maps": {"method": "grad-cam"}}).record() == Settings().record()
    assert load_settings({"maps": {"method": "evidence"}}).record()["maps"]["method"] == "evidence"


def test_averages_that_do_not_exist_are_refused():
    """Grad-CAM++ of an averaged network is no average."""
    with pytest.raises(ConfigError, match=r"'grad-cam\+\+' with tta, expected another method"):
        load_settings({"maps": {"method": "grad-cam++", "tta": True}})
    assert load_settings({"maps": {"method": "layer-cam", "tta": True}}).maps.tta
