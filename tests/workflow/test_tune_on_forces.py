"""A search is on forces where the fit will be."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import PARAMETERS, project_with_derivatives
from searches import Here, invented, table

from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import Outcome
from tio2nn.workflow.tune import tune


@pytest.mark.usefixtures("eager")
def test_a_search_is_on_forces_where_the_fit_will_be(tmp_path: Path) -> None:
    """Trials read the derivatives where they lie; what is left to the recipe follows from the training set."""
    parameters = PARAMETERS.with_overrides(
        recipe="auto",
        training={"forces": "auto", "epochs": 3, "members": None},
        tuning=dict.fromkeys(("layers", "nodes", "learning_rate", "dropout", "epochs")) | {"max_trials": 2},
    )
    project = project_with_derivatives(tmp_path / "p", parameters)
    sizes: list[int] = []

    def run(task: TrialTask) -> Outcome:
        sizes.append(task.data.stat().st_size)
        return run_trial(task)

    here = Here(run)
    summary = tune(project, parameters, jobs=1, make_executor=lambda _: here)
    assert [task.training.forces for task in here.tasks] == [True, True]
    assert [task.training.epochs for task in here.tasks] == [1, 1]
    assert max(sizes) < next(project.features_directory.glob("jacobian-*.f32")).stat().st_size
    for trial in summary.ranked:
        energies, forces = trial.validation_rmse_meV_per_atom, trial.validation_force_rmse_eV_per_A
        assert energies is not None
        assert forces is not None
        assert forces > 0
        assert trial.score == pytest.approx((energies * forces) ** 0.5)
    assert {row["validation_force_rmse_eV_per_A"] for row in table(project.trials_file)} == {
        str(trial.validation_force_rmse_eV_per_A) for trial in summary.ranked
    }
    assert summary.best["validation_force_rmse_eV_per_A"] is not None
    # another search on the same, but on energies alone, takes nothing over
    plain = parameters.with_overrides(training={"forces": False})
    assert tune(project, plain, jobs=1, make_executor=lambda _: Here(invented)).n_known == 0
