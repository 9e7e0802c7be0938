"""Parts of a search: at once or one after the other, some of them killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import end
from places import TESTS
from projects import PARAMETERS
from searches import (
    GRID,
    GUIDED,
    SPACE,
    Here,
    Killed,
    copied,
    invented,
    killed_at,
    project_to_search,
    search,
    search_part,
    table,
)

from tio2nn.parallel.workers import WorkerDied
from tio2nn.project.project import Project
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import Outcome
from tio2nn.workflow.tune import tune, tune_part

STRATEGIES = (pytest.param("bayesian", marks=pytest.mark.slow), "hyperband")


def ledgers(project: Project) -> dict[str, list[dict[str, str]]]:
    return {path.name: table(path) for path in sorted(project.tuning_directory.glob("ledger*.csv"))}


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_to_search(tmp_path_factory.mktemp("parts") / "project")


@pytest.fixture
def project(featurized: Path, tmp_path: Path) -> Project:
    """A project of its own for each test."""
    return copied(featurized, tmp_path / "p")


@pytest.fixture
def other(featurized: Path, tmp_path: Path) -> Project:
    """The same project once more, for a search by one process."""
    return copied(featurized, tmp_path / "other")


# --- grid and random ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        SPACE,
        {"strategy": "random", "max_trials": 17, **SPACE},
        {"strategy": "random", "patience": 5, **SPACE},
        {"patience": 7, **SPACE},
    ],
    ids=str,
)
def test_any_parts_and_a_last_command_try_what_one_process_tries(
    project: Project, other: Project, changes: dict[str, Any]
) -> None:
    expected, tasks = search(other, **changes)
    computed = 0
    for part in ((3, 4), (1, 4), (2, 2), (4, 4)):
        summary, own = search_part(project, part, **changes)
        assert summary.n_run == len(own)
        computed += len(own)
    last, left = search(project, **changes)
    assert project.trials_file.read_bytes() == other.trials_file.read_bytes()
    assert last.ranked == expected.ranked
    assert last.best.items() >= {name: expected.best[name] for name in ("network", "training")}.items()
    if "patience" not in changes:
        assert computed + len(left) == len(tasks)
    assert search(project, **changes)[1] == []


def test_parts_share_all_trials_and_write_only_files_of_their_own(project: Project) -> None:
    before = {path for path in project.root.rglob("*") if path.is_file()}
    sizes = [len(search_part(project, (number, 5), **SPACE)[1]) for number in range(1, 6)]
    assert sizes == [8, 7, 7, 7, 7]
    made = {path.relative_to(project.root).as_posix() for path in project.root.rglob("*") if path.is_file()}
    made -= {path.relative_to(project.root).as_posix() for path in before}
    assert {name for name in made if not name.startswith(".tio2nn.job-")} == {
        *(f"tuning/ledger-{number}-of-5.csv" for number in range(1, 6)),
        *(f"tuning/search-part-{number}-of-5.json" for number in range(1, 6)),
        *(name for name in made if name.startswith("tuning/settings-")),
    }
    assert search(project, **SPACE)[1] == []
    # notes of parts are removed with their purpose
    assert not list(project.tuning_directory.glob("search-part-*"))


def test_a_part_that_was_killed_goes_on(project: Project) -> None:
    with pytest.raises(Killed):
        search_part(project, (1, 2), killed_at(3), **SPACE)
    assert len(search_part(project, (1, 2), **SPACE)[1]) == 18 - 3
    assert len(search(project, **SPACE)[1]) == 18


# --- Bayesian and Hyperband ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_worker_is_reproducible_and_does_what_one_process_does(
    project: Project, other: Project, strategy: str
) -> None:
    changes = GUIDED[strategy]
    search_part(project, (1, 1), **changes)
    first = ledgers(project)
    again = Project(shutil.copytree(other.root, other.root.parent / "again"))
    search_part(again, (1, 1), **changes)
    assert ledgers(again) == first
    assert search(project, **changes)[1] == []
    search(other, **changes)
    assert project.trials_file.read_bytes() == other.trials_file.read_bytes()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_workers_at_once_share_one_search(project: Project, other: Project, strategy: str) -> None:
    changes = GUIDED[strategy]
    n_trials = len(search(other, **changes)[0].ranked)
    met = threading.Event()
    meeting = threading.Barrier(3, met.set)

    def work(number: int) -> list[TrialTask]:
        tasks: list[TrialTask] = []
        is_first = iter([True])

        def run(task: TrialTask) -> Outcome:
            tasks.append(task)
            # none finishes a trial before all are at work
            if next(is_first, False):
                meeting.wait(300)
            assert met.wait(300)
            time.sleep(0.002 * number)
            return invented(task)

        class Pool(ThreadPoolExecutor):
            def submit(self, _function: Any, /, *args: Any, **_: Any) -> Any:
                return super().submit(run, *args)

        parameters = PARAMETERS.with_overrides(tuning={**GRID, **changes})
        tune_part(project, (number, 3), parameters, jobs=2, make_executor=Pool)
        return tasks

    with ThreadPoolExecutor(3) as threads:
        tasks = list(threads.map(work, (1, 2, 3)))
    assert all(tasks)
    lines = [row for rows in ledgers(project).values() for row in rows]
    assert sorted(int(row["event"]) for row in lines) == list(range(1, len(lines) + 1))
    for status in ("started", "completed"):
        numbers = sorted(int(row["trial"]) for row in lines if row["status"] == status)
        assert numbers == list(range(1, n_trials + 1))
    assert sum(map(len, tasks)) == n_trials
    tried = {
        (t.network.hidden_layers, t.training.learning_rate, t.training.epochs) for own in tasks for t in own
    }
    assert len(tried) == n_trials
    summary, left = search(project, **changes)
    assert left == []
    assert summary.n_known == n_trials
    assert [int(row["trial"]) for row in table(project.trials_file)] == list(range(1, n_trials + 1))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_trial_that_died_with_its_worker_comes_back_in_another(project: Project, strategy: str) -> None:
    changes = GUIDED[strategy]
    with pytest.raises(Killed):
        search_part(project, (1, 2), killed_at(5), **changes)
    (lost,) = [row for row in ledgers(project)["ledger-1-of-2.csv"] if row["trial"] == "6"]
    assert lost["status"] == "started"
    _, tasks = search_part(project, (2, 2), **changes)
    first = tasks[0]
    assert [str(len(first.network.hidden_layers)), str(first.network.hidden_layers[0])] == [
        lost["layers"],
        lost["nodes"],
    ]
    assert search_part(project, (1, 2), **changes)[1] == []
    summary, left = search(project, **changes)
    assert left == []
    assert [trial.status for trial in summary.ranked] == ["completed"] * len(summary.ranked)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_worker_that_was_killed_and_begins_again_repeats_its_trial(project: Project, strategy: str) -> None:
    changes = GUIDED[strategy]
    with pytest.raises(Killed):
        search_part(project, (1, 2), killed_at(5), **changes)
    (lost,) = [row for row in ledgers(project)["ledger-1-of-2.csv"] if row["trial"] == "6"]
    _, tasks = search_part(project, (1, 2), **changes)
    assert len(tasks[0].network.hidden_layers) == int(lost["layers"])
    assert tasks[0].network.hidden_layers[0] == int(lost["nodes"])
    assert search(project, **changes)[1] == []


def test_a_trial_of_a_living_worker_is_left_to_it(project: Project) -> None:
    changes = {**GUIDED["bayesian"], "max_trials": 6}
    with pytest.raises(Killed):
        search_part(project, (1, 2), killed_at(2), **changes)
    with project.joined("tune --part 1/2"):
        _, tasks = search_part(project, (2, 2), **changes)
        assert len(tasks) == 3
    assert len(search(project, **changes)[1]) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_trial_whose_process_died_is_tried_again_by_the_last_command(
    project: Project, strategy: str
) -> None:
    changes = GUIDED[strategy]

    def dies(task: TrialTask) -> Outcome:
        if task.network.hidden_layers == (5, 5):
            raise WorkerDied("the worker process was killed by SIGKILL")
        return invented(task)

    search_part(project, (1, 2), dies, **changes)
    failed = [row for row in ledgers(project)["ledger-1-of-2.csv"] if row["status"] == "failed"]
    assert failed
    summary, tasks = search(project, **changes)
    assert {trial.status for trial in summary.ranked} == {"completed"}
    assert {row["trial"] for row in failed} <= {row["trial"] for row in ledgers(project)["ledger.csv"]}
    assert (5, 5) in {task.network.hidden_layers for task in tasks}


def test_a_search_of_parts_can_be_prolonged_and_takes_up_what_is_known(project: Project) -> None:
    changes = GUIDED["bayesian"]
    search(project, strategy="random", max_trials=20, **SPACE)
    _, tasks = search_part(project, (1, 2), **changes)
    assert len(tasks) < 15
    _, more = search_part(project, (2, 2), **{**changes, "max_trials": 16})
    assert len(more) <= 1
    summary, left = search(project, **{**changes, "max_trials": 17})
    assert [trial.trial for trial in sorted(summary.ranked, key=lambda t: t.trial)] == list(range(1, 18))
    assert len(left) <= 1


def test_a_shared_search_ends_when_it_no_longer_improves(project: Project) -> None:
    changes = {**GUIDED["bayesian"], "max_trials": 36, "patience": 4}
    search_part(project, (1, 2), **changes)
    summary, left = search(project, **changes)
    assert left == []
    in_order = sorted(summary.ranked, key=lambda trial: trial.trial)
    assert 4 < len(in_order) < 36
    best = min(trial.score for trial in in_order[:-4])
    assert all(trial.score > 0.99 * best for trial in in_order[-4:])


# --- real fits, real processes ------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_a_trial_can_be_repeated_from_its_line(project: Project, other: Project) -> None:
    changes: dict[str, Any] = {
        "strategy": "random",
        "max_trials": 2,
        "dropout": [0.0, 0.3],
        "seed": 5,
        "structures": 20,
    }
    search_part(project, (2, 2), run_trial, **changes)
    (line,) = table(project.tuning_directory / "ledger-2-of-2.csv")
    # as docs/how-to/tuning.md says
    parameters = json.loads(
        (project.tuning_directory / f"settings-{line['settings']}.json").read_text("utf-8")
    )
    one = {name: [json.loads(line[name])] for name in ("layers", "nodes", "learning_rate", "dropout")}
    parameters["tuning"].update(one, epochs=json.loads(line["epochs"]), strategy="grid")
    other.parameters_file.write_text(json.dumps(parameters), encoding="utf-8")
    tune(other, jobs=1, make_executor=lambda _: Here(run_trial))
    (again,) = table(other.trial_ledger_file)
    differing = {"trial", "seconds"}
    assert {name: cell for name, cell in again.items() if name not in differing} == {
        name: cell for name, cell in line.items() if name not in differing
    }


_COMMAND = f"""
import os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {str(TESTS)!r})
import tio2nn.parallel.workers as workers
from searches import invented

trials = iter(range(1))

def slow(task):
    while len(list(task.data.parent.glob("search-part-*"))) < 3:
        time.sleep(0.01)  # until all are at work
    if "-2-of-" in task.data.name and next(trials, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return invented(task)

class Invented(ThreadPoolExecutor):
    def submit(self, function, task):
        return super().submit(slow, task)

workers.trial_workers = Invented
from tio2nn.__main__ import main
main()
"""


def start_part(project: Project, *arguments: object) -> subprocess.Popen[str]:
    """A part as a process of its own, with invented outcomes; part 2 is killed in the middle of its second trial."""
    command = [sys.executable, "-c", _COMMAND, "tune", "-C", str(project.root), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "bayesian", "hyperband"])
def test_processes_at_once_of_which_one_is_killed_finish_every_trial(
    project: Project, other: Project, strategy: str
) -> None:
    changes: dict[str, Any] = {"strategy": strategy, "max_trials": 18, "epochs": 4, **SPACE}
    for own in (project, other):
        text = PARAMETERS.with_overrides(tuning={**GRID, **changes}).to_json()
        own.parameters_file.write_text(text, encoding="utf-8")
    parts = [start_part(project, "--part", f"{number}/3", "-j", 2) for number in (1, 2, 3)]
    ended = [end(part) for part in parts]
    assert ended.pop(1)[0] == -signal.SIGKILL
    for code, _, err in ended:
        assert code == 0, err
        assert f'after all of them run "tio2nn tune -C {project.root}"' in err
    summary, left = search(project, **changes)
    assert {trial.status for trial in summary.ranked} == {"completed"}
    expected, _ = search(other, **changes)
    assert len(summary.ranked) == len(expected.ranked)
    if strategy == "random":
        assert project.trials_file.read_bytes() == other.trials_file.read_bytes()
    else:
        # what died came back in another part
        assert left == []
    # nor does the one that was killed leave its data
    assert not list(project.tuning_directory.glob("data*.npz"))
