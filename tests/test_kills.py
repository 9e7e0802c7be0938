"""Commands that are killed at random moments, and started again until they end.

`TIO2NN_KILLS` is the number of kills of each command; few by default, for the sake of time.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import end, start
from projects import (
    PARAMETERS,
    extracted_project,
    features_bytes,
    small_project,
    structures_with_forces,
    write_files,
)

from tio2nn.io.jacobians import JacobianLayout, open_jacobian
from tio2nn.io.store import read_store
from tio2nn.potential import Potential
from tio2nn.project import Project

N_KILLS = int(os.environ.get("TIO2NN_KILLS", "0"))

SLOW_SECONDS = 5.0  # of a command that loads TensorFlow, perhaps in several processes: one kill has to do

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


def jacobian_of(project: Project) -> object:
    layout = JacobianLayout.read(project.jacobian_table)
    return np.array(open_jacobian(project.features_directory, layout)).tobytes(), features_of(project)


def trials_of(project: Project) -> object:
    """Without the times that trials took."""
    header, *rows = (line.split(",") for line in text_of(project.trials_file).splitlines())
    kept = [k for k, name in enumerate(header) if "seconds" not in name]
    return [[row[k] for k in kept] for row in rows]


def potential_of(project: Project) -> object:
    potential = Potential.load(project.potential_file)
    layers = [layer for member in potential.members for net in member for layer in net]
    return (
        [(layer.kernel.tobytes(), layer.bias.tobytes()) for layer in layers],
        potential.ranges.tobytes(),
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


TRAINING = ("--epochs", 400, "--members", 2)
COMMANDS: dict[str, tuple[Callable[[Path], Project], tuple[object, ...], Content]] = {
    "extract": (empty, ("extract", "files"), structures_of),
    "featurize": (extracted, ("featurize", "-j", 2), features_of),
    "featurize with forces": (extracted, ("featurize", "--forces", "-j", 2), jacobian_of),
    "tune": (small_project, ("tune", "--max-trials", 3, "--epochs", 2, "-j", 2), trials_of),
    "train": (small_project, ("train", *TRAINING, "-j", 1), potential_of),
    "train side by side": (small_project, ("train", *TRAINING, "-j", 2), potential_of),
    "run": (empty, ("run", "files", "-j", 1), evaluation_of),
}


def run_to_the_end(here: Path, arguments: tuple[object, ...], root: str) -> float:
    """Seconds."""
    begin = time.monotonic()
    code, _, err = end(start(here, *arguments, "-C", root))
    assert code == 0, err
    return time.monotonic() - begin


@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_killed_ends_with_the_bits_of_what_was_not(tmp_path: Path, name: str) -> None:
    make, arguments, content = COMMANDS[name]
    made = make(tmp_path / "made")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(made.root, undisturbed)
    shutil.copytree(made.root, killed)
    seconds = run_to_the_end(tmp_path, arguments, "undisturbed")
    expected = content(Project(undisturbed))
    chance = random.Random(name)
    n_kills = N_KILLS or (1 if seconds > SLOW_SECONDS else 3)
    for k in range(n_kills):
        if k % 4 == 3:  # most kills hit what an earlier one left, some a beginning
            shutil.rmtree(killed)
            shutil.copytree(made.root, killed)
        process = start(tmp_path, *arguments, "-C", "killed")
        try:
            process.communicate(timeout=chance.uniform(0.1, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if k % 4 == 2 or k == n_kills - 1:
            run_to_the_end(tmp_path, arguments, "killed")
            assert content(Project(killed)) == expected
