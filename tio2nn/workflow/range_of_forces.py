"""How far forces reach: whether functions with a longer cutoff would explain them better.

In simple metals forces come from farther away than in covalent crystals or d metals, and distances between neighbors do
not tell which is which. Linear fits to the forces of a sample of the structures do, in seconds: the energy is a sum of
all symmetry functions, with a coefficient for each and each element, and forces left out of a fit judge it.

Errors of held-out forces at a cutoff over those at 6.5 Å, by such a fit and by committees of the recipe `auto` (in
parentheses, with errors of energies; random fifths held out: two of Li and Mo, three of Si, five of Ge):

    Li, 7.2 Å 0.91 (0.80, 0.84), 8 Å 0.74 (0.67, 0.59); Mo, 7.2 Å 0.98 (1.03, 1.28), 8 Å 0.97 (1.04, 1.40);
    Si, 8 Å 0.99 (0.99, 0.90); Ge, 8 Å 1.01 (0.94, 0.89)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.cores import one_blas_thread
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parallel.progress import Track, silent
from tio2nn.parameters.choose_functions import Choice, Statistics
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import are_published
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import Structure

# Å between the cutoffs that are tried
_STRIDE = 0.5
# ... up to the radius within which an atom has so many neighbors on average: 8 Å in Li, 7.4 Å in Mo
_MOST_NEIGHBORS = 110.0
# Factor of errors for which a longer cutoff is taken: an energy with forces takes twice as long at 8 Å as at 6.5 Å
_WORTH_IT = 1.05
# Of the sample: 2 to 10 s for each cutoff; the fewest structures are drawn however many atoms they have
_MOST_ATOMS, _MOST_STRUCTURES, _FEWEST_STRUCTURES = 3_000, 60, 12
# Bytes that the derivatives of one structure may take: 500 atoms with the 48 functions for one element
_LARGEST = 3e8
# Components of forces for each coefficient, below which a fit tells nothing
_FEWEST_FOR_EACH = 4
# Forces of structures with larger ones than this many times the median would decide the fit
_WILD = 5.0
# eV/Å; crystals whose forces vanish by symmetry tell nothing, and would be most of what a median sees
_NOTICEABLE = 1e-3
_FOLDS = 4
# Of the ridge, in units of the variances of the columns
_RIDGES = 10.0 ** np.arange(-9.0, -1.0)


def reaching_as_far_as_forces(
    choice: Choice,
    statistics: Statistics,
    store: StructureStore,
    settings: ParameterSet,
    track: Track = silent,
) -> Choice:
    """The choice, with a longer cutoff if that explains the forces much better.

    Molecules, Ti and O, and sets with few forces keep the cutoff that they have; so do sets of large cells, whose
    derivatives take too much memory.

    Args:
        choice: by distances.
        statistics: what it was made from.
        store: structures, some of them with right forces.
        settings: parameter set to which choices are applied.
        track: reports progress, one step per structure.
    """
    farthest = min(statistics.radius_of(_MOST_NEIGHBORS), statistics.reach)
    cutoffs = [choice.cutoff]
    while round(cutoffs[-1] + _STRIDE, 1) <= farthest:
        cutoffs.append(round(cutoffs[-1] + _STRIDE, 1))
    if statistics.is_finite or are_published(choice.elements) or len(cutoffs) == 1:
        return choice
    sets = [replace(choice, cutoff=cutoff).applied_to(settings) for cutoff in cutoffs]
    n_coefficients = len(choice.elements) * sets[0].n_features
    drawn = _drawn(store, sets[0].n_features)
    if not _tell(store.n_atoms[drawn].tolist(), n_coefficients):
        return choice
    samples = _samples(store, drawn, sets, track)
    if not _tell([len(sample.forces) // 3 for sample in samples], n_coefficients):
        return choice
    forces = [sample.forces for sample in samples]
    with one_blas_thread():
        errors = [linear_error([sample.columns[k] for sample in samples], forces) for k in range(len(sets))]
    best = worth_it(errors)
    if best == 0:
        return choice
    gain = round(100.0 * (1.0 - errors[best] / errors[0]))
    why = f"forces reach farther than {cutoffs[0]:g} Å, a linear fit to them is better by {gain} %"
    return replace(choice, cutoff=cutoffs[best], reasons=(why, choice.reasons[1]))


def worth_it(errors: Sequence[float]) -> int:
    """Index of the cutoff to take.

    The shortest with an error at most `_WORTH_IT` times the smallest, among those at least that much better than the
    first; if there are none, the first.

    Args:
        errors: of the cutoffs, shorter ones first.
    """
    first, least = errors[0], min(errors)
    if first <= _WORTH_IT * least:
        return 0
    return next(
        k for k, error in enumerate(errors) if _WORTH_IT * error <= first and error <= _WORTH_IT * least
    )


def linear_error(columns: Sequence[FloatArray], forces: Sequence[FloatArray]) -> float:
    """Mean absolute error of linear fits to forces, each judged by the structures that it left out, eV/Å.

    Args:
        columns: (n_components, n_coefficients) of each structure, forces that a coefficient of 1 gives.
        forces: (n_components,) of each.
    """
    scale = np.sqrt(np.mean(np.concatenate(columns) ** 2, axis=0))
    scale[scale == 0.0] = 1.0
    scaled = [own / scale for own in columns]
    residuals: list[FloatArray] = []
    for fold in range(_FOLDS):
        trained = [k for k in range(len(scaled)) if k % _FOLDS != fold]
        a = np.concatenate([scaled[k] for k in trained])
        variances, rotation = np.linalg.eigh(a.T @ a / len(a))
        projected = rotation.T @ (a.T @ np.concatenate([forces[k] for k in trained]) / len(a))
        coefficients = rotation @ (projected[:, None] / (np.maximum(variances, 0.0)[:, None] + _RIDGES))
        for k in range(fold, len(scaled), _FOLDS):
            residuals.append(np.abs(scaled[k] @ coefficients - forces[k][:, None]))
    return float(np.concatenate(residuals).mean(axis=0).min())


class _Sample(NamedTuple):
    """A structure: its forces, and at each cutoff those that a coefficient of 1 gives."""

    forces: FloatArray  # (3 n_atoms,) eV/Å
    columns: list[FloatArray]  # (3 n_atoms, n_coefficients) each


def _tell(n_atoms: Sequence[int], n_coefficients: int) -> bool:
    """Whether the forces of structures of these sizes suffice to tell cutoffs apart."""
    return len(n_atoms) >= _FEWEST_STRUCTURES and 3 * sum(n_atoms) >= _FEWEST_FOR_EACH * n_coefficients


def _samples(
    store: StructureStore, drawn: Sequence[int], sets: Sequence[ParameterSet], track: Track
) -> list[_Sample]:
    calculators = [SymmetryCalculator(parameters) for parameters in sets]
    samples = []
    with track("looking how far forces reach", len(drawn)) as advance:
        for place in drawn:
            structure = store[place]
            try:
                columns = [_columns(own, sets[0].elements, structure) for own in calculators]
            except InputError:
                continue  # reported by `featurize`
            finally:
                advance(1)
            samples.append(_Sample(np.asarray(structure.forces, np.float64).ravel(), columns))
    return samples


def _columns(calculator: SymmetryCalculator, elements: Sequence[str], structure: Structure) -> FloatArray:
    """(3 n_atoms, n_elements · n_features) forces if the energy were one function of the atoms of one element."""
    jacobian = calculator.jacobian(structure)
    kinds = np.array([elements.index(element) for element in structure.elements])
    of_kinds = [jacobian[kinds == k].sum(axis=0) for k in range(len(elements))]
    return np.asarray(-np.concatenate(of_kinds).reshape(-1, 3 * structure.n_atoms).T)


def _drawn(store: StructureStore, n_features: int) -> list[int]:
    """Structures with noticeable forces, at random, always the same; none with forces far above those of most."""
    fits = store.n_atoms.astype(np.float64) ** 2 * (24.0 * n_features) <= _LARGEST
    # NaN, if forces are unknown, is not noticeable either
    usable = np.flatnonzero((store.max_forces >= _NOTICEABLE) & fits & ~store.gross_outliers)
    largest = store.max_forces[usable]
    if len(usable):
        usable = usable[largest <= _WILD * np.median(largest)]
    drawn = np.random.default_rng(0).permutation(usable)[:_MOST_STRUCTURES]
    is_taken = np.cumsum(store.n_atoms[drawn]) <= _MOST_ATOMS
    is_taken[:_FEWEST_STRUCTURES] = True
    return [int(place) for place in drawn[is_taken]]
