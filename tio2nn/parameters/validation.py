"""Validation of documents: all problems at once, each with its path, in our own words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from tio2nn.errors import ParameterError, UsageError
from tio2nn.files.strict_json import JsonObject, quote
from tio2nn.parameters.fields import REPEATED, RULE, Affects, is_noise, key_of
from tio2nn.parameters.schema import expected, fields, object_schema, to_json

# Characters of a value shown in a message.
_LONGEST_VALUE = 40

SCHEMA_KEY = "$schema"
"""The key under which editors look for the schema of a file."""


class _Reporting(type):
    """Makes instances, and reports invalid values in our own words."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **{key_of(name): value for name, value in kwargs.items()})
        except ValidationError as error:
            keys = [field.key for field in fields(cls)]
            raise ParameterError(_problems(cls, error, arguments=keys)) from None


class Section(metaclass=_Reporting):
    """Base of the parameter dataclasses; every instance is valid, and every value has its declared type.

    Raises:
        ParameterError: with every problem, when an instance is created.
    """

    def affecting(self, part: Affects) -> dict[str, Any]:
        """The fields, as JSON, that affect any of these: `affecting(DATA | FIT)`."""
        return {
            field.key: to_json(getattr(self, field.name))
            for field in fields(type(self))
            if field.about.affects & part
        }


SectionT = TypeVar("SectionT", bound=Section)
NameT = TypeVar("NameT", bound=str)


def read(cls: type[SectionT], document: object, *, file: str | None = None) -> SectionT:
    """Create a section from parsed JSON or from Python values of the same shape.

    Raises:
        ParameterError: with every problem.
    """
    problems = list(_repeated_keys(document))
    if isinstance(document, Mapping):
        document = {key: value for key, value in document.items() if key != SCHEMA_KEY}
    try:
        result: SectionT = TypeAdapter(cls).validate_python(document, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += _problems(cls, error)
    if problems:
        raise ParameterError(problems, file=file)
    return result


def broken_rule(field: str, problem: str) -> PydanticCustomError:
    """The error for a validator to raise if a field contradicts others; the problem reads `expected ..., got ...`."""
    return PydanticCustomError(RULE, "{problem}", {"field": field, "problem": problem})


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`, did you mean "..."?` with the candidate most similar to `word`, or an empty string."""
    by_lowercase = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower(), by_lowercase, n=1)
    return f", did you mean {quote(by_lowercase[matches[0]])}?" if matches else ""


def known(name: str, names: Collection[NameT], kind: str) -> NameT:
    """The one of `names` that equals `name`.

    Args:
        name: what a user typed.
        names: all that there are, in the order in which a message lists them.
        kind: what such a name is, for the message.

    Raises:
        UsageError: it is none of them; the message suggests a similar one.
        TypeError: it is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"{kind}: expected a name, got {name!r}")
    for one in names:
        if one == name:
            return one
    raise UsageError(
        f"{kind}: expected one of {', '.join(names)}, got {quote(name)}{did_you_mean(name, names)}"
    )


def _repeated_keys(document: object) -> Iterator[str]:
    """A problem for each repeated key at any depth; iterative, since a file may nest deeper than Python can recurse."""
    waiting = [("", document)]
    while waiting:
        path, value = waiting.pop()
        inner: list[tuple[str, object]] = []
        if isinstance(value, JsonObject):
            for key in value.repeated_keys:
                yield f"{_join(path, key)}: expected the key once, got it more than once"
            inner = [(_join(path, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        waiting += reversed(inner)


class _Place(NamedTuple):
    """The location of an error.

    Attributes:
        path: as shown in messages.
        rank: for sorting: unknown keys, then fields, then rules between fields.
        schema: of the value; empty if unknown.
        parent: schema of the object or list that contains it.
        parent_path: path of that object or list.
    """

    path: str
    rank: tuple[float, ...]
    schema: Mapping[str, Any]
    parent: Mapping[str, Any]
    parent_path: str

    def step(self, step: Any) -> _Place:
        """The location of a field, item or value inside this one."""
        if isinstance(step, int) and "items" in self.schema:
            path, rank, inner = f"{self.path}[{step}]", step, self.schema["items"]
        elif "properties" in self.schema:
            keys = list(self.schema["properties"])
            rank = keys.index(step) if step in keys else -1
            path, inner = _join(self.path, step), self.schema["properties"].get(step, {})
        else:
            path, rank, inner = _join(self.path, step), 0, self.schema.get("additionalProperties") or {}
        return _Place(path, (*self.rank, rank), inner, self.schema, self.path)


def _problems(cls: type[Any], error: ValidationError, arguments: Sequence[str] = ()) -> list[str]:
    """A message for each error, sorted.

    Args:
        cls: the section.
        error: the errors found by pydantic.
        arguments: keys of positional arguments.
    """
    schema, found = object_schema(cls), []
    for details in error.errors(include_url=False):
        place = _Place("", (), schema, {}, "")
        for depth, step in enumerate(details["loc"]):
            if depth == 0 and isinstance(step, int) and step < len(arguments):
                step = arguments[step]
            place = place.step(step)
        if not is_noise(details):
            found.append(_problem(place, details))
    return [problem for _, problem in sorted(found, key=lambda item: item[0])]


def _problem(place: _Place, details: ErrorDetails) -> tuple[tuple[float, ...], str]:
    """The rank of an error, for sorting, and its message."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == RULE:
        message = f"{_join(place.parent_path, context['field'])}: {context['problem']}"
        return (*place.rank[:-1], math.inf, *place.rank[-1:]), message
    if kind == REPEATED:
        problem = f"expected distinct items, got the same as {place.parent_path}[{context['first']}]"
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        key = str(details["loc"][-1])
        known = place.parent.get("properties", {})
        problem = f"unknown key{did_you_mean(key, known) or _section_that_has(key, known)}"
    elif kind == "too_long":
        problem = f"expected at most {context['max_length']}, got {len(value)}"
    elif "type" not in place.schema:
        problem = f"{details['msg']}, got {_shown(value)}"
    else:
        got = "nothing" if kind.startswith("missing") else _shown(value)
        words = [choice for choice in place.schema.get("enum", ()) if isinstance(choice, str)]
        hint = did_you_mean(value, words) if words and isinstance(value, str) else ""
        problem = f"expected {_article(expected(place.schema))}, got {got}{hint}"
    return place.rank, f"{place.path}: {problem}" if place.path else problem


def _shown(value: object) -> str:
    got = quote(value)
    return got if len(got) <= _LONGEST_VALUE else f"{got[: _LONGEST_VALUE - 3]}..."


def _join(path: str, key: object) -> str:
    """`path.key`, with a key that is no identifier in quotes."""
    step = key if isinstance(key, str) and key.isidentifier() else quote(key)
    return f"{path}.{step}" if path else step


def _section_that_has(key: str, properties: Mapping[str, Any]) -> str:
    for name, schema in properties.items():
        if key in schema.get("properties", {}):
            return f', did you mean "{name}.{key}"?'
    return ""


def _article(noun: str) -> str:
    """The noun with its article; values take none."""
    if noun.startswith(('"', "-", "true")) or noun[0].isdigit():
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
