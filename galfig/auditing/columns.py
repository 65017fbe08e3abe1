"""The table of galaxies of an audit: what the store says of each, and statistics of its map."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.auditing.sample import Sample
from galfig.auditing.statistics import DESCRIPTIONS, MapStatistics, measure_map, measure_share
from galfig.errors import ConfigError
from galfig.records import Measured
from galfig.runtime.messages import shorten, suggest
from galfig.store.audits import GalaxyColumn, name_column
from galfig.store.reader import Store

# Columns of SDSS, and of tables that follow it, with the radius in the r band that holds half or
# 90 % of the Petrosian flux [arcsec]; capitals do not matter.
_R50 = ("petroR50_r", "petro_r50_r", "petror50", "petro_r50", "petro_th50")
_R90 = ("petroR90_r", "petro_r90_r", "petror90", "petro_r90", "petro_th90")


@dataclass(frozen=True)
class Radii:
    """Radii of all galaxies of a store.

    Attributes
    ----------
    names : dict of str to str
        Column of the catalog, by "share_r50" and "share_r90"; without those that there are not.
    pixels : dict of str to (N,) ndarray of float64
        The radii [pixel of the cutout], NaN where unknown, by the same names.
    """

    names: dict[str, str]
    pixels: dict[str, NDArray[np.float64]]


def find_radii(store: Store, r50: str | None = None, r90: str | None = None) -> Radii:
    """Find the radii of the galaxies of a store.

    Parameters
    ----------
    store : Store
        An open store.
    r50, r90 : str, optional
        Columns of the catalog [arcsec]; by default, those of SDSS where there are any.

    Returns
    -------
    Radii

    Raises
    ------
    ConfigError
        If the catalog has no such column, or no radius in it can be used.
    """
    names: dict[str, str] = {}
    pixels: dict[str, NDArray[np.float64]] = {}
    for statistic, parameter, asked, known in (
        ("share_r50", "r50", r50, _R50),
        ("share_r90", "r90", r90, _R90),
    ):
        column = asked or _find_column(store, known)
        if column is None:
            continue
        if column not in store.columns:
            columns = [*store.columns]
            hint = suggest(column, columns, f"expected one of {shorten(columns)}")
            raise ConfigError(f"`{parameter}` {column!r}: no column of the catalog; {hint}")
        arcsec = pd.to_numeric(store.columns[column], errors="coerce")
        found = arcsec.to_numpy(np.float64, na_value=np.nan) / store.pixel_scale
        found = np.where(np.isfinite(found) & (found > 0), found, np.nan)
        if np.isfinite(found).any():
            names[statistic], pixels[statistic] = column, found
        elif asked is not None:
            raise ConfigError(
                f"`{parameter}` {column!r}: no galaxy has a radius above zero and a pixel scale, "
                "expected both; name a column of numbers [arcsec], or set [catalog] pixel_scale "
                "and build the store again"
            )
    return Radii(names, pixels)


def _find_column(store: Store, known: Sequence[str]) -> str | None:
    """Return the first column of the catalog with one of some names, whatever its capitals."""
    columns = {name.casefold(): name for name in store.columns}
    return next((columns[name.casefold()] for name in known if name.casefold() in columns), None)


def tabulate_galaxies(
    sample: Sample, radii: Radii, measures: Mapping[str, Measured]
) -> dict[str, GalaxyColumn]:
    """Tabulate the galaxies of an audit.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    radii : Radii
        Their radii, where the catalog has them.
    measures : mapping of str to Measured
        What each measure found, whose columns are added.

    Returns
    -------
    dict of str to GalaxyColumn
        Columns by name; (n,) each.
    """
    store, rows = sample.store, sample.rows
    names = np.array([*store.class_names, ""], dtype=object)
    columns = {
        "objid": GalaxyColumn(store.objids(rows), "identifier, as in the catalog"),
        "split": GalaxyColumn(store.split[rows], "how training used the galaxy; empty: unknown"),
        "true": GalaxyColumn(names[store.label[rows]], "true class; empty: unknown"),
        "predicted": GalaxyColumn(names[store.predicted[rows]], "class of largest probability"),
        "p": GalaxyColumn(
            store.probs[rows].max(axis=1).astype(np.float64), "probability of that class"
        ),
        "loss": GalaxyColumn(store.losses[rows].astype(np.float64), "cross-entropy loss"),
        **_measure_maps(sample, radii),
    }
    for measure, measured in measures.items():
        for name, values in measured.per_galaxy.items():
            description = f"{name.replace('_', ' ')}, of the measure {measure}"
            columns[name_column(measure, name)] = GalaxyColumn(np.array(values), description)
    return columns


def iter_evidence(sample: Sample) -> Iterator[NDArray[np.float32]]:
    """Yield the map under test of each galaxy, (h, w): the evidence for its predicted class.

    Where the stored maps are evidence already, or none follows from them, they are the maps of the
    predicted class themselves.
    """
    for chunk in sample.iter_chunks():
        evidence = sample.read_evidence(chunk)
        yield from sample.read_maps(chunk) if evidence is None else evidence


def _measure_maps(sample: Sample, radii: Radii) -> dict[str, GalaxyColumn]:
    """Measure the map of each galaxy, one after the other."""
    store, found = sample.store, []
    shares: dict[str, list[float]] = {name: [] for name in radii.names}
    for row, evidence in zip(sample.rows.tolist(), iter_evidence(sample), strict=True):
        cutout = store.cutouts(row)
        found.append(measure_map(evidence, cutout))
        for name, values in shares.items():
            values.append(measure_share(evidence, radii.pixels[name][row], cutout.shape[0]))
    columns = dict(zip(MapStatistics._fields, np.array(found, np.float64).T, strict=True))
    columns |= {name: np.array(values, np.float64) for name, values in shares.items()}
    if store.agreement is not None:
        columns["agreement"] = store.agreement[sample.rows].astype(np.float64)
    return {name: GalaxyColumn(values, *DESCRIPTIONS[name]) for name, values in columns.items()}
