"""The columns of a gallery are those of the store, to the last bit."""

import numpy as np
import pandas as pd
import pytest
from galleries import decode, read_core, read_script

from galfig.gallery.data import _convert, write_script
from galfig.store.reader import open_store


@pytest.fixture
def core(gallery):
    """Give what every page has: the description, and the decoded columns."""
    return read_core(gallery)


def test_predictions_are_those_of_the_store(core, gallery_store):
    """Identifiers of 19 digits, classes, probabilities and losses: no bit is lost."""
    meta, columns = core
    with open_store(gallery_store) as store:
        rows = store.select(split="all")
        assert columns["objid"] == store.objids(rows).tolist()
        assert meta["n"] == len(store) == len(set(columns["objid"]))
        assert meta["digest"] == store.record.plan_digest
        np.testing.assert_array_equal(columns["true"], store.label[rows])
        np.testing.assert_array_equal(columns["predicted"], store.predicted[rows])
        for c, name in enumerate(meta["classes"]):
            np.testing.assert_array_equal(columns[f"p.{name}"], store.probs[rows, c])
        np.testing.assert_array_equal(columns["p"], store.probs[rows].max(axis=1))
        np.testing.assert_array_equal(columns["loss"], store.losses[rows])
        np.testing.assert_array_equal(columns["redshift"], store.redshift[rows])
        names = next(one["categories"] for one in meta["columns"] if one["id"] == "split")
        assert [names[code] for code in columns["split"]] == store.split[rows].tolist()
        known = store.label[rows] >= 0
        is_right = store.label[rows] == store.predicted[rows]
        assert 0 < known.sum() < len(rows)
        np.testing.assert_array_equal(columns["correct"], np.where(known, is_right, -1))


def test_numbers_of_maps_are_those_of_the_store(core, gallery_store):
    """The end of each colour scale, and the sum of each map."""
    meta, columns = core
    with open_store(gallery_store) as store:
        rows = store.select(split="all")
        cams = store.cams(rows)
        np.testing.assert_array_equal(columns["peak"], cams.max(axis=(1, 2, 3)))
        signed = np.abs(store.evidence(rows)).max(axis=(1, 2))
        np.testing.assert_array_equal(columns["evidence"], signed)
        for c, name in enumerate(meta["classes"]):
            np.testing.assert_allclose(
                columns[f"total.{name}"], cams[:, c].sum(axis=(1, 2)), rtol=1e-5, atol=1e-8
            )


def test_the_catalog_is_whole(core, gallery, gallery_store):
    """Each column but the identifiers, which stand there already; unknown values stay unknown."""
    meta, _ = core
    with open_store(gallery_store) as store:
        rows = store.select(split="all")
        assert [one["label"] for one in meta["catalog"]] == [
            name for name in store.columns if name != "objID"
        ]
        for one in meta["catalog"]:
            (values,) = read_script(gallery / one["file"], "galfigGallery.receive")
            found, expected = decode(values[one["id"]]), store.columns[one["label"]].iloc[rows]
            if one["kind"] == "class":
                words = [one["categories"][code] for code in found]
                truth = {True: "yes", False: "no"}
                assert words == [truth.get(value, value) for value in expected]
            elif one["kind"] == "text":
                assert found == [str(value) for value in expected]
            else:
                np.testing.assert_array_equal(found, expected.to_numpy(np.float64))
        kinds = {one["label"]: one["kind"] for one in meta["catalog"]}
        assert kinds["specobjid"] == kinds["note"] == "text"
        assert kinds["kind"] == kinds["is_big"] == "class"
        assert kinds["mass"] == kinds["count"] == "number"


def test_unknown_integers_and_texts():
    """What a catalog leaves empty is NaN, -1 or the empty text; float32 stays what it is."""
    whole = _convert("n", pd.Series([1, None, 3], dtype="Int64"))
    np.testing.assert_array_equal(whole.values, [1, np.nan, 3])
    large = _convert("n", pd.Series([2**62 + 1, None], dtype="Int64"))
    assert large.values.tolist() == [str(2**62 + 1), ""]
    few = _convert("t", pd.Series(["b", None, "a", "b", "a", "b"], dtype="string"))
    assert (few.categories, few.values.tolist()) == (("a", "b"), [1, -1, 0, 1, 0, 1])
    assert _convert("x", pd.Series([0.1], dtype="float32")).values.dtype == np.float32
    assert _convert("x", pd.Series([np.nan])).kind == "number"


def test_no_text_leaves_its_script(tmp_path):
    """Neither as a tag nor as the end of a line, wherever it stands; JSON reads it back."""
    words = '</script><img src=x onerror=alert(1)> & \u2028 \\ " \x1b'
    write_script(tmp_path / "a.js", "f", {words: [words]})
    script = (tmp_path / "a.js").read_text(encoding="utf-8")
    assert not set(script) & set("<>&\u2028\x1b")
    assert read_script(tmp_path / "a.js", "f") == [{words: [words]}]
