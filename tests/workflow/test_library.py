"""The verbs from a script that names nothing but what they work on."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import pytest
from projects import PARAMETERS, extracted_project, structures_with_forces, write_files

from tio2nn import Potential, Project, cores
from tio2nn.parallel import workers
from tio2nn.parameters.draft import Draft
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.train import train
from tio2nn.workflow.tune import tune

# no `if __name__ == "__main__"`, as people write it
_SCRIPT = """
import json
from tio2nn import Project
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.train import train
from tio2nn.workflow.tune import tune

project = Project("p")
print(json.dumps([
    extract(project, "files").n_structures,
    (summary := featurize(project)).n_computed,
    summary.derivatives.n_computed,
    len(tune(project).ranked),
    train(project).n_train,
    evaluate(project).metrics["n_structures"],
]))
"""
_RUN = """
from tio2nn.workflow.run import RunSettings, run
from tio2nn.workflow.status import status

summary = run(RunSettings(sources="files", directory="p", flags={"epochs": 2}))
print(summary.project.root, summary.used_all, summary.metrics["n_structures"], status("p").parts[-1].name)
"""


@pytest.mark.slow
def test_a_script_runs_every_verb_in_silence(tmp_path: Path) -> None:
    parameters = PARAMETERS.with_overrides(
        training={"epochs": 2, "forces": "auto"},
        tuning={"layers": [1], "nodes": [3], "learning_rate": [0.01], "dropout": [0.0], "epochs": 1},
    )
    write_files(tmp_path / "files", structures_with_forces())
    project = Project.create(tmp_path / "p", parameters)
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    extracted, featurized, differentiated, trials, trained, tested = json.loads(line)
    assert (extracted, featurized, differentiated, trials) == (24, 24, 23, 1)
    assert (trained, tested) == (21, 2)
    assert Potential.load(project.potential_file).elements == ("Ti", "O")


@pytest.mark.slow
def test_a_script_runs_everything_in_silence(tmp_path: Path) -> None:
    write_files(tmp_path / "files", structures_with_forces())
    Project.create(tmp_path / "p", PARAMETERS.with_overrides(training={"forces": "auto"}))
    script = tmp_path / "script.py"
    script.write_text(_RUN, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    # TensorFlow writes to stderr
    assert (ended.stdout, ended.returncode) == ("p True 2 evaluation\n", 0), ended.stderr


@pytest.mark.parametrize(
    ("forces", "expected"), [(None, 23), (True, 23), (False, None)], ids=["as set", "forces", "energies"]
)
def test_featurize_prepares_what_the_fit_needs(
    tmp_path: Path, forces: bool | None, expected: int | None
) -> None:
    parameters = PARAMETERS.with_overrides(training={"forces": "auto"})
    project = extracted_project(tmp_path, parameters, structures_with_forces())
    summary = featurize(project.root, forces=forces, jobs=1)
    assert summary.n_computed == 24
    derivatives = summary.derivatives
    assert (None if derivatives is None else derivatives.n_computed) == expected
    assert project.jacobian_table.exists() == (expected is not None)


def test_extract_chooses_functions_where_a_project_leaves_them_open(tmp_path: Path) -> None:
    write_files(tmp_path / "files", structures_with_forces())
    project = Project.create(tmp_path / "p", Draft.new())
    summary = extract(project, tmp_path / "files")
    assert dict(summary.choices)["cutoff"]
    assert project.parameters().elements == ("Ti", "O")
    assert featurize(project, jobs=1).n_features == project.parameters().n_features
    # they are chosen once
    assert extract(project, tmp_path / "files").choices == ()


def test_extract_takes_the_elements_of_the_project(tmp_path: Path) -> None:
    write_files(tmp_path / "files", structures_with_forces())
    project = Project.create(tmp_path / "p", Draft.new(["Ti"]))
    summary = extract(project, tmp_path / "files")
    assert (summary.n_structures, summary.foreign_elements) == (0, ("O",))


@pytest.mark.parametrize(
    ("verb", "make_executor"),
    [
        (featurize, workers.kernel_workers),
        (differentiate, workers.kernel_workers),
        (tune, workers.trial_workers),
        (train, None),
    ],
    ids=["featurize", "differentiate", "tune", "train"],
)
def test_local_processes_or_threads_work_unless_others_are_named(
    verb: Callable[..., object], make_executor: Callable[[int], Executor] | None
) -> None:
    defaults = inspect.signature(verb).parameters
    assert defaults["make_executor"].default is make_executor
    assert defaults["jobs"].default is None


def test_as_many_processes_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert cores.available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores.available_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available_cores() == 1
