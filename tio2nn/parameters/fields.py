"""Declarations of parameters: types and limits as pydantic has them, and what else the program needs to know.

A field of a section reads `name: Annotated[type, ..., About(...)] = default`. The limits of a number come before
`NUMBER`, those of a list before `LIST` or `UNIQUE`, and `About` comes last. The JSON key is the field's name without a
trailing underscore: `lambda_` is "lambda".

A field with `by_recipe` may also be null. Its declared type and default are those of a set that `recipes.resolve` has
filled in; in a file its default is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from numbers import Integral, Real
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema


def key_of(name: str) -> str:
    """The JSON key of a field with this Python name."""
    return name.rstrip("_")


SECTION = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    validate_default=True,  # rules between fields also hold for defaults
    alias_generator=key_of,
    validate_by_alias=True,
    validate_by_name=True,  # in Python code; documents have JSON keys
)
"""Configuration of every section."""

REPEATED = "repeated"
RULE = "rule"
"""Our own error types beside those of pydantic: a repeated item, and a broken rule between fields."""


class Affects(Flag):
    """What depends on a parameter and must be recomputed when it changes."""

    NOTHING = 0
    FEATURES = auto()
    """The features of an atom."""
    DATA = auto()
    """Which structures are used, and the set of the split that each is in."""
    FIT = auto()
    """The weights of a network fitted to given data."""
    POTENTIAL = auto()
    """The content of a potential besides the weights of its networks."""
    SEARCH = auto()
    """The trials of a search."""
    TRIAL = auto()
    """The result of a trial with given settings."""


@dataclass(frozen=True)
class About:
    """A field beyond its type.

    Attributes:
        doc: its meaning, without a full stop.
        affects: what depends on it; sections and symmetry functions leave this to their fields.
        unit: of the number.
        by_recipe: null leaves the value to the recipe.
        searched: each trial of a search has its own value.
        left_out: its value in a file that leaves it out, if not the default.
    """

    doc: str
    affects: Affects = Affects.NOTHING
    unit: str = ""
    by_recipe: bool = False
    searched: bool = False
    left_out: Any = None

    @property
    def meaning(self) -> str:
        """Its meaning, including that of null; without a full stop."""
        return f"{self.doc}; null leaves it to the recipe" if self.by_recipe else self.doc

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return core_schema.nullable_schema(schema) if self.by_recipe else schema

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        unit = f" Unit: {self.unit}." if self.unit else ""
        return {**handler(schema), "description": f"{self.meaning}.{unit}"}


class _Number:
    """Accepts numbers of other libraries, such as NumPy's, but no strings or booleans; turns -0.0 into 0.0."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = _strict(handler(source))
        if schema["type"] == "float":
            schema = core_schema.no_info_after_validator_function(lambda number: float(number) + 0.0, schema)
        return core_schema.no_info_before_validator_function(_plain, schema)


@dataclass(frozen=True)
class OneOf:
    """Choices that `Literal` cannot express: numbers and booleans (1, 1.0 and true are equal), or a long list.

    Attributes:
        choices: all of them.
        noun: the word for one of them in messages, if they are too many to list.
    """

    choices: tuple[Any, ...]
    noun: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = core_schema.literal_schema(list(self.choices))
        return core_schema.no_info_before_validator_function(self._exact, schema)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), **({"title": self.noun} if self.noun else {})}

    def _exact(self, value: Any) -> Any:
        value = _plain(value)
        for choice in self.choices:
            are_alike = isinstance(value, bool) == isinstance(choice, bool)
            if are_alike and isinstance(value, type(choice)) and value == choice:
                return choice
        raise PydanticCustomError("literal_error", "expected one of the choices")


def _strict(schema: CoreSchema) -> CoreSchema:
    return cast(CoreSchema, {**schema, "strict": True})


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


@dataclass(frozen=True)
class _List:
    """A list in JSON, a tuple in Python.

    Attributes:
        unique: whether items must differ.
    """

    unique: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._read, _strict(handler(source)))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), **({"uniqueItems": True} if self.unique else {})}

    def _read(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        """The items; else every problem with them, including repetitions."""
        value = tuple(value) if isinstance(value, list) else value
        try:
            items = handler(value)
            wrong: list[InitErrorDetails] = []
            indices: list[int] = list(range(len(items)))
        except ValidationError as error:
            found = [details for details in error.errors() if not is_noise(details)]
            if not self.unique or not all(details["loc"] for details in found):
                raise
            wrong = [_again(details) for details in found]
            indices = sorted(set(range(len(value))) - {details["loc"][0] for details in found})
            items = handler(tuple(value[index] for index in indices)) if indices else ()
        first: dict[Any, int] = {}
        if self.unique:
            wrong += [
                InitErrorDetails(
                    type=PydanticCustomError(REPEATED, "repeated", {"first": first[item]}),
                    loc=(index,),
                    input=value[index],
                )
                for index, item in zip(indices, items, strict=True)
                if first.setdefault(item, index) != index
            ]
        if wrong:
            raise ValidationError.from_exception_data("list", wrong)
        return items


def is_noise(details: ErrorDetails) -> bool:
    """Whether a list counts as too short only because its items are wrong."""
    return details["type"] == "too_short" and len(details["input"]) > 0


def _again(details: ErrorDetails) -> InitErrorDetails:
    """A reported error as one that can be raised with others."""
    kind = PydanticCustomError(details["type"], "expected another value", details.get("ctx"))
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"])


NUMBER = _Number()
LIST = _List()
UNIQUE = _List(unique=True)

Boolean = Annotated[bool, Strict()]
NonNegative = Annotated[float, Field(ge=0), NUMBER]
Positive = Annotated[float, Field(gt=0), NUMBER]
Count = Annotated[int, Field(ge=1), NUMBER]
