"""Structures with all digits of their numbers, as text: extended XYZ, and XSF as aenet reads it.

Reading it gives the same numbers, bit for bit. Notes beside the labels (split, group ...) are keys of extended XYZ and
comments of XSF.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tio2nn.array_types import FloatArray
from tio2nn.io.xsf.file import KEYWORD_OF_PERIODICITY
from tio2nn.structures.energy_label import plain_energy
from tio2nn.structures.structure import CONFIG_TYPE, CONFIG_WEIGHT, Structure


def exact_extxyz(structure: Structure, notes: Mapping[str, str]) -> str:
    """One frame.

    Args:
        structure: with both energies if it has two.
        notes: more keys and their values.
    """
    columns = "species:S:1:pos:R:3" + ("" if structure.forces is None else ":forces:R:3")
    words = [f"Properties={columns}"]
    if structure.cell.any():
        words.insert(0, f'Lattice="{_row(structure.cell.ravel())}"')
    words.append('pbc="{} {} {}"'.format(*("FT"[axis] for axis in structure.periodic)))
    for key, energy in (("energy", plain_energy(structure)), ("free_energy", structure.free_energy)):
        if energy is not None:
            words.append(f"{key}={energy!r}")
    if structure.stress is not None:
        words.append(f'stress="{_row(structure.stress.ravel())}"')
    if structure.config_type:
        words.append(f"{CONFIG_TYPE}={json.dumps(structure.config_type, ensure_ascii=False)}")
    if structure.weight != 1.0:
        words.append(f"{CONFIG_WEIGHT}={structure.weight!r}")
    # no newline, and quotes as extended XYZ escapes them
    words += [f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in notes.items()]
    return "\n".join([str(structure.n_atoms), " ".join(words), *_atoms(structure)]) + "\n"


def exact_xsf(structure: Structure, notes: Mapping[str, str]) -> str:
    """A file of one structure, in eV, Å and eV/Å; cell vectors that are not periodic are left out of a molecule.

    Args:
        structure: with the energy that is learned.
        notes: for comments.

    Raises:
        ValueError: XSF has no keyword for the periodic axes.
    """
    keyword = KEYWORD_OF_PERIODICITY.get(structure.periodic)
    if keyword is None:
        raise ValueError(f"expected the periodic axes first, as XSF demands, got {structure.periodic}")
    lines = [] if structure.energy is None else [f"# total energy = {structure.energy!r} eV"]
    lines += ["# forces in eV/Angstrom"] if structure.forces is not None else []
    lines += [f"# {key}: {json.dumps(text)}" for key, text in notes.items()]
    lines += ["", keyword]
    if keyword != "ATOMS":
        lines += ["PRIMVEC", *map(_row, structure.cell), "PRIMCOORD", f"{structure.n_atoms} 1"]
    return "\n".join([*lines, *_atoms(structure)]) + "\n"


def _atoms(structure: Structure) -> list[str]:
    rows = [
        f"{element} {_row(place)}"
        for element, place in zip(structure.elements, structure.positions, strict=True)
    ]
    if structure.forces is None:
        return rows
    return [f"{row} {_row(force)}" for row, force in zip(rows, structure.forces, strict=True)]


def _row(numbers: FloatArray | Any) -> str:
    return " ".join(map(repr, numbers.tolist()))
