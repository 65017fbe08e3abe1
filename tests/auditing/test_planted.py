"""The audit names a shortcut that was planted, and none where there is none."""

import pytest

import galfig


@pytest.mark.long
@pytest.mark.parametrize(("cue", "is_shortcut"), [("corner", True), ("core", False)])
def test_a_planted_shortcut_is_named(tmp_path, cue, is_shortcut):
    """Galaxies and network are those of the command line: conv3, 320 galaxies to train."""
    galfig.simulate(tmp_path, 400, cue=cue)
    galaxies = galfig.load_catalog(settings=tmp_path / "cue.toml")
    network = galfig.train(galaxies, tmp_path / "net.safetensors")
    store = galfig.build_maps(galaxies, tmp_path / "maps.h5", model=network)
    assert store.score().accuracy > 0.9
    audit = galfig.audit(store, model=network, measures=("sanity", "shortcuts"))
    assert audit.measures["sanity"].passes
    shortcuts = audit.measures["shortcuts"].numbers
    named = [words for words in audit.verdict if words.endswith("of the galaxy.")]
    if is_shortcut:
        assert shortcuts["sky_auc"].low > 0.8
        assert shortcuts["outside_share"].low > 0.5
        assert "tells the class by itself" in named[0]
    else:
        assert shortcuts["core_auc"].low > 0.8
        assert not named
        assert any("No shortcut was found in what surrounds" in words for words in audit.verdict)
