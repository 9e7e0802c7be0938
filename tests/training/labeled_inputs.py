"""What a fit to two dozen structures starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from projects import PARAMETERS, small_project, structures

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.freshness import Snapshot
from tio2nn.structures.split import Split
from tio2nn.structures.structure import Structure
from tio2nn.training.data import Inputs, TrainingData, prepare
from tio2nn.workflow.inputs import read_inputs

N_VALIDATION, N_TEST = 3, 5
PART_OF = {
    structure.name: "test" if k < N_TEST else "validation" if k < N_TEST + N_VALIDATION else "train"
    for k, structure in enumerate(structures())
}


def inputs_of(chosen: Sequence[Structure], parameters: ParameterSet = PARAMETERS) -> Inputs:
    """Structures with features, as a project would have them."""
    with tempfile.TemporaryDirectory() as directory:
        project = small_project(Path(directory) / "p", parameters, chosen)
        inputs = read_inputs(Snapshot(project), parameters)
        return replace(inputs, features=list(inputs.features))


@cache
def small_inputs() -> Inputs:
    """Of all structures; computed once."""
    return inputs_of(structures())


def split_of(inputs: Inputs, part_of: dict[str, str] = PART_OF) -> Split:
    """Structures divided as a table says."""
    return Split(inputs.store.names, tuple(part_of[name] for name in inputs.store.names))


def data(**changes: Any) -> TrainingData:
    """The data of a fit with changed parameters."""
    inputs = small_inputs()
    return prepare(inputs, PARAMETERS.with_overrides(**changes), split_of(inputs))
