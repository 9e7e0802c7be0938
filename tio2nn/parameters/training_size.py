"""What is known of a training set before its fit: how large it is, and which of its labels are in doubt."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Facts:
    """The size of the training set.

    Attributes:
        n_structures, n_atoms: in the whole training set.
        n_structures_with_forces: number of structures with forces.
        n_force_components: number of their force components.
        n_derivatives: number of derivatives of their features with respect to positions.
        n_features: number of features of an atom.
        n_elements: number of elements in the parameter set.
        n_structures_with_stress: number of structures with a stress.
        n_strain_derivatives: number of derivatives of their features with respect to strain.
        doubts: which labels are wrong, "energies", "forces", "stress" or its "shears"; auto leaves out all but the
            energies.
    """

    n_structures: int
    n_atoms: int
    n_structures_with_forces: int
    n_force_components: int
    n_derivatives: int
    n_features: int
    n_elements: int
    n_structures_with_stress: int = 0
    n_strain_derivatives: int = 0
    doubts: tuple[str, ...] = ()

    @property
    def without_forces(self) -> Facts:
        """The same training set without forces."""
        return replace(self, n_structures_with_forces=0, n_force_components=0, n_derivatives=0)

    @property
    def without_stress(self) -> Facts:
        """The same training set without stresses."""
        return replace(self, n_structures_with_stress=0, n_strain_derivatives=0)
