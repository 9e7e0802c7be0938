"""Names of files in formats that tio2nn does not read and ASE does, for advice in messages."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = (".cif", ".vasp", ".gen", ".res", ".cell", ".castep", ".pdb", ".cfg", ".xtd")
_NAMES_OF_VASP = ("POSCAR", "CONTCAR", "XDATCAR", "VASPRUN")


def is_read_by_ase(name: str) -> bool:
    """Whether the name is usual for a format of structures that ASE reads."""
    beginning = name.partition(".")[0].partition("_")[0].upper()
    return beginning in _NAMES_OF_VASP or Path(name.lower()).suffix in _SUFFIXES
