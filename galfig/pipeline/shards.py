"""Shards by number: those that one of many processes is to explain."""

import re
from collections.abc import Iterable

from galfig.errors import ConfigError
from galfig.runtime.messages import quote

# Digits beyond these are no number of a shard.
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
# More shards than any plan has.
_MANY = 1_000_000_000
_EXPECTED = (
    'expected numbers and ranges such as "120-239" or "7,9-12", or a share such as "3/16", the '
    "third of sixteen"
)


def choose_shards(words: str, n_shards: int) -> range | list[int]:
    """Return the numbers of the shards that a process is to explain.

    Parameters
    ----------
    words : str
        Numbers and ranges of shards, which count from 0 and include their ends, such as "120-239"
        or "7,9-12"; or a share such as "3/16", the third of sixteen. Shares are as equal as they
        can be, and together they are all shards, each once.
    n_shards : int
        Number of shards of the plan.

    Returns
    -------
    sequence of int
        In increasing order; empty for a share of more processes than there are shards.

    Raises
    ------
    ConfigError
        If the words are none of these, or name a shard that the plan does not have.
    """
    words = words.replace(" ", "")
    if share := _SHARE.fullmatch(words):
        number, n_shares = int(share[1]), int(share[2])
        if not 1 <= number <= n_shares:
            raise ConfigError(
                f"`shards` {quote(words)}: shares count from 1 to their number, {n_shares}; "
                f"{_EXPECTED}"
            )
        return range((number - 1) * n_shards // n_shares, number * n_shards // n_shares)
    ranges = [_RANGE.fullmatch(word) for word in words.split(",")]
    chosen: set[int] = set()
    for found in ranges:
        if found is None:
            raise ConfigError(f"`shards` {quote(words)}: {_EXPECTED}")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last or last >= n_shards:
            raise ConfigError(
                f"`shards` {quote(words)}: {found[0]} is no range of shards, the plan has "
                f"{n_shards}: 0 to {n_shards - 1}"
            )
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def check_shards(words: str) -> None:
    """Check that words name shards, before it is known how many there are.

    Raises
    ------
    ConfigError
        If they are none that `choose_shards` reads.
    """
    choose_shards(words, _MANY)


def describe_shards(numbers: Iterable[int]) -> str:
    """Write numbers of shards as `choose_shards` reads them.

    Parameters
    ----------
    numbers : iterable of int
        In increasing order.

    Returns
    -------
    str
        Such as "7,9-12".
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
