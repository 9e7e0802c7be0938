"""Which of two energies is learned: with electronic entropy, to which forces belong, or without; never a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

EnergyLabel = Literal["energy", "free_energy"]
EnergyChoice = Literal["auto", "energy", "free_energy"]


def plain_energy(structure: Structure) -> float | None:
    """The energy without electronic entropy, eV, as far as the file tells; None if it gives a free energy alone."""
    return structure.energy if structure.free_energy is None else structure.plain_energy


def decided(structures: Sequence[Structure], choice: EnergyChoice) -> EnergyLabel:
    """The energy of a whole data set: "auto" takes free energies if every structure with forces has one."""
    if choice != "auto":
        return choice
    with_forces = [structure for structure in structures if structure.forces is not None]
    # without forces, only where there is nothing else
    judged = with_forces or [s for s in structures if plain_energy(s) is None]
    every = bool(judged) and all(structure.free_energy is not None for structure in judged)
    if not with_forces and len(judged) < len(structures):
        return "energy"
    return "free_energy" if every else "energy"


def labeled(structure: Structure, label: EnergyLabel) -> Structure | InputError:
    """The structure with the energy that was decided on, or why it cannot be used.

    A structure without any energy stays as it is.
    """
    if structure.energy is None:
        return structure
    energy = structure.free_energy if label == "free_energy" else plain_energy(structure)
    if energy is None:
        wanted, got = (
            ("a free energy", "an energy") if label == "free_energy" else ("an energy", "a free energy")
        )
        choice = "--energy energy|free_energy"
        return structure.error(f"expected {wanted}, as in other structures, got {got} alone; see {choice}")
    return structure if energy == structure.energy else replace(structure, energy=energy)


@dataclass(frozen=True)
class EnergyDecision:
    """What was decided, and how far apart the two energies are.

    Attributes:
        label: the energy that is learned.
        n_both: number of structures with both.
        largest: largest distance, eV, in one structure.
        largest_per_atom: eV/atom.
    """

    label: EnergyLabel
    n_both: int
    largest: float
    largest_per_atom: float

    @classmethod
    def of(cls, structures: Sequence[Structure], label: EnergyLabel) -> EnergyDecision | None:
        """About structures as they were read; None if none has a free energy."""
        if all(structure.free_energy is None for structure in structures):
            return None
        apart = [
            (abs(structure.free_energy - energy), structure.n_atoms)
            for structure in structures
            if structure.free_energy is not None and (energy := plain_energy(structure)) is not None
        ]
        return cls(
            label,
            len(apart),
            max((distance for distance, _ in apart), default=0.0),
            max((distance / n for distance, n in apart), default=0.0),
        )

    def message(self) -> str:
        """One line."""
        what = {
            "free_energy": "the free energy, to which forces belong",
            "energy": "the energy without electronic entropy, to which forces do not quite belong",
        }[self.label]
        if not self.n_both:
            return what
        both = counted(self.n_both, "structure has both", "structures have both")
        apart = f"up to {self.largest:.6f} eV ({1000 * self.largest_per_atom:.3f} meV/atom) apart"
        return f"{what}; {both}, {apart if self.largest else 'and they are equal'}"
