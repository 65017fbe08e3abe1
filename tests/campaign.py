"""The campaign of faults: each trial counted by kind, and a table of them at the end.

``pytest --campaign full`` (``make test-faults``) tries more of each kind than the daily tests do.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Campaign:
    """Counts what was tried and what survived, by kind of fault.

    Attributes
    ----------
    is_full : bool
        Whether this is the long form.
    """

    def __init__(self, *, is_full: bool) -> None:
        self.is_full = is_full
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()

    def n(self, short: int, full: int) -> int:
        """Return how often to try: ``short`` in the daily tests, ``full`` in the campaign."""
        return full if self.is_full else short

    @contextmanager
    def trial(self, kind: str) -> Iterator[None]:
        """Count one trial; it survived unless the block, which holds the asserts, raises."""
        self.tried[kind] += 1
        yield
        self.survived[kind] += 1

    def write_table(self) -> list[str]:
        """Return the lines of the table."""
        width = max(len(kind) for kind in (*self.tried, "kind of fault"))
        lines = [f"{'kind of fault':{width}}  tried  survived"]
        for kind, tried in sorted(self.tried.items()):
            lines.append(f"{kind:{width}}  {tried:5}  {self.survived[kind]:8}")
        total = f"{sum(self.tried.values()):5}  {sum(self.survived.values()):8}"
        return [*lines, f"{'all':{width}}  {total}"]
