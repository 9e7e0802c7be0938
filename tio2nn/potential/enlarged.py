"""A potential as seen by the parameter set of another fit: more elements, columns in another order.

Weights mean something to the whitening that they were fitted with, so it stays as it is. What it does not know, columns
of new elements and functions that did not vary before, gets components of its own, which carry nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.errors import InputError
from tio2nn.files.rows import Rows
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.familiarity import N_REFERENCES, TrainingAtoms
from tio2nn.potential.potential import Potential, composition_span
from tio2nn.potential.prediction import Limits
from tio2nn.potential.repulsion import Repulsion
from tio2nn.potential.whitening import Whitening

# references of an element that a potential carries after it has been trained on other structures, so that their
# number does not grow each time
_MOST_REFERENCES = 2 * N_REFERENCES


class Enlargement(NamedTuple):
    """The whitening of a subnet for more columns.

    Attributes:
        whitening: for all columns.
        components: (n_features, n_features of before) what stood for each component before: rows of the identity, or
            of a rotation; zero for those that carry nothing yet.
        n_opened: columns that had no effect before.
    """

    whitening: Whitening
    components: FloatArray
    n_opened: int


def require_same_functions(potential: Potential, parameters: ParameterSet, file: str, what: str) -> None:
    """Refuse a potential with other symmetry functions, or with elements that a parameter set lacks.

    Args:
        potential: to be compared.
        parameters: of the project.
        file: of the potential, for messages.
        what: the potential is for, such as "to begin from".

    Raises:
        InputError: the first difference.
    """
    own = potential.parameters
    named = {
        "cutoff": (f"{own.cutoff:g} Å", f"{parameters.cutoff:g} Å"),
        "radial_elements": (own.radial_elements, parameters.radial_elements),
        "angular_elements": (own.angular_elements, parameters.angular_elements),
    }
    expected = f"expected a potential {what} with the symmetry functions of the project"
    advice = "tio2nn init --from FILE makes a project with those of a potential"
    for name, (got, wanted) in named.items():
        if got != wanted:
            raise InputError(f"{expected} ({name} {wanted}), got one with {got}; {advice}", file=file)
    for kind in ("radial", "angular"):
        if set(getattr(own, kind)) != set(getattr(parameters, kind)):
            raise InputError(f"{expected}, got one with other {kind} functions; {advice}", file=file)
    if unknown := [element for element in own.elements if element not in parameters.elements]:
        raise InputError(
            f"expected a potential {what} without other elements than {', '.join(parameters.elements)}, got one that "
            f"knows {', '.join(unknown)}; add structures with them, and elements to params.json",
            file=file,
        )


def places_of_columns(own: ParameterSet, wanted: ParameterSet) -> IntArray:
    """(n_features of `own`,) the place of each column among those of a parameter set with the same functions."""
    places = {_key(name): place for place, name in enumerate(wanted.feature_names)}
    return np.array([places[_key(name)] for name in own.feature_names], dtype=np.int64)


def enlarged(
    old: Whitening,
    columns: IntArray,
    features: Rows,
    fit: Callable[[Rows, IntArray], Whitening],
) -> Enlargement:
    """The whitening of a subnet with components for what it did not know.

    Args:
        old: of fewer columns.
        columns: the place of each of them.
        features: (n_atoms, n_features) of the atoms that the fit is to train on.
        fit: fits the whitening of some columns of them, given also by their places.
    """
    n, n_old = features.shape[1], len(old.mean)
    mean, constant = np.zeros(n), np.ones(n, np.bool_)
    matrix, metric, components = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n_old))
    mean[columns], constant[columns] = old.mean, old.constant
    matrix[columns, :n_old], metric[columns, :n_old] = old.matrix, old.metric
    components[:n_old] = np.eye(n_old)
    unknown = np.flatnonzero(constant)
    opened = unknown[~Whitening.standardization(features[:, unknown]).constant]
    if not len(opened):
        return Enlargement(Whitening(mean, matrix, constant, metric), components, 0)
    own = fit(features[:, opened], opened)
    matrix, rotation, free = _with_free_components(matrix, len(opened))
    components = rotation @ components
    components[free] = 0.0
    matrix[np.ix_(opened, free)] = own.matrix
    metric, _, free = _with_free_components(metric, len(opened))
    metric[np.ix_(opened, free)] = own.metric
    mean[opened], constant[opened] = own.mean, False
    return Enlargement(Whitening(mean, matrix, constant, metric), components, len(opened))


def _with_free_components(matrix: FloatArray, n: int) -> tuple[FloatArray, FloatArray, IntArray]:
    """A matrix whose rank is less than its size by at least n, with n columns of zeros.

    Returns:
        The matrix, turned if it lacks such columns; the rotation of its components; the columns.
    """
    free = np.flatnonzero(~matrix.any(axis=0))
    if len(free) >= n:
        return matrix, np.eye(len(matrix)), free[-n:]
    rotation = np.linalg.svd(matrix)[2]
    free = np.arange(len(matrix) - n, len(matrix))
    turned = matrix @ rotation.T
    turned[:, free] = 0.0
    return turned, rotation, free


def united(new: Potential, old: Potential, *, with_span: bool) -> Potential:
    """A potential that knows what another one was trained on, from which its fit began.

    Args:
        new: trained on other structures.
        old: with the same functions, and no other elements.
        with_span: whether the reference energies of the old one hold.
    """
    places = [new.elements.index(element) for element in old.elements]
    columns = places_of_columns(old.parameters, new.parameters)
    random = np.random.default_rng(new.parameters.training.seed or 0)
    atoms = list(new.training_atoms)
    for k, place in enumerate(places):
        before, now = (source.whitenings[source.subnet_of[old.elements[k]]] for source in (old, new))
        atoms[place] = _joined(old.training_atoms[k], atoms[place], before, now, columns, random)
    span = new.composition_span
    if with_span:
        wide = np.zeros((len(old.composition_span), len(new.elements)))
        wide[:, places] = old.composition_span
        span = composition_span(np.vstack([wide, span]))
    repulsion = new.repulsion
    if repulsion is not None and old.repulsion is not None:
        outer = repulsion.outer.copy()
        own = np.ix_(places, places)
        outer[own] = np.minimum(outer[own], old.repulsion.outer)
        repulsion = Repulsion(repulsion.elements, outer)
    return replace(
        new,
        training_atoms=tuple(atoms),
        composition_span=span,
        repulsion=repulsion,
        limits=Limits(
            _largest(new.limits.largest_energy, old.limits.largest_energy),
            _largest(new.limits.largest_force, old.limits.largest_force),
        ),
    )


def _joined(
    old: TrainingAtoms,
    new: TrainingAtoms,
    before: Whitening,
    now: Whitening,
    columns: IntArray,
    random: np.random.Generator,
) -> TrainingAtoms:
    """The training atoms of an element, with those of an earlier training."""
    references = np.concatenate([new.references, _moved(old.references, before, now, columns)])
    if (surplus := len(references) - _MOST_REFERENCES) > 0:
        n_new = len(new.references)
        kept = np.sort(random.permutation(len(old.references))[surplus:])
        references = np.concatenate([references[:n_new], references[n_new:][kept]])
    low, high = new.low.copy(), new.high.copy()
    low[columns], high[columns] = np.minimum(low[columns], old.low), np.maximum(high[columns], old.high)
    added = np.delete(np.arange(len(low)), columns)  # zero without neighbors of a new element
    low[added], high[added] = np.minimum(low[added], 0.0), np.maximum(high[added], 0.0)
    return TrainingAtoms(low, high, references, max(old.unit, new.unit))


def _moved(
    points: NDArray[np.float32], before: Whitening, now: Whitening, columns: IntArray
) -> NDArray[np.float32]:
    """`Whitening.points` of atoms, from those of a whitening that lacks some columns, in which they are zero."""
    n_old, n = len(before.mean), len(now.mean)
    known = ~before.constant
    features = np.zeros((len(points), n))  # minus the present mean
    features -= now.mean
    features[:, columns[before.constant]] += before.mean[before.constant] + points[:, n_old:]
    # what varied before keeps its mean; its points turn with the metric
    features[:, columns[known]] = 0.0
    moved = features @ now.metric
    own, wanted = before.metric[known], now.metric[columns[known]]
    if np.array_equal(own, wanted[:, :n_old]):
        moved[:, :n_old] += points[:, :n_old]
    else:
        moved += points[:, :n_old] @ np.linalg.lstsq(own, wanted, rcond=None)[0]
    if now.constant.any():
        moved = np.hstack([moved, features[:, now.constant]])
    return moved.astype(np.float32)


def _key(feature: str) -> tuple[str, tuple[str, ...], str]:
    """A feature by its name, the same whatever the order of two elements."""
    kind, _, rest = feature.partition("[")
    neighbors, _, function = rest.partition("]")
    return kind, tuple(sorted(neighbors.split("-"))), function


def _largest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)
