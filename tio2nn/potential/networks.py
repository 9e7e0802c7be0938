"""The networks of a potential at work: some atoms at a time, on several threads, with the same bits on any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.cores import one_blas_thread, threaded
from tio2nn.descriptors.symmetry_functions import compile_gradients
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.loops import CODES, Atoms, NetworkTables, ReferenceTables, evaluate_products
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure

# of one product of matrices, whatever the number of threads
_ATOMS_PER_PRODUCT = 256


@dataclass(frozen=True)
class Evaluated:
    """What the networks say of atoms.

    Contrasts are combinations of the members' energies E₀, E₁, ... whose squares sum to those of the deviations from
    the mean (F. R. Helmert's): (E₀ + ... + Eₘ₋₁ - m Eₘ) / √(m (m + 1)). Forces are linear in the energies, so the same
    holds for theirs: mean and variance of n members cost n derivatives of the symmetry functions, the mean alone one.

    Attributes:
        atomic: (n_members, n_atoms) energies relative to the reference energies, eV.
        weights: (n_sets, n_atoms, n_features) derivatives by the features, of the members' mean energy and, if they are
            wanted, of the n_members - 1 contrasts; empty if not wanted.
        distances: (n_atoms,) from training; empty if not wanted.
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
        self,
        structures: Sequence[Structure],
        features: FloatArray,
        threads: int,
        *,
        with_gradients: bool,
        with_contrasts: bool = False,
    ) -> Evaluated:
        """Evaluate all atoms of some structures.

        Args:
            structures: of known elements.
            features, threads, with_gradients, with_contrasts: as for `evaluate_atoms`.
        """
        place = {element: k for k, element in enumerate(self.elements)}
        kinds = [np.array([place[element] for element in structure.elements]) for structure in structures]
        return self.evaluate_atoms(
            kinds, features, threads, with_gradients=with_gradients, with_contrasts=with_contrasts
        )

    def evaluate_atoms(
        self,
        kinds: Sequence[IntArray],
        features: FloatArray,
        threads: int = 1,
        *,
        with_gradients: bool,
        with_contrasts: bool = False,
        with_distances: bool = True,
    ) -> Evaluated:
        """Evaluate some sets of atoms, such as those of structures.

        Element by element in each set, some atoms at a time: matrix products of other shapes may differ in the
        last bit, and a prediction must depend neither on other structures nor on the number of threads.

        Args:
            kinds: of each set, (n_atoms,) the place of each atom's element.
            features: (n_atoms of all, n_features), not whitened.
            threads: that compute at once.
            with_gradients: whether derivatives of the mean energies are wanted.
            with_contrasts: whether, with them, those of the contrasts are.
            with_distances: whether distances from training are.
        """
        n_members, n_atoms = len(self.members), len(features)
        n_sets = 0 if not with_gradients else n_members if with_contrasts else 1
        found = Evaluated(
            np.empty((n_members, n_atoms)),
            np.empty((n_sets, *features.shape)),
            np.empty(n_atoms if with_distances else 0),
        )
        rows, products = self._products(kinds)
        features = np.ascontiguousarray(features)
        networks, references = self._network_tables, self._reference_tables

        def work(own: IntArray) -> None:
            evaluate_products(
                networks, references, Atoms(rows, own, features), found.atomic, found.weights, found.distances
            )

        # to start a thread takes as long as the networks take for some 200 atoms: a small structure gets none
        n_tasks = 1 if threads == 1 else min(len(products), max(1, n_atoms // _ATOMS_PER_PRODUCT))
        with one_blas_thread():
            for _ in threaded(work, [products[first::n_tasks].copy() for first in range(n_tasks)], threads):
                pass
        return found

    def _products(self, kinds: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
        """The rows and products of `Atoms`."""
        rows, products, first_row, begin = [], [], 0, 0
        for own in kinds:
            for element, name in enumerate(self.elements):
                rows.append(first_row + np.flatnonzero(own == element))
                end = begin + len(rows[-1])
                products += [
                    (first, min(first + _ATOMS_PER_PRODUCT, end), element, self.subnet_of[name])
                    for first in range(begin, end, _ATOMS_PER_PRODUCT)
                ]
                begin = end
            first_row += len(own)
        return np.concatenate(rows), np.array(products, np.int64).reshape(-1, 4)

    @cached_property
    def _network_tables(self) -> NetworkTables:
        first, layers, numbers, size = [0], [], [], 0
        with np.errstate(over="ignore", invalid="ignore"):  # see `Prediction.unusable`
            for subnet, whitening in enumerate(self.whitenings):
                for member in self.members:
                    for k, layer in enumerate(member[subnet]):
                        kernel = layer.kernel if k else whitening.matrix @ layer.kernel
                        places = size + np.cumsum([0, kernel.size, len(layer.bias)])
                        layers.append((*kernel.shape, CODES[layer.activation], *places))
                        numbers += [kernel.ravel(), layer.bias, kernel.T.ravel()]
                        size += 2 * kernel.size + len(layer.bias)
                    first.append(len(layers))
        means = np.array([whitening.mean for whitening in self.whitenings])
        return NetworkTables(
            means, len(self.members), np.array(first), np.array(layers), np.concatenate(numbers)
        )

    @cached_property
    def _reference_tables(self) -> ReferenceTables:
        metrics = [whitening.full_metric for whitening in self.whitenings]
        points = [atoms.expanded for atoms in self.training_atoms]
        return ReferenceTables(
            np.concatenate([metric.ravel() for metric in metrics]),
            _places([metric.size for metric in metrics], [metric.shape[1] for metric in metrics]),
            np.concatenate([own.ravel() for own in points]),
            _places([own.size for own in points], [len(own) for own in points]),
            np.array([atoms.unit for atoms in self.training_atoms]),
        )


def _places(sizes: Sequence[int], numbers: Sequence[int]) -> IntArray:
    """Where each of some matrices begins among the numbers of all, and a number beside it."""
    return np.column_stack([np.cumsum([0, *sizes[:-1]]), numbers]).astype(np.int64)


def rows_of(structures: Sequence[Structure]) -> list[slice]:
    """The rows of each structure among all atoms."""
    ends = np.cumsum([structure.n_atoms for structure in structures]).tolist()
    return [slice(end - s.n_atoms, end) for s, end in zip(structures, ends, strict=True)]


def compile_predictions() -> None:
    """Compile what predictions with forces need, so that worker processes find it on disk."""
    compile_gradients()
    one, zero, nothing = np.eye(1), np.zeros(1), np.zeros((1, 1), np.float32)
    whitening, atoms = (
        Whitening(zero, one, np.zeros(1, np.bool_), one),
        TrainingAtoms(zero, zero, nothing, 1.0),
    )
    networks = Networks(("H",), {"H": 0}, (whitening,), (((Layer(one, zero, "linear"),),),), (atoms,))
    networks.evaluate_atoms([np.zeros(1, np.int64)], one, with_gradients=True)
