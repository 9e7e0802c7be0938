"""An atomic structure, with the energy, forces and stress of the reference method if it is labeled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.digests import digest
from tio2nn.files.text import quoted
from tio2nn.structures.stress import to_voigt, usable_stress

if TYPE_CHECKING:
    from ase import Atoms


CONFIG_TYPE, CONFIG_WEIGHT = "config_type", "config_weight"
"""Keys of extended XYZ, and of ASE's `info`, for the kind and the weight of a structure."""

_NO_ELEMENT = "X"  # in ASE
# volume over product of the edges; vectors below it are coplanar (angles of 1 degree give 1e-4)
_FLAT_CELL = 1e-6


class Column(NamedTuple):
    """Per-atom data of a file, as text.

    Attributes:
        kind: R, I, S or L: real, integer, string or logical.
        rows: (n_atoms,) the fields of each atom.
    """

    kind: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Extras:
    """The content of a file beyond the geometry, labels included, kept as text to be written again unchanged.

    Attributes:
        info: the value of each key, quotes included; empty for a key without a value.
        columns: per-atom data, by name.
        no_energy: why there is no total energy.
        remarks: on labels that were ignored.
        states: total charge and spin that the file tells otherwise than in `info`, by common words for them.
        keys: that the user named, of labels which are no text.
    """

    info: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    no_energy: str = "expected a total energy, got none"
    remarks: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in a cell.

    Attributes:
        name: the stem of the file, followed by a number if the file has several frames.
        elements: (n_atoms,) chemical symbols.
        positions: (n_atoms, 3) Cartesian positions, Å; atoms may lie outside the cell. Lists of numbers become arrays,
            as for cell and forces.
        cell: (3, 3) one cell vector per row, Å; rows of non-periodic axes may be zero.
        periodic: whether the structure is periodic along each cell vector.
        energy: total energy, eV, or None.
        forces: (n_atoms, 3) eV/Å, or None.
        file: the source of the structure, as the user named it.
        line: 1-based line in that file at which the structure begins, or None.
        frame: 1-based number of the structure among several of a file that has no lines, or None.
        extras: other content of that file; neither stored nor hashed.
        free_energy: eV, electronic entropy included, if the file gives it; forces are its derivatives.
        plain_energy: eV, without that entropy, if the file gives it beside the free energy.
        config_type: the kind of structure that the file names, such as "surface", or "".
        weight: in the loss, relative to that of others; at least 0.
        stress: (3, 3) symmetric, eV/Å³, ∂E/∂strain over the volume, positive under tension, or None.
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
    frame: int | None = None
    extras: Extras = field(default_factory=Extras)
    free_energy: float | None = None
    plain_energy: float | None = None
    stress: FloatArray | None = None
    config_type: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.elements, str):  # type: ignore[unreachable]  # callers need not check types
            # letters would be taken for symbols: CO would be carbon and oxygen
            raise TypeError(f"elements: expected one chemical symbol for each atom, got {self.elements!r}")
        object.__setattr__(self, "elements", tuple(self.elements))
        for name in ("positions", "cell", "forces", "stress"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, np.ndarray) and given.dtype == np.float64):
                object.__setattr__(self, name, _numbers(name, given))
        n = len(self.elements)
        if self.positions.shape != (n, 3):
            raise ValueError(f"positions: expected shape ({n}, 3), got {self.positions.shape}")
        if self.cell.shape != (3, 3):
            raise ValueError(f"cell: expected shape (3, 3), got {self.cell.shape}")
        if self.forces is not None and self.forces.shape != (n, 3):
            raise ValueError(f"forces: expected shape ({n}, 3), got {self.forces.shape}")
        if self.stress is not None and self.stress.shape != (3, 3):
            raise ValueError(f"stress: expected shape (3, 3), got {self.stress.shape}")
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"weight: expected a finite number of at least 0, got {self.weight}")

    @classmethod
    def from_ase(cls, atoms: Atoms, *, name: str = "atoms") -> Structure:
        """Convert ASE `Atoms`, with the energy, forces and stress that their calculator holds, if any.

        So are `config_type` and `config_weight` of their `info`. Nothing is computed. Forces come without constraints;
        outdated results are ignored, and so are charges, velocities, everything else, and stresses that cannot be
        learned, as of slabs and molecules.

        Raises:
            InputError: no atoms, an atom without an element, or a weight that is no number of at least 0.
        """
        if not len(atoms):
            raise InputError("expected atoms, got none")
        elements = tuple(atoms.get_chemical_symbols())
        if _NO_ELEMENT in elements:
            number = elements.index(_NO_ELEMENT) + 1
            raise InputError(f"expected chemical symbols, got none for atom {number}")
        energy, free_energy, forces, stress = (
            _known_result(atoms, label) for label in ("energy", "free_energy", "forces", "stress")
        )
        x, y, z = map(bool, atoms.pbc)
        return cls(
            name,
            elements,
            np.array(atoms.positions, dtype=np.float64),
            np.array(atoms.cell, dtype=np.float64),
            (x, y, z),
            forces=None if forces is None else np.array(forces, dtype=np.float64),
            stress=usable_stress(stress, (x, y, z)).stress,
            **two_energies(*(None if label is None else float(label) for label in (energy, free_energy))),
            config_type=str(atoms.info.get(CONFIG_TYPE) or ""),
            weight=parsed_weight(atoms.info.get(CONFIG_WEIGHT)),
        )

    def to_ase(self) -> Atoms:
        """Convert to ASE `Atoms`; labels come in a `SinglePointCalculator`, kind and weight in `info`."""
        # importing ASE takes as long as parsing a thousand structures
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = Atoms(self.elements, self.positions, cell=self.cell, pbc=self.periodic)
        atoms.info.update({CONFIG_TYPE: self.config_type} if self.config_type else {})
        atoms.info.update({CONFIG_WEIGHT: self.weight} if self.weight != 1.0 else {})
        labels: dict[str, Any] = {
            "energy": self.energy,
            "free_energy": self.free_energy,
            "forces": self.forces,
        }
        if self.plain_energy is not None:
            labels["energy"] = self.plain_energy
        if self.stress is not None:
            labels["stress"] = to_voigt(self.stress)
        if any(label is not None for label in labels.values()):
            atoms.calc = SinglePointCalculator(atoms, **labels)
        return atoms

    def error(self, reason: str) -> InputError:
        """An error about this structure, with file and line."""
        return InputError(reason, file=self.file or self.name or None, line=self.line, frame=self.frame)

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
        """Volume that the cell vectors span, Å³, periodic or not; ASE also defines the stress of a slab by it.

        None if no axis is periodic, or the vectors are coplanar, as in a slab without a third vector.
        """
        if not any(self.periodic):
            return None
        volume = float(abs(np.linalg.det(self.cell)))
        flat = _FLAT_CELL * float(np.prod(np.linalg.norm(self.cell, axis=1)))
        return volume if all(self.periodic) or volume > flat else None

    @cached_property
    def geometry_hash(self) -> str:
        """Hexadecimal digest of elements, positions, cell and periodicity, which symmetry functions depend on."""
        return geometry_digest(
            " ".join(self.elements).encode(),
            np.ascontiguousarray(self.positions, dtype="<f8").tobytes(),
            np.ascontiguousarray(self.cell, dtype="<f8").tobytes(),
            bytes(self.periodic),
        )


def geometry_digest(*parts: bytes | memoryview) -> str:
    """`Structure.geometry_hash`, of symbols with blanks between them and bytes of positions, cell and periodicity."""
    return digest(b"".join(parts))


class TwoEnergies(TypedDict):
    """The energies of a structure by the names of its attributes."""

    energy: float | None
    free_energy: float | None
    plain_energy: float | None


def two_energies(plain: float | None, free: float | None) -> TwoEnergies:
    """The energies of a structure by the names of its attributes; the energy is the plain one, if there is one."""
    energy = free if plain is None else plain
    return {"energy": energy, "free_energy": free, "plain_energy": None if free is None else plain}


def parsed_weight(given: object) -> float:
    """The weight that a file gives, 1 for None.

    Raises:
        InputError: it is no finite number of at least 0.
    """
    if given is None:
        return 1.0
    try:
        weight = float(given)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        weight = math.nan
    if not 0.0 <= weight < math.inf:
        got = quoted(given if isinstance(given, str) else str(given))
        raise InputError(f"expected a finite number of at least 0 for {CONFIG_WEIGHT}, got {got}")
    return weight


def _numbers(name: str, given: object) -> FloatArray:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected an array of numbers, got {given!r}") from None


def checked_structure(item: object) -> Structure:
    """The item, if it is a structure.

    Raises:
        TypeError: it is something else; the message says what to do.
    """
    if isinstance(item, Structure):
        return item
    got = type(item).__name__
    if isinstance(item, InputError):
        advice = "leave out the errors that read_structures yields"
    elif type(item).__module__.partition(".")[0] == "ase":
        advice = "convert ASE's Atoms with Structure.from_ase"
    else:
        advice = "read files with read_structures"
    raise TypeError(f"expected a Structure, got {got}; {advice}")


def _known_result(atoms: Atoms, name: str) -> Any:
    """A result of the calculator that is still valid for these atoms, or None."""
    calculator = atoms.calc
    if calculator is None or calculator.calculation_required(atoms, [name]):
        return None
    return calculator.get_property(name, atoms)
