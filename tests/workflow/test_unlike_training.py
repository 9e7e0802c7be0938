"""What a potential says of structures that differ from all of training in a direction training hardly spans."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from projects import PARAMETERS, pair_energy, small_project

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.potential import Potential
from tio2nn.structures.structure import Structure
from tio2nn.workflow.train import train

FIT = {
    "network": {"hidden_layers": [16, 16]},
    "training": {
        "epochs": 100,
        "batch_size": 8,
        "learning_rate": 0.01,
        "validation_fraction": 0.1,
        "test_fraction": 0.0,
    },
}


def labeled(structure: Structure) -> Structure:
    return replace(structure, energy=pair_energy(structure))


def worst_error(
    root: Path, parameters: ParameterSet, trained: Sequence[Structure], tried: Sequence[Structure]
) -> float:
    """Of energies of structures, meV/atom, of a potential from others."""
    project = small_project(root, parameters, trained)
    train(project, parameters)
    predictions = Potential.load(project.potential_file).predict(tried)
    return max(
        1000.0 * abs(found.energy - structure.energy) / structure.n_atoms
        for found, structure in zip(predictions, tried, strict=True)
        if structure.energy is not None
    )


def molecules(n: int, bend: float, seed: int) -> list[Structure]:
    """TiO2 molecules, turned at random; Ti stands `bend` off the line between the O atoms, Å."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        axis, other = np.linalg.qr(rng.normal(size=(3, 2)))[0].T
        left, right = rng.uniform(1.6, 1.9, 2)
        positions = np.array([-left * axis, bend * other, right * axis])
        free = (False, False, False)
        made.append(
            labeled(Structure(f"molecule{k:02d}", ("O", "Ti", "O"), positions, np.zeros((3, 3)), free))
        )
    return made


def crystals(n: int, repeats: int, shift: float, seed: int) -> list[Structure]:
    """Strained simple cubic Ti; atoms of the repeated cell are shaken by up to `shift` in each direction, Å."""
    rng = np.random.default_rng(seed)
    sites = np.array(list(itertools.product(range(repeats), repeat=3)), dtype=float)
    made = []
    for k in range(n):
        cell = 2.3 * (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3)))
        positions = sites @ cell + rng.uniform(-shift, shift, sites.shape)
        made.append(labeled(Structure(f"crystal{k:02d}", ("Ti",) * len(sites), positions, repeats * cell)))
    return made


def test_straight_molecules_say_enough_of_slightly_bent_ones(tmp_path: Path) -> None:
    """Functions that vanish at the straight angle are rounding in training: scaled by it, errors have 27 digits."""
    parameters = PARAMETERS.with_overrides(**FIT)
    error = worst_error(tmp_path / "p", parameters, molecules(40, 0.0, seed=0), molecules(20, 0.09, seed=1))
    assert error < 5.0


def test_cells_of_one_atom_say_enough_of_a_large_shaken_one(tmp_path: Path) -> None:
    """Without displacements features move together: unlike that, with thin directions scaled to one, 600 meV/atom."""
    angular = [
        {"eta": eta, "lambda": sign, "zeta": zeta}
        for eta in (0.003, 0.02)
        for sign in (-1, 1)
        for zeta in (1, 2, 4, 16)
    ]
    radial = [{"eta": 0.05}, {"eta": 0.6}, {"eta": 4.0, "r_s": 2.0}, {"eta": 4.0, "r_s": 3.0}]
    parameters = PARAMETERS.with_overrides(elements=["Ti"], radial=radial, angular=angular, **FIT)
    error = worst_error(tmp_path / "p", parameters, crystals(40, 1, 0.0, seed=0), crystals(2, 3, 0.1, seed=1))
    assert error < 40.0
