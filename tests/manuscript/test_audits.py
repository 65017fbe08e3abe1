"""Audits of a paper: named in the manifest, drawn, counted in macros, and compared."""

import re
import shutil

import pytest
from paper import MANIFEST, build, check, replace_in
from samples import make_measured, write_small_audit

from galfig.errors import ManuscriptError
from galfig.manuscript.manifest import Step, load_manifest
from galfig.manuscript.record import identify, load_record
from galfig.manuscript.steps import find_stale
from galfig.manuscript.values import describe_audit, write_macros
from galfig.records import Estimate

pytestmark = pytest.mark.slow

WITH_AUDIT = (
    MANIFEST.replace("[[figure]]", '[audits]\nworth = "maps.audit.h5"\n\n[[figure]]', 1)
    + """
[[figure]]
name = "summary"
figure = "audit-summary"
audit = "worth"

[[figure]]
name = "trend"
figure = "attribution-vs"
store = "colour"
audit = "worth"
column = "z"
"""
)


@pytest.fixture
def audited(paper):
    """Give a manuscript with an audit of its store, nothing drawn yet."""
    write_small_audit(paper / "maps.audit.h5")
    (paper / "manuscript.toml").write_text(WITH_AUDIT)
    return paper


def test_figures_of_audits_are_drawn_and_compared(audited):
    """They are out of date when the audit changes, and `check` says that it did."""
    made = build(audited)
    assert made["figures/summary.pdf"] == made["figures/trend.pdf"] == "new"
    record = load_record(audited).figures
    assert set(record["summary"].content) == {"worth"}
    assert set(record["trend"].content) == {"colour", "worth"}
    assert not any(build(audited).values())
    assert check(audited) == []
    write_small_audit(audited / "maps.audit.h5", seed=1)
    changed = dict(check(audited))
    assert changed["figures/trend.pdf"] == "store changed: worth (galaxies)"
    measures = {"deletion": make_measured(seed=2, controls={})}
    write_small_audit(audited / "maps.audit.h5", measures)
    found = check(audited)
    assert ("figures/summary.pdf", "store changed: worth (measures, galaxies)") in found
    assert any(path == "values.tex" for path, _ in found)
    assert build(audited)["figures/summary.pdf"].startswith("store changed: worth")


def test_an_audit_that_is_kept_must_be_of_the_store(audited):
    """One that is committed stays, on any processor, until it is of other galaxies or networks."""
    step = Step(
        command="galfig audit maps.h5 --model model.safetensors", makes="maps.audit.h5", kept=True
    )
    for seed in (0, 1):
        write_small_audit(audited / "maps.audit.h5", seed=seed)
        assert find_stale(audited, (step,), {}) == {}
    write_small_audit(audited / "maps.audit.h5", plan_digest="another")
    assert find_stale(audited, (step,), {}) == {"maps.audit.h5": "of another store"}
    (audited / "maps.h5").unlink()
    assert find_stale(audited, (step,), {}) == {}


def test_macros_have_the_numbers_of_an_audit(audited):
    """With their interval, and the controls; TeX takes each name."""
    build(audited)
    words = (audited / "values.tex").read_text()
    values = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", words))
    assert values["worthDeletionExcessOverLight"] == "0.390"
    assert values["worthDeletionExcessOverLightFrom"] == "0.340"
    assert values["worthDeletionExcessOverLightTo"] == "0.430"
    assert values["worthDeletionControlBrightness"] == "0.520"
    assert values["worthN"] == "12"
    assert values["colourN"] == "12"


def test_macros_are_written_for_tex(tmp_path):
    """Minus signs, powers of ten, outcomes; letters only."""
    small = Estimate(value=2.1e-7, low=-1e-7, high=5e-7, n=9)
    measures = {
        "sanity": make_measured("sanity", numbers={"conv3.0, 2nd": small}, passes=False),
        "seeds": make_measured("seeds", numbers={"x": Estimate(value=-0.5, low=-1, high=0, n=9)}),
    }
    found = describe_audit("a", write_small_audit(tmp_path / "a.h5", measures))
    assert found["aSanityPasses"] == "failed"
    assert found["aSanityConvThreeZeroTwond"] == r"\ensuremath{2.1\times10^{-7}}"
    assert found["aSanityConvThreeZeroTwondFrom"] == r"\ensuremath{-1.0\times10^{-7}}"
    assert found["aSeedsX"] == r"\ensuremath{-0.500}"
    assert all(name.isascii() and name.isalpha() for name in found)


def test_names_cannot_clash(tmp_path, store):
    """Two numbers of an audit, or an audit and a store."""
    one = Estimate(value=1.0, low=0.0, high=2.0, n=9)
    audit = write_small_audit(
        tmp_path / "a.h5", {"seeds": make_measured("seeds", numbers={"a b": one, "a_b": one})}
    )
    with pytest.raises(ManuscriptError, match=r"two numbers make the macro \\wSeedsAB"):
        describe_audit("w", audit)
    plain = write_small_audit(tmp_path / "b.h5", {})
    assert "colourN" in write_macros({"colour": store})
    with pytest.raises(ManuscriptError, match=r"both make the macro \\colourN"):
        write_macros({"colour": store}, {"colour": plain})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('worth = "maps', 'worth2 = "maps', "audit 'worth2', expected letters"),
        ('worth = "maps', 'colour = "maps', "audit 'colour': a store has the same name"),
        ('"maps.audit.h5"', '"../a.h5"', "leaves the folder"),
        (
            'audit-summary"\naudit = "worth"',
            'audit-summary"\naudit = "value"',
            "audit 'value', expected one of worth",
        ),
        ('audit-summary"\naudit = "worth"', 'audit-summary"', "figure 'summary': audit: missing"),
        (
            'audit-summary"\naudit',
            'audit-summary"\nstore = "colour"\naudit',
            "store 'colour', expected only the audit",
        ),
        ('column = "z"', "", "no column, expected one of the catalog"),
        ('store = "colour"\naudit = "worth"', 'audit = "worth"', "figure 'trend': store: missing"),
    ],
)
def test_mistakes_in_the_manifest_are_named(audited, old, new, message):
    """In one line."""
    replace_in(audited / "manuscript.toml", old, new)
    with pytest.raises(ManuscriptError, match=message):
        load_manifest(audited)


def test_an_audit_that_is_missing_or_damaged_is_named(audited):
    """Before anything is drawn."""
    path = audited / "maps.audit.h5"
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(ManuscriptError, match="cannot be read, expected the audit 'worth'"):
        build(audited)
    path.unlink()
    with pytest.raises(ManuscriptError, match="no such file, expected the audit 'worth'"):
        build(audited)


def test_an_audit_is_a_step(audited):
    """It is identified by what it was made from, and a store in its place is another file."""
    assert identify(audited, "maps.audit.h5") == "a" * 64
    words = '[[steps]]\ncommand = "galfig audit maps.h5 --model m.safetensors"\n'
    words += 'makes = "maps.audit.h5"\n'
    (audited / "manuscript.toml").write_text(words + WITH_AUDIT)
    (step,) = load_manifest(audited).steps
    assert step.parsed.store == "maps.h5"
    # A file that is there needs no step, as with stores.
    assert build(audited)["maps.audit.h5"] == ""
    shutil.copyfile(audited / "maps.h5", audited / "maps.audit.h5")
    assert identify(audited, "maps.audit.h5") == "digest"
