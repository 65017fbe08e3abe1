"""The verdict of an audit: what its numbers support and what they do not, in plain sentences.

Each rule looks at intervals, not at estimates alone, and is silent where its numbers are missing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from galfig.figures.audits import format_numbers
from galfig.metrics import Accuracy
from galfig.records import Estimate, Measured

# The most sentences, and the fewest where the measures that were made allow it.
_MOST, _FEWEST = 6, 3
# Fewer galaxies give intervals that are themselves uncertain.
FEW_GALAXIES = 50
# AUC above which a part of the image that is not the galaxy tells the class well enough to say so.
TELLING_AUC = 0.6
# A field of view smaller than this share of the cutout cannot know where in it it lies.
LOCAL_SHARE = 0.5
# Shares of the maps' energy common to all classes, and of their agreement between networks,
# orientations and measures, at which they are called out.
COMMON, AGREEMENT, SYMMETRY, ALPHA = 0.05, 0.7, 0.9, 0.667
# Relative error of the sum of a map up to which it is called complete.
COMPLETE = 1e-3

Measures = Mapping[str, Measured]


class Finding(NamedTuple):
    """A sentence of the verdict.

    Attributes
    ----------
    weight : int
        How much it matters; the largest are shown, in this order.
    is_support : bool
        Whether it says what the maps support.
    sentence : str
        The sentence.
    """

    weight: int
    is_support: bool
    sentence: str


def write_verdict(
    measures: Measures,
    n: int,
    *,
    accuracy: Accuracy | None,
    class_names: Sequence[str],
    known: Sequence[str] = (),
) -> list[str]:
    """Write the verdict.

    Parameters
    ----------
    measures : mapping of str to Measured
        What each measure found, by name.
    n : int
        Number of galaxies.
    accuracy : Accuracy or None
        That of the network on these galaxies; None if no true class is known.
    class_names : (C,) sequence of str
        Names of the classes.
    known : sequence of str, optional
        All measures that there are. What was not measured is said where few sentences are left.

    Returns
    -------
    list of str
        At most six sentences, the most important first, with at least one on what the maps
        support, and one on what they do not, where the numbers carry them.
    """
    found = [rule(measures) for rule in _RULES]
    found += [_judge_skill(accuracy, class_names), _judge_number(n)]
    ordered = sorted(filter(None, found), key=lambda one: -one.weight)
    chosen = ordered[:_MOST]
    for side in (True, False):
        # The last sentence makes room for the side that would be silent.
        others = [one for one in ordered[_MOST:] if one.is_support == side]
        if others and all(one.is_support != side for one in chosen):
            chosen = [*chosen[: _MOST - 1], others[0]]
    sentences = [one.sentence for one in chosen]
    lacking = [name for name in known if name not in measures]
    if lacking and len(sentences) < _MOST:
        sentences.append(f"Nothing is known of what was not measured: {', '.join(lacking)}.")
    return sentences


def _judge_skill(accuracy: Accuracy | None, class_names: Sequence[str]) -> Finding | None:
    if accuracy is None:
        return Finding(
            95,
            False,
            "No true class is known, so the maps explain answers that nobody has checked.",
        )
    if accuracy.is_above_majority:
        return None
    name = class_names[accuracy.majority]
    return Finding(
        100,
        False,
        f"The network has no skill to explain: it is right for {100 * accuracy.accuracy:.1f} % of "
        f"{accuracy.n} galaxies, and always answering {name} would be for "
        f"{100 * accuracy.majority_share:.1f} %.",
    )


def _judge_number(n: int) -> Finding | None:
    if n >= FEW_GALAXIES:
        return None
    return Finding(
        85,
        False,
        f"These are {n} galaxies, too few to trust the intervals; audit {FEW_GALAXIES} or more.",
    )


def _judge_sanity(measures: Measures) -> Finding | None:
    sanity = measures.get("sanity")
    if sanity is None or sanity.passes is None:
        return None
    if sanity.passes:
        return Finding(
            40,
            True,
            "The network has skill to explain, and the maps depend on what it learned: they change "
            "when its layers are randomised.",
        )
    skill = _find(measures, "sanity", "skill")
    chance = _find(measures, "sanity", "skill of random weights")
    if skill is not None and skill.low <= max(0.0, chance.high if chance is not None else 0.0):
        why = (
            "the network does no better on these galaxies than with random weights or by the "
            f"frequencies of the classes (skill {_write(skill)}), so they explain nothing learned"
        )
    else:
        why = (
            "they look much the same when what the network learned is randomised, so they show "
            "the images and not the network"
        )
    return Finding(98, False, f"The maps fail the sanity check: {why}.")


def _judge_retraining(measures: Measures) -> Finding | None:
    """Compare the maps with those of networks that were told true, or permuted, classes."""
    found = measures.get("retraining")
    true, permuted = (
        _find(measures, "retraining", name) for name in ("true classes", "permuted classes")
    )
    if found is None or found.passes is None or true is None or permuted is None:
        return None
    numbers = f"correlation {_write(true)}, and {_write(permuted)}"
    if found.passes:
        return Finding(
            42,
            True,
            "Networks trained anew on half of these galaxies have maps more like these if they are "
            f"told the true classes than if the classes are permuted ({numbers}).",
        )
    return Finding(
        96,
        False,
        "Networks trained anew have maps no more like these if they are told the true classes than "
        f"if the classes are permuted ({numbers}), so the maps do not show what was learned.",
    )


def _judge_shortcut(measures: Measures) -> Finding | None:
    """Name a class that can be told from the surroundings, and attribution that lies on them.

    Sky and the faintest outskirts of a galaxy cannot be told apart, so both are named.
    """
    sky = _find(measures, "shortcuts", "sky_auc")
    outside = _find(measures, "shortcuts", "outside_share")
    area = _find(measures, "shortcuts", "outside_area")
    if sky is None or sky.low <= TELLING_AUC:
        return None
    where = ""
    if outside is not None:
        where = f", and {_percent(outside)} of the attribution lies outside the galaxy"
        if area is not None:
            where += f", on {_percent(area)} of the image"
    return Finding(
        97,
        False,
        "What surrounds the galaxy (sky, other sources, its faintest outskirts) tells the class by "
        f"itself (AUC {_write(sky)}){where}. Unless it is the outskirts, that is a shortcut, and "
        "the maps need not show anything of the galaxy.",
    )


def _judge_sky(measures: Measures) -> Finding | None:
    """Say that the sky tells nothing, where it was looked at."""
    sky = _find(measures, "shortcuts", "sky_auc")
    if sky is None or sky.high > TELLING_AUC:
        return None
    return Finding(
        35, True, f"No shortcut was found in the sky, which alone has an AUC of {_write(sky)}."
    )


def _judge_surroundings(measures: Measures) -> Finding | None:
    """Say that the network answers by what surrounds the galaxy, where nothing simpler does."""
    sky = _find(measures, "shortcuts", "sky_auc")
    network = _find(measures, "shortcuts", "network_sky_auc")
    if network is None or network.low <= TELLING_AUC:
        return None
    if sky is not None and sky.low > TELLING_AUC:
        # Said as a shortcut.
        return None
    return Finding(
        72,
        False,
        "With the galaxy replaced by sky, the network still tells the class (AUC "
        f"{_write(network)}): it also answers by what surrounds the galaxy, be that other sources, "
        "the sky, or the faintest outskirts.",
    )


def _judge_colours(measures: Measures) -> Finding | None:
    colours = _find(measures, "shortcuts", "colours_auc")
    network = _find(measures, "shortcuts", "network_auc")
    if colours is None or network is None or colours.high < network.low:
        return None
    return Finding(
        60,
        False,
        f"Mean colours and brightness alone reach an AUC of {_write(colours)}, beside "
        f"{_write(network)} of the network: nothing here needs structure in the galaxy.",
    )


def _judge_light(measures: Measures) -> Finding | None:
    """Compare the map with brightness in the deletion, where it beats chance."""
    excess = _find(measures, "deletion", "excess over light")
    lead = _find(measures, "deletion", "lead over random")
    if lead is not None and lead.low <= 0:
        return Finding(
            90,
            False,
            "Removing pixels in the order of the maps lowers the probability no faster than at "
            f"random (lead {_write(lead)}), so the maps do not show what the network uses.",
        )
    if excess is None:
        return None
    if excess.value >= 1:
        return Finding(
            80,
            True,
            "The maps point to pixels that matter, and brightness does not: sorting by it does no "
            f"better than a random order (excess over light {_write(excess)}).",
        )
    if excess.low > 0:
        return Finding(
            80,
            True,
            "The maps point to pixels that matter beyond their brightness: "
            f"{_percent(excess)} of their lead over a random order is not had by brightness.",
        )
    worse = ", and less," if excess.high < 0 else ""
    return Finding(
        90,
        False,
        f"The maps say no more{worse} than sorting pixels by brightness: the excess over light is "
        f"{_write(excess)} of their lead over a random order.",
    )


def _judge_insertion(measures: Measures) -> Finding | None:
    """Point out that deletion and insertion disagree on the excess over light."""
    one = _find(measures, "deletion", "excess over light")
    other = _find(measures, "insertion", "excess over light")
    if one is None or other is None or (one.low > 0) == (other.low > 0):
        return None
    words = ("deletion", "insertion") if one.low > 0 else ("insertion", "deletion")
    return Finding(
        65,
        False,
        f"{words[0].capitalize()} finds the maps better than brightness and {words[1]} does not, "
        "so the choice between the two measures decides.",
    )


def _judge_where(measures: Measures) -> Finding | None:
    side = _find(measures, "receptive-field", "side")
    share = _find(measures, "receptive-field", "side_share")
    if share is None or share.value >= LOCAL_SHARE:
        return None
    of = f"{side.value:.0f} pixels, " if side is not None else ""
    return Finding(
        75,
        False,
        f"A cell of the maps sees {of}{100 * share.value:.0f} % of the side of the image, so the "
        "maps show where such patches lie, and cannot show that the network knows where.",
    )


def _judge_common_mode(measures: Measures) -> Finding | None:
    share = _find(measures, "common-mode", "share")
    if share is None or share.low <= COMMON:
        return None
    return Finding(
        55,
        False,
        f"{_percent(share)} of the energy of the maps is common to all classes and tells nothing "
        "of the prediction; show the evidence, in which it cancels.",
    )


def _judge_completeness(measures: Measures) -> Finding | None:
    error = _find(measures, "completeness", "error")
    if error is None:
        return None
    if error.high <= COMPLETE:
        return Finding(
            30, True, "The maps are complete: each adds up to the logit, less a known constant."
        )
    return Finding(
        50,
        False,
        "The maps do not add up to the logits, so the sum over a region is not its share of the "
        "answer.",
    )


def _judge_symmetry(measures: Measures) -> Finding | None:
    turned = _find(measures, "symmetry", "orientations")
    if turned is None or turned.high >= SYMMETRY:
        return None
    return Finding(
        45,
        False,
        f"The maps change when the image is turned or mirrored (correlation {_write(turned)}), so "
        "details of this size are not of the galaxy.",
    )


def _judge_seeds(measures: Measures) -> Finding | None:
    agreement = _find(measures, "seeds", "agreement")
    if agreement is None:
        return None
    if agreement.low >= AGREEMENT:
        return Finding(
            45,
            True,
            f"Networks trained with other seeds give like maps (correlation {_write(agreement)}).",
        )
    if agreement.high < AGREEMENT:
        return Finding(
            82,
            False,
            "Networks trained with other seeds disagree: their maps of one galaxy have a "
            f"correlation of {_write(agreement)}, which bounds what any of them can mean.",
        )
    return None


def _judge_reliability(measures: Measures) -> Finding | None:
    alpha = _find(measures, "reliability", "alpha")
    if alpha is None or alpha.high >= ALPHA:
        return None
    return Finding(
        48,
        False,
        f"The measures disagree on which galaxies have good maps (Krippendorff's alpha "
        f"{_write(alpha)}), so none of them can rank single maps.",
    )


_RULES: tuple[Callable[[Measures], Finding | None], ...] = (
    _judge_sanity,
    _judge_retraining,
    _judge_shortcut,
    _judge_sky,
    _judge_surroundings,
    _judge_colours,
    _judge_light,
    _judge_insertion,
    _judge_where,
    _judge_common_mode,
    _judge_completeness,
    _judge_symmetry,
    _judge_seeds,
    _judge_reliability,
)


def _find(measures: Measures, measure: str, name: str) -> Estimate | None:
    """Return a number or a control of a measure; None if there is none."""
    found = measures.get(measure)
    if found is None:
        return None
    return found.numbers.get(name) or found.controls.get(name)


def _write(estimate: Estimate) -> str:
    value, low, high = format_numbers(estimate)
    return f"{value}, 95 % interval {low} to {high}"


def _percent(estimate: Estimate) -> str:
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:.0f} % ({low:.0f} to {high:.0f} %)"
