"""Retraining: whether the maps need that the network was told the true classes."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from galfig.attribution.engine import Engine
from galfig.auditing.estimates import Estimate, Measured, bootstrap, spearman
from galfig.auditing.sample import CHUNK, Progress, Sample
from galfig.auditing.sanity import MIN_SKILL, compute_entropy
from galfig.config import Settings
from galfig.errors import ConfigError
from galfig.metrics import compute_interval_factor, compute_losses
from galfig.networks.checkpoint import normalise
from galfig.networks.device import choose_device
from galfig.networks.families import OWN
from galfig.networks.training import check_trainable, fit_model

# Pairs of networks that are trained. It is even, since each half of the galaxies trains in turn.
N_PAIRS = 6
# Galaxies that are used at most, and the fewest of a class, of which half train a network.
MAX_USED, MIN_IN_CLASS = 1000, 10
# A half has fewer galaxies than the catalog, and trains for more epochs: at most so many times.
MAX_LONGER = 10
# Skill that a network can have by leaning to the true classes by chance: 0.06 where it gives them
# 52 % in place of 50 %. A leak gives far more.
MAX_LEAN = 0.2
_DIVERGED = "Nothing is decided: by the recipe of the network, a training on half of them diverged."


class Compared(NamedTuple):
    """What the networks of a pair make of some galaxies.

    Attributes
    ----------
    true, permuted : (m,) ndarray of float64
        Absolute correlation of the map of the store with that of the network that was told true,
        or permuted, classes.
    both : (m,) ndarray of float64
        That of the maps of the two networks.
    true_loss, permuted_loss : (m,) ndarray of float64
        Cross-entropy of the true class [nat].
    """

    true: NDArray[np.float64]
    permuted: NDArray[np.float64]
    both: NDArray[np.float64]
    true_loss: NDArray[np.float64]
    permuted_loss: NDArray[np.float64]


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Train the network anew with true and with permuted classes, and compare the maps [1]_.

    The galaxies are halved at random, with the same classes in both halves. On one half, two
    networks are trained by the recipe of the audited one, from the same random weights and in the
    same order: one is told the true classes, the other permuted ones. Both explain the other half.
    Then the halves change places, and all is done again with another division. Seeds other than
    that of the audited network are used, with which it would share its first weights.

    Classes are permuted so that the galaxies of each true class are told all classes in the same
    shares, to the rounding. A plain permutation of a few galaxies agrees with the truth by chance,
    more or less, and a network learns that.

    With :math:`M` the map of the store for the predicted class, and :math:`M_t`, :math:`M_p` those
    of the networks that were told true and permuted classes, the *lead* is
    :math:`|\rho(M, M_t)| - |\rho(M, M_p)|`, by Spearman's correlation. A correlation with
    :math:`M_p` alone would say little: all maps of one image share what the image imposes, such as
    a bright galaxy on an empty sky, whatever was learnt, so that a high one condemns good maps and
    noise passes with a low one [2]_, [3]_. That share is the same in both terms, and the lead is
    what the truth of the classes adds. It is passed if the lead is above zero, it fails if not.

    Two intervals must lie above zero, since galaxies are many and networks are few: that of the
    bootstrap over galaxies, and that of Student's t over the `N_PAIRS` pairs of networks. Of maps
    that do not depend on the classes, the leads of pairs have either sign, and one in forty sets
    of pairs passes by chance. If only the first lies above zero, too few networks were trained to
    decide. All numbers have the wider of the two intervals: a network that was told nothing leans
    to one class or the other by what was left to chance, and so do all galaxies at once.

    Nothing is decided where the comparison means nothing: if the networks that were told the truth
    have no skill, as `galfig.auditing.sanity.measure` defines it, since half of the galaxies are
    too few to learn from, or the classes are wrong; or if those that were told permuted classes
    have more than `MAX_LEAN`, which only a leak between the halves can give.

    Parameters
    ----------
    sample : Sample
        The galaxies. Those of unknown class are left out.
    progress : callable, optional
        Called with the number of galaxies done since the last call, as the training goes on.

    Returns
    -------
    Measured
        ``permuted classes``, the mean of :math:`|\rho(M, M_p)|`, and the ``lead``. The controls are
        ``true classes``, the mean of :math:`|\rho(M, M_t)|`; ``true and permuted``, that of
        :math:`|\rho(M_t, M_p)|`; and the ``skill`` of both kinds of networks.

    Raises
    ------
    ConfigError
        If galfig did not train the network, it started from weights that are not in the checkpoint,
        a class has too few galaxies, or a step of the training does not fit in the memory.

    References
    ----------
    .. [1] Adebayo et al. 2018, NeurIPS, arXiv:1810.03292, the data randomization test
    .. [2] Yona & Greenfeld 2021, arXiv:2110.14297
    .. [3] Binder et al. 2023, CVPR, arXiv:2211.12486
    """
    settings = read_recipe(sample)
    used, labels = choose_galaxies(sample)
    chunks = [used[start : start + CHUNK] for start in range(0, len(used), CHUNK)]
    pixels = np.concatenate([sample.read_pixels(chunk.tolist()) for chunk in chunks])
    n_trained = sum((sample.checkpoint.record.n_train or {}).values())
    settings = stretch_epochs(settings, n_trained, len(used) // 2)
    step = _Steps(progress, 2 * N_PAIRS * settings.training.epochs, len(sample))
    found = np.full((N_PAIRS, len(Compared._fields), len(used)), np.nan)
    for pair in range(N_PAIRS):
        in_train = divide(labels, sample.make_rng(f"halves {pair // 2}")) ^ bool(pair % 2)
        trained = _train_pair(sample, settings, pixels, labels, in_train, pair, step)
        if trained is None:
            return Measured(name="retraining", notes=(_DIVERGED,))
        others = np.flatnonzero(~in_train)
        for start in range(0, len(others), CHUNK):
            part = others[start : start + CHUNK]
            compared = _compare(sample, trained, pixels[part], used[part], labels[part])
            found[pair, :, part] = np.stack(compared, axis=1)
    return _summarise(sample, found, used, labels, settings)


def read_recipe(sample: Sample) -> Settings:
    """Return how the audited network was trained, for images as the store holds them.

    Parameters
    ----------
    sample : Sample
        The galaxies and the network; the first of an ensemble.

    Returns
    -------
    Settings
        With the learning rate that the network had, also where the finder chose it. Random crops
        are off, since the store holds nothing beyond the cutouts.

    Raises
    ------
    ConfigError
        If galfig cannot train the network from what its checkpoint says.
    """
    path, one = sample.store.path, sample.checkpoint
    record = one.record
    advice = "leave out the measure retraining"
    if record.arch.startswith(OWN) or record.imported is not None or record.n_train is None:
        raise ConfigError(
            f"{path}: the network {record.arch} comes from elsewhere, expected one that galfig "
            f"trained and can train again; {advice}"
        )
    try:
        settings = Settings.model_validate(one.metadata.get("settings"))
    except ValidationError as exc:
        raise ConfigError(
            f"{path}: the settings in the checkpoint of its network cannot be read by this "
            f"version, expected those of its training; {advice}"
        ) from exc
    if record.start or settings.training.init is not None or settings.training.pretrained:
        # What a file names is not opened.
        raise ConfigError(
            f"{path}: the training of the network started from other weights, which its checkpoint "
            f"does not hold, expected random ones; {advice}"
        )
    if settings.n_channels != one.n_channels or record.lr is None:
        raise ConfigError(
            f"{path}: the settings in the checkpoint of its network are not those of its training "
            f"({settings.n_channels} channels, and the network sees {one.n_channels}); {advice}"
        )
    training = settings.training.model_copy(
        update={
            "arch": record.arch,
            "lr": record.lr,
            "cutout_size": record.cutout_size,
            "image_size": record.image_size,
            "crop_margin": 0,
            "networks": 1,
        }
    )
    maps = settings.maps.model_copy(update={"layer": sample.layer_name})
    return settings.model_copy(update={"training": training, "maps": maps})


def choose_galaxies(sample: Sample) -> tuple[NDArray[np.intp], NDArray[np.int16]]:
    """Choose galaxies of known class.

    Parameters
    ----------
    sample : Sample
        The galaxies.

    Returns
    -------
    used : (m,) ndarray of int
        Their numbers within the sample; at most 1000 (``MAX_USED``), spread evenly.
    labels : (m,) ndarray of int16
        Their classes.

    Raises
    ------
    ConfigError
        If a class has too few.
    """
    known = np.flatnonzero(sample.labels >= 0)
    if len(known) > MAX_USED:
        known = known[np.linspace(0, len(known) - 1, MAX_USED).round().astype(np.intp)]
    labels = sample.labels[known].astype(np.int16)
    counts = np.bincount(labels, minlength=len(sample.class_names))
    fewest = int(np.argmin(counts))
    if counts[fewest] < MIN_IN_CLASS:
        raise ConfigError(
            f"{sample.store.path}: {counts[fewest]} audited galaxies of class "
            f"{sample.class_names[fewest]!r}, expected at least {MIN_IN_CLASS}, of which half "
            "train a network; audit more galaxies, or leave out the measure retraining"
        )
    return known, labels


def stretch_epochs(settings: Settings, n_trained: int, n_train: int) -> Settings:
    """Return settings with as many epochs as give fewer galaxies about as many steps.

    Parameters
    ----------
    settings : Settings
        The recipe.
    n_trained : int
        Number of galaxies that trained the network.
    n_train : int
        Number of galaxies that train it now.

    Returns
    -------
    Settings
        With at least as many epochs as before, and at most `MAX_LONGER` times as many.
    """
    training = settings.training

    def count_steps(n: int) -> int:
        # The last, incomplete batch of an epoch is dropped.
        return max(1, n // min(training.batch_size, n))

    longer = count_steps(max(n_trained, 1)) / count_steps(n_train)
    epochs = math.ceil(training.epochs * min(max(longer, 1.0), MAX_LONGER))
    return settings.model_copy(update={"training": training.model_copy(update={"epochs": epochs})})


def divide(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Divide galaxies into two halves, with the same classes in both.

    Parameters
    ----------
    labels : (n,) ndarray of int
        Classes.
    rng : numpy.random.Generator
        Draws the halves.

    Returns
    -------
    (n,) ndarray of bool
        True for one half. The numbers of a class in the halves differ by one at most, and so do
        those of all galaxies.
    """
    # Galaxies in the order of their classes, at random within each, go to the halves in turn.
    order = np.lexsort((rng.random(len(labels)), labels))
    is_first = np.zeros(len(labels), bool)
    is_first[order[::2]] = True
    return is_first


def permute_classes(labels: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """Permute the classes of galaxies so that they say nothing of the true ones.

    Parameters
    ----------
    labels : (n,) ndarray of int16
        True classes.
    rng : numpy.random.Generator
        Draws which galaxies of a class are told which.

    Returns
    -------
    (n,) ndarray of int16
        The same classes, as often. The galaxies of each true class are told all classes in the
        same shares, to the rounding.
    """
    ordered = np.sort(labels)
    counts = np.bincount(labels)
    # Mix the classes evenly, so that each run of galaxies has all in the same shares.
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    mixed = ordered[np.argsort((rank + rng.random(len(counts))[ordered]) / counts[ordered])]
    permuted = np.empty_like(labels)
    permuted[np.lexsort((rng.random(len(labels)), labels))] = mixed
    return permuted


@dataclass(frozen=True)
class _Half:
    """A half of the galaxies, with the classes that a network is told."""

    label: NDArray[np.int16]
    class_names: tuple[str, ...]
    in_train: NDArray[np.bool_]
    in_valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.label)


class _Steps:
    """Reports epochs as the share of the galaxies that they are of all the work."""

    def __init__(self, progress: Progress, n_steps: int, n_galaxies: int) -> None:
        self._progress = progress
        self._n_steps = n_steps
        self._n_galaxies = n_galaxies
        self._n_done = 0

    def __call__(self, state: dict[str, Any] | None = None) -> None:
        before = self._n_galaxies * self._n_done // self._n_steps
        self._n_done += 1
        self._progress(self._n_galaxies * self._n_done // self._n_steps - before)


class _Pair(NamedTuple):
    """Two networks that differ in the classes that they were told, ready to explain."""

    true: Engine
    permuted: Engine
    mean: list[float]
    std: list[float]


def _train_pair(
    sample: Sample,
    settings: Settings,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int16],
    in_train: NDArray[np.bool_],
    pair: int,
    step: _Steps,
) -> _Pair | None:
    """Train the networks of a pair; None if a training diverged."""
    rng = sample.make_rng(f"retraining {pair}")
    training = settings.training.model_copy(update={"seed": int(rng.integers(2**32))})
    chosen = settings.model_copy(update={"training": training})
    permuted = labels.copy()
    permuted[in_train] = permute_classes(labels[in_train], rng)
    # The trainer wants to validate; one galaxy of each class costs nothing.
    in_valid = np.zeros(len(labels), bool)
    for label in range(len(sample.class_names)):
        in_valid[np.flatnonzero(~in_train & (labels == label))[0]] = True
    device = choose_device(sample.device)
    # The trainer learns from all that it is given and does not validate, so the others stay out.
    rows = np.flatnonzero(in_train | in_valid)
    engines = []
    for told in (labels, permuted):
        half = _Half(told[rows], sample.class_names, in_train[rows], in_valid[rows])
        check_trainable(half, chosen, device)
        model, fitted = fit_model(
            half,
            pixels[rows],
            chosen,
            device=device,
            keep=step,
            n_workers=0,
            is_shown=False,
            is_logged=False,
        )
        step()
        if not np.isfinite(fitted["history"][-1]["valid_loss"]):
            return None
        model.to(memory_format=torch.contiguous_format)
        engines.append(sample.make_engine(model))
    by_truth, by_permuted = engines
    return _Pair(by_truth, by_permuted, fitted["mean"], fitted["std"])


def _compare(
    sample: Sample,
    pair: _Pair,
    pixels: NDArray[np.uint8],
    numbers: NDArray[np.intp],
    labels: NDArray[np.int16],
) -> Compared:
    """Compare the maps of the predicted class of some galaxies, and the losses."""
    images = normalise(pixels, pair.mean, pair.std)
    target = sample.predicted[numbers]
    stored = sample.read_maps(numbers.tolist())
    true, true_loss = _explain(sample, pair.true, images, target, labels)
    permuted, permuted_loss = _explain(sample, pair.permuted, images, target, labels)
    return Compared(
        _correlate(stored, true),
        _correlate(stored, permuted),
        _correlate(true, permuted),
        true_loss,
        permuted_loss,
    )


def _correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the absolute correlation of pairs of maps; 0 where one has no structure."""
    return np.nan_to_num(np.abs(spearman(one, other)))


def _explain(
    sample: Sample,
    engine: Engine,
    images: Tensor,
    target: NDArray[np.intp],
    labels: NDArray[np.int16],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    batch = sample.explain(images, engine)
    return (
        batch.cams.numpy()[np.arange(len(images)), target],
        compute_losses(batch.logits.numpy(), labels),
    )


def _summarise(
    sample: Sample,
    found: NDArray[np.float64],
    used: NDArray[np.intp],
    labels: NDArray[np.int16],
    settings: Settings,
) -> Measured:
    """Turn what the pairs found, (N_PAIRS, 5, m), into numbers and what they say."""
    # Each galaxy is explained by half of the pairs.
    of_galaxy = Compared(*np.nanmean(found, axis=0))
    of_pair = Compared(*np.nanmean(found, axis=2).T)

    def estimate(one: NDArray[np.float64], pairs: NDArray[np.float64]) -> Estimate:
        return _widen(bootstrap(one, seed=sample.seed), pairs)

    entropy = compute_entropy(labels.astype(np.int64))
    skill, leak = (
        estimate(1 - one / entropy, 1 - pairs / entropy)
        for one, pairs in (
            (of_galaxy.true_loss, of_pair.true_loss),
            (of_galaxy.permuted_loss, of_pair.permuted_loss),
        )
    )
    leads = of_galaxy.true - of_galaxy.permuted
    lead = estimate(leads, of_pair.true - of_pair.permuted)
    over_galaxies = bootstrap(leads, seed=sample.seed)
    placed = np.full(len(sample), np.nan)
    placed[used] = leads
    passes, note = _judge(skill, leak, over_galaxies, lead)
    return Measured(
        name="retraining",
        numbers={
            "permuted classes": estimate(of_galaxy.permuted, of_pair.permuted),
            "lead": lead,
        },
        controls={
            "true classes": estimate(of_galaxy.true, of_pair.true),
            "true and permuted": estimate(of_galaxy.both, of_pair.both),
            "skill of true classes": skill,
            "skill of permuted classes": leak,
        },
        per_galaxy={"lead": tuple(placed.tolist())},
        notes=(
            f"{N_PAIRS} pairs of networks trained for {settings.training.epochs} epochs on half of "
            f"{len(used)} galaxies, and explained the other half; correlations are absolute "
            "values.",
            *list_caveats(sample),
            *([note] if note else []),
        ),
        passes=passes,
        supports=(
            "The maps resemble those of networks that learnt the true classes from other galaxies "
            "more than those of networks that were told permuted classes."
            if passes
            else ""
        ),
        not_supported=(
            "The maps resemble those of networks that were told permuted classes as much as those "
            "of networks that were told the true ones, so that they do not show what was learnt."
            if passes is False
            else ""
        ),
    )


def _widen(over_galaxies: Estimate, pairs: NDArray[np.float64]) -> Estimate:
    """Widen an interval over galaxies to that over pairs of networks, where it is wider."""
    reach = compute_interval_factor(len(pairs)) * float(pairs.std(ddof=1))
    return over_galaxies.model_copy(
        update={
            "low": min(over_galaxies.low, over_galaxies.value - reach),
            "high": max(over_galaxies.high, over_galaxies.value + reach),
        }
    )


def _judge(
    skill: Estimate, leak: Estimate, over_galaxies: Estimate, lead: Estimate
) -> tuple[bool | None, str]:
    """Return whether the check is passed, None if undecided, and a note on why."""
    if skill.low <= MIN_SKILL:
        return None, (
            "Nothing is decided: half of these galaxies do not teach a network the classes (skill "
            f"{skill.value:.3f} [{skill.low:.3f}, {skill.high:.3f}]). Audit more, if there are "
            "more; otherwise, the classes may be wrong."
        )
    if leak.low > MAX_LEAN:
        return None, (
            "Nothing is decided: networks that were told permuted classes know the true ones of "
            "other galaxies, so that something leaks from one half to the other."
        )
    if over_galaxies.low <= 0:
        return False, ""
    if lead.low <= 0:
        return None, (
            f"Nothing is decided: the lead is above zero for these {N_PAIRS} pairs of networks, "
            "but differs so much between them that other pairs may have none."
        )
    return True, ""


def list_caveats(sample: Sample) -> list[str]:
    """Return how the recipe differs from that of the audited network, as notes."""
    notes = []
    original = Settings.model_validate(sample.checkpoint.metadata["settings"]).training
    if original.crop_margin:
        notes.append("Random crops were off, since the store holds nothing beyond the cutouts.")
    if len(sample.networks) > 1:
        notes.append("The recipe is that of the first network of the ensemble.")
    return notes
