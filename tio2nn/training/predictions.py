"""What networks say of the structures of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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

    @classmethod
    def of_batches(
        cls, found: Sequence[Predictions], whole: tuple[int, int], n_structures: int
    ) -> Predictions:
        """What was found batch by batch, with the losses of each as in `LabelLosses.totals`.

        Args:
            found: of the batches.
            whole: structures of a batch, and number of structures, of all ranks.
            n_structures: of the batches; the last one may have more, which do not count.
        """
        energies, forces, stresses = (
            np.concatenate([getattr(own, name) for own in found], axis=1)
            for name in ("energies", "forces", "stresses")
        )
        per_structure = whole[0] / whole[1]
        return cls(
            energies[:, :n_structures],
            forces,
            sum((own.force_losses for own in found), np.zeros(len(energies))) * per_structure,
            stresses,
            sum((own.stress_losses for own in found), np.zeros(len(energies))) * per_structure,
        )

    @classmethod
    def of_energies(cls, energies: Float32Array) -> Predictions:
        """Energies (n_members, n_structures) alone."""
        n_members = len(energies)
        return cls(
            energies,
            np.empty((n_members, 0, 3), np.float32),
            np.zeros(n_members),
            np.empty((n_members, 0, 6), np.float32),
            np.zeros(n_members),
        )
