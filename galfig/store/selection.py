"""Selection: which galaxies of a store a figure shows, in one language everywhere."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from galfig.errors import SelectionError

if TYPE_CHECKING:
    from galfig.store.reader import Store

logger = logging.getLogger(__name__)

Sort = Literal["random", "loss", "p", "redshift"]


@dataclass(frozen=True)
class Query:
    """What is asked of a store; the options of the command line have the same names.

    Attributes
    ----------
    n : int or None
        How many galaxies; None for all of them.
    zmin, zmax : float or None
        Only redshifts strictly between these.
    objids : tuple of str
        These galaxies, in this order, and nothing else.
    true, predicted : str or None
        Only galaxies of this class, or classified as it.
    correct : bool or None
        Only galaxies that are classified rightly, or wrongly.
    where : str or None
        A condition on columns of the catalog; see `galfig.store.conditions.find_where`.
    sort : {"random", "loss", "p", "redshift"}
        Which come first: drawn by ``seed``, most wrong, most certain, nearest.
    seed : int
        Seed of the draw, which does not depend on the order of the store.
    """

    n: int | None = 5
    zmin: float | None = None
    zmax: float | None = None
    objids: tuple[str, ...] = ()
    true: str | None = None
    predicted: str | None = None
    correct: bool | None = None
    where: str | None = None
    sort: Sort = "random"
    seed: int = 256


@dataclass(frozen=True)
class Selection:
    """Galaxies chosen from a store, and how.

    Attributes
    ----------
    indices : (n,) ndarray of int
        Positions in the store, in the order in which they are shown.
    n_candidates : int
        Galaxies that fulfil the conditions, of which these were taken.
    query : Query
        What was asked for.
    """

    indices: NDArray[np.intp]
    n_candidates: int
    query: Query = field(default_factory=Query)


def select_galaxies(
    store: "Store", query: Query, *, among: Collection[str] | None = None
) -> Selection:
    """Take the galaxies of a store that a query asks for; ``among`` these, where they are given.

    Where there are fewer than ``n``, all of them are taken, and a warning says so.

    Raises
    ------
    SelectionError
        No galaxy fulfils the conditions (for redshifts, the message gives the range there is);
        an unknown identifier, class or column; what needs redshifts or labels without them.
    """
    if query.objids:
        if query != Query(n=query.n, objids=query.objids, seed=query.seed):
            raise SelectionError("`objids` names the galaxies, expected no other condition with it")
        indices = _find_objids(store, query.objids)
        strangers = [] if among is None else [o for o in query.objids if o not in among]
        if strangers:
            raise SelectionError(
                f"`objids` {strangers[0]!r}: not in the other store, expected in both"
            )
        return Selection(indices, len(indices), query)
    is_candidate = _find_candidates(store, query)
    if among is not None:
        is_candidate &= np.array([objid in among for objid in store.objid], dtype=bool)
    candidates = np.flatnonzero(is_candidate)
    if not len(candidates):
        both = "" if among is None else " that both stores hold"
        raise SelectionError(
            f"{store.path}: no galaxy {describe_conditions(query, repr)}{both}".replace("  ", " ")
        )
    order = _order(store, candidates, query)
    if query.n is not None and len(candidates) < query.n:
        conditions = describe_conditions(query, repr)
        logger.warning(
            "%s: %d galaxies requested, only %d found%s; drawing all of them",
            store.path,
            query.n,
            len(candidates),
            f" {conditions}" if conditions else "",
        )
    return Selection(order[: query.n], len(candidates), query)


def describe_range(zmin: float | None, zmax: float | None) -> str:
    """Write a range of redshift as an inequality; "" where there is none."""
    if zmin is None and zmax is None:
        return ""
    lower = f"{zmin:g} < " if zmin is not None else ""
    upper = f" < {zmax:g}" if zmax is not None else ""
    return f"{lower}z{upper}"


def describe_conditions(
    query: Query, text: Callable[[str], str] = str, math: Callable[[str], str] = str
) -> str:
    """Write what a query asks of each galaxy, in words; "" where it takes any.

    ``text`` and ``math`` put what comes from the user, and formulae, into a markup.
    """
    within = describe_range(query.zmin, query.zmax)
    rightly = {True: "classified rightly", False: "classified wrongly", None: ""}[query.correct]
    conditions = [
        f"with {math(within)}" if within else "",
        f"of true class {text(query.true)}" if query.true is not None else "",
        f"classified as {text(query.predicted)}" if query.predicted is not None else "",
        rightly,
        f"where {text(query.where)}" if query.where is not None else "",
    ]
    return ", ".join(condition for condition in conditions if condition)


def _find_candidates(store: "Store", query: Query) -> NDArray[np.bool_]:
    is_candidate = np.ones(len(store), dtype=bool)
    if query.zmin is not None or query.zmax is not None:
        is_candidate &= _in_redshift_range(store, query.zmin, query.zmax)
    if query.true is not None:
        is_candidate &= store.label == _find_class(store, query.true, "true")
    if query.predicted is not None:
        is_candidate &= store.predicted == _find_class(store, query.predicted, "predicted")
    if query.correct is not None:
        require_labels(store, "`correct`")
        is_candidate &= (store.label >= 0) & ((store.predicted == store.label) == query.correct)
    if query.where is not None:
        # Brings pandas' import, which most figures do without.
        from galfig.store.conditions import find_where

        is_candidate &= find_where(query.where, store.catalog)
    return is_candidate


def _order(store: "Store", candidates: NDArray[np.intp], query: Query) -> NDArray[np.intp]:
    """Put candidates in the order of the query; ties, and any draw, start from the objid."""
    by_name = candidates[np.argsort(store.objid[candidates].astype(str), kind="stable")]
    if query.sort == "random":
        return np.random.default_rng(query.seed).permutation(by_name)
    if query.sort == "loss":
        require_labels(store, '`sort="loss"`')
        key = -store.losses
    elif query.sort == "p":
        key = -store.probs.max(axis=1).astype(np.float64)
    else:
        key = store.redshift
        if not np.isfinite(key).any():
            raise SelectionError(_describe_no_redshift(store, '`sort="redshift"`'))
    # NaN sorts last.
    return by_name[np.argsort(key[by_name], kind="stable")]


def _in_redshift_range(store: "Store", zmin: float | None, zmax: float | None) -> NDArray[np.bool_]:
    if zmin is not None and zmax is not None and zmin >= zmax:
        raise SelectionError(f"`zmin` {zmin:g} is not below `zmax` {zmax:g}, expected a range")
    redshift = store.redshift
    known = redshift[np.isfinite(redshift)]
    if not len(known):
        raise SelectionError(_describe_no_redshift(store, "`zmin` and `zmax`"))
    above = redshift > (-np.inf if zmin is None else zmin)
    below = redshift < (np.inf if zmax is None else zmax)
    if not np.any(above & below):
        raise SelectionError(
            f"{store.path}: no galaxy with {describe_range(zmin, zmax)}; its redshifts run from "
            f"{known.min():.4g} to {known.max():.4g}"
        )
    return above & below


def _describe_no_redshift(store: "Store", purpose: str) -> str:
    return (
        f"{store.path}: no galaxy has a redshift, expected some for {purpose}; name their column "
        "in [catalog] redshift and build the store again"
    )


def _find_class(store: "Store", name: str, parameter: str) -> int:
    if name not in store.class_names:
        raise SelectionError(
            f"{store.path}: `{parameter}` {name!r}, expected one of {', '.join(store.class_names)}"
        )
    return store.class_names.index(name)


def require_labels(store: "Store", purpose: str) -> None:
    """Raise SelectionError where no galaxy of a store has a true class."""
    if not np.any(store.label >= 0):
        raise SelectionError(
            f"{store.path}: no galaxy has a true class, expected some for {purpose}"
        )


def _find_objids(store: "Store", objids: tuple[str, ...]) -> NDArray[np.intp]:
    position = {objid: index for index, objid in enumerate(store.objid)}
    for objid in objids:
        if objid not in position:
            reason = store.rejected.get(objid)
            split = store.attrs["split"]
            if reason:
                hint = f"it was left out: {reason}"
            elif split == "all":
                hint = f"it holds {len(store)} others"
            else:
                hint = (
                    f"it holds {len(store)} others, of split {split!r}; "
                    '`split="all"` explains every one'
                )
            raise SelectionError(f"{store.path}: no galaxy {objid!r}; {hint}")
    return np.array([position[objid] for objid in objids], dtype=np.intp)
