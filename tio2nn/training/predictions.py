"""What networks say of the structures of a part."""

from __future__ import annotations

from dataclasses import dataclass

from tio2nn.array_types import Float32Array, FloatArray


@dataclass(frozen=True)
class Predictions:
    """What members say of the structures of a part.

    Attributes:
        energies: (n_members, n_structures) eV.
        forces: (n_members, n_atoms, 3) eV/Å, zeros where a structure has none; no atoms without forces.
        force_losses: (n_members,) mean loss of an atom.
        stresses: (n_members, n_structures, 6) eV/Å³, zeros where a structure has none; no structures without stress.
        stress_losses: (n_members,) mean loss of a structure.
    """

    energies: Float32Array
    forces: Float32Array
    force_losses: FloatArray
    stresses: Float32Array
    stress_losses: FloatArray
