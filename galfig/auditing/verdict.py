"""The verdict of an audit: what its numbers support and what they do not, in plain sentences.

Each rule looks at intervals, not at estimates alone, and is silent where its numbers are missing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from galfig.auditing.completeness import COMPLETE
from galfig.auditing.receptive_field import LOCAL
from galfig.auditing.reliability import RELIABLE
from galfig.auditing.sanity import MIN_SKILL
from galfig.auditing.shortcuts import TELLING
from galfig.auditing.symmetry import SYMMETRIC
from galfig.figures.audits import format_numbers
from galfig.metrics import Accuracy
from galfig.records import Estimate, Measured
from galfig.store.summary import LEAST_DISTANCE

# The most sentences.
_MOST = 6
# Fewer galaxies give intervals that are themselves uncertain.
FEW_GALAXIES = 50
# Share of the maps' energy common to all classes, and agreement between networks, at which they are
# called out.
COMMON, AGREEMENT = 0.05, 0.7
# Weight of what leaves the maps nothing to support: no skill, or a failed sanity check.
_FATAL = 98

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
        support, and one on what they do not, where the numbers carry them. The maps of a network
        without skill, or that fail the sanity check, support nothing.
    """
    found = [rule(measures) for rule in _RULES]
    found += [_judge_skill(accuracy, class_names, measures), _judge_number(n)]
    ordered = sorted(filter(None, found), key=lambda one: -one.weight)
    if ordered and ordered[0].weight >= _FATAL:
        ordered = [one for one in ordered if not one.is_support]
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


def _judge_skill(
    accuracy: Accuracy | None, class_names: Sequence[str], measures: Measures
) -> Finding | None:
    if accuracy is None:
        return Finding(
            95,
            False,
            "No true class is known, so the maps explain answers that nobody has checked.",
        )
    if accuracy.is_above_majority:
        return None
    name = class_names[accuracy.majority]
    found = (
        f"it is right for {100 * accuracy.accuracy:.1f} % of {accuracy.n} galaxies, and always "
        f"answering {name} would be for {100 * accuracy.majority_share:.1f} %"
    )
    sanity, skill = measures.get("sanity"), _find(measures, "sanity", "skill")
    if sanity is not None and sanity.passes and skill is not None:
        # Of very unequal classes, the most probable one may always be the same.
        return Finding(
            92,
            False,
            f"By its answers, the network shows no skill: {found}. Its probabilities do (skill "
            f"{_write(skill)}).",
        )
    if accuracy.accuracy > accuracy.majority_share:
        # A test that so few galaxies cannot pass does not show that there is no skill.
        words = "Nothing shows that the network has skill to explain"
        return Finding(100, False, f"{words}: {found}.")
    return Finding(100, False, f"The network has no skill to explain: {found}.")


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
    floor = max(MIN_SKILL, chance.high if chance is not None else MIN_SKILL)
    if skill is not None and skill.low <= floor < skill.value:
        why = (
            "these galaxies do not show that the network does better than with random weights or "
            f"by the frequencies of the classes (skill {_write(skill)}), so the maps may explain "
            "nothing learned; more galaxies may decide it"
        )
    elif skill is not None and skill.low <= floor:
        why = (
            "the network is not clearly better on these galaxies than with random weights or by "
            f"the frequencies of the classes (skill {_write(skill)}), so nothing shows that there "
            "is something learned to explain"
        )
    else:
        why = (
            "they look much the same when what the network learned is randomised, so they show "
            "the images and not the network"
        )
    return Finding(_FATAL, False, f"The maps fail the sanity check: {why}.")


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
    if sky is None or sky.low <= TELLING:
        return None
    where = ""
    if outside is not None:
        where = f", and {_percent(outside)} of the attribution lies outside the galaxy"
        if area is not None:
            where += f", on {_percent(area)} of the image"
    return Finding(
        97,
        False,
        "What surrounds the galaxy (sky, other sources, its faintest outskirts) tells "
        f"{_name_class(measures)} by itself (AUC {_write(sky)}){where}. Unless it is the "
        "outskirts, that is a shortcut, and the maps need not show anything of the galaxy.",
    )


def _judge_sky(measures: Measures) -> Finding | None:
    """Say that the sky tells nothing, where it was looked at."""
    sky = _find(measures, "shortcuts", "sky_auc")
    network = _find(measures, "shortcuts", "network_sky_auc")
    if sky is None or sky.high > TELLING:
        return None
    if network is not None and network.low > TELLING:
        # The network finds there what simple features do not.
        return None
    return Finding(
        35,
        True,
        "No shortcut was found in what surrounds the galaxy, which alone has an AUC of "
        f"{_write(sky)}.",
    )


def _judge_surroundings(measures: Measures) -> Finding | None:
    """Say that the network answers by what surrounds the galaxy, where nothing simpler does."""
    sky = _find(measures, "shortcuts", "sky_auc")
    network = _find(measures, "shortcuts", "network_sky_auc")
    if network is None or network.low <= TELLING:
        return None
    if sky is not None and sky.low > TELLING:
        # Said as a shortcut.
        return None
    return Finding(
        72,
        False,
        f"With the galaxy replaced by sky, the network still tells {_name_class(measures)} (AUC "
        f"{_write(network)}): it also answers by what surrounds the galaxy, be that other sources, "
        "the sky, or the faintest outskirts.",
    )


def _judge_colours(measures: Measures) -> Finding | None:
    colours = _find(measures, "shortcuts", "colours_auc")
    network = _find(measures, "shortcuts", "network_auc")
    lead = _find(measures, "shortcuts", "network_over_colours")
    if colours is None or network is None or lead is None:
        return None
    if lead.low > 0 or colours.low <= TELLING:
        return None
    return Finding(
        60,
        False,
        "The network is not clearly better than the colours alone: their AUC is "
        f"{_write(colours)}, beside {_write(network)} of the network, which leads by "
        f"{_write(lead)}. Nothing here shows that structure in the galaxy is needed.",
    )


def _name_class(measures: Measures) -> str:
    """Name what the AUCs are of: where no true class is known, the network has none of its own."""
    known = _find(measures, "shortcuts", "network_auc")
    return "the class" if known is not None else "the class that the network predicts"


def _judge_light(measures: Measures) -> Finding | None:
    """Compare the map with brightness in the deletion, where it beats chance."""
    excess = _find(measures, "deletion", "excess over light")
    lead = _find(measures, "deletion", "lead over random")
    if lead is not None and lead.low <= 0:
        return Finding(90, False, _deny_lead(lead, measures))
    if excess is None:
        return None
    if excess.low > 0:
        return Finding(80, True, _state_excess(excess))
    words = "not clearly better" if excess.high >= 0 else "worse"
    return Finding(
        90,
        False,
        f"The maps are {words} than sorting pixels by brightness: the excess over light is "
        f"{_write(excess)} of their lead over a random order.",
    )


def _list_fills(measures: Measures, is_meant: Callable[[Estimate], bool]) -> str:
    """Name the other fills with which the lead of the deletion is as is meant; "" for none."""
    return " or ".join(
        words
        for fill, words in (("blur", "a blurred image"), ("linear imputation", "imputed pixels"))
        if (lead := _find(measures, "deletion", f"lead over random, {fill}")) and is_meant(lead)
    )


def _deny_lead(lead: Estimate, measures: Measures) -> str:
    """Say that the maps are no better than chance, or worse, or that it cannot be told."""
    if lead.high < 0:
        return (
            "Removing pixels in the order of the maps lowers the probability later than at random "
            f"(lead {_write(lead)}), so the maps do not point to what the network uses."
        )
    unclear = (
        "Removing pixels in the order of the maps does not clearly lower the probability sooner "
        f"than at random (lead {_write(lead)}), "
    )
    if others := _list_fills(measures, lambda one: one.low > 0):
        return (
            f"{unclear}though it does with {others} in place of sky: what the deletion says "
            "depends on what replaces pixels."
        )
    return f"{unclear}so it does not show that the maps point to what the network uses."


def _state_excess(excess: Estimate) -> str:
    """Say what of the lead brightness does not have, where some of it clearly does not."""
    if excess.high <= 1:
        return (
            "The maps point to pixels that matter beyond their brightness: "
            f"{_percent(excess)} of their lead over a random order is not had by brightness."
        )
    if excess.value < 1:
        return (
            "The maps point to pixels that matter beyond their brightness (excess over light "
            f"{_write(excess)}, where at 1 brightness is no better than a random order)."
        )
    words = "worse" if excess.low > 1 else "not clearly better"
    return (
        f"The maps point to pixels that matter, and sorting by brightness is {words} than a random "
        f"order (excess over light {_write(excess)})."
    )


def _judge_fills(measures: Measures) -> Finding | None:
    """Point out that the result is the opposite with something else in place of the pixels."""
    main = _find(measures, "deletion", "lead over random")
    if main is None or main.low <= 0:
        return None
    opposite = _list_fills(measures, lambda one: one.high < 0)
    if not opposite:
        return None
    return Finding(
        88,
        False,
        f"With {opposite} in place of sky, pixels in the order of the maps matter "
        "less than at random, so what the deletion says depends on what replaces pixels.",
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
        f"{words[0].capitalize()} finds the maps clearly better than brightness and {words[1]} "
        "does not, so the choice between the two measures decides.",
    )


def _judge_where(measures: Measures) -> Finding | None:
    side = _find(measures, "receptive-field", "side")
    share = _find(measures, "receptive-field", "side_share")
    if share is None or share.value >= LOCAL:
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
    largest = _find(measures, "completeness", "largest error") or error
    if error is None or largest is None:
        return None
    if largest.value <= COMPLETE:
        return Finding(
            30,
            True,
            "The maps are complete: each adds up to the output that it explains, less a known "
            "offset.",
        )
    if error.low <= COMPLETE:
        return None
    return Finding(
        50,
        False,
        "The maps do not add up to what they explain, so the sum over a region is not its share of "
        "the answer.",
    )


def _judge_head(measures: Measures) -> Finding | None:
    """Say that Grad-CAM is not the faithful choice, where it is far from HiResCAM."""
    distance = _find(measures, "completeness", "distance from HiResCAM")
    if distance is None or distance.low <= LEAST_DISTANCE:
        return None
    return Finding(
        70,
        False,
        "More than pooling and one linear layer follows the layer explained, so that HiResCAM is "
        f"the faithful choice; the maps differ from it by {_percent(distance)} of its norm.",
    )


def _judge_symmetry(measures: Measures) -> Finding | None:
    turned = _find(measures, "symmetry", "orientations")
    if turned is None or turned.high >= SYMMETRIC:
        return None
    return Finding(
        45,
        False,
        f"The maps change when the image is turned or mirrored (correlation {_write(turned)}), "
        "although a galaxy has no up or down: what is not seen again is not of the galaxy.",
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
    if alpha is None or alpha.high >= RELIABLE:
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
    _judge_fills,
    _judge_insertion,
    _judge_where,
    _judge_common_mode,
    _judge_completeness,
    _judge_head,
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
