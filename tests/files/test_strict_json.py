from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import InputError
from tio2nn.files.strict_json import decode, format_json, parse, quote

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_what_is_formatted_parses_to_the_same_value(value: object) -> None:
    assert parse(format_json(value)) == value


def test_rows_of_a_list_stand_on_one_line_each_and_sections_are_spread() -> None:
    document = {"rows": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1e-05}], "section": {"list": [1, 2]}, "none": []}
    assert format_json(document) == (
        '{\n  "rows": [\n    {"a": 1, "b": 0.5},\n    {"a": 2, "b": 1e-05}\n  ],\n'
        '  "section": {\n    "list": [1, 2]\n  },\n  "none": []\n}\n'
    )


def test_a_list_too_long_for_a_line_is_spread() -> None:
    lines = format_json({"values": list(range(1000, 1100))}).splitlines()
    assert max(map(len, lines)) < 20


def test_a_repeated_key_is_remembered() -> None:
    document = parse('{"a": 1, "b": {"c": 1, "c": 2, "c": 3}, "a": 2}')
    assert document.repeated_keys == ("a",)
    assert document["b"].repeated_keys == ("c",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": 2,\n}', 'f.json:3: expected valid JSON, got "}" at column 1'),
        ('{"a": 1', "f.json:1: expected valid JSON, got the end of the file at column 8"),
        ("", "f.json:1: expected valid JSON, got the end of the file at column 1"),
        ('{"a": 1} x', 'f.json:1: expected valid JSON, got "x" at column 10'),
        ("[" * 200_000, "f.json: expected valid JSON, got brackets nested too deeply"),
    ],
)
def test_a_syntax_error_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, file="f.json")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_integer_of_any_length_can_be_parsed() -> None:
    assert parse("1" + "0" * 50) == 10**50
    assert math.isinf(parse("1" + "0" * 10_000))


def test_text_is_utf8_with_or_without_byte_order_mark() -> None:
    assert decode("Å".encode()) == decode("Å".encode("utf-8-sig")) == "Å"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_file_in_a_wide_encoding_is_refused_by_its_name(encoding: str) -> None:
    with pytest.raises(InputError, match=f"^f.json: expected UTF-8 text, got {encoding.upper()}$"):
        decode("{}".encode(encoding), file="f.json")


def test_a_byte_that_is_not_utf8_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match=r"^f\.json:2: expected UTF-8 text, got the byte 0xc5$"):
        decode('{\n "unit": "Å"}'.encode("latin-1"), file="f.json")


@given(VALUES | st.binary() | st.complex_numbers())
def test_a_quoted_value_is_one_printable_line(value: object) -> None:
    assert quote(value).isprintable()


def test_a_quoted_value_is_json() -> None:
    assert quote("Å") == '"Å"'
    assert json.loads(quote("a\u2028b\x1b")) == "a\u2028b\x1b"
