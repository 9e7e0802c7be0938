"""Small sets, from structures to errors on structures unlike those in training. Labels by ASE's EMT."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from numpy.typing import NDArray
from projects import no_pool

from tio2nn.descriptors.natural_sizes import natural_sizes, near
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.choose_functions import choose_functions
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.potential.whitening import Whitening, floor_of
from tio2nn.project.neighborhoods import statistics
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import compute_features
from tio2nn.workflow.train import train

FloatArray = NDArray[np.float64]


class Errors(NamedTuple):
    """Mean absolute ones, and those of who knows reference energies alone."""

    energy: float  # eV/atom
    force: float  # eV/Å
    energy_of_reference: float
    force_of_zero: float


def labeled(atoms: Iterable[Atoms], forces: bool = True) -> list[Structure]:
    """Structures with energy and forces."""
    made = []
    for k, own in enumerate(atoms):
        own.calc = EMT()
        made.append(
            Structure(
                f"s{k:03d}",
                tuple(own.get_chemical_symbols()),
                np.array(own.positions),
                np.array(own.cell),
                tuple(map(bool, own.pbc)),
                energy=float(own.get_potential_energy()),
                forces=np.array(own.get_forces()) if forces else None,
            )
        )
    return made


def chosen_parameters(path: Path, structures: Sequence[Structure]) -> ParameterSet:
    """Those of the preset auto; `path` of a file for the structures."""
    elements = tuple(sorted({element for s in structures for element in s.elements}))
    write_store(path, structures)
    choice = choose_functions(statistics(read_store(path), elements))
    return choice.applied_to(preset("extended", elements))


def fitted(root: Path, structures: Sequence[Structure], epochs: int, **training: Any) -> Potential:
    """By the recipe auto, but for a smaller network and a shorter training; nothing is kept for a test."""
    project = Project.create(root, preset("extended", ("Cu",)))
    parameters = chosen_parameters(project.structures_file, structures).with_overrides(
        network={"hidden_layers": [16, 16]},
        training={"epochs": epochs, "members": 1, "test_fraction": 0.0, **training},
    )
    project.parameters_file.write_text(parameters.to_json(), encoding="utf-8")
    compute_features(project, jobs=1, make_executor=no_pool)
    if structures[0].forces is not None and training.get("forces", True):
        differentiate(project, jobs=1, make_executor=no_pool)
    train(project, parameters)
    return Potential.load(project.potential_file)


def errors_of(potential: Potential, training: Sequence[Structure], tested: Sequence[Structure]) -> Errors:
    """On structures that training did not see."""
    elements = potential.elements

    def counts(structures: Sequence[Structure]) -> NDArray[np.int64]:
        return np.array([[s.composition.get(element, 0) for element in elements] for s in structures])

    def energies(structures: Sequence[Structure]) -> FloatArray:
        return np.array([s.energy for s in structures], dtype=np.float64)

    reference = ReferenceEnergies.fit(elements, counts(training), energies(training))
    n_atoms = np.array([s.n_atoms for s in tested])
    predicted = list(potential.predict(tested, forces=True))
    forces = np.concatenate([np.asarray(s.forces) for s in tested])
    return Errors(
        float(np.abs((np.array([p.energy for p in predicted]) - energies(tested)) / n_atoms).mean()),
        float(np.abs(np.concatenate([np.asarray(p.forces) for p in predicted]) - forces).mean()),
        float(np.abs((reference.baseline(counts(tested)) - energies(tested)) / n_atoms).mean()),
        float(np.abs(forces).mean()),
    )


# --- small cells, large cell --------------------------------------------------------------------------------


def strained_copper(n: int, seed: int) -> list[Atoms]:
    """Cells of four atoms, displaced."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.06, (4, 3))
        made.append(atoms)
    return made


@pytest.mark.slow
def test_a_fit_to_small_cells_holds_in_a_large_one(tmp_path: Path) -> None:
    training = labeled(strained_copper(40, seed=1))
    large = bulk("Cu", "fcc", a=3.62, cubic=True) * (2, 2, 2)
    large.positions += np.random.default_rng(2).normal(0.0, 0.05, (32, 3))
    found = errors_of(fitted(tmp_path / "p", training, epochs=300), training, labeled([large]))
    assert found.force < 0.05
    assert found.force < 0.2 * found.force_of_zero
    assert found.energy < 0.02


# --- molecules that are all but straight --------------------------------------------------------------------


def hydrogen_cyanide(n: int, displacement: float, seed: int) -> list[Structure]:
    """Molecules along z, stretched, and each atom displaced across it, Å."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        z = np.cumsum([0.0, *(np.array([1.07, 1.16]) + rng.normal(0.0, 0.04, 2))])
        across = rng.normal(0.0, displacement, (3, 2))
        made.append(Atoms("HCN", np.column_stack([across, z])))
    return labeled(made)


def of_elements(parameters: ParameterSet, structures: Sequence[Structure]) -> list[FloatArray]:
    """(n_atoms, n_features) of each element."""
    features = np.concatenate(list(SymmetryCalculator(parameters).map(structures)))
    elements = np.array([element for s in structures for element in s.elements])
    return [features[elements == element] for element in parameters.elements]


STRAIGHT, BENT = 1e-3, 0.09  # Å


def test_bent_molecules_are_not_blown_up_by_a_training_on_straight_ones(tmp_path: Path) -> None:
    straight, bent = hydrogen_cyanide(60, STRAIGHT, seed=1), hydrogen_cyanide(20, BENT, seed=2)
    parameters = chosen_parameters(tmp_path / "s.npz", straight)
    repulsion = Repulsion.beyond(straight, parameters.elements, parameters.cutoff)
    closest = near(parameters.elements, repulsion.closest)
    seen, unseen = of_elements(parameters, straight), of_elements(parameters, bent)
    for element, one, other in zip(parameters.elements, seen, unseen, strict=True):
        sizes = natural_sizes(parameters, element, closest)
        assert (sizes > 0.0).all()
        floor = floor_of(len(one), len(straight))
        blind, seeing = Whitening.fit(one, 1e-5), Whitening.fit(one, floor, sizes)
        assert np.abs(blind(other)).max() > 1e3 * np.abs(blind(one)).max()
        assert np.abs(seeing(other)).max() < 3.0 * BENT / STRAIGHT * np.abs(seeing(one)).max()


@pytest.mark.slow
def test_a_fit_to_straight_molecules_holds_for_bent_ones(tmp_path: Path) -> None:
    straight, bent = hydrogen_cyanide(60, STRAIGHT, seed=1), hydrogen_cyanide(20, BENT, seed=2)
    found = errors_of(fitted(tmp_path / "p", straight, epochs=200), straight, bent)
    assert found.energy < 0.03
    assert found.force < 0.2 * found.force_of_zero


# --- many elements ------------------------------------------------------------------------------------------


METALS = ("Al", "Cu", "Ag", "Au")


@lru_cache(maxsize=1)
def alloys() -> list[Structure]:
    """Eight displaced atoms of an fcc crystal, of a random metal each."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(80):
        atoms = bulk("Cu", "fcc", a=4.0, cubic=True) * (2, 1, 1)
        atoms.set_chemical_symbols([str(e) for e in rng.choice(METALS, 8)])
        atoms.positions += rng.normal(0.0, 0.07, (8, 3))
        made.append(atoms)
    return labeled(made)


def test_elements_that_come_close_are_not_blown_up_by_a_training_that_keeps_them_apart(
    tmp_path: Path,
) -> None:
    def two_dimers(distance: float) -> Atoms:
        places = [[0, 0, 0], [2.3, 0, 0], [0, 0, distance], [2.3, 0, distance]]
        return Atoms("Cu2Ag2", positions=places)

    training = labeled(two_dimers(distance) for distance in np.linspace(5.0, 5.6, 10))
    parameters = chosen_parameters(tmp_path / "s.npz", training)
    elements = parameters.elements
    closest = Repulsion.beyond(training, elements, parameters.cutoff).closest
    seen, unseen = of_elements(parameters, training), of_elements(parameters, labeled([two_dimers(3.0)]))
    for element, one, other in zip(elements, seen, unseen, strict=True):
        floor = floor_of(len(one), len(training))
        far = Whitening.fit(one, floor, natural_sizes(parameters, element, closest))
        found = Whitening.fit(one, floor, natural_sizes(parameters, element, near(elements, closest)))
        assert np.abs(far(other)).max() > 1e9
        assert np.abs(found(other)).max() < 1e3


@pytest.mark.slow
@pytest.mark.parametrize(("forces", "bound"), [(True, 0.6), (False, 1.3)])
def test_many_elements_in_few_structures(tmp_path: Path, forces: bool, bound: float) -> None:
    training, tested = alloys()[:40], alloys()[40:]
    found = errors_of(fitted(tmp_path / "p", training, epochs=150, forces=forces), training, tested)
    assert found.energy < bound * found.energy_of_reference
