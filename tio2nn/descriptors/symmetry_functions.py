"""Radial and angular symmetry functions of structures.

G_radial = Σ_{j≠i} exp(-η (R_ij - R_s)²) f_c(R_ij)
G_angular = 2^(1-ζ) Σ_{j<k} (1 + λ cosθ_ijk)^ζ exp(-η (R_ij² + R_ik² + R_jk²)) f_c(R_ij) f_c(R_ik) f_c(R_jk)

J. Behler and M. Parrinello, Phys. Rev. Lett. 98 (2007) 146401; J. Behler, J. Chem. Phys. 134 (2011) 074106,
eqs. 6 and 8 (there G² and G⁴; numbering differs between papers, so this program says *radial* and *angular*).

Each sum is one over neighbors of one element, or pairs of neighbors of two, or over all of them: then each neighbor may
be weighted by its atomic number, Σ_j Z_j ... and Σ_{j<k} Z_j Z_k ..., so that the number of columns does not grow with
that of elements. M. Gastegger et al., J. Chem. Phys. 148 (2018) 241709, with g = Z_j and h = Z_j Z_k; types
12 and 13 of n2p2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.cores import threaded
from tio2nn.descriptors.batches import batch_wise
from tio2nn.descriptors.kernels.arguments import AtomIndices
from tio2nn.descriptors.kernels.gradient import (
    add_to_neighbors,
    angular_gradient,
    radial_gradient,
    sum_at_centers,
)
from tio2nn.descriptors.kernels.jacobian import jacobian_rows, strain_rows
from tio2nn.descriptors.kernels.values import angular_functions, radial_functions
from tio2nn.descriptors.neighbor_sums import NeighborSums
from tio2nn.descriptors.neighbors import ClosePairs, NeighborList, NeighborSearch
from tio2nn.descriptors.tables import (
    Precision,
    angular_tables,
    cosine_polynomials,
    radial_tables,
    slope_tables,
    triplet_tables,
)
from tio2nn.descriptors.verlet import VerletList
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure, checked_structure

Kept = TypeVar("Kept")

# Values: errors of some hundred triplets add up. Derivatives: relative to each triplet, as an absolute error of 1e-13
# was 3e-10 of the largest force where few triplets are left within the cutoff; it costs 0.6 % of the time.
_OF_VALUES, _OF_SLOPES = Precision(5e-15, is_relative=False), Precision(1e-13, is_relative=True)


class SymmetryCalculator:
    """Symmetry functions by the equations of this module, for one parameter set.

    Column k of every result is function k of the parameter set (`ParameterSet.feature_names`). Results do not
    depend on which structures are computed together, to the last bit.
    """

    def __init__(self, parameters: ParameterSet) -> None:
        if not isinstance(parameters, ParameterSet):
            raise TypeError(
                f"parameters: expected a ParameterSet, got {parameters!r}; ParameterSet.load reads a params.json"
            )
        self.cutoff = parameters.cutoff
        self.n_features = parameters.n_features
        elements = parameters.elements
        choices = (parameters.radial_elements, parameters.angular_elements)
        is_blind = choices == ("blind", "blind")
        self._kind_of = {element: 0 if is_blind else k for k, element in enumerate(elements)}
        self._n_kinds = 1 if is_blind else len(elements)
        self._radial_sums, self._angular_sums = (
            NeighborSums.of(choice, elements, self._n_kinds) for choice in choices
        )
        self._n_radial_columns = len(parameters.radial) * self._radial_sums.n_kinds
        self._has_radial, self._has_angular = bool(parameters.radial), bool(parameters.angular)
        self._radial = radial_tables(parameters.radial, parameters.cutoff)
        self._angular = angular_tables(parameters.angular, parameters.cutoff)
        self._triplets, self._triplets_with_slopes = (
            triplet_tables(parameters.angular, parameters.cutoff, precision)
            for precision in (_OF_VALUES, _OF_SLOPES)
        )
        self._cosines = cosine_polynomials(parameters.angular)
        self._slopes = slope_tables(parameters.angular, self._angular_sums.n_kinds)

    def __call__(self, structure: Structure) -> FloatArray:
        """Features of one structure.

        Returns:
            features: (n_atoms, n_features), dimensionless.

        Raises:
            InputError: an element that the parameter set lacks, or two atoms at the same place.
        """
        return self._features([structure])

    def map(self, structures: Iterable[Structure]) -> Iterator[FloatArray]:
        """Features of each structure, in order; several small structures share one pass of the kernels.

        Yields:
            features: (n_atoms, n_features), dimensionless.

        Raises:
            InputError: as for one structure, when its turn comes.
        """

        def compute(batch: Sequence[Structure]) -> list[FloatArray]:
            features = self._features(batch)
            return np.split(features, np.cumsum([s.n_atoms for s in batch])[:-1])

        return batch_wise(structures, compute)

    def with_close_pairs(
        self, structures: Sequence[Structure], distance: float, threads: int = 1
    ) -> tuple[FloatArray, ClosePairs]:
        """Features of a batch, and its pairs closer than a distance up to the cutoff, from one search of neighbors.

        Args:
            structures: of the batch.
            distance: Å.
            threads: that compute at once; results have the same bits whatever their number.

        Returns:
            features: (n_atoms of all, n_features).
            pairs: as `NeighborList.within`.

        Raises:
            InputError: as for one structure.
        """
        search = self._search(structures, threads)
        features, close = self._computed(search, threads, lambda neighbors: neighbors.within(distance))
        return features, ClosePairs.joined(close)

    def describe(
        self,
        structures: Sequence[Structure],
        threads: int = 1,
        verlet: VerletList | None = None,
        reach: float = 0.0,
    ) -> Description:
        """Features of a batch, in a form that remembers the neighbors for the gradient.

        Args:
            structures: of the batch.
            threads: that compute at once; results have the same bits whatever their number.
            verlet: the neighbors of earlier steps of the only structure; results are then the same to rounding.
            reach: Å, up to the cutoff; pairs closer than that are wanted, too.

        Raises:
            InputError: as for one structure.
        """
        search: NeighborSearch | VerletList
        if verlet is None:
            search = self._search(structures, threads)
        else:
            (structure,) = structures
            search = verlet.move_to(structure, self.cutoff, self._kinds(structure), self._n_kinds, threads)
        # close pairs are found while their list is still in the cache
        features, kept = self._computed(search, threads, lambda own: (own, own.within(reach)))
        neighbors, close = zip(*kept, strict=True)
        return Description(self, tuple(structures), features, ClosePairs.joined(close), neighbors, threads)

    def of_neighbors(self, neighbors: NeighborList) -> FloatArray:
        """Features of the centers of a list of neighbors that another program made.

        Args:
            neighbors: kinds are the places of elements in the parameter set, as `n_kinds` says.

        Returns:
            features: (n_centers, n_features), dimensionless.
        """
        features = np.zeros((neighbors.n_atoms, self.n_features))
        self._fill(neighbors, features)
        return features

    @property
    def n_kinds(self) -> int:
        """Kinds of neighbors in a list: the elements, or 1 if no function tells them apart."""
        return self._n_kinds

    def jacobian(self, structure: Structure, dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
        """Derivatives of all features of a structure, periodic images folded on their atoms.

        Returns:
            jacobian: (n_atoms, n_features, n_atoms, 3), ∂G of the first atom's feature / ∂R of the second atom, 1/Å.

        Raises:
            InputError: as for features.
        """
        n = checked_structure(structure).n_atoms
        jacobian = np.empty((n, self.n_features, n, 3), dtype)
        search = self._search([structure])
        for neighbors in map(search, search.tasks()):
            centers = np.arange(neighbors.first_atom, neighbors.first_atom + neighbors.n_atoms)
            jacobian_rows(
                self._radial_sums.around(neighbors),
                self._angular_sums.around(neighbors),
                AtomIndices(neighbors.atoms, centers, np.full(len(centers), n)),
                self._radial,
                self._angular,
                self._slopes,
                self.n_features,
                jacobian[centers[0] : centers[-1] + 1].reshape(-1),
            )
        return jacobian

    def strain_derivatives(
        self, structure: Structure, dtype: type[np.floating] = np.float64
    ) -> NDArray[np.floating]:
        """Derivatives of all features of a structure with respect to a symmetric strain ε, x → (1 + ε) x.

        Multiplied by ∂E/∂G and summed over atoms and features, they give the volume times the stress, eV.

        Returns:
            strains: (n_atoms, n_features, 6), dimensionless, in the order of Voigt: xx, yy, zz, yz, xz, xy.

        Raises:
            InputError: as for features.
        """
        strains = np.empty((checked_structure(structure).n_atoms, self.n_features, 6), dtype)
        search = self._search([structure])
        for neighbors in map(search, search.tasks()):
            strain_rows(
                self._radial_sums.around(neighbors),
                self._angular_sums.around(neighbors),
                self._radial,
                self._angular,
                self._slopes,
                strains[neighbors.first_atom : neighbors.first_atom + neighbors.n_atoms],
            )
        return strains

    def _search(self, structures: Sequence[Structure], threads: int = 1) -> NeighborSearch:
        kinds = np.concatenate([self._kinds(checked_structure(s)) for s in structures])
        return NeighborSearch(structures, self.cutoff, kinds, self._n_kinds, threads)

    def _features(self, structures: Sequence[Structure]) -> FloatArray:
        return self._computed(self._search(structures), 1, lambda _: None)[0]

    def _computed(
        self, search: NeighborSearch | VerletList, threads: int, keep: Callable[[NeighborList], Kept]
    ) -> tuple[FloatArray, list[Kept]]:
        """Features, and what is kept of the neighbors of each task."""
        tasks = search.tasks()
        features = np.zeros((tasks[-1][1], self.n_features))

        def work(task: tuple[int, int]) -> Kept:
            neighbors = search(task)
            self._fill(neighbors, features[slice(*task)])
            return keep(neighbors)

        return features, list(threaded(work, tasks, threads))

    def _fill(self, neighbors: NeighborList, rows: FloatArray) -> None:
        if self._has_radial:
            radial_functions(self._radial_sums.around(neighbors), self._radial, rows)
        if self._has_angular:
            around = self._angular_sums.around(neighbors)
            angular_functions(around, self._triplets, self._n_radial_columns, rows)

    def _gradients(
        self, lists: Sequence[NeighborList], weights: FloatArray, threads: int
    ) -> tuple[FloatArray, FloatArray]:
        n_sets, n_atoms = weights.shape[:2]
        gradient, pulls = np.zeros((n_sets, n_atoms, 3)), np.empty((n_sets, n_atoms, 3))
        strain = np.empty((n_sets, n_atoms, 3, 3))

        def work(neighbors: NeighborList) -> FloatArray:
            own = slice(neighbors.first_atom, neighbors.first_atom + neighbors.n_atoms)
            pairs = self.pair_gradients(neighbors, np.ascontiguousarray(weights[:, own]))
            sum_at_centers(
                neighbors.first, neighbors.vectors, self._n_kinds, pairs, pulls[:, own], strain[:, own]
            )
            return pairs

        # sums over atoms of several tasks are made here, in the order of the tasks
        for neighbors, pairs in zip(lists, threaded(work, lists, threads), strict=True):
            add_to_neighbors(neighbors.atoms, pairs, gradient)
        return gradient - pulls, strain

    def pair_gradients(self, neighbors: NeighborList, weights: FloatArray) -> FloatArray:
        """The product of vectors with the derivatives of features by the vectors to neighbors.

        Args:
            neighbors: of some centers; kinds are the places of elements in the parameter set, as `n_kinds` says.
            weights: (n_sets, n_centers, n_features), ∂E/∂G of quantities E.

        Returns:
            (n_sets, n_pairs, 3), ∂E/∂v for each vector v of the list, in the unit of E per Å.
        """
        pairs = np.zeros((len(weights), *neighbors.vectors.shape))
        if self._has_radial:
            around = self._radial_sums.around(neighbors)
            radial_gradient(around, self._radial, weights, pairs)
        if self._has_angular:
            around, first_column = self._angular_sums.around(neighbors), self._n_radial_columns
            angular_gradient(
                around, self._triplets_with_slopes, self._slopes, self._cosines, first_column, weights, pairs
            )
        return pairs

    def _kinds(self, structure: Structure) -> IntArray:
        try:
            return np.array([self._kind_of[element] for element in structure.elements], dtype=np.int64)
        except KeyError:
            others = sorted(structure.composition.keys() - self._kind_of.keys())
            raise structure.error(
                f"expected the elements {', '.join(self._kind_of)}, got {', '.join(others)}"
            ) from None


@dataclass(frozen=True)
class Description:
    """Features of a batch of structures, with the neighbors that they were computed from.

    Attributes:
        structures: of the batch.
        features: (n_atoms of all, n_features).
        close: the pairs closer than the reach that was asked for.
    """

    _calculator: SymmetryCalculator
    structures: tuple[Structure, ...]
    features: FloatArray
    close: ClosePairs
    _neighbors: tuple[NeighborList, ...]
    _threads: int

    def gradient(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The product of a vector with the Jacobian, without the Jacobian.

        Args:
            weights: (n_atoms of all, n_features), ∂E/∂G of a quantity E.

        Returns:
            gradient: (n_atoms of all, 3), ∂E/∂R, in the unit of E per Å.
            strain: (n_structures, 3, 3), ∂E/∂strain, symmetric, in the unit of E. The stress is this over the volume.
        """
        gradients, strains = self.gradients(weights[None])
        return gradients[0], strains[0]

    def gradients(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As `gradient`, for several quantities at once, which cost less than one after the other.

        Args:
            weights: (n_sets, n_atoms of all, n_features).

        Returns:
            gradients: (n_sets, n_atoms of all, 3).
            strains: (n_sets, n_structures, 3, 3).
        """
        gradients, by_center = self._calculator._gradients(self._neighbors, weights, self._threads)
        first = np.cumsum([0, *(s.n_atoms for s in self.structures[:-1])])
        strains = np.add.reduceat(by_center, first, axis=1)
        # rotation changes no feature, so what is not symmetric is rounding
        return gradients, 0.5 * (strains + strains.transpose(0, 1, 3, 2))


def compile_kernels(derivatives: bool = False, strains: bool = False) -> None:
    """Compile what features need, or load it from Numba's cache, so that worker processes find it on disk.

    Args:
        derivatives: also what Jacobians need.
        strains: also what derivatives with respect to strain need.
    """
    calculator, water = _smallest()
    calculator(water)
    if derivatives:
        calculator.jacobian(water, np.float32)
    if strains:
        calculator.strain_derivatives(water, np.float32)


def compile_gradients() -> None:
    """As `compile_kernels`, for the gradients that predictions with forces need."""
    calculator, water = _smallest()
    described = calculator.describe([water])
    described.gradient(np.ones_like(described.features))


def _smallest() -> tuple[SymmetryCalculator, Structure]:
    """A calculator and a structure that need every kernel."""
    parameters = ParameterSet(
        elements=("H",), cutoff=2.0, radial=(RadialFunction(1.0),), angular=(AngularFunction(1.0, 1, 1.0),)
    )
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    water = Structure("water", ("H",) * 3, positions, np.zeros((3, 3)), (False,) * 3)
    return SymmetryCalculator(parameters), water
