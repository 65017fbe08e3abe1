"""Surveys: papers and acknowledgements of the release, and nothing where nothing is known."""

import pytest
from samples import FETCHED

from galfig.citing.bibliography import load_acknowledgements, load_bibliography
from galfig.citing.surveys import (
    KNOWN,
    SDSS_RELEASES,
    find_columns,
    find_source,
    find_survey,
    makes_cuts,
)
from galfig.errors import ConfigError
from galfig.records import FetchRecord

ORDINALS = ("Seventh", "Eighth", "Ninth", "Tenth", "Eleventh and Twelfth", "Eleventh and Twelfth")
ORDINALS += ("13th", "Fourteenth", "Fifteenth", "16th", "Seventeenth", "Eighteenth", "Nineteenth")


def fetch(**changes):
    """Return a record of a fetch with some values changed."""
    return FetchRecord.model_validate({**FETCHED, **changes})


@pytest.mark.parametrize(
    ("number", "ordinal", "phase"),
    list(
        zip(
            range(7, 20),
            ORDINALS,
            ["SDSS and SDSS-II", *5 * ["SDSS-III"], *5 * ["SDSS-IV"], *2 * ["SDSS-V"]],
            strict=True,
        )
    ),
)
def test_each_release_has_its_paper_and_acknowledgement(number, ordinal, phase):
    """Those of the phase of SDSS that published it."""
    survey = find_survey(f"sdss-dr{number}")
    assert load_bibliography()[survey.keys[0]].title.startswith(f"The {ordinal} Data Release")
    (name,) = survey.acknowledgements
    words = load_acknowledgements()[name]
    assert words.name == phase
    funded = {
        "SDSS-IV": "the Sloan Digital Sky Survey IV",
        "SDSS-V": "the Sloan Digital Sky Survey V",
    }
    beginning = funded.get(phase, f"{'the ' if phase.startswith('SDSS and') else ''}{phase}")
    assert words.text.startswith(f"Funding for {beginning} has been provided by")
    assert find_source(fetch(release=f"dr{number}"))[0].keys == survey.keys


def test_a_later_release_is_said_to_be_unknown():
    """Its paper is, and its phase is that of the last."""
    survey = find_survey("sdss-dr21")
    assert survey.title == "SDSS DR21"
    assert not {key for key, _ in SDSS_RELEASES.values()} & set(survey.keys)
    assert "the paper of release DR21 of SDSS is not known" in survey.notes[0]
    assert "'new'" in find_source(fetch(release="new"))[0].notes[0]


def test_an_unknown_survey_is_refused():
    """With the name that was probably meant."""
    with pytest.raises(ConfigError, match=r"`surveys`: 'sdss17' is unknown; did you mean 'sdss-dr"):
        find_survey("sdss17")
    with pytest.raises(ConfigError, match="'sdss-dr6' is unknown"):
        find_survey("sdss-dr6")
    with pytest.raises(ConfigError, match="expected one of sdss-dr7"):
        find_survey("\x1b")


def test_known_names_are_found():
    """With entries and texts that exist."""
    for name in KNOWN:
        survey = find_survey(name)
        assert survey.keys
        assert set(survey.keys) <= set(load_bibliography())
        assert set(survey.acknowledgements) <= set(load_acknowledgements())


def test_legacy_surveys():
    """By the layer of the viewer."""
    (survey,) = find_source(fetch(service="legacy", release="ls-dr10"))
    assert (survey.keys, survey.acknowledgements, survey.notes) == (("Dey2019",), ("legacy",), ())
    (survey,) = find_source(fetch(service="legacy", release="unwise-neo7"))
    assert "if its images are of another survey" in survey.notes[0]
    (survey,) = find_source(fetch(service="legacy", release="sdss"))
    assert survey.keys == ("York2000", "Gunn2006", "Gunn1998")
    assert not survey.acknowledgements
    assert "of a release that the viewer does not name" in survey.notes[0]


def test_hips():
    """The service, and the survey behind it where that is known."""
    service, behind = find_source(fetch(service="hips", release="CDS/P/SDSS9/color"))
    assert service.keys == ("Fernique2015", "Boch2020")
    assert behind == find_survey("sdss-dr9")
    _, behind = find_source(fetch(service="hips", release="CDS/P/DSS2/color"))
    assert not behind.keys
    assert "the survey behind the HiPS 'CDS/P/DSS2/color' is not known" in behind.notes[0]


@pytest.mark.parametrize("service", ["sdss", "legacy", "hips"])
def test_a_mirror_is_no_survey(service):
    """A local server may serve anything."""
    address = "http://127.0.0.1:8000"
    (survey,) = find_source(fetch(service=service, is_mirror=True, address=address))
    assert not survey.keys
    assert not survey.acknowledgements
    assert address in survey.notes[0]


def test_columns_and_cuts():
    """Of the catalog that the SQL asks for."""
    columns = ["objID", "oh_p50", "lgm_tot_p50", "sfr_tot_p50", "z", "petroMag_r"]
    assert find_columns(columns) == ["oh_p50", "lgm_tot_p50", "sfr_tot_p50"]
    assert makes_cuts("... AND oh_p50 > 0 AND rChi2 < 2 AND zErr < 0.01")
    assert not makes_cuts("... AND oh_p50 > 0 AND rChi2 < 20 AND zErr < 0.01")
    assert not makes_cuts(None)
