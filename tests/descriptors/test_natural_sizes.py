"""Natural sizes are what the functions are of dimers and trimers at the closest distances."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tio2nn.descriptors.natural_sizes import natural_sizes
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

DEGREES = 3.0
ELEMENTS = ("C", "H", "O")
CLOSEST = np.array([[1.3, 1.05, 1.2], [1.05, 1.55, 0.95], [1.2, 0.95, 2.2]])
RADIAL = (RadialFunction(0.05), RadialFunction(0.6), RadialFunction(3.0, 1.5))
ANGULAR = tuple(
    AngularFunction(eta, sign, zeta) for eta in (0.01, 0.2) for sign in (-1, 1) for zeta in (1, 3.5, 16)
)
PARAMETERS = ParameterSet(elements=ELEMENTS, cutoff=4.0, radial=RADIAL, angular=ANGULAR)


def molecule(elements: Sequence[str], positions: object) -> Structure:
    free = (False, False, False)
    return Structure(
        "molecule", tuple(elements), np.array(positions, dtype=np.float64), np.zeros((3, 3)), free
    )


def of_centers(parameters: ParameterSet, molecules: Sequence[Structure]) -> FloatArray:
    """(n_molecules, n_features) of the first atom of each."""
    return np.array([features[0] for features in SymmetryCalculator(parameters).map(molecules)])


def dimers(parameters: ParameterSet, element: str, closest: FloatArray) -> FloatArray:
    """(n_elements, n_features) of an atom with one neighbor of each element, as close as can be."""
    distances = closest[parameters.elements.index(element)]
    return of_centers(
        parameters,
        [
            molecule((element, neighbor), [[0, 0, 0], [0, 0, distance]])
            for neighbor, distance in zip(parameters.elements, distances, strict=True)
        ],
    )


def trimers(
    elements: Sequence[str], element: str, closest: FloatArray, degrees: float = DEGREES
) -> Iterator[Structure]:
    """An atom with two neighbors as close as can be, these not too close themselves or at a right angle or wider."""
    to = closest[elements.index(element)]
    for a, b in itertools.combinations_with_replacement(range(len(elements)), 2):
        for angle in np.deg2rad(np.arange(0.0, 180.0 + degrees / 2, degrees)):
            first, second = to[a] * np.array([0.0, 0.0, 1.0]), to[b] * direction(angle)
            nearest = min(closest[a, b], np.hypot(to[a], to[b]))
            if np.linalg.norm(second - first) >= nearest * (1.0 - 1e-10):
                yield molecule((element, elements[a], elements[b]), [[0, 0, 0], first, second])


def direction(angle: float) -> FloatArray:
    return np.array([np.sin(angle), 0.0, np.cos(angle)])


def of_trimers(
    parameters: ParameterSet, element: str, closest: FloatArray, degrees: float = DEGREES
) -> FloatArray:
    """(n_features,) the largest of all trimers."""
    molecules = list(trimers(parameters.elements, element, closest, degrees))
    return np.asarray(of_centers(parameters, molecules).max(axis=0))


def is_angular(parameters: ParameterSet) -> NDArray[np.bool_]:
    return np.array([name.startswith("angular") for name in parameters.feature_names])


def assert_equal(found: FloatArray, expected: FloatArray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


RESOLUTIONS = list(itertools.product(("each", "weighted", "blind"), ("pairs", "weighted", "blind")))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(("radial", "angular"), RESOLUTIONS)
def test_sizes_are_the_largest_values_of_dimers_and_trimers(radial: str, angular: str, element: str) -> None:
    parameters = PARAMETERS.with_overrides(radial_elements=radial, angular_elements=angular)
    found = natural_sizes(parameters, element, CLOSEST)
    assert found.shape == (parameters.n_features,)
    assert (found > 0.0).all()
    angular_columns = is_angular(parameters)
    one = dimers(parameters, element, CLOSEST).max(axis=0)
    two = of_trimers(parameters, element, CLOSEST)
    assert_equal(found, np.where(angular_columns, two, one))


@pytest.mark.parametrize("elements", [("Si",), ("O", "Ti")])
def test_sizes_of_the_functions_that_are_used_are_right_to_a_factor_of_two_at_any_angle(
    elements: tuple[str, ...],
) -> None:
    parameters = preset("extended", elements)
    closest = np.array([[2.3, 1.8], [1.8, 2.6]])[: len(elements), : len(elements)]
    columns = is_angular(parameters)
    for element in elements:
        found = natural_sizes(parameters, element, closest)[columns]
        assert_equal(found, of_trimers(parameters, element, closest)[columns])
        finest = of_trimers(parameters, element, closest, 0.5)[columns]
        assert (finest <= 2.0 * found + 1e-12).all()


def test_sizes_stand_in_the_order_of_the_names() -> None:
    """A neighbor of one element shows in the columns that have its name, and fills these."""
    found = dict(zip(PARAMETERS.feature_names, natural_sizes(PARAMETERS, "O", CLOSEST), strict=True))
    for neighbor, features in zip(ELEMENTS, dimers(PARAMETERS, "O", CLOSEST), strict=True):
        shown = {name: x for name, x in zip(PARAMETERS.feature_names, features, strict=True) if x != 0.0}
        assert [name.split("]")[0] for name in shown] == [f"radial[{neighbor}"] * len(RADIAL)
        assert {name: found[name] for name in shown} == pytest.approx(shown, rel=1e-9)


def test_three_atoms_at_equal_distances_may_touch() -> None:
    parameters = ParameterSet(elements=("Cu",), cutoff=5.0, radial=RADIAL, angular=ANGULAR)
    closest = np.array([[2.5]])
    equilateral = molecule(("Cu",) * 3, [[0, 0, 0], [0, 0, 2.5], 2.5 * direction(np.pi / 3)])
    (touching,) = of_centers(parameters, [equilateral])
    found = natural_sizes(parameters, "Cu", closest)
    sharp = [k for k, name in enumerate(parameters.feature_names) if "lambda=1 " in name]
    assert len(sharp) == 6
    assert_equal(found[sharp], touching[sharp])


@pytest.mark.parametrize("between", [2.0, 2.5, 10.0])
def test_two_neighbors_that_are_always_closer_than_any_stand_at_a_right_angle_or_wider(
    between: float,
) -> None:
    """As the ends of a straight molecule do, which no training shows as close as in a bent one."""
    closest = np.array([[1.2, 0.95], [0.95, between]])
    parameters = ParameterSet(elements=("O", "H"), cutoff=4.0, radial=(), angular=ANGULAR)
    angles = np.deg2rad(np.arange(90.0, 181.0, DEGREES))
    bent = [molecule(("O", "H", "H"), [[0, 0, 0], [0, 0, 0.95], 0.95 * direction(angle)]) for angle in angles]
    found = natural_sizes(parameters, "O", closest)
    own = [k for k, name in enumerate(parameters.feature_names) if "[H-H]" in name]
    assert len(own) == len(ANGULAR)
    assert_equal(found[own], of_centers(parameters, bent).max(axis=0)[own])
    assert found[own].min() > 1e-6


@pytest.mark.parametrize("kept", ["radial", "angular"])
@pytest.mark.parametrize(("radial", "angular"), [("each", "pairs"), ("weighted", "weighted")])
def test_functions_of_one_sort_alone_have_the_sizes_that_they_have_with_others(
    kept: str, radial: str, angular: str
) -> None:
    both = PARAMETERS.with_overrides(radial_elements=radial, angular_elements=angular)
    alone = both.with_overrides(**{"radial": [], "angular": [], kept: getattr(both, kept)})
    columns = is_angular(both) == (kept == "angular")
    expected = natural_sizes(both, "H", CLOSEST)[columns]
    np.testing.assert_array_equal(natural_sizes(alone, "H", CLOSEST), expected)


def test_what_lies_beyond_the_cutoff_has_no_size() -> None:
    beyond = PARAMETERS.with_overrides(cutoff=0.9)
    np.testing.assert_array_equal(natural_sizes(beyond, "C", CLOSEST), np.zeros(beyond.n_features))
    # of O there is H within 1 Å alone, and two of those are never within it
    some = PARAMETERS.with_overrides(cutoff=1.0)
    found = dict(zip(some.feature_names, natural_sizes(some, "O", CLOSEST), strict=True))
    assert {name.split("]")[0] for name, size in found.items() if size > 0.0} == {"radial[H"}
