"""Selection of the galaxies in a store, shared by Python, the command line and manifests."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from galfig.components import measure_distances
from galfig.errors import SelectionError
from galfig.runtime.messages import one_line, quote, shorten
from galfig.runtime.options import SPLITS, Split

if TYPE_CHECKING:
    from galfig.store.reader import Store

logger = logging.getLogger(__name__)

# What the training of two networks did with galaxies that both stores hold, by the split asked for.
_SHARED = {
    None: " and that trained neither network",
    "all": "",
    "train": " and that trained both networks",
    "valid": " in the validation set of both networks",
    "test": " in the test set of both networks",
}

# Galaxies whose features are compared at a time.
N_BLOCK = 16_384
Sort = Literal["random", "loss", "p", "redshift"]
# How a caller may specify galaxies in a store; see `galfig.store.reader.Store`.
RowsLike = int | str | slice | Sequence[int] | Sequence[str] | NDArray[Any]


@dataclass(frozen=True)
class Query:
    """A request for galaxies; the options of the command line have the same names.

    Attributes
    ----------
    split : {"valid", "train", "test", "all"} or None
        Choose among galaxies that the training of the network used in this way. None for all that
        did not train it or, if the store holds no others, those that did.
    n : int or None
        Number of galaxies; None for all of them.
    zmin, zmax : float or None
        Keep only redshifts strictly between these limits.
    objids : tuple of str
        Select these galaxies, in this order; excludes all other conditions.
    true, predicted : str or None
        Keep only galaxies with this true class, or with this predicted class.
    correct : bool or None
        Keep only galaxies that are classified correctly (True) or incorrectly (False).
    where : str or None
        A condition on columns of the catalog; see `galfig.store.conditions.find_where`.
    sort : {"random", "loss", "p", "redshift"}
        Order: a random draw, largest loss first, highest probability first, or lowest redshift
        first.
    seed : int
        Seed of the random draw, which does not depend on the order of the store.
    like : str or None
        Select this galaxy and those whose features are most alike to its own, nearest first, of
        all that satisfy the conditions. It comes first, whether it satisfies them or not.
    """

    split: Split | None = None
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
    like: str | None = None


@dataclass(frozen=True)
class Selection:
    """Galaxies selected from a store, and how they were selected.

    Attributes
    ----------
    indices : (n,) ndarray of int
        Positions in the store, in the order in which a figure shows them.
    n_candidates : int
        Number of galaxies that satisfy the conditions, from which these were taken; the one that
        others are alike to is counted in any case.
    query : Query
        The request.
    is_shared : bool
        Whether only galaxies that a second store holds too were candidates; see `find_shared`.
    """

    indices: NDArray[np.intp]
    n_candidates: int
    query: Query = field(default_factory=Query)
    is_shared: bool = False

    @property
    def depends_on_output(self) -> bool:
        """Whether the output of the network decided which galaxies these are."""
        query, is_part = self.query, len(self.indices) < self.n_candidates
        return (
            query.correct is not None
            or query.predicted is not None
            or (is_part and (query.sort in ("loss", "p") or query.like is not None))
        )


class Rows(np.ndarray[tuple[int, ...], np.dtype[np.intp]]):
    """Positions of galaxies in a store, (n,), with a record of how they were selected.

    In every other respect this is an integer array. A slice of it, or an array computed from it,
    loses the record, since the original selection no longer describes it.

    Attributes
    ----------
    selection : Selection or None
        How the galaxies were selected; None if unknown.
    plan_digest : str
        Plan digest of the store that the positions refer to.
    """

    selection: Selection | None
    plan_digest: str

    @classmethod
    def of(cls, selection: Selection, plan_digest: str) -> "Rows":
        """Return the positions of a selection.

        Parameters
        ----------
        selection : Selection
            The galaxies.
        plan_digest : str
            Plan digest of their store.

        Returns
        -------
        Rows
            Read-only, so that the record stays true.
        """
        rows = selection.indices.copy().view(cls)
        rows.setflags(write=False)
        rows.selection, rows.plan_digest = selection, plan_digest
        return rows

    def __array_finalize__(self, source: Any) -> None:
        self.selection, self.plan_digest = None, getattr(source, "plan_digest", "")


def make_query(**asked: Any) -> Query:
    """Return a validated query.

    Parameters
    ----------
    **asked
        Fields of `Query`.

    Raises
    ------
    SelectionError
        If a value has the wrong type or is out of range.
    """
    # The help of the command line imports this module, and has no use for pydantic.
    from pydantic import TypeAdapter, ValidationError

    try:
        query = TypeAdapter(Query).validate_python(asked)
    except ValidationError as exc:
        error = exc.errors()[0]
        raise SelectionError(
            f"`{error['loc'][0]}` {error['input']!r}: {error['msg'].lower()}"
        ) from exc
    if query.n is not None and query.n < 1:
        raise SelectionError(f"`n` {query.n}: expected 1 or more, or None for all")
    if query.seed < 0:
        raise SelectionError(f"`seed` {query.seed}: expected 0 or more")
    return query


def find_positions(store: "Store", rows: RowsLike) -> int | NDArray[np.intp]:
    """Return the positions of galaxies in a store, however the caller specifies them.

    Parameters
    ----------
    store : Store
        An open store of N galaxies.
    rows : int, str, slice or array_like
        A position (negative positions count from the end), an identifier, a slice, several
        positions or identifiers, or a Boolean mask of length N.

    Returns
    -------
    int or (n,) ndarray of int
        An int for one position or identifier, otherwise an array.

    Raises
    ------
    SelectionError
        If the store does not hold an identifier.
    IndexError
        If a position is out of range, or a mask does not have length N.
    TypeError
        If ``rows`` is anything else.
    """
    n = len(store)
    if isinstance(rows, str):
        return int(_find_objids(store, (rows,))[0])
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    if isinstance(rows, Rows) and rows.plan_digest not in ("", store.record.plan_digest):
        raise SelectionError(f"{store.path}: `rows` were selected from another store")
    found = np.asarray(_align(store, rows))
    if found.dtype.kind in "UO" and found.ndim == 1 and all(isinstance(o, str) for o in found):
        return _find_objids(store, tuple(map(str, found)))
    if found.dtype.kind == "b" and found.ndim == 1:
        if len(found) != n:
            raise IndexError(f"{store.path}: {len(found)} truth values for {n} galaxies")
        return np.flatnonzero(found)
    if found.size == 0 and found.ndim == 1:
        return np.empty(0, np.intp)
    if found.dtype.kind not in "iu" or found.ndim > 1:
        raise TypeError(
            f"{store.path}: galaxies named by {type(rows).__name__} of {found.dtype}, expected "
            "positions, identifiers as text, a slice or truth values"
        )
    beyond = found[(found < -n) | (found >= n)]
    if beyond.size:
        wrong = beyond.flat[0]
        is_name = store.names.find([str(wrong)])[0] >= 0
        hint = "; identifiers are text: put it in quotes" if is_name else ""
        raise IndexError(f"{store.path}: no galaxy {wrong}, expected one from 0 to {n - 1}{hint}")
    positions = np.asarray(found % n if n else found, np.intp)
    return int(positions) if found.ndim == 0 else positions


def _align(store: "Store", rows: Any) -> Any:
    """Put a Boolean Series of pandas, which may be sorted otherwise, in the order of the store."""
    labels = getattr(rows, "index", None)
    if callable(labels) or labels is None or getattr(rows, "dtype", np.dtype(int)).kind != "b":
        return rows
    names = list(labels)
    if names in (list(range(len(store))), list(store.objid)):
        return rows
    if sorted(map(str, names)) != sorted(store.objid):
        raise IndexError(f"{store.path}: a mask for other galaxies, expected all of the store")
    return rows.reindex(store.objid)


def select_galaxies(store: "Store", query: Query, *, other: "Store | None" = None) -> Selection:
    """Select the galaxies of a store that a query asks for.

    If fewer than ``n`` galaxies satisfy the query, all of them are taken and a warning is logged.

    Parameters
    ----------
    store : Store
        An open store.
    query : Query
        The request.
    other : Store, optional
        A second store. Only galaxies that both stores hold are chosen and, unless they are named,
        only those in the split of the query for both networks; all other conditions are of the
        first store.

    Returns
    -------
    Selection
        The galaxies, in the order of the query.

    Raises
    ------
    SelectionError
        If no galaxy satisfies the conditions (for redshifts, the message gives the available
        range); if an identifier, class or column is unknown; or if a condition needs redshifts or
        labels that the store lacks.
    """
    if query.objids:
        if query != Query(n=query.n, objids=query.objids, seed=query.seed):
            raise SelectionError("`objids` names the galaxies, expected no other condition with it")
        indices = _find_objids(store, query.objids)
        strangers = [] if other is None else _list_strangers(other, query.objids)
        if strangers:
            raise SelectionError(
                f"`objids` {strangers[0]!r}: not in the other store, expected in both"
            )
        return Selection(indices, len(indices), query, is_shared=other is not None)
    reference = None if query.like is None else _find_reference(store, query, other)
    candidates = np.flatnonzero(_find_candidates(store, query, other))
    if reference is not None:
        candidates = candidates[candidates != reference]
    if not len(candidates):
        both = "" if other is None else f" that both stores hold{_SHARED[query.split]}"
        raise SelectionError(
            f"{store.path}: no {'' if reference is None else 'other '}galaxy "
            f"{describe_conditions(query, quote)}{both}".replace("  ", " ").rstrip()
            + _point_to_training(store, query, other)
        )
    n_candidates = len(candidates)
    if reference is None:
        indices = _take(store, candidates, query)
    else:
        indices = _take_alike(store, candidates, reference, query.n)
        n_candidates += 1
    if query.n is not None and n_candidates < query.n:
        conditions = describe_conditions(query, quote)
        logger.warning(
            "%s: %d galaxies requested, only %d found%s; taking all of them",
            store.path,
            query.n,
            n_candidates,
            f" {conditions}" if conditions else "",
        )
    return Selection(indices, n_candidates, query, is_shared=other is not None)


def describe_range(zmin: float | None, zmax: float | None) -> str:
    """Write a redshift range as an inequality, such as "0.05 < z < 0.08"; "" without limits."""
    if zmin is None and zmax is None:
        return ""
    lower = f"{zmin:g} < " if zmin is not None else ""
    upper = f" < {zmax:g}" if zmax is not None else ""
    return f"{lower}z{upper}"


def describe_conditions(
    query: Query,
    text: Callable[[str], str] = str,
    math: Callable[[str], str] = str,
    network: str = "",
) -> str:
    """Describe the conditions of a query in words.

    Parameters
    ----------
    query : Query
        The request.
    text, math : callable, optional
        Put text from the user, and formulae, into a markup; by default, plain text.
    network : str, optional
        Words for the network whose output the conditions are on, where there are several.

    Returns
    -------
    str
        The conditions, separated by commas; "" if there are none.
    """
    within = describe_range(query.zmin, query.zmax)
    by = f" by {network}" if network else ""
    correctly = {
        True: f"classified correctly{by}",
        False: f"classified incorrectly{by}",
        None: "",
    }[query.correct]
    conditions = [
        f"with {math(within)}" if within else "",
        f"of true class {text(query.true)}" if query.true is not None else "",
        f"classified as {text(query.predicted)}{by}" if query.predicted is not None else "",
        correctly,
        f"where {text(one_line(query.where))}" if query.where is not None else "",
    ]
    return ", ".join(condition for condition in conditions if condition)


def find_in_split(store: "Store", split: Split | None = None) -> NDArray[np.bool_]:
    """Find the galaxies of a store that the training of the network used in some way.

    Parameters
    ----------
    store : Store
        An open store of N galaxies.
    split : {"valid", "train", "test", "all"}, optional
        The way. By default, all galaxies that did not train the network, those of unknown split
        among them; if the store holds no others, those that did.

    Returns
    -------
    (N,) ndarray of bool
        True for these galaxies.
    """
    if split == "all":
        return np.ones(len(store), dtype=bool)
    if split is not None:
        return store.split_idx == SPLITS.index(split)
    did_train = store.split_idx == SPLITS.index("train")
    return did_train if did_train.all() else ~did_train


def find_shared(store: "Store", other: "Store", split: Split | None = None) -> NDArray[np.bool_]:
    """Find the galaxies that two stores hold and that both trainings used in some way.

    Parameters
    ----------
    store, other : Store
        Open stores, of N and M galaxies.
    split : {"valid", "train", "test", "all"}, optional
        The way; see `find_in_split`.

    Returns
    -------
    (N,) ndarray of bool
        True for these galaxies of the first store.
    """
    position = other.names.match(store.names)
    in_other = find_in_split(other, split)[position] & (position >= 0)
    return find_in_split(store, split) & in_other


def count_splits(store: "Store", rows: NDArray[np.intp] | None = None) -> dict[str, int]:
    """Count galaxies of a store by how the training of the network used them.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int, optional
        Positions of the galaxies to count; by default, all.

    Returns
    -------
    dict of str to int
        Number of galaxies for "train", "valid", "test" and "" (unknown), without those of which
        there are none.
    """
    found = store.split_idx if rows is None else store.split_idx[rows]
    counts = dict(zip(SPLITS, np.bincount(found, minlength=len(SPLITS)).tolist(), strict=True))
    return {word: counts[word] for word in (*SPLITS[1:], "") if counts[word]}


def _find_candidates(
    store: "Store", query: Query, other: "Store | None" = None
) -> NDArray[np.bool_]:
    is_candidate = find_in_split(store, query.split)
    if not is_candidate.any():
        raise SelectionError(_describe_no_split(store, query))
    if other is not None:
        is_candidate = find_shared(store, other, query.split)
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
        # This imports pandas, which most figures do not need.
        from galfig.store.conditions import find_where

        is_candidate &= find_where(query.where, store.columns, len(store))
    return is_candidate


def _take(store: "Store", candidates: NDArray[np.intp], query: Query) -> NDArray[np.intp]:
    """Take the first candidates in the order of a query.

    Ties and random draws start from the order of objid. That of all candidates is not needed where
    few of them are taken.
    """
    if query.sort == "random":
        drawn = np.random.default_rng(query.seed).permutation(len(candidates))
        return store.names.select(candidates, drawn[: query.n])
    margin = None
    if query.sort == "loss":
        require_labels(store, '`sort="loss"`')
        key = -store.losses
    elif query.sort == "p":
        key = -store.probs.max(axis=1).astype(np.float64)
        # Probabilities that round to the same number, such as 1, are told apart by the logits.
        margin = _find_margins(store.logits)
    else:
        key = store.redshift
        if not np.isfinite(key).any():
            raise SelectionError(_describe_no_redshift(store, '`sort="redshift"`'))
    if query.n is not None and query.n < len(candidates):
        last = np.partition(key[candidates], query.n - 1)[query.n - 1]
        # NaN sorts last, and is larger than no number.
        candidates = candidates if np.isnan(last) else candidates[key[candidates] <= last]
    by_name = store.names.sort(candidates)
    order = np.argsort(key[by_name], kind="stable")
    if margin is not None:
        order = np.lexsort((-margin[by_name], key[by_name]))
    return by_name[order][: query.n]


def _find_margins(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return by how much the largest logit of each galaxy, (N, C), exceeds the next one."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _find_reference(store: "Store", query: Query, other: "Store | None") -> int:
    """Return the position of the galaxy that others are to be alike to."""
    name = str(query.like)
    if query.sort != Query.sort:
        raise SelectionError(
            f"`like` with `sort` {query.sort!r}, expected no order: the galaxies most alike come "
            "first"
        )
    reference = int(_find_objids(store, (name,))[0])
    if other is not None and _list_strangers(other, (name,)):
        raise SelectionError(f"`like` {name!r}: not in the other store, expected in both")
    if not store.has_features:
        raise SelectionError(
            f"{store.path}: holds no features, expected some for `like`; build it with "
            "`features=True`, or name its network with `model`"
        )
    return reference


def _take_alike(
    store: "Store", candidates: NDArray[np.intp], reference: int, n: int | None
) -> NDArray[np.intp]:
    """Take a galaxy, and the candidates whose features are most alike to its own."""
    by_name = store.names.sort(candidates)
    everyone = np.array([reference, *by_name], np.intp)
    # What is not stored is computed for all of them in one go.
    store.announce(everyone)
    own = store.features(reference)
    blocks = np.array_split(by_name, max(1, len(by_name) // N_BLOCK))
    distances = [measure_distances(store.features(rows), own) for rows in blocks]
    order = np.argsort(np.concatenate(distances), kind="stable")
    return np.concatenate([everyone[:1], by_name[order]])[:n]


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


def _point_to_training(store: "Store", query: Query, other: "Store | None") -> str:
    """Say how many galaxies that trained the network a query without split would have found."""
    if query.split is not None:
        return ""
    is_candidate = _find_candidates(store, replace(query, split="all"), other)
    if query.like is not None:
        is_candidate[_find_objids(store, (query.like,))] = False
    n = int(is_candidate.sum())
    which = "the network" if other is None else "one of the networks"
    return f'; {n} that trained {which} would be found with `split="all"`' if n else ""


def _describe_no_split(store: "Store", query: Query) -> str:
    counts = [f"{n} {word or 'unknown'}" for word, n in count_splits(store).items()]
    return (
        f"{store.path}: no galaxy in split {query.split!r}, expected some; it holds "
        f"{', '.join(counts)}"
    )


def _find_class(store: "Store", name: str, parameter: str) -> int:
    found = store.find_class(name)
    if found is None:
        raise SelectionError(
            f"{store.path}: `{parameter}` {name!r}, expected one of {', '.join(store.class_names)}"
        )
    return found


def rename_classes(store: "Store", query: Query, names: Sequence[str]) -> Query:
    """Return a query whose classes have other names.

    Parameters
    ----------
    store : Store
        An open store, of which classes may be renamed; see `Store.renamed`.
    query : Query
        A request that this store can answer.
    names : (C,) sequence of str
        The names.

    Returns
    -------
    Query
    """
    true, predicted = (
        None if name is None else names[_find_class(store, name, key)]
        for key, name in (("true", query.true), ("predicted", query.predicted))
    )
    return replace(query, true=true, predicted=predicted)


def require_labels(store: "Store", purpose: str) -> None:
    """Check that a store has labels.

    Parameters
    ----------
    store : Store
        An open store.
    purpose : str
        What needs the labels, for the message.

    Raises
    ------
    SelectionError
        If no galaxy has a true class.
    """
    if not np.any(store.label >= 0):
        raise SelectionError(
            f"{store.path}: no galaxy has a true class, expected some for {purpose}"
        )


def _list_strangers(store: "Store", objids: Sequence[str]) -> list[str]:
    """List the identifiers that a store does not hold."""
    found = store.names.find(objids)
    return [objid for objid, position in zip(objids, found, strict=True) if position < 0]


def _find_objids(store: "Store", objids: tuple[str, ...]) -> NDArray[np.intp]:
    found = store.names.find(objids)
    strangers = [name for name, position in zip(objids, found, strict=True) if position < 0]
    if not strangers:
        return found
    rejected, split = store.rejected, store.record.split
    n_rejected = sum(name in rejected for name in strangers)
    if len(strangers) == 1:
        what = f"no galaxy {strangers[0]!r}"
        reasons = [f"it was left out: {rejected[name]}" for name in strangers if name in rejected]
    else:
        what = f"{len(strangers)} of {len(objids)} galaxies are not there: {shorten(strangers, 3)}"
        reasons = [f"{n_rejected} of them were left out, as the store says"] if n_rejected else []
    if n_rejected < len(strangers):
        others = f"it holds {len(store)} others"
        if store.is_subset:
            others += f", a subset of {store.whole.n_galaxies}"
        elif split != "all":
            others += f", of split {split!r}; a store of split 'all' holds every one"
        reasons.append(others)
    raise SelectionError(f"{store.path}: {what}; {'; '.join(reasons)}")
