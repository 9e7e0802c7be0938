"""A prediction: energy and forces of a structure, reasons to doubt them, and limits beyond which they are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure

# Atoms at larger distances from the training set raise a warning; see `familiarity` for the unit. Trained on TiO2 below
# 1 eV/atom: 1 to 2 % of 600 random held-out structures have such an atom, and 58 % of 1,118 structures at higher
# energies; force errors on such atoms are 1 eV/Å and more, instead of 0.1.
EXTRAPOLATION_DISTANCE = 2.0


# Predictions beyond this many times the largest training value are refused, unless they are below the smallest limit:
# 1,000 eV/atom exceeds any chemistry, and 1,000 eV/Å any force between atoms that do not overlap.
_BEYOND_TRAINING = 100.0
_SMALLEST_LIMIT = 1000.0
_MOST_DIGITS = 1e7  # larger values are shown with an exponent


@dataclass(frozen=True)
class Limits:
    """Limits beyond which the output of the networks is refused.

    Attributes:
        largest_energy: largest absolute cohesive energy in the training set, eV/atom; None if unknown.
        largest_force: length of the largest force in the training set, eV/Å; None if unknown.
    """

    largest_energy: float | None = None
    largest_force: float | None = None

    @property
    def energy(self) -> float:
        """Limit of the absolute cohesive energy, eV/atom."""
        return max(_BEYOND_TRAINING * (self.largest_energy or 0.0), _SMALLEST_LIMIT)

    @property
    def force(self) -> float:
        """Limit of the length of a force, eV/Å; without training forces, the energy limit divided by 1 Å."""
        if self.largest_force is None:
            return self.energy
        return max(_BEYOND_TRAINING * self.largest_force, _SMALLEST_LIMIT)


NO_TRAINING_KNOWN = Limits()
"""The limits of a potential that does not record the largest training values."""


@dataclass(frozen=True)
class Extrapolation:
    """An atom far from all training atoms.

    Attributes:
        atom: number of the atom, from 1.
        element: its element.
        distance: from the nearest training atom, see `familiarity`; above `EXTRAPOLATION_DISTANCE`.
        function: name of the symmetry function farthest outside its training range, or nearest to its limit.
        excess: how far it is outside, in units of the width of the range (the difference itself if it did not vary in
            training); at most zero if all functions are inside their ranges and only their combination is new.
    """

    atom: int
    element: str
    distance: float
    function: str
    excess: float


@dataclass(frozen=True)
class Prediction:
    """The prediction for one structure.

    Attributes:
        structure: the structure.
        energy: total energy, eV; mean of the committee.
        atomic_energies: (n_atoms,) eV, reference energies and repulsion included; mean of the committee.
        spread: standard deviation of the committee's energies, eV/atom; None for a single network.
        distances: (n_atoms,) distance of each atom from the training set; 1 is ordinary, see
            `tio2nn.potential.familiarity`.
        extrapolations: the atoms farther than `EXTRAPOLATION_DISTANCE`.
        composition_is_known: whether the training compositions span this one; if not, the total energy contains an
            undetermined reference energy.
        forces: (n_atoms, 3) eV/Å, mean of the committee; None if not requested.
        forces_spread: (n_atoms,) eV/Å, square root of the variance in the committee, summed over the components; None
            without forces, for a single network, or if not requested.
        stress: (3, 3) eV/Å³, ∂E/∂strain over `Structure.cell_volume`, positive under tension; None without forces or
            without a volume.
        repulsion: energy added by atoms closer than any in the training set, eV; see `repulsion`.
        network_energy: energy of the networks relative to the reference energies, eV/atom.
        largest_network_force: length of the largest force without the repulsion, eV/Å; None without forces.
        limits: for the last two.
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
        """Why the prediction is refused: values of a damaged potential, or far from training, may be absurdly large."""
        for name, values in (("energy", self.energy), ("forces", self.forces), ("stress", self.stress)):
            if values is not None and not np.isfinite(values).all():
                return self.structure.error(f"cannot predict the {name}: the result is not finite")
        for name, value, limit, unit in (
            ("energy", abs(self.network_energy), self.limits.energy, "eV/atom from the reference energies"),
            ("forces", self.largest_network_force, self.limits.force, "eV/Å"),
        ):
            if value is not None and value > limit:
                shown = f"{value:.0f}" if value < _MOST_DIGITS else f"{value:.3g}"
                return self.structure.error(
                    f"cannot predict the {name}: the result, {shown} {unit}, exceeds the limit of {limit:.4g}; "
                    "the structure is unlike the training set"
                )
        return None

    def doubts(self) -> dict[Literal["composition", "atoms"], str]:
        """Reasons to doubt the prediction, each as one line with advice."""
        found: dict[Literal["composition", "atoms"], str] = {}
        if not self.composition_is_known:
            found["composition"] = (
                "the training compositions do not span this one, so the total energy is off by an unknown reference "
                "energy; train on structures with this composition"
            )
        if self.extrapolations:
            worst = max(self.extrapolations, key=lambda extrapolation: extrapolation.distance)
            place = (
                f"{worst.function} lies outside the training range by {_plain(worst.excess, 2)} times its width"
                if worst.excess > 0.0
                else f"its functions are in range, but in a new combination; {worst.function} is nearest to its limit"
            )
            repulsion = (
                f"atoms closer than any in the training set add a repulsion of {_plain(self.repulsion, 3)} eV; "
                if self.repulsion
                else ""
            )
            found["atoms"] = (
                f"{_atoms(len(self.extrapolations), self.structure.n_atoms)} far from the training set: do not trust "
                f"energy or forces; farthest is atom {worst.atom} ({worst.element}), at {worst.distance:.1f} times an "
                f"ordinary distance: {place}; {repulsion}train on structures like this one"
            )
        return found


def _plain(number: float, digits: int) -> str:
    """A number with so many digits, or more if they stand before the point."""
    return f"{number:.{digits}g}" if number < 10 ** (digits - 1) else f"{number:,.0f}"


def _atoms(n: int, of: int) -> str:
    """The number of atoms out of all, with a verb."""
    if of == 1:
        return "the atom is"
    return f"{n} of {of} atoms {'is' if n == 1 else 'are'}"
