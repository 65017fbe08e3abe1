"""Cutouts of a user's own galaxies, from a local server that speaks as the services do."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from click.testing import CliRunner
from dialects import draw_fluxes, serve_hips, serve_legacy, write_picture
from surveys import Reply, SurveyServer, cut, fail, page, resize

import galfig
from galfig.catalog.galaxies import load_galaxies
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError, OutputError, SurveyError
from galfig.images.cutouts import choose_decoding, read_cutout
from galfig.survey.client import Patience
from galfig.survey.download import Manners
from galfig.survey.hips import plan_hips
from galfig.survey.legacy import plan_legacy

QUICK = Manners(rate=50, patience=Patience(attempts=4, base=0.01, longest=0.05, total=2.0))
# Classes of the catalogs here.
BY_COLOUR = {"column": "colour", "edges": []}
BAND = "CDS/P/DESI-Legacy-Surveys/DR10/"


@pytest.fixture
def server():
    """Serve both services."""
    with SurveyServer(serve_legacy, serve_hips) as running:
        yield running


@pytest.fixture
def catalog():
    """Write a catalog of eight galaxies, of which the northern ones are red."""
    return write_catalog(Path("galaxies.csv"), 8)


def write_catalog(path, n, id_column="objID"):
    """Write galaxies north and south of the equator, a degree apart."""
    rows = np.arange(n)
    table = pd.DataFrame({id_column: [f"J{row:04}" for row in rows]})
    table["ra"], table["dec"] = 150.0 + rows % 30, np.where(rows % 2, -1, 1) * (1.0 + rows // 30)
    table["colour"] = np.where(rows % 2, "blue", "red")
    table.to_csv(path, index=False)
    return path


def fetch_legacy(server, folder, catalog, *, manners=QUICK, **given):
    """Fetch from the viewer, fast."""
    given = {"size": 48, **given}
    return plan_legacy(folder, catalog, base_url=server.address, manners=manners, **given).run()


def fetch_hips(server, folder, hips, catalog, *, manners=QUICK, **given):
    """Fetch from hips2fits, fast."""
    given = {"size": 48, **given}
    return plan_hips(folder, hips, catalog, base_url=server.address, manners=manners, **given).run()


def read_rows(path):
    """Read a CSV file as a list of dicts."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def list_images(folder):
    """Return the names of the cutouts of a folder."""
    return sorted(path.name for path in (Path(folder) / "images").iterdir())


def test_a_folder_of_pictures_stands_for_itself(server, catalog):
    """A copy of the catalog, pictures, the record, and no settings, since the defaults do."""
    path = fetch_legacy(server, "sky", catalog)
    assert path == Path("sky/galaxies.csv")
    assert path.read_bytes() == catalog.read_bytes()
    assert list_images("sky") == [f"J{row:04}.jpg" for row in range(8)]
    names = {path.name for path in Path("sky").iterdir()}
    assert names == {"galaxies.csv", "images", "manifest.csv", "fetch.json"}
    record = json.loads(Path("sky/fetch.json").read_text())
    expected = {
        **{"service": "legacy", "release": "ls-dr10", "address": server.address, "is_mirror": True},
        **{"catalog": "galaxies.csv", "images": "images/{objID}.jpg", "query": None, "bands": None},
        **{"pixel_scale": 0.262, "size": 48, "is_north_up": True, "n": 8, "n_failed": 0},
    }
    assert {key: record[key] for key in expected} == expected
    galaxies = load_galaxies(load_settings({"catalog": {"path": str(path)}, "classes": BY_COLOUR}))
    assert len(galaxies) == 8


def test_a_second_run_asks_for_nothing(server, catalog):
    """And for what was lost, only that."""
    fetch_legacy(server, "sky", catalog, format="fits")
    assert len(server.requests) == 8
    fetch_legacy(server, "sky", catalog, format="fits")
    assert len(server.requests) == 8
    Path("sky/images/J0003.fits").unlink()
    fetch_legacy(server, "sky", catalog, format="fits")
    assert len(server.requests) == 9
    assert server.requests[-1].params["ra"] == "153"


def test_cubes_become_colours_by_the_settings_beside_them(server, catalog):
    """What galfig.toml reads is the picture that astropy makes of the fluxes, red first."""
    fetch_legacy(server, "sky", catalog, format="fits")
    settings = load_settings(
        Path("sky/galfig.toml"), {("classes", "column"): "colour", ("classes", "edges"): []}
    )
    assert settings.catalog_path == Path("sky/galaxies.csv")
    assert settings.catalog.planes == (2, 1, 0)
    assert (settings.catalog.pixel_scale, settings.catalog.stretch) == (0.262, "lupton")
    galaxies = load_galaxies(settings)
    assert len(galaxies) == 8
    decoding = choose_decoding(settings.catalog, 3)
    for row in (0, 1):
        pixels = read_cutout(galaxies.paths[row], 48, decoding)
        fluxes = draw_fluxes(150.0 + row, (1.0, -1.0)[row], 48, 0.262, "grz").astype(float)
        expected = make_lupton_rgb(*fluxes[::-1], stretch=0.25, Q=8)
        np.testing.assert_array_equal(pixels, expected[::-1])
        centre = pixels[20:28, 20:28].mean(axis=(0, 1))
        assert (centre[0] > centre[2]) == (row == 0)


def test_pictures_and_cubes_show_the_sky_alike(server, catalog):
    """North is up and east to the left in both: the galaxies are brighter there."""
    fetch_legacy(server, "jpg", catalog)
    fetch_legacy(server, "fits", catalog, format="fits")
    settings = load_settings(Path("fits/galfig.toml"))
    cube = read_cutout(Path("fits/images/J0000.fits"), 48, choose_decoding(settings.catalog, 3))
    picture = read_cutout(Path("jpg/images/J0000.jpg"), 48)
    for pixels in (cube.astype(float), picture.astype(float)):
        assert pixels[:, :20].mean() > pixels[:, -20:].mean()
        assert pixels[:20].mean() > pixels[-20:].mean()


def test_wcs_of_the_files_is_what_was_asked_for(server, catalog):
    """By astropy, of both services: position, pixel scale and directions."""
    fetch_legacy(server, "legacy", catalog, format="fits", pixel_scale=0.5)
    fetch_hips(server, "hips", f"{BAND}r", catalog, format="fits", pixel_scale=0.5)
    for folder in ("legacy", "hips"):
        for row in read_rows(catalog):
            header = fits.getheader(f"{folder}/images/{row['objID']}.fits")
            wcs = WCS(header, naxis=2)
            place = wcs.world_to_pixel_values(float(row["ra"]), float(row["dec"]))
            assert np.abs(np.subtract(place, 23.5)).max() <= 0.5 + 1e-6
            np.testing.assert_allclose(
                wcs.pixel_scale_matrix * 3600, [[-0.5, 0], [0, 0.5]], atol=1e-6
            )


def test_rows_that_no_service_can_help_are_not_to_be_tried_again(server):
    """Where all failures are of the catalog, the advice is to correct it: nothing else helps."""
    Path("cat.csv").write_text("objID,ra,dec\na,10,2\nb,,2\nc,10,-91\n")
    command = ["fetch", "legacy", "sky", "--catalog", "cat.csv", "--rate", "50"]
    done = CliRunner().invoke(main, [*command, "--size", "48", "--base-url", server.address])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "galfig: error: sky: 2 of 3 galaxies cannot be asked for, expected at most 5 %, first b: "
        "no ra; see sky/failed.csv, and correct the catalog and choose another folder, or raise "
        "--max-failed"
    )
    assert list_images("sky") == ["a.jpg"]


def test_rows_without_a_position_are_counted_and_named(server):
    """They are in failed.csv with the reason, beside those that the service could not give."""
    rows = ["a,10,2", "b,,2", "c,10,-91", "d,10,70", "e,12,2"]
    Path("cat.csv").write_text("objID,ra,dec\n" + "\n".join(rows) + "\n")
    with pytest.raises(SurveyError, match=r"sky: 3 of 5 cutouts failed, expected at most 5 %, fir"):
        fetch_legacy(server, "sky", Path("cat.csv"))
    failed = {row["objID"]: row for row in read_rows("sky/failed.csv")}
    assert failed["b"]["reason"] == "no ra"
    assert failed["c"]["reason"] == "dec -91, expected -90 to 90 degrees"
    assert failed["c"]["ra"] == failed["c"]["dec"] == ""
    assert failed["d"]["reason"] == "a picture without sky, outside the survey"
    assert (failed["d"]["ra"], failed["d"]["dec"]) == ("10.0", "70.0")
    record = json.loads(Path("sky/fetch.json").read_text())
    assert (record["n"], record["n_failed"]) == (5, 3)
    assert list_images("sky") == ["a.jpg", "e.jpg"]


@pytest.mark.parametrize("format", ["jpg", "fits"])
def test_passing_faults_are_waited_for(server, catalog, format):
    """Cut in the middle, a page in place of the file, busy, and a fault of the server."""
    server.plan("ra=150", cut(0.5), page(), fail(429, retry_after="0"))
    server.plan("ra=151", fail(500), fail(503))
    # Cut by a server that says that this is all.
    server.plan(
        "ra=152", lambda reply: Reply(reply.body[: len(reply.body) // 2], reply.content_type)
    )
    fetch_legacy(server, "sky", catalog, format=format)
    assert list_images("sky") == [f"J{row:04}.{format}" for row in range(8)]
    assert len(server.requests) == 8 + 3 + 2 + 1
    assert not Path("sky/failed.csv").exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda server: server.plan("ra=150", resize(40)), "40 × 40 pixels, expected 48 × 48"),
        (
            lambda server: server.plan(
                "ra=150",
                lambda reply: Reply(write_picture(np.zeros((48, 48, 3), np.uint8)), "image/jpeg"),
            ),
            "a picture without sky, outside the survey",
        ),
        (lambda server: server.plan("ra=150", *[page()] * 4), "a page in place of the file: 'Oops"),
    ],
)
def test_answers_that_are_no_cutout_are_refused(server, catalog, make, reason):
    """The others come, and the reason is in failed.csv."""
    make(server)
    manners = Manners(rate=50, max_failed=0.2, patience=QUICK.patience)
    fetch_legacy(server, "sky", catalog, manners=manners)
    (failed,) = read_rows("sky/failed.csv")
    assert failed["objID"] == "J0000"
    assert failed["reason"].startswith(reason)
    assert len(list_images("sky")) == 7


@pytest.mark.parametrize(
    ("place", "format", "reason"),
    [
        ("10,70", "fits", "band g holds no data at the galaxy: outside ls-dr10"),
        ("200.5,1", "fits", "band z holds no data at the galaxy: outside ls-dr10, or not observed"),
        ("10,85", "fits", "status 500"),
        ("10,85", "jpg", "status 500"),
    ],
)
def test_galaxies_outside_of_the_footprint(server, place, format, reason):
    """Empty bands, and a viewer that fails where it has no brick."""
    Path("cat.csv").write_text(f"objID,ra,dec\na,{place}\nb,10,2\n")
    manners = Manners(rate=50, max_failed=0.5, patience=QUICK.patience)
    fetch_legacy(server, "sky", Path("cat.csv"), format=format, manners=manners)
    (failed,) = read_rows("sky/failed.csv")
    assert failed["reason"].startswith(reason)


def test_layers_that_the_viewer_does_not_know(server, catalog):
    """Each cutout fails with its status, once."""
    with pytest.raises(SurveyError, match=r"8 of 8 cutouts failed.* first J0000: status 404"):
        fetch_legacy(server, "sky", catalog, layer="ls-dr99")
    assert len(server.requests) == 8


def test_hips_that_the_service_does_not_know(server, catalog):
    """It says so as JSON, with status 400."""
    with pytest.raises(SurveyError, match=r"8 of 8 cutouts failed.* first J0000: status 400"):
        fetch_hips(server, "sky", "CDS/P/No/such", catalog)


def test_bands_of_several_hips_are_a_file_each(server, catalog):
    """The settings beside them name the bands, red first; the record names the HiPS."""
    chosen = [f"{BAND}{band}" for band in "zrg"]
    fetch_hips(server, "sky", chosen, catalog, format="fits")
    assert list_images("sky") == sorted(
        f"J{row:04}.{band}.fits" for row in range(8) for band in "zrg"
    )
    settings = load_settings(
        Path("sky/galfig.toml"), {("classes", "column"): "colour", ("classes", "edges"): []}
    )
    assert settings.catalog.bands == tuple(f"images/{{objID}}.{band}.fits" for band in "zrg")
    galaxies = load_galaxies(settings)
    assert len(galaxies) == 8
    for row in (0, 1):
        pixels = read_cutout(galaxies.paths[row], 48, choose_decoding(settings.catalog, 3))
        centre = pixels[20:28, 20:28].mean(axis=(0, 1))
        assert (centre[0] > centre[2]) == (row == 0)
    record = json.loads(Path("sky/fetch.json").read_text())
    assert record["release"] == ", ".join(chosen)
    assert record["bands"] == "z, r, g"
    fetch_hips(server, "sky", chosen, catalog, format="fits")
    assert len(server.requests) == 24


def test_a_galaxy_that_lacks_a_band_is_not_asked_for_the_others(server):
    """It cannot be used anyway."""
    Path("cat.csv").write_text("objID,ra,dec\na,10,70\nb,10,2\n")
    manners = Manners(rate=50, max_failed=0.5, patience=QUICK.patience)
    chosen = [f"{BAND}{band}" for band in "zrg"]
    fetch_hips(server, "sky", chosen, Path("cat.csv"), format="fits", manners=manners)
    assert len(server.count("dec=70")) == 1
    (failed,) = read_rows("sky/failed.csv")
    assert failed["reason"].startswith(f"band {BAND}z holds no data at the galaxy: outside {BAND}z")


def test_astroquery_gets_the_same_from_the_same_server(server, catalog):
    """An independent client: our server speaks what it expects, and its answer is our file."""
    hips2fits = pytest.importorskip("astroquery.hips2fits").hips2fits
    import astropy.units as u
    from astropy.coordinates import Angle, Latitude, Longitude

    fetch_hips(server, "sky", f"{BAND}r", catalog, format="fits")
    client = type(hips2fits)()
    client.server = f"{server.address}/hips-image-services/hips2fits"
    found = client.query(
        hips=f"{BAND}r",
        width=48,
        height=48,
        projection="TAN",
        ra=Longitude(150 * u.deg),
        dec=Latitude(1 * u.deg),
        fov=Angle(48 * 0.396 / 3600 * u.deg),
        format="fits",
    )
    with fits.open("sky/images/J0000.fits") as ours:
        np.testing.assert_array_equal(found[0].data, ours[0].data)
        assert found[0].header["CRVAL2"] == ours[0].header["CRVAL2"]
    mine, theirs = server.count("ra=150&").popitem()[0], server.requests[-1]
    assert "/hips2fits?" in mine
    asked = {
        "hips",
        "width",
        "height",
        "projection",
        "coordsys",
        "rotation_angle",
        "ra",
        "dec",
        "fov",
    }
    own = next(one for one in server.requests if one.target == mine)
    for key in (*asked, "fov"):
        values = [request.params[key] for request in (own, theirs)]
        assert values[0] == values[1] or float(values[0]) == pytest.approx(float(values[1]), 1e-6)
    with pytest.raises(AttributeError, match="Bad request: HiPS CDS/P/No/such not found"):
        client.query(
            hips="CDS/P/No/such",
            width=48,
            height=48,
            projection="TAN",
            ra=Longitude(150 * u.deg),
            dec=Latitude(1 * u.deg),
            fov=Angle(1 * u.deg),
        )


@pytest.mark.parametrize("name", ["my.fits", "my.vot", "my.parquet"])
def test_catalogs_of_other_formats_and_columns(server, name):
    """Their settings go with the copy, and the command says which."""
    write_catalog(Path("my.csv"), 4, "name")
    table = Table.from_pandas(pd.read_csv("my.csv"))
    if name.endswith("parquet"):
        pd.read_csv("my.csv").to_parquet(name)
    else:
        table.write(name, format={"my.vot": "votable"}.get(name))
    settings = {"catalog": {"id": "name"}, "classes": BY_COLOUR}
    path = fetch_legacy(server, "sky", Path(name), settings=settings)
    assert path.read_bytes() == Path(name).read_bytes()
    read = load_settings(Path("sky/galfig.toml"))
    assert (read.catalog.id, read.catalog.images) == ("name", "images/{name}.jpg")
    galaxies = load_galaxies(read)
    assert galaxies.objid.tolist() == [f"J{row:04}" for row in range(4)]
    assert galaxies.class_names == ("blue", "red")


def test_settings_that_are_there_stay(server, catalog, caplog):
    """They may be the user's own by now."""
    fetch_legacy(server, "sky", catalog, format="fits")
    own = Path("sky/galfig.toml").read_text() + "# mine\n"
    Path("sky/galfig.toml").write_text(own)
    with caplog.at_level("INFO", "galfig"):
        fetch_legacy(server, "sky", catalog, format="fits")
    assert Path("sky/galfig.toml").read_text() == own
    assert "sky/galfig.toml: is there already, and stays as it is" in caplog.messages


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": "ls-dr9"}, r"sky: was fetched with release 'ls-dr10', not 'ls-dr9'"),
        ({"size": 40}, r"sky: was fetched with size 48, not 40"),
        ({"format": "fits"}, r"sky: was fetched with images 'images/\{objID\}.jpg', not"),
    ],
)
def test_a_folder_of_other_cutouts_is_not_added_to(server, catalog, given, message):
    """Half of the galaxies would be others."""
    fetch_legacy(server, "sky", catalog)
    with pytest.raises(OutputError, match=message):
        fetch_legacy(server, "sky", catalog, **given)


def test_another_catalog_is_refused(server, catalog):
    """The folder is of the one that it holds."""
    fetch_legacy(server, "sky", catalog)
    write_catalog(catalog, 9)
    with pytest.raises(OutputError, match="is another catalog than the one given"):
        fetch_legacy(server, "sky", catalog)


def test_names_that_the_folder_cannot_hold_are_refused(server):
    """Its own files, and columns that would be no place in a template."""
    write_catalog(Path("manifest.csv"), 2)
    with pytest.raises(CatalogError, match=r"manifest.csv: the folder has a file of this name for"):
        fetch_legacy(server, "sky", Path("manifest.csv"))
    write_catalog(Path("cat.csv"), 2, "id[1]")
    with pytest.raises(CatalogError, match=r"column 'id\[1\]' cannot stand in a template of paths"):
        fetch_legacy(server, "sky", Path("cat.csv"), settings={"catalog": {"id": "id[1]"}})
    with pytest.raises(
        ConfigError, match='2 of them as pictures, expected one, or `format="fits"`'
    ):
        fetch_hips(server, "sky", [f"{BAND}g", f"{BAND}r"], Path("cat.csv"))
    assert not Path("sky").exists()
    assert server.requests == []


def run_command(*words):
    """Run the command."""
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_commands(server, catalog):
    """They print the path of the catalog, and a dry run what it would ask for."""
    polite = ["--rate", 50, "--base-url"]
    legacy = ["fetch", "legacy", "sky", "--catalog", catalog, "--size", 48]
    result = run_command(*legacy, "--dry-run", *polite, server.address)
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "Legacy Survey viewer, ls-dr10: 8 galaxies, 0 cutouts there; 8 "
    )
    assert server.requests == []
    result = run_command(*legacy, *polite, server.address)
    assert (result.exit_code, result.stdout) == (0, "sky/galaxies.csv\n")
    assert "next: galfig build-maps --catalog sky/galaxies.csv" in result.stderr
    result = run_command(*legacy, "--dry-run", *polite, server.address)
    assert "8 cutouts there; 0 requests" in result.stdout
    hips = ["fetch", "hips", "more", "--catalog", catalog, "--size", 48, "--format", "fits"]
    for band in "zrg":
        hips += ["--hips", f"{BAND}{band}"]
    result = run_command(*hips, "--dry-run", *polite, server.address)
    assert "8 galaxies, 0 cutouts there; 24 requests" in result.stdout
    result = run_command(*hips, *polite, server.address)
    assert (result.exit_code, result.stdout) == (0, "more/galaxies.csv\n")
    assert "next: galfig build-maps --config more/galfig.toml" in result.stderr
    # What the library calls parameters are options here.
    result = run_command("fetch", "legacy", "x", "--catalog", catalog, "--ra", "ra")
    assert result.exit_code == 1
    assert "--ra is given without --dec, expected both columns or none" in result.stderr
    result = run_command("fetch", "hips", "x", "--catalog", catalog, "--hips", "DSS2")
    assert "--hips 'DSS2': expected the identifier of a HiPS" in result.stderr


def test_the_commands_from_python():
    """The functions are there, imported when first used."""
    assert galfig.fetch_legacy.__module__ == "galfig.survey.legacy"
    assert galfig.fetch_hips.__module__ == "galfig.survey.hips"


@pytest.mark.slow
@pytest.mark.parametrize("service", ["legacy", "hips"])
def test_from_a_catalog_to_maps_of_fluxes(server, service):
    """Fetch, build and look: a network tells red from blue in cubes, and in a file per band."""
    catalog = write_catalog(Path("galaxies.csv"), 120)
    settings = {"classes": BY_COLOUR}
    if service == "legacy":
        fetch_legacy(server, "sky", catalog, format="fits", settings=settings)
    else:
        chosen = [f"{BAND}{band}" for band in "zrg"]
        fetch_hips(server, "sky", chosen, catalog, format="fits", settings=settings)
    with Path("sky/galfig.toml").open("a") as file:
        file.write("[training]\nepochs = 6\ncutout_size = 48\n")
    result = run_command("build-maps", "--config", "sky/galfig.toml", "--split", "all")
    assert result.exit_code == 0, result.stderr
    with galfig.open_store("maps.h5") as store:
        assert len(store) == 120
        right = store.probs[:].argmax(axis=1) == store.label[:]
        assert right.mean() > 0.95
        assert store.cutouts(0).shape == (48, 48, 3)
