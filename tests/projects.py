"""Small labeled projects. Energies follow a smooth pair potential, so that a fit means something."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from tio2nn.io.xsf.file import write_xsf
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.project import feature_store
from tio2nn.project.feature_store import ATOMS_PER_SHARD, Manifest, StoredFeatures
from tio2nn.project.project import Project
from tio2nn.project.structure_store import write_store
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import compute_features

FloatArray = NDArray[np.float64]

PARAMETERS = ParameterSet(
    elements=("Ti", "O"),
    cutoff=4.0,
    radial=(RadialFunction(0.05), RadialFunction(0.6)),
    angular=(AngularFunction(0.02, -1, 1), AngularFunction(0.02, 1, 2)),
    network=NetworkParameters(hidden_layers=(8, 8)),
    training=TrainingParameters(epochs=4, batch_size=5, learning_rate=0.01, warmup_epochs=1),
)
"""Ten features; a fit of a second."""

ATOMIC_ENERGIES = {"Ti": -1600.0, "O": -430.0}  # eV
_STRENGTHS = {("Ti", "Ti"): 2.0, ("O", "Ti"): -3.0, ("O", "O"): 1.0}  # eV
_SPACING = 2.3  # Å, of the grid that the atoms are shaken from
_SHIFT = 0.3  # Å, largest in each direction


def pair_energy(structure: Structure) -> float:
    """Total energy, eV: a screened attraction of unlike atoms and repulsion of like ones, cut off at 4 Å."""
    total = sum(ATOMIC_ENERGIES[element] for element in structure.elements)
    for center in range(structure.n_atoms):
        for neighbor in reference.neighbors(structure, center, PARAMETERS.cutoff):
            first, second = sorted((structure.elements[center], neighbor.element))
            cut = reference.cutoff_function(neighbor.distance, PARAMETERS.cutoff)
            total += 0.5 * _STRENGTHS[first, second] * float(np.exp(-0.5 * neighbor.distance)) * cut
    return total


def _pairs(structure: Structure) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Each center with each of its neighbors: where the neighbor is, Å, and the force on the center, eV/Å."""
    cutoff = PARAMETERS.cutoff
    for center in range(structure.n_atoms):
        for neighbor in reference.neighbors(structure, center, cutoff):
            first, second = sorted((structure.elements[center], neighbor.element))
            r = neighbor.distance
            slope = -0.5 * reference.cutoff_function(r, cutoff) - 0.5 * np.pi / cutoff * np.sin(
                np.pi * r / cutoff
            )
            force = _STRENGTHS[first, second] * float(np.exp(-0.5 * r)) * slope
            yield center, neighbor.vector, force * neighbor.vector / r


def with_forces(structure: Structure) -> Structure:
    """The structure with the forces that belong to `pair_energy`, eV/Å."""
    forces = np.zeros((structure.n_atoms, 3))
    for center, _, force in _pairs(structure):
        forces[center] += force
    return replace(structure, forces=forces)


def with_stress(structure: Structure) -> Structure:
    """The structure with the stress that belongs to `pair_energy`, eV/Å³."""
    virial = np.zeros((3, 3))
    for _, vector, force in _pairs(structure):
        virial += 0.5 * np.outer(force, vector)
    return replace(structure, stress=virial / abs(np.linalg.det(structure.cell)))


@lru_cache(maxsize=4)
def structures(n: int = 24, seed: int = 0) -> tuple[Structure, ...]:
    """Skew crystals of four to eight atoms, at least one of each element; `structure0001` and so on."""
    rng = np.random.default_rng(seed)
    sites = np.array(list(itertools.product(range(2), repeat=3)), dtype=float)
    made = []
    for number in range(1, n + 1):
        n_atoms = int(rng.integers(4, 9))
        elements = ("Ti", "O", *map(str, rng.choice(["Ti", "O"], n_atoms - 2)))
        cell = 2.0 * _SPACING * (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3)))
        positions = sites[rng.permutation(8)[:n_atoms]] / 2.0 @ cell
        positions += rng.uniform(-_SHIFT, _SHIFT, positions.shape)
        name = f"structure{number:04d}"
        bare = Structure(name, elements, positions, cell, file=f"{name}.xsf")
        made.append(Structure(name, elements, positions, cell, energy=pair_energy(bare), file=bare.file))
    return tuple(made)


def write_files(directory: Path, chosen: Sequence[Structure]) -> list[Path]:
    """One XSF file for each structure."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{structure.name}.xsf" for structure in chosen]
    for path, structure in zip(paths, chosen, strict=True):
        path.write_text(write_xsf(structure, decimals=12), encoding="utf-8")
    return paths


def no_pool(_workers: int) -> Executor:
    raise AssertionError("expected no pool")


def extracted_project(
    root: Path,
    parameters: ParameterSet = PARAMETERS,
    chosen: Sequence[Structure] | None = None,
    groups: Sequence[str] | None = None,
) -> Project:
    """A project with parameters and structures."""
    project = Project.create(root, parameters)
    write_store(
        project.structures_file,
        structures() if chosen is None else chosen,
        groups=groups,
        reference_energies=ATOMIC_ENERGIES,
    )
    return project


def small_project(
    root: Path,
    parameters: ParameterSet = PARAMETERS,
    chosen: Sequence[Structure] | None = None,
    groups: Sequence[str] | None = None,
) -> Project:
    """A project with parameters, structures and features."""
    project = extracted_project(root, parameters, chosen, groups)
    compute_features(project, jobs=1, make_executor=no_pool)
    return project


def features_bytes(project: Project) -> bytes:
    """The bits of all features."""
    manifest = Manifest.read(project.features_manifest)
    return b"".join(block.tobytes() for block in StoredFeatures(project.features_directory, manifest))


@lru_cache(maxsize=1)
def structures_with_forces() -> tuple[Structure, ...]:
    """As `structures`, but the third one has no forces."""
    return tuple(s if k == 2 else with_forces(s) for k, s in enumerate(structures()))


@lru_cache(maxsize=1)
def structures_with_stress() -> tuple[Structure, ...]:
    """As `structures_with_forces`, with stresses, but of the fifth one and every fourth from there."""
    return tuple(s if k % 4 == 0 and k else with_stress(s) for k, s in enumerate(structures_with_forces()))


def project_with_derivatives(root: Path, parameters: ParameterSet = PARAMETERS) -> Project:
    """A project with parameters, structures with forces, features and their derivatives."""
    project = small_project(root, parameters, structures_with_forces())
    differentiate(project, jobs=1, make_executor=no_pool)
    return project


@lru_cache(maxsize=8)
def _trained(changes: str) -> Path:
    from tio2nn.workflow.train import train

    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    parameters = PARAMETERS.with_overrides(**eval(changes))
    with pytest.MonkeyPatch.context() as context:
        # the first test that asks for it may have shards of its own size
        context.setattr(feature_store, "ATOMS_PER_SHARD", ATOMS_PER_SHARD)
        project = small_project(root / "project", parameters)
        train(project, parameters, jobs=1)
    return project.root


def trained_project(root: Path, **changes: Any) -> Project:
    """A copy of a trained project; each one is trained once for all tests of a run.

    Args:
        root: a directory that does not exist.
        changes: as for `ParameterSet.with_overrides`.
    """
    shutil.copytree(_trained(repr(changes)), root)
    return Project(root)
