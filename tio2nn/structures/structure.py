"""One atomic structure with, if it is labelled, the energy and forces that a reference method gave it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]

_NO_ELEMENT = "X"  # ASE's sign for it
# of volume over product of the edges; below it vectors lie in one plane (angles of 1 degree give 1e-4)
_FLAT_CELL = 1e-6


class Column(NamedTuple):
    """Per-atom data of a file, in its own words.

    Attributes:
        kind: R, I, S or L: real, integer, text, true or false.
        rows: (n_atoms,) the fields of each atom.
    """

    kind: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Extras:
    """What a file says of a structure beyond its geometry, labels included, to be written again as it is.

    Attributes:
        info: what is written behind each key, quotes included; nothing for a word that stands alone.
        columns: of atoms, by name.
        no_energy: why there is no total energy.
        remarks: on labels that were left alone.
    """

    info: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    no_energy: str = "expected a total energy, got none"
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a cell.

    Attributes:
        name: the file's stem, with a number behind it for a frame of several.
        elements: (n_atoms,) chemical symbols.
        positions: (n_atoms, 3) Cartesian positions, Å; atoms may lie outside the cell.
        cell: (3, 3) one cell vector a row, Å; rows of axes that are not periodic may be zero.
        periodic: which of the three cell vectors repeat the structure.
        energy: total energy, eV, or None.
        forces: (n_atoms, 3) eV/Å, or None.
        file: where the structure came from, as the user named it.
        line: 1-based line in that file at which the structure begins, or None.
        extras: what else that file says; neither the store nor a hash knows of it.
    """

    name: str
    elements: tuple[str, ...]
    positions: FloatArray
    cell: FloatArray
    periodic: tuple[bool, bool, bool] = (True, True, True)
    energy: float | None = None
    forces: FloatArray | None = None
    file: str = ""
    line: int | None = None
    extras: Extras = field(default_factory=Extras)

    def __post_init__(self) -> None:
        if isinstance(self.elements, str):  # type: ignore[unreachable]  # callers need not check types
            # its letters would be taken for symbols: those of CO are carbon and oxygen
            raise TypeError(f"elements: expected one chemical symbol for each atom, got {self.elements!r}")
        n = len(self.elements)
        if self.positions.shape != (n, 3):
            raise ValueError(f"positions: expected shape ({n}, 3), got {self.positions.shape}")
        if self.cell.shape != (3, 3):
            raise ValueError(f"cell: expected shape (3, 3), got {self.cell.shape}")
        if self.forces is not None and self.forces.shape != (n, 3):
            raise ValueError(f"forces: expected shape ({n}, 3), got {self.forces.shape}")

    @classmethod
    def from_ase(cls, atoms: Atoms, *, name: str = "atoms") -> Structure:
        """The structure that atoms of ASE are, with the energy and forces that their calculator has, if any.

        Nothing is computed. Forces are those before constraints; results of atoms that have changed since are left
        alone, and so are charges, velocities and everything else.

        Raises:
            InputError: no atoms, or one that is no element.
        """
        if not len(atoms):
            raise InputError("expected atoms, got none")
        elements = tuple(atoms.get_chemical_symbols())
        if _NO_ELEMENT in elements:
            number = elements.index(_NO_ELEMENT) + 1
            raise InputError(f"expected chemical symbols, got an atom without one: atom {number}")
        energy, forces = (_known_result(atoms, label) for label in ("energy", "forces"))
        x, y, z = map(bool, atoms.pbc)
        return cls(
            name,
            elements,
            np.array(atoms.positions, dtype=np.float64),
            np.array(atoms.cell, dtype=np.float64),
            (x, y, z),
            energy=None if energy is None else float(energy),
            forces=None if forces is None else np.array(forces, dtype=np.float64),
        )

    def to_ase(self) -> Atoms:
        """Atoms of ASE; where there are labels, with a `SinglePointCalculator` that returns them."""
        # importing ASE takes as long as parsing a thousand structures
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = Atoms(self.elements, self.positions, cell=self.cell, pbc=self.periodic)
        if self.energy is not None or self.forces is not None:
            atoms.calc = SinglePointCalculator(atoms, energy=self.energy, forces=self.forces)
        return atoms

    def error(self, reason: str) -> InputError:
        """An error about this structure, with its place."""
        return InputError(reason, file=self.file or self.name or None, line=self.line)

    @property
    def n_atoms(self) -> int:
        return len(self.elements)

    @cached_property
    def composition(self) -> dict[str, int]:
        """Number of atoms of each element, elements in alphabetical order."""
        return dict(sorted(Counter(self.elements).items()))

    @property
    def volume(self) -> float | None:
        """Volume of the cell in Å³; None unless all three axes are periodic."""
        return float(abs(np.linalg.det(self.cell))) if all(self.periodic) else None

    @property
    def cell_volume(self) -> float | None:
        """Volume that the cell vectors span in Å³, periodic or not: what ASE, too, divides by for the stress of a slab.

        None if nothing is periodic, or the vectors lie in one plane, as where a slab has no third one.
        """
        if not any(self.periodic):
            return None
        volume = float(abs(np.linalg.det(self.cell)))
        flat = _FLAT_CELL * float(np.prod(np.linalg.norm(self.cell, axis=1)))
        return volume if all(self.periodic) or volume > flat else None

    @cached_property
    def geometry_hash(self) -> str:
        """Hexadecimal digest of elements, positions, cell and periodicity: what symmetry functions depend on."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(" ".join(self.elements).encode())
        digest.update(np.ascontiguousarray(self.positions, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(self.cell, dtype="<f8").tobytes())
        digest.update(bytes(self.periodic))
        return digest.hexdigest()


def _known_result(atoms: Atoms, name: str) -> Any:
    """What the calculator of atoms of ASE has computed for them as they are, or None."""
    calculator = atoms.calc
    if calculator is None or calculator.calculation_required(atoms, [name]):
        return None
    return calculator.get_property(name, atoms)
