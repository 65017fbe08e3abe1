"""Score: maps of any library against the component that decides, minus what trivial maps reach."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from galfig.auditing.estimates import Estimate, bootstrap
from galfig.errors import ScoreError
from galfig.runtime.messages import require_choice, shorten
from galfig.runtime.progress import track
from galfig.truth.known import Truth, load_truth
from galfig.truth.maps import Maps, load_maps
from galfig.truth.measures import (
    BASELINES,
    MEASURES,
    draw_baselines,
    fit_map,
    score_map,
    share_inside,
)

Part = Literal["positive", "absolute"]
TRUE, CONTRAST = "true", "contrast"
# Fewer maps give intervals that mean nothing.
_FEW = 10
# Why a map is left out.
_NOT_FINITE, _OUTSIDE = "maps that are not finite", "galaxies without the component in the map"
# The baselines in a sentence.
_WORDS = {"centre dot": "a centre dot", "brightness": "brightness", "random": "random maps"}


class Score(BaseModel):
    """What maps are worth on galaxies whose deciding component is known.

    Attributes
    ----------
    cue, seed, digest
        The galaxies; see `galfig.records.TruthRecord`.
    of, part : str
        Which map of a galaxy was scored, and which part of it.
    n_galaxies, n_maps, n_scored : int
        Number of galaxies with known truth, of maps, and of those that were scored.
    left_out : dict of str to int
        How many maps or galaxies were left out, by reason.
    n_empty : int
        Number of scored maps without a positive value, which count as constant maps.
    scores : dict of str to Estimate
        Mass accuracy, rank accuracy and pointing game of the maps.
    baselines : dict of str to dict of str to Estimate
        By baseline and measure, the score of the centre dot, of brightness and of random.
    excess : dict of str to dict of str to Estimate
        By baseline and measure, the score of the maps minus that of the baseline.
    shares : dict of str to Estimate
        By component, the share of attribution of either sign on it.
    areas : dict of str to float
        By component, its mean share of the area.
    over_area : dict of str to Estimate
        By component, the share of attribution minus that of the area.
    lit_up : list of str
        Components that tell nothing of the class by themselves, and that the maps light up.
    verdict : list of str
        Plain sentences.
    """

    model_config = ConfigDict(frozen=True)

    cue: str
    seed: int
    digest: str
    of: str
    part: str
    n_galaxies: int
    n_maps: int
    n_scored: int
    left_out: dict[str, int]
    n_empty: int
    scores: dict[str, Estimate]
    baselines: dict[str, dict[str, Estimate]]
    excess: dict[str, dict[str, Estimate]]
    shares: dict[str, Estimate]
    areas: dict[str, float]
    over_area: dict[str, Estimate]
    lit_up: list[str]
    verdict: list[str]

    def __str__(self) -> str:
        from galfig.truth.table import write_table

        return write_table(self)


def score(
    maps: Path | str | NDArray[np.floating],
    truth: Path | str | Truth,
    *,
    objid: Sequence[str] | None = None,
    of: str = TRUE,
    part: Part = "positive",
    cutout_size: int | None = None,
    seed: int = 0,
) -> Score:
    """Score maps of any library on galaxies whose deciding component is known.

    Parameters
    ----------
    maps : Path, str or (n, h, w) or (n, C, h, w) ndarray of float
        A store of galfig; a ``.npy`` with one array in the order of the catalog; a ``.npz`` with
        the arrays ``maps`` and ``objid``; or the maps themselves. Maps at another resolution than
        the masks are brought to theirs; see `galfig.truth.measures.fit_map`.
    truth : Path, str or Truth
        Folder that `galfig.simulate` wrote with ``cue``; or `galfig.truth.known.load_truth` of it.
    objid : (n,) sequence of str, optional
        Identifiers of maps in an array or a ``.npy``, if they are not those of the whole catalog
        in its order.
    of : str, default "true"
        With one map per class, which of them: that of the "true" class; "contrast", that map minus
        the mean of the others; or a class by its name. A single map per galaxy is taken as it is.
    part : {"positive", "absolute"}, default "positive"
        What counts as attribution: positive values, or both signs.
    cutout_size : int, optional
        Side of the central part of the image that the maps cover [pixels]; by default the whole
        image or, of a store, its cutouts.
    seed : int, default 0
        Seed of the bootstrap.

    Returns
    -------
    Score

    Raises
    ------
    ScoreError
        If a file cannot be read, contradicts another, or no map can be scored.
    CatalogError, StoreError
        If the catalog or the store cannot be read.
    ConfigError
        If ``part`` is none of its choices.
    """
    require_choice("part", part, get_args(Part))
    known = truth if isinstance(truth, Truth) else load_truth(truth)
    with closing(load_maps(maps, objid)) as found:
        positions, left_out = _match(found, known)
        center = _find_center(cutout_size or found.cutout_size or known.record.size, known)
        choose = _Chooser(found, known, of)
        measured: list[_Measured] = []
        reasons = dict.fromkeys((_NOT_FINITE, _OUTSIDE), 0)
        galaxies = track(known.iter_galaxies(), "scoring", len(known.objid), "galaxies")
        for index, (cutout, masks) in enumerate(galaxies):
            if index not in positions:
                continue
            attribution = choose(positions[index], int(known.label[index]))
            inside = {name: mask[center, center] for name, mask in masks.items()}
            if not np.isfinite(attribution).all():
                reasons[_NOT_FINITE] += 1
            elif not all(0 < mask.sum() < mask.size for mask in inside.values()):
                reasons[_OUTSIDE] += 1
            else:
                measured.append(_measure(attribution, cutout[center, center], inside, known, part))
    left_out |= {reason: n for reason, n in reasons.items() if n}
    if not measured:
        raise ScoreError(f"{known.folder}: no map can be scored ({_list_reasons(left_out)})")
    of_class = of if len(found.shape) == 4 else ""
    return _summarise(found.shape[0], known, of_class, part, left_out, measured, seed)


def _find_center(side: int, truth: Truth) -> slice:
    """Return the central part of an image that maps cover, along either axis."""
    if not 1 <= side <= truth.record.size:
        raise ScoreError(
            f"`cutout_size` {side}: expected at most {truth.record.size}, the side of the images"
        )
    start = (truth.record.size - side) // 2
    return slice(start, start + side)


class _Measured(NamedTuple):
    """What is measured of the map of a galaxy.

    Attributes
    ----------
    scores : (4, 3) ndarray of float64
        Of the map and of each of `BASELINES`, by measure.
    shares, areas : list of float
        Of each component, the share of attribution on it, and that of the area.
    is_empty : bool
        Whether the map has no positive value.
    """

    scores: NDArray[np.float64]
    shares: list[float]
    areas: list[float]
    is_empty: bool


def _measure(
    attribution: NDArray[np.float64],
    cutout: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    truth: Truth,
    part: Part,
) -> _Measured:
    """Compare the map of a galaxy, and trivial maps, with the masks of its components."""
    fitted = fit_map(attribution, len(cutout))
    fitted = np.abs(fitted) if part == "absolute" else fitted
    decides = np.any(
        [mask for name, mask in masks.items() if truth.record.components[name]], axis=0
    )
    trivial = draw_baselines(cutout)
    return _Measured(
        np.stack([score_map(one, decides) for one in (fitted, *(trivial[b] for b in BASELINES))]),
        [share_inside(fitted, mask) for mask in masks.values()],
        [float(mask.mean()) for mask in masks.values()],
        not np.any(fitted > 0),
    )


def _match(maps: Maps, truth: Truth) -> tuple[dict[int, int], dict[str, int]]:
    """Return the position of the map of each galaxy that has one, and count the others."""
    n = maps.shape[0]
    if maps.objid is None:
        if n != len(truth.objid):
            raise ScoreError(
                f"{n} maps without identifiers, expected {len(truth.objid)}, in the order of "
                f"{truth.folder / 'catalog.csv'}; or a .npz with maps and objid"
            )
        return dict(enumerate(range(n))), {}
    at = {objid: position for position, objid in enumerate(maps.objid)}
    if len(at) < n:
        twice = sorted(objid for objid, count in Counter(maps.objid).items() if count > 1)
        raise ScoreError(f"objid {shorten(twice, 3)} twice among the maps, expected each once")
    found = {index: at[objid] for index, objid in enumerate(truth.objid) if objid in at}
    if not found:
        raise ScoreError(
            f"no map has an objid of {truth.folder / 'catalog.csv'}: found "
            f"{shorten(maps.objid, 2)}, expected such as {shorten(truth.objid, 2)}"
        )
    counts = {
        "maps of other galaxies": n - len(found),
        "galaxies without a map": len(truth.objid) - len(found),
    }
    return found, {reason: count for reason, count in counts.items() if count}


class _Chooser:
    """Chooses the map of a galaxy that is scored."""

    def __init__(self, maps: Maps, truth: Truth, of: str) -> None:
        names = truth.record.class_names
        self._maps, self._of, self._fixed = maps, of, None
        if len(maps.shape) == 3:
            return
        of_maps = maps.class_names or names
        if maps.shape[1] != len(of_maps) or set(of_maps) != set(names):
            named = f" ({shorten(list(of_maps))})" if maps.class_names else ""
            raise ScoreError(
                f"maps of the shape {tuple(maps.shape)}: {maps.shape[1]} classes{named}, expected "
                f"(n, C, h, w) with the C = {len(names)} classes {shorten(list(names))}, or "
                "(n, h, w) with one map per galaxy"
            )
        # The position of each of the truth's classes among the maps.
        self._positions = [of_maps.index(name) for name in names]
        if of in names:
            self._fixed = of_maps.index(of)
        elif of not in (TRUE, CONTRAST):
            expected = shorten([TRUE, CONTRAST, *names])
            raise ScoreError(f"`of` {of!r}: expected one of {expected}")

    def __call__(self, position: int, label: int) -> NDArray[np.float64]:
        maps = np.asarray(self._maps.read(position), np.float64)
        # No score depends on the scale, and sums of the largest floats would overflow.
        largest = np.abs(maps).max()
        if np.isfinite(largest) and largest > 0:
            maps = maps / largest
        if maps.ndim == 2:
            return maps
        own = self._positions[label] if self._fixed is None else self._fixed
        if self._of != CONTRAST:
            return maps[own]
        # Maps that are not finite are counted by the caller.
        with np.errstate(invalid="ignore"):
            return maps[own] - np.delete(maps, own, axis=0).mean(axis=0)


def _summarise(
    n_maps: int,
    truth: Truth,
    of: str,
    part: str,
    left_out: dict[str, int],
    measured: Sequence[_Measured],
    seed: int,
) -> Score:
    """Estimate all numbers from those of each galaxy."""
    rows, shares, areas = (
        np.array([getattr(one, name) for one in measured]) for name in ("scores", "shares", "areas")
    )

    def estimate(values: NDArray[np.float64]) -> Estimate:
        return bootstrap(values, seed=seed)

    scores = {name: estimate(rows[:, 0, m]) for m, name in enumerate(MEASURES)}
    baselines = {
        baseline: {name: estimate(rows[:, b + 1, m]) for m, name in enumerate(MEASURES)}
        for b, baseline in enumerate(BASELINES)
    }
    excess = {
        baseline: {
            name: estimate(rows[:, 0, m] - rows[:, b + 1, m]) for m, name in enumerate(MEASURES)
        }
        for b, baseline in enumerate(BASELINES)
    }
    names = list(truth.record.components)
    over_area = {name: estimate(shares[:, k] - areas[:, k]) for k, name in enumerate(names)}
    share = {name: estimate(shares[:, k]) for k, name in enumerate(names)}
    area = {name: float(areas[:, k].mean()) for k, name in enumerate(names)}
    misleading = [name for name, shows in truth.record.components.items() if not shows]
    lit_up = [name for name in misleading if over_area[name].low > 0]
    return Score(
        cue=truth.record.cue,
        seed=truth.record.seed,
        digest=truth.record.digest,
        of=of,
        part=part,
        n_galaxies=len(truth.objid),
        n_maps=n_maps,
        n_scored=len(rows),
        left_out=left_out,
        n_empty=sum(one.is_empty for one in measured),
        scores=scores,
        baselines=baselines,
        excess=excess,
        shares=share,
        areas=area,
        over_area=over_area,
        lit_up=lit_up,
        verdict=_judge(truth, excess, share, area, over_area, len(rows)),
    )


def _judge(
    truth: Truth,
    excess: dict[str, dict[str, Estimate]],
    share: dict[str, Estimate],
    area: dict[str, float],
    over_area: dict[str, Estimate],
    n: int,
) -> list[str]:
    """Say in plain sentences what the maps of n galaxies show and what they do not."""
    components = [name for name, shows in truth.record.components.items() if shows]
    deciding = " and ".join(components)
    missed = [name for name in components if over_area[name].low <= 0]
    # The pointing game is one pixel of each galaxy; the other two use the whole map.
    judged = MEASURES[:2]
    behind = [
        baseline
        for baseline in BASELINES
        if not all(excess[baseline][measure].low > 0 for measure in judged)
    ]
    if behind:
        sentences = [
            f"These maps do not clearly find what decides the class ({deciding}): by mass accuracy "
            "or by rank accuracy they are not clearly better than "
            f"{' or '.join(_WORDS[one] for one in behind)}."
        ]
    elif missed:
        sentences = [
            f"These maps find only a part of what decides the class ({deciding}): they do not "
            f"clearly show the {' or '.join(missed)}."
        ]
    else:
        sentences = [
            f"These maps find what decides the class ({deciding}): by mass accuracy and by rank "
            "accuracy they are better than a centre dot, brightness and chance."
        ]
        if truth.record.cue == "corner":
            sentences.append(
                "It lies in the corner, away from the galaxy: the network follows a shortcut, and "
                "the maps show it."
            )
    for name in (name for name, shows in truth.record.components.items() if not shows):
        found = (
            f"{100 * share[name].value:.1f} % of the absolute attribution on "
            f"{100 * area[name]:.1f} % of the area"
        )
        if over_area[name].low > 0:
            sentences.append(
                f"These maps light up the {name}, which says nothing of the class by itself: "
                f"{found}. A map that does so is wrong, even if the network uses that component."
            )
        else:
            clearly = "" if over_area[name].high < 0 else "clearly "
            sentences.append(f"These maps do not {clearly}light up the {name}: {found}.")
    if n < _FEW:
        sentences.append(
            f"Only {n} {'map was' if n == 1 else 'maps were'} scored, too few to trust the "
            f"intervals; score {_FEW} or more."
        )
    return sentences


def _list_reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in left_out.items())
