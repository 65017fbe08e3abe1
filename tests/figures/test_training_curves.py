"""Training curves: the history, an epoch a point."""

from samples import HISTORY

from galfig.figures.training_curves import make_training_curves
from galfig.records import Epoch


def test_training_curves_show_the_history():
    """Two losses and three metrics, an epoch a point."""
    losses, metrics = make_training_curves([Epoch(**row) for row in HISTORY]).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in [*losses.lines, *metrics.lines]}
    assert drawn == {
        "training": [0.7, 0.5],
        "validation": [0.6, 0.5],
        "accuracy": [0.6, 0.8],
        "ROC AUC": [0.7, 0.9],
        "F1": [0.55, 0.79],
    }
    assert list(losses.lines[0].get_xdata()) == [1, 2]
    assert losses.get_ylim()[0] == 0
