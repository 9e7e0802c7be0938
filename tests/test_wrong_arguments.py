"""Functions for scripts say what they expect when they are called with something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from potentials import POTENTIAL
from projects import PARAMETERS, structures

from tio2nn import (
    InputError,
    MissingInputError,
    Project,
    ReadOptions,
    Structure,
    SymmetryCalculator,
    preset,
    read_structures,
)
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.featurize import compute_features, featurize
from tio2nn.workflow.run import RunSettings, run
from tio2nn.workflow.settings import training_parameters
from tio2nn.workflow.status import status
from tio2nn.workflow.train import train
from tio2nn.workflow.tune import tune

VERBS: list[Callable[[Any], object]] = [
    lambda project: extract(project, "sample_data"),
    featurize,
    compute_features,
    differentiate,
    tune,
    train,
    evaluate,
    status,
    training_parameters,
]
IDS = [
    "extract",
    "featurize",
    "compute_features",
    "differentiate",
    "tune",
    "train",
    "evaluate",
    "status",
    "settings",
]


@pytest.mark.parametrize("verb", VERBS, ids=IDS)
def test_a_verb_takes_the_directory_of_a_project(
    verb: Callable[[Any], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = '^no params.json in v; run "tio2nn init v" first$'
    for place in ("v", Path("v")):
        with pytest.raises(MissingInputError, match=expected):
            verb(place)
    with pytest.raises(TypeError, match=r"^project: expected a Project or the path of its directory, got 3$"):
        verb(3)


@pytest.mark.parametrize("verb", [featurize, compute_features, differentiate, tune, train])
@pytest.mark.parametrize(
    ("jobs", "error", "message"),
    [
        (-1, ValueError, "jobs: expected at least 1, got -1"),
        (0, ValueError, "jobs: expected at least 1, got 0"),
        ("2", TypeError, "jobs: expected a whole number or None, got '2'"),
        (True, TypeError, "jobs: expected a whole number or None, got True"),
        (1.5, TypeError, "jobs: expected a whole number or None, got 1.5"),
    ],
)
def test_jobs_are_a_number(
    verb: Callable[..., object], jobs: object, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        verb(Project.create(tmp_path, PARAMETERS), jobs=jobs)


def test_a_run_checks_its_settings_before_it_works(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^jobs: expected at least 1, got 0$"):
        run(RunSettings(sources="sample_data", directory=tmp_path / "p", jobs=0))
    split: Any = 3
    with pytest.raises(
        TypeError, match=r"^split: expected a SplitRequest, the path of a file, or None, got 3$"
    ):
        run(RunSettings(sources="sample_data", directory=tmp_path / "p", split=split))
    assert not (tmp_path / "p").exists()
    with pytest.raises(InputError, match=r"^nowhere.xsf: no such file or folder$"):
        run(RunSettings(sources="nowhere.xsf", directory=tmp_path / "p"))


def test_a_split_is_a_request_or_a_file(tmp_path: Path) -> None:
    split: Any = 3
    with pytest.raises(
        TypeError, match=r"^split: expected a SplitRequest, the path of a file, or None, got 3$"
    ):
        train(Project.create(tmp_path, PARAMETERS), split=split)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ReadOptions(xsf_forces="Ha/a"),
            ValueError,
            "xsf_forces: expected 'eV/A' or 'Ha/A', got 'Ha/a'",
        ),
        (lambda: ReadOptions(energy_key=3), TypeError, "energy_key: expected a key or None, got 3"),
        (
            lambda: read_structures("a.xsf", options={"energy_key": "E"}),
            TypeError,
            "options: expected ReadOptions or None, got {'energy_key': 'E'}",
        ),
        (lambda: read_structures(3), TypeError, "sources: expected a path or several paths, got 3"),
        (lambda: read_structures(None), TypeError, "sources: expected a path or several paths, got None"),
        (lambda: preset(None), TypeError, "preset: expected a name, got None"),
        (
            lambda: SymmetryCalculator("params.json"),
            TypeError,
            "parameters: expected a ParameterSet, got 'params.json'; ParameterSet.load reads a params.json",
        ),
    ],
)
def test_a_wrong_argument_is_refused_at_once(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def _atoms() -> Any:
    return structures()[0].to_ase()


NO_STRUCTURES: list[tuple[Callable[[], Any], str]] = [
    (lambda: "a.xsf", "expected a Structure, got str; read files with read_structures"),
    (lambda: Path("a.xsf"), "expected a Structure, got PosixPath; read files with read_structures"),
    (_atoms, "expected a Structure, got Atoms; convert ASE's Atoms with Structure.from_ase"),
    (
        lambda: InputError("expected atoms, got none"),
        "expected a Structure, got InputError; leave out the errors that read_structures yields",
    ),
]


@pytest.mark.parametrize(("make", "message"), NO_STRUCTURES, ids=["text", "path", "ase", "error"])
def test_what_is_no_structure_is_named(make: Callable[[], Any], message: str) -> None:
    potential = POTENTIAL
    calculator = SymmetryCalculator(PARAMETERS)
    calls: list[Callable[[Any], object]] = [
        potential.energy,
        lambda item: list(potential.predict([structures()[0], item])),
        lambda item: list(potential.predict([item], forces=True)),
        calculator,
        calculator.jacobian,
        lambda item: calculator.describe([item]),
        lambda item: list(calculator.map([item])),
    ]
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call(make())
        assert str(caught.value) == message
    with pytest.raises(TypeError, match=r"^expected a Structure, got str; read files with read_structures$"):
        list(potential.predict("a.xsf"))  # type: ignore[arg-type]


def test_a_structure_takes_lists_of_numbers() -> None:
    values: Any = ([[0, 0, 0], [0, 0, 1.2]], [[9, 0, 0], [0, 9, 0], [0, 0, 9]], [[0, 0, 1], [0, 0, -1]])
    structure = Structure("CO", ["C", "O"], values[0], values[1], forces=values[2])  # type: ignore[arg-type]
    assert structure.elements == ("C", "O")
    for found, given in zip((structure.positions, structure.cell, structure.forces), values, strict=True):
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float64
        assert found.tolist() == given
    with pytest.raises(ValueError, match=r"^positions: expected shape \(2, 3\), got \(2,\)$"):
        Structure("CO", ("C", "O"), [0, 1], values[1])  # type: ignore[arg-type]
    for wrong in ([[0, 0, 0], [1]], [["a", "b", "c"]] * 2):
        with pytest.raises(TypeError) as caught:
            Structure("CO", ("C", "O"), wrong, values[1])  # type: ignore[arg-type]
        assert str(caught.value) == f"positions: expected an array of numbers, got {wrong!r}"
