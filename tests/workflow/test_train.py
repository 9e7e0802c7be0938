from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    pair_energy,
    small_project,
    structures,
    trained_project,
)

from tio2nn.errors import InputError, MissingInputError, StaleError, Tio2nnError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.potential import Potential
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import SETS, Split, read_parts
from tio2nn.training import fit as training
from tio2nn.training.committee import new_network
from tio2nn.training.fit import Fit
from tio2nn.training.history import Epoch
from tio2nn.training.network import dense_layers
from tio2nn.version import __version__
from tio2nn.workflow.inputs import SplitRequest
from tio2nn.workflow.train import TrainingData, TrainListener, TrainSummary, train

Arrays = dict[str, Any]

N_VALIDATION, N_TEST = 3, 5
PARTS_OF_STRUCTURES = ("test",) * N_TEST + ("validation",) * N_VALIDATION + ("train",) * 16


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """24 structures with features, some of them for validation and test."""
    made = small_project(tmp_path / "p")
    store = read_store(made.structures_file)
    Split(store.names, PARTS_OF_STRUCTURES).write(made.split_file, store.groups)
    return made


# --- fits ---------------------------------------------------------------------------------------------------


def arrays(project: Project) -> Arrays:
    """Everything in the potential but the record."""
    with np.load(project.potential_file) as content:
        return {name: content[name] for name in content.files if name != "header"}


def same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(first[k].tobytes() == second[k].tobytes() for k in first)


def of_member(all_arrays: Arrays, member: int) -> Arrays:
    start = f"member/{member}/"
    return {name.removeprefix(start): a for name, a in all_arrays.items() if name.startswith(start)}


@pytest.fixture
def trained(tmp_path: Path) -> Project:
    return trained_project(tmp_path / "trained")


def test_neither_a_repetition_nor_other_energies_in_the_test_part_change_a_bit(trained: Project) -> None:
    before, reference = arrays(trained), Potential.load(trained.potential_file).reference_energies
    parts = read_parts(trained.split_file)
    changed = [replace(s, energy=s.energy + 5.0 * (parts[s.name] == "test")) for s in structures()]
    assert sum(a.energy != b.energy for a, b in zip(changed, structures(), strict=True)) == 2
    write_store(trained.structures_file, changed, reference_energies=ATOMIC_ENERGIES)
    train(trained, PARAMETERS)
    assert same(arrays(trained), before)
    assert Potential.load(trained.potential_file).reference_energies == reference


def test_members_share_the_order_of_structures_and_differ_in_first_weights(trained: Project) -> None:
    first = arrays(trained)
    committee = PARAMETERS.with_overrides(training={"members": 2})
    heard: list[tuple[int, int]] = []
    data: list[TrainingData] = []
    summary = train(
        trained,
        committee,
        jobs=1,
        listener=TrainListener(
            on_data=data.append,
            on_epoch=lambda member, epoch: heard.append((member, epoch.epoch)),
        ),
    )
    assert heard == [(member, epoch) for epoch in (1, 2, 3, 4) for member in (1, 2)]
    assert summary.members == 2
    both = arrays(trained)
    assert trained.network_file(2).exists()
    # a network with the first weights of the next seed, in the order of this one
    other = Fit(new_network(PARAMETERS, data[0], 1), data[0].parameters.training, 0, data[0], 2)
    other.run()
    layers = [layer for subnet in other.network.subnets.values() for layer in dense_layers(subnet)]
    of_second = [array for name, array in of_member(both, 1).items() if name.endswith("kernel")]
    for (kernel, _, _), found in zip(layers, of_second, strict=True):
        np.testing.assert_array_equal(found, kernel)
    train(trained, PARAMETERS)
    assert not trained.network_file(2).exists()
    assert same(of_member(both, 0), of_member(first, 0))
    assert not same(of_member(both, 1), of_member(first, 0))


def test_what_a_training_leaves_behind_says_how_it_was_made(project: Project) -> None:
    parameters = PARAMETERS.with_overrides(training={"seed": 3, "members": 2, "early_stopping": 2})
    heard: list[TrainingData] = []
    command = ["tio2nn", "train", "--seed", "3"]
    summary = train(
        project, parameters, jobs=1, listener=TrainListener(on_data=heard.append, command=command)
    )
    assert [len(found.train.counts) for found in heard] == [summary.n_train] == [16]
    assert sorted(path.name for path in project.model_directory.iterdir()) == [
        "history.csv",
        "history.png",
        "metrics.json",
        "network-2.keras",
        "network.keras",
        "potential.npz",
    ]
    assert project.history_figure.read_bytes().startswith(b"\x89PNG")
    check_history(project, summary)
    metrics = json.loads(project.training_metrics_file.read_text(encoding="utf-8"))
    assert metrics == json.loads(json.dumps(Potential.load(project.potential_file).about))
    assert (metrics["seed"], metrics["command"], metrics["members"]) == (3, command, 2)
    assert metrics["versions"]["tio2nn"] == __version__
    assert metrics["versions"]["keras"] == keras.__version__
    assert [metrics[f"n_{part}"] for part in SETS] == [16, N_VALIDATION, N_TEST]
    assert metrics["reference_energies_eV"] == heard[0].reference.as_dict()
    assert ParameterSet.from_json(json.dumps(metrics["parameters"])) == parameters
    assert metrics["validation_rmse_meV_per_atom"] == summary.validation_rmse


@pytest.mark.parametrize("content", ["structure0001\n", "structure,part\nstructure0001,train\n"])
def test_a_split_that_cannot_be_trained_on_leaves_that_of_the_project_alone(
    project: Project, tmp_path: Path, content: str
) -> None:
    train(project, PARAMETERS)
    before = project.split_file.read_bytes()
    (tmp_path / "few").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"at least 2 structures in the training set, got 1; .* --new-split"):
        train(project, PARAMETERS, split=SplitRequest(tmp_path / "few"))
    assert project.split_file.read_bytes() == before
    assert not project.earlier_split_file.exists()


def test_a_split_that_another_replaces_is_kept(project: Project) -> None:
    train(project, PARAMETERS)
    before = project.split_file.read_bytes()
    train(project, PARAMETERS.with_overrides(training={"seed": 5}), split=SplitRequest(new=True))
    assert project.split_file.read_bytes() != before
    assert project.earlier_split_file.read_bytes() == before


def test_the_potential_that_a_training_replaces_is_kept(project: Project) -> None:
    first = train(project, PARAMETERS)
    assert (first.earlier, first.earlier_is_of_others) == (None, False)
    before = project.potential_file.read_bytes()
    second = train(project, PARAMETERS.with_overrides(training={"seed": 7}))
    assert (second.earlier, second.earlier_is_of_others) == (project.earlier_potential_file, False)
    assert project.earlier_potential_file.read_bytes() == before
    assert project.potential_file.read_bytes() != before
    store = read_store(project.structures_file)
    others = [replace(structure, energy=(structure.energy or 0.0) + 1.0) for structure in store]
    write_store(project.structures_file, others, reference_energies=ATOMIC_ENERGIES)
    assert train(project, PARAMETERS).earlier_is_of_others


def check_history(project: Project, summary: TrainSummary) -> None:
    """A row for each epoch of each member; the errors reported are those of the epochs that were taken."""
    with project.history_file.open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    columns = [name for name in Epoch.__dataclass_fields__ if name != "seconds"]
    assert list(table[0]) == ["member", *columns, "seconds"]
    best = []
    for member in ("1", "2"):
        own = [row for row in table if row["member"] == member]
        assert [row["epoch"] for row in own] == [str(k) for k in range(1, len(own) + 1)]
        best.append(min(own, key=lambda row: float(row["validation_loss"])))
    for key, reported in (("rmse", summary.validation_rmse), ("mae", summary.validation_mae)):
        assert np.mean([float(row[f"validation_{key}_meV_per_atom"]) for row in best]) == pytest.approx(
            reported
        )


@pytest.mark.slow
def test_a_smooth_pair_potential_is_learnt(tmp_path: Path) -> None:
    parameters = PARAMETERS.with_overrides(
        network={"hidden_layers": [16, 16]},
        training={"epochs": 60, "batch_size": 16, "validation_fraction": 0.15, "test_fraction": 0.0},
    )
    project = small_project(tmp_path / "p", parameters, structures(200))
    heard: list[TrainingData] = []
    summary = train(project, parameters, listener=TrainListener(on_data=heard.append))
    labels = 1000.0 * heard[0].validation_labels.energies / heard[0].validation.n_atoms
    assert summary.validation_rmse < 0.1 * labels.std()
    # new structures, their energies known from the pair potential alone
    potential = Potential.load(project.potential_file)
    new = structures(24, seed=5)
    residuals = [1000.0 * (potential.energy(s) - pair_energy(s)) / s.n_atoms for s in new]
    assert float(np.sqrt(np.mean(np.square(residuals)))) < 0.25 * labels.std()


# --- what cannot be trained ---------------------------------------------------------------------------------


def test_a_fit_that_diverges_ends_in_one_line_with_advice(project: Project) -> None:
    parameters = PARAMETERS.with_overrides(training={"learning_rate": 1e4, "warmup_epochs": 0})
    with pytest.raises(Tio2nnError) as caught:
        train(project, parameters)
    got = r"the (validation )?loss of epoch \d+ is (inf|nan)"
    advice = "try a learning_rate below 10000"
    assert re.fullmatch(f"the fit diverged: {got}; {advice}", str(caught.value))
    assert not project.potential_file.exists()


def test_stale_or_missing_features_are_refused_with_the_command_to_run(project: Project) -> None:
    advice = 'run "tio2nn featurize -C .*" again'
    with pytest.raises(StaleError, match=f"made with another parameter set .*; {advice}"):
        train(project, PARAMETERS.with_overrides(cutoff=3.9))
    shifted = [replace(s, positions=s.positions + 0.1) for s in structures()]
    write_store(project.structures_file, shifted, reference_energies=ATOMIC_ENERGIES)
    with pytest.raises(StaleError, match=f"made from other structures; {advice}"):
        train(project, PARAMETERS)
    shutil.rmtree(project.features_directory)
    with pytest.raises(MissingInputError, match=r'no features in .*; run "tio2nn featurize -C .*" first'):
        train(project, PARAMETERS)
    assert not project.model_directory.exists()


# --- interruptions ------------------------------------------------------------------------------------------

# dropout draws random numbers, and early stopping keeps a count and weights: a checkpoint must hold them all
INTERRUPTED = {"network": {"dropout": 0.2}, "training": {"members": 2, "early_stopping": 3}}


@pytest.mark.slow
def test_a_training_that_is_interrupted_twice_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained_project(tmp_path / "undisturbed", **INTERRUPTED)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)
    parameters = PARAMETERS.with_overrides(**INTERRUPTED)
    project = small_project(tmp_path / "p", parameters)
    heard: list[tuple[int, int]] = []
    for last in ((1, 3), (2, 3), None):

        def listen(member: int, epoch: Epoch, last: tuple[int, int] | None = last) -> None:
            heard.append((member, epoch.epoch))
            if heard[-1] == last:
                raise KeyboardInterrupt

        with nullcontext() if last is None else pytest.raises(KeyboardInterrupt):
            train(project, parameters, jobs=1, listener=TrainListener(on_epoch=listen))
        assert project.potential_file.exists() is (last is None)
    # epochs that were interrupted had not reached the checkpoint; then the members behind catch up
    again = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (1, 3), (2, 3), (2, 3), (1, 4), (2, 4)]
    assert heard[: len(again)] == again
    assert same(arrays(project), arrays(undisturbed))
    assert list(project.model_directory.glob("checkpoint-*")) == []


@pytest.mark.slow
def test_a_checkpoint_of_another_fit_is_passed_over(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = arrays(trained)
    trained.potential_file.unlink()
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)

    def interrupt(_member: int, at: Epoch) -> None:
        if at.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            trained,
            PARAMETERS.with_overrides(training={"loss": "mae"}),
            listener=TrainListener(on_epoch=interrupt),
        )
    assert trained.checkpoint_file(1).exists()
    epochs: list[int] = []
    train(trained, PARAMETERS, listener=TrainListener(on_epoch=lambda _member, at: epochs.append(at.epoch)))
    assert epochs == [1, 2, 3, 4]
    assert same(arrays(trained), expected)


KILLED = {"training": {"epochs": 40}}
_OFTEN = """
import sys
from tio2nn.training import fit
from tio2nn.__main__ import main

fit._CHECKPOINT_SECONDS = -1.0
sys.argv[0] = "tio2nn"
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_training_that_is_killed_goes_on_in_another_process_and_ends_in_the_same_bits(
    tmp_path: Path,
) -> None:
    expected = arrays(trained_project(tmp_path / "undisturbed", **KILLED))
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(**KILLED))
    checkpoint = project.checkpoint_file(1)
    command = [sys.executable, "-c", _OFTEN, "train", "-C", str(project.root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert not project.potential_file.exists()
    with np.load(checkpoint) as content:
        before = json.loads(str(content["about"]))["history"]
    assert 0 < len(before) < 40
    command = [sys.executable, "-m", "tio2nn", "train", "-C", str(project.root)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert f"member 1: resuming after epoch {len(before)}" in ended.stderr
    assert same(arrays(project), expected)
    with project.history_file.open(encoding="utf-8", newline="") as handle:
        seconds = [float(row["seconds"]) for row in csv.DictReader(handle)]
    # these epochs were not computed again
    column = list(Epoch.__dataclass_fields__).index("seconds")
    assert seconds[: len(before)] == [row[column] for row in before]
    assert len(seconds) == 40
