from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from places import SAMPLE_DATA
from projects import structures

from tio2nn.io.read import read_structures
from tio2nn.parameters.choose_functions import RULE, STEP, Statistics
from tio2nn.project import neighborhoods
from tio2nn.project.neighborhoods import statistics
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.structure import Structure

FREE = (False, False, False)


def seen(tmp_path: Path, chosen: Sequence[Structure], elements: Sequence[str] = ("Ti", "O")) -> Statistics:
    path = tmp_path / "structures.npz"
    write_store(path, [replace(s, name=f"s{k}") for k, s in enumerate(chosen)])
    return statistics(read_store(path), elements)


def free(*positions: Sequence[float], elements: Sequence[str] | None = None) -> Structure:
    return Structure(
        "m", tuple(elements or ["O"] * len(positions)), np.array(positions), np.zeros((3, 3)), FREE
    )


def test_distances_and_numbers_of_neighbors_are_those_of_plain_loops(tmp_path: Path) -> None:
    chosen = structures(6)
    found = seen(tmp_path, chosen)
    assert not found.is_finite
    reach = STEP * len(found.neighbors_within)
    nearest: dict[tuple[str, str], list[float]] = {("Ti", "Ti"): [], ("Ti", "O"): [], ("O", "O"): []}
    of_any, n_within, n_atoms = [], 0, 0
    for structure in chosen:
        for center, element in enumerate(structure.elements):
            around = reference.neighbors(structure, center, reach)
            of_any.append(min(n.distance for n in around))
            n_within += sum(n.distance < 5.0 for n in around)
            n_atoms += 1
            for other in ("Ti", "O"):
                pair = (element, other) if (element, other) in nearest else (other, element)
                nearest[pair].append(min(n.distance for n in around if n.element == other))
    assert found.spacing == pytest.approx(np.percentile(of_any, 5))
    assert found.neighbors(5.0) == pytest.approx(n_within / n_atoms)
    assert found.neighbors(found.radius_of(40.0)) >= 40.0 > found.neighbors(found.radius_of(40.0) - STEP)
    assert found.nearest.keys() == nearest.keys()
    for pair, values in nearest.items():
        assert found.nearest[pair] == pytest.approx(np.percentile(values, [5, 50]))


def test_molecules_are_known_without_a_cell_and_in_a_large_one(tmp_path: Path) -> None:
    positions = [[0.0, 0.0, 0.0], [1.2, 0.0, 0.0], [1.2, 3.0, 0.0]]
    alone = seen(tmp_path, [free(*positions)])
    assert alone.is_finite
    assert alone.extent == pytest.approx(np.hypot(1.2, 3.0))
    assert alone.neighbors(4.0) == 2.0
    # across the boundary
    box = replace(free(*positions), cell=np.eye(3) * 20.0, periodic=(True, True, True))
    shifted = replace(box, positions=(box.positions + np.array([19.5, 18.0, 0.0])) % 20.0)
    boxed = seen(tmp_path, [shifted])
    assert boxed.is_finite
    assert (boxed.extent, boxed.spacing) == pytest.approx((alone.extent, alone.spacing))
    assert boxed.neighbors_within == alone.neighbors_within
    assert not seen(tmp_path, [replace(box, cell=np.eye(3) * 6.0)]).is_finite


def test_one_molecule_is_told_from_several_and_from_crystals(tmp_path: Path) -> None:
    water = [free([0.0, 0.0, 0.0], [1.0 + 0.01 * k, 0.0, 0.0]) for k in range(18)]
    atoms = [free([0.0, 0.0, 0.0])] * 2
    assert seen(tmp_path, [*water, *atoms]).is_one_molecule
    assert not seen(tmp_path, [*water, *atoms, *atoms]).is_one_molecule
    crystal = structures(1)[0]
    assert not seen(tmp_path, [crystal] * 5).is_one_molecule


def test_a_cluster_that_is_larger_than_what_is_looked_at_is_finite(tmp_path: Path) -> None:
    chain = free(*([2.5 * k, 0.0, 0.0] for k in range(20)))
    found = seen(tmp_path, [chain])
    assert found.is_finite
    assert found.extent == np.inf


def test_molecules_among_crystals_do_not_thin_them_out(tmp_path: Path) -> None:
    crystals = structures(6)
    atom = free([0.0, 0.0, 0.0])
    pair = free([0.0, 0.0, 0.0], [1.5, 0.0, 0.0])
    alone, mixed = seen(tmp_path, crystals), seen(tmp_path, [*crystals, atom, pair])
    assert not mixed.is_finite
    assert mixed.neighbors_within == alone.neighbors_within


def test_atoms_without_neighbors_have_no_distances(tmp_path: Path) -> None:
    found = seen(tmp_path, [free([0.0, 0.0, 0.0]), free([0.0, 0.0, 0.0], [50.0, 0.0, 0.0])])
    assert found.spacing is None
    assert found.nearest == {}
    assert found.is_finite


def test_an_element_that_no_structure_has_has_no_distances(tmp_path: Path) -> None:
    found = seen(tmp_path, [free([0.0, 0.0, 0.0], [1.2, 0.0, 0.0])], ("Ti", "O", "H"))
    assert found.elements == ("Ti", "O", "H")
    assert found.nearest == {("O", "O"): (pytest.approx(1.2), pytest.approx(1.2))}


def test_a_structure_of_two_atoms_at_one_place_is_passed_over(tmp_path: Path) -> None:
    good = list(structures(6))
    bad = free([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    assert seen(tmp_path, [*good[:2], bad, *good[2:]]) == seen(tmp_path, good)
    assert seen(tmp_path, [bad]).spacing is None


@pytest.mark.parametrize("unit", [0.05, 3.0])
def test_far_and_near_atoms_have_neighbors_in_reach(tmp_path: Path, unit: float) -> None:
    scaled = [replace(s, positions=s.positions * unit, cell=s.cell * unit) for s in structures(4)]
    found = seen(tmp_path, scaled)
    assert found.spacing is not None
    expected = unit * seen(tmp_path, structures(4)).radius_of(30.0)
    assert found.radius_of(30.0) == pytest.approx(expected, abs=(1.0 + unit) * STEP)


def test_of_many_structures_some_are_drawn_and_one_of_each_element(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighborhoods, "_MOST_ATOMS", 30)
    rare = free([0.0, 0.0, 0.0], [0.9, 0.0, 0.0], elements=("H", "O"))
    many = list(structures(24))
    many.insert(7, rare)
    looked_at: list[int] = []
    look_at = neighborhoods._look_at

    def recorded(batch: list[Structure], elements: Sequence[str], n_steps: int) -> neighborhoods._Found:
        looked_at.append(len(batch))
        return look_at(batch, elements, n_steps)

    monkeypatch.setattr(neighborhoods, "_look_at", recorded)
    found = seen(tmp_path, many, ("Ti", "O", "H"))
    assert 4 <= sum(looked_at) <= 7
    assert found.nearest["O", "H"] == (pytest.approx(0.9), pytest.approx(0.9))


def test_the_spacing_of_tio2_is_that_of_the_rule(tmp_path: Path) -> None:
    chosen = list(read_structures(SAMPLE_DATA))
    assert seen(tmp_path, chosen).spacing == pytest.approx(RULE.reference_spacing, abs=0.05)
