"""The outer grammar of XSF: keywords with their rows, comments, energies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.text import CUT_SHORT, parse_number, quoted

PERIODIC_AXES = {"CRYSTAL": 3, "SLAB": 2, "POLYMER": 1, "MOLECULE": 0}
VECTORS = ("PRIMVEC", "CONVVEC")
COORDINATES = ("PRIMCOORD", "CONVCOORD", "ATOMS")
_WORDS = (*PERIODIC_AXES, *VECTORS, *COORDINATES, "ANIMSTEPS", "DIM-GROUP")
_KEYWORDS = {spelling: word for word in _WORDS for spelling in (word, word.lower(), word.capitalize())}

_ENERGY = re.compile(r"\s*total\s+energy\s*[=:]([^#]*)", re.IGNORECASE)
_FORCES_UNIT = re.compile(
    r"\s*(?:the\s+)?forces?\s+(?:are\s+)?(?:in|:|=)\s*([^\W\d_]+\s*/\s*[^\W\d_]+)", re.IGNORECASE
)
_VALUE = re.compile(r"(\S+?)\s*(?:eV)?", re.IGNORECASE)  # the unit may stick to the number


class Unit(NamedTuple):
    """A unit of forces, from a comment."""

    line: int
    text: str


class Energy(NamedTuple):
    """A total energy, from a comment."""

    line: int
    value: float  # eV


@dataclass
class Section:
    """A keyword with its arguments and rows, up to the next keyword, split at blanks.

    Attributes:
        keyword: in upper case.
        arguments: what follows the keyword on its line.
        line: of the keyword, from 1.
        rows: the fields of each row, without blank lines and comments.
        lines: the line of each row.
        unterminated: whether the file ends in its last row, without a newline.
    """

    keyword: str
    arguments: list[str]
    line: int
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    unterminated: bool = False


def split_sections(lines: Sequence[str], file: str) -> tuple[list[Section], list[Energy], list[Unit]]:
    """Find the sections, the energies and the force units of a file.

    Raises:
        InputError: rows before the first keyword, an unclosed block, an invalid energy.
    """
    sections: list[Section] = []
    energies: list[Energy] = []
    units: list[Unit] = []
    rows: list[list[str]] = []
    row_lines: list[int] = []
    block_end, block_line = "", 0
    fields: list[str] = []
    for number, line in enumerate(lines, start=1):
        if block_end:
            if line.strip().upper() == block_end:
                block_end = ""
            continue
        text = line
        if "#" in line:
            text, _, comment = line.partition("#")
            if (match := _ENERGY.match(comment)) is not None:
                energies.append(_energy(match, number, file, cut=number == len(lines)))
            elif (match := _FORCES_UNIT.match(comment)) is not None:
                units.append(Unit(number, "".join(match[1].split())))
        fields = text.split()
        if not fields:
            continue
        word = fields[0]
        if word in _KEYWORDS:
            rows, row_lines = [], []
            sections.append(Section(_KEYWORDS[word], fields[1:], number, rows, row_lines))
        elif word.startswith("BEGIN_"):
            # data grids can be far larger than the structure: skip them without splitting lines
            block_end, block_line = word.replace("BEGIN_", "END_", 1).upper(), number
        elif not sections:
            raise InputError(
                f"expected CRYSTAL, SLAB, POLYMER, MOLECULE, ATOMS, DIM-GROUP or ANIMSTEPS, got {quoted(word)}",
                file=file,
                line=number,
            )
        else:
            rows.append(fields)
            row_lines.append(number)
    if block_end:
        raise InputError(f"expected {block_end}, got the end of the file", file=file, line=block_line)
    if sections and row_lines and row_lines[-1] == len(lines):
        sections[-1].unterminated = True
    return sections, energies, units


def _energy(match: re.Match[str], line: int, file: str, *, cut: bool) -> Energy:
    # additional text may change the meaning of the number: another unit, "per atom"
    text = match[1].strip()
    found = _VALUE.fullmatch(text)
    value = None if found is None else parse_number(found[1])
    if value is None:
        raise InputError(f"expected a total energy in eV, got {quoted(text)}", file=file, line=line)
    if cut:
        raise InputError(f"expected a newline after the energy, {CUT_SHORT}", file=file, line=line)
    return Energy(line, value)
