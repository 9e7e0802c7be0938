from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.descriptors.verlet import VerletList
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure

PARAMETERS = ParameterSet(
    elements=("Ti", "O"),
    cutoff=4.0,
    radial=(RadialFunction(0.05),),
    angular=(AngularFunction(0.01, 1, 2.0), AngularFunction(0.05, -1, 1.0)),
)


def steps(n: int, length: float = 0.05) -> list[Structure]:
    """Of atoms that drift through a skew cell, and out of it on the other side."""
    rng = np.random.default_rng(8)
    positions = rng.uniform(0.0, 1.0, (10, 3)) @ (
        cell := np.array([[6.0, 0, 0], [1.0, 6.5, 0], [0, -0.8, 7.0]])
    )
    velocities = length * rng.normal(size=(10, 3)) / np.sqrt(3.0)
    return [
        Structure(f"step{k}", ("Ti", "O") * 5, positions + k * velocities, cell, (True, True, False))
        for k in range(n)
    ]


def test_features_and_gradients_of_every_step_are_those_of_a_fresh_search() -> None:
    calculator, verlet = SymmetryCalculator(PARAMETERS), VerletList()
    weights = np.random.default_rng(1).normal(size=(10, PARAMETERS.n_features))
    n_pairs = set()
    for structure in steps(60):
        found = calculator.describe([structure], 1, verlet, 3.0)
        fresh = calculator.describe([structure], reach=3.0)
        np.testing.assert_allclose(found.features, fresh.features, rtol=1e-11, atol=1e-13)
        for one, other in zip(found.gradient(weights), fresh.gradient(weights), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
        assert found.close.centers.tolist() == fresh.close.centers.tolist()
        n_pairs.add(len(fresh.close.centers))
    # pairs came and went between the searches
    assert len(n_pairs) > 10
    assert 2 <= verlet.n_searches <= 30


def test_neighbors_are_searched_again_when_an_atom_has_moved_by_half_of_the_skin() -> None:
    calculator = SymmetryCalculator(PARAMETERS)
    structure = steps(1)[0]
    for moved, n_searches in ((0.24, 1), (0.26, 2)):
        verlet = VerletList(skin=0.5)
        for x in (0.0, moved):
            positions = structure.positions + np.array([x, 0.0, 0.0]) * (np.arange(10) == 3)[:, None]
            calculator.describe([replace(structure, positions=positions)], 1, verlet)
        assert verlet.n_searches == n_searches


def test_another_cell_other_elements_and_other_periodic_axes_are_searched_again() -> None:
    calculator, verlet = SymmetryCalculator(PARAMETERS), VerletList()
    structure = steps(1)[0]
    others = (
        structure,
        replace(structure, cell=1.001 * structure.cell),
        replace(structure, elements=("O", "Ti") * 5),
        replace(structure, periodic=(True, True, True)),
        structure,
    )
    for k, other in enumerate(others, start=1):
        found = calculator.describe([other], 1, verlet).features
        assert verlet.n_searches == k
        np.testing.assert_allclose(found, calculator(other), rtol=1e-12, atol=1e-14)


def test_two_atoms_that_meet_without_a_new_search_are_refused_by_the_name_of_that_step() -> None:
    calculator, verlet = SymmetryCalculator(PARAMETERS), VerletList(skin=20.0)
    structure = steps(1)[0]
    calculator.describe([structure], 1, verlet)
    positions = structure.positions.copy()
    positions[7] = positions[2]
    with pytest.raises(InputError, match="got atoms 3 and 8 at the same place") as refused:
        calculator.describe([replace(structure, name="later", positions=positions)], 1, verlet)
    assert "later" in str(refused.value)
    assert verlet.n_searches == 1


def test_a_structure_that_grows_and_shrinks_has_the_features_of_a_fresh_search() -> None:
    calculator, verlet = SymmetryCalculator(PARAMETERS), VerletList()
    structure = steps(1)[0]
    for k, n in enumerate((6, 10, 3, 10), start=1):
        part = replace(structure, elements=structure.elements[:n], positions=structure.positions[:n])
        found = calculator.describe([part], 1, verlet)
        np.testing.assert_allclose(found.features, calculator(part), rtol=1e-12, atol=1e-14)
        assert verlet.n_searches == k


def test_what_was_described_stays_as_it_was_in_later_steps() -> None:
    calculator, verlet = SymmetryCalculator(PARAMETERS), VerletList()
    weights = np.random.default_rng(1).normal(size=(10, PARAMETERS.n_features))
    described = [calculator.describe([structure], 1, verlet, 3.0) for structure in steps(4, 0.01)]
    assert verlet.n_searches == 1
    for structure, found in zip(steps(4, 0.01), described, strict=True):
        fresh = calculator.describe([structure], reach=3.0)
        np.testing.assert_allclose(found.features, fresh.features, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found.gradient(weights)[0], fresh.gradient(weights)[0], rtol=0, atol=1e-11)
        # the order of neighbors is that of the search
        lengths = [np.sort(np.linalg.norm(own.close.vectors, axis=1)) for own in (found, fresh)]
        np.testing.assert_allclose(*lengths, rtol=0, atol=1e-13)


def test_lists_of_several_structures_at_once_do_not_disturb_each_other() -> None:
    calculator = SymmetryCalculator(PARAMETERS)

    def features(offset: float) -> list[bytes]:
        verlet = VerletList()
        shift = np.array([offset, 0.0, 0.0]) * (np.arange(10) == 3)[:, None]
        moved = [replace(step, positions=step.positions + shift) for step in steps(30)]
        return [calculator.describe([step], 1, verlet).features.tobytes() for step in moved]

    offsets = [0.0, 0.1, 0.2, 0.3]
    with ThreadPoolExecutor(len(offsets)) as executor:
        together = list(executor.map(features, offsets))
    assert together == [features(offset) for offset in offsets]
