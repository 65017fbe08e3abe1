"""Columns of text as bytes: what is found, ordered and decoded is what Python's text would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galfig.store.texts import TextColumn

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def make_column(texts, kind="S"):
    """Return a column as h5py reads it, of fixed length or of variable length."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    if kind == "S":
        return TextColumn(np.array(encoded, f"S{max(map(len, encoded), default=0) or 1}"))
    cells = np.empty(len(encoded), object)
    cells[:] = encoded
    return TextColumn(cells)


@pytest.mark.parametrize("kind", ["S", "O"])
@given(texts=st.lists(WORDS, min_size=1, max_size=60), data=st.data())
def test_as_the_text_of_python(kind, texts, data):
    """Order, places in it, cells that are found or absent, doubled ones: as of a list of str."""
    column = make_column(texts, kind)
    assert column.decode().tolist() == texts
    expected = sorted(range(len(texts)), key=texts.__getitem__)
    assert column.order.tolist() == expected
    rows = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(texts))), min_size=1))))
    by_name = sorted(rows.tolist(), key=texts.__getitem__)
    assert column.sort(rows).tolist() == by_name
    places = np.array(data.draw(st.permutations(range(len(rows)))))[:5]
    assert column.select(rows, places).tolist() == [by_name[place] for place in places]
    assert column.is_unique == (len(set(texts)) == len(texts))
    if column.is_plain:
        assert all(text.isascii() and text.isprintable() and text for text in texts)
    sought = [*texts[:3], "absent", texts[0] + "x", "with\0zero", "\ud800"]
    for repeated in (sought, sought * 10):
        found = column.find(repeated).tolist()
        texts_found = [texts[index] if index >= 0 else None for index in found]
        assert texts_found == [text if text in texts else None for text in repeated]


@given(WORDS.filter(bool))
def test_plain_is_what_needs_no_second_look(word):
    """Every word of printable ASCII is plain, and it is unique beside another one."""
    column = make_column([word, word + "x"])
    assert column.is_plain == (word.isascii() and word.isprintable())
    assert column.is_unique


def test_a_zero_inside_a_cell_is_not_plain():
    """numpy shows a zero inside, and Python does not print it; nothing at all is no name."""
    assert not TextColumn(np.array([b"a\0b", b"c"])).is_plain
    assert not TextColumn(np.array([b"", b"c"])).is_plain
    assert TextColumn(np.array([b"a", b"longer"])).is_plain


def test_match_with_another_column():
    """Each cell of the other column is found here, whatever the lengths and kinds of cells."""
    here, names = make_column(["b", "a", "much longer"]), ["a", "zz", "much longer", "b"]
    for kind in ("S", "O"):
        assert here.match(make_column(names, kind)).tolist() == [1, -1, 2, 0]
        assert make_column(["b", "a"], kind).match(here).tolist() == [0, 1, -1]


def test_many_cells_share_their_beginning():
    """Identifiers of SDSS differ behind their first eight characters only."""
    rng = np.random.default_rng(0)
    texts = [str(1237645000000000000 + number) for number in rng.permutation(5000)]
    column, rows = make_column(texts), np.arange(0, 5000, 3)
    places = np.array([0, 17, 1666, 900])
    expected = np.array(sorted(rows, key=texts.__getitem__))[places]
    assert column.select(rows, places).tolist() == expected.tolist()
    assert column.is_plain
    assert column.is_unique
    assert not make_column([*texts, texts[40]]).is_unique
