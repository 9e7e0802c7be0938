"""What a benchmark leaves: rows on stdout, and a JSON file that says where they come from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from places import ROOT

from tio2nn.version import __version__

Row = dict[str, Any]
"""Names and plain values: text, numbers, truth, nothing; names may end with the unit."""


class Record(NamedTuple):
    """Where rows come from.

    Attributes:
        words: of the command line, from the benchmark's name on; data and other files by their names.
        version: of the program that was measured.
        commit: the last one that changed the program, where it is that of this repository.
        processor: as it calls itself.
        cores: that the benchmark could use.
        date: when it began, as YYYY-MM-DD.
    """

    words: tuple[str, ...]
    version: str
    commit: str | None
    processor: str
    cores: int
    date: str

    @classmethod
    def new(cls, words: Sequence[str], program: str | None = None) -> Record:
        """Of a benchmark that begins now, of another program if one is named."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(
            tuple(_words_to_keep(words)),
            __version__ if program is None else _version_of(program),
            _commit() if program is None else None,
            _processor(),
            cores,
            datetime.date.today().isoformat(),
        )

    def origin(self) -> str:
        """Version, processor and date in a line."""
        commit = "" if self.commit is None else f" at {self.commit}"
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"tio2nn {self.version}{commit}, {self.processor}, {cores}, {self.date}"

    def write(self, file: Path, rows: Sequence[Row], table: Sequence[Row]) -> None:
        """Put the file in the place of an earlier one, whole."""
        content: dict[str, Any] = {
            "benchmark": self.words[0],
            "command": shlex.join(["python", "tests/benchmarks", *self.words]),
            **{name: getattr(self, name) for name in ("version", "commit", "processor", "cores", "date")},
            "rows": list(rows),
        }
        if table:
            content["table"] = list(table)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.new")
        fresh.write_text(_one_row_a_line(content), encoding="utf-8")
        fresh.replace(file)


class Printer:
    """Rows under each other; a new header where the names change."""

    def __init__(self) -> None:
        self._header: dict[str, int] = {}

    def show(self, row: Row) -> None:
        shown = {name: _shown(value) for name, value in row.items() if not isinstance(value, dict | list)}
        if list(shown) != list(self._header):
            self._header = {name: max(len(name), len(value)) for name, value in shown.items()}
            print()
            self._line({name: name for name in shown}, row)
        self._line(shown, row)

    def _line(self, cells: dict[str, str], row: Row) -> None:
        aligned = (
            cell.ljust(self._header[name]) if isinstance(row[name], str) else cell.rjust(self._header[name])
            for name, cell in cells.items()
        )
        print("  ".join(aligned).rstrip(), flush=True)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _one_row_a_line(content: dict[str, Any]) -> str:
    fields = []
    for name, value in content.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in value)
            text = f"[\n{rows}\n  ]"
        fields.append(f'  "{name}": {text}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _words_to_keep(words: Sequence[str]) -> list[str]:
    """Without the file of the record, without folders of this machine, other programs as PROGRAM."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option == "--json":
            if not equals:
                next(rest, None)
        elif option == "--program":
            kept += ["--program", "PROGRAM"]
            if not equals:
                next(rest, None)
        elif option.startswith("--") and equals:
            kept.append(f"{option}={_name(value)}")
        else:
            kept.append(_name(word))
    return kept


def _name(word: str) -> str:
    """A path into the repository from there, another one without its folders; options in one word each by itself."""
    if " " in word and not Path(word).exists():
        return " ".join(map(_name, word.split(" ")))
    if len(Path(word).parts) < 2:
        return word
    path = Path(word).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _version_of(program: str) -> str:
    done = subprocess.run([*shlex.split(program), "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def _commit() -> str | None:
    """The last one that changed the program; with a plus where there are changes since."""
    found = _git("log", "-1", "--format=%h", "--", "tio2nn")
    return f"{found}+" if found and _git("status", "--porcelain", "--", "tio2nn") else found or None


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
