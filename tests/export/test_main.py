"""Export: what a store holds, as other programs find it in the files."""

import json

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner
from pyarrow import parquet

import galfig
from galfig.cli import main
from galfig.errors import OutputError, SelectionError
from galfig.pipeline.moments import measure_maps
from galfig.store.reader import open_store

N = 12
CATALOG = {
    "objID": np.array([1237665024900858100 + index for index in range(N)]),
    "RA": np.linspace(150, 151, N),
    "dec": np.linspace(-2, 2, N),
    "z": np.linspace(0.02, 0.13, N),
    "note": ['a "b", c', "", "Ü"] * 4,
    "n": pd.array([None, 2**60 + 1, 3] * 4, dtype="Int64"),
    "p": np.arange(N),
}


@pytest.fixture
def path(make_store):
    split = np.array(["train", "valid", "test", ""] * 3, dtype=object)
    label = np.array([0, 1, -1] * 4, np.int16)
    return make_store(catalog=CATALOG, split=split, label=label)


@pytest.fixture
def store(path):
    with open_store(path) as opened:
        yield opened


def run(*words):
    found = CliRunner().invoke(main, ["export", *map(str, words)])
    assert found.exit_code == 0, found.output
    return found.stdout.split()


def test_the_table_holds_what_the_store_holds(store, tmp_path):
    """Identifiers as text, the catalog, and what the network made of each galaxy."""
    assert galfig.export_table(store, tmp_path / "t.parquet") == tmp_path / "t.parquet"
    found = parquet.read_table(tmp_path / "t.parquet")
    assert found.column_names == [
        *("objid", "z", "RA", "dec", "note", "n", "catalog_p"),
        *("split", "true", "predicted", "p", "loss", "p_low", "p_high"),
        *("total_low", "total_high", "peak_low", "peak_high"),
        *("centroid_x", "centroid_y", "concentration", "positive_share", "pixel_scale"),
        "kpc_per_arcsec",
    ]
    table = {name: found[name].to_pylist() for name in found.column_names}
    assert table["objid"] == store.objid.tolist()
    assert table["n"] == [None, 2**60 + 1, 3] * 4
    assert table["note"] == ['a "b", c', None, "Ü"] * 4
    assert table["catalog_p"] == list(range(N))
    assert table["split"] == ["train", "valid", "test", None] * 3
    assert table["true"] == ["low", "high", None] * 4
    np.testing.assert_array_equal(np.stack([table["p_low"], table["p_high"]], 1), store.probs)
    np.testing.assert_array_equal(table["loss"], store.losses)
    assert np.isnan(table["loss"][2])
    cams = store.cams(range(N))
    np.testing.assert_array_equal(table["peak_high"], cams[:, 1].max(axis=(1, 2)))
    for row in (0, 5):
        numbers = measure_maps(cams[row], store.logits[row], "grad-cam", 24)
        assert table["centroid_x"][row] == np.float32(numbers["centroid_x"])
        assert table["total_low"][row] == numbers["cam_total"][0]
    assert found.schema.field("centroid_y").metadata[b"unit"] == b"pix"
    assert all(field.metadata[b"description"] for field in found.schema)


def test_no_column_of_the_catalog_is_lost(make_store, tmp_path):
    """Where the name that it would be given is that of another one, which comes first or later."""
    numbers = {name: np.arange(N) + 100 * at for at, name in enumerate(["p", "catalog_p", "P"])}
    catalog = {"objID": CATALOG["objID"], "objid": np.arange(N), **numbers}
    path = make_store(catalog=catalog)
    with open_store(path) as store:
        held = {name: store.columns[name].tolist() for name in store.columns}
        galfig.export_table(store, tmp_path / "t.parquet", statistics=False)
    table = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    written = [values for name, values in table.items() if name.startswith("catalog_")]
    for name in ("objid", *numbers):
        assert held[name] in written, name
    assert table["catalog_p"] == numbers["catalog_p"].tolist()
    assert table["catalog_p_2"] == numbers["p"].tolist()
    assert table["catalog_P_3"] == numbers["P"].tolist()


def test_units_of_the_catalog_go_the_whole_way(galaxy_folder, tmp_path):
    """From the table that the store was built from to the table that is exported."""
    catalog = Table.read(galaxy_folder / "catalog.csv")
    catalog["objID"] = catalog["objID"].astype(str)
    catalog["oh_p50"].unit, catalog["oh_p50"].description = "dex", "12 + log(O/H), median"
    catalog.write(galaxy_folder / "catalog.ecsv")
    settings = {"training": {"cutout_size": 48, "batch_size": 8, "epochs": 1, "lr": 0.02}}
    galaxies = galfig.load_catalog(galaxy_folder / "catalog.ecsv", settings=settings)
    store = galfig.build_maps(galaxies, out=tmp_path / "maps.h5", split="all")
    words = store.describe_column("oh_p50")
    assert (words.unit, words.description) == ("dex", "12 + log(O/H), median")
    galfig.export_table(store, tmp_path / "t.ecsv", statistics=False)
    found = Table.read(tmp_path / "t.ecsv")
    assert str(found["oh_p50"].unit) == "dex"
    assert found["oh_p50"].description == "12 + log(O/H), median"
    assert "peak_low" not in found.colnames
    assert found["objid"].tolist() == store.objid.tolist()


def test_all_galaxies_in_the_order_of_the_store(path, tmp_path):
    """By default, those that trained the network among them; an order that is asked for is kept."""
    written = run(path, "--table", tmp_path / "a.csv", "--maps", tmp_path / "a.fits")
    assert written == [str(tmp_path / "a.csv"), str(tmp_path / "a.fits")]
    objid = pd.read_csv(tmp_path / "a.csv")["objid"].astype(str).tolist()
    with open_store(path) as store:
        assert objid == store.objid.tolist()
        by_loss = [store.objid[row] for row in store.select(sort="loss", n=3)]
        named = store.objid[[7, 2]].tolist()
    run(path, "--table", tmp_path / "b.csv", "--sort", "loss", "--n", 3, "--split", "all")
    (tmp_path / "picks.txt").write_text("\n".join(named))
    run(path, "--table", tmp_path / "c.csv", "--objid", f"@{tmp_path / 'picks.txt'}")
    assert len(pd.read_csv(tmp_path / "b.csv")) == 3
    assert set(by_loss) & set(pd.read_csv(tmp_path / "b.csv")["objid"].astype(str))
    assert pd.read_csv(tmp_path / "c.csv")["objid"].astype(str).tolist() == named


def test_where_it_is_from_is_said_without_a_path(path, tmp_path):
    """Version, digests, settings and selection; nothing of this machine."""
    run(path, "--table", tmp_path / "t.ecsv", "--maps", tmp_path / "t.fits", "--where", "z > 0.1")
    meta = Table.read(tmp_path / "t.ecsv").meta["galfig"]
    history = "".join(fits.getheader(tmp_path / "t.fits")["HISTORY"])
    assert json.loads(history.removeprefix("galfig: ")) == meta
    assert meta["galfig_version"] == galfig.__version__
    assert meta["store"]["plan_digest"] == "digest"
    assert meta["selection"]["where"] == "z > 0.1"
    for name in ("t.ecsv", "t.fits"):
        assert str(tmp_path).encode() not in (tmp_path / name).read_bytes()


def test_maps_are_those_of_the_store(store, tmp_path):
    """The same float32, upside down as FITS has it, with names of classes and checksums."""
    rows = [7, 2]
    galfig.export_maps(store, tmp_path / "m.fits", rows)
    assert b"updated" not in (tmp_path / "m.fits").read_bytes()
    with fits.open(tmp_path / "m.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
        assert [hdu.name for hdu in hdus] == [
            *("PRIMARY", "GALAXIES"),
            *["CUTOUT", "MAPS", "EVIDENCE"] * 2,
        ]
        for version, row in enumerate(rows, 1):
            cutout, maps, evidence = (
                hdus[name, version] for name in ("CUTOUT", "MAPS", "EVIDENCE")
            )
            assert maps.data.dtype == np.dtype(">f4")
            np.testing.assert_array_equal(maps.data[:, ::-1], store.cams(row))
            np.testing.assert_array_equal(evidence.data[::-1], store.evidence(row))
            expected = np.moveaxis(store.cutouts(row), -1, 0)
            np.testing.assert_array_equal(cutout.data[:, ::-1], expected)
            assert [maps.header[f"CLASS{n}"] for n in (1, 2)] == ["low", "high"]
            assert (evidence.header["CLASS"], evidence.header["AGAINST"]) == ("high", "low")
            assert (maps.header["BUNIT"], evidence.header["BUNIT"]) == ("logit", "log-odds")
            assert [cutout.header[f"BAND{n}"] for n in (1, 2, 3)] == ["red", "green", "blue"]
            assert maps.header["OBJECT"] == store.objid[row]
            assert maps.header["PROB"] == float(store.probs[row].max())
        assert hdus["GALAXIES"].data["objid"].tolist() == store.objid[rows].tolist()


def test_sky_coordinates_only_where_they_are_known(store, tmp_path):
    """Somebody has to say that north is up; the centre of the cutout is then the galaxy."""
    galfig.export_maps(store, tmp_path / "a.fits", [3])
    galfig.export_maps(store, tmp_path / "b.fits", [3], north_up=True)
    header = fits.getheader(tmp_path / "a.fits", "MAPS")
    plain = WCS(header).sub(2)
    assert not plain.has_celestial
    assert [str(unit) for unit in plain.wcs.cunit] == ["arcsec", "arcsec"]
    # The right edge of a cutout of 24 pixels of 0.396 arcsec.
    np.testing.assert_allclose(plain.pixel_to_world_values(23.5, 11.5), (12 * 0.396, 0))
    assert (header["RA"], header["DEC"]) == (store.columns["RA"][3], store.columns["dec"][3])
    for name in ("CUTOUT", "MAPS", "EVIDENCE"):
        sky = WCS(fits.getheader(tmp_path / "b.fits", name)).celestial
        center = [(n - 1) / 2 for n in reversed(sky.array_shape)]
        place = sky.pixel_to_world(*center)
        np.testing.assert_allclose((place.ra.deg, place.dec.deg), (header["RA"], header["DEC"]))
        # East is to the left and north is up, by 0.396 arcsec per pixel.
        up, left = sky.pixel_to_world(center[0], 23), sky.pixel_to_world(0, center[1])
        assert up.dec > place.dec
        assert left.ra > place.ra
        np.testing.assert_allclose(place.separation(up).arcsec, 0.396 * 11.5, rtol=1e-6)


@pytest.mark.parametrize(("north", "east"), [(0, 90), (35, 125), (35, -55), (-170, 100)])
@pytest.mark.parametrize("says_up", [False, True])
def test_sky_coordinates_are_turned_as_the_image_is(make_store, tmp_path, north, east, says_up):
    """The store knows it better than whoever says that north is up; the arrows agree."""
    angles = {
        "north_angle": np.full(N, north, np.float32),
        "east_angle": np.full(N, east, np.float32),
    }
    # A map whose cells are larger than pixels, along each axis.
    path = make_store(catalog=CATALOG, map_size=6, attrs={"pixel_scale": 0.4}, **angles)
    galfig.export_maps(path, tmp_path / "m.fits", [3], north_up=says_up)
    for name in ("CUTOUT", "MAPS", "EVIDENCE"):
        header = fits.getheader(tmp_path / "m.fits", name)
        assert ("PC1_1" in header) == ((north, east) != (0, 90))
        sky = WCS(header).celestial
        center = [(n - 1) / 2 for n in reversed(sky.array_shape)]
        place = sky.pixel_to_world(*center)
        np.testing.assert_allclose((place.ra.deg, place.dec.deg), (header["RA"], header["DEC"]))
        for position, angle in ((0, north), (90, east)):
            beside = place.directional_offset_by(position * u.deg, 4 * u.arcsec)
            x, y = np.subtract(sky.world_to_pixel(beside), center)
            off = np.degrees(np.arctan2(-x, y)) - angle
            assert abs((off + 180) % 360 - 180) < 1e-3
            # Ten pixels of the cutout.
            cell = 24 / sky.array_shape[0]
            np.testing.assert_allclose(np.hypot(x, y), 10 / cell, rtol=1e-5)


def test_maps_lie_over_the_whole_cutout(make_store, tmp_path):
    """Of a layer with fewer cells than the cutout has pixels; without a pixel scale, in pixels."""
    path = make_store(map_size=6, attrs={"pixel_scale": float("nan")})
    with open_store(path) as store:
        galfig.export_maps(store, tmp_path / "m.fits", 0)
        with pytest.raises(SelectionError, match=r"`ra` 'ra': no column"):
            galfig.export_maps(store, tmp_path / "n.fits", 0, north_up=True)
    corners = []
    for name, n in (("CUTOUT", 24), ("MAPS", 6)):
        wcs = WCS(fits.getheader(tmp_path / "m.fits", name)).sub(2)
        assert str(wcs.wcs.cunit[0]) == "pix"
        corners.append(wcs.pixel_to_world_values(n - 0.5, n - 0.5))
    np.testing.assert_allclose(corners, [(12, 12)] * 2)


def test_three_classes_and_several_networks(make_store, tmp_path):
    """A plane for each class, also of evidence, and of the spread over the networks."""
    names = ("Sa", "Sb", "Irr Ü")
    path = make_store(class_names=names, n_networks=3)
    with open_store(path) as store:
        galfig.export_maps(store, tmp_path / "m.fits", [1])
        galfig.export_table(store, tmp_path / "t.parquet")
        with fits.open(tmp_path / "m.fits") as hdus:
            for name, expected in (
                ("MAPS", store.cams(1)),
                ("MAPS_SD", store.cams_sd(1)),
                ("EVIDENCE", store.evidence(1)),
                ("EVIDENCE_SD", store.evidence_sd(1)),
            ):
                np.testing.assert_array_equal(hdus[name].data[:, ::-1], expected)
                assert hdus[name].header["CLASS3"] == "Irr U"
        table = pd.read_parquet(tmp_path / "t.parquet")
        np.testing.assert_array_equal(table["logit_sd_Irr Ü"], store.logits_sd[:, 2])
        np.testing.assert_array_equal(table["log_odds_sd_Sb"], store.log_odds_sd[:, 1])
        np.testing.assert_array_equal(table["agreement"], store.agreement)


def test_data_of_panels_hold_their_maps(path, tmp_path):
    """In FITS, behind the numbers; other formats have the numbers alone."""
    for data in ("d.fits", "d.csv"):
        words = ["render", str(path), "--n", "2", "--out", str(tmp_path / "p.png")]
        found = CliRunner().invoke(
            main, [*words, "--data", str(tmp_path / data), "--overwrite"], catch_exceptions=False
        )
        assert found.exit_code == 0, found.output
    with fits.open(tmp_path / "d.fits", checksum=True) as hdus, open_store(path) as store:
        assert [hdu.name for hdu in hdus][:3] == ["PRIMARY", "DATA", "CUTOUT"]
        row = store.names.find([hdus["MAPS", 2].header["OBJECT"]])[0]
        np.testing.assert_array_equal(hdus["MAPS", 2].data[:, ::-1], store.cams(int(row)))
    assert len(pd.read_csv(tmp_path / "d.csv")) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "nothing to write; give --table FILE, --maps FILE or --crate FOLDER"),
        (["--table", "a.fits", "--maps", "a.fits"], "--maps FILE holds the table of its galaxies"),
        (["--table", "t.csv", "--maps", "m.png"], "m.png: suffix '.png', expected .fits"),
        (["--table", "t.xlsx"], "t.xlsx: suffix '.xlsx', expected .fits, .csv"),
        (["--maps", "m.png"], "m.png: suffix '.png', expected .fits for images"),
        (["--table", "t.csv", "--objid", "1"], "no galaxy '1'"),
        (["--maps", "m.fits", "--ra", "R"], "--ra 'R': no column of the catalog"),
        (["--maps", "m.fits", "--ra", "note"], "--ra 'note': expected numbers [deg]"),
        (["--maps", "m.fits", "--ra", "p", "--dec", "n"], "--dec 'n': expected numbers [deg]"),
    ],
)
def test_what_cannot_be_written_is_told(path, tmp_path, monkeypatch, words, expected):
    """In one line, and nothing is left."""
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["export", str(path), *words])
    assert found.exit_code in (1, 2)
    assert expected in found.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["maps.h5"]


def test_existing_files_stay(store, tmp_path):
    """Unless they are to be replaced."""
    for write, name in ((galfig.export_table, "t.csv"), (galfig.export_maps, "m.fits")):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match="already exists"):
            write(store, tmp_path / name, [0])
        assert (tmp_path / name).read_text() == "mine"
        write(store, str(tmp_path / name), [0], if_exists="replace")
        assert (tmp_path / name).read_text(errors="replace") != "mine"


@pytest.mark.slow
def test_numbers_of_maps_are_those_of_a_store_of_statistics(forms, tmp_path):
    """One definition: measured at the build, or of the maps that a full store holds."""
    tables = []
    for form in ("full", "statistics"):
        galfig.export_table(forms / f"{form}.h5", tmp_path / f"{form}.parquet")
        tables.append(pd.read_parquet(tmp_path / f"{form}.parquet"))
    pd.testing.assert_frame_equal(*tables)
    # Maps of 8 bits are rounded, by half a step at most.
    galfig.export_table(forms / "native.h5", tmp_path / "native.parquet")
    native = pd.read_parquet(tmp_path / "native.parquet")
    with open_store(forms / "native.h5") as store:
        limits = [store.rounding("cams", row)[1] for row in range(len(store))]
    assert (np.abs(native["peak_high"] - tables[0]["peak_high"]) <= 1.001 * np.array(limits)).all()


@pytest.mark.slow
def test_maps_that_are_not_stored_are_made_again(forms, tmp_path):
    """The cutouts of all forms are those of the images; statistics give the same maps."""
    for form in ("full", "statistics"):
        words = ["--maps", tmp_path / f"{form}.fits", "--n", 2]
        run(forms / f"{form}.h5", *words)
    with fits.open(tmp_path / "full.fits") as one, fits.open(tmp_path / "statistics.fits") as other:
        for first, second in zip(one[2:], other[2:], strict=True):
            np.testing.assert_array_equal(first.data, second.data)
            assert first.header == second.header
