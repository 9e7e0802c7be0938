"""Parses the rows of XSF sections: all at once, or one by one to find the line of an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import check_last_row, parse_count, parse_number, quoted
from tio2nn.io.xsf.sections import Section
from tio2nn.structures.elements import ELEMENT_OF, remedy
from tio2nn.structures.geometry import spans_volume

_N_NUMBERS = (3, 6)  # per atom, without and with forces


class RowParser:
    """Reads the rows of one file's sections."""

    def __init__(self, file: str, *, fast: bool) -> None:
        """Set up.

        Args:
            file: for messages.
            fast: whether everything in this file that float() accepts is a number.
        """
        self.file = file
        self._fast = fast

    def cell(self, section: Section, periodic: tuple[bool, bool, bool]) -> FloatArray:
        """The (3, 3) vectors of PRIMVEC or CONVVEC, Å."""
        if len(section.rows) != 3:
            line = section.lines[3] if len(section.rows) > 3 else section.line
            raise self._error(
                f"expected 3 cell vectors after {section.keyword}, got {len(section.rows)}", line
            )
        cell = self._table(section.rows)
        if cell is None or cell.shape != (3, 3):
            rows = zip(section.rows, section.lines, strict=True)
            cell = np.array([self._numbers(fields, line, (3,)) for fields, line in rows])
        if not spans_volume(cell, periodic):
            raise self._error(
                "expected independent cell vectors, got vectors that span no volume", section.line
            )
        return cell

    def atoms(self, section: Section) -> tuple[tuple[str, ...], FloatArray]:
        """Elements, and a table (n_atoms, 3 or 6) of positions, Å, and forces, in the unit of the file."""
        rows, lines = self._atom_rows(section)
        elements = tuple([ELEMENT_OF.get(row[0], "") for row in rows])
        table = self._table([row[1:] for row in rows])
        if table is None or table.shape[1] not in _N_NUMBERS or "" in elements:
            elements, table = self._atoms_one_by_one(rows, lines)
        if section.unterminated:
            check_last_row(rows, self.file, lines[-1])
        places: dict[tuple[float, ...], int] = {}
        for place, line in zip(map(tuple, table[:, :3].tolist()), lines, strict=True):
            if places.setdefault(place, line) != line:
                raise self._error(
                    f"expected distinct positions, got the position of line {places[place]} again", line
                )
        return elements, table

    def _atom_rows(self, section: Section) -> tuple[list[list[str]], list[int]]:
        rows, lines = section.rows, section.lines
        if section.keyword == "ATOMS":
            if not rows:
                raise self._error("expected atoms after ATOMS, got none", section.line)
            return rows, lines
        # the 1 after the count has no meaning, and some programs omit it
        count = parse_count(rows[0][0]) if rows and rows[0][1:] in ([], ["1"]) else None
        if count is None:
            got, line = (quoted(" ".join(rows[0])), lines[0]) if rows else ("no row", section.line)
            raise self._error(f"expected the number of atoms and 1 after {section.keyword}, got {got}", line)
        if len(rows) - 1 < count:
            raise self._error(f"expected {count} atoms, got {len(rows) - 1}", lines[0])
        if len(rows) - 1 > count:
            raise self._error(
                f"expected {count} atoms, got another row: {quoted(rows[count + 1][0])}", lines[count + 1]
            )
        return rows[1:], lines[1:]

    def _table(self, rows: Sequence[Sequence[str]]) -> FloatArray | None:
        """All rows as finite numbers, or None if they must be parsed one by one."""
        if not self._fast:
            return None
        try:
            table = np.array(rows, dtype=np.float64)
        except ValueError:
            return None
        return table if np.isfinite(table).all() else None

    def _atoms_one_by_one(
        self, rows: Sequence[Sequence[str]], lines: Sequence[int]
    ) -> tuple[tuple[str, ...], FloatArray]:
        """Find the first error, or parse numbers that float() does not know (Fortran exponents)."""
        elements = []
        table: list[list[float]] = []
        for (symbol, *fields), line in zip(rows, lines, strict=True):
            if symbol not in ELEMENT_OF:
                raise self._error(
                    f"expected a chemical symbol or an atomic number, got {quoted(symbol)}{remedy(symbol)}",
                    line,
                )
            elements.append(ELEMENT_OF[symbol])
            table.append(self._numbers(fields, line, (len(table[0]),) if table else _N_NUMBERS))
        return tuple(elements), np.array(table)

    def _numbers(self, fields: Sequence[str], line: int, lengths: tuple[int, ...]) -> list[float]:
        if len(fields) not in lengths:
            expected = " or ".join(map(str, lengths))
            raise self._error(f"expected {expected} numbers, got {len(fields)}", line)
        numbers = []
        for field in fields:
            if (number := parse_number(field)) is None:
                raise self._error(f"expected a finite number, got {quoted(field)}", line)
            numbers.append(number)
        return numbers

    def _error(self, reason: str, line: int) -> InputError:
        return InputError(reason, file=self.file, line=line)
