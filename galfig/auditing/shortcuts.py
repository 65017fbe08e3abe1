"""Shortcuts: whether the class can be told from what is not the structure of the galaxy."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from galfig.auditing.estimates import Estimate, Measured, bootstrap
from galfig.auditing.fills import make_sky_image
from galfig.auditing.orders import scale_map
from galfig.auditing.sample import Progress, Sample
from galfig.auditing.sky import Regions, find_core, find_regions, measure_sky
from galfig.metrics import compute_roc

# Galaxies from which the typical sky is measured; folds, and the fewest galaxies of a class.
N_SKY, N_FOLDS = 200, 5
# Cells along a side of the grid in which what surrounds the galaxy is looked at.
GRID = 4
# Smoothing of the light in which the brightest point of a cell is found [pixels].
SMOOTHING = 1.0
# AUC above which something tells the class.
TELLING = 0.6


class _Looks(NamedTuple):
    """Features of one galaxy, by what may be seen of it."""

    sky: NDArray[np.float64]
    core: NDArray[np.float64]
    colours: NDArray[np.float64]
    brightness: NDArray[np.float64]


class _Seen(NamedTuple):
    """What was seen of all galaxies.

    Attributes
    ----------
    looks : list of _Looks
        Features of each galaxy.
    probs : (n, C) ndarray of float64
        What the network makes of their surroundings.
    shares : (n, 3) ndarray of float64
        Shares of the absolute map, of the area and of the light outside the galaxy.
    n_filled : int
        Number of galaxies that fill their cutouts.
    """

    looks: list[_Looks]
    probs: NDArray[np.float64]
    shares: NDArray[np.float64]
    n_filled: int


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    """Measure how well simple features tell the class, and how much attribution lies outside.

    A logistic regression and a small random forest, whose probabilities are averaged, see one kind
    of features at a time: all that surrounds the galaxy (other sources included), its core, its
    colours, or its brightness and size; or its position on the sky, where the catalog has it. They
    are trained and tried on different fifths of the galaxies. The AUC is that of one class against
    the rest, the mean over classes. Beside them are the network itself, and the network on images
    in which shuffled sky replaces the galaxy, so that it sees the surroundings only [1]_.
    `galfig.auditing.sky.find_regions` says how galaxy and sky are told apart.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``sky_auc``, ``core_auc``, ``colours_auc`` (not for one band), ``brightness_auc``,
        ``position_auc``, ``network_sky_auc``; ``network_over_colours`` and
        ``network_over_brightness``, by how much the AUC of the network is above theirs on the same
        galaxies; ``outside_share``, the share of the absolute map outside the galaxy. The
        controls are ``network_auc``, ``outside_area`` and
        ``outside_light``.

    References
    ----------
    .. [1] Dhar & Shamir 2022, arXiv:2201.03131
    """
    seen = _look(sample, progress)
    numbers, controls, notes = _measure_aucs(sample, seen)
    for group, name, column in (
        (numbers, "outside_share", 0),
        (controls, "outside_area", 1),
        (controls, "outside_light", 2),
    ):
        if np.isfinite(seen.shares[:, column]).any():
            group[name] = bootstrap(seen.shares[:, column], seed=sample.seed)
    if seen.n_filled:
        notes.append(
            f"{seen.n_filled} of {len(sample)} galaxies fill their cutouts, of which no sky is "
            "seen."
        )
    notes.append(
        "The galaxy is the source at the centre, as far as its light is above the sky by three "
        "standard deviations, and three pixels more; all else surrounds it, other sources "
        "and the faintest outskirts of the galaxy included."
    )
    supports, not_supported = _judge(numbers, controls)
    return Measured(
        name="shortcuts",
        numbers=numbers,
        controls=controls,
        per_galaxy={"outside_share": tuple(seen.shares[:, 0].tolist())},
        notes=tuple(notes),
        supports=supports,
        not_supported=not_supported,
    )


def _look(sample: Sample, progress: Progress) -> _Seen:
    """Tell each galaxy from its surroundings, and describe both."""
    n = len(sample)
    sky = measure_sky(
        (sample.read_pixels([number])[0] for number in sample.spread(N_SKY)),
        sample.make_rng("sky"),
    )
    looks: list[_Looks] = []
    probs = np.zeros((n, len(sample.class_names)))
    shares = np.full((n, 3), np.nan)
    n_filled = 0
    for chunk in sample.iter_chunks():
        pixels, cams = sample.read_pixels(chunk), sample.read_maps(chunk)
        replaced = pixels.copy()
        for i, number in enumerate(range(chunk.start, chunk.stop)):
            regions = find_regions(pixels[i], sky.level)
            n_filled += regions.is_filled
            looks.append(describe_cutout(pixels[i], regions))
            dark = make_sky_image(pixels[i], regions, sky, sample.make_rng(f"sky {number}"))
            replaced[i][regions.galaxy] = dark[regions.galaxy]
            shares[number] = _share_outside(cams[i], regions)
        probs[chunk] = sample.predict(sample.checkpoint.normalise(replaced))
        progress(len(pixels))
    return _Seen(looks, probs, shares, n_filled)


def _measure_aucs(
    sample: Sample, seen: _Seen
) -> tuple[dict[str, Estimate], dict[str, Estimate], list[str]]:
    """Return the AUC of each kind of features, that of the network, and notes on both."""
    labels, is_true = _choose_labels(sample)
    kept, classes, notes = _choose_classes(sample, labels)
    if not is_true:
        notes.append("No true class is known, so that the AUCs are for the predicted class.")
    if len(classes) < 2:
        return {}, {}, notes
    features = {
        name: np.stack([getattr(one, name) for one in seen.looks]) for name in _Looks._fields
    }
    if sample.checkpoint.n_channels == 1:
        del features["colours"]
    position = find_position(sample)
    if position is not None:
        features["position"] = position[sample.rows]
    codes = np.searchsorted(classes, labels[kept])

    def estimate(probs: NDArray[np.floating]) -> Estimate:
        return _estimate_auc(probs, codes, sample.seed)

    guesses = {
        name: cross_validate(values[kept], codes, seed=sample.seed)
        for name, values in features.items()
    }
    numbers = {f"{name}_auc": estimate(one) for name, one in guesses.items()}
    numbers["network_sky_auc"] = estimate(choose_among(seen.probs[kept], classes))
    controls = {}
    if is_true:
        known = choose_among(sample.store.probs[sample.rows][kept], classes)
        controls["network_auc"] = estimate(known)
        for name in sorted({"colours", "brightness"} & set(guesses)):
            numbers[f"network_over_{name}"] = _estimate_lead(
                known, guesses[name], codes, sample.seed
            )
    return numbers, controls, notes


def describe_cutout(pixels: NDArray[np.uint8], regions: Regions) -> _Looks:
    """Compute the features of a cutout.

    Parameters
    ----------
    pixels : (H, W, n_channels) ndarray of uint8
        The cutout.
    regions : Regions
        Its regions.

    Returns
    -------
    _Looks
        Features; NaN where a region is empty. ``sky``: mean, scatter and quantiles of each channel
        outside the galaxy, and mean and brightest point in a grid. ``core``: mean and scatter of
        each channel in the core. ``colours``: logarithm of the ratio of each channel to the first,
        in the galaxy and in its core. ``brightness``: logarithms of the total light, the peak and
        the area of the galaxy.
    """
    outside = ~regions.galaxy
    core = find_core(regions)
    values = pixels.astype(np.float64)
    level = np.median(values[regions.sky], axis=0) if regions.sky.any() else values.min(axis=(0, 1))
    galaxy = regions.galaxy if regions.galaxy.any() else core
    colours = []
    for region in (galaxy, core):
        flux = np.maximum((values[region] - level).sum(axis=0), 1.0)
        colours.append(np.log(flux[1:] / flux[0]))
    light = regions.light
    total = max(float((light[galaxy] - level.mean()).sum()), 1.0)
    brightness = np.log([total, max(float(light[galaxy].max()), 1.0), float(galaxy.sum())])
    inner = values[core]
    return _Looks(
        _describe_outside(values, light, outside),
        np.concatenate([inner.mean(axis=0), inner.std(axis=0)]),
        np.concatenate(colours),
        brightness,
    )


def _describe_outside(
    values: NDArray[np.float64], light: NDArray[np.float64], outside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    n_channels = values.shape[2]
    cells = [np.full(2 * GRID**2, np.nan)]
    whole = np.full(6 * n_channels, np.nan)
    if outside.any():
        seen = values[outside]
        quantiles = np.quantile(seen, [0.01, 0.25, 0.5, 0.99], axis=0)
        whole = np.concatenate([seen.mean(axis=0), seen.std(axis=0), quantiles.ravel()])
        smooth = ndimage.gaussian_filter(light, SMOOTHING, mode="nearest")
        cells = []
        for rows in np.array_split(np.arange(light.shape[0]), GRID):
            for columns in np.array_split(np.arange(light.shape[1]), GRID):
                where = np.ix_(rows, columns)
                inside = outside[where]
                cells.append(
                    np.array([light[where][inside].mean(), smooth[where][inside].max()])
                    if inside.any()
                    else np.full(2, np.nan)
                )
    return np.concatenate([whole, *cells])


def _share_outside(cam: NDArray[np.float32], regions: Regions) -> tuple[float, float, float]:
    """Return the shares of the absolute map, of the area and of the light outside the galaxy."""
    outside = ~regions.galaxy
    weights = np.abs(scale_map(cam, (outside.shape[0], outside.shape[1]))), regions.light
    of_map, of_light = (
        float(weight[outside].sum() / weight.sum()) if weight.sum() > 0 else float("nan")
        for weight in weights
    )
    return of_map, float(outside.mean()), of_light


def _choose_labels(sample: Sample) -> tuple[NDArray[np.int64], bool]:
    """Return the true classes, or the predicted ones where no true class is known."""
    is_true = bool((sample.labels >= 0).any())
    return (sample.labels if is_true else sample.predicted.astype(np.int64)), is_true


def _choose_classes(
    sample: Sample, labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[str]]:
    """Return which galaxies belong to a class with enough of them, these classes, and notes."""
    counts = np.bincount(labels[labels >= 0], minlength=len(sample.class_names))
    classes = np.flatnonzero(counts >= N_FOLDS)
    few = [sample.class_names[c] for c in np.flatnonzero(counts < N_FOLDS)]
    notes = []
    if few:
        notes.append(
            f"Classes of fewer than {N_FOLDS} galaxies are left out of the AUCs: {', '.join(few)}."
        )
    if len(classes) < 2:
        notes.append("Fewer than two classes are left, so that no AUC can be given.")
    if n_unknown := int((labels < 0).sum()):
        notes.append(f"{n_unknown} galaxies of unknown class are left out of the AUCs.")
    return np.isin(labels, classes), classes, notes


def choose_among(probs: NDArray[np.floating], classes: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return the probability of some classes, given that it is one of these.

    The simple models know of no other class.

    Parameters
    ----------
    probs : (n, C) ndarray of float
        Probability of each class.
    classes : (k,) ndarray of int
        Some of them.

    Returns
    -------
    (n, k) ndarray of float
        Rows with the sum 1.
    """
    chosen = probs[:, classes]
    if chosen.shape == probs.shape:
        return chosen
    total = chosen.sum(axis=1, keepdims=True)
    even = np.full_like(chosen, 1 / len(classes))
    return np.divide(chosen, total, out=even, where=total > 0)


def find_position(sample: Sample) -> NDArray[np.float64] | None:
    """Return unit vectors towards the galaxies of the store, (N, 3); None without ra and dec."""
    catalog = sample.store.catalog
    found: dict[str, str] = {}
    for name in catalog.columns:
        for key in ("ra", "dec"):
            if re.fullmatch(rf"_?{key}(j2000|deg)?", str(name).lower()):
                found.setdefault(key, str(name))
    if len(found) < 2:
        return None
    try:
        ra, dec = (np.deg2rad(catalog[found[key]].to_numpy(np.float64)) for key in ("ra", "dec"))
    except (TypeError, ValueError):
        return None
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    return vectors if np.isfinite(vectors).any() else None


def cross_validate(
    features: NDArray[np.float64], codes: NDArray[np.integer], *, seed: int
) -> NDArray[np.float64]:
    """Return the probability of each class for each galaxy, by models that others trained.

    Parameters
    ----------
    features : (n, m) ndarray of float64
        Features; NaN becomes the median of the column.
    codes : (n,) ndarray of int
        Classes 0 to C - 1, each of at least ``N_FOLDS`` galaxies.
    seed : int
        Seed of the folds and of the forest.

    Returns
    -------
    (n, C) ndarray of float64
        The mean of a logistic regression and a random forest.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)

    def fill() -> SimpleImputer:
        return SimpleImputer(strategy="median", keep_empty_features=True)

    models = (
        make_pipeline(fill(), StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)),
        make_pipeline(
            fill(),
            RandomForestClassifier(
                100, min_samples_leaf=3, max_features="sqrt", random_state=seed, n_jobs=1
            ),
        ),
    )
    return np.mean(
        [
            cross_val_predict(model, features, codes, cv=folds, method="predict_proba")
            for model in models
        ],
        axis=0,
    )


def compute_auc(probs: NDArray[np.floating], codes: NDArray[np.integer]) -> float:
    """Return the area under the ROC curve of each class against the rest, the mean over classes.

    Parameters
    ----------
    probs : (n, C) ndarray of float
        Probability of each class, or any score.
    codes : (n,) ndarray of int
        Classes 0 to C - 1.

    Returns
    -------
    float
        NaN where a class is absent, or there is one only. For two classes, the scores of the
        second are used.
    """
    n, n_classes = probs.shape
    areas = []
    for c in range(1 if n_classes == 2 else 0, n_classes):
        is_class = codes == c
        n_in = int(is_class.sum())
        if not 0 < n_in < n:
            return float("nan")
        rank_sum = float(rankdata(probs[:, c])[is_class].sum())
        areas.append((rank_sum - n_in * (n_in + 1) / 2) / (n_in * (n - n_in)))
    return float(np.mean(areas))


def _estimate_auc(probs: NDArray[np.floating], codes: NDArray[np.integer], seed: int) -> Estimate:
    """Estimate an AUC; of two classes with an interval that holds for few galaxies, and for 1.

    A bootstrap of galaxies that are all in order has no width.
    """
    if probs.shape[1] == 2:
        curve = compute_roc(codes == 1, probs[:, 1])
        return Estimate(value=curve.area, low=curve.low, high=curve.high, n=len(codes))
    rows = np.concatenate([probs, codes[:, None]], axis=1)

    def compute(drawn: NDArray[np.float64]) -> float:
        return compute_auc(drawn[:, :-1], drawn[:, -1].astype(np.intp))

    return bootstrap(rows, compute, seed=seed)


def _estimate_lead(
    probs: NDArray[np.floating],
    others: NDArray[np.floating],
    codes: NDArray[np.integer],
    seed: int,
) -> Estimate:
    """Estimate by how much one AUC is above another on the same galaxies."""
    n_classes = probs.shape[1]
    rows = np.concatenate([probs, others, codes[:, None]], axis=1)

    def compute(drawn: NDArray[np.float64]) -> float:
        drawn_codes = drawn[:, -1].astype(np.intp)
        one, other = drawn[:, :n_classes], drawn[:, n_classes:-1]
        return compute_auc(one, drawn_codes) - compute_auc(other, drawn_codes)

    return bootstrap(rows, compute, seed=seed)


def _judge(numbers: Mapping[str, Estimate], controls: Mapping[str, Estimate]) -> tuple[str, str]:
    """Say what tells the class, and what does not."""
    words = {
        "sky_auc": "the surroundings of the galaxy",
        "position_auc": "its position on the sky",
        "network_sky_auc": "what the network makes of the surroundings",
    }
    telling = [name for name in words if name in numbers and numbers[name].low > TELLING]
    silent = [name for name in words if name in numbers and numbers[name].high <= TELLING]
    supports = not_supported = ""
    if silent and not telling:
        supports = f"No shortcut was found in {_list(silent, words, numbers)}."
    found = []
    if telling:
        found.append(
            f"The class can be told without the galaxy, by {_list(telling, words, numbers)}; "
            f"{numbers['outside_share'].value:.0%} of the attribution lies outside it."
            if "outside_share" in numbers
            else f"The class can be told without the galaxy, by {_list(telling, words, numbers)}."
        )
    network = controls.get("network_auc")
    for name, what in (("colours", "colours"), ("brightness", "brightness and size")):
        lead, alone = numbers.get(f"network_over_{name}"), numbers.get(f"{name}_auc")
        if network is None or lead is None or alone is None:
            continue
        if lead.low <= 0 and alone.low > TELLING:
            found.append(
                f"The network is not clearly better than {what} alone (AUC {network.value:.2f} and "
                f"{alone.value:.2f}), so that structure need not matter."
            )
    if found:
        not_supported = " ".join(found)
    return supports, not_supported


def _list(names: list[str], words: Mapping[str, str], numbers: Mapping[str, Estimate]) -> str:
    return " and ".join(f"{words[name]} (AUC {numbers[name].value:.2f})" for name in names)
