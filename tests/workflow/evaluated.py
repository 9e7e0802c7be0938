"""Projects and potentials to evaluate, and what an evaluation leaves."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from potentials import everything
from projects import ATOMIC_ENERGIES, PARAMETERS, small_project, structures

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.whitening import Whitening
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import Split
from tio2nn.structures.structure import Structure

TEST = ("structure0003", "structure0004", "structure0011", "structure0024")


def make_potential(
    parameters: ParameterSet = PARAMETERS, members: int = 1, inputs: dict[str, str] | None = None
) -> Potential:
    """Untrained, linear in the features, every member another one; no feature lies outside its range."""
    rng = np.random.default_rng(5)
    n, elements = parameters.n_features, parameters.elements
    return Potential(
        parameters=parameters,
        reference_energies=dict(ATOMIC_ENERGIES),
        subnet_of={element: k for k, element in enumerate(elements)},
        whitenings=tuple(
            Whitening(np.zeros(n), np.eye(n), np.zeros(n, dtype=bool), np.eye(n)) for _ in elements
        ),
        members=tuple(
            tuple((Layer(0.1 * rng.normal(size=(n, 1)), rng.normal(size=1), "linear"),) for _ in elements)
            for _ in range(members)
        ),
        training_atoms=(everything(n),) * len(elements),
        composition_span=np.eye(len(elements)),
        about={"inputs": inputs or {}},
    )


def project_to_evaluate(root: Path) -> Project:
    """24 structures, four of them in the test set, and a potential."""
    made = small_project(root)
    split(made)
    install(made)
    return made


def split(project: Project, test: tuple[str, ...] = TEST) -> None:
    store = read_store(project.structures_file)
    parts = ["test" if name in test else "train" for name in store.names]
    Split(store.names, tuple(parts)).write(project.split_file, store.groups)


def install(project: Project, **changes: Any) -> Potential:
    """Give the project a potential that was made from what the project holds."""
    store = read_store(project.structures_file)
    inputs = inputs_of_model(project.parameters(), store, project.split_file)
    potential = replace(make_potential(project.parameters(), inputs=inputs), **changes)
    potential.save(project.potential_file)
    return potential


def residuals(directory: Path) -> list[dict[str, str]]:
    with (directory / "residuals.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def named(*names: str) -> list[Structure]:
    return [structure for structure in structures() if structure.name in names]


def relabel(project: Project, change: Callable[[Structure], Structure]) -> None:
    write_store(
        project.structures_file, [change(s) for s in structures()], reference_energies=ATOMIC_ENERGIES
    )
