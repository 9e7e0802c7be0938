from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from projects import PARAMETERS, no_pool, small_project, structures_with_forces

from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.train import train


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_whether_forces_are_fitted_in_training_is_recorded(tmp_path: Path, sign: float) -> None:
    training = {"epochs": 60, "batch_size": 4, "forces": True, "members": 1}
    structures = [
        replace(s, forces=None if s.forces is None else sign * s.forces) for s in structures_with_forces()
    ]
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(training=training), structures)
    differentiate(project, jobs=1, make_executor=no_pool)
    facts = train(project, jobs=1).facts
    assert facts["fits_energies_in_training"]
    assert facts["fits_forces_in_training"] == (sign > 0.0)
