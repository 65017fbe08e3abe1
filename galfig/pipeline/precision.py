"""Precision: may a build compute in bfloat16, and what would that change?

Some processors and most GPUs multiply in bfloat16 two to three times as fast as in float32, others
only emulate it. It keeps eight bits of each number. What that does to maps and classes depends on
the network and its galaxies, so that both are measured before a build.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from galfig.attribution.engine import Engine
from galfig.catalog.galaxies import Galaxies
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.shift import draw_rows, read_batches

logger = logging.getLogger(__name__)

# Galaxies that are explained at both precisions.
N_COMPARED = 512
# bfloat16 has to be faster by this factor. Where it is emulated, it is several times slower.
LEAST_GAIN = 1.25
# A comparison saves time in plans of n (g + 1) / (g - 1) galaxies, for a gain g.
LEAST_GALAXIES = round(N_COMPARED * (LEAST_GAIN + 1) / (LEAST_GAIN - 1))
# Largest share of galaxies whose class may change.
LARGEST_CHANGED = 1e-3
# Of the maps, 95 % may be off by this share of their largest value.
LARGEST_MAP_ERROR = 0.05
# Margins are counted up to this many times what those at the border lose on average.
WINDOW = 64
# Images that are explained at a time; so many tell how fast a processor or a GPU is.
N_TOGETHER = 64


class Compared(NamedTuple):
    """Images explained in float32 and at another precision.

    Attributes
    ----------
    logits, other_logits : (N, C) ndarray of float64
        Logits in float32 and at the other precision.
    map_errors : (N,) ndarray of float64
        Largest change of the maps of an image, relative to their largest value.
    """

    logits: NDArray[np.float64]
    other_logits: NDArray[np.float64]
    map_errors: NDArray[np.float64]


def choose_precision(
    engines: Sequence[Engine],
    checkpoint: Checkpoint,
    galaxies: Galaxies,
    decoding: Decoding,
) -> dict[str, Any]:
    """Set engines to bfloat16 if that is faster here and agrees with float32; otherwise float32.

    Galaxies are drawn from all of the plan with a fixed seed, so that builds of one plan, on
    machines of one kind, choose the same.

    Parameters
    ----------
    engines : sequence of Engine
        The engine of each network, proven; their precision is set.
    checkpoint : Checkpoint
        The network, or an ensemble of several.
    galaxies : Galaxies
        The galaxies to explain.
    decoding : Decoding
        How image files become pixels.

    Returns
    -------
    dict
        ``chosen``, "bfloat16" or "float32"; ``reason``, why not bfloat16, or ""; and, if galaxies
        were compared, the numbers of `summarise`: of an ensemble, the largest of each.

    Raises
    ------
    LostCutoutError
        If an image has disappeared.
    """
    found: dict[str, Any] = {}
    try:
        reason = ""
        if len(galaxies) < LEAST_GALAXIES:
            reason = (
                f"{len(galaxies)} galaxies, expected {LEAST_GALAXIES} or more: to compare "
                f"{N_COMPARED} would take longer than it saves"
            )
        else:
            for engine, network in zip(engines, checkpoint.networks, strict=True):
                reason, numbers = _compare(engine, network, galaxies, decoding)
                found = {key: max(found.get(key, 0), value) for key, value in numbers.items()}
                if reason:
                    break
    finally:
        for engine in engines:
            engine.set_precision("float32")
    if not reason:
        for engine in engines:
            engine.set_precision("bfloat16")
    chosen = {"chosen": "float32" if reason else "bfloat16", "reason": reason, **found}
    logger.info("precision: %s", describe_choice(chosen))
    return chosen


def describe_choice(chosen: dict[str, Any]) -> str:
    """Say in one line which precision was chosen, and why or what it changes."""
    words = str(chosen["chosen"])
    if chosen["reason"]:
        words += f" ({chosen['reason']})"
    if "n" not in chosen:
        return words
    return (
        f"{words}; on {chosen['n']} galaxies, bfloat16 changed {chosen['n_changed']} classes "
        f"(at most {100 * chosen['changed_at_most']:.2g} % are expected to), logits by "
        f"{chosen['logit_error']:.2g} at most, and maps by {chosen['map_error']:.2g} of their "
        f"largest value in the median, {chosen['largest_map_error']:.2g} at most"
    )


def _compare(
    engine: Engine, checkpoint: Checkpoint, galaxies: Galaxies, decoding: Decoding
) -> tuple[str, dict[str, float]]:
    """Return why one network must not run in bfloat16, or "", and how far it agrees."""
    sample = galaxies.take(draw_rows(np.ones(len(galaxies), bool), N_COMPARED))
    compared: list[Compared] = []
    for images in _read_images(sample, checkpoint, decoding):
        try:
            if not compared:
                gain = measure_gain(engine, images)
                logger.debug("precision: bfloat16 is %.2f times as fast as float32", gain)
                if gain < LEAST_GAIN:
                    return "bfloat16 is not faster on this machine", {}
            compared.append(_explain_both(engine, images))
        except (RuntimeError, ValueError) as exc:
            if isinstance(exc, torch.OutOfMemoryError):
                raise
            logger.debug("precision: %s", exc)
            return "the network does not run in bfloat16", {}
        if not all(np.isfinite(array).all() for array in compared[-1]):
            return "some maps or logits are not finite", {}
    if not compared:
        return "no image can be read", {}
    numbers = summarise(Compared(*map(np.concatenate, zip(*compared, strict=True))))
    return judge(numbers), numbers


def _read_images(
    galaxies: Galaxies, checkpoint: Checkpoint, decoding: Decoding
) -> Iterator[torch.Tensor]:
    """Yield normalised images of the galaxies that have one, `N_TOGETHER` at a time."""
    held: list[NDArray[np.uint8]] = []
    for _, _, cutouts in read_batches(galaxies.paths, checkpoint, decoding):
        held.extend(cutouts)
        if len(held) >= N_TOGETHER:
            yield checkpoint.normalise(np.stack(held))
            held = []
    if held:
        yield checkpoint.normalise(np.stack(held))


def measure_gain(engine: Engine, images: torch.Tensor) -> float:
    """Measure how many times as fast as in float32 an engine is in bfloat16.

    Parameters
    ----------
    engine : Engine
        The engine; its precision changes.
    images : (N, n_channels, H, W) Tensor of float32
        Normalised cutouts.

    Returns
    -------
    float
        The ratio. On a CPU it is that of processor time, so that other programs hardly matter.
    """
    clock = time.process_time if engine.device.type == "cpu" else time.perf_counter
    seconds = []
    for precision in ("float32", "bfloat16"):
        engine.set_precision(precision)
        # The first run prepares weights, and starts threads.
        engine(images[:8])
        start = clock()
        # Waits for a GPU.
        engine(images).logits.cpu()
        seconds.append(clock() - start)
    return seconds[0] / max(seconds[1], 1e-9)


def _explain_both(engine: Engine, images: torch.Tensor) -> Compared:
    """Explain images in float32 and in bfloat16."""
    engine.set_precision("float32")
    exact = engine(images)
    engine.set_precision("bfloat16")
    other = engine(images)
    peak = exact.cams.abs().amax(dim=(1, 2, 3))
    errors = (other.cams - exact.cams).abs().amax(dim=(1, 2, 3))
    # Where a map is zero throughout, so should the other be.
    errors = torch.where(errors == 0, 0, errors / peak)
    return Compared(
        *(array.double().cpu().numpy() for array in (exact.logits, other.logits, errors))
    )


def summarise(compared: Compared) -> dict[str, float]:
    """Return how far maps and logits at another precision differ.

    Parameters
    ----------
    compared : Compared
        Logits and errors of N images.

    Returns
    -------
    dict of str to float
        ``n`` images; ``n_changed``, of which the predicted class changed; ``changed_at_most``,
        from `bound_changes`; ``logit_error``, the largest change of a logit; and ``map_error``,
        ``map_error_95`` and ``largest_map_error``: median, 95th percentile and maximum of the
        largest change of a map, relative to its largest value.
    """
    exact, other = compared.logits, compared.other_logits
    # The two classes with the largest logits; the same two at the other precision.
    first_two = np.argsort(-exact, axis=1)[:, :2]
    margins, others = (
        -np.diff(np.take_along_axis(logits, first_two, axis=1), axis=1)[:, 0]
        for logits in (exact, other)
    )
    median, most, largest = np.quantile(compared.map_errors, (0.5, 0.95, 1))
    return {
        "n": len(exact),
        "n_changed": int(np.sum(exact.argmax(axis=1) != other.argmax(axis=1))),
        "changed_at_most": bound_changes(margins, margins - others),
        "logit_error": float(np.abs(other - exact).max()),
        "map_error": float(median),
        "map_error_95": float(most),
        "largest_map_error": float(largest),
    }


def bound_changes(margins: NDArray[np.float64], changes: NDArray[np.float64]) -> float:
    r"""Bound the share of galaxies whose class changes, from few of which none may change.

    A class changes where a galaxy's margin, the difference of its two largest logits, is less than
    what it loses. That is rare, but the share follows from two things that are not: the density
    :math:`f` of margins near zero, and changes :math:`d` of the difference. If these do not depend
    on the difference, half of the galaxies at the border change towards it, also where all change
    towards one class:

    .. math:: P = f(0) E[|d|] / 2.

    The density is that of the margins below `WINDOW` times :math:`E[|d|] / 2`, and taken to be no
    larger at zero than in that window. The bound holds in 95 of 100 samples: for :math:`k` margins
    in the window, the largest Poisson mean (Garwood 1936, Biometrika 28, 437). No sample of n
    galaxies gives less than 3 / (64 n); from changes alone it would be 3 / n.

    Parameters
    ----------
    margins : (N,) ndarray of float64
        Difference of the two largest logits.
    changes : (N,) ndarray of float64
        By how much this difference changes at the other precision.

    Returns
    -------
    float
        Upper limit of the share, at most 1.
    """
    loss = float(np.abs(changes).mean()) / 2
    n_near = int(np.sum(margins <= WINDOW * loss))
    expected = float(chi2.ppf(0.95, 2 * (n_near + 1))) / 2
    return min(1.0, expected / (WINDOW * len(margins)))


def judge(numbers: dict[str, float]) -> str:
    """Return why the numbers of `summarise` forbid bfloat16, or ""."""
    if numbers["n_changed"] > LARGEST_CHANGED * numbers["n"]:
        return "bfloat16 changes too many classes"
    if numbers["changed_at_most"] > LARGEST_CHANGED:
        return "too many galaxies lie near the border between two classes"
    if numbers["map_error_95"] > LARGEST_MAP_ERROR:
        return "bfloat16 changes the maps too much"
    return ""
