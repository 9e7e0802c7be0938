"""Energies of the training set that a fit misses by far are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from projects import PARAMETERS, extracted_project, structures, with_forces

from tio2nn.cli.fit_lines import missed_line
from tio2nn.potential.potential import Potential
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.split import read_parts
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.missed_energies import stand_apart
from tio2nn.workflow.train import train

MOVED = {"structure0007": 0.4, "structure0032": -0.5}  # eV/atom; both are in the training set
SETTINGS = PARAMETERS.with_overrides(training={"forces": True, "epochs": 150, "batch_size": 4})


def project_of(root: Path, moved: Mapping[str, float], weight_of_moved: float = 1.0) -> Project:
    """Sixty structures with forces, some energies moved by so many eV/atom."""
    chosen = []
    for structure in structures(60):
        assert structure.energy is not None
        energy = structure.energy + moved.get(structure.name, 0.0) * structure.n_atoms
        weight = weight_of_moved if structure.name in moved else 1.0
        chosen.append(with_forces(replace(structure, energy=energy, weight=weight)))
    project = extracted_project(root, SETTINGS, chosen)
    featurize(project, jobs=1)
    differentiate(project, jobs=1)
    return project


def test_wrong_energies_are_named_with_what_they_are_missed_by(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", MOVED)
    _, err = invoke("train", "-C", project.root, "-j", "1")
    missed = json.loads(project.training_metrics_file.read_text())["missed_energies_meV_per_atom"]
    parts = read_parts(project.split_file)
    assert [parts[name] for name in MOVED] == ["train", "train"]
    assert list(missed) == ["structure0032", "structure0007"]  # the farthest first
    store, potential = read_store(project.structures_file), Potential.load(project.potential_file)
    for name, residual in missed.items():
        structure = store[store.names.index(name)]
        assert structure.energy is not None
        (predicted,) = potential.predict([structure])
        assert residual == pytest.approx(
            1000 * (predicted.energy - structure.energy) / structure.n_atoms, abs=0.01
        )
        assert residual == pytest.approx(-1000 * MOVED[name], abs=50)
    assert f"warning: {missed_line(missed, project)}" in " ".join(err.split())


@pytest.mark.parametrize("what", ["right", "without weight", "energies only"])
def test_nothing_is_named_where_nothing_contradicts_an_energy(tmp_path: Path, what: str) -> None:
    weight = 0.0 if what == "without weight" else 1.0
    project = project_of(tmp_path / "p", {} if what == "right" else MOVED, weight)
    settings = SETTINGS.with_overrides(training={"forces": what != "energies only"})
    assert train(project, settings, jobs=1).missed_energies == {}


def test_one_energy_and_many() -> None:
    project = Project(Path("p"))
    one = missed_line({"a": -24.4}, project)
    assert "misses 1 energy of its training set" in one
    assert "(meV/atom: a by 24): check that this calculation" in one
    assert one.endswith("a weight of 0 in p/energies.csv leaves it out")
    several = missed_line({"a": 31.2, "b": -27.0, "c": 9.0, "d": 8.0}, project)
    assert "(meV/atom: a by 31, b by 27, c by 9, ...; all in p/model/metrics.json)" in several
    assert several.endswith("leaves them out")


@pytest.mark.parametrize(
    ("residuals", "expected"),
    [
        pytest.param([0.2] * 30 + [28.0, 31.0], [28.0, 31.0], id="apart"),
        pytest.param([0.2] * 30 + [9.0, 28.0, 31.0], [9.0, 28.0, 31.0], id="three apart"),
        pytest.param([0.2] * 30 + [7.0, 28.0, 31.0], [28.0, 31.0], id="one between"),
        pytest.param([0.4] * 30 + [2.0, 5.0, 9.0, 17.0], [], id="a long tail"),
        pytest.param([0.1] * 30 + [2.0, 5.0, 9.0, 17.0], [9.0, 17.0], id="a tail that is too long"),
        pytest.param([0.01] * 30 + [4.0, 4.5], [], id="small differences"),
        pytest.param([0.2] * 20 + [30.0] * 10, [30.0] * 10, id="a third, but far"),
        pytest.param([0.6] * 20 + [30.0] * 10, [], id="a third, less far"),
        pytest.param([0.0] * 30 + [30.0], [30.0], id="one that all others are exact beside"),
    ],
)
def test_what_stands_apart(residuals: list[float], expected: list[float]) -> None:
    sizes = np.random.default_rng(0).permutation(residuals)
    assert sorted(sizes[stand_apart(sizes, np.ones(len(sizes)))]) == expected
    assert sorted(sizes[stand_apart(-sizes, np.full(len(sizes), 0.3))]) == expected


def test_weights_tell_what_is_meant_to_be_missed() -> None:
    residuals = np.array([0.2] * 30 + [28.0, 31.0])
    found = [
        np.flatnonzero(stand_apart(residuals, np.array(weights))).tolist()
        for weights in (
            [1.0] * 31 + [0.0],
            [1.0] * 30 + [1e-4] * 2,
            [1.0] * 15 + [0.0] * 15 + [1.0, 1.0],  # 17 structures
            [1.0] * 22 + [0.0] * 10,
        )
    ]
    assert found == [[30], [], [], []]
    # structures without weight are no part of the median, and 4 meV/atom are not worth a look whatever the weight
    assert not stand_apart(np.array([1.0] * 20 + [9.0] + [0.0] * 40), np.repeat([1.0, 0.0], [21, 40])).any()
    assert not stand_apart(np.array([0.01] * 30 + [4.0]), np.array([1.0] * 30 + [9.0])).any()
