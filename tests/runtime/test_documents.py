"""JSON and TOML of strangers: one line for anything, and JSON for any reader."""

import hashlib
import json
import math

import numpy as np
import pytest

from galfig.runtime.documents import MAX_DEPTH, digest_json, dump_json, load_json, load_toml

BOMBS = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep dict": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "cut off": "[" * 100_000,
    "digits": "9" * 5000,
    "no end": '"abc',
    "nothing": "",
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_json_of_any_depth_ends_in_one_line(bomb):
    """Neither a RecursionError nor a message of more than a line."""
    with pytest.raises(ValueError, match="JSON") as found:
        load_json(bomb)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        "x = " + "[" * 20_000 + "]" * 20_000,
        "x = " + "{a = " * 20_000 + "1" + "}" * 20_000,
        "x = " + "9" * 5000,
        'x = "\\ud800"',
        "x = ",
        ".".join(["a"] * 3000) + " = 1",
    ],
)
def test_toml_of_any_depth_ends_in_one_line(words):
    """Dotted keys nest as well."""
    with pytest.raises(ValueError, match="TOML") as found:
        load_toml(words)
    assert len(str(found.value).splitlines()) == 1


def test_depth_that_is_allowed_can_be_written_again():
    """The limit is the same for lists and tables, and far above what galfig writes."""
    words = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert dump_json(load_json(words)) == words
    with pytest.raises(ValueError, match="nested more than"):
        load_json(f"[{words}]")
    assert load_toml("a.b.c = [1]") == {"a": {"b": {"c": [1]}}}


def test_what_is_no_text_is_refused():
    """An attribute may hold a number or nothing where JSON is expected."""
    with pytest.raises(ValueError, match="found int, expected text"):
        load_json(7)


def test_json_is_json():
    """Numbers that are not finite become null; a strict reader accepts the rest."""
    value = {"b": [math.inf, -math.inf, math.nan, 1.5], "a": "é \x1b \x9b \u2028 \ud800 \ue000"}
    words = dump_json(value)
    assert words.startswith('{"a"')
    assert not {"\x1b", "\x9b", "\u2028", "\ud800"} & set(words)

    def refuse(constant):
        raise ValueError(constant)

    found = json.loads(words.encode(), parse_constant=refuse)
    assert found == {"a": value["a"], "b": [None, None, None, 1.5]}


def test_lines_of_json_stay_lines():
    """With an indent, only the text within quotes is escaped."""
    assert dump_json({"a": "\n"}, indent=1) == '{\n "a": "\\n"\n}'


@pytest.mark.parametrize("n", [0, 1, 9_999, 10_000, 10_001, 25_000])
def test_the_digest_of_long_lists_is_that_of_the_whole_document(n):
    """Stores of older versions keep their digests, however it is computed."""
    names = [f'é"{number}' for number in range(n)]
    document = {"objid": names, "a": {"z": [1.5, None], "b": "x"}, "é": True, "m": [], "l": [{}]}
    expected = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert digest_json(document) == expected
    assert digest_json({**document, "objid": np.array(names, dtype=object)}) == expected
    assert digest_json({}) == hashlib.sha256(b"{}").hexdigest()
