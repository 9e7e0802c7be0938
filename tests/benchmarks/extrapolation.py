"""Whether errors grow where a potential warns that atoms are far from all that it was trained on.

PROJECT comes from `tio2nn run sample_data --forces -C PROJECT`, the program for the labels from
`pip install '.[sample-data]'`. The benchmark takes the crystals of sample_data, compresses, shears and melts them, more
and more, labels them as sample_data/make.py does (GFN1-xTB), and compares. With `--unseen` it needs no labelling: it
takes the structures of the project that training did not see, its test set and those that the split leaves out, as it
does those above 1 eV/atom of the TiO2 set with holdout-600.csv.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms
from benchmarks.record import Row
from places import SAMPLE_DATA

from tio2nn.evaluation.error_plots import plot_extrapolation
from tio2nn.evaluation.metrics import correlation, force_errors_by_distance, force_metrics
from tio2nn.evaluation.residuals import EvaluatedForces
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE, Prediction
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.split import read_parts
from tio2nn.structures.structure import Structure
from tio2nn.workflow.predict import predict_stream

if TYPE_CHECKING:
    import make  # the script that makes sample_data

COMPRESSIONS = (0.97, 0.94, 0.91, 0.88, 0.85)  # factors on all edges; training saw 0.95 and more
SHEARS = (0.05, 0.1, 0.2, 0.3, 0.4)  # of one axis along another; training saw 0.03 (standard deviation)
MELTS = (0.1, 0.2, 0.3, 0.4, 0.5)  # Å, displacement of a coordinate; training saw 0.15 at most


class Labelled(NamedTuple):
    """A structure with energy and forces, and what was done to it."""

    kind: str
    structure: Structure


def maker() -> ModuleType:
    """The script that makes sample_data, which imports what makes the labels."""
    if str(SAMPLE_DATA) not in sys.path:
        sys.path.insert(0, str(SAMPLE_DATA))
    return importlib.import_module("make")


def compressed(atoms: Atoms, factor: float, _: np.random.Generator) -> None:
    atoms.set_cell(factor * atoms.cell[:], scale_atoms=True)


def sheared(atoms: Atoms, angle: float, _: np.random.Generator) -> None:
    strain = np.eye(3)
    strain[0, 1] = angle
    atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)


def molten(atoms: Atoms, amplitude: float, random: np.random.Generator) -> None:
    """Displaced at random, as far as no two atoms come nearer than the labels allow."""
    make = maker()
    start = atoms.positions.copy()
    for _ in range(make.MAX_DRAWS):
        atoms.positions = start + random.normal(0.0, amplitude, start.shape)
        if make.min_distance(atoms) > make.MIN_DISTANCE:
            return
    # dense cells have no room for such disorder all at once: atom by atom
    atoms.positions = start
    for k in random.permutation(len(atoms)):
        for _ in range(make.MAX_DRAWS):
            atoms.positions[k] = start[k] + random.normal(0.0, amplitude, 3)
            if make.min_distance(atoms) > make.MIN_DISTANCE:
                break
        else:
            atoms.positions[k] = start[k]


KINDS: dict[str, tuple[Callable[[Atoms, float, np.random.Generator], None], tuple[float, ...]]] = {
    "compressed": (compressed, COMPRESSIONS),
    "sheared": (sheared, SHEARS),
    "molten": (molten, MELTS),
}


def candidates() -> Iterator[make.Candidate]:
    make = maker()
    for phase in make.PHASES:
        crystal, repeat = make.template(phase, phase.small[-1])
        for kind, (deform, strengths) in KINDS.items():
            for strength in strengths:
                atoms = crystal.copy()
                deform(atoms, strength, np.random.default_rng([len(phase.name), int(1000 * strength)]))
                yield make.Candidate(phase.name, f"{kind} {strength}", strength, atoms, repeat)


def deformed(jobs: int) -> Iterator[Labelled]:
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs) as pool:
        for found in pool.map(maker().label, candidates()):
            if found.rejected:
                print(f"left out: {found.phase} {found.kind}: {found.rejected}", file=sys.stderr)
                continue
            structure = Structure(
                f"{found.phase} {found.kind}",
                tuple(found.atoms.get_chemical_symbols()),
                found.atoms.positions,
                found.atoms.cell[:],
                energy=found.energy,
                forces=found.forces,
            )
            yield Labelled(found.kind, structure)


def unseen(project: Project) -> Iterator[Labelled]:
    store, parts = read_store(project.structures_file), read_parts(project.split_file)
    kinds = {"test": "test set", "": "left out by the split"}
    for k, name in enumerate(store.names):
        if (part := parts.get(name, "")) in kinds and store.has_forces[k]:
            yield Labelled(kinds[part], store[k])


def forces_of(predictions: Sequence[Prediction]) -> EvaluatedForces:
    return EvaluatedForces(
        np.concatenate([p.structure.forces for p in predictions if p.structure.forces is not None]),
        np.concatenate([p.forces for p in predictions if p.forces is not None]),
        None,
        np.concatenate([p.distances for p in predictions]),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--unseen", action="store_true", help="structures of the project itself")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes for the labels")
    parser.add_argument("--figure", type=Path, metavar="FILE")


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Kinds of structures, then ranges of the distance of atoms, then how both go together."""
    project = Project(arguments.project)
    potential = Potential.load(project.potential_file)
    chosen = list(unseen(project) if arguments.unseen else deformed(arguments.jobs))
    structures = [replace(labeled.structure, file=labeled.structure.name) for labeled in chosen]
    predictions = [p for p in predict_stream(potential, structures, forces=True) if isinstance(p, Prediction)]
    for kind in dict.fromkeys(labeled.kind for labeled in chosen):
        own = [p for p, labeled in zip(predictions, chosen, strict=True) if labeled.kind == kind]
        energy = np.mean([abs(p.energy - (p.structure.energy or 0.0)) / p.structure.n_atoms for p in own])
        true, predicted, *_ = forces_of(own)
        yield {
            "of": "structures",
            "kind": kind,
            "structures": len(own),
            "warned_of": float(np.mean([bool(p.extrapolations) for p in own])),
            "median_distance": float(np.median([p.distances.max() for p in own])),
            "energy_mae_meV_per_atom": 1000.0 * float(energy),
            "force_rmse_eV_per_A": force_metrics(predicted, true)["rmse_eV_per_A"],
        }
    forces = forces_of(predictions)
    for entry in force_errors_by_distance(forces.predicted, forces.true, forces.distances):
        yield {
            "of": "atoms",
            "from_distance": entry["from_distance"],
            "to_distance": entry["to_distance"],
            "atoms": entry["n_atoms"],
            "force_rmse_eV_per_A": entry["rmse_eV_per_A"],
        }
    lengths = np.linalg.norm(forces.predicted - forces.true, axis=1)
    yield {
        "of": "distance and error",
        "rank_correlation": correlation(forces.distances, lengths)["spearman"],
        "warned_of_beyond": EXTRAPOLATION_DISTANCE,
    }
    if arguments.figure is not None:
        plot_extrapolation(forces, arguments.figure)
