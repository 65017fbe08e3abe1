"""Forms of stores: what 8 bits keep of a map, and what a store of each form must hold."""

import shutil

import h5py
import numpy as np
import pytest

from galfig.errors import StoreError
from galfig.store.chunks import round_maps
from galfig.store.content import read_content
from galfig.store.forms import quantise
from galfig.store.reader import open_store, verify_store

FORMS = ("full", "native", "statistics")


@pytest.fixture
def copy(forms, tmp_path):
    """Give a function that copies the store of a form, to be edited."""
    return lambda form: shutil.copyfile(forms / f"{form}.h5", tmp_path / f"{form}.h5")


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1.0, 1e30, 3.4e38])
def test_eight_bits_round_by_half_a_step(scale):
    """Whatever the unit; zero stays zero, and signs are kept."""
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        maps = (scale * rng.uniform(-1, 1, (3, 9, 9))).astype(np.float32)
    maps[0, 0], maps[2] = 0, 0
    values, step = quantise(maps)
    assert (values.dtype, step.dtype) == (np.int8, np.float32)
    back = values * step.astype(np.float64)[:, None, None]
    assert np.isfinite(back.astype(np.float32)).all()
    peak = np.abs(maps).max(axis=(1, 2)).astype(np.float64)
    half = np.maximum(peak / 254 * (1 + 1e-5), np.finfo(np.float32).tiny)
    assert (np.abs(back - maps) <= half[:, None, None]).all()
    assert not values[0, 0].any()
    assert not values[2].any()
    assert step[2] == 1
    assert (np.sign(values) * np.sign(maps) >= 0).all()
    if scale >= 1e-30:
        assert np.abs(values[:2]).max(axis=(1, 2)).tolist() == [127, 127]


def test_rounded_maps_are_those_that_a_full_store_returns(forms):
    """Once rounded, they stay as they are."""
    with open_store(forms / "full.h5") as store:
        maps = store.cams(3)
    assert np.array_equal(round_maps(maps), maps)
    noisy = maps + np.float32(1e-6) * np.abs(maps).max()
    assert not np.array_equal(round_maps(noisy), noisy)


@pytest.mark.parametrize("form", FORMS)
def test_a_store_of_each_form_is_intact(forms, form):
    """By its digests and its schema, and it says what it is."""
    path = forms / f"{form}.h5"
    assert verify_store(path) == []
    with open_store(path) as store, open_store(forms / "full.h5") as full:
        assert store.form == form
        assert store.map_shape == full.map_shape == (16, 16)
        assert (store.n_channels, store.is_gray) == (3, False)
        assert np.array_equal(store.logits, full.logits)
        assert np.array_equal(store.probs, full.probs)
        assert np.array_equal(store.kpc_per_arcsec, full.kpc_per_arcsec)
        assert store.score() == full.score()
        assert store.table.equals(full.table)
        assert (store.statistics is None) == (form != "statistics")
        np.testing.assert_allclose(
            store.totals(np.arange(24)), full.totals(np.arange(24)), atol=0.05, rtol=0
        )
        assert repr(store)
        assert store._repr_html_()
    assert read_content(path).keys() == read_content(forms / "full.h5").keys()


def test_each_form_is_smaller_than_the_one_before(forms):
    """A byte for each value and no cutouts, or neither."""
    sizes = [(forms / f"{form}.h5").stat().st_size for form in FORMS]
    assert sizes[1] < 0.6 * sizes[0]
    # Whatever the maps: 24 galaxies have 512 values each.
    assert sizes[2] < sizes[1] - 0.9 * 24 * 512


def test_native_maps_are_those_of_the_full_store(forms):
    """To half a step of 8 bits, and the rounding of the other to 11."""
    with (
        open_store(forms / "native.h5") as store,
        open_store(forms / "full.h5") as full,
    ):
        expected = full.cams(slice(None))
        limit = np.abs(expected).max(axis=(2, 3), keepdims=True) * (0.5 / 127 + 2**-11)
        assert (np.abs(store.cams(slice(None)) - expected) <= limit).all()
        assert store.evidence([1, 2]).shape == (2, 16, 16)
        found = store.cams(5)
    with h5py.File(forms / "native.h5") as file:
        assert file["cams"].dtype == np.int8
        assert np.array_equal(found, file["cams"][5] * file["cam_step"][5][:, None, None])


@pytest.mark.parametrize(
    ("form", "name", "what"),
    [("native", "cutouts", "cutouts"), ("statistics", "cutouts", "cutouts")]
    + [("statistics", name, "maps") for name in ("cams", "evidence")],
)
def test_what_is_not_there_is_said_in_one_line(forms, form, name, what):
    """With what to do."""
    with open_store(forms / f"{form}.h5") as store:
        for rows in (0, [0, 1]):
            with pytest.raises(StoreError, match=f"holds no {what}.*store = '{form}'.*'galfig ren"):
                getattr(store, name)(rows)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def add(name, data):
    return lambda file: file.create_dataset(name, data=data)


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("native", lambda f: f.__delitem__("cam_step"), "no dataset 'cam_step'"),
        ("native", lambda f: f.__delitem__("image"), "no dataset 'image'"),
        ("native", lambda f: f.__delitem__("image_digest"), "no dataset 'image_digest'"),
        ("native", lambda f: f.attrs.__delitem__("n_channels"), "no attribute n_channels"),
        ("native", lambda f: f.attrs.__setitem__("store", "full"), "no dataset 'cam"),
        ("native", lambda f: f.attrs.__setitem__("store", "tiny"), "attribute store"),
        ("native", add("cam_scale", np.ones((24, 2), np.float32)), "cam_scale in a store of the"),
        ("native", add("cams_sd_step", np.ones((24, 2), np.float32)), "of one network"),
        ("full", add("cam_step", np.ones((24, 2), np.float32)), "cam_step in a store of the form"),
        ("full", add("cam_total", np.ones((24, 2), np.float32)), "cam_total in a store of the"),
        ("statistics", add("probs", np.full((24, 2), 0.5, np.float32)), "probs in a store of the"),
        ("statistics", lambda f: f.__delitem__("centroid_x"), "no dataset 'centroid_x'"),
        ("statistics", lambda f: f.attrs.__setitem__("map_shape", "[0, 3]"), "map_shape"),
        ("statistics", lambda f: f.attrs.__setitem__("map_shape", "[3]"), "map_shape"),
    ],
    ids=range(14),
)
def test_a_store_that_contradicts_its_form_is_refused(copy, form, change, words):
    """Before anything in it is read."""
    path = copy(form)
    edit(path, change)
    with pytest.raises(StoreError, match=words) as error:
        open_store(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ("native", "cam_step", 0),
        ("native", "cam_step", np.inf),
        ("native", "cam_step", 3e38),
        ("native", "cams", -128),
        ("native", "image", b"/etc/hostname"),
        ("native", "image", b"images/../../x.jpg"),
        ("native", "image", b"\x1b[31m.jpg"),
        ("statistics", "cam_total", np.nan),
        ("statistics", "concentration", 1.5),
        ("statistics", "positive_share", -0.5),
    ],
    ids=range(10),
)
def test_values_that_cannot_be_are_refused(copy, form, name, value):
    """When they are read, and by verify."""
    path = copy(form)

    def change(file):
        data = file[name][()]
        data[0] = value
        attrs = dict(file[name].attrs)
        del file[name]
        chunks = {} if name != "cams" else {"chunks": (1, *data.shape[1:]), "fletcher32": True}
        dataset = file.create_dataset(name, data=data, **chunks)
        dataset.attrs.update(attrs)

    edit(path, change)
    with open_store(path) as store, pytest.raises(StoreError, match=f"{name} holds"):
        store._read(name, 0 if name == "cams" else slice(None))
    assert verify_store(path)


def test_full_maps_in_a_native_store_are_refused(copy):
    """The type of the maps is that of the form."""
    path = copy("native")

    def change(file):
        maps = file["cams"][()].astype(np.float16)
        del file["cams"]
        file.create_dataset("cams", data=maps, chunks=(1, *maps.shape[1:]))

    edit(path, change)
    with pytest.raises(StoreError, match="cams is 'float16', expected int8"):
        open_store(path)
