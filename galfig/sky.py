"""The sky: which columns of a table say where a galaxy is."""

from collections.abc import Iterable

# Names of the columns [deg], in the order in which they are looked for, in any case.
POSITIONS = (
    ("ra", "dec"),
    ("raj2000", "dej2000"),
    ("raj2000", "decj2000"),
    ("ra_deg", "dec_deg"),
    ("radeg", "decdeg"),
    ("radeg", "dedeg"),
)


def match_sky_columns(names: Iterable[str]) -> tuple[str, str] | None:
    """Return which columns are right ascension and declination [deg], by their names.

    Parameters
    ----------
    names : iterable of str
        Names of columns.

    Returns
    -------
    (str, str) or None
        The first pair of `POSITIONS` that is there, in any case and behind an underscore or not, as
        VizieR writes those that it computes; None if there is none.
    """
    known = {name.lower().removeprefix("_"): name for name in reversed([*names])}
    for ra, dec in POSITIONS:
        if ra in known and dec in known:
            return known[ra], known[dec]
    return None
