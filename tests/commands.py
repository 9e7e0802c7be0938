"""The commands that write into a project: what each starts from, and the bits that it ends with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from projects import (
    PARAMETERS,
    extracted_project,
    features_bytes,
    small_project,
    structures,
    structures_with_forces,
    trained_project,
    write_files,
)

from tio2nn.project.jacobian_store import JacobianLayout, open_jacobian
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store

Content = Callable[[Project], object]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def structures_of(project: Project) -> object:
    store = read_store(project.structures_file)
    return (
        [array.tobytes() for array in (store.positions, store.forces, store.energies, store.offsets)],
        store.names,
        text_of(project.energies_file),
        text_of(project.rejected_file),
    )


def features_of(project: Project) -> object:
    return features_bytes(project), sorted(path.name for path in project.features_directory.iterdir())


def derivatives_of(project: Project) -> bytes:
    layout = JacobianLayout.read(project.jacobian_table)
    return np.array(open_jacobian(project.features_directory, layout)).tobytes()


def jacobian_of(project: Project) -> object:
    return derivatives_of(project), features_of(project)


def trials_of(project: Project) -> object:
    """Without the times that trials took."""
    header, *rows = (line.split(",") for line in text_of(project.trials_file).splitlines())
    kept = [k for k, name in enumerate(header) if "seconds" not in name]
    return [[row[k] for k in kept] for row in rows]


def weights_of(project: Project) -> object:
    """All numbers of the potential; its header tells when it was made, and by which command."""
    with np.load(project.potential_file, allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files if name != "header"}


def potential_of(project: Project) -> object:
    return (
        weights_of(project),
        text_of(project.split_file),
        sorted(path.name for path in project.model_directory.iterdir()),
    )


def evaluation_of(project: Project) -> object:
    return text_of(project.residuals_file), potential_of(project), structures_of(project)


def empty(root: Path) -> Project:
    write_files(root.parent / "files", structures_with_forces())
    return Project.create(root, PARAMETERS)


def extracted(root: Path) -> Project:
    return extracted_project(root, chosen=structures_with_forces())


def with_potential(root: Path) -> Project:
    """A project, and a potential of other structures in the folder that it lies in."""
    before = trained_project(root.parent / "before")
    shutil.copyfile(before.potential_file, root.parent / "before.npz")
    return small_project(root, PARAMETERS, structures(16, seed=7))


TRAINING = ("--epochs", 400, "--members", 2)
COMMANDS: dict[str, tuple[Callable[[Path], Project], tuple[object, ...], Content]] = {
    "extract": (empty, ("extract", "files"), structures_of),
    "featurize": (extracted, ("featurize", "-j", 2), features_of),
    "featurize with forces": (extracted, ("featurize", "--forces", "-j", 2), jacobian_of),
    "tune": (small_project, ("tune", "--max-trials", 3, "--epochs", 2, "-j", 2), trials_of),
    "train": (small_project, ("train", *TRAINING, "-j", 1), potential_of),
    "train from a potential": (
        with_potential,
        ("train", "--from", "before.npz", "--epochs", 400, "-j", 1),
        potential_of,
    ),
    "train with a teacher": (
        with_potential,
        ("train", "--distill", "before.npz", "--epochs", 200, "-j", 1),
        potential_of,
    ),
    "train side by side": (small_project, ("train", *TRAINING, "-j", 2), potential_of),
    "run": (empty, ("run", "files", "-j", 1), evaluation_of),
}
