"""What `input.nn` says in comments, which other programs skip: what a potential has and no keyword expresses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tio2nn.errors import InputError
from tio2nn.export.lines import Line, text_of
from tio2nn.export.units import UNITS, Units
from tio2nn.files.text import parse_count, quoted
from tio2nn.parameters.targets import TARGETS, Target
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion

_MARK = "# tio2nn: "

UNITS_MARK = "# units: "
"""Begins the line with the units."""


def stated_units(file: Path, given: Units | None) -> Units:
    """The units that `input.nn` states, else those given.

    Args:
        file: the file.
        given: by the user, if at all.

    Raises:
        InputError: it states others than those given, or none and none are given.
    """
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        name = line.removeprefix(UNITS_MARK).split()[:1] if line.startswith(UNITS_MARK) else []
        if name and name[0] in UNITS:
            if given not in (None, UNITS[name[0]]):
                raise InputError(
                    f"expected units {name[0]}, as the file states, got {given.name}",
                    file=str(file),
                    line=number,
                )
            return UNITS[name[0]]
    if given is not None:
        return given
    raise InputError(
        "expected units metal (Å, eV) or atomic (Bohr, Hartree), and the file states none; give them by --units, or by "
        "--from-units of tio2nn export",
        file=str(file),
    )


@dataclass
class Marks:
    """What else the comments of `input.nn` say.

    Attributes:
        members: number of networks of the potential; None in a file of another program.
        target: program that the potential is made for; None for any.
        radii: outer radius of the repulsion of each pair of elements, Å; none without a repulsion.
    """

    members: int | None = None
    target: Target | None = None
    radii: dict[frozenset[str], float] = field(default_factory=dict)

    def repulsion(self, elements: Sequence[str], file: Path) -> Repulsion | None:
        """The repulsion between some elements; None without one.

        Raises:
            InputError: a pair has no radius.
        """
        if not self.radii:
            return None
        outer = np.empty((len(elements), len(elements)))
        for (i, one), (j, other) in itertools.product(enumerate(elements), repeat=2):
            if frozenset((one, other)) not in self.radii:
                raise InputError(f"expected a repulsion of {one} and {other}, got none", file=str(file))
            outer[i, j] = self.radii[frozenset((one, other))]
        return Repulsion(tuple(elements), outer)


def lines_of_marks(potential: Potential) -> Iterator[str]:
    """The lines that `marks_of` reads, all digits of all numbers."""
    yield f"{_MARK}members {len(potential.members)}"
    if potential.parameters.target is not None:
        yield f"{_MARK}target {potential.parameters.target}"
    if potential.repulsion is not None:
        pairs = itertools.combinations_with_replacement(enumerate(potential.elements), 2)
        for (i, one), (j, other) in pairs:
            yield f"{_MARK}repulsion {one} {other} {potential.repulsion.outer[i, j]:.16E} (zbl, outer radius in Å)"


def marks_of(file: Path, elements: Sequence[str]) -> Marks:
    """What the comments of `input.nn` say.

    Args:
        file: the file.
        elements: of its networks.

    Raises:
        InputError: something that an export does not say.
    """
    found = Marks()
    for number, text in enumerate(text_of(file).splitlines(), start=1):
        if text.startswith(_MARK):
            _read_mark(Line(str(file), number, tuple(text.removeprefix(_MARK).split())), found, elements)
    return found


def _read_mark(line: Line, found: Marks, elements: Sequence[str]) -> None:
    keyword, value = (*line.words, "", "")[:2]
    if keyword == "members":
        found.members = parse_count(value)
        if not found.members:
            raise line.error(f"expected a number of members, got {quoted(value)}")
    elif keyword == "target":
        found.target = next((target for target in TARGETS if target == value), None)
        if found.target is None:
            raise line.error(f"expected one of {', '.join(TARGETS)}, got {quoted(value)}")
    elif keyword == "repulsion":
        pair = (line.element(1), line.element(2))
        for element in pair:
            if element not in elements:
                raise line.error(f"expected elements of the folder, got {element}")
        radius = line.value(3)
        if radius <= 0.0:
            raise line.error(f"expected a radius above 0, got {radius:g}")
        found.radii[frozenset(pair)] = radius
    else:
        raise line.error(f"expected members, target or repulsion, got {quoted(keyword)}")
