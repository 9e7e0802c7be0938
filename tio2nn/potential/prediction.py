"""What a potential says of one structure: numbers, what speaks against them, and when they are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

# Atoms at a larger distance from training are warned of; see `familiarity` for the unit. Trained on structures of
# TiO2 below 1 eV/atom: 1 to 2 % of 600 others at random have such an atom, 58 % of 1,118 others at higher energies; the
# forces of such atoms are wrong by 1 eV/Å and more, instead of 0.1.
EXTRAPOLATION_DISTANCE = 2.0


# Energies beyond this many times the largest of training are no extrapolation, and none below the smallest limit is
# refused: 1,000 eV/atom is more than any chemistry has, and 1,000 eV/Å more than atoms feel that just do not touch.
_BEYOND_TRAINING = 100.0
_SMALLEST_LIMIT = 1000.0


@dataclass(frozen=True)
class Limits:
    """Beyond what the networks' part of a prediction is none.

    Attributes:
        largest_energy: largest absolute cohesive energy of the training part, eV/atom; None if not known.
        largest_force: length of the largest force of the training part, eV/Å; None if not known.
    """

    largest_energy: float | None = None
    largest_force: float | None = None

    @property
    def energy(self) -> float:
        """Of the absolute cohesive energy, eV/atom."""
        return max(_BEYOND_TRAINING * (self.largest_energy or 0.0), _SMALLEST_LIMIT)

    @property
    def force(self) -> float:
        """Of the length of a force, eV/Å; without forces in training that of the energy, for an Å."""
        if self.largest_force is None:
            return self.energy
        return max(_BEYOND_TRAINING * self.largest_force, _SMALLEST_LIMIT)


NO_TRAINING_KNOWN = Limits()
"""Those of a potential that does not say what the largest numbers of its training were."""


@dataclass(frozen=True)
class Extrapolation:
    """An atom far from all that training saw.

    Attributes:
        atom: number of the atom, from 1.
        element: its element.
        distance: from the nearest atom of the training, see `familiarity`; above `EXTRAPOLATION_DISTANCE`.
        function: name of the symmetry function that is farthest outside the range of training, or nearest to its end.
        excess: how far outside that function is, in units of the width of its range, of a function that did not vary
            in training the difference itself; not above zero if all functions are within their ranges, and only their
            combination is new.
    """

    atom: int
    element: str
    distance: float
    function: str
    excess: float


@dataclass(frozen=True)
class Prediction:
    """Energy of one structure.

    Attributes:
        structure: what was predicted.
        energy: total energy, eV; mean of the committee.
        atomic_energies: (n_atoms,) eV, reference energies and repulsion included; mean of the committee.
        spread: standard deviation of the committee's energies, eV/atom; None for a single network.
        distances: (n_atoms,) of each atom from the nearest one that training saw; 1 is ordinary, see
            `tio2nn.potential.familiarity`.
        extrapolations: the atoms farther than `EXTRAPOLATION_DISTANCE`.
        composition_is_known: whether the composition is a combination of those in training; if not, the
            total energy contains a reference energy that nothing determined.
        forces: (n_atoms, 3) eV/Å, mean of the committee; None if not asked for.
        forces_spread: (n_atoms,) eV/Å, root of the sum over the components of the variance among the committee;
            None without forces or for a single network.
        stress: (3, 3) eV/Å³, ∂E/∂strain over `Structure.cell_volume`, positive under tension; None without forces or
            such a volume.
        repulsion: the part of the energy that atoms closer than any in training add, eV; see `repulsion`.
        network_energy: what the networks add to the reference energies, eV/atom.
        largest_network_force: length of the largest force without the repulsion, eV/Å; None without forces.
        limits: beyond which the last two are none.
    """

    structure: Structure
    energy: float
    atomic_energies: FloatArray
    spread: float | None
    distances: FloatArray
    extrapolations: tuple[Extrapolation, ...]
    composition_is_known: bool
    forces: FloatArray | None = None
    forces_spread: FloatArray | None = None
    stress: FloatArray | None = None
    repulsion: float = 0.0
    network_energy: float = 0.0
    largest_network_force: float | None = None
    limits: Limits = NO_TRAINING_KNOWN

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / self.structure.n_atoms

    def unusable(self) -> InputError | None:
        """Why it is none: the numbers of a damaged potential, or of atoms far from all, may be too large to be any."""
        for name, values in (("energy", self.energy), ("forces", self.forces), ("stress", self.stress)):
            if values is not None and not np.isfinite(values).all():
                return self.structure.error(f"expected finite numbers as predicted {name}, got others")
        for name, value, limit, unit in (
            ("energy", abs(self.network_energy), self.limits.energy, "eV/atom from the reference energies"),
            ("forces", self.largest_network_force, self.limits.force, "eV/Å"),
        ):
            if value is not None and value > limit:
                return self.structure.error(
                    f"expected predicted {name} within {limit:.4g} {unit}, got {value:.3g}: "
                    "the structure is unlike all in training"
                )
        return None

    def doubts(self) -> dict[Literal["composition", "atoms"], str]:
        """What speaks against trusting the prediction, each a line with advice."""
        found: dict[Literal["composition", "atoms"], str] = {}
        if not self.composition_is_known:
            found["composition"] = (
                "no combination of the compositions in training makes this one, so the total energy is off by an "
                "unknown reference energy; train on structures of such a composition"
            )
        if self.extrapolations:
            worst = max(self.extrapolations, key=lambda extrapolation: extrapolation.distance)
            place = (
                f"where {worst.function} is outside its range in training by {worst.excess:.2f} times its width"
                if worst.excess > 0.0
                else f"in a new combination of functions, of which {worst.function} is nearest to its limit"
            )
            repulsion = (
                f"atoms closer than any in training repel each other with {self.repulsion:.3g} eV; "
                if self.repulsion
                else ""
            )
            found["atoms"] = (
                f"{_atoms(len(self.extrapolations), self.structure.n_atoms)} far from all in training, do not "
                f"trust energy or forces; farthest is atom {worst.atom} ({worst.element}), at {worst.distance:.1f} "
                f"times an ordinary distance, {place}; {repulsion}train on structures like this one"
            )
        return found


def _atoms(n: int, of: int) -> str:
    """So many of all, with a verb."""
    if of == 1:
        return "the atom is"
    return f"{n} of {of} atoms {'is' if n == 1 else 'are'}"
