"""Shards by number: what a process is to explain, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galfig.errors import ConfigError
from galfig.pipeline.shards import check_shards, choose_shards, describe_shards


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ("0", [0]),
        ("3-5", [3, 4, 5]),
        ("7, 9-11", [7, 9, 10, 11]),
        ("5,3-5,4", [3, 4, 5]),
        ("1/1", list(range(12))),
        ("3/4", [6, 7, 8]),
        ("12/12", [11]),
        ("1/20", []),
    ],
)
def test_words_name_shards(words, chosen):
    """Ranges include their ends and count from 0; shares count from 1."""
    assert list(choose_shards(words, 12)) == chosen


@given(st.integers(1, 50), st.integers(0, 200))
def test_shares_are_all_shards_once_and_nearly_equal(n_shares, n_shards):
    """However many processes there are for however many shards."""
    shares = [choose_shards(f"{k}/{n_shares}", n_shards) for k in range(1, n_shares + 1)]
    assert [number for share in shares for number in share] == list(range(n_shards))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(st.sets(st.integers(0, 60), min_size=1))
def test_description_is_read_back(numbers):
    """What a message says of missing parts can be given as it stands."""
    assert list(choose_shards(describe_shards(sorted(numbers)), 61)) == sorted(numbers)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "expected numbers and ranges"),
        ("a", "expected numbers and ranges"),
        ("-3", "expected numbers and ranges"),
        ("1-", "expected numbers and ranges"),
        ("1--2", "expected numbers and ranges"),
        ("1,,2", "expected numbers and ranges"),
        ("1:3", "expected numbers and ranges"),
        ("²", "expected numbers and ranges"),
        ("1" * 5000, "expected numbers and ranges"),
        ("0/3", "shares count from 1"),
        ("4/3", "shares count from 1 to their number, 3;"),
        ("1/0", "shares count from 1"),
        ("5-3", "5-3 is no range of shards"),
        ("12", "the plan has 12: 0 to 11"),
        ("3,10-12", "10-12 is no range of shards, the plan has 12"),
    ],
)
def test_other_words_are_refused(words, expected):
    """With what was given and what is expected, in one short line."""
    with pytest.raises(ConfigError, match=expected) as caught:
        choose_shards(words, 12)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_words_are_checked_before_the_plan_is_known():
    """What no plan could have is refused; a number may be beyond its shards."""
    check_shards("120-239")
    check_shards("3/16")
    with pytest.raises(ConfigError, match="expected numbers and ranges"):
        check_shards("three of sixteen")
