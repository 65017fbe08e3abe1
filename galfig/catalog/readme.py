"""ReadMe: what the file of this name, beside a table of CDS, says of the columns of the table.

CDS and VizieR keep tables as columns of fixed width without a header line. A file ``ReadMe`` in the
same folder describes them, byte by byte.
"""

import fnmatch
import logging
import re
from pathlib import Path

from galfig.runtime.inputs import read_regular

logger = logging.getLogger(__name__)

NAME = "ReadMe"
# Largest ReadMe [byte].
_MAX_BYTES = 10_000_000
_TITLE = re.compile(r"^\s*Byte-by-byte Description of file\s*:?([^\n]*)\n", re.I | re.M)
_RULE = re.compile(r"^-{20,}[ \t]*\n", re.M)


def describe(data: bytes, path: Path) -> bytes:
    """Put the description of a table above its rows, if a ReadMe beside it has one.

    Parameters
    ----------
    data : bytes
        The table.
    path : Path
        Its path.

    Returns
    -------
    bytes
        As the AAS's machine-readable tables: description, then rows. ``data`` if it describes
        itself, or nothing describes it.
    """
    if _TITLE.search(data[:100_000].decode("latin-1")):
        return data
    try:
        words = read_regular(path.with_name(NAME), _MAX_BYTES).decode("latin-1")
    except OSError:
        return data
    words = words.replace("\r\n", "\n")
    for title in _TITLE.finditer(words):
        if not any(fnmatch.fnmatchcase(path.name, name) for name in title[1].split()):
            continue
        # One rule above the names of the columns of the description, one below, and one at its end.
        rules = list(_RULE.finditer(words, title.end()))[:3]
        if len(rules) == 3:
            logger.info("%s: its columns are those of %s", path, path.with_name(NAME))
            return words[title.start() : rules[2].end()].encode() + data
    return data
