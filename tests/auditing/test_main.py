"""Audits from end to end with measures that stand in: resumed, completed, refused, left whole."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from click.testing import CliRunner
from samples import build_at, make_checkpoint, make_measured

from galfig.auditing import main as job
from galfig.auditing.main import MEASURES, audit, choose_measures, digest_measure
from galfig.auditing.table import format_audit
from galfig.cli import main
from galfig.errors import (
    AuditError,
    CheckpointError,
    ConfigError,
    LockError,
    OutputError,
)
from galfig.figures.audits import format_estimate, name_number
from galfig.records import Estimate
from galfig.runtime.lock import hold_lock
from galfig.store.audits import open_audit
from galfig.store.reader import open_store
from galfig.verify import verify_path


@pytest.fixture(scope="module")
def built(tmp_path_factory, drawn_galaxies, untrained):
    """Build a store of 24 galaxies once, with the network that it is of."""
    path, checkpoint = untrained
    store = tmp_path_factory.mktemp("built") / "maps.h5"
    build_at(store, drawn_galaxies, checkpoint)
    return store, path


@pytest.fixture
def stand_in(monkeypatch):
    """Have two measures stand in for all; return the list of those that ran, by name."""
    ran, versions = [], {"deletion": "1", "sanity": "1"}

    def load(name):
        def measure(sample, *, progress):
            progress(len(sample))
            ran.append((name, len(sample), sample.seed))
            values = sample.make_rng(name).random(len(sample))
            return make_measured(name, n=len(sample), per_galaxy={"area": values.tolist()})

        return measure

    monkeypatch.setattr(job, "MEASURES", ("deletion", "sanity"))
    monkeypatch.setattr(job, "load_measure", load)
    monkeypatch.setattr(job, "digest_measure", lambda name: versions[name])
    return ran, versions


@pytest.fixture
def make(built, tmp_path):
    """Give a function that audits the store, of all its galaxies."""
    store, model = built

    def call(**options):
        given = {"model": model, "out": tmp_path / "maps.audit.h5", **options}
        return audit(given.pop("store", store), **given)

    return call


def names_of(ran):
    return [name for name, *_ in ran]


def test_audit_holds_what_was_measured(make, built, stand_in, tmp_path):
    """Numbers, the store's digest, statistics of each galaxy, and the table in two forms."""
    found = make()
    assert list(found.measures) == ["deletion", "sanity"]
    assert verify_path(found.path) == []
    with open_store(built[0]) as store:
        assert found.record.store.plan_digest == store.record.plan_digest
        assert found.record.checkpoints == (store.record.checkpoint_sha256,)
        rows = [store.objid.tolist().index(name) for name in found.objid]
        evidence = store.evidence(rows[0]) * (1 if store.predicted[rows[0]] else -1)
        np.testing.assert_allclose(found.galaxies["p"], store.probs[rows].max(axis=1))
    ratio = evidence.clip(min=0).sum() / -evidence.clip(max=0).sum()
    assert found.galaxies["positive_to_negative"].iloc[0] == pytest.approx(ratio, rel=1e-5)
    parquet = pd.read_parquet(tmp_path / "maps.audit.parquet")
    ecsv = Table.read(tmp_path / "maps.audit.ecsv")
    assert list(parquet.columns) == ecsv.colnames == list(found.columns)
    assert parquet["objid"].tolist() == found.objid.tolist() == list(ecsv["objid"])
    np.testing.assert_array_equal(parquet["concentration"], found.galaxies["concentration"])
    np.testing.assert_allclose(ecsv["concentration"], found.galaxies["concentration"])
    assert str(ecsv["centroid_x"].unit) == "pix"
    assert all(column.description for column in ecsv.itercols())
    assert not list(tmp_path.glob("*.parts")) + list(tmp_path.glob("*.lock"))


def test_the_same_seed_gives_the_same_bytes(make, stand_in, tmp_path):
    """Of the audit and both tables; another seed gives other numbers."""
    suffixes = (".h5", ".parquet", ".ecsv")
    for name in ("a", "b"):
        make(out=tmp_path / f"{name}.h5", n=12)
    for suffix in suffixes:
        one, other = (tmp_path / f"{name}{suffix}" for name in ("a", "b"))
        assert one.read_bytes() == other.read_bytes(), suffix
    assert (
        make(out=tmp_path / "c.h5", n=12, seed=1).objid.tolist()
        != open_audit(tmp_path / "a.h5").objid.tolist()
    )


def test_what_is_there_is_not_measured_again(make, stand_in, tmp_path):
    """A complete audit is kept; a table that was lost is written again from it."""
    ran, _ = stand_in
    make()
    before = (tmp_path / "maps.audit.h5").read_bytes()
    (tmp_path / "maps.audit.ecsv").unlink()
    for if_exists in ("error", "update"):
        make(if_exists=if_exists)
    assert names_of(ran) == ["deletion", "sanity"]
    assert (tmp_path / "maps.audit.h5").read_bytes() == before
    assert (tmp_path / "maps.audit.ecsv").is_file()
    make(if_exists="replace")
    assert names_of(ran) == ["deletion", "sanity"] * 2


def test_an_audit_is_completed(make, stand_in):
    """With "update", measures are added; without, another audit is not touched."""
    ran, versions = stand_in
    make(measures=["sanity"])
    with pytest.raises(OutputError, match="an audit without deletion"):
        make()
    found = make(if_exists="update")
    assert names_of(ran) == ["sanity", "deletion"]
    assert list(found.measures) == ["deletion", "sanity"]
    # What was measured stays, whatever is asked for now.
    assert list(make(measures=["deletion"], if_exists="update").measures) == ["deletion", "sanity"]
    assert len(ran) == 2
    versions["deletion"] = "2"
    make(if_exists="update")
    assert names_of(ran)[2:] == ["deletion"]
    # Another seed or n measures all of it again.
    make(if_exists="update", n=20)
    make(if_exists="update", n=20, seed=3)
    assert names_of(ran)[3:] == ["deletion", "sanity"] * 2


def test_another_audit_is_refused_before_the_galaxies_are_read(make, stand_in, monkeypatch):
    """By what differs: the number of galaxies, the seed, the store, or a table of another."""
    make(measures=["sanity"])

    def draw(*args, **options):
        raise AssertionError("the galaxies were read")

    monkeypatch.setattr("galfig.auditing.main.draw_sample", draw)
    with pytest.raises(OutputError, match=r"another `n` \(500, here 20\); use `if_exists"):
        make(n=20)
    with pytest.raises(OutputError, match=r"another `n` .* and `seed` \(256, here 3\)"):
        make(n=20, seed=3)


def test_tables_of_another_are_refused_before_the_galaxies_are_read(make, monkeypatch, tmp_path):
    """A table beside an audit that is not there may be anybody's."""
    monkeypatch.delattr("galfig.auditing.main.draw_sample")
    (tmp_path / "maps.audit.ecsv").write_text("mine")
    with pytest.raises(OutputError, match=r"maps.audit.ecsv: already exists"):
        make()


def test_the_printed_table_fits_a_terminal(make, stand_in):
    """Numbers with their intervals, controls below them, and units."""
    written = format_audit(make())
    lines = written.split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0].split("  ")[0] == "number, and vs its controls"
    assert any(line.startswith("  vs ") for line in lines)
    assert "Verdict" in lines
    exact = Estimate(value=7.0, low=7.0, high=7.0, n=9, unit="pixels")
    assert (name_number("side", exact), format_estimate(exact)) == ("side [pixels]", "7")
    kpc = Estimate(value=2.5, low=2.4, high=2.75, n=9, unit="kpc")
    assert name_number("side_kpc", kpc) == "side [kpc]"
    assert format_estimate(kpc) == "2.500 [2.400, 2.750]"


def test_an_interrupted_audit_goes_on(make, stand_in, monkeypatch, tmp_path):
    """What was measured before is kept, unless it was damaged; the result is the same."""
    ran, _ = stand_in
    expected = make(out=tmp_path / "whole.h5")
    load = job.load_measure

    def interrupt(name):
        if name == "sanity":
            raise KeyboardInterrupt
        return load(name)

    for damage in (False, True):
        ran.clear()
        monkeypatch.setattr(job, "load_measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make()
        assert not (tmp_path / "maps.audit.h5").exists()
        part = tmp_path / "maps.audit.h5.parts" / "deletion.json"
        if damage:
            part.write_text(part.read_text().replace("0.46", "0.47", 1))
        monkeypatch.setattr(job, "load_measure", load)
        found = make()
        assert names_of(ran) == ["deletion"] * (1 + damage) + ["sanity"]
        assert found.measures == expected.measures
        for file in tmp_path.glob("maps.audit*"):
            file.unlink()


def test_all_columns_of_text_are_as_the_store_says(make, built, stand_in):
    """Split, true and predicted class of each galaxy."""
    found = make().galaxies
    with open_store(built[0]) as store:
        table = store.table.loc[found.index]
        assert found["predicted"].tolist() == table["predicted"].astype(str).tolist()
        assert found["true"].tolist() == table["true"].astype(str).tolist()
        np.testing.assert_allclose(found["loss"], table["loss"])


def test_another_network_is_refused(make, tmp_path, stand_in):
    """One of the same shape, too, before anything is measured."""
    import torch

    other = tmp_path / "other.safetensors"
    make_checkpoint(other)
    state = torch.random.get_rng_state()
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", class_names=("low", "medium"))
    torch.random.set_rng_state(state)
    with pytest.raises(CheckpointError, match="give the checkpoint that it was built with"):
        make(model=checkpoint)
    with pytest.raises(CheckpointError, match="a folder with no network"):
        make(model=(tmp_path / "empty").mkdir() or tmp_path / "empty")
    assert not stand_in[0]


def test_galaxies_that_trained_are_left_out(
    galaxy_folder, tmp_path, untrained, stand_in, make, caplog
):
    """And where all did, nothing is measured."""
    from samples import load_with_settings

    galaxies, _ = load_with_settings(galaxy_folder)
    model = tmp_path / "known.safetensors"
    checkpoint = make_checkpoint(model, galaxies=galaxies)
    build_at(tmp_path / "all.h5", galaxy_folder, checkpoint)
    with open_store(tmp_path / "all.h5") as store:
        others = set(store.objid[store.split != "train"])
    with caplog.at_level("INFO", "galfig"):
        if len(others) >= 10:
            found = make(store=tmp_path / "all.h5", model=model)
            assert set(found.objid) == others
            assert found.record.n_trained == 24 - len(others)
    build_at(tmp_path / "train.h5", galaxy_folder, checkpoint, split="train")
    with pytest.raises(AuditError, match="all of its galaxies trained the network"):
        make(store=tmp_path / "train.h5", model=model)


def test_radii_are_found_by_name(make, built, drawn_galaxies, tmp_path, untrained, stand_in):
    """petroR50_r [arcsec] with a pixel scale; another column by its name; none by a wrong one."""
    import shutil

    folder = tmp_path / "g"
    shutil.copytree(drawn_galaxies, folder)
    table = pd.read_csv(folder / "catalog.csv", dtype={"objID": str})
    table.assign(PETROR50_R=2.0, size=4.0, empty=np.nan, pixscale=0.5).to_csv(
        folder / "catalog.csv", index=False
    )
    from galfig.config import load_settings
    from galfig.pipeline.main import run_main_job

    settings = load_settings(
        None, {("catalog", "path"): folder / "catalog.csv", ("catalog", "pixel_scale"): 0.5}
    )
    from galfig.catalog.galaxies import load_galaxies

    run_main_job(
        load_galaxies(settings), settings, tmp_path / "r.h5", model=untrained[0], split="all"
    )
    found = make(store=tmp_path / "r.h5", r90="size")
    shares = found.galaxies[["share_r50", "share_r90"]]
    assert ((shares["share_r50"] > 0) & (shares["share_r50"] < shares["share_r90"])).all()
    with pytest.raises(ConfigError, match="`r50` 'sizes': no column of the catalog; did you mean"):
        make(store=tmp_path / "r.h5", r50="sizes", if_exists="update")
    with pytest.raises(ConfigError, match="no galaxy has a radius above zero"):
        make(store=tmp_path / "r.h5", r50="empty", if_exists="update")
    assert "share_r50" not in make(out=tmp_path / "other.h5").columns


def test_other_files_are_not_replaced(make, stand_in, tmp_path, built):
    """Neither a text nor a store, nor a table of somebody, by default or by "update"."""
    out = tmp_path / "maps.audit.h5"
    for content in (b"text", built[0].read_bytes()):
        out.write_bytes(content)
        for if_exists in ("error", "update"):
            with pytest.raises((OutputError, AuditError)):
                make(if_exists=if_exists)
        assert out.read_bytes() == content
    out.unlink()
    (tmp_path / "maps.audit.ecsv").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        make()
    with pytest.raises(OutputError, match="ecsv: already exists"):
        make(if_exists="update")
    assert not stand_in[0]
    assert len(make(if_exists="replace")) == 24


@pytest.mark.parametrize("given", [{"seed": 1 << 32}, {"seed": -1}, {"n": 1 << 60}, {"n": -3}])
def test_numbers_beyond_all_limits_are_refused_at_once(make, stand_in, given):
    """Not by scikit-learn, or by the record, after all measures."""
    name, value = next(iter(given.items()))
    with pytest.raises(ConfigError, match=f"`{name}` {value}: expected at most"):
        make(**given)
    assert not stand_in[0]


def test_any_name_of_a_file_will_do(make, stand_in, tmp_path):
    """Names need not be UTF-8."""
    path = tmp_path / "a\udcff\n b.audit.h5"
    assert len(make(out=path)) == 24
    assert len(pd.read_parquet(io.BytesIO(path.with_suffix(".parquet").read_bytes()))) == 24


def test_no_input_is_replaced(make, built, stand_in, tmp_path, untrained):
    """Neither the store nor the network, nor the audit by its own table, whatever is asked."""
    model = tmp_path / "maps.safetensors"
    model.write_bytes(untrained[0].read_bytes())
    store = tmp_path / "maps.h5"
    store.write_bytes(built[0].read_bytes())
    before = model.read_bytes(), store.read_bytes()
    for out in (model, store):
        with pytest.raises(OutputError, match="one of the inputs"):
            make(store=store, model=model, out=out, if_exists="replace")
    for suffix in (".parquet", ".ecsv"):
        with pytest.raises(OutputError, match="name of its table of galaxies"):
            make(out=tmp_path / f"a{suffix}")
    assert (model.read_bytes(), store.read_bytes()) == before
    assert not stand_in[0]


def test_parts_are_not_written_through_a_link(make, stand_in, tmp_path):
    """The folder of the parts may be somebody's."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "maps.audit.h5.parts").symlink_to("theirs")
    with pytest.raises(OutputError, match="a symbolic link, expected a folder for parts"):
        make()
    assert not list((tmp_path / "theirs").iterdir())
    assert not stand_in[0]


def test_tables_of_a_killed_audit_are_its_own(make, stand_in, tmp_path, monkeypatch):
    """Killed before the last steps, the same call writes the tables that are lacking."""
    full = make(out=tmp_path / "full.audit.h5")
    leftover = tmp_path / ".maps.audit.parquet.0a1b.tmp.parquet"
    leftover.write_text("half")

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_tables", die)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert len(make()) == len(full)
    assert not leftover.exists()
    for suffix in (".parquet", ".ecsv", ".h5"):
        found, expected = (tmp_path / f"{name}.audit{suffix}" for name in ("maps", "full"))
        assert found.read_bytes() == expected.read_bytes()
    with monkeypatch.context() as patch:
        # As an update replaces it, no older table stays beside it.
        patch.setattr(job, "write_tables", die)
        with pytest.raises(KeyboardInterrupt):
            make(n=10, if_exists="update")
    assert not (tmp_path / "maps.audit.parquet").exists()


def test_two_do_not_make_the_same_audit(make, stand_in, tmp_path):
    """The second is told."""
    with hold_lock(tmp_path / "maps.audit.h5"), pytest.raises(LockError, match="is being made by"):
        make()


def test_a_measure_that_does_not_apply(make, stand_in, monkeypatch):
    """Is a note where all are made, and an error where it was asked for."""

    def refuse(sample, *, progress):
        raise ConfigError(f"{sample.store.path}: its maps are evidence")

    load = job.load_measure
    monkeypatch.setattr(job, "load_measure", lambda n: refuse if n == "sanity" else load(n))
    assert make().measures["sanity"].notes == ("Does not apply: its maps are evidence.",)
    with pytest.raises(ConfigError, match="its maps are evidence"):
        make(measures=["sanity"], if_exists="replace")


def test_measures_are_chosen_by_name():
    """In the order in which they are shown, each once; retraining only where it is named."""
    assert choose_measures(None) == tuple(name for name in MEASURES if name != "retraining")
    assert choose_measures(["symmetry", "retraining"]) == ("retraining", "symmetry")
    assert choose_measures(["sanity", "deletion", "sanity"]) == ("deletion", "sanity")
    with pytest.raises(ConfigError, match="did you mean 'deletion'"):
        choose_measures(["deltion"])
    with pytest.raises(ConfigError, match="is empty"):
        choose_measures([])


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_there(name):
    """Each can be imported, and its version is a digest of its code."""
    assert callable(job.load_measure(name))
    assert len(digest_measure(name)) == 64


def test_command_prints_and_exits(built, stand_in, tmp_path, monkeypatch):
    """A table with intervals and controls, the verdict last; all of it as JSON."""
    monkeypatch.chdir(tmp_path)
    store, model = built
    arguments = ["audit", str(store), "--model", str(model), "--out", "a.audit.h5"]
    printed = CliRunner().invoke(main, arguments)
    assert printed.exit_code == 0, printed.stderr
    words = printed.stdout
    assert "0.460 [0.410, 0.500]" in words
    assert words.index("random") < words.index("Notes") < words.index("Verdict")
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    facts = json.loads(printed.stdout)
    assert facts["measures"]["deletion"]["numbers"]["area"]["value"] == 0.46
    assert len(facts["galaxies"]["objid"]) == 24
    assert "measuring" in printed.stderr
    printed = CliRunner().invoke(main, [*arguments, "--measures", "deltion"])
    assert printed.exit_code == 1
    assert "--measures: 'deltion' is unknown" in printed.stderr
