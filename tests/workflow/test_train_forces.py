"""Training on forces, from a project with derivatives to a potential."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    no_pool,
    project_with_derivatives,
    small_project,
    structures_with_forces,
    with_forces,
    write_files,
)
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.errors import MissingInputError, StaleError
from tio2nn.parallel.workers import member_workers
from tio2nn.parameters.parameter_set import RadialFunction
from tio2nn.parameters.presets import preset
from tio2nn.potential.potential import Potential
from tio2nn.project.jacobian_store import JacobianLayout
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import read_parts
from tio2nn.training import fit as training
from tio2nn.training.history import Epoch
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.settings import training_parameters
from tio2nn.workflow.status import status
from tio2nn.workflow.train import TrainListener, train

FORCES = PARAMETERS.with_overrides(training={"forces": True, "epochs": 6})


class KilledError(Exception):
    """Ends a training in the middle."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_with_derivatives(tmp_path / "p", FORCES)


def errors_of_part(project: Project, part: str) -> np.ndarray:
    """Errors of all force components that the potential makes, by the kernels that predict."""
    parts = read_parts(project.split_file)
    chosen = [
        s for s in read_store(project.structures_file) if parts[s.name] == part and s.forces is not None
    ]
    found = Potential.load(project.potential_file).predict(chosen, forces=True)
    return np.concatenate([(p.forces - s.forces).ravel() for p, s in zip(found, chosen, strict=True)])


def test_errors_of_the_fit_are_those_of_the_potential(project: Project) -> None:
    """The stored derivatives and the network's graph agree with the kernels that predict."""
    summary = train(project, FORCES)
    errors = errors_of_part(project, "validation")
    assert summary.validation_force_rmse == pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=1e-4)
    history = pd.read_csv(project.history_file)
    assert history["validation_force_mae_eV_per_A"].iloc[-1] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert json.loads(project.training_metrics_file.read_text())["validation_force_rmse_eV_per_A"] > 0


@pytest.mark.slow
def test_forces_become_better_than_those_of_a_fit_to_energies(tmp_path: Path) -> None:
    rmse = {}
    for forces in (False, True):
        own = project_with_derivatives(tmp_path / str(forces), PARAMETERS)
        train(own, PARAMETERS.with_overrides(training={"forces": forces, "epochs": 60}))
        rmse[forces] = float(np.sqrt(np.mean(errors_of_part(own, "test") ** 2)))
    assert rmse[True] < 0.8 * rmse[False]


def test_evaluate_reports_forces(project: Project) -> None:
    train(project, FORCES)
    summary = evaluate(project)
    errors = errors_of_part(project, "test")
    forces = dict(summary.metrics["forces"])
    for entries in ("by_distance_of_atom", "by_element"):
        assert sum(entry["n_atoms"] for entry in forces.pop(entries)) == len(errors) // 3
    assert forces == {
        "rmse_eV_per_A": pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=1e-6),
        "mae_eV_per_A": pytest.approx(float(np.abs(errors).mean()), rel=1e-6),
        "max_eV_per_A": pytest.approx(float(np.abs(errors).max()), rel=1e-6),
    }
    assert project.forces_figure.exists()
    assert not project.spread_figure.exists()


@pytest.mark.slow
def test_evaluate_of_a_committee_compares_errors_with_the_spread(tmp_path: Path) -> None:
    parameters = FORCES.with_overrides(training={"members": 2})
    own = project_with_derivatives(tmp_path / "p", parameters)
    train(own, parameters)
    summary = evaluate(own)
    assert set(summary.metrics["spread"]) == {"energy", "forces"}
    assert own.spread_figure.exists()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A checkpoint after each epoch."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)
    return


@pytest.mark.slow
@pytest.mark.usefixtures("always")
def test_a_training_on_forces_that_was_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    parameters = FORCES.with_overrides(training={"force_fraction": 0.7})
    whole, killed = (project_with_derivatives(tmp_path / name, parameters) for name in ("whole", "killed"))
    train(whole, parameters)

    def on_epoch(_: int, epoch: Epoch) -> None:
        if epoch.epoch == 4:
            raise KilledError

    with pytest.raises(KilledError):
        train(killed, parameters, listener=TrainListener(on_epoch=on_epoch))
    train(killed, parameters)
    first, second = (Potential.load(p.potential_file) for p in (whole, killed))
    for one, other in zip(first.members[0], second.members[0], strict=True):
        for layer, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(layer.kernel, same.kernel)


def test_derivatives_that_are_missing_or_of_other_functions_are_refused(tmp_path: Path) -> None:
    without = small_project(tmp_path / "without", FORCES, structures_with_forces())
    with pytest.raises(
        MissingInputError, match=r'no derivatives in .*; run "tio2nn featurize -C .* --forces" first'
    ):
        train(without, FORCES)
    other = FORCES.with_overrides(radial=[{"eta": 0.3}])
    assert other.radial == (RadialFunction(0.3),)
    stale = project_with_derivatives(tmp_path / "stale", FORCES)
    stale.parameters_file.write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(StaleError, match=r"the features in .* were made with another parameter set"):
        train(stale, other)


def test_a_model_is_stale_when_its_forces_are_others(project: Project) -> None:
    train(project, FORCES)
    evaluate(project)
    assert status(project).advice.startswith("nothing to do")
    store = project.structures_file
    with np.load(store) as arrays:
        content = dict(arrays)
    content["forces"] = content["forces"] + 1.0
    np.savez(store, **content)
    assert "trained on other forces" in next(p.what for p in status(project).parts if p.name == "model")


def test_the_command_shows_errors_of_forces(project: Project) -> None:
    done = CliRunner().invoke(app, ["train", "-C", str(project.root), "--epochs", "2"])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "meV/atom; " in words
    assert "eV/Å" in words
    shown = CliRunner().invoke(app, ["evaluate", "-C", str(project.root)])
    assert "force component, eV/Å" in shown.output


@pytest.mark.slow
def test_members_fitted_side_by_side_have_the_bits_of_those_fitted_in_company(
    tmp_path: Path,
) -> None:
    parameters = FORCES.with_overrides(training={"members": 3})
    first, second = (project_with_derivatives(tmp_path / name, parameters) for name in ("first", "second"))
    heard: list[tuple[int, int]] = []
    train(first, parameters)
    train(
        second,
        parameters,
        jobs=2,
        make_executor=member_workers,
        listener=TrainListener(on_epoch=lambda member, epoch: heard.append((member, epoch.epoch))),
    )
    assert sorted(heard) == [(member, epoch) for member in (1, 2, 3) for epoch in range(1, 7)]
    one, other = (Potential.load(project.potential_file) for project in (first, second))
    for a, b in zip(one.members, other.members, strict=True):
        for subnet, same in zip(a, b, strict=True):
            for layer, twin in zip(subnet, same, strict=True):
                np.testing.assert_array_equal(layer.kernel, twin.kernel)
    assert not list(second.model_directory.glob("checkpoint*"))


def test_each_member_has_a_process_of_its_own_that_takes_its_data_with_it() -> None:
    with member_workers(1) as executor:
        assert len({executor.submit(os.getpid).result() for _ in range(2)}) == 2


def test_status_tells_of_derivatives(project: Project) -> None:
    def derivatives() -> tuple[str, str]:
        found = status(project)
        return next(part.state for part in found.parts if part.name == "derivatives"), found.advice

    assert derivatives() == ("up to date", f"next: tio2nn train -C {project.root}")
    file = project.features_directory / JacobianLayout.read(project.jacobian_table).file
    with file.open("ab") as handle:
        handle.write(b"....")
    assert derivatives() == ("broken", f"next: tio2nn featurize -C {project.root} --forces")
    differentiate(project, jobs=1, make_executor=no_pool)
    assert derivatives()[0] == "up to date"
    project.jacobian_table.unlink()
    assert derivatives() == ("missing", f"next: tio2nn featurize -C {project.root} --forces")
    project.parameters_file.write_text(PARAMETERS.to_json(), encoding="utf-8")
    assert all(part.name != "derivatives" for part in status(project).parts)


def test_derivatives_of_other_structures_with_forces_are_refused_even_if_they_are_as_many(
    project: Project,
) -> None:
    chosen = list(structures_with_forces())
    twin = next(k for k, s in enumerate(chosen) if k != 2 and s.n_atoms == chosen[2].n_atoms)
    chosen[2], chosen[twin] = with_forces(chosen[2]), replace(chosen[twin], forces=None)
    write_store(project.structures_file, chosen, reference_energies=ATOMIC_ENERGIES)
    command = f'run "tio2nn featurize -C {project.root} --forces" again'
    with pytest.raises(StaleError, match=re.escape(command)):
        train(project, FORCES)
    assert next(part.state for part in status(project).parts if part.name == "derivatives") == "stale"
    differentiate(project, jobs=1, make_executor=no_pool)
    train(project, FORCES)


@pytest.mark.slow
def test_run_with_forces_does_every_step(tmp_path: Path) -> None:
    files = write_files(tmp_path / "files", structures_with_forces())
    Project.create(tmp_path / "p", FORCES)
    done = CliRunner().invoke(
        app, ["run", str(tmp_path / "files"), "-C", str(tmp_path / "p"), "--forces", "--json"]
    )
    assert done.exit_code == 0, done.output
    project = Project(tmp_path / "p")
    assert files
    assert json.loads(project.evaluation_metrics_file.read_text())["forces"]["rmse_eV_per_A"] > 0
    again = CliRunner().invoke(app, ["run", str(tmp_path / "files"), "-C", str(tmp_path / "p"), "--forces"])
    assert "training: nothing to do" in " ".join(again.output.split())


def test_forces_as_a_flag_mean_the_recipe_of_that_name_unless_the_parameters_have_their_own(
    tmp_path: Path,
) -> None:
    plain, own = Project.create(tmp_path / "plain", PARAMETERS), Project.create(tmp_path / "own", FORCES)
    chosen = training_parameters(plain, forces=True)
    assert chosen.training.forces is True
    assert chosen.recipe == "forces"
    # what stands in the parameters is the user's own
    assert chosen.network.hidden_layers == PARAMETERS.network.hidden_layers
    assert training_parameters(own, forces=True) == FORCES
    quick = training_parameters(plain, "quick", forces=True)
    assert (quick.recipe, quick.training.forces) == ("quick", True)
    assert not training_parameters(plain).training.forces
    assert training_parameters(own, forces=False).training.forces is False
    new = Project.create(tmp_path / "new", preset("artrith-urban-2016"))
    for forces in (True, False):
        asked = training_parameters(new, forces=forces)
        assert (asked.recipe, asked.training.forces) == ("auto", forces)
    assert training_parameters(new) == new.parameters()


_COUNTED = """
import sys
from tio2nn.cli.commands import app
from tio2nn.training.force_kernels import force_losses
try:
    app(sys.argv[1:])
except SystemExit as ended:
    print(ended.code, len(force_losses.signatures))
"""


@pytest.mark.slow
def test_the_loss_of_forces_is_compiled_once_and_said_so(tmp_path: Path) -> None:
    project = project_with_derivatives(tmp_path / "p", PARAMETERS.with_overrides(training={"forces": True}))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def weights() -> list[np.ndarray]:
        members = Potential.load(project.potential_file).members
        return [layer.kernel for member in members for subnet in member for layer in subnet]

    def train_again(jobs: int) -> list[str]:
        flags = ["train", "-C", str(project.root), "--members", "2", "--jobs", str(jobs)]
        ended = subprocess.run(
            [sys.executable, "-c", _COUNTED, *flags],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        # one function for the training and the validation set of each member
        assert ended.stdout == "0 1\n"
        return ended.stderr.splitlines()

    first = train_again(jobs=2)
    n_compiled = len(list((tmp_path / "cache").rglob("*force_losses*.nbc")))
    assert first.index("compiling the loops of the fit ...") < next(
        k for k, line in enumerate(first) if line.startswith("training on ")
    )
    assert n_compiled == 1
    of_process_that_compiled = weights()
    assert "compiling the loops of the fit ..." not in train_again(jobs=1)
    for found, expected in zip(weights(), of_process_that_compiled, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(list((tmp_path / "cache").rglob("*force_losses*.nbc"))) == 1
