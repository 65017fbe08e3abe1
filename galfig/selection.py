"""Selection: which galaxies of a store a figure shows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galfig.errors import SelectionError
from galfig.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Galaxies chosen from a store, and how.

    Attributes
    ----------
    indices : (n,) ndarray of int
        Positions in the store, in the order in which they are shown.
    n_candidates : int
        Galaxies that they were drawn from.
    zmin, zmax : float or None
        Open interval of redshift that was asked for.
    seed : int or None
        Seed of the draw; None where the galaxies were named.
    """

    indices: NDArray[np.intp]
    n_candidates: int
    zmin: float | None = None
    zmax: float | None = None
    seed: int | None = None


def select_galaxies(
    store: Store,
    *,
    n: int = 5,
    zmin: float | None = None,
    zmax: float | None = None,
    seed: int = 256,
    objids: Sequence[str] = (),
) -> Selection:
    """Draw galaxies at random, or take those that are named.

    Parameters
    ----------
    store : Store
        An open store.
    n : int, default 5
        How many; where there are fewer, all of them, and a warning.
    zmin, zmax : float, optional
        Only redshifts strictly between these.
    seed : int, default 256
        Seed of the draw, which does not depend on the order of the store.
    objids : sequence of str, optional
        These galaxies, in this order, instead of a draw.

    Returns
    -------
    Selection

    Raises
    ------
    SelectionError
        A range upside down, no galaxy in it (the message gives the range there is), no
        redshifts at all, or an unknown identifier.
    """
    if objids:
        if zmin is not None or zmax is not None:
            raise SelectionError("--objid: given with --zmin or --zmax, expected one or the other")
        indices = _find_objids(store, objids)
        return Selection(indices, len(indices))
    if zmin is not None and zmax is not None and zmin >= zmax:
        raise SelectionError(f"--zmin {zmin:g}: not below --zmax {zmax:g}, expected a range")
    is_candidate = np.ones(len(store), dtype=bool)
    if zmin is not None or zmax is not None:
        is_candidate = _in_redshift_range(store, zmin, zmax)
    candidates = np.flatnonzero(is_candidate)
    # Ordered by objid, so that a store with its shards in another order gives the same draw.
    candidates = candidates[np.argsort(store.objid[candidates].astype(str), kind="stable")]
    if len(candidates) < n:
        within = describe_range(zmin, zmax)
        logger.warning(
            "%s: %d galaxies%s, %d were asked for; drawing all of them",
            store.path,
            len(candidates),
            f" with {within}" if within else "",
            n,
        )
    drawn = np.random.default_rng(seed).permutation(candidates)[:n]
    return Selection(drawn, len(candidates), zmin, zmax, seed)


def describe_range(zmin: float | None, zmax: float | None) -> str:
    """Write a range of redshift as an inequality; "" where there is none."""
    if zmin is None and zmax is None:
        return ""
    lower = f"{zmin:g} < " if zmin is not None else ""
    upper = f" < {zmax:g}" if zmax is not None else ""
    return f"{lower}z{upper}"


def _in_redshift_range(store: Store, zmin: float | None, zmax: float | None) -> NDArray[np.bool_]:
    redshift = store.redshift
    known = redshift[np.isfinite(redshift)]
    if not len(known):
        raise SelectionError(
            f"{store.path}: no galaxy has a redshift, expected some for --zmin and --zmax; name "
            "the column in [catalog] redshift and rebuild, or leave these options out"
        )
    above = redshift > (-np.inf if zmin is None else zmin)
    below = redshift < (np.inf if zmax is None else zmax)
    if not np.any(above & below):
        raise SelectionError(
            f"{store.path}: no galaxy with {describe_range(zmin, zmax)}; its redshifts run from "
            f"{known.min():.4g} to {known.max():.4g}"
        )
    return above & below


def _find_objids(store: Store, objids: Sequence[str]) -> NDArray[np.intp]:
    position = {objid: index for index, objid in enumerate(store.objid)}
    for objid in objids:
        if objid not in position:
            reason = store.rejected.get(objid)
            hint = f"it was left out: {reason}" if reason else "see its dataset 'objid'"
            raise SelectionError(f"{store.path}: no galaxy {objid!r}; {hint}")
    return np.array([position[objid] for objid in objids], dtype=np.intp)
