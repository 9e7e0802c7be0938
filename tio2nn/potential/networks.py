"""The networks of a potential at work: some atoms at a time, on several threads, with the same bits on any number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tio2nn.cores import one_blas_thread, threaded
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer, energies, energies_and_gradients
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# of one product of matrices, whatever the number of threads
_ATOMS_PER_PRODUCT = 256
_TASKS_PER_THREAD = 4


@dataclass(frozen=True)
class Evaluated:
    """What the networks say of atoms.

    Attributes:
        atomic: (n_members, n_atoms) energies relative to the reference energies, eV.
        weights: (n_members, n_atoms, n_features) their derivatives with respect to the features; empty if not wanted.
        distances: (n_atoms,) from training.
    """

    atomic: FloatArray
    weights: FloatArray
    distances: FloatArray

    def of(self, own: slice) -> Evaluated:
        """Those of some atoms."""
        return Evaluated(self.atomic[:, own], self.weights[:, own], self.distances[own])


@dataclass(frozen=True)
class Networks:
    """Committee members and what stands before them; attributes as those of `Potential`."""

    elements: Sequence[str]
    subnet_of: Mapping[str, int]
    whitenings: Sequence[Whitening]
    members: Sequence[Sequence[Sequence[Layer]]]
    training_atoms: Sequence[TrainingAtoms]

    def evaluate(
        self, structures: Sequence[Structure], features: FloatArray, threads: int, *, with_gradients: bool
    ) -> Evaluated:
        """Evaluate all atoms of some structures.

        Element by element in each structure, some atoms at a time: matrix products of other shapes may differ in the
        last bit, and a prediction must depend neither on other structures nor on the number of threads.

        Args:
            structures: of known elements.
            features: (n_atoms of all, n_features), not whitened.
            threads: that compute at once.
            with_gradients: whether derivatives of the energies are wanted.
        """
        n_members, n_atoms = len(self.members), len(features)
        found = Evaluated(
            np.empty((n_members, n_atoms)),
            np.empty((n_members, *features.shape) if with_gradients else (0, 0, 0)),
            np.empty(n_atoms),
        )

        def work(products: Sequence[tuple[str, IntArray]]) -> None:
            for element, rows in products:
                self._evaluate_atoms(element, rows, features, found)

        products = [
            (element, rows[first : first + _ATOMS_PER_PRODUCT])
            for structure, own in zip(structures, rows_of(structures), strict=True)
            for element, rows in _atoms_of_elements(structure, own.start)
            for first in range(0, len(rows), _ATOMS_PER_PRODUCT)
        ]
        # to start a thread takes as long as the networks take for some 200 atoms: a small structure gets none
        n_tasks = min(len(products), _TASKS_PER_THREAD * threads, max(1, n_atoms // _ATOMS_PER_PRODUCT))
        with one_blas_thread():
            for _ in threaded(work, [products[first::n_tasks] for first in range(n_tasks)], threads):
                pass
        return found

    def _evaluate_atoms(self, element: str, rows: IntArray, features: FloatArray, out: Evaluated) -> None:
        """Fill the rows of these atoms, all of one element."""
        subnet, own = self.subnet_of[element], features[rows]
        whitening = self.whitenings[subnet]
        whitened = whitening(own)
        # here, as threads do not share what NumPy ignores; see `Prediction.unusable`
        with np.errstate(over="ignore", invalid="ignore"):
            for m, member in enumerate(self.members):
                if out.weights.size:
                    out.atomic[m, rows], gradient = energies_and_gradients(member[subnet], whitened)
                    out.weights[m, rows] = gradient @ whitening.matrix.T
                else:
                    out.atomic[m, rows] = energies(member[subnet], whitened)
        atoms = self.training_atoms[self.elements.index(element)]
        out.distances[rows] = atoms.distances(own, whitening)


def rows_of(structures: Sequence[Structure]) -> list[slice]:
    """The rows of each structure among all atoms."""
    ends = np.cumsum([structure.n_atoms for structure in structures]).tolist()
    return [slice(end - s.n_atoms, end) for s, end in zip(structures, ends, strict=True)]


def _atoms_of_elements(structure: Structure, first_row: int) -> Iterator[tuple[str, IntArray]]:
    """Each element of a structure, and the rows of its atoms among all atoms."""
    elements = np.array(structure.elements)
    for element in structure.composition:
        yield element, first_row + np.flatnonzero(elements == element)
