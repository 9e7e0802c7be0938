"""Commands and fields of params.json as Markdown, made from the program that is installed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tio2nn.parameters.schema import Row


def options() -> Iterator[str]:
    """The options of `tio2nn` itself."""
    yield from _options(_program().params)


def commands() -> Iterator[str]:
    """A section for each command: its purpose, how it is called, what it takes."""
    for name, command in _program().commands.items():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        options = [param for param in command.params if param.param_type_name == "option"]
        yield from (f"(command-{name})=", f"## `{name}`", "", inspect.cleandoc(command.help), "")
        yield from ("```text", " ".join([f"tio2nn {name}", *map(_usage, arguments), "[OPTIONS]"]), "```", "")
        for argument in arguments:
            yield from _definition(f"`{_value(argument)}`", argument.help)
        yield from _options(options)


def _program() -> Any:
    from typer.main import get_command

    from tio2nn.cli.commands import app

    return get_command(app)


def _usage(argument: Any) -> str:
    shown = _value(argument) + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def _options(params: list[Any]) -> Iterator[str]:
    for param in params:
        names = [*sorted(param.opts, key=len), *param.secondary_opts]
        value = "" if param.is_flag else f" {_value(param)}"
        default = f" Default: `{param.default.value}`." if isinstance(param.default, Enum) else ""
        yield from _definition(", ".join(f"`{name}{value}`" for name in names), param.help, default)


def _value(param: Any) -> str:
    if isinstance(param.default, Enum):
        return "|".join(str(choice.value) for choice in type(param.default))
    return str(param.metavar or param.name)


def fields() -> Iterator[str]:
    """The fields of params.json that belong to no section."""
    rows = _rows()
    for row in rows:
        if not _section(row) and row.path not in _sections(rows):
            yield from _field(row)


def sections() -> Iterator[str]:
    """A section for each section of params.json, with its fields."""
    rows = _rows()
    for section in _sections(rows):
        (meaning,) = (row.meaning for row in rows if row.path == section)
        yield from (f"(section-{section})=", f"### `{section}`", "", f"{meaning}.", "")
        for row in rows:
            if _section(row) == section:
                yield from _field(row)


def _rows() -> list[Row]:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.parameters.schema import describe

    return describe(ParameterSet)


def _sections(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(section for row in rows if (section := _section(row))))


def _field(row: Row) -> Iterator[str]:
    yield from _definition(f"`{row.path}`", row.meaning, f" *{_type(row)}*")


def _section(row: Row) -> str:
    return row.path.rpartition(".")[0].removesuffix("[]")


def _type(row: Row) -> str:
    unit = f", in {row.unit}" if row.unit else ""
    default = "required" if row.default == "required" else f"default `{row.default}`"
    return f"{row.type}{unit}; {default}"


def _definition(term: str, meaning: str, more: str = "") -> Iterator[str]:
    text = " ".join(meaning.split()).removesuffix(".").replace("<", "&lt;")
    yield from (term, f": {text}.{more}", "")
