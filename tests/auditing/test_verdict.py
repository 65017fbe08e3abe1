"""The verdict: a sentence for each finding, by intervals, and none that no number carries."""

import pytest

from galfig.auditing.main import MEASURES
from galfig.auditing.verdict import write_verdict
from galfig.metrics import rate_accuracy
from galfig.records import Estimate, Measured

SKILLED = rate_accuracy(93, [50, 50])


def about(value, error=0.05):
    return Estimate(value=value, low=value - error, high=value + error, n=100)


def make(measure, passes=None, **numbers):
    keys = ("lead_over_random", "excess_over_light")
    named = {
        name.replace("_", " ") if name in keys else name: number for name, number in numbers.items()
    }
    return Measured(name=measure, numbers=named, passes=passes)


def judge(*measures, n=100, accuracy=SKILLED, known=()):
    found = {one.name: one for one in measures}
    return write_verdict(found, n, accuracy=accuracy, class_names=("low", "high"), known=known)


GOOD = (
    make("completeness", error=about(1e-5, 1e-6)),
    make("common-mode", share=about(0.004, 0.001)),
    make("receptive-field", side=about(64, 0), side_share=about(1.0, 0)),
    make("deletion", lead_over_random=about(0.16), excess_over_light=about(0.4)),
    make("insertion", lead_over_random=about(0.16), excess_over_light=about(0.4)),
    make("sanity", passes=True),
    make("symmetry", orientations=about(0.97, 0.01)),
    make("seeds", agreement=about(0.82)),
    make("shortcuts", sky_auc=about(0.5), colours_auc=about(0.6), network_auc=about(0.95, 0.02)),
    make("reliability", alpha=about(0.7)),
)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (
            make(
                "shortcuts",
                sky_auc=about(0.95, 0.02),
                outside_share=about(0.7),
                outside_area=about(0.6),
                network_auc=about(0.95),
            ),
            "tells the class by itself (AUC 0.950, 95 % interval 0.930 to 0.970), and 70 % (65 to "
            "75 %) of the attribution lies outside the galaxy, on 60 % (55 to 65 %) of the image. "
            "Unless it is the outskirts, that is a shortcut",
        ),
        (
            make("shortcuts", sky_auc=about(0.95, 0.02)),
            "0.970). Unless it is the outskirts, that is a shortcut",
        ),
        (
            make(
                "shortcuts",
                sky_auc=about(0.52),
                network_sky_auc=about(0.8),
                network_auc=about(0.95),
            ),
            "With the galaxy replaced by sky, the network still tells the class (AUC 0.800",
        ),
        (
            make("sanity", passes=False, skill=about(0.5)),
            "fail the sanity check: they look much the same",
        ),
        (
            # Above zero, but not above the least skill that counts.
            make("sanity", passes=False, skill=about(0.07, 0.04)),
            "fail the sanity check: the network is not clearly better on these galaxies",
        ),
        (
            make("sanity", passes=False, skill=about(-0.2)),
            "fail the sanity check: the network is not clearly better on these galaxies than with "
            "random weights or by the frequencies of the classes (skill -0.200",
        ),
        (
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(0.02)),
            "The maps are not clearly better than sorting pixels by brightness",
        ),
        (
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(-0.2)),
            "The maps are worse than sorting pixels by brightness",
        ),
        (
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(1.2)),
            "sorting by brightness is worse than a random order (excess over light 1.200",
        ),
        (
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(1.2, 0.4)),
            "sorting by brightness is not clearly better than a random order (excess over light",
        ),
        (
            # An estimate above one decides nothing where its interval holds zero.
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(1.2, 1.5)),
            "The maps are not clearly better than sorting pixels by brightness",
        ),
        (
            # No share of more than 100 %.
            make("deletion", lead_over_random=about(0.16), excess_over_light=about(0.8, 0.3)),
            "beyond their brightness (excess over light 0.800, 95 % interval 0.500 to 1.100, where",
        ),
        (
            make("deletion", lead_over_random=about(0.02)),
            "does not clearly lower the probability sooner than at random (lead 0.020",
        ),
        (
            make(
                "deletion",
                lead_over_random=about(0.02),
                **{"lead over random, linear imputation": about(0.2)},
            ),
            "though it does with imputed pixels in place of sky",
        ),
        (
            make("deletion", lead_over_random=about(-0.2)),
            "lowers the probability later than at random (lead -0.200",
        ),
        (
            make(
                "deletion",
                lead_over_random=about(0.2),
                **{"lead over random, blur": about(-0.2)},
            ),
            "With a blurred image in place of sky, pixels in the order of the maps matter less",
        ),
        (
            make("insertion", lead_over_random=about(0.1), excess_over_light=about(-0.1)),
            "Deletion finds the maps clearly better than brightness and insertion does not",
        ),
        (
            make("receptive-field", side=about(7, 0), side_share=about(7 / 64, 0)),
            "A cell of the maps sees 7 pixels, 11 % of the side of the image",
        ),
        (make("common-mode", share=about(0.3)), "30 % (25 to 35 %) of the energy of the maps"),
        (make("seeds", agreement=about(0.5)), "Networks trained with other seeds disagree"),
        (make("symmetry", orientations=about(0.6)), "change when the image is turned or mirrored"),
        (make("reliability", alpha=about(0.1)), "The measures disagree on which galaxies"),
        (make("completeness", error=about(0.3)), "The maps do not add up to what they explain"),
        (
            make("completeness", **{"distance from HiResCAM": about(0.4)}),
            "HiResCAM is the faithful choice; the maps differ from it by 40 % (35 to 45 %)",
        ),
        (
            make(
                "shortcuts",
                colours_auc=about(0.94, 0.02),
                network_auc=about(0.95, 0.02),
                **{"network_over_colours": about(0.01, 0.02)},
            ),
            "The network is not clearly better than the colours alone: their AUC is 0.940",
        ),
    ],
)
def test_what_is_wrong_is_said(measure, words):
    """By itself, where it needs no other, and among measures with which nothing is wrong."""
    others = [one for one in GOOD if one.name != measure.name]
    alone = [] if measure.name == "insertion" else [judge(measure)]
    for found in (*alone, judge(*others, measure)):
        assert words in " ".join(found)
        assert len(found) <= 6
        assert all(sentence.endswith(".") for sentence in found)
    assert words not in " ".join(judge(*GOOD))


def test_colours_that_tell_nothing_are_no_rival():
    """Beside a network that guesses, colours that guess do not show that structure is idle."""
    guesses = make("shortcuts", colours_auc=about(0.45), network_auc=about(0.5))
    assert "Mean colours" not in " ".join(judge(guesses))


def test_good_maps_are_said_to_be_good():
    """Nothing is held against them, and no sentence is made up."""
    found = judge(*GOOD)
    assert 3 <= len(found) <= 6
    words = " ".join(found)
    assert "40 % (35 to 45 %) of their lead over a random order is not had by brightness" in words
    assert "depend on what it learned" in words
    assert "not clearly" not in words
    assert "is a shortcut" not in words


@pytest.mark.parametrize("measure", GOOD, ids=lambda one: one.name)
def test_intervals_decide(measure):
    """What is wrong by its estimate alone, with an interval that holds the limit, is not said."""
    wide = {
        name: Estimate(value=one.value, low=min(one.low, -1.0), high=max(one.high, 2.0), n=9)
        for name, one in measure.numbers.items()
    }
    if measure.name in ("receptive-field", "deletion", "insertion"):
        return
    words = " ".join(judge(measure.model_copy(update={"numbers": wide})))
    for said in ("that is a shortcut", "disagree", "common to all classes", "turned or mirrored"):
        assert said not in words


def test_a_network_without_skill_comes_first():
    """Whatever else was found; nothing can be known without true classes."""
    found = judge(*GOOD, accuracy=rate_accuracy(47, [55, 45]))
    assert found[0].startswith("The network has no skill to explain: it is right for 47.0 %")
    assert "always answering low would be for 55.0 %" in found[0]
    assert "No true class is known" in judge(*GOOD, accuracy=None)[0]
    assert "no skill" not in " ".join(judge(*GOOD))


def test_a_part_of_the_image_is_no_shortcut_and_one_at_once():
    """Where the network finds in the surroundings what simple features do not, none is denied."""
    both = make("shortcuts", sky_auc=about(0.5), network_sky_auc=about(0.8))
    (found,) = judge(both)
    assert "still tells the class that the network predicts" in found
    (found,) = judge(make("shortcuts", sky_auc=about(0.5), network_sky_auc=about(0.55)))
    assert "No shortcut was found" in found


@pytest.mark.parametrize(("lead", "is_said"), [(0.01, True), (0.06, False)])
def test_colours_are_compared_on_the_same_galaxies(lead, is_said):
    """Intervals that overlap do not make two AUCs equal: the interval of the difference decides."""
    numbers = {"network_over_colours": about(lead, 0.02)}
    found = judge(make("shortcuts", colours_auc=about(0.9), network_auc=about(0.95), **numbers))
    assert ("not clearly better than the colours" in " ".join(found)) == is_said
    # Where neither tells the class, nothing is had by colours.
    numbers["network_over_colours"] = about(0.0, 0.1)
    assert judge(make("shortcuts", colours_auc=about(0.5), network_auc=about(0.5), **numbers)) == []


def test_skill_in_probabilities_is_not_denied():
    """Of nine in ten galaxies of one class, that class may be the likelier for all of them."""
    found = judge(
        make("sanity", passes=True, skill=about(0.4)), accuracy=rate_accuracy(90, [90, 10])
    )
    words = " ".join(found)
    assert "By its answers, the network shows no skill: it is right for 90.0 %" in words
    assert "Its probabilities do (skill 0.400" in words
    assert "has no skill to explain" not in words
    assert "The network has skill to explain" in words


def test_an_accuracy_that_may_be_chance_is_called_so():
    """It is above that of the majority class, and not clearly."""
    found = judge(*GOOD, accuracy=rate_accuracy(57, [55, 45]))
    assert found[0].startswith("The network has no skill that is clear of chance: it is right for")


def test_the_worst_galaxy_decides_on_completeness():
    """Each map is said to add up only if each does."""
    worst = Estimate(value=0.3, low=0.3, high=0.3, n=100)
    numbers = {"error": about(5e-4, 1e-4), "largest error": worst}
    assert judge(make("completeness", **numbers)) == []


def test_too_few_galaxies_are_too_few():
    """And enough are not spoken of."""
    assert any("These are 20 galaxies, too few" in words for words in judge(*GOOD, n=20))
    assert not any("too few" in words for words in judge(*GOOD, n=100))


def test_much_that_is_wrong_leaves_room_for_what_is_right():
    """Six sentences at most, the gravest first, and one on what is supported."""
    found = judge(
        make("shortcuts", sky_auc=about(0.95, 0.02)),
        make("deletion", lead_over_random=about(0.02)),
        make("receptive-field", side=about(7, 0), side_share=about(0.1, 0)),
        make("common-mode", share=about(0.3)),
        make("seeds", agreement=about(0.5)),
        make("symmetry", orientations=about(0.6)),
        make("completeness", error=about(1e-6, 1e-7)),
        n=20,
    )
    assert len(found) == 6
    assert "a shortcut" in found[0]
    assert "The maps are complete" in found[-1]


@pytest.mark.parametrize(
    ("sanity", "accuracy"),
    [
        (make("sanity", passes=False), SKILLED),
        (make("sanity", passes=True), rate_accuracy(47, [55, 45])),
    ],
)
def test_nothing_good_is_said_of_maps_that_explain_nothing(sanity, accuracy):
    """Of a network without skill, or one whose maps do not depend on it."""
    others = [one for one in GOOD if one.name != "sanity"]
    supported = {words for words in judge(*GOOD) if "not had by brightness" in words}
    assert supported
    found = judge(*others, sanity, accuracy=accuracy)
    assert not supported & set(found)
    for words in ("complete", "depend on what", "No shortcut", "give like maps"):
        assert words not in " ".join(found)


def test_what_was_not_measured_is_named():
    """Nothing is concluded from it."""
    found = judge(GOOD[0], known=MEASURES)
    assert found[-1].startswith("Nothing is known of what was not measured: common-mode, ")
    assert "completeness" not in found[-1]
    assert len(judge(GOOD[0], known=["completeness"])) == 1
    assert judge() == []
