"""What `input.nn` says in comments, which other programs skip: what a potential has and no keyword expresses."""

from __future__ import annotations

from pathlib import Path

from tio2nn.errors import InputError
from tio2nn.export.lines import text_of
from tio2nn.export.units import UNITS, Units

UNITS_MARK = "# units: "
"""Begins the line with the units."""


def stated_units(file: Path, given: Units | None) -> Units:
    """The units that `input.nn` states, else those given.

    Args:
        file: the file.
        given: with --units, if at all.

    Raises:
        InputError: it states others than those given, or none and none are given.
    """
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        name = line.removeprefix(UNITS_MARK).split()[:1] if line.startswith(UNITS_MARK) else []
        if name and name[0] in UNITS:
            if given not in (None, UNITS[name[0]]):
                raise InputError(
                    f"expected --units {name[0]}, as the file states, or none, got {given.name}",
                    file=str(file),
                    line=number,
                )
            return UNITS[name[0]]
    if given is not None:
        return given
    raise InputError(
        "expected --units metal (Å, eV) or atomic (Bohr, Hartree): the file does not state its units",
        file=str(file),
    )
