"""Atoms closer than any in training: the repulsion of nuclei by the printed formula, and where it begins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import reference
from ase.data import atomic_numbers, covalent_radii
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from potential.repulsive import FREE, OUTER, REPELLING, REPULSION, pair
from potentials import POTENTIAL
from projects import PARAMETERS
from projects import structures as crystals
from strategies import closest_distance, examples, random_structure, structures

from tio2nn.errors import InputError
from tio2nn.potential.repulsion import Repulsion, closest_distances
from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]
INNER = 0.7  # of the outer radius


def energy_and_force(r: float, elements: tuple[str, str], outer: float) -> tuple[float, float]:
    """Of two atoms, the force that drives them apart."""
    everywhere = Repulsion(elements if len(set(elements)) == 2 else elements[:1], np.array([[outer]]))
    if len(set(elements)) == 2:
        everywhere = Repulsion(elements, np.full((2, 2), outer))
    found = everywhere.of_structure(pair(r, elements))
    if found is None:
        return 0.0, 0.0
    direction = np.array([0.48, -0.6, 0.64])
    return float(found.energies.sum()), float(-found.gradient[1] @ direction)


# --- the numbers of another program -------------------------------------------------------------------------


# LAMMPS 22 Jul 2025, one run for each row, the energy and minus the first component of the force on the first atom:
#   units metal; boundary f f f; atoms of two types at 0 0 0 and r 0 0; pair_style zbl 1.26 1.8;
#   pair_coeff 1 1 Z1 Z1; pair_coeff 2 2 Z2 Z2; pair_coeff 1 2 Z1 Z2; run 0
OF_LAMMPS = [
    ("Ti", "O", 0.05, 34007.854895565164, 917923.0530051541),
    ("Ti", "O", 0.4, 765.5374256474621, 4929.365574679909),
    ("Ti", "O", 1.0, 39.254357364307346, 172.58663920250285),
    ("Ti", "O", 1.26, 11.515157442321815, 61.81442304296607),
    ("Ti", "O", 1.3, 9.219552945401173, 53.1183118730947),
    ("Ti", "O", 1.5, 2.1274463398851866, 20.423994778358754),
    ("Ti", "O", 1.7, 0.08598418708255773, 2.5397940990453023),
    ("Ti", "O", 1.79, 8.968154942046169e-05, 0.026862120578780232),
    ("O", "O", 0.05, 12882.677104957544, 339496.78321194864),
    ("O", "O", 0.4, 333.6555389114507, 2056.34860710538),
    ("O", "O", 1.0, 19.246074915183733, 81.60618565749341),
    ("O", "O", 1.5, 1.1036341780181538, 10.524507209850688),
    ("O", "O", 1.79, 4.7149621052122725e-05, 0.014121110705109352),
    ("Cu", "Au", 0.05, 394432.0849827062, 11334286.777269987),
    ("Cu", "Au", 0.4, 6066.55980163155, 43431.26942563188),
    ("Cu", "Au", 1.0, 220.7588100975812, 1072.2850283975133),
    ("Cu", "Au", 1.5, 10.247815169776398, 100.03316762932121),
    ("Cu", "Au", 1.79, 0.00041820281551707694, 0.1252944849494),
]


@pytest.mark.parametrize(("one", "other", "r", "energy", "force"), OF_LAMMPS)
def test_energy_and_force_are_those_of_lammps(
    one: str, other: str, r: float, energy: float, force: float
) -> None:
    found = energy_and_force(r, (one, other), 1.8)
    # near the outer radius what is left is a small difference of large numbers
    assert found[0] == pytest.approx(energy, rel=1e-12, abs=1e-11)
    assert found[1] == pytest.approx(force, rel=1e-12, abs=1e-11)


# --- the printed formula ------------------------------------------------------------------------------------


def screened(numbers: tuple[int, int], r: float) -> float:
    """Z_i Z_j e² / (4π ε₀ r) φ(r / a), eV."""
    x = r * (numbers[0] ** 0.23 + numbers[1] ** 0.23) / 0.46850
    terms = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
    return 14.399645 * numbers[0] * numbers[1] / r * sum(c * math.exp(-d * x) for c, d in terms)


def derivatives(function: Callable[[float], float], r: float) -> tuple[float, float]:
    """First and second, by differences of sixth order."""
    h = 2e-3
    first, second = (45.0, -9.0, 1.0), (1.5, -0.15, 1.0 / 90.0)
    ups = [(function(r + k * h), function(r - k * h)) for k in (1, 2, 3)]
    slope = sum(c * (up - down) for c, (up, down) in zip(first, ups, strict=True)) / (60.0 * h)
    center = 2.0 * function(r)
    curvature = sum(c * (up + down - center) for c, (up, down) in zip(second, ups, strict=True)) / h**2
    return slope, curvature


def printed_energy(elements: tuple[str, str], r: float, outer: float) -> float:
    """Screened repulsion and switching, eV, from E, E' and E'' at the outer radius."""
    if r >= outer:
        return 0.0
    numbers = (int(atomic_numbers[elements[0]]), int(atomic_numbers[elements[1]]))
    inner = INNER * outer
    width, end = outer - inner, screened(numbers, outer)
    slope, curvature = derivatives(lambda x: screened(numbers, x), outer)
    a = (-3.0 * slope + width * curvature) / width**2
    b = (2.0 * slope - width * curvature) / width**3
    c = -end + width / 2.0 * slope - width**2 / 12.0 * curvature
    t = max(r - inner, 0.0)
    return screened(numbers, r) + a / 3.0 * t**3 + b / 4.0 * t**4 + c


@examples(60)
@given(structures())
def test_the_energies_of_molecules_slabs_and_crystals_are_sums_of_the_printed_formula(
    structure: Structure,
) -> None:
    expected = np.zeros(structure.n_atoms)
    for center in range(structure.n_atoms):
        for neighbor in reference.neighbors(structure, center, OUTER.max()):
            ends = (structure.elements[center], neighbor.element)
            outer = OUTER[tuple(REPULSION.elements.index(end) for end in ends)]
            expected[center] += 0.5 * printed_energy(ends, neighbor.distance, float(outer))
    found = REPULSION.of_structure(structure)
    energies = np.zeros(structure.n_atoms) if found is None else found.energies
    np.testing.assert_allclose(energies, expected, atol=1e-6)


@pytest.mark.parametrize("radius", [INNER * 2.2, 2.2])
def test_energy_force_and_curvature_have_no_step_at_either_radius(radius: float) -> None:
    h = 1e-4
    below, at, above = (
        np.array(energy_and_force(r, ("Ti", "O"), 2.2)) for r in (radius - h, radius, radius + h)
    )
    energy, force = at
    assert below[0] - energy == pytest.approx(h * force, rel=1e-2, abs=1e-9)
    assert energy - above[0] == pytest.approx(h * force, rel=1e-2, abs=1e-9)
    # the slope of the force is the same from both sides, too
    assert (below[1] - force) / h == pytest.approx((force - above[1]) / h, rel=1e-2, abs=0.05)
    if radius == 2.2:
        assert (energy, force) == (0.0, 0.0)
        assert above.tolist() == [0.0, 0.0]


def test_the_order_of_the_elements_does_not_matter() -> None:
    swapped = Repulsion(("O", "Ti"), OUTER[::-1, ::-1].copy())
    for r, elements in itertools.product((0.6, 1.7, 2.1), itertools.product(("Ti", "O"), repeat=2)):
        one, other = (each.of_structure(pair(r, (elements[0], elements[1]))) for each in (REPULSION, swapped))
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.energies, other.energies)
        np.testing.assert_array_equal(one.gradient, other.gradient)
        assert one.energies[0] == one.energies[1]
        np.testing.assert_array_equal(one.gradient[0], -one.gradient[1])


# --- in a potential -----------------------------------------------------------------------------------------


def energy_of_repulsion(structure: Structure) -> float:
    found = REPULSION.of_structure(structure)
    return 0.0 if found is None else float(found.energies.sum())


def slope(change: Callable[[float], Structure]) -> float:
    """Central difference of the energy of the repulsion, of fourth order."""
    h = 2e-5
    values = [energy_of_repulsion(change(k * h)) for k in (-2, -1, 1, 2)]
    return (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * h)


@examples(25)
@given(structures())
def test_forces_and_stress_are_the_differences_of_the_energy(structure: Structure) -> None:
    (without,) = POTENTIAL.predict([structure], forces=True)
    (found,) = REPELLING.predict([structure], forces=True)
    assert found.forces is not None
    assert without.forces is not None
    gradient = np.zeros((structure.n_atoms, 3))
    for atom, axis in np.ndindex(*gradient.shape):
        step = np.zeros_like(gradient)
        step[atom, axis] = 1.0
        gradient[atom, axis] = slope(
            lambda by, step=step: replace(structure, positions=structure.positions + by * step)
        )
    added = found.forces - without.forces
    np.testing.assert_allclose(added, -gradient, atol=1e-6 * max(1.0, abs(gradient).max()))
    assert found.repulsion == pytest.approx(energy_of_repulsion(structure), abs=1e-9)
    assert (found.stress is None) == (structure.cell_volume is None)
    if found.stress is None or without.stress is None or structure.cell_volume is None:
        return
    strain = np.zeros((3, 3))
    for index in np.ndindex(3, 3):
        by_one = np.zeros((3, 3))
        by_one[index] = 1.0

        def strained(by: float, by_one: FloatArray = by_one) -> Structure:
            deformation = np.eye(3) + by * by_one
            return replace(
                structure, positions=structure.positions @ deformation, cell=structure.cell @ deformation
            )

        strain[index] = slope(strained)
    added = (found.stress - without.stress) * structure.cell_volume
    np.testing.assert_allclose(added, strain, atol=1e-6 * max(1.0, abs(strain).max()))


@given(st.lists(structures(), min_size=1, max_size=5))
def test_every_way_to_a_prediction_repels_by_the_same_bits(some: list[Structure]) -> None:
    together = list(REPELLING.predict(some))
    with_forces = list(REPELLING.predict(some, forces=True))
    for structure, found, forced in zip(some, together, with_forces, strict=True):
        (alone,) = REPELLING.predict([structure])
        of_features = REPELLING.predict_features(structure, REPELLING._calculator(structure))
        assert found.energy == alone.energy == of_features.energy
        assert found.repulsion == alone.repulsion == of_features.repulsion == forced.repulsion
        assert found.energy == pytest.approx(found.atomic_energies.sum(), rel=1e-12)


def test_the_spread_of_a_committee_is_that_of_its_networks() -> None:
    structure = replace(crystals()[0], positions=0.8 * crystals()[0].positions, cell=0.8 * crystals()[0].cell)
    (without,) = POTENTIAL.predict([structure], forces=True)
    (found,) = REPELLING.predict([structure], forces=True)
    assert found.repulsion > 1.0
    assert found.energy == pytest.approx(without.energy + found.repulsion, rel=1e-12)
    assert found.spread == without.spread
    np.testing.assert_array_equal(found.forces_spread, without.forces_spread)
    assert found.network_energy == without.network_energy
    assert found.largest_network_force == without.largest_network_force


# --- where it begins ----------------------------------------------------------------------------------------


@examples(40)
@given(st.lists(structures(), min_size=1, max_size=4), st.sampled_from((0.9, 2.0, 4.0)))
def test_the_closest_distances_are_those_of_a_search_through_all_pairs(
    some: list[Structure], cutoff: float
) -> None:
    elements = ("O", "Ti", "Au")
    expected = np.full((3, 3), np.inf)
    for structure in some:
        for center in range(structure.n_atoms):
            for neighbor in reference.neighbors(structure, center, cutoff):
                ends = sorted(elements.index(e) for e in (structure.elements[center], neighbor.element))
                for place in (tuple(ends), tuple(reversed(ends))):
                    expected[place] = min(expected[place], neighbor.distance)
    found = closest_distances(some, elements, cutoff)
    # a neighbor just at the cutoff counts or not, by rounding
    for distances in (found, expected):
        distances[np.isclose(distances, cutoff, rtol=1e-12)] = np.inf
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_pairs_that_training_never_had_begin_at_a_part_of_a_bond() -> None:
    oxygen = pair(1.21, ("O", "O"))
    far = pair(3.9, ("Ti", "O"))
    made = Repulsion.beyond([oxygen, far], ("Ti", "O", "Cs"), 3.2)
    assert made.outer[1, 1] == pytest.approx(0.85 * 1.21, rel=1e-7)
    assert made.closest[1, 1] == pytest.approx(1.21, rel=1e-7)
    bond = {element: covalent_radii[atomic_numbers[element]] for element in made.elements}
    for one, other in (("Ti", "Ti"), ("Ti", "O"), ("O", "Cs")):
        place = made.elements.index(one), made.elements.index(other)
        assert made.outer[place] == made.outer[place[::-1]] == pytest.approx(0.7 * (bond[one] + bond[other]))
    # atoms farther apart than the cutoff do not see each other
    assert made.outer[2, 2] == 3.2 < 0.7 * 2.0 * bond["Cs"]
    assert np.isfinite(Repulsion.beyond([], ("H",), 6.0).outer).all()


def test_the_covalent_radii_are_those_of_another_program() -> None:
    # up to curium, the last that was measured; for the others ASE had 0.2 Å once and has 2.0 Å now
    assert list(COVALENT_RADII.values())[:96] == covalent_radii[1:97].tolist()
    assert set(list(COVALENT_RADII.values())[96:]) == {2.0}


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_added_to_a_structure_that_it_was_made_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    periodic = [(True, True, True), (True, True, False), (False, True, False), FREE]
    training = [random_structure(rng, n_atoms=int(n), periodic=periodic[n % 4]) for n in range(1, 9)]
    repelling = replace(POTENTIAL, repulsion=Repulsion.beyond(training, ("Ti", "O"), PARAMETERS.cutoff))
    for forces in (False, True):
        with_it, without = (list(p.predict(training, forces=forces)) for p in (repelling, POTENTIAL))
        for one, other in zip(with_it, without, strict=True):
            assert one.repulsion == 0.0
            assert one.energy == other.energy
            np.testing.assert_array_equal(one.atomic_energies, other.atomic_energies)
            if one.forces is not None:
                np.testing.assert_array_equal(one.forces, other.forces)
                np.testing.assert_array_equal(one.stress, other.stress)
    # as other cells and with rounding, too
    for structure in training:
        moved = replace(structure, positions=structure.positions + np.array([17.3, -4.1, 0.7]))
        assert repelling.repulsion is not None
        assert repelling.repulsion.of_structure(moved) is None
    closest = min(training, key=closest_distance)
    smaller = replace(closest, positions=0.83 * closest.positions, cell=0.83 * closest.cell)
    assert next(repelling.predict([smaller])).repulsion > 0.0


def test_atoms_of_one_place_are_refused_in_every_way() -> None:
    twice = replace(pair(1.0), positions=np.zeros((2, 3)))
    with pytest.raises(InputError, match="same place"):
        next(REPELLING.predict([twice]))
    with pytest.raises(InputError, match="same place"):
        REPULSION.of_structure(twice)
