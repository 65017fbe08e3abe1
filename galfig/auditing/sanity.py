"""Sanity: whether the network has learnt anything, and whether its maps depend on that."""

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from galfig.attribution.engine import Engine
from galfig.auditing.estimates import Estimate, Measured, bootstrap, spearman
from galfig.auditing.orders import BRIGHTNESS, MAP, score_pixels
from galfig.auditing.sample import Progress, Sample
from galfig.figures.audits import format_estimate
from galfig.metrics import compute_losses

# Times that weights are drawn, galaxies whose maps are compared, and steps of the cascade at most.
N_DRAWS, N_COMPARED, MAX_STEPS = 3, 100, 6
# Correlation up to which less than half of the variance of the ranks of a map remains.
INDEPENDENT = math.sqrt(0.5)
# Share of the entropy of the classes below which answers are nearly guesses.
MIN_SKILL = 0.05
# Galaxies explained at a time.
BATCH = 32
# Logarithm of the largest temperature, at which all probabilities are as good as equal.
_MOST_LOG_TEMPERATURE = 12.0


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Randomise the layers from the top, cascading, and compare maps and skill [1]_.

    The layers get new random weights, step by step, from the last to the first. The maps for the
    class that was predicted before are compared by the absolute value of Spearman's correlation: a
    random head is as likely to turn the sign of a map as not.

    The check is passed by two criteria, for which the critique of the test gives reason [2]_: maps
    of a network without structure change as well as any, so that a change alone shows nothing.

    1. *Skill*: the network knows something. With the mean cross-entropy :math:`\ell` over galaxies
       that did not train it and the entropy :math:`H` of their classes, the skill is
       :math:`1 - \ell / H`. A network may be too sure and yet know much, so that the logits are
       first divided by the temperature of at least 1 with which :math:`\ell` is least [3]_. The
       lower end of its interval must be above `MIN_SKILL`, and above the
       upper end of that of every network with the same layers and random weights. An untrained
       network fails, since it is one of these; so does one that was trained on permuted labels,
       since what it learnt does not hold for other galaxies. The AUC would not do: a random
       projection of colours may order galaxies well.
    2. *Dependence*: the maps need what was learnt. When all layers are random, less than half of
       the variance of the ranks may remain: the upper end of the interval of the correlation must
       be below :math:`\sqrt{1/2}`. An edge detector fails.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        The correlation after each step of the cascade. The controls are the correlations of maps
        of two random networks, and of the map with the light and with edges; ``skill`` is beside
        that of the random network with the highest, ``skill of random weights``. It passes by both
        criteria, and is undecided where no true class is known and the second holds.

    References
    ----------
    .. [1] Adebayo et al. 2018, NeurIPS, arXiv:1810.03292
    .. [2] Yona & Greenfeld 2021, arXiv:2110.14297; arXiv:2211.12486
    .. [3] Guo et al. 2017, ICML, arXiv:1706.04599
    """
    chosen = sample.spread(N_COMPARED)
    engine = sample.make_engine(sample.checkpoint.model)
    target = sample.predicted[chosen]
    images = sample.images(chosen)
    maps, _ = _explain(sample, engine, images, target)
    has_structure = np.ptp(maps, axis=(1, 2)) > 0
    if not has_structure.any():
        progress(len(sample))
        return Measured(
            name="sanity",
            notes=("All maps are constant, so that there is nothing to compare.",),
            not_supported="Constant maps show nothing of the network.",
        )
    steps = list_steps(sample.checkpoint.model)
    after = np.full((len(steps), N_DRAWS, len(chosen)), np.nan)
    random_maps, random_logits = [], []
    generator = sample.make_rng("sanity")
    for draw in range(N_DRAWS):
        seed = int(generator.integers(1 << 31))
        for number, model in enumerate(iter_randomised(sample.checkpoint.model, steps, seed)):
            cams, logits = _explain(sample, sample.make_engine(model), images, target)
            # A map that was constant before cannot change; one that becomes so has.
            after[number, draw] = np.where(
                has_structure, np.nan_to_num(np.abs(spearman(maps, cams))), np.nan
            )
        random_maps.append(cams)
        random_logits.append(logits)
        progress(len(chosen) // N_DRAWS)
    progress(len(sample) - N_DRAWS * (len(chosen) // N_DRAWS))

    def estimate(values: NDArray[np.float64]) -> Estimate:
        return bootstrap(values, seed=sample.seed)

    correlations = after.mean(axis=1)
    numbers = {
        _name_step(steps, number): estimate(values) for number, values in enumerate(correlations)
    }
    controls = {
        name: estimate(values)
        for name, values in _correlate_controls(sample, chosen, maps, random_maps).items()
    }
    depends = numbers[_name_step(steps, len(steps) - 1)].high < INDEPENDENT
    skill, random_skill = _measure_skill(sample, chosen, random_logits)
    has_skill: bool | None = None
    if skill is not None and random_skill is not None:
        numbers["skill"], controls["skill of random weights"] = skill, random_skill
        has_skill = skill.low > max(MIN_SKILL, random_skill.high)
    # What cannot be decided does not pass.
    passes = False if has_skill is False or not depends else has_skill
    return Measured(
        name="sanity",
        numbers=numbers,
        controls=controls,
        per_galaxy={"sanity_correlation": tuple(_place(correlations[-1], chosen, len(sample)))},
        notes=_write_notes(sample, chosen, depends, skill, random_skill),
        passes=passes,
        supports=(
            "The network has skill on galaxies that did not train it, and the maps lose most of "
            "their structure when what it learnt is randomised."
            if passes
            else ""
        ),
        not_supported=_write_failure(has_skill, depends),
    )


def _correlate_controls(
    sample: Sample,
    chosen: Sequence[int],
    maps: NDArray[np.float32],
    random_maps: Sequence[NDArray[np.float32]],
) -> dict[str, NDArray[np.float64]]:
    """Correlate maps of random networks with each other, and the maps with light and edges."""
    pairs = [np.abs(spearman(one, two)) for one, two in combinations(random_maps, 2)]
    scores = [
        score_pixels(cam, sample.read_pixels([number])[0].mean(axis=2))
        for cam, number in zip(maps, chosen, strict=True)
    ]
    return {
        "two random networks": np.nan_to_num(np.mean(pairs, axis=0)),
        **{
            f"the map and {words}": np.array(
                [np.nan_to_num(np.abs(spearman(one[MAP], one[key]))) for one in scores]
            )
            for key, words in ((BRIGHTNESS, "the light"), ("edges", "edges"))
        },
    }


def list_steps(model: nn.Module) -> list[list[str]]:
    """List the modules with weights of their own, from the last to the first, in a few steps.

    Norms are randomised together with the layer before them.

    Parameters
    ----------
    model : torch.nn.Module
        The network.

    Returns
    -------
    list of list of str
        Names of modules that get random weights in each step; at most ``MAX_STEPS`` steps.
    """
    groups: list[list[str]] = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        # Norms have no weights of more than one dimension.
        if not groups or any(parameter.ndim > 1 for parameter in own):
            groups.append([name])
        else:
            groups[-1].append(name)
    n_steps = min(MAX_STEPS, len(groups))
    bounds = np.linspace(0, len(groups), n_steps + 1).round().astype(int)
    steps = [
        [name for group in groups[start:stop] for name in group] for start, stop in pairwise(bounds)
    ]
    return steps[::-1]


def iter_randomised(
    model: nn.Module, steps: Sequence[Sequence[str]], seed: int
) -> Iterator[nn.Module]:
    """Randomise a network step by step; each step leaves those before it random.

    Parameters
    ----------
    model : torch.nn.Module
        The network, which stays as it is.
    steps : sequence of sequence of str
        From `list_steps`.
    seed : int
        Seed of the weights.

    Yields
    ------
    torch.nn.Module
        A copy on the CPU, in evaluation mode. Modules that know how to begin do so, statistics of
        batch norms included; parameters of others are shuffled.
    """
    # Drawn on the CPU, so that weights and seeds elsewhere do not depend on the device.
    copied = copy.deepcopy(model).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for step in steps:
            for name in step:
                _randomise(copied.get_submodule(name))
            state = torch.get_rng_state()
            yield copy.deepcopy(copied).eval()
            # The caller may draw, too.
            torch.set_rng_state(state)


def _randomise(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            order = torch.randperm(parameter.numel())
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _explain(
    sample: Sample, engine: Engine, images: Tensor, target: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the maps of images for their classes, and their logits."""
    batches = [sample.explain(part, engine) for part in images.split(BATCH)]
    cams = np.concatenate([batch.cams.numpy() for batch in batches])
    logits = np.concatenate([batch.logits.numpy() for batch in batches])
    return cams[np.arange(len(cams)), target], logits


def _measure_skill(
    sample: Sample, chosen: Sequence[int], random_logits: Sequence[NDArray[np.float32]]
) -> tuple[Estimate | None, Estimate | None]:
    """Return the skill of the network, and that of the best random one; None without classes."""
    labels = sample.labels
    entropy = compute_entropy(labels[labels >= 0])
    if entropy == 0 or not (labels[chosen] >= 0).any():
        return None, None
    found = [
        1 - compute_losses(soften(logits, labels[rows]), labels[rows]) / entropy
        for logits, rows in (
            (sample.store.logits[sample.rows], np.arange(len(sample))),
            *((logits, np.asarray(chosen)) for logits in random_logits),
        )
    ]
    estimates = [bootstrap(values, seed=sample.seed) for values in found]
    return estimates[0], max(estimates[1:], key=lambda one: one.high)


def soften(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Divide logits by the temperature, at least 1, with which the mean cross-entropy is least.

    It makes a network less sure, and never surer: one without skill ends at equal probabilities.

    Parameters
    ----------
    logits : (n, C) ndarray of float
        Logits.
    labels : (n,) ndarray of int
        True classes, of which at least one is known; -1 where it is not.

    Returns
    -------
    (n, C) ndarray of float64
    """
    wide = np.asarray(logits, np.float64)

    def lose(log_temperature: float) -> float:
        return float(np.nanmean(compute_losses(wide / math.exp(log_temperature), labels)))

    found = minimize_scalar(lose, bounds=(0.0, _MOST_LOG_TEMPERATURE), method="bounded")
    # The search stops short of its bounds.
    best = min((0.0, float(found.x), _MOST_LOG_TEMPERATURE), key=lose)
    return wide / math.exp(best)


def compute_entropy(labels: NDArray[np.int64]) -> float:
    """Return the entropy of the classes of galaxies [nat]; 0 where there is one class, or none.

    Parameters
    ----------
    labels : (n,) ndarray of int
        Classes, each 0 or above.

    Returns
    -------
    float
    """
    if not len(labels):
        return 0.0
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _place(values: NDArray[np.float64], chosen: Sequence[int], n: int) -> list[float]:
    placed = np.full(n, np.nan)
    placed[list(chosen)] = values
    return placed.tolist()


def _name_step(steps: Sequence[Sequence[str]], number: int) -> str:
    last = steps[number][0].partition(".")[0] if len(steps) <= 4 else steps[number][0]
    if number == len(steps) - 1:
        return f"from the top to {last}: all layers"
    return f"from the top to {last}"


def _write_notes(
    sample: Sample,
    chosen: Sequence[int],
    depends: bool,
    skill: Estimate | None,
    random_skill: Estimate | None,
) -> tuple[str, ...]:
    notes = [
        f"Correlations are absolute values, means over {N_DRAWS} draws of weights, of "
        f"{len(chosen)} galaxies" + (" and the first network." if len(sample.networks) > 1 else ".")
    ]
    if skill is not None and random_skill is not None:
        notes.append(
            f"The skill of the network, 1 - cross-entropy / entropy of the classes, once it is no "
            f"surer than it should be, is {format_estimate(skill)}; the best of {N_DRAWS} networks "
            f"with random weights has {format_estimate(random_skill)}."
        )
    else:
        notes.append("Too few true classes are known to measure the skill of the network.")
    if not depends:
        notes.append(
            f"With all layers random, the correlation is not clearly below {INDEPENDENT:.2f}."
        )
    return tuple(notes)


def _write_failure(has_skill: bool | None, depends: bool) -> str:
    found = []
    if has_skill is False:
        found.append(
            "The network is not clearly better on these galaxies than one with random weights or "
            "the frequencies of the classes, so that its maps explain nothing that was learnt."
        )
    if not depends:
        found.append(
            "The maps stay much the same when all weights are random, so that they show the image "
            "and not what was learnt."
        )
    return " ".join(found)
