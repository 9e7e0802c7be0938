"""Whether a longer cutoff is chosen where forces come from farther away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from tio2nn.parameters.choose_functions import Choice, Statistics, choose_functions
from tio2nn.parameters.draft import Draft
from tio2nn.project.neighborhoods import statistics
from tio2nn.project.structure_store import StructureStore, read_store, write_store
from tio2nn.structures.structure import Structure
from tio2nn.workflow import range_of_forces
from tio2nn.workflow.range_of_forces import reaching_as_far_as_forces, worth_it

SETTINGS = Draft.new().settings
ELEMENT = "Li"
Slope = Callable[[np.ndarray], np.ndarray]


def near(distances: np.ndarray) -> np.ndarray:
    """Derivative of a pair energy that ends at 5 Å, eV/Å."""
    return np.where(distances < 5.0, -0.3 * (5.0 - distances) ** 2, 0.0)


def far(distances: np.ndarray) -> np.ndarray:
    """... that goes on oscillating up to 8 Å, as in simple metals."""
    tail = np.sin(1.2 * distances) * (8.0 - distances) ** 2 / 10.0
    return near(distances) + np.where(distances < 8.0, tail, 0.0)


def crystals(slope: Slope, n: int = 14, element: str = ELEMENT) -> list[Structure]:
    random = np.random.default_rng(1)
    made = []
    for k in range(n):
        atoms: Atoms = bulk(element, "bcc", a=3.4, cubic=True) * (2, 2, 2)
        atoms.positions += random.normal(0.0, 0.12, atoms.positions.shape)
        first, distances, vectors = neighbor_list("idD", atoms, 8.0)
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, (slope(distances) / distances)[:, None] * vectors)
        made.append(
            Structure(
                f"c{k:02d}",
                tuple(atoms.get_chemical_symbols()),
                atoms.positions,
                np.array(atoms.cell),
                (True, True, True),
                energy=-1.0 * len(atoms),
                forces=forces,
            )
        )
    return made


def stored(structures: list[Structure], folder: Path) -> StructureStore:
    references = dict.fromkeys(structures[0].elements, -1.0)
    write_store(
        folder / "store", structures, groups=[s.name for s in structures], reference_energies=references
    )
    return read_store(folder / "store")


def chosen(structures: list[Structure], folder: Path) -> tuple[Choice, Choice]:
    """The cutoff by distances, and the one that the forces ask for."""
    store = stored(structures, folder)
    seen = statistics(store, store.elements)
    choice = choose_functions(seen)
    return choice, reaching_as_far_as_forces(choice, seen, store, SETTINGS)


def test_the_cutoff_is_longer_where_forces_come_from_farther_away(tmp_path: Path) -> None:
    by_distances, by_forces = chosen(crystals(far), tmp_path)
    assert by_distances.cutoff == 6.5
    assert by_forces.cutoff > 7.0
    assert by_forces.reasons[0].startswith(
        "forces reach farther than 6.5 Å, a linear fit to them is better by "
    )
    # nothing else changes, and the same data give the same
    assert replace(by_forces, cutoff=6.5, reasons=by_distances.reasons) == by_distances
    assert chosen(crystals(far), tmp_path)[1] == by_forces


def test_the_cutoff_stays_where_forces_end_before_it(tmp_path: Path) -> None:
    by_distances, by_forces = chosen(crystals(near), tmp_path)
    assert by_forces == by_distances


def test_one_structure_with_wild_forces_decides_nothing(tmp_path: Path) -> None:
    *others, last = crystals(far)
    assert last.forces is not None
    wild = replace(last, forces=300.0 * last.forces)
    assert chosen([*others, wild], tmp_path)[1].cutoff == chosen(others, tmp_path)[1].cutoff > 7.0


@pytest.mark.parametrize("size", [0.0, 1e-15])
def test_crystals_without_forces_do_not_hide_those_with_them(size: float, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    relaxed = [
        replace(s, name=f"r{s.name}", forces=size * random.normal(size=s.positions.shape))
        for s in crystals(far, 20)
    ]
    assert chosen([*relaxed, *crystals(far)], tmp_path)[1].cutoff > 7.0
    by_distances, by_forces = chosen(relaxed, tmp_path)
    assert by_forces == by_distances


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ([1.0, 1.0], 0),
        ([1.0, 0.96, 0.97], 0),
        ([1.0, 0.9], 1),
        ([1.0, 0.9, 0.87], 1),
        ([1.0, 0.9, 0.7], 2),
        # the second is no better than the first
        ([1.06, 1.049, 1.0], 2),
        ([1.06, 1.2, 1.049, 1.0], 3),
        ([0.0, 0.0], 0),
    ],
)
def test_a_longer_cutoff_is_worth_it_where_it_is_better_than_the_first(
    errors: list[float], best: int
) -> None:
    assert worth_it(errors) == best


def test_what_cannot_tell_is_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_of_forces, "_columns", pytest.fail)
    monkeypatch.setattr(range_of_forces, "_LARGEST", 1e5)  # bytes, for 300 kB
    by_distances, by_forces = chosen(crystals(far), tmp_path)
    assert by_forces == by_distances


def test_a_structure_whose_functions_cannot_be_computed_is_passed_over(tmp_path: Path) -> None:
    *others, last = crystals(far)
    positions = last.positions.copy()
    positions[1] = positions[0]
    assert chosen([*others, replace(last, positions=positions)], tmp_path)[1].cutoff > 7.0


@pytest.mark.parametrize("number", [3, 11])
def test_few_structures_with_forces_decide_nothing(number: int, tmp_path: Path) -> None:
    structures = crystals(far)
    few = [s if k < number else replace(s, forces=None) for k, s in enumerate(structures)]
    by_distances, by_forces = chosen(few, tmp_path)
    assert by_forces == by_distances


def test_molecules_and_published_functions_keep_their_cutoff(tmp_path: Path) -> None:
    store = stored(crystals(far), tmp_path)
    seen = statistics(store, store.elements)
    molecules: Statistics = replace(seen, is_finite=True, extent=6.0)
    choice = choose_functions(molecules)
    assert reaching_as_far_as_forces(choice, molecules, store, SETTINGS) == choice
    titania = replace(seen, elements=("Ti", "O"))
    published = choose_functions(titania)
    assert reaching_as_far_as_forces(published, titania, store, SETTINGS) == published
