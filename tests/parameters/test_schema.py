from __future__ import annotations

import json
from copy import deepcopy
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import ParameterError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import PRESETS, preset
from tio2nn.parameters.schema import describe, json_schema
from tio2nn.parameters.validation import read

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA = json_schema(ParameterSet, "parameters")
ROWS = {row.path: row for row in describe(ParameterSet)}
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether `value` satisfies the keywords of JSON Schema that the generated schema uses."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(
        isinstance(value, TYPES[k]) and (k == "boolean" or not isinstance(value, bool)) for k in kinds
    ):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, (int, float)):
        return (
            value >= schema.get("minimum", value)
            and value <= schema.get("maximum", value)
            and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
            and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        )
    if isinstance(value, list):
        repeats = any(a == b for a, b in combinations(value, 2))
        return (
            len(value) >= schema.get("minItems", 0)
            and not (schema.get("uniqueItems") and repeats)
            and all(accepts(schema["items"], item) for item in value)
        )
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        other = schema["additionalProperties"]
        return set(schema.get("required", ())) <= set(value) and all(
            accepts(properties[key], item) if key in properties else other and accepts(other, item)
            for key, item in value.items()
        )
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def row_path(place: tuple[Any, ...]) -> str:
    """The path of a place in the table: `radial[].eta` for ("radial", 3, "eta")."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


DOCUMENT: dict[str, Any] = {
    **json.loads(preset("artrith-urban-2016").to_json()),
    "reference_energies": {"Ti": -1626.7, "O": -433.2},
}
PLACES = places(DOCUMENT)[1:]
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 1, 0.25, 0.75, 2, 5.5, 1e12, "", "O", "mae", [], [1], [0.5, 0.5], {}]
)


@pytest.mark.parametrize("name", PRESETS)
def test_the_json_schema_accepts_the_presets(name: str) -> None:
    document = json.loads(preset(name).to_json())
    assert accepts(SCHEMA, document)
    assert accepts(SCHEMA, {"$schema": "params.schema.json", **document})


@given(place=st.sampled_from(PLACES), value=WRONG)
def test_the_json_schema_accepts_exactly_what_the_reader_accepts(place: tuple[Any, ...], value: Any) -> None:
    document = deepcopy(DOCUMENT)
    target: Any = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    try:
        read(ParameterSet, document)
        readable = True
    except ParameterError as error:
        rules = ("reference_energies: expected the keys", "training.test_fraction: expected less than 1 -")
        if all(problem.startswith(rules) for problem in error.problems):
            return
        readable = False
    assert accepts(SCHEMA, document) == readable


@given(place=st.sampled_from(PLACES))
def test_the_json_schema_and_the_reader_ask_for_the_same_keys(place: tuple[Any, ...]) -> None:
    document = deepcopy(DOCUMENT)
    target: Any = document
    for key in place[:-1]:
        target = target[key]
    if isinstance(target, list) or place[0] == "reference_energies":
        return
    del target[place[-1]]
    try:
        read(ParameterSet, document)
        readable = True
    except ParameterError:
        readable = False
    assert accepts(SCHEMA, document) == readable
    target["unheard_of"] = 1
    assert not accepts(SCHEMA, document)


def test_the_json_schema_is_json_and_names_its_dialect() -> None:
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA
    assert SCHEMA["$schema"] == DIALECT
    assert SCHEMA["title"] == "parameters"


def test_the_json_schema_carries_meaning_unit_default_and_choices() -> None:
    training = SCHEMA["properties"]["training"]
    scale = training["properties"]["huber_scale"]
    assert scale["description"].endswith("Unit: meV/atom.")
    assert scale["default"] is None
    assert scale["type"] == ["number", "null"]
    assert "null leaves it to the recipe" in scale["description"]
    assert scale["exclusiveMinimum"] == 0
    assert (training["default"]["schedule"], training["default"]["split"]) == (None, "random")
    assert training["properties"]["schedule"]["enum"] == ["cosine", "constant", None]
    assert training["properties"]["forces"]["type"] == ["boolean", "string"]
    assert training["properties"]["forces"]["enum"] == ["auto", True, False]
    assert training["properties"]["forces"]["default"] == "auto"
    assert training["properties"]["gradient_clip"]["type"] == ["number", "null"]
    assert SCHEMA["properties"]["angular"]["items"]["required"] == ["eta", "lambda", "zeta"]


def test_the_table_has_a_row_with_a_meaning_for_every_field() -> None:
    fields = [place for place in PLACES if isinstance(place[-1], str)]
    assert set(ROWS) == {row_path(place) for place in fields} - {
        "reference_energies.Ti",
        "reference_energies.O",
    }
    assert all(row.meaning and not row.meaning.endswith(".") for row in ROWS.values())


def test_a_row_says_type_default_and_unit() -> None:
    assert ROWS["cutoff"][:4] == ("cutoff", "number > 0 and <= 1000", "required", "Å")
    assert ROWS["radial[].r_s"][:4] == ("radial[].r_s", "number >= 0", "0.0", "Å")
    assert ROWS["angular[].lambda"].type == "-1 or 1"
    assert ROWS["network.hidden_layers"][1:3] == ("list of integers >= 1 and <= 10000 or null", "null")
    assert ROWS["network.hidden_layers"].meaning.endswith("; null leaves it to the recipe")
    assert ROWS["network.dropout"].type == "number >= 0 and < 1 or null"
    assert ROWS["training.forces"][1:3] == ('"auto", true or false', '"auto"')
    assert ROWS["tuning.max_trials"][1:3] == ("integer >= 1 or null", "null")
    assert ROWS["elements"].type == "non-empty list of chemical symbols"
    assert ROWS["training"][1:3] == ("object", "")


def test_the_table_shows_sections_before_their_fields_in_the_order_of_the_file() -> None:
    top_level = [path for path in ROWS if "." not in path]
    assert top_level == list(SCHEMA["properties"])[1:]
    paths = list(ROWS)
    assert paths.index("network") + 1 == paths.index("network.hidden_layers")
