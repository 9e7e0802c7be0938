"""`vasprun.xml` of VASP, read step by step.

The free energy is `e_fr_energy` of a step, without the p·V that `PSTRESS` adds; the energy is that extrapolated to no
smearing: VASP 5 writes a wrong `e_0_energy` for the step, and electronic steps know nothing of dispersion, so the
difference of the two comes from the last electronic step and the value from the ionic step (as in ASE).

The stress is that of a step, in kbar and positive under pressure, to which `PSTRESS` adds nothing; with `ISIF` below 2
VASP computes the pressure at most.

A file that declares a document type is refused: no entity is ever expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from xml.parsers import expat

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import CUT_SHORT, parse_number, quoted
from tio2nn.io.electronic_states import by_electrons
from tio2nn.io.stream import Labels, element_of_label, numbers_or_nan, structure_of
from tio2nn.structures.structure import Structure

_AT_ONCE = 2**16  # bytes
_DEEPEST = 64  # elements in each other; VASP has 9
_LONGEST_TOKEN = 2**24  # bytes that the parser may keep, waiting for the end of a tag
_LONGEST_TEXT = 2**16  # characters of one element that are kept
_MOST_TEXT = 2**24  # characters between two tags; VASP writes a line
# elements outside of ionic steps, of which a million atoms have some; and inside, where projections on orbitals stand
_MOST_ELEMENTS, _MOST_IN_STEP = 10_000_000, 100_000_000
_KBAR = 1.0 / 1602.1766208  # eV/Å³
_FULL_STRESS = 2  # the least ISIF for all components
_SETTINGS = ("i:NELM", "i:EDIFF", "i:PSTRESS", "i:ISIF", "i:NELECT")
_N_OF_KIND, _VALENCE = 0, 3  # columns of the table of kinds of atoms
_VECTORS = {
    ("crystal", "varray:basis"): "cell",
    ("structure", "varray:positions"): "positions",
    ("calculation", "varray:forces"): "forces",
    ("calculation", "varray:stress"): "stress",
}


def iter_vasprun(stream: BinaryIO, *, file: str) -> Iterator[Structure | InputError]:
    """The ionic steps of a file; an unusable step yields an error.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.

    Raises:
        OSError, EOFError: the content cannot be read.
    """
    run = _Run(file)
    while True:
        data = stream.read(_AT_ONCE)
        try:
            run.feed(data)
        except expat.ExpatError as error:
            yield from run.finished()
            got = f"got {expat.errors.messages[error.code]}"
            if not data:
                got = CUT_SHORT.partition(" (")[0]
            yield InputError(f"expected XML, {got}", file=file, line=error.lineno)
            return
        except InputError as error:
            yield from run.finished()
            yield error
            return
        yield from run.finished()
        if not data:
            break
    if run.n_steps == 0:
        yield InputError("expected ionic steps, got none", file=file)


class _Run:
    """What was read so far.

    Attributes:
        n_steps: number of ionic steps.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._path: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._elements: list[str] = []
        self._in_row = False  # of the table of atoms, behind its first field
        self._kind: list[str] = []  # the fields of a row of the table of kinds of atoms
        self._protons: list[float | None] = []  # of all atoms of each kind, but for those of the core
        self._settings: dict[str, float] = {}
        self._done: list[Structure | InputError] = []
        self._fed = 0
        self._n_elements = 0  # outside of steps
        self.n_steps = 0
        self._step = _Step(0)
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def feed(self, data: bytes) -> None:
        """Go on with some bytes, none at the end of the file.

        Raises:
            ExpatError: no XML.
            InputError: XML that no program writes.
        """
        self._fed += len(data)
        self._parser.Parse(data, not data)
        if self._fed - self._parser.CurrentByteIndex > _LONGEST_TOKEN:
            raise self._error(f"expected tags of at most {_LONGEST_TOKEN} bytes, got a longer one")

    def finished(self) -> list[Structure | InputError]:
        """The steps that were read since the last call."""
        done, self._done = self._done, []
        return done

    def _error(self, reason: str) -> InputError:
        return InputError(reason, file=self._file, line=self._parser.CurrentLineNumber)

    def _doctype(self, *_: object) -> None:
        raise self._error(
            "expected no document type, which VASP does not write and which may declare entities"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._path and tag != "modeling":
            raise self._error(f"expected the element modeling, got {quoted(tag)}")
        if len(self._path) == _DEEPEST:
            raise self._error(f"expected at most {_DEEPEST} elements in each other, got more")
        name = attributes.get("name")
        self._path.append(tag if name is None else f"{tag}:{name}")
        self._text, self._length = [], 0
        self._count()
        if tag == "calculation":
            self._step = _Step(self._parser.CurrentLineNumber)
        elif tag == "scstep":
            self._step.electronic.append({})

    def _count(self) -> None:
        """Refuse what only a file made to keep a program busy has; compressed, it may be small."""
        in_step = len(self._path) > 2 and self._path[1] == "calculation"
        if in_step:
            self._step.n_elements += 1
        else:
            self._n_elements += 1
        if self._n_elements > _MOST_ELEMENTS or self._step.n_elements > _MOST_IN_STEP:
            most = _MOST_IN_STEP if in_step else _MOST_ELEMENTS
            where = "an ionic step" if in_step else "the file beside its ionic steps"
            raise self._error(f"expected at most {most} elements in {where}, got more")

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MOST_TEXT:
            raise self._error(f"expected at most {_MOST_TEXT} characters between tags, got more")
        if self._length <= _LONGEST_TEXT:
            self._text.append(text)

    def _end(self, tag: str) -> None:
        path, text = self._path, "".join(self._text)
        own = path.pop()
        self._text, self._length = [], 0
        parents = ["", "", *path]
        parent = parents[-1]
        if tag == "calculation":
            self._finish()
        elif "calculation" in path:
            self._end_in_step(own, parents, text)
        elif own in _SETTINGS and "parameters" in path:
            number = parse_number(text.strip())
            if number is not None:
                self._settings[own[2:]] = number
        elif tag == "c" and parent == "rc" and "array:atoms" in path:
            self._first_cell(text.strip())
        elif tag == "rc" and "array:atoms" in path:
            self._in_row = False
        elif tag == "c" and "array:atomtypes" in path:
            self._kind.append(text.strip())
        elif tag == "rc" and "array:atomtypes" in path:
            self._end_of_kind()

    def _first_cell(self, text: str) -> None:
        if not self._in_row:
            self._elements.append(text)
        self._in_row = True

    def _end_of_kind(self) -> None:
        row, self._kind = self._kind, []
        numbers = [parse_number(row[column]) for column in (_N_OF_KIND, _VALENCE) if column < len(row)]
        known = [number for number in numbers if number is not None]
        self._protons.append(known[0] * known[1] if len(known) == 2 else None)

    def _end_in_step(self, own: str, parents: list[str], text: str) -> None:
        step = self._step
        before, parent = parents[-2:]
        if own == "v":
            what = _VECTORS.get((before, parent))
            if what is not None:
                step.rows.setdefault(what, []).append(text)
        elif parent == "energy" and own.startswith("i:"):
            if before == "scstep":
                step.electronic[-1][own[2:]] = text
            elif before == "calculation":
                step.energies[own[2:]] = text

    def _finish(self) -> None:
        self.n_steps += 1
        step, self._step = self._step, _Step(0)
        try:
            states = by_electrons(self._protons, self._settings.get("NELECT"))
            self._done.append(step.structure(self._elements, self._settings, states, self._file))
        except InputError as error:
            self._done.append(error)


class _Step:
    """An ionic step."""

    def __init__(self, line: int) -> None:
        self._line = line
        self.n_elements = 0
        self.rows: dict[str, list[str]] = {}
        self.energies: dict[str, str] = {}
        self.electronic: list[dict[str, str]] = []

    def _error(self, reason: str, file: str) -> InputError:
        return InputError(reason, file=file, line=self._line)

    def _number(self, of: dict[str, str], key: str, file: str) -> float:
        number = parse_number(of.get(key, "").strip())
        if number is None:
            raise self._error(f"expected a number for {key}, got {quoted(of.get(key, '').strip())}", file)
        return number

    def _vectors(self, what: str, file: str) -> FloatArray | None:
        rows = self.rows.get(what)
        if rows is None:
            return None
        numbers = [[parse_number(field) for field in row.split()] for row in rows]
        wrong = next((row for row, n in zip(rows, numbers, strict=True) if len(n) != 3 or None in n), None)
        if wrong is not None:
            raise self._error(f"expected three numbers in a row of {what}, got {quoted(wrong.strip())}", file)
        return np.array(numbers, dtype=np.float64)

    def structure(
        self, labels: list[str], settings: dict[str, float], states: dict[str, str], file: str
    ) -> Structure:
        """The structure.

        Args:
            labels: of the atoms.
            settings: of the run.
            states: for `Extras.states`.
            file: for messages.

        Raises:
            InputError: the step is not complete or did not converge.
        """
        cell, scaled, forces = (self._vectors(what, file) for what in ("cell", "positions", "forces"))
        if cell is None or scaled is None or cell.shape != (3, 3):
            raise self._error("expected cell and positions in an ionic step, got none", file)
        elements = [element_of_label(label) or label for label in labels]
        if not self.electronic:
            reason = "expected electronic steps, got none: not a step of electronic structure, perhaps of a force field"
            raise self._error(reason, file)
        self._check_convergence(settings, file)
        last = self.electronic[-1]
        volume = float(abs(np.linalg.det(cell)))
        free = self._number(self.energies, "e_fr_energy", file)
        free -= settings.get("PSTRESS", 0.0) * _KBAR * volume
        stress, remarks = self._stress(settings)
        smearing = self._number(last, "e_0_energy", file) - self._number(last, "e_fr_energy", file)
        return structure_of(
            elements,
            scaled @ cell,
            cell,
            (True, True, True),
            labels=Labels(free + smearing, free, forces, stress, remarks, states=states),
            file=file,
            line=self._line,
        )

    def _stress(self, settings: dict[str, float]) -> tuple[object, tuple[str, ...]]:
        """The stress, eV/Å³, and remarks on one that is not used."""
        if (rows := self.rows.get("stress")) is None:
            return None, ()
        if (isif := settings.get("ISIF", 2.0)) < _FULL_STRESS:
            return None, (f"stress ignored: expected ISIF of at least {_FULL_STRESS}, got {isif:g}",)
        return [numbers_or_nan(row.split(), -_KBAR) for row in rows], ()

    def _check_convergence(self, settings: dict[str, float], file: str) -> None:
        n, most = len(self.electronic), settings.get("NELM")
        if most is None or n < most:
            return
        ends = [self._number(step, "e_fr_energy", file) for step in self.electronic[-2:]]
        if len(ends) < 2 or abs(ends[1] - ends[0]) > settings.get("EDIFF", 0.0):
            raise self._error(
                f"expected a converged step, got all {n} electronic steps that NELM allows", file
            )
