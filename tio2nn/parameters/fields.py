"""How a parameter is declared: its type and limits in the words of pydantic, and what else is known of it.

A field of a section reads `name: Annotated[type, ..., About(...)] = default`. The limits of a number come before
`NUMBER`, those of a list before `LIST` or `UNIQUE`, and `About` comes last. The JSON key is the field's name without a
trailing underscore: `lambda_` is "lambda".

A field that is left to the recipe may be null, too. Its declared type is that of a set whose recipe has been asked
(`recipes.resolve`), and its default the one that such a set is made with; in a file its default is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from numbers import Integral, Real
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema


def key_of(name: str) -> str:
    """In JSON, of a field by its name in Python."""
    return name.rstrip("_")


SECTION = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    validate_default=True,  # what fields must satisfy together, defaults must, too
    alias_generator=key_of,
    validate_by_alias=True,
    validate_by_name=True,  # in Python; a document has the keys of JSON
)
"""Configuration of every section."""

REPEATED = "repeated"
RULE = "rule"
"""Types of our own errors, beside those of pydantic: of an item, and of several fields together."""


class Affects(Flag):
    """What depends on a parameter, and has to be made again when it changes."""

    NOTHING = 0
    FEATURES = auto()
    """The features of an atom."""
    DATA = auto()
    """Which structures are used, and in which part of the split."""
    FIT = auto()
    """The weights of a network that is fitted to given data."""
    POTENTIAL = auto()
    """What a potential holds besides the weights of each network."""
    SEARCH = auto()
    """Which trials a search makes."""
    TRIAL = auto()
    """What comes of a trial, as far as its settings do not say it."""


@dataclass(frozen=True)
class About:
    """What is known of a field beyond its type.

    Attributes:
        doc: what it means, without a full stop.
        affects: what depends on it; of a section and of a symmetry function, nothing but through its fields.
        unit: of the number.
        by_recipe: null leaves the value to the recipe.
        searched: each trial of a search has its own.
        left_out: what stands for it in a file that leaves it out, where that is not the default.
    """

    doc: str
    affects: Affects = Affects.NOTHING
    unit: str = ""
    by_recipe: bool = False
    searched: bool = False
    left_out: Any = None

    @property
    def meaning(self) -> str:
        """What it means, and what null does where the recipe decides; without a full stop."""
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
    """Numbers of other libraries are welcome, words and truth values are not; -0.0 becomes 0.0, as it is printed."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = _strict(handler(source))
        if schema["type"] == "float":
            schema = core_schema.no_info_after_validator_function(lambda number: float(number) + 0.0, schema)
        return core_schema.no_info_before_validator_function(_plain, schema)


@dataclass(frozen=True)
class OneOf:
    """Choices that `Literal` cannot name: numbers and truth values, of which 1, 1.0 and true are equal, or too many.

    Attributes:
        choices: all of them.
        noun: what messages call one, where there are too many to list.
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
    """A list of JSON, a tuple in Python.

    Attributes:
        unique: no two items are equal.
    """

    unique: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._read, _strict(handler(source)))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), **({"uniqueItems": True} if self.unique else {})}

    def _read(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        """Its items, or what is wrong with them and which of the others repeat one."""
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
    """Whether a list is said to be too short only because its items are wrong."""
    return details["type"] == "too_short" and len(details["input"]) > 0


def _again(details: ErrorDetails) -> InitErrorDetails:
    """An error that was read, to be raised with others."""
    kind = PydanticCustomError(details["type"], "expected another value", details.get("ctx"))
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"])


NUMBER = _Number()
LIST = _List()
UNIQUE = _List(unique=True)

Boolean = Annotated[bool, Strict()]
NonNegative = Annotated[float, Field(ge=0), NUMBER]
Positive = Annotated[float, Field(gt=0), NUMBER]
Count = Annotated[int, Field(ge=1), NUMBER]
