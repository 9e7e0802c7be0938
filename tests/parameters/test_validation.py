from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from tio2nn.errors import ParameterError
from tio2nn.files.strict_json import parse
from tio2nn.parameters.fields import (
    NUMBER,
    SECTION,
    UNIQUE,
    About,
    Boolean,
    NonNegative,
)
from tio2nn.parameters.schema import to_json
from tio2nn.parameters.validation import Section, broken_rule, did_you_mean, read


@dataclass(frozen=True, config=SECTION)
class Point(Section):
    x: Annotated[NonNegative, About("Place")]
    label: Annotated[Literal["red", "green", "blue"], About("Name")] = "red"


@dataclass(frozen=True, config=SECTION)
class Range(Section):
    low: Annotated[int, Field(ge=0), NUMBER, About("Lower end")] = 0
    high: Annotated[int, Field(le=9), NUMBER, About("Upper end")] = 9
    open_: Annotated[Boolean, About("Without its ends")] = False

    @field_validator("high")
    @classmethod
    def _check_order(cls, high: int, others: ValidationInfo) -> int:
        if others.data.get("low", high) <= high:
            return high
        raise broken_rule("high", f"expected a number >= low, got {high}")


@dataclass(frozen=True, config=SECTION)
class Drawing(Section):
    points: Annotated[tuple[Point, ...], Field(min_length=1), UNIQUE, About("Points")]
    range: Annotated[Range, About("Range")] = field(default_factory=Range)
    weights: Annotated[dict[str, Annotated[float, NUMBER]] | None, About("Weights")] = None
    size: Annotated[Annotated[int, Field(gt=0), NUMBER] | None, About("Size")] = None


def problems_of(document: Any) -> tuple[str, ...]:
    with pytest.raises(ParameterError) as caught:
        read(Drawing, document)
    return caught.value.problems


def test_a_valid_document_becomes_the_dataclass_with_defaults_filled_in() -> None:
    drawing = read(Drawing, {"points": [{"x": 1}], "range": {"open": True}, "weights": {"a": 2}})
    assert drawing == Drawing(points=(Point(1.0, "red"),), range=Range(0, 9, True), weights={"a": 2.0})
    assert read(Drawing, to_json(drawing)) == drawing


def test_all_problems_are_reported_at_once_with_their_paths() -> None:
    document = {
        "points": [{"x": "1"}, {"X": 1}, {"x": -1, "label": "gren"}, 4],
        "range": {"low": 5, "high": 3},
        "wieghts": {},
        "weights": {"a b": None, "c": 1},
        "size": 0,
        "low": 1,
    }
    assert problems_of(document) == (
        'wieghts: unknown key, did you mean "weights"?',
        'low: unknown key, did you mean "range.low"?',
        'points[0].x: expected a number >= 0, got "1"',
        'points[1].X: unknown key, did you mean "x"?',
        "points[1].x: expected a number >= 0, got nothing",
        "points[2].x: expected a number >= 0, got -1",
        'points[2].label: expected "red", "green" or "blue", got "gren", did you mean "green"?',
        "points[3]: expected an object, got 4",
        "range.high: expected a number >= low, got 3",
        'weights."a b": expected a number, got null',
        "size: expected an integer > 0 or null, got 0",
    )


@pytest.mark.parametrize("value", [True, 2.0, "2", None, [2], float("nan"), 10])
def test_a_value_that_is_no_integer_within_its_bounds_is_refused(value: object) -> None:
    (problem,) = problems_of({"points": [{"x": 1}], "range": {"high": value}})
    assert problem.startswith("range.high: expected an integer <= 9, got ")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "true"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (10**400, "1000000000000000000000000000000000000..."),
        ({}, "{}"),
    ],
)
def test_a_value_that_is_no_finite_number_is_refused(value: object, got: str) -> None:
    assert problems_of({"points": [{"x": value}]}) == (f"points[0].x: expected a number >= 0, got {got}",)


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_only_true_and_false_are_booleans(value: object) -> None:
    (problem,) = problems_of({"points": [{"x": 1}], "range": {"open": value}})
    assert problem.startswith("range.open: expected true or false, got ")


@pytest.mark.parametrize("document", [[], "x", 3, None])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    (problem,) = problems_of(document)
    assert problem.startswith("expected an object, got ")


def test_an_empty_list_is_refused_where_one_item_is_needed() -> None:
    assert problems_of({"points": []}) == ("points: expected a non-empty list of objects, got []",)


def test_equal_items_are_refused_even_if_they_are_written_differently() -> None:
    document = {"points": [{"x": 1}, {"x": 2}, {"x": 1.0, "label": "red"}]}
    assert problems_of(document) == ("points[2]: expected distinct items, got the same as points[0]",)


def test_repeated_items_are_reported_beside_wrong_ones() -> None:
    document = {"points": [{"x": 1}, {"x": -1}, {"x": 1.0}, {}]}
    assert problems_of(document) == (
        "points[1].x: expected a number >= 0, got -1",
        "points[2]: expected distinct items, got the same as points[0]",
        "points[3].x: expected a number >= 0, got nothing",
    )


def test_what_fields_must_satisfy_together_is_asked_of_defaults_too() -> None:
    assert problems_of({"points": [{"x": 1}], "range": {"low": 10}}) == (
        "range.high: expected a number >= low, got 9",
    )


def test_a_key_written_twice_is_refused_at_every_depth() -> None:
    document = parse('{"points": [{"x": 1, "x": 1}], "weights": {"a": 1, "a": 1}, "size": 1, "size": 1}')
    assert problems_of(document) == (
        "size: expected the key once, got it more than once",
        "points[0].x: expected the key once, got it more than once",
        "weights.a: expected the key once, got it more than once",
    )


def test_the_key_that_names_a_schema_is_allowed_at_the_top_only() -> None:
    assert read(Drawing, {"$schema": "drawing.schema.json", "points": [{"x": 1}]}).size is None
    assert problems_of({"points": [{"x": 1, "$schema": ""}]}) == ('points[0]."$schema": unknown key',)


def test_a_problem_stays_on_one_line_whatever_the_key_holds() -> None:
    (problem,) = problems_of({"points": [{"x": 1}], "a\nb\x1b[31m": 1})
    assert problem == '"a\\nb\\u001b[31m": unknown key'


def test_an_instance_with_problems_cannot_be_made() -> None:
    with pytest.raises(ParameterError) as caught:
        Point(-1.0, "rad")
    assert caught.value.problems == (
        "x: expected a number >= 0, got -1.0",
        'label: expected "red", "green" or "blue", got "rad", did you mean "red"?',
    )
    with pytest.raises(ParameterError, match="high: expected a number >= low, got 1"):
        Range(low=2, high=1)


def test_an_instance_is_made_of_positions_or_names_whatever_its_keys_in_json() -> None:
    assert Range(1, 2, True) == Range(high=2, low=1, open_=True) == replace(Range(1, 2), open_=True)
    with pytest.raises(ParameterError) as caught:
        Range(-1, 12, open_=1)  # type: ignore[arg-type]
    assert caught.value.problems == (
        "low: expected an integer >= 0, got -1",
        "high: expected an integer <= 9, got 12",
        "open: expected true or false, got 1",
    )
    (problem,) = problems_of({"points": [{"x": 1}], "range": {"open_": True}})
    assert problem == 'range.open_: unknown key, did you mean "open"?'


def test_numbers_get_their_declared_plain_type() -> None:
    point = Point(np.float32(0.5))
    assert type(point.x) is float
    assert type(Point(3).x) is float
    assert type(Range(low=np.int64(3)).low) is int
    assert str(Point(-0.0).x) == "0.0"


def test_a_mapping_in_an_instance_is_not_that_of_its_maker() -> None:
    weights = {"a": 1.0}
    drawing = Drawing(points=(Point(1),), weights=weights)
    weights["a"] = 2.0
    assert drawing.weights == {"a": 1.0}


def test_a_suggestion_ignores_case_and_is_silent_where_nothing_is_near() -> None:
    assert did_you_mean("SILO", ["silu", "tanh"]) == ', did you mean "silu"?'
    assert did_you_mean("zzz", ["silu", "tanh"]) == ""
