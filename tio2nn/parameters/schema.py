"""Dataclasses that carry their own schema: one source for checks, defaults, documentation and JSON Schema.

A parameter dataclass derives from `tio2nn.parameters.validation.Checked`, and its fields read
`name: Annotated[type, About(...)] = default`. The type is bool, int, float, str or another parameter
dataclass, a tuple[T, ...] or dict[str, T] of one of them, and perhaps `| None`; or `bool | str`, whose choices say
all. Limits belong to the number, or to each item of a tuple or dict. The JSON key is the field's name without a
trailing underscore: `lambda_` is "lambda".

A field that is left to the recipe may be null, too. Its declared type is that of a set whose recipe has been asked
(`recipes.resolve`), and its default the one that such a set is made with; in a file its default is null.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from tio2nn.files.strict_json import quote

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_JSON_LIMITS = {
    "minimum": "minimum",
    "exclusive_minimum": "exclusiveMinimum",
    "maximum": "maximum",
    "exclusive_maximum": "exclusiveMaximum",
}


@dataclass(frozen=True)
class About:
    """What is known of a field beyond its type.

    Attributes:
        doc: what it means, without a full stop.
        choices_name: a noun for choices too many to list.
        non_empty, unique: of a tuple.
        by_recipe: null leaves the value to the recipe.
        left_out: what stands for it in a file that leaves it out, where that is not the default.
    """

    doc: str
    unit: str = ""
    minimum: float | None = None
    exclusive_minimum: float | None = None
    maximum: float | None = None
    exclusive_maximum: float | None = None
    choices: tuple[Any, ...] = ()
    choices_name: str = ""
    non_empty: bool = False
    unique: bool = False
    by_recipe: bool = False
    left_out: Any = None

    def allow(self, value: Any) -> bool:
        """Whether a scalar of the field's type is one of the choices and within the bounds."""
        return (
            (not self.choices or value in self.choices)
            and (self.minimum is None or value >= self.minimum)
            and (self.exclusive_minimum is None or value > self.exclusive_minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.exclusive_maximum is None or value < self.exclusive_maximum)
        )


@dataclass(frozen=True)
class Field:
    """One field of a parameter dataclass.

    Attributes:
        name: in Python.
        key: in JSON.
        item: bool, int, float, str or a parameter dataclass; object for true, false and words.
        container: what holds the items: nothing, a list (tuple in Python) or a map (dict).
        nullable: whether null (None) is allowed.
        default: in Python; `dataclasses.MISSING` if the field must be given.
        about: what else is known of it.
    """

    name: str
    key: str
    item: type
    container: Literal["", "list", "map"]
    nullable: bool
    default: Any
    about: About

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def default_in_file(self) -> Any:
        """What stands for a field that a file leaves out, as JSON."""
        if self.is_section and not self.nullable:
            return {field.key: field.default_in_file for field in fields(self.item)}
        if self.about.by_recipe:
            return None
        return to_json(self.default) if self.about.left_out is None else self.about.left_out

    @property
    def meaning(self) -> str:
        """What it means, and what null does where the recipe decides; without a full stop."""
        return f"{self.about.doc}; null leaves it to the recipe" if self.about.by_recipe else self.about.doc

    @property
    def is_section(self) -> bool:
        """Whether the value is one object with fields of its own."""
        return not self.container and dataclasses.is_dataclass(self.item)

    @property
    def expected(self) -> str:
        """What the value must be, as a noun without article: `integer >= 1 or null`."""
        if self.container:
            non_empty = "non-empty " if self.about.non_empty else ""
            container = "list" if self.container == "list" else "object"
            phrase = f"{non_empty}{container} of {self._expected_item(plural=True)}"
        else:
            phrase = self._expected_item(plural=False)
        return f"{phrase} or null" if self.nullable else phrase

    @property
    def expected_item(self) -> str:
        """What each item must be; the same as `expected` where nothing contains the value."""
        return self._expected_item(plural=False) if self.container else self.expected

    def _expected_item(self, *, plural: bool) -> str:
        if self.about.choices_name:
            return self.about.choices_name + "s" * plural
        if self.about.choices:
            *others, last = (quote(choice) for choice in self.about.choices)
            return f"{', '.join(others)} or {last}"
        if self.item is bool:
            return "true or false"
        noun = "object" if dataclasses.is_dataclass(self.item) else _JSON_TYPES[self.item]
        bounds = [
            f"{sign} {bound}"
            for sign, bound in (
                (">=", self.about.minimum),
                (">", self.about.exclusive_minimum),
                ("<=", self.about.maximum),
                ("<", self.about.exclusive_maximum),
            )
            if bound is not None
        ]
        return " ".join([noun + "s" * plural, " and ".join(bounds)]).rstrip()


_fields_of: dict[type[Any], tuple[Field, ...]] = {}


def fields(cls: type[Any]) -> tuple[Field, ...]:
    """The fields of a parameter dataclass, in their order."""
    if cls not in _fields_of:
        hints = get_type_hints(cls, include_extras=True)
        _fields_of[cls] = tuple(_field(f, *get_args(hints[f.name])) for f in dataclasses.fields(cls))
    return _fields_of[cls]


def _field(field: dataclasses.Field[Any], hint: Any, about: About) -> Field:
    nullable = about.by_recipe
    if isinstance(hint, types.UnionType):
        first, *others = get_args(hint)
        nullable |= types.NoneType in others
        hint = first if others in ([], [types.NoneType]) else object
    container: Literal["", "list", "map"] = ""
    if get_origin(hint) is tuple:
        hint, container = get_args(hint)[0], "list"
    elif get_origin(hint) is dict:
        hint, container = get_args(hint)[1], "map"
    return Field(field.name, field.name.rstrip("_"), hint, container, nullable, field.default, about)


def to_json(value: Any) -> Any:
    """What `json.dumps` can write of a parameter dataclass or of one of its values."""
    if dataclasses.is_dataclass(value):
        return {field.key: to_json(getattr(value, field.name)) for field in fields(type(value))}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


class Row(NamedTuple):
    """One line of the table of fields."""

    path: str
    type: str
    default: str
    unit: str
    meaning: str


def describe(cls: type[Any]) -> list[Row]:
    """The table of all fields, sections before their fields; items of a list have the path `list[].field`."""
    return list(_rows(cls, ""))


def _rows(cls: type[Any], prefix: str) -> Iterator[Row]:
    for field in fields(cls):
        path = prefix + field.key
        default = "required" if field.required else "" if field.is_section else quote(field.default_in_file)
        yield Row(path, field.expected, default, field.about.unit, field.meaning)
        if dataclasses.is_dataclass(field.item):
            yield from _rows(field.item, path + ("[]." if field.container == "list" else "."))


def json_schema(cls: type[Any], title: str = "") -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the files that `tio2nn.parameters.validation.read` accepts as `cls`.

    It says everything that concerns one field; what several fields must satisfy together only `read` knows.
    """
    schema = _object_schema(cls)
    schema["properties"] = {
        "$schema": {"type": "string", "description": "Where an editor finds this schema"},
        **schema["properties"],
    }
    return {"$schema": DIALECT, "title": title or cls.__name__, **schema}


def _object_schema(cls: type[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.key: _field_schema(field) for field in fields(cls)},
        "additionalProperties": False,
    }
    if required := [field.key for field in fields(cls) if field.required]:
        schema["required"] = required
    return schema


def _field_schema(field: Field) -> dict[str, Any]:
    unit = f" Unit: {field.about.unit}." if field.about.unit else ""
    schema: dict[str, Any] = {"description": f"{field.meaning}.{unit}"}
    if not field.required:
        schema["default"] = field.default_in_file
    item = _item_schema(field)
    if field.container == "list":
        schema |= {"type": "array", "items": item}
        if field.about.non_empty:
            schema["minItems"] = 1
        if field.about.unique:
            schema["uniqueItems"] = True
    elif field.container == "map":
        schema |= {"type": "object", "additionalProperties": item}
    else:
        schema |= item
    if field.nullable:
        kinds = schema["type"]
        schema["type"] = [*(kinds if isinstance(kinds, list) else [kinds]), "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _item_schema(field: Field) -> dict[str, Any]:
    if dataclasses.is_dataclass(field.item):
        return _object_schema(field.item)
    kinds = ["boolean", "string"] if field.item is object else _JSON_TYPES[field.item]
    schema: dict[str, Any] = {"type": kinds}
    if field.about.choices:
        schema["enum"] = list(field.about.choices)
    for name, keyword in _JSON_LIMITS.items():
        if (bound := getattr(field.about, name)) is not None:
            schema[keyword] = bound
    return schema
