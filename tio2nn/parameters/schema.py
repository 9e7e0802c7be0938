"""The fields of the sections as a table, as JSON Schema, and in messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from tio2nn.files.strict_json import quote
from tio2nn.parameters.fields import About, key_of

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class Field(NamedTuple):
    """One field of a section.

    Attributes:
        name: in Python.
        key: in JSON.
        default: in Python; meaningless for a required field.
        required: whether it must be given.
        section: the class of the section, or of the items of a list; None for plain values.
        is_section: whether it is a single section, not a list.
        about: its meaning, unit and effects.
    """

    name: str
    key: str
    default: Any
    required: bool
    section: Any
    is_section: bool
    about: About

    @property
    def default_in_file(self) -> Any:
        """Its value, as JSON, in a file that leaves it out."""
        if self.is_section:
            return {field.key: field.default_in_file for field in fields(self.section)}
        if self.about.by_recipe:
            return None
        return to_json(self.default) if self.about.left_out is None else self.about.left_out


def fields(cls: Any) -> tuple[Field, ...]:
    """The fields of a section, in order."""
    known: Mapping[str, FieldInfo] = cls.__pydantic_fields__
    return tuple(_field(field.name, known[field.name]) for field in dataclasses.fields(cls))


def _field(name: str, info: FieldInfo) -> Field:
    (about,) = (extra for extra in info.metadata if isinstance(extra, About))
    kinds = (info.annotation, *get_args(info.annotation))
    section = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
    return Field(
        name=name,
        key=key_of(name),
        default=info.default,
        required=info.is_required(),
        section=section,
        is_section=section is not None and section is info.annotation,
        about=about,
    )


def to_json(value: Any) -> Any:
    """A section, or one of its values, as `json.dumps` accepts it."""
    return to_jsonable_python(value, by_alias=True)


class _Generator(GenerateJsonSchema):
    """For a good display in editors: null as one more type of a field, and no titles generated from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        kinds = inner["type"] if isinstance(inner["type"], list) else [inner["type"]]
        choices = {"enum": [*inner["enum"], None]} if "enum" in inner else {}
        return {**inner, "type": [*kinds, "null"], **choices}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        names = {bool: "boolean", int: "integer", str: "string"}
        kinds = sorted({names[type(choice)] for choice in schema["expected"]})
        return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": schema["expected"]}


def object_schema(cls: type[Any]) -> dict[str, Any]:
    """JSON Schema of a section, with nested sections inlined."""
    raw = TypeAdapter(cls).json_schema(schema_generator=_Generator)
    schema: dict[str, Any] = _inlined(raw, raw.pop("$defs", {}))
    return {**schema, "properties": _ordered(cls, schema["properties"])}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
        del node["$ref"]
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _ordered(cls: type[Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties in the order of the fields, with the defaults for files."""
    found = {}
    for field in fields(cls):
        own = found[field.key] = {**properties[field.key]}
        if field.is_section:
            own["properties"] = _ordered(field.section, own["properties"])
        if not field.required:
            own["default"] = field.default_in_file
    return found


def json_schema(cls: type[Any], title: str = "") -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the files that `tio2nn.parameters.validation.read` accepts as `cls`.

    It describes each field by itself; rules between fields are checked by `read` alone.
    """
    schema = object_schema(cls)
    place = {"$schema": {"type": "string", "description": "Where an editor finds this schema"}}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": title or cls.__name__,
        "properties": {**place, **schema["properties"]},
    }


def expected(schema: Mapping[str, Any], *, plural: bool = False) -> str:
    """A value of this JSON Schema as a noun without article: `integer >= 1 or null`."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    or_null = " or null" if "null" in kinds else ""
    if "enum" in schema:
        *others, last = (quote(choice) for choice in schema["enum"] if choice is not None)
        listed = f"{', '.join(others)} or {last}"
        return (f"{schema['title']}{'s' * plural}" if "title" in schema else listed) + or_null
    if kinds[0] == "boolean":
        return f"true or false{or_null}"
    if kinds[0] == "array":
        non_empty = "non-empty " if schema.get("minItems") else ""
        return f"{non_empty}list of {expected(schema['items'], plural=True)}{or_null}"
    if isinstance(item := schema.get("additionalProperties"), dict):
        return f"object of {expected(item, plural=True)}{or_null}"
    bounds = " and ".join(f"{sign} {schema[word]}" for word, sign in _BOUNDS.items() if word in schema)
    return f"{kinds[0]}{'s' * plural} {bounds}".rstrip() + or_null


class Row(NamedTuple):
    """A row of the table of fields."""

    path: str
    type: str
    default: str
    unit: str
    meaning: str


def describe(cls: type[Any]) -> list[Row]:
    """A row for each field, sections before their fields; fields of list items have the path `list[].field`."""
    return list(_rows(cls, ""))


def _rows(cls: type[Any], prefix: str) -> Iterator[Row]:
    properties = object_schema(cls)["properties"]
    for field in fields(cls):
        path = prefix + field.key
        default = "required" if field.required else "" if field.is_section else quote(field.default_in_file)
        yield Row(path, expected(properties[field.key]), default, field.about.unit, field.about.meaning)
        if field.section is not None:
            yield from _rows(field.section, path + ("." if field.is_section else "[]."))
