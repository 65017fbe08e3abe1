"""Top losses: the worst of all that could be shown, and the maps of their classes."""

import numpy as np

from galfig.figures.captions import PLAIN
from galfig.figures.drawing import DrawOptions
from galfig.figures.registry import draw_figure
from galfig.figures.top_losses import draw as draw_top_losses
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies


def test_top_losses_show_the_right_class_before_the_wrong(make_store):
    """The largest losses from top to bottom: the true class's map, then the likeliest other's."""
    with open_store(make_store(class_names=("a", "b", "c"), quantity="")) as store:
        drawing = draw_top_losses(
            store, select_galaxies(store, Query(n=5, sort="loss")), DrawOptions()
        )
        losses = store.losses
        worst = np.argsort(-losses)[:5]
        (fig,) = drawing.pages
        rows = [fig.axes[start : start + 4] for start in range(0, 20, 4)]
        for (first, right, wrong, _), index in zip(rows, worst, strict=True):
            assert first.texts[1].get_text() == store.objid[index]
            assert first.texts[3].get_text() == f"true: {store.class_names[store.label[index]]}"
            name = right.texts[1].get_text().lstrip("✓✗\xa0")
            assert name == store.class_names[store.label[index]]
            others = store.probs[index].copy()
            others[store.label[index]] = 0
            assert wrong.texts[1].get_text().lstrip("✓✗\xa0") == store.class_names[others.argmax()]
            expected = np.maximum(store.cams(index)[others.argmax()], 0)
            np.testing.assert_array_equal(wrong.images[1].get_array(), expected)


def test_top_losses_are_the_worst_of_all_that_could_be_shown(store_path):
    """However many are asked for: the worst, among the number that they were chosen from."""
    with (
        open_store(store_path) as store,
        draw_figure("top-losses", store_path, Query(n=2)) as (drawing, _),
    ):
        worst = np.argsort(-store.losses)[:2]
        assert drawing.galaxies == tuple(store.objid[worst])
        caption = drawing.describe(PLAIN)
    expected = (
        "The 2 galaxies with the largest cross-entropy loss among the 12 simulated galaxies of the "
        "validation set.\n"
    )
    assert expected in caption
