"""The clock: the time that files record, which SOURCE_DATE_EPOCH sets for reproducible builds."""

import os
from datetime import UTC, datetime

from galfig.errors import ConfigError

_VARIABLE = "SOURCE_DATE_EPOCH"
# The end of the year 9999, the last that can be written [s].
_END = 253_402_300_799


def now() -> datetime:
    """Return the time, or that of SOURCE_DATE_EPOCH if it is set.

    Returns
    -------
    datetime
        In UTC.

    Raises
    ------
    ConfigError
        If SOURCE_DATE_EPOCH is not a whole number of seconds since 1970.
    """
    pinned = os.environ.get(_VARIABLE)
    if not pinned:
        return datetime.now(UTC)
    is_number = pinned.isascii() and pinned.isdecimal() and len(pinned) <= len(str(_END))
    if not is_number or int(pinned) > _END:
        raise ConfigError(
            f"{_VARIABLE}: {pinned!r}, expected a whole number of seconds since 1970; "
            "set it as 'date +%s' prints it, or unset it"
        )
    return datetime.fromtimestamp(int(pinned), UTC)
