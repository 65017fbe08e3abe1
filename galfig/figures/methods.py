"""Methods in words: what figures and captions call the maps of a store, and whom they cite."""

from typing import NamedTuple

from galfig.records import StoreRecord
from galfig.store.summary import LEAST_DISTANCE


class MethodWords(NamedTuple):
    """What to say of a method of attribution.

    Attributes
    ----------
    name : str
        The name, as it stands in the middle of a sentence before "maps".
    source : str
        What to cite.
    unit : str
        Unit of a map, on axes: "logit", "log-odds" or "arbitrary unit".
    units : str
        The same after a number, with its preposition: "in logits".
    note : str
        A sentence on what a reader would get wrong; "" if there is nothing to say.
    """

    name: str
    source: str
    unit: str = "logit"
    units: str = "in logits"
    note: str = ""

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def label(self) -> str:
        """The name and the unit, for an axis."""
        return f"{self.title} [{self.unit}]"


_POSITIVE = (
    "The method leaves out negative gradients, so that the maps do not show what speaks against a "
    "class."
)
METHODS = {
    "grad-cam": MethodWords("Grad-CAM", "Selvaraju et al. 2017"),
    "hires-cam": MethodWords("HiResCAM", "Draelos & Carin 2020"),
    "grad-cam++": MethodWords(
        "Grad-CAM++",
        "Chattopadhyay et al. 2018",
        "arbitrary unit",
        "in arbitrary units",
        _POSITIVE,
    ),
    "layer-cam": MethodWords("LayerCAM", "Jiang et al. 2021", note=_POSITIVE),
    "x-grad-cam": MethodWords("XGrad-CAM", "Fu et al. 2020"),
    "evidence": MethodWords(
        "evidence",
        "Grad-CAM of the log-odds of each class against the rest; Selvaraju et al. 2017; Srinivas "
        "& Fleuret 2020",
        "log-odds",
        "in log-odds",
        "A part that the maps of all classes share, on which the prediction does not depend, "
        "cancels in them.",
    ),
    "integrated-gradients": MethodWords(
        "integrated-gradients",
        "Sundararajan et al. 2017",
        note="They are summed over the channels, and relative to an image that is everywhere the "
        "mean pixel of the training set.",
    ),
    "input-x-gradient": MethodWords(
        "input-times-gradient",
        "Shrikumar et al. 2016",
        note="They are summed over the channels; a pixel counts as zero if it is the mean pixel of "
        "the training set.",
    ),
}
"""What to say of each method."""


def find_words(record: StoreRecord) -> MethodWords:
    """Return what to say of the method of a store.

    Parameters
    ----------
    record : StoreRecord
        What the store says about itself. Of a method that this version does not know, only the
        name can be said.

    Returns
    -------
    MethodWords
    """
    unknown = MethodWords(record.method, "", "arbitrary unit", "in the unit of the maps")
    return METHODS.get(record.method, unknown)


def describe_faithfulness(record: StoreRecord) -> str:
    """Say how far Grad-CAM is from HiResCAM, where they are not the same.

    Parameters
    ----------
    record : StoreRecord
        What the store says about itself.

    Returns
    -------
    str
        A clause without a full stop; "" where pooling and one linear layer follow, where the maps
        are those of HiResCAM or of no layer, or where nothing was measured.
    """
    distance, name = record.hires_distance, find_words(record).title
    if distance is None or distance < LEAST_DISTANCE or record.method == "hires-cam":
        return ""
    words = (
        "more than pooling and one linear layer follows the layer, so that HiResCAM (Draelos & "
        "Carin 2020) is the faithful choice"
    )
    if record.method in ("grad-cam", "evidence"):
        of = "" if record.method == "grad-cam" else ", of which evidence is a contrast,"
        return f"{words}; Grad-CAM{of} differs from it here by {distance:.0%} of its norm".replace(
            "%", " %"
        )
    return f"{words}, which {name} is not"
