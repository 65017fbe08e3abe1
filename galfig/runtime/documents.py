"""JSON and TOML from files, however deep or long, and JSON that any reader accepts.

The parsers of Python raise ``RecursionError`` for deep nesting, and a bare ``ValueError`` for
integers of thousands of digits. These functions raise only ``ValueError``, whose message is one
line.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from galfig.runtime.messages import UNPRINTABLE, one_line

# Nothing that galfig writes is nested more deeply than 8 levels.
MAX_DEPTH = 64
# Items of a long list that are written at a time.
_BLOCK = 10_000
# Characters that JSON permits in a string, but that would act on a terminal or break a line.
_UNSAFE = re.compile(f"(?!\\n){UNPRINTABLE.pattern}")


def load_json(text: object) -> Any:
    """Parse JSON.

    Parameters
    ----------
    text : str or bytes
        The document. Anything else is refused, so that a caller may pass on what a file holds.

    Returns
    -------
    dict, list, str, int, float, bool or None
        The value; ``NaN`` and ``Infinity``, which older versions of galfig wrote, become floats.

    Raises
    ------
    ValueError
        If the text is not JSON, or is nested too deeply.
    """
    if not isinstance(text, str | bytes):
        raise ValueError(f"not JSON (found {type(text).__name__}, expected text)")
    try:
        value = json.loads(text)
    except RecursionError as exc:
        raise ValueError(_describe_depth("JSON")) from exc
    except ValueError as exc:
        raise ValueError(f"not valid JSON ({one_line(exc)})") from exc
    _check_depth(value, "JSON")
    return value


def load_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Parameters
    ----------
    text : str
        The document.

    Returns
    -------
    dict
        Its tables.

    Raises
    ------
    ValueError
        If the text is not TOML, or is nested too deeply.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError as exc:
        raise ValueError(_describe_depth("TOML")) from exc
    except ValueError as exc:
        raise ValueError(f"not valid TOML ({one_line(exc)})") from exc
    _check_depth(tables, "TOML")
    return tables


def dump_json(value: Any, *, indent: int | None = None, sort_keys: bool = True) -> str:
    """Write a value as JSON that every reader accepts and that a terminal can show.

    Parameters
    ----------
    value : nested dict, list and tuple of str, int, float, bool and None
        The value. A number that is not finite becomes null, since JSON has no such numbers.
    indent : int, optional
        Blanks per level; by default, everything is on one line.
    sort_keys : bool, default True
        Whether to sort the keys, so that equal values give equal bytes.

    Returns
    -------
    str
        Control characters, and bytes of paths that are not UTF-8, are
        escaped.
    """
    words = json.dumps(
        replace_nan(value), sort_keys=sort_keys, ensure_ascii=False, allow_nan=False, indent=indent
    )
    return _UNSAFE.sub(_escape, words)


def digest_json(items: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON with sorted keys, without a document of long lists in memory.

    Parameters
    ----------
    items : mapping of str to JSON value
        The document; a list may also be an array of numpy.

    Returns
    -------
    str
        The digest of ``json.dumps(items, sort_keys=True)``, as hexadecimal digits.
    """
    digest = hashlib.sha256()
    for number, (key, value) in enumerate(sorted(items.items())):
        digest.update(f"{', ' if number else '{'}{json.dumps(key)}: ".encode())
        if isinstance(value, list | tuple) or hasattr(value, "tolist"):
            digest.update(b"[")
            for start in range(0, len(value), _BLOCK):
                block = json.dumps(list(value[start : start + _BLOCK]), sort_keys=True)
                digest.update(f"{', ' if start else ''}{block[1:-1]}".encode())
            digest.update(b"]")
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    digest.update(b"}" if items else b"{}")
    return digest.hexdigest()


def replace_nan(value: Any) -> Any:
    """Replace the numbers of a nested value that are not finite by None."""
    if isinstance(value, dict):
        return {key: replace_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    # JSON escapes are those of UTF-16.
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def _check_depth(value: Any, kind: str) -> None:
    """Raise ValueError for a value that later code, which is recursive, could not walk."""
    level = _list_items([value])
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _list_items(parent)]
        if not level:
            return
    raise ValueError(_describe_depth(kind))


def _list_items(parent: Any) -> list[Any]:
    items = parent.values() if isinstance(parent, dict) else parent
    return [item for item in items if isinstance(item, dict | list)]


def _describe_depth(kind: str) -> str:
    return f"not valid {kind} (nested more than {MAX_DEPTH} levels deep)"
