"""The clock: SOURCE_DATE_EPOCH is a number of seconds, or one line says that it is not."""

from datetime import UTC, datetime, timedelta

import pytest

from galfig.errors import ConfigError
from galfig.runtime.clock import now


def test_without_the_variable_it_is_now(monkeypatch):
    """Unset and empty are the same."""
    for set_it in (lambda: monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False),):
        set_it()
        assert abs(now() - datetime.now(UTC)) < timedelta(seconds=10)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert abs(now() - datetime.now(UTC)) < timedelta(seconds=10)


def test_the_variable_sets_the_time(monkeypatch):
    """From the first second of 1970 to the last of 9999."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert now() == datetime(1970, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "253402300799")
    assert now() == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "words",
    ["yesterday", "-1", "1.5", "1e9", " 1", "1_000", "१", "253402300800", "9" * 5000, "0x10"],
)
def test_what_is_no_number_of_seconds_is_refused(monkeypatch, words):
    """Before anything is made with it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", words)
    with pytest.raises(ConfigError, match=r"SOURCE_DATE_EPOCH: .*, expected a whole number"):
        now()
