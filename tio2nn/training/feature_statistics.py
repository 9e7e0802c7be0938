"""What a fit, and the potential that it makes, know of the features of the training set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.whitening import Whitening, floor_of
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.dataset import StressLabels
from tio2nn.training.subnets import Subnets

# how often each component of Voigt's order is in a tensor
_TIMES = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def whitenings_of(
    parameters: ParameterSet,
    table: AtomTable,
    sizes: Sequence[FloatArray],
    stress: StressLabels | None = None,
) -> tuple[Whitening, ...]:
    """The whitening of each subnet.

    Where stresses are learned, the features are taken to vary as in strained copies of the structures that have one.

    Args:
        parameters: with nothing left to a recipe.
        table: features of the training set, float64, not whitened.
        sizes: (n_features,) natural sizes, for each subnet.
        stress: of the training set; None for a fit without.
    """
    if not parameters.network.whitening:
        return tuple(map(Whitening.standardization, table.features, sizes))
    given = parameters.network.whitening_floor
    floors = [
        floor_of(len(part), n_structures) if given is None else given
        for part, n_structures in zip(table.features, np.count_nonzero(table.counts, axis=0), strict=True)
    ]
    strain = parameters.training.stress_whitening_strain
    beside: Sequence[FloatArray | None] = [None] * len(table.features)
    if stress is not None and strain > 0.0:
        beside = strained_covariances(stress, table.counts.sum(axis=0), parameters.n_features, strain)
    return tuple(map(Whitening.fit, table.features, floors, sizes, beside))


def strained_covariances(
    stress: StressLabels, n_atoms: IntArray, n_features: int, strain: float
) -> list[FloatArray]:
    """Covariance of the changes of features by random strains of the structures with a stress.

    The strains are symmetric, without a preferred axis, of `strain` (rms) along each axis. Atoms of structures without
    a stress do not change.

    Args:
        stress: labels, and where the derivatives are.
        n_atoms: (n_subnets,) in all structures.
        n_features: of an atom.
        strain: dimensionless.

    Returns:
        For each subnet (n_features, n_features).
    """
    found = [np.zeros((n_features, n_features)) for _ in n_atoms]
    first_atom = np.cumsum(stress.n_atoms) - stress.n_atoms
    for k in np.flatnonzero(stress.has_stress).tolist():
        begin, n = int(stress.offsets[k]), int(stress.n_atoms[k])
        derivatives = stress.strains[begin : begin + n * n_features * 6].reshape(n, n_features, 6)
        changes = np.asarray(derivatives, np.float64) * (strain * np.sqrt(_TIMES))
        subnets = stress.subnets[first_atom[k] : first_atom[k] + n]
        for subnet in np.unique(subnets).tolist():
            rows = changes[subnets == subnet].transpose(0, 2, 1).reshape(-1, n_features)
            found[subnet] += rows.T @ rows
    return [own / n for own, n in zip(found, n_atoms.tolist(), strict=True)]


def training_atoms_of(
    parameters: ParameterSet,
    table: AtomTable,
    subnets: Subnets,
    elements: IntArray,
    whitenings: Sequence[Whitening],
) -> tuple[TrainingAtoms, ...]:
    """Training atoms of each element, drawn by the seed; `elements` (n_atoms,) separates those of a shared subnet."""
    random = np.random.default_rng(parameters.training.seed)
    found = []
    for k, subnet in enumerate(subnets.of_element):
        features, structures = table.features[subnet], table.segments(subnet)
        if subnets.are_shared:
            features, structures = features[elements == k], structures[elements == k]
        found.append(TrainingAtoms.fit(features, structures, whitenings[subnet], random))
    return tuple(found)
