"""Fits that begin from a potential."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import PARAMETERS, no_pool, small_project, structures, structures_with_forces, trained_project
from workflow.origins import COMMITTEE, STANDSTILL, other_project, others, with_lithium

from tio2nn.errors import InputError, UsageError
from tio2nn.parallel.workers import member_workers
from tio2nn.parameters.parameter_set import ParameterSet, RadialFunction
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure
from tio2nn.training import fit as training
from tio2nn.training.data import TrainingData
from tio2nn.training.history import Epoch
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.fine_tune import read_origin, resolved_from
from tio2nn.workflow.inputs import own_split
from tio2nn.workflow.lessons import FineTuning
from tio2nn.workflow.members import fit_member, prepare_members
from tio2nn.workflow.train import TrainListener, train


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two networks, trained on 24 structures of titanium and oxygen."""
    return trained_project(tmp_path_factory.mktemp("origin") / "p", **COMMITTEE).potential_file


def forces_of(potential: Potential, chosen: Sequence[Structure]) -> np.ndarray:
    """Of structures, one after the other."""
    return np.concatenate([p.forces for p in potential.predict(chosen, forces=True) if p.forces is not None])


def predicted(file: Path, chosen: Sequence[Structure]) -> np.ndarray:
    """Energies and forces of structures, one after the other."""
    potential = Potential.load(file)
    energies = [p.energy for p in potential.predict(chosen)]
    return np.concatenate([energies, forces_of(potential, chosen).ravel()])


def arrays(project: Project) -> dict[str, bytes]:
    with np.load(project.potential_file) as content:
        return {name: content[name].tobytes() for name in content.files if name != "header"}


# --- what a fit begins with -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_a_fit_that_does_not_move_is_the_potential(tmp_path: Path, potential: Path) -> None:
    project = other_project(tmp_path / "p", **STANDSTILL)
    heard: list[TrainingData] = []
    train(project, lesson=FineTuning(potential), jobs=1, listener=TrainListener(on_data=heard.append))
    judges = (*structures(), *others())
    np.testing.assert_allclose(
        predicted(project.potential_file, judges), predicted(potential, judges), rtol=0, atol=1e-7
    )
    # and what it says of its error before the fit is the error of the potential
    names = heard[0].split.names
    trained = [s for s in others() if heard[0].split.parts[names.index(s.name)] == "train"]
    before = Potential.load(potential)
    errors = [(p.energy - p.structure.energy) / p.structure.n_atoms for p in before.predict(trained)]
    begun = heard[0].begun
    assert begun is not None
    assert begun.rmse == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-6)
    assert begun.reference.as_dict() == before.reference_energies
    assert not begun.are_shifted


@pytest.mark.usefixtures("eager")
def test_the_potential_knows_what_it_began_from(tmp_path: Path, potential: Path) -> None:
    project = other_project(tmp_path / "p", **STANDSTILL)
    train(project, lesson=FineTuning(potential), jobs=1)
    found, before = Potential.load(project.potential_file), Potential.load(potential)
    for now, then in zip(found.predict(structures()), before.predict(structures()), strict=True):
        assert (now.distances <= then.distances + 1e-6).all()
    assert found.repulsion is not None
    assert before.repulsion is not None
    assert (found.repulsion.outer <= before.repulsion.outer).all()
    assert found.limits.energy >= before.limits.energy
    origin = found.about["origin"]
    assert (origin["file"], origin["reference_energies"]) == (str(potential), "kept")
    assert origin["new_elements"] == []


@pytest.mark.usefixtures("eager")
def test_elements_may_come_in_another_order(tmp_path: Path, potential: Path) -> None:
    project = other_project(tmp_path / "p", elements=["O", "Ti"], **STANDSTILL)
    train(project, lesson=FineTuning(potential), jobs=1)
    judges = (*structures(), *others())
    np.testing.assert_allclose(
        predicted(project.potential_file, judges), predicted(potential, judges), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("resolution", ["each", pytest.param("weighted", marks=pytest.mark.slow)])
def test_a_new_element_gets_a_network_and_changes_nothing_of_the_others(
    tmp_path: Path, resolution: str
) -> None:
    kinds: dict[str, Any] = {
        "radial_elements": resolution,
        "angular_elements": "pairs" if resolution == "each" else "weighted",
    }
    before = trained_project(tmp_path / "before", **COMMITTEE, **kinds).potential_file
    project = other_project(tmp_path / "p", with_lithium(), elements=["Ti", "Li", "O"], **kinds, **STANDSTILL)
    train(project, lesson=FineTuning(before), jobs=1)
    # without lithium nothing is new
    judges = (*structures(), *others())
    np.testing.assert_allclose(
        predicted(project.potential_file, judges), predicted(before, judges), rtol=0, atol=1e-7
    )
    found = Potential.load(project.potential_file)
    assert found.about["origin"]["new_elements"] == ["Li"]
    n_columns = found.parameters.n_features - Potential.load(before).parameters.n_features
    assert (n_columns > 0) is (found.about["origin"]["new_functions"] > 0) is (resolution == "each")
    assert found.reference_energies["Li"] == pytest.approx(-200.0, abs=3.0)
    # the new network is drawn, another one for each member
    kernels = [member[found.subnet_of["Li"]][0].kernel for member in found.members]
    assert np.abs(kernels[0]).min() > 0.0
    assert not np.array_equal(*kernels)
    distances = [p.distances.max() for p in found.predict(with_lithium())]
    assert max(distances) < 5.0


def test_what_is_new_is_learnt(tmp_path: Path) -> None:
    before = trained_project(tmp_path / "before", **COMMITTEE).potential_file
    project = other_project(
        tmp_path / "p",
        with_lithium(),
        elements=["Ti", "O", "Li"],
        training={"epochs": 60, "learning_rate": 0.01},
    )
    train(project, lesson=FineTuning(before), jobs=1)
    found = Potential.load(project.potential_file)
    opened = slice(Potential.load(before).parameters.n_features, None)
    titanium = found.members[0][found.subnet_of["Ti"]][0].kernel[opened]
    assert np.abs(titanium).max() > 1e-3
    assert found.about["validation_rmse_meV_per_atom"] < found.about["origin"]["train_rmse_meV_per_atom"]


@pytest.mark.usefixtures("eager")
def test_functions_that_did_not_vary_before_take_part(tmp_path: Path) -> None:
    # oxygen alone around titanium, then both
    def titanium_alone(chosen: Sequence[Structure]) -> list[Structure]:
        made = []
        for structure in chosen:
            elements = ["O"] * structure.n_atoms
            elements[structure.elements.index("Ti")] = "Ti"
            cell = 3.0 * structure.cell
            made.append(
                replace(
                    structure, elements=tuple(elements), cell=cell, energy=-430.0 * structure.n_atoms - 1170
                )
            )
        return made

    before = small_project(tmp_path / "before", PARAMETERS, titanium_alone(structures()))
    train(before, jobs=1)
    old = Potential.load(before.potential_file)
    assert old.whitenings[old.subnet_of["Ti"]].constant.any()
    project = other_project(tmp_path / "p", training={"epochs": 1, "learning_rate": 1e-12})
    train(project, lesson=FineTuning(before.potential_file), jobs=1)
    found = Potential.load(project.potential_file)
    assert found.about["origin"]["new_functions"] > 0
    assert not found.whitenings[found.subnet_of["Ti"]].constant.any()
    judges = titanium_alone(structures())
    # reference energies are those of the new labels
    assert found.about["origin"]["reference_energies"] == "shifted"
    np.testing.assert_allclose(forces_of(found, judges), forces_of(old, judges), rtol=0, atol=1e-7)
    # no atom of before is farther from training than it was; distances are means over columns, of which there are fewer
    for now, then in zip(found.predict(judges), old.predict(judges), strict=True):
        scale = [_scale(old, element) / _scale(found, element) for element in now.structure.elements]
        assert (now.distances <= then.distances * np.array(scale) * (1 + 1e-3) + 1e-3).all()


def _scale(potential: Potential, element: str) -> float:
    """By what differences of points are divided to be distances."""
    atoms = potential.training_atoms[potential.elements.index(element)]
    return atoms.unit * float(np.sqrt(atoms.references.shape[1]))


# --- reference energies ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_labels_from_elsewhere_shift_the_reference_energies(tmp_path: Path, potential: Path) -> None:
    offset = {"Ti": 12.5, "O": -3.25}
    moved = [
        replace(s, energy=s.energy + sum(offset[element] for element in s.elements))
        for s in others()
        if s.energy is not None
    ]
    project = other_project(tmp_path / "p", moved, **STANDSTILL)
    train(project, lesson=FineTuning(potential), jobs=1)
    found, before = Potential.load(project.potential_file), Potential.load(potential)
    assert found.about["origin"]["reference_energies"] == "shifted"
    for element, shift in offset.items():
        assert found.reference_energies[element] - before.reference_energies[element] == pytest.approx(
            shift, abs=0.2
        )
    assert found.about["origin"]["train_rmse_meV_per_atom"] < 1000.0
    np.testing.assert_allclose(forces_of(found, others()), forces_of(before, others()), rtol=0, atol=1e-7)


@pytest.mark.usefixtures("eager")
def test_reference_energies_that_the_user_gives_are_taken(tmp_path: Path, potential: Path) -> None:
    given = {"Ti": -1601.0, "O": -431.0}
    settings: dict[str, Any] = {"reference_energies": given, **STANDSTILL}
    project = other_project(tmp_path / "p", **settings)
    train(project, lesson=FineTuning(potential), jobs=1)
    assert Potential.load(project.potential_file).reference_energies == given


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_networks_are_those_of_the_potential_and_the_schedule_is_shorter(
    tmp_path: Path, potential: Path
) -> None:
    undecided: dict[str, Any] = {
        "recipe": "auto",
        "network": {"hidden_layers": None, "activation": None},
        "training": {"epochs": None, "learning_rate": None, "members": None, "batch_size": None},
    }
    project = other_project(tmp_path / "p", **undecided)
    snapshot, origin = Snapshot.of(project), read_origin(potential)
    train(
        project,
        lesson=FineTuning(potential),
        jobs=1,
        parameters=snapshot.parameters.with_overrides(training={"epochs": 2}),
    )
    store, split = snapshot.structures, own_split(snapshot)
    nothing = resolved_from(snapshot.parameters, store, split, None, None)
    found = resolved_from(snapshot.parameters, store, split, None, origin)
    assert found.network.hidden_layers == (8, 8)
    assert found.training.members == 2
    assert found.training.epochs < nothing.training.epochs
    assert found.training.learning_rate < nothing.training.learning_rate
    chosen = snapshot.parameters.with_overrides(training={"epochs": 7, "learning_rate": 0.5, "members": 1})
    kept = resolved_from(chosen, store, split, None, origin).training
    assert (kept.epochs, kept.learning_rate, kept.members) == (7, 0.5, 1)


def refused(parameters: ParameterSet, file: Path, root: Path) -> str:
    project = small_project(root, parameters, others())
    with pytest.raises((InputError, UsageError)) as caught:
        train(project, lesson=FineTuning(file), jobs=1)
    assert not project.potential_file.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cutoff": 4.5}, r"functions of the project \(cutoff 4.5 Å\), got one with 4 Å; tio2nn init --from"),
        ({"radial": [RadialFunction(0.05)]}, "got one with other radial functions"),
        ({"angular": []}, "got one with other angular functions"),
        ({"radial_elements": "blind"}, "radial_elements blind.*, got one with each"),
        (
            {"network": {"hidden_layers": [9, 8]}},
            r"hidden_layers: expected \[8, 8\] as in the .* got \[9, 8\]; set",
        ),
        ({"network": {"activation": "tanh"}}, "network.activation: expected silu as in the potential"),
        ({"training": {"members": 3}}, "--members: expected at most 2, the networks of the potential"),
    ],
)
def test_what_contradicts_the_potential_is_refused(
    tmp_path: Path, potential: Path, changes: dict[str, Any], expected: str
) -> None:
    message = refused(PARAMETERS.with_overrides(**changes), potential, tmp_path / "p")
    assert re.search(expected, message), message


def test_a_potential_that_knows_more_elements_is_refused(tmp_path: Path) -> None:
    larger = other_project(tmp_path / "larger", with_lithium(), elements=["Ti", "O", "Li"])
    train(larger, jobs=1)
    message = refused(PARAMETERS, larger.potential_file, tmp_path / "p")
    assert "without other elements than Ti, O, got one that knows Li" in message


# --- the same bits ----------------------------------------------------------------------------------------------


def tuned(root: Path) -> Project:
    """Structures with forces and two networks to fine-tune, with dropout, which draws."""
    settings: dict[str, Any] = {
        "network": {"dropout": 0.2},
        "training": {"members": 2, "forces": True, "epochs": 4},
    }
    project = small_project(root, PARAMETERS.with_overrides(**settings), structures_with_forces())
    differentiate(project, jobs=1, make_executor=no_pool)
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, potential: Path) -> dict[str, bytes]:
    project = tuned(tmp_path_factory.mktemp("undisturbed") / "p")
    train(project, lesson=FineTuning(potential), jobs=1)
    return arrays(project)


@pytest.mark.slow
def test_an_interrupted_fine_tuning_goes_on_and_ends_in_the_same_bits(
    tmp_path: Path, potential: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)
    project = tuned(tmp_path / "p")
    heard: list[tuple[int, int]] = []

    def interrupt(member: int, epoch: Epoch) -> None:
        heard.append((member, epoch.epoch))
        if heard[-1] == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(project, lesson=FineTuning(potential), jobs=1, listener=TrainListener(on_epoch=interrupt))
    heard.clear()
    listener = TrainListener(on_epoch=lambda member, epoch: heard.append((member, epoch.epoch)))
    train(project, lesson=FineTuning(potential), jobs=1, listener=listener)
    assert heard[0] == (2, 3)
    assert arrays(project) == undisturbed


@pytest.mark.slow
def test_members_apart_have_the_bits_of_members_in_company(
    tmp_path: Path, potential: Path, undisturbed: dict[str, bytes]
) -> None:
    workers = tuned(tmp_path / "workers")
    train(workers, lesson=FineTuning(potential), jobs=2, make_executor=member_workers)
    assert arrays(workers) == undisturbed
    prepared = tuned(tmp_path / "prepared")
    copy = tmp_path / "copy.npz"
    shutil.copyfile(potential, copy)
    prepare_members(prepared, lesson=FineTuning(copy))
    copy.unlink()  # the members and the assembly need it no more
    fit_member(prepared, 2)
    fit_member(prepared, 1)
    epochs: list[Epoch] = []
    train(prepared, jobs=1, listener=TrainListener(on_epoch=lambda _, epoch: epochs.append(epoch)))
    assert epochs == []
    assert arrays(prepared) == undisturbed
    assert json.loads(prepared.training_metrics_file.read_text())["origin"]["file"] == str(copy)
    left = {path.name for path in prepared.model_directory.iterdir()}
    assert not any(name.startswith(("prepar", "checkpoint")) for name in left)


@pytest.mark.usefixtures("eager")
def test_one_member_of_a_committee_is_the_first(tmp_path: Path, potential: Path) -> None:
    project = other_project(tmp_path / "p", training={"members": 1, "epochs": 1, "learning_rate": 1e-12})
    train(project, lesson=FineTuning(potential), jobs=1)
    found, before = Potential.load(project.potential_file), Potential.load(potential)
    for own, first in zip(found.members[0], before.members[0], strict=True):
        for now, then in zip(own, first, strict=True):
            np.testing.assert_allclose(now.kernel, then.kernel, rtol=0, atol=1e-6)
