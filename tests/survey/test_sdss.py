"""SDSS: a catalog by SQL and cutouts, from a local server that speaks as SkyServer does."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from surveys import (
    Reply,
    Sky,
    SkyServer,
    SurveyServer,
    cut,
    encode,
    endless,
    fail,
    page,
    redirect,
    resize,
    slow,
)

import galfig
from galfig.cli import main
from galfig.errors import ConfigError, OutputError, SurveyError
from galfig.survey.client import Patience
from galfig.survey.download import Manners
from galfig.survey.sdss import plan_sdss

QUICK = Patience(attempts=4, base=0.01, longest=0.05, total=2.0, failures=8)


@pytest.fixture(scope="module")
def sky():
    """Forty galaxies."""
    return Sky(40)


@pytest.fixture
def skyserver(sky):
    """Give the dialect of SkyServer."""
    return SkyServer(sky)


@pytest.fixture
def server(skyserver):
    """Serve it."""
    with SurveyServer(skyserver) as running:
        yield running


def fetch(server, folder, n=12, *, rate=50, patience=QUICK, max_failed=0.05, **given):
    """Fetch from the server, fast."""
    manners = Manners(rate=rate, patience=patience, max_failed=max_failed)
    return plan_sdss(folder, n, base_url=server.address, manners=manners, **given).run()


def read(path):
    """Read a CSV file as a list of dicts."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def list_kept(sky):
    """List the galaxies that meet the cuts of Wu & Boada 2019, by number."""
    table = sky.table
    is_kept = (table["r_mag"] > 10) & (table["r_mag"] < 18) & (table["z"] > 0.02)
    return sorted(table["objID"][is_kept])


def test_a_folder_is_filled(server, sky, tmp_path):
    """Catalog, cutouts, manifest and record are there, and say the same."""
    path = fetch(server, tmp_path / "sky")
    rows = read(path)
    assert path == tmp_path / "sky" / "catalog.csv"
    assert len(rows) == 12
    truth = sky.table.set_index("objID")
    for row in rows:
        assert float(row["z"]) == truth.loc[row["objID"], "z"]
        assert float(row["oh_p50"]) == truth.loc[row["objID"], "oh_p50"]
    files = {path.stem for path in (tmp_path / "sky" / "images").iterdir()}
    assert files == {row["objID"] for row in rows}
    assert {row["objID"] for row in read(tmp_path / "sky" / "manifest.csv")} == files
    record = json.loads((tmp_path / "sky" / "fetch.json").read_text())
    assert record["service"] == "sdss"
    assert record["release"] == "DR18"
    assert (record["n"], record["n_failed"]) == (12, 0)
    assert (record["size"], record["pixel_scale"]) == (128, 0.396)
    assert record["is_mirror"] is True
    assert "galSpecExtra" in record["query"]
    left = {path.name for path in (tmp_path / "sky").iterdir()}
    assert left == {"catalog.csv", "fetch.json", "images", "manifest.csv"}


def test_a_sample_is_spread_and_reproducible(server, sky, tmp_path):
    """A smaller sample is a part of a larger one, and is not the first galaxies by number."""
    ids = {n: [row["objID"] for row in read(fetch(server, tmp_path / str(n), n))] for n in (8, 20)}
    assert ids[20][:8] == ids[8]
    assert set(ids[8]) != set(sorted(sky.table["objID"])[:8])


def test_a_row_limit_is_seen(skyserver, server, sky, tmp_path):
    """Pages shorter than asked for go on until one is empty: of all galaxies, and of some."""
    skyserver.row_limit = 7
    rows = read(fetch(server, tmp_path / "all", 0))
    assert [row["objID"] for row in rows] == list_kept(sky)
    n_queries = sum("SqlSearch" in request.path for request in server.requests)
    assert n_queries == 7
    assert len(read(fetch(server, tmp_path / "some", 17))) == 17


def test_rows_that_come_twice_count_once(skyserver, server, sky, tmp_path, caplog):
    """Duplicates are left out, and counted."""
    skyserver.row_limit, skyserver.n_doubled = 3, 1
    with caplog.at_level("WARNING", "galfig"):
        rows = read(fetch(server, tmp_path / "some", 6))
        everything = read(fetch(server, tmp_path / "all", 0))
    assert len({row["objID"] for row in rows}) == len(rows) == 6
    assert "2 rows of galaxies that were there already" in caplog.text
    assert [row["objID"] for row in everything] == list_kept(sky)
    assert "order" not in caplog.text


def test_an_order_that_is_ignored_is_said(skyserver, server, sky, tmp_path, caplog):
    """A sample may be no even one then; of all galaxies, some may be missing."""
    skyserver.order = "ORDER BY objID DESC"
    with caplog.at_level("WARNING", "galfig"):
        rows = read(fetch(server, tmp_path / "some", 9))
    assert [row["objID"] for row in rows] == list_kept(sky)[:-10:-1]
    assert "not in the order that was asked for" in caplog.text
    with pytest.raises(SurveyError, match="not in the order that was asked for"):
        fetch(server, tmp_path / "all", 0)


def test_pages_that_do_not_go_on_end(skyserver, server, tmp_path, caplog):
    """A service that gives its first page again and again is asked for it twice."""
    skyserver.row_limit, skyserver.ignores_where = 5, True
    with caplog.at_level("WARNING", "galfig"):
        assert len(read(fetch(server, tmp_path / "some", 12))) == 5
    assert sum("SqlSearch" in request.path for request in server.requests) == 2
    with pytest.raises(SurveyError, match="some may be missing"):
        fetch(server, tmp_path / "all", 0)


def test_the_address_of_a_mirror_may_name_the_release(server, tmp_path):
    """As one copies it from a browser; another release than the one asked for is refused."""
    for number, end in enumerate(("", "/", "/dr18", "/dr18/SkyServerWS/")):
        plan = plan_sdss(tmp_path / str(number), base_url=f"{server.address}{end}")
        assert plan.service.address == server.address
    with pytest.raises(ConfigError, match="is of release 17, expected 18"):
        plan_sdss(tmp_path / "sky", base_url=f"{server.address}/dr17")


@pytest.mark.parametrize("errors", ["html", "csv", "json", "text"])
def test_an_error_of_sql_is_one_line(skyserver, server, tmp_path, errors):
    """However SkyServer says it with status 200; the folder can be used for another query."""
    skyserver.errors = errors
    with pytest.raises(SurveyError, match="no such column: zz") as caught:
        fetch(server, tmp_path / "sky", where="zz < 1")
    assert "\n" not in str(caught.value)
    assert "<" not in str(caught.value).replace("zz < 1", "")
    # Nothing is gained by asking for the same again.
    n_queries = sum("SqlSearch" in request.path for request in server.requests)
    assert n_queries == (QUICK.attempts if errors == "text" else 1)
    assert len(read(fetch(server, tmp_path / "sky", where="z < 1"))) == 12


def test_no_galaxy_is_said(server, tmp_path):
    """An empty answer is no catalog."""
    with pytest.raises(SurveyError, match="gives no galaxy, expected at least one"):
        fetch(server, tmp_path / "sky", where="z > 5")
    assert not (tmp_path / "sky" / "catalog.csv").exists()


def test_fewer_galaxies_than_asked_for(server, sky, tmp_path, caplog):
    """They are all that there are, and a warning says so."""
    with caplog.at_level("WARNING", "galfig"):
        rows = read(fetch(server, tmp_path / "sky", 1000))
    assert len(rows) == len(list_kept(sky)) == 40
    assert "40 galaxies meet the query, not 1000" in caplog.text


def test_a_condition_and_a_query_of_ones_own(server, sky, tmp_path):
    """--where is met by each galaxy; --sql may give other columns, under names in any case."""
    limit = float(sky.table["z"].median())
    rows = read(fetch(server, tmp_path / "near", 0, where=f"z < {limit}"))
    assert len(rows) == int((sky.table["z"] < limit).sum())
    assert all(float(row["z"]) < limit for row in rows)
    query = tmp_path / "own.sql"
    query.write_text(
        "-- mine\nSELECT g.objid, g.RA, g.dec, 'a -- b' AS word /* a\ncomment */\n"
        "FROM Galaxy AS g;\n"
    )
    rows = read(fetch(server, tmp_path / "own", 3, sql=query))
    assert list(rows[0]) == ["objID", "ra", "dec", "word"]
    assert rows[0]["word"] == "a -- b"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT g.objID FROM Galaxy AS g", "0 columns 'ra'"),
        ("DROP TABLE Galaxy", "expected one query with SELECT"),
        ("SELECT 1; SELECT 2", "expected one query with SELECT"),
        ("SELECT * INTO mydb.x FROM Galaxy", "has INTO or ORDER BY"),
        ("SELECT * FROM Galaxy ORDER BY ra", "has INTO or ORDER BY"),
    ],
)
def test_a_query_that_cannot_be_paged_is_refused(server, tmp_path, sql, words):
    """The message says what a query needs."""
    (tmp_path / "own.sql").write_text(sql)
    with pytest.raises((ConfigError, SurveyError), match=re.escape(words)) as caught:
        fetch(server, tmp_path / "sky", sql=tmp_path / "own.sql")
    assert "it needs columns objID, ra and dec" in str(caught.value)


@pytest.mark.parametrize("where", ["z < 1; DROP TABLE Galaxy", "z < 1) OR (1 = 1 --", "", "'"])
def test_a_condition_is_one_condition(tmp_path, where):
    """Brackets that do not match, comments and second statements are refused at once."""
    with pytest.raises(ConfigError, match="expected one condition in SQL"):
        plan_sdss(tmp_path, where=where)


def test_a_long_query_is_sent_in_the_body(server, tmp_path):
    """ASP.NET refuses addresses of more than 2048 characters."""
    words = " AND ".join(f"petroMag_r < {99 + number}" for number in range(120))
    assert len(read(fetch(server, tmp_path / "sky", 3, where=words))) == 3
    assert [request.method for request in server.requests].count("POST") == 1
    assert all(len(request.target) < 2048 for request in server.requests)


def first_ra(server, tmp_path, n=12):
    """Return what tells the requests for the first galaxy of a sample."""
    row = read(fetch(server, tmp_path / "probe", n))[0]
    server.requests.clear()
    return f"ra={float(row['ra']):.7f}", row["objID"]


@pytest.mark.parametrize(
    ("faults", "n_requests"),
    [
        ([fail(500), fail(500)], 3),
        ([fail(429, retry_after="0")], 2),
        ([fail(429, retry_after="Thu, 01 Jan 2015 00:00:00 GMT"), fail(503)], 3),
        ([cut(0.5)], 2),
        ([cut(0.5, chunked=True)], 2),
        ([cut(0)], 2),
        ([page(), page(content_type="image/jpeg")], 3),
        ([slow(2.5)], 2),
        ([slow(0.3)], 1),
    ],
)
def test_what_passes_is_tried_again(server, tmp_path, faults, n_requests):
    """Until it is right, and no longer."""
    key, objid = first_ra(server, tmp_path)
    server.plan(key, *faults)
    fetch(server, tmp_path / "sky")
    assert sum(server.count(key).values()) == n_requests
    assert (tmp_path / "sky" / "images" / f"{objid}.jpg").is_file()
    assert len(server.count("getjpeg")) == 12


@pytest.mark.parametrize(
    "fault",
    [endless, resize(64), fail(404), redirect("http://127.0.0.2:9/x"), redirect("/nowhere")],
)
def test_what_stays_is_a_failure(server, tmp_path, fault):
    """It is asked for once, and once more when the command is run again; nothing else is."""
    key, objid = first_ra(server, tmp_path)
    server.plan(key, fault)
    fetch(server, tmp_path / "sky", max_failed=0.1)
    assert sum(server.count(key).values()) == 1
    assert not (tmp_path / "sky" / "images" / f"{objid}.jpg").exists()
    assert [row["objID"] for row in read(tmp_path / "sky" / "failed.csv")] == [objid]
    assert json.loads((tmp_path / "sky" / "fetch.json").read_text())["n_failed"] == 1
    server.requests.clear()
    fetch(server, tmp_path / "sky")
    assert len(server.requests) == 1
    assert not (tmp_path / "sky" / "failed.csv").exists()
    assert json.loads((tmp_path / "sky" / "fetch.json").read_text())["n_failed"] == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (fail(404), "status 404 Some Words: 'busy'"),
        (resize(64), "64 × 64 pixels, expected 128 × 128"),
        (endless, "an answer of more than"),
        (redirect("https://example.org/x"), "redirects to 'https://example.org'"),
        (page("Down <b>for</b> repair"), "a page in place of the file: 'Oops Down for repair'"),
        (fail(503), "status 503 Some Words: 'busy', 4 tries"),
    ],
)
def test_failures_have_reasons(server, tmp_path, fault, words):
    """failed.csv says for each galaxy what came instead, in one line."""
    key, objid = first_ra(server, tmp_path)
    server.plan(key, *[fault] * QUICK.attempts)
    fetch(server, tmp_path / "sky", max_failed=0.1)
    (row,) = read(tmp_path / "sky" / "failed.csv")
    assert row["objID"] == objid
    assert words in row["reason"]


def test_too_many_failures_are_an_error(server, tmp_path):
    """The line names the share, the first galaxy, and the file; the others are there."""
    server.plan("getjpeg", *[fail(404)] * 2)
    with pytest.raises(SurveyError, match="2 of 12 cutouts failed, expected at most 5 %, first"):
        fetch(server, tmp_path / "sky")
    assert len(list((tmp_path / "sky" / "images").iterdir())) == 10
    fetch(server, tmp_path / "sky")


def test_a_service_that_is_down_is_left_alone(server, tmp_path):
    """After some failures in a row the run ends; it does not knock for each of the galaxies."""
    server.plan("getjpeg", *[fail(503)] * 1000)
    with pytest.raises(SurveyError, match="cutouts in a row failed, the last with status 503"):
        fetch(server, tmp_path / "sky", 40)
    n_asked = len(server.count("getjpeg"))
    assert QUICK.failures <= n_asked < QUICK.failures + 4


def test_a_service_under_repair_is_left_alone(server, tmp_path):
    """Also where it says so with status 200, as for each of the cutouts."""
    server.plan("getjpeg", *[page("Under repair")] * 1000)
    with pytest.raises(SurveyError, match="8 cutouts in a row failed, the last with a page in"):
        fetch(server, tmp_path / "sky", 40)
    assert len(server.count("getjpeg")) < QUICK.failures + 4


def test_a_service_that_asks_for_hours_is_left_alone(server, tmp_path):
    """Retry-After is honoured: where it is too long to wait, the run ends."""
    server.plan("getjpeg", fail(503, retry_after="7200"))
    with pytest.raises(SurveyError, match="asks to come back in 120 min, expected at most 10"):
        fetch(server, tmp_path / "sky")


def test_places_outside_the_survey_are_refused(server, sky, tmp_path):
    """A picture without sky is no cutout, whatever its type and size."""
    query = tmp_path / "own.sql"
    query.write_text("SELECT objID, ra + 90 AS ra, dec FROM Galaxy")
    with pytest.raises(SurveyError, match="a picture without sky, outside the survey"):
        fetch(server, tmp_path / "sky", 4, sql=query)
    assert len(server.count("getjpeg")) == 4
    assert list((tmp_path / "sky" / "images").iterdir()) == []


def test_one_picture_for_two_places_is_none(server, tmp_path):
    """A stamp that is not known is told by its coming twice."""
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    server.plan("getjpeg", *[lambda reply: Reply(encode(noise))] * 3)
    fetch(server, tmp_path / "sky", max_failed=0.3)
    rows = read(tmp_path / "sky" / "failed.csv")
    assert len(rows) == 3
    assert all("the same picture as of" in row["reason"] for row in rows)
    assert len(list((tmp_path / "sky" / "images").iterdir())) == 9


def test_rate_and_connections_are_kept(server, tmp_path):
    """As the server sees them: never more connections, nor faster."""
    server.plan("getjpeg", *[slow(0.3)] * 100)
    fetch(server, tmp_path / "sky", 20, rate=20)
    assert 2 <= server.most_at_once <= 4
    times = np.array([request.at for request in server.requests if "getjpeg" in request.path])
    # From the first request to the last, one in each interval; a clock may be off by a little.
    assert times[-1] - times[0] >= 19 / 20 * 0.98
    assert all(times[5:] - times[:-5] >= 5 / 20 * 0.8)


def test_other_parameters_need_another_folder(server, tmp_path):
    """A folder holds cutouts of one kind, and the message says what differs."""
    fetch(server, tmp_path / "sky")
    for given, words in (
        ({"size": 64}, "was fetched with size 128, not 64"),
        ({"pixel_scale": 0.5}, "was fetched with pixel scale 0.396, not 0.5"),
        ({"data_release": 17}, "was fetched with release 'DR18', not 'DR17'"),
        ({"n": 13}, "was fetched with query 'TOP 12 * FROM (SELECT"),
        ({"n": 13}, "..., not 'TOP 13 * FROM (SELECT"),
        ({"n": 120}, "..., not 'TOP 120 * FROM (SELECT"),
        ({"n": 0}, "..., not 'SELECT * FROM (SELECT"),
        ({"where": "z < 1"}, "..., not 'sample WHERE (z < 1) ORDER BY"),
    ):
        with pytest.raises(OutputError, match=re.escape(words)):
            fetch(server, tmp_path / "sky", **given)


def test_a_catalog_of_the_user_is_left_alone(server, tmp_path):
    """A folder with a catalog that no fetch wrote is refused."""
    (tmp_path / "catalog.csv").write_text("objID\n1\n")
    with pytest.raises(OutputError, match="'galfig fetch' did not write it"):
        fetch(server, tmp_path)
    assert (tmp_path / "catalog.csv").read_text() == "objID\n1\n"


def test_a_complete_folder_asks_for_nothing(server, tmp_path):
    """Neither catalog nor cutouts are fetched again; one that is damaged is."""
    path = fetch(server, tmp_path / "sky")
    before = path.read_bytes()
    server.requests.clear()
    fetch(server, tmp_path / "sky")
    assert server.requests == []
    assert path.read_bytes() == before
    images = sorted((tmp_path / "sky" / "images").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:500])
    images[1].unlink()
    fetch(server, tmp_path / "sky")
    assert len(server.requests) == 2


def test_files_without_a_line_are_checked_and_kept(server, tmp_path):
    """A manifest that is torn or lost costs no request."""
    fetch(server, tmp_path / "sky")
    manifest = tmp_path / "sky" / "manifest.csv"
    whole = manifest.read_bytes()
    server.requests.clear()
    for torn in (whole[:-20], whole[:200], b""):
        manifest.write_bytes(torn)
        fetch(server, tmp_path / "sky")
        assert len({row["objID"] for row in read(manifest)}) == 12
    manifest.unlink()
    fetch(server, tmp_path / "sky")
    assert server.requests == []


def test_two_runs_do_not_fill_one_folder(server, tmp_path):
    """The second is told about the first."""
    from galfig.errors import LockError
    from galfig.runtime.lock import hold_lock

    (tmp_path / "sky").mkdir()
    with hold_lock(tmp_path / "sky" / "catalog.csv"), pytest.raises(LockError):
        fetch(server, tmp_path / "sky")


def test_who_asks_is_said(server, tmp_path, monkeypatch):
    """Each request names galfig, its version, and the user where the user wants it."""
    monkeypatch.setenv("GALFIG_CONTACT", "me@example.org")
    fetch(server, tmp_path / "sky", 2)
    agents = {request.headers["user-agent"] for request in server.requests}
    (agent,) = agents
    assert agent.startswith(f"galfig/{galfig.__version__} (")
    assert "contact: me@example.org" in agent
    with pytest.raises(ConfigError, match="`contact`"):
        plan_sdss(tmp_path / "x", manners=Manners(contact="a\nb"), base_url=server.address).run()


@pytest.mark.parametrize(
    "address",
    [
        "skyserver.sdss.org",
        "ftp://a.org",
        "http://",
        "http://a.org/?x=1",
        "http://a.org:99999999",
        "http://a b",
    ],
)
def test_an_address_is_one(tmp_path, address):
    """A mirror has an address of http or https, without a query."""
    with pytest.raises(ConfigError, match="`base_url`"):
        plan_sdss(tmp_path, base_url=address)


def test_a_password_is_never_shown(tmp_path):
    """An address with one is refused without repeating it."""
    with pytest.raises(ConfigError, match="holds a name or a password") as caught:
        plan_sdss(tmp_path, base_url="https://me:secret@a.org")
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there(tmp_path):
    """One line says who does not answer, and what to do."""
    words = (
        r"^SkyServer: no catalog, cannot connect to '127.0.0.1' \(.*\), 4 tries; run the same com"
    )
    with pytest.raises(SurveyError, match=words):
        plan_sdss(
            tmp_path / "sky",
            base_url="http://127.0.0.1:9",
            manners=Manners(rate=50, patience=QUICK),
        ).run()


def test_a_notebook_can_fetch(server, tmp_path):
    """Where an event loop runs already, the fetch has one of its own."""
    import asyncio

    async def cell():
        return fetch(server, tmp_path / "sky", 3)

    assert len(read(asyncio.run(cell()))) == 3


@pytest.mark.parametrize(
    "path", ["/dr{dr}/en/tools/search/x_results.aspx", "/dr{dr}/SkyServerWS/SearchTools/SqlSearch"]
)
def test_astroquery_reads_the_same_server(server, sky, tmp_path, monkeypatch, path):
    """An independent client of SkyServer understands the local one, at its own address and at ours.

    Its own is the page behind the form of SQL, which answers as SqlSearch does.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    from astroquery.sdss import SDSSClass, conf

    monkeypatch.setattr(conf, "skyserver_baseurl", server.address)
    monkeypatch.setattr(SDSSClass, "QUERY_URL_SUFFIX_DR_NEW", path)
    table = SDSSClass().query_sql(
        "SELECT TOP 5 s.bestObjID, s.z\nFROM SpecObj AS s -- spectra\nORDER BY s.bestObjID",
        data_release=18,
        cache=False,
    )
    first = sky.table.sort_values("objID").head(5)
    assert [str(cell) for cell in table["bestObjID"]] == first["objID"].tolist()
    assert np.allclose(table["z"], first["z"])
    (request,) = server.requests
    fetch(server, tmp_path / "sky", 3)
    ours = next(request for request in server.requests[1:] if "SqlSearch" in request.path)
    assert ours.params.keys() <= request.params.keys()
    assert ours.params["format"] == request.params["format"] == "csv"


def test_dry_run_asks_for_nothing(server, tmp_path):
    """It says requests, bytes and minutes, of what is missing where the folder is begun."""
    command = ["fetch", "sdss", str(tmp_path / "sky"), "--base-url", server.address, "--dry-run"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    assert done.stdout == (
        "SkyServer, DR18: 2 000 galaxies, 0 cutouts there; 2 001 requests, about 4.0 MB, at least "
        "7 min at 5 requests per second\n"
    )
    assert server.requests == []
    assert not (tmp_path / "sky").exists()
    fetch(server, tmp_path / "sky")
    (tmp_path / "sky" / "images").joinpath(
        read(tmp_path / "sky" / "catalog.csv")[0]["objID"] + ".jpg"
    ).unlink()
    server.requests.clear()
    done = CliRunner().invoke(main, [*command, "--n", "12"])
    assert "12 galaxies, 11 cutouts there; 1 request, about" in done.stdout
    assert server.requests == []


@pytest.mark.parametrize("other", [["--n", "13"], ["--n", "12", "--size", "64"]])
def test_dry_run_refuses_what_the_run_would_refuse(server, tmp_path, other):
    """Of a folder that was filled otherwise, it says so, and not that nothing is missing."""
    fetch(server, tmp_path / "sky")
    command = ["fetch", "sdss", str(tmp_path / "sky"), "--base-url", server.address, *other]
    done, dry = (CliRunner().invoke(main, [*command, *dry]) for dry in ([], ["--dry-run"]))
    assert (done.exit_code, dry.exit_code, dry.stdout) == (1, 1, "")
    assert dry.stderr == done.stderr
    assert "choose another folder" in dry.stderr


@pytest.mark.parametrize("n", ["0", "-5", "many", "1.5"])
def test_a_number_of_galaxies_is_one(tmp_path, n):
    """0 is no number of galaxies: all of them are asked for by name alone."""
    done = CliRunner().invoke(main, ["fetch", "sdss", str(tmp_path / "sky"), "--n", n, "--dry-run"])
    assert done.exit_code == 2
    assert f"{n!r} is neither 'all' nor a number from 1." in done.stderr


def run(server, folder, *options, wait=True):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "galfig", "fetch", "sdss", str(folder), *options]
    command += ["--base-url", server.address]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
    )
    if not wait:
        return process
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def wait_for(server, n):
    """Wait until the server was asked for some cutouts."""
    end = time.monotonic() + 60
    while sum("getjpeg" in request.path for request in server.requests) < n:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_five_hundred_cutouts_survive_a_kill(tmp_path):
    """Killed half-way and run again, all are there, and each was fetched once more at most."""
    sky = Sky(530)
    options = ["--n", "all", "--rate", "50", "--connections", "4"]
    with SurveyServer(SkyServer(sky)) as server:
        first = run(server, tmp_path / "sky", *options, wait=False)
        wait_for(server, 250)
        first.kill()
        first.communicate(timeout=30)
        n_before = len(list((tmp_path / "sky" / "images").glob("[0-9]*.jpg")))
        assert 200 < n_before < 300
        code, stdout, stderr = run(server, tmp_path / "sky", *options)
        assert code == 0, stderr
        counts = server.count("getjpeg")
        assert sum("SqlSearch" in request.path for request in server.requests) == 2
    kept = list_kept(sky)
    assert len(counts) == len(kept) > 450
    # Those on their way when the process was killed.
    assert max(counts.values()) <= 2
    assert sum(counts.values()) <= len(kept) + 4
    files = list((tmp_path / "sky" / "images").iterdir())
    assert sorted(path.stem for path in files) == kept
    rows = {row["file"]: int(row["bytes"]) for row in read(tmp_path / "sky" / "manifest.csv")}
    assert rows == {f"images/{path.name}": path.stat().st_size for path in files}
    assert stdout == f"{tmp_path / 'sky' / 'catalog.csv'}\n"
    assert f"{len(kept)} of {len(kept)} cutouts are there" in stderr
    assert f"next: galfig build-maps --catalog {tmp_path / 'sky' / 'catalog.csv'}" in stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_order(sky, skyserver, server, tmp_path, number):
    """Ctrl-C leaves no file that is not whole, and says how to go on; the next run does."""
    process = run(server, tmp_path / "sky", "--n", "all", "--rate", "10", wait=False)
    wait_for(server, 10)
    process.send_signal(number)
    start = time.monotonic()
    _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - start < 2
    assert process.returncode == 128 + number
    assert stderr.rstrip().endswith("galfig: interrupted; run the same command again to continue")
    assert "Traceback" not in stderr
    left = {path.name for path in (tmp_path / "sky").iterdir()}
    assert left == {"catalog.csv", "fetch.json", "images", "manifest.csv"}
    assert not list((tmp_path / "sky" / "images").glob(".*"))
    code, _, stderr = run(server, tmp_path / "sky", "--n", "all", "--rate", "50")
    assert code == 0, stderr
    assert max(server.count("getjpeg").values()) <= 2
    assert f"{len(sky.table)} of {len(sky.table)} cutouts are there" in stderr


@pytest.mark.slow
def test_three_commands(tmp_path):
    """From nothing to a figure of five galaxies, as three processes, with no settings at all."""
    sky = Sky(300)
    with SurveyServer(SkyServer(sky)) as server:
        commands = [
            f"fetch sdss sky --n 280 --rate 50 --base-url {server.address}",
            "build-maps --catalog sky/catalog.csv",
            "render --n 5 --zmin 0.05 --zmax 0.08",
        ]
        for command in commands:
            done = subprocess.run(
                [sys.executable, "-m", "galfig", *command.split()],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.h5").is_file()
    figures = {path.name for path in tmp_path.glob("panels*")}
    assert "panels.pdf" in figures
    caption = (tmp_path / "panels.txt").read_text()
    assert "0.05" in caption
    assert "0.08" in caption


def test_a_mirror_goes_on(sky, server, tmp_path):
    """Where the service stopped; the record names both, and the estimate counts what is missing."""
    folder = tmp_path / "sky"
    fetch(server, folder, 12)
    victim = next((folder / "images").iterdir())
    victim.unlink()
    with SurveyServer(SkyServer(sky)) as mirror:
        plan = plan_sdss(folder, 12, base_url=mirror.address)
        assert "12 galaxies, 11 cutouts there; 1 request, " in plan.estimate()
        fetch(mirror, folder, 12)
        assert mirror.count("getjpeg").total() == len(mirror.requests) == 1
    assert victim.is_file()
    record = json.loads((folder / "fetch.json").read_text())
    assert record["address"] == f"{server.address}, {mirror.address}"
    assert record["is_mirror"]


def test_an_estimate_refuses_what_the_fetch_would(server, tmp_path):
    """A folder that was fetched with other parameters."""
    fetch(server, tmp_path / "sky", 12)
    plan = plan_sdss(tmp_path / "sky", 12, size=64, base_url=server.address)
    with pytest.raises(OutputError, match="was fetched with size 128, not 64"):
        plan.estimate()


def test_more_galaxies_keep_the_cutouts_that_are_there(server, tmp_path):
    """Copied with their manifest into a new folder, they are not fetched again."""
    fetch(server, tmp_path / "few", 10)
    (tmp_path / "more").mkdir()
    shutil.copytree(tmp_path / "few" / "images", tmp_path / "more" / "images")
    shutil.copy(tmp_path / "few" / "manifest.csv", tmp_path / "more")
    server.requests.clear()
    rows = read(fetch(server, tmp_path / "more", 15))
    assert server.count("getjpeg").total() == 5
    assert {path.stem for path in (tmp_path / "more" / "images").iterdir()} == {
        row["objID"] for row in rows
    }
