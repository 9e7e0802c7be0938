"""Radial and angular symmetry functions of structures.

G_radial = Σ_{j≠i} exp(-η (R_ij - R_s)²) f_c(R_ij)
G_angular = 2^(1-ζ) Σ_{j<k} (1 + λ cosθ_ijk)^ζ exp(-η (R_ij² + R_ik² + R_jk²)) f_c(R_ij) f_c(R_ik) f_c(R_jk)

J. Behler and M. Parrinello, Phys. Rev. Lett. 98 (2007) 146401; J. Behler, J. Chem. Phys. 134 (2011) 074106,
eqs. 6 and 8 (there G² and G⁴; numbering differs between papers, so this program says *radial* and *angular*).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.attenuation import Attenuation, Gaussian, cutoff_polynomial
from tio2nn.descriptors.kernels import N_TERMS, angular_functions, radial_functions
from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK, neighbor_lists
from tio2nn.errors import InputError
from tio2nn.parameters import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structure import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class SymmetryCalculator:
    """Symmetry functions by the equations of this module, for one parameter set.

    Column k of every result is function k of the parameter set (`ParameterSet.feature_names`). Results do not
    depend on which structures are computed together, to the last bit.
    """

    def __init__(self, parameters: ParameterSet) -> None:
        self.cutoff = parameters.cutoff
        self.n_features = parameters.n_features
        self._element_blind = parameters.element_blind
        self._kind_of = {
            element: 0 if parameters.element_blind else k for k, element in enumerate(parameters.elements)
        }
        self._n_kinds = max(self._kind_of.values()) + 1
        self._n_radial_columns = len(parameters.radial) * self._n_kinds
        self._cutoff_polynomial = cutoff_polynomial()
        self._radial = _radial_tables(parameters.radial, parameters.cutoff)
        self._angular = _angular_tables(parameters.angular, parameters.cutoff)

    def __call__(self, structure: Structure) -> FloatArray:
        """Features of one structure.

        Returns:
            features: (n_atoms, n_features), dimensionless.

        Raises:
            InputError: an element that the parameter set lacks, or two atoms at the same place.
        """
        return next(self.map([structure]))

    def map(self, structures: Sequence[Structure]) -> Iterator[FloatArray]:
        """Features of each structure, in order; several small structures share one pass of the kernels.

        Yields:
            features: (n_atoms, n_features), dimensionless.

        Raises:
            InputError: as for one structure, when its turn comes.
        """
        for batch in _batches(structures):
            try:
                features = self._batch(batch)
            except InputError:
                # those before the one at fault are still wanted
                for structure in batch:
                    yield self._batch([structure])
            else:
                yield from np.split(features, np.cumsum([s.n_atoms for s in batch])[:-1])

    def _batch(self, structures: Sequence[Structure]) -> FloatArray:
        kinds = np.concatenate([self._kinds(s) for s in structures])
        features = np.zeros((len(kinds), self.n_features))
        for neighbors in neighbor_lists(structures, self.cutoff, kinds, self._n_kinds):
            rows = features[neighbors.first_atom : neighbors.first_atom + neighbors.n_atoms]
            shared = (neighbors.first, neighbors.vectors, self._n_kinds, self.cutoff, self._cutoff_polynomial)
            if self._radial is not None:
                radial_functions(*shared, *self._radial, rows)
            if self._angular is not None:
                angular_functions(*shared, *self._angular, self._n_radial_columns, rows)
        return features

    def _kinds(self, structure: Structure) -> IntArray:
        try:
            return np.array([self._kind_of[element] for element in structure.elements], dtype=np.int64)
        except KeyError as unknown:
            raise InputError(
                f"expected elements {', '.join(self._kind_of)}, got {unknown.args[0]}",
                file=structure.file or structure.name,
                line=structure.line,
            ) from None


def compile_kernels() -> None:
    """Compile all kernels, or load them from Numba's cache, so that worker processes find them on disk."""
    parameters = ParameterSet(
        elements=("H",), cutoff=2.0, radial=(RadialFunction(1.0),), angular=(AngularFunction(1.0, 1, 1.0),)
    )
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    SymmetryCalculator(parameters)(Structure("water", ("H",) * 3, positions, np.zeros((3, 3)), (False,) * 3))


def _batches(structures: Sequence[Structure]) -> Iterator[Sequence[Structure]]:
    """Consecutive structures with together at most `CENTERS_PER_BLOCK` atoms, or one larger structure."""
    begin, n_atoms = 0, 0
    for k, structure in enumerate(structures):
        if k > begin and n_atoms + structure.n_atoms > CENTERS_PER_BLOCK:
            yield structures[begin:k]
            begin, n_atoms = k, 0
        n_atoms += structure.n_atoms
    if begin < len(structures):
        yield structures[begin:]


RadialTables = tuple[FloatArray, IntArray, FloatArray, FloatArray]
AngularTables = tuple[FloatArray, IntArray, IntArray, FloatArray, IntArray, IntArray]


def _radial_tables(functions: Sequence[RadialFunction], cutoff: float) -> RadialTables | None:
    if not functions:
        return None
    fits = [Gaussian.fit(f.eta, f.r_s, cutoff) for f in functions]
    return (
        np.array([fit.polynomial for fit in fits]),
        np.array([fit.squarings for fit in fits], dtype=np.int64),
        np.array([fit.shift for fit in fits]),
        np.array([fit.scale for fit in fits]),
    )


def _angular_tables(functions: Sequence[AngularFunction], cutoff: float) -> AngularTables | None:
    if not functions:
        return None
    etas = sorted({f.eta for f in functions})
    fits = [Attenuation.fit(eta, cutoff) for eta in etas]
    recipe, exponents, rows = power_recipe([(f.lambda_, f.zeta) for f in functions])
    return (
        np.array([fit.polynomial for fit in fits]).reshape(-1, N_TERMS),
        np.array([fit.squarings for fit in fits], dtype=np.int64),
        recipe,
        exponents,
        np.array([etas.index(f.eta) for f in functions], dtype=np.int64),
        rows,
    )


def power_recipe(powers: Sequence[tuple[int, float]]) -> tuple[IntArray, FloatArray, IntArray]:
    """How to make all ((1 + λ cosθ)/2)^ζ with few products.

    Args:
        powers: (λ, ζ) of each function.

    Returns:
        recipe: (n_power, 2), n_power even. Row (-1, λ) is (1 + λ cosθ)/2; (a, b) is row a times row b; (a, -1) is
            row a raised to `exponents` of the row.
        exponents: (n_power,) ζ of each row.
        rows: (len(powers),) the row that holds each function's power.
    """
    row_of: dict[tuple[int, float], int] = {}
    recipe: list[tuple[int, int]] = []

    def row(lambda_: int, zeta: float) -> int:
        key = (lambda_, zeta)
        if key not in row_of:
            if zeta == 1:
                step = (-1, lambda_)
            elif zeta != int(zeta):
                step = (row(lambda_, 1.0), -1)
            else:
                half = float(zeta // 2)
                step = (row(lambda_, zeta - half), row(lambda_, half))
            row_of[key] = len(recipe)
            recipe.append(step)
        return row_of[key]

    rows = [row(lambda_, float(zeta)) for lambda_, zeta in powers]
    exponents = [zeta for _, zeta in row_of]
    if len(recipe) % 2:
        # the kernel sums two rows at a time
        recipe.append(recipe[0])
        exponents.append(exponents[0])
    return np.array(recipe, dtype=np.int64), np.array(exponents), np.array(rows, dtype=np.int64)
