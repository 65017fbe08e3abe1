"""Class examples: galaxies of each class, named."""

from galfig.figures.class_examples import draw as draw_examples
from galfig.figures.drawing import DrawOptions
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies


def test_class_examples_are_of_their_class(trained_store):
    """Each row shows galaxies of one true class, named, at most six."""
    with open_store(trained_store) as store:
        drawing = draw_examples(store, select_galaxies(store, Query(n=None)), DrawOptions())
        (fig,) = drawing.pages
        shown = [ax.texts[1].get_text().replace("\n", "") for ax in fig.axes]
        label = dict(zip(store.objid, store.label, strict=True))
    assert len(shown) == 12
    assert [label[objid] for objid in shown] == [0] * 6 + [1] * 6
    rows = [text.get_text() for text in fig.texts]
    assert rows == ["low-metallicity", "high-metallicity"]
