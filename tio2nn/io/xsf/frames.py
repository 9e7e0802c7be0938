"""The frames of an XSF file: which sections and which energy belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import parse_count, quoted
from tio2nn.io.xsf.rows import RowParser
from tio2nn.io.xsf.sections import COORDINATES, PERIODIC_AXES, VECTORS, Energy, Section
from tio2nn.structures.structure import Extras, Structure
from tio2nn.wording import counted

_EXTRAS = Extras(no_energy="expected a comment '# total energy = ... eV', got none")


class XsfFrames:
    """The frames of one file.

    Attributes:
        n_announced: number of frames given by ANIMSTEPS, else 1.
    """

    def __init__(
        self,
        sections: Sequence[Section],
        energies: Sequence[Energy],
        rows: RowParser,
        force_unit: float = 1.0,
    ) -> None:
        """Assign the sections to frames; `force_unit` is the force unit of the file in eV/Å.

        Raises:
            InputError: the sections do not form frames.
        """
        self.n_announced = 1
        self._rows = rows
        self._force_unit = force_unit
        self._first_line = sections[0].line if sections else None
        self._last_line = max(
            (line for section in sections for line in (section.line, *section.lines)), default=None
        )
        self._kind: Section | None = None
        self._animation: Section | None = None
        self._vectors: dict[tuple[str, int | None], Section] = {}
        coordinates: dict[str, list[Section]] = {keyword: [] for keyword in COORDINATES}
        for section in sections:
            if section.keyword in VECTORS:
                self._add_vectors(section)
            elif section.keyword in COORDINATES:
                coordinates[section.keyword].append(section)
            else:
                self._add_header(section)
        primitive, conventional, atoms = (
            coordinates[keyword] for keyword in ("PRIMCOORD", "CONVCOORD", "ATOMS")
        )
        self._frames = primitive or atoms or conventional
        self._check_frames(other=atoms if primitive else [])
        self._check_vectors()
        self._energies = self._assign_energies(energies)
        self._cells: dict[int, FloatArray] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def _error(self, reason: str, line: int | None) -> InputError:
        return InputError(reason, file=self._rows.file, line=line)

    def _add_header(self, section: Section) -> None:
        if section.keyword == "DIM-GROUP":
            section = self._of_dimension(section)
        if section.rows:
            raise self._error(
                f"expected a keyword after {section.keyword}, got {quoted(section.rows[0][0])}",
                section.lines[0],
            )
        if section.keyword == "ANIMSTEPS":
            count = parse_count(section.arguments[0]) if len(section.arguments) == 1 else None
            if count is None or self._animation is not None:
                got = "a second" if count else quoted(" ".join(section.arguments))
                raise self._error(
                    f"expected one ANIMSTEPS with the number of frames, got {got}", section.line
                )
            self._animation, self.n_announced = section, count
        elif self._kind is not None:
            raise self._error(
                f"expected one {self._kind.keyword}, got {section.keyword} as well", section.line
            )
        else:
            self._kind = section

    def _of_dimension(self, section: Section) -> Section:
        """The keyword equivalent to DIM-GROUP, which gives the number of periodic axes and a group number."""
        fields = section.arguments or (section.rows[0] if section.rows else [])
        rows = section.rows if section.arguments else section.rows[1:]
        word = (
            {"3": "CRYSTAL", "2": "SLAB", "1": "POLYMER", "0": "MOLECULE"}.get(fields[0]) if fields else None
        )
        if word is None or len(fields) > 2 or (fields[1:] and parse_count(fields[1]) is None):
            got, line = quoted(" ".join(fields)), section.lines[0] if section.rows else section.line
            raise self._error(
                f"expected the number of periodic axes and a group number after DIM-GROUP, got {got}", line
            )
        return replace(
            section, keyword=word, rows=rows, lines=section.lines[len(section.lines) - len(rows) :]
        )

    def _add_vectors(self, section: Section) -> None:
        key = (section.keyword, self._frame_number(section))
        if key in self._vectors:
            first = self._vectors[key].line
            raise self._error(
                f"expected one {section.keyword}, got two; the other is in line {first}", section.line
            )
        self._vectors[key] = section

    def _frame_number(self, section: Section) -> int | None:
        """The frame number after a keyword, or None."""
        if not section.arguments:
            return None
        number = parse_count(section.arguments[0]) if len(section.arguments) == 1 else None
        if number is None:
            got = quoted(" ".join(section.arguments))
            raise self._error(f"expected a frame number after {section.keyword}, got {got}", section.line)
        return number

    def _check_frames(self, other: Sequence[Section]) -> None:
        if not self._frames:
            raise self._error("expected PRIMCOORD or ATOMS, got neither", self._last_line)
        keyword = self._frames[0].keyword
        if other:
            raise self._error(f"expected only {keyword}, got {other[0].keyword} as well", other[0].line)
        kind = None if self._kind is None else self._kind.keyword
        if keyword != "ATOMS" and kind is None:
            raise self._error(
                f"expected CRYSTAL, SLAB, POLYMER or MOLECULE in front of {keyword}, got none",
                self._frames[0].line,
            )
        if keyword == "ATOMS" and kind not in (None, "MOLECULE"):
            raise self._error(f"expected PRIMCOORD in a {kind}, got ATOMS", self._frames[0].line)
        for number, section in enumerate(self._frames, start=1):
            if number > self.n_announced:
                raise self._error(
                    f"expected {counted(self.n_announced, 'frame')}, got another; ANIMSTEPS gives the number of frames",
                    section.line,
                )
            named = self._frame_number(section)
            if named != number and (named is not None or self._animation is not None):
                got = keyword if named is None else f"{keyword} {named}"
                raise self._error(f"expected {keyword} {number}, got {got}", section.line)

    def _check_vectors(self) -> None:
        """Refuse a common cell beside the cell of a single frame, and cells of frames beyond the last."""
        for (keyword, number), section in self._vectors.items():
            if number is None:
                continue
            if number > self.n_announced:
                raise self._error(
                    f"expected {keyword} for frames up to {self.n_announced}, got {number}", section.line
                )
            if (common := self._vectors.get((keyword, None))) is not None:
                raise self._error(
                    f"expected one {keyword}, got two; the other is in line {common.line}", section.line
                )

    def shortage(self) -> InputError | None:
        """The error that frames are missing, if there are fewer than announced."""
        if self._animation is None or len(self._frames) == self.n_announced:
            return None
        return self._error(
            f"expected {self.n_announced} frames, got {len(self._frames)}: truncated?", self._animation.line
        )

    def _assign_energies(self, energies: Sequence[Energy]) -> list[float | None]:
        """The energy of each frame."""
        if not energies:
            return [None] * len(self._frames)
        if self.n_announced == 1:
            for energy in energies[1:]:
                if energy.value != energies[0].value:
                    raise self._error(
                        f"expected one total energy, got {energies[0].value} (line {energies[0].line}) and "
                        f"{energy.value}",
                        energy.line,
                    )
            return [energies[0].value]
        if len(energies) == 1:
            raise self._error(
                f"expected a total energy for each of {self.n_announced} frames or for none, got one",
                energies[0].line,
            )
        starts = np.array([section.line for section in self._frames])
        in_front = energies[0].line < starts[0]
        assigned: list[float | None] = [None] * len(starts)
        for energy in energies:
            frame = int(np.searchsorted(starts, energy.line)) - (not in_front)
            if frame == len(starts):
                continue  # the frame itself is missing
            if assigned[frame] is not None:
                raise self._error(
                    f"expected one total energy for frame {frame + 1}, got a second", energy.line
                )
            assigned[frame] = energy.value
        return assigned

    def structure(self, number: int, name: str) -> Structure:
        """The structure of a frame, numbered from 1.

        Raises:
            InputError: its numbers cannot be used.
        """
        section = self._frames[number - 1]
        axes = 0 if self._kind is None else PERIODIC_AXES[self._kind.keyword]
        periodic = (axes > 0, axes > 1, axes > 2)
        cell, line = np.zeros((3, 3)), section.line
        if axes:
            vectors = self._vectors_of(section.keyword, number)
            if vectors.line not in self._cells:
                self._cells[vectors.line] = self._rows.cell(vectors, periodic)
            cell = self._cells[vectors.line]
            if vectors.arguments:
                line = min(line, vectors.line)
        elements, table = self._rows.atoms(section)
        return Structure(
            name=name,
            elements=elements,
            positions=table[:, :3].copy(),
            cell=cell,
            periodic=periodic,
            energy=self._energies[number - 1],
            forces=table[:, 3:] * self._force_unit if table.shape[1] == 6 else None,
            file=self._rows.file,
            line=self._first_line if self.n_announced == 1 else line,
            extras=_EXTRAS,
        )

    def _vectors_of(self, coordinates: str, number: int) -> Section:
        keyword = "PRIMVEC" if coordinates == "PRIMCOORD" else "CONVVEC"
        for frame in (number, None):
            if (section := self._vectors.get((keyword, frame))) is not None:
                return section
        raise self._error(f"expected {keyword} for {coordinates}, got none", self._frames[number - 1].line)
