"""Surveys: what those ask for whose images and catalogs were used, by release."""

import re
from collections.abc import Collection
from typing import NamedTuple

from galfig.errors import ConfigError
from galfig.records import FetchRecord
from galfig.runtime.messages import quote, suggest


class Survey(NamedTuple):
    """What to cite for a survey, a catalog of it, or a service.

    Attributes
    ----------
    title : str
        Its name in a sentence.
    keys : tuple of str
        Entries of the bibliography.
    acknowledgements : tuple of str
        Names of acknowledgements.
    notes : tuple of str
        Sentences on what is not known, or must be looked up.
    """

    title: str
    keys: tuple[str, ...]
    acknowledgements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# The paper of each data release of SDSS, and the phase of the survey that published it.
SDSS_RELEASES = {
    7: ("Abazajian2009", "sdss-ii"),
    8: ("Aihara2011", "sdss-iii"),
    9: ("Ahn2012", "sdss-iii"),
    10: ("Ahn2014", "sdss-iii"),
    11: ("Alam2015", "sdss-iii"),
    12: ("Alam2015", "sdss-iii"),
    13: ("Albareti2017", "sdss-iv"),
    14: ("Abolfathi2018", "sdss-iv"),
    15: ("Aguado2019", "sdss-iv"),
    16: ("Ahumada2020", "sdss-iv"),
    17: ("Abdurrouf2022", "sdss-iv"),
    18: ("Almeida2023", "sdss-v"),
    19: ("SDSS2025", "sdss-v"),
}
# The paper on each phase.
_PHASES = {"sdss-iii": "Eisenstein2011", "sdss-iv": "Blanton2017", "sdss-v": "Kollmeier2026"}
_SDSS_PAGE = "https://www.sdss.org/collaboration/citing-sdss/"
# The survey, the telescope and the camera of all images.
_SDSS = ("York2000", "Gunn2006", "Gunn1998")
_LEGACY_RELEASES = range(1, 12)
# Layers of the viewer of the Legacy Surveys that show images of SDSS.
_SDSS_LAYERS = ("sdss", "sdss2")
_OTHERS = {
    "mpa-jhu": Survey("the MPA-JHU catalog", ("Brinchmann2004", "Kauffmann2003", "Tremonti2004")),
    "hips2fits": Survey("hips2fits", ("Fernique2015", "Boch2020"), ("hips2fits",)),
    "galaxy-zoo-1": Survey("Galaxy Zoo 1", ("Lintott2011",)),
    "galaxy-zoo-2": Survey("Galaxy Zoo 2", ("Willett2013",)),
    "galaxy-zoo-decals": Survey("Galaxy Zoo DECaLS", ("Walmsley2022",)),
}
KNOWN = (
    *(f"sdss-dr{number}" for number in SDSS_RELEASES),
    "legacy",
    *(f"legacy-dr{number}" for number in _LEGACY_RELEASES),
    *_OTHERS,
)
"""Names of surveys that settings may give."""

# Columns of the MPA-JHU catalog begin so.
_MPA_JHU = ("oh_p", "lgm_tot", "lgm_fib", "sfr_tot", "sfr_fib", "specsfr_")
# Images of surveys that CDS keeps as HiPS.
_HIPS = (
    (re.compile(r"CDS/P/SDSS(?:9|DR9)/", re.ASCII), "sdss-dr9"),
    (re.compile(r"CDS/P/DESI-Legacy-Surveys/DR10/", re.ASCII), "legacy-dr10"),
)
# The cuts of Wu & Boada (2019) in SQL.
_CUTS = (r"rChi2\s*<\s*2\b", r"zErr\s*<\s*0?\.01\b", r"oh_p50\s*>\s*0\b")


def find_survey(name: str) -> Survey:
    """Return what to cite for a survey.

    Parameters
    ----------
    name : str
        Such as "sdss-dr17", "legacy-dr10" or "galaxy-zoo-2"; see `KNOWN`. Of SDSS, later releases
        are accepted, too, with a note.

    Returns
    -------
    Survey

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    if match := re.fullmatch(r"sdss-dr([1-9]\d?)", name, re.ASCII):
        number = int(match[1])
        if number >= min(SDSS_RELEASES):
            return _find_sdss(number)
    if name in _OTHERS:
        return _OTHERS[name]
    if name in KNOWN:
        release = name.removeprefix("legacy").replace("-dr", " DR")
        return Survey(f"the Legacy Surveys{release}", ("Dey2019",), ("legacy",))
    hint = suggest(name, KNOWN, f"expected one of {', '.join(KNOWN)}")
    raise ConfigError(f"`surveys`: {quote(name)} is unknown; {hint}")


def find_source(fetched: FetchRecord) -> list[Survey]:
    """List what to cite for cutouts, and a catalog, that 'galfig fetch' fetched.

    Parameters
    ----------
    fetched : FetchRecord
        What it recorded. Another server than the service's own says nothing of a survey.

    Returns
    -------
    list of Survey
        Empty if nothing is known, with the reason as a note of a survey without entries.
    """
    release = fetched.release
    if fetched.is_mirror:
        note = (
            f"the cutouts came from {fetched.address}, and not from the service itself; if that "
            "is a mirror of a survey, name it with `surveys`"
        )
        return [Survey("", (), (), (note,))]
    if fetched.service == "sdss":
        match = re.fullmatch(r"(?:dr)?([1-9]\d?)", release, re.ASCII | re.IGNORECASE)
        number = int(match[1]) if match else 0
        return [_find_sdss(number, release)]
    if fetched.service == "legacy":
        match = re.fullmatch(r"ls-dr(\d+)(?:-.+)?", release, re.ASCII)
        if match and int(match[1]) in _LEGACY_RELEASES:
            return [find_survey(f"legacy-dr{int(match[1])}")]
        if release in _SDSS_LAYERS:
            note = (
                f"the images of layer {quote(release)} of the viewer of the Legacy Surveys are of "
                "SDSS, of a release that the viewer does not name: cite its paper and print its "
                f"acknowledgement, see {_SDSS_PAGE}"
            )
            return [Survey("SDSS", _SDSS, (), (note,))]
        note = (
            f"{quote(release)} is a layer of the viewer of the Legacy Surveys; if its images are "
            "of another survey, cite that, too"
        )
        return [Survey("the Legacy Surveys", ("Dey2019",), ("legacy",), (note,))]
    behind = [find_survey(name) for pattern, name in _HIPS if pattern.match(release)]
    if not behind:
        note = (
            f"the survey behind the HiPS {quote(release)} is not known to galfig; its file "
            "'properties' says whom to acknowledge (obs_ack, bib_reference)"
        )
        behind = [Survey("", (), (), (note,))]
    return [_OTHERS["hips2fits"], *behind]


def find_columns(columns: Collection[str]) -> list[str]:
    """List the columns of a catalog of SDSS that are those of the MPA-JHU catalog."""
    return [name for name in columns if name.lower().startswith(_MPA_JHU)]


def makes_cuts(query: str | None) -> bool:
    """Return whether SQL chooses galaxies as Wu & Boada (2019) did."""
    return query is not None and all(re.search(cut, query, re.IGNORECASE) for cut in _CUTS)


def _find_sdss(number: int, release: str = "") -> Survey:
    """Return what to cite for a release, by its number; 0 if that is not known."""
    name = f"DR{number}" if number else quote(release)
    if number in SDSS_RELEASES:
        paper, phase = SDSS_RELEASES[number]
        papers, notes = [paper], []
    else:
        phase = "sdss-v"
        papers = []
        notes = [f"the paper of release {name} of SDSS is not known to galfig; see {_SDSS_PAGE}"]
    if phase in _PHASES:
        papers.append(_PHASES[phase])
    if phase not in ("sdss-ii", "sdss-iii"):
        # The camera was retired in 2009; later releases publish its images again.
        notes.append(
            "the images of SDSS were taken by SDSS-I to SDSS-III, whose acknowledgements are at "
            f"{_SDSS_PAGE}"
        )
    return Survey(f"SDSS {name}", (*papers, *_SDSS), (phase,), tuple(notes))
