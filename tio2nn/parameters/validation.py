"""Values against the schema that their dataclass carries: every problem at once, each with its path."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import ClassVar, NamedTuple, TypeVar, cast

from tio2nn.errors import ParameterError
from tio2nn.files.strict_json import quote
from tio2nn.parameters.schema import Field, fields, to_json

# A message that shows a value shows this much of it.
_LONGEST_VALUE = 40

SCHEMA_KEY = "$schema"
"""Editors find the schema of a file under this key of the file."""


class Rule(NamedTuple):
    """What several fields of one dataclass must satisfy together.

    Attributes:
        fields: names of the fields; `check` is called with their values when each is valid by itself.
        check: returns `field: expected ..., got ...`, or None.
    """

    fields: tuple[str, ...]
    check: Callable[..., str | None]


class Checked:
    """Base of the parameter dataclasses: an instance that exists is valid, each value has its declared type.

    Raises:
        ParameterError: with every problem, when an instance is made.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        reader = _Reader()
        values = {
            field.name: reader.value(field, getattr(self, field.name), field.key)
            for field in fields(type(self))
        }
        reader.check_rules(type(self), values, "")
        if reader.problems:
            raise ParameterError(reader.problems)
        for name, value in values.items():
            object.__setattr__(self, name, value)


CheckedT = TypeVar("CheckedT", bound=Checked)


def read(cls: type[CheckedT], document: object, *, file: str | None = None) -> CheckedT:
    """Make a parameter dataclass from parsed JSON, or from Python values of the same shape.

    Raises:
        ParameterError: with every problem.
    """
    reader = _Reader()
    result = reader.section(cls, document, "")
    if reader.problems:
        raise ParameterError(reader.problems, file=file)
    return cast(CheckedT, result)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`, did you mean "..."?` for the candidate that resembles `word` most, or nothing."""
    by_lowercase = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower(), by_lowercase, n=1)
    return f", did you mean {quote(by_lowercase[matches[0]])}?" if matches else ""


class _Invalid:
    """Stands for a value whose problems have been reported."""


_INVALID = _Invalid()


class _Reader:
    """Turns values into what their fields declare, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def section(self, cls: type[Checked], value: object, path: str) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            return self._unexpected("object", value, path)
        n_problems = len(self.problems)
        self._check_keys(cls, value, path)
        values: dict[str, object] = {}
        for field in fields(cls):
            field_path = _join(path, field.key)
            if field.key in value:
                values[field.name] = self.value(field, value[field.key], field_path)
            elif field.required:
                values[field.name] = self._report(
                    f"{field_path}: expected {_article(field.expected)}, got nothing"
                )
            else:
                values[field.name] = field.default
        self.check_rules(cls, values, path)
        return cls(**values) if len(self.problems) == n_problems else _INVALID

    def _check_keys(self, cls: type[Checked], value: Mapping[str, object], path: str) -> None:
        self._check_repeated_keys(value, path)
        known = [field.key for field in fields(cls)]
        for key in value:
            if key not in known and (path or key != SCHEMA_KEY):
                hint = did_you_mean(str(key), known) or _section_that_has(key, cls)
                self._report(f"{_join(path, key)}: unknown key{hint}")

    def _check_repeated_keys(self, value: Mapping[str, object], path: str) -> None:
        for key in getattr(value, "repeated_keys", ()):
            self._report(f"{_join(path, key)}: expected the key once, got it more than once")

    def check_rules(self, cls: type[Checked], values: Mapping[str, object], path: str) -> None:
        for rule in cls.rules:
            arguments = [values[name] for name in rule.fields]
            if _INVALID not in arguments and (problem := rule.check(*arguments)):
                self._report(f"{path}.{problem}" if path else problem)

    def value(self, field: Field, value: object, path: str) -> object:
        if value is None and field.nullable:
            return None
        if field.container == "list":
            return self._list(field, value, path)
        if field.container == "map":
            return self._map(field, value, path)
        return self._item(field, value, path)

    def _list(self, field: Field, value: object, path: str) -> object:
        if not isinstance(value, (list, tuple)) or (field.about.non_empty and not value):
            return self._unexpected(field.expected, value, path)
        n_problems = len(self.problems)
        items = [self._item(field, item, f"{path}[{index}]") for index, item in enumerate(value)]
        if field.about.unique:
            first: dict[object, int] = {}
            for index, item in enumerate(items):
                if item is not _INVALID and first.setdefault(item, index) != index:
                    self._report(
                        f"{path}[{index}]: expected no repetition, got the same as {path}[{first[item]}]"
                    )
        return tuple(items) if len(self.problems) == n_problems else _INVALID

    def _map(self, field: Field, value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            return self._unexpected(field.expected, value, path)
        self._check_repeated_keys(value, path)
        items = {key: self._item(field, item, _join(path, key)) for key, item in value.items()}
        return _INVALID if _INVALID in items.values() else items

    def _item(self, field: Field, value: object, path: str) -> object:
        if issubclass(field.item, Checked):
            return self.section(field.item, value, path)
        typed = _typed(field.item, value)
        if typed is not _INVALID and field.about.allow(typed):
            return typed
        words = [choice for choice in field.about.choices if isinstance(choice, str)]
        hint = did_you_mean(value, words) if words and isinstance(value, str) else ""
        return self._unexpected(field.expected_item, value, path, hint)

    def _unexpected(self, expected: str, value: object, path: str, hint: str = "") -> _Invalid:
        got = quote(to_json(value))
        if len(got) > _LONGEST_VALUE:
            got = got[: _LONGEST_VALUE - 3] + "..."
        place = f"{path}: " if path else ""
        return self._report(f"{place}expected {_article(expected)}, got {got}{hint}")

    def _report(self, problem: str) -> _Invalid:
        self.problems.append(problem)
        return _INVALID


def _typed(item: type, value: object) -> object:
    """`value` as the plain Python type; numbers of other libraries are welcome, true is not a number."""
    if item in (bool, str):
        return item(value) if isinstance(value, item) else _INVALID
    if item is object:
        return value if isinstance(value, (bool, str)) else _INVALID
    if isinstance(value, bool):
        return _INVALID
    if item is int:
        return int(value) if isinstance(value, Integral) else _INVALID
    if not isinstance(value, Real):
        return _INVALID
    try:
        number = float(value) + 0.0  # makes 0.0 of -0.0, which equals it but is printed differently
    except OverflowError:
        return _INVALID
    return number if math.isfinite(number) else _INVALID


def _join(path: str, key: object) -> str:
    """`path.key`; a key that could break the line or be taken for a path is quoted."""
    step = key if isinstance(key, str) and key.isidentifier() else quote(key)
    return f"{path}.{step}" if path else step


def _section_that_has(key: str, cls: type[Checked]) -> str:
    for field in fields(cls):
        if field.is_section and any(key == inner.key for inner in fields(field.item)):
            return f', did you mean "{field.key}.{key}"?'
    return ""


def _article(noun: str) -> str:
    """A choice of values, or true or false, stands without an article."""
    if noun.startswith(('"', "-", "true")) or noun[0].isdigit():
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
