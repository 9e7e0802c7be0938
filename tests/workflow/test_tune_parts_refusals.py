"""Parts of a search that cannot be, or do not belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refusal
from projects import PARAMETERS
from searches import (
    GRID,
    GUIDED,
    Here,
    Killed,
    copied,
    invented,
    killed_at,
    project_to_search,
    search,
    search_part,
)

from tio2nn.errors import InputError
from tio2nn.project.project import Project
from tio2nn.workflow.tune import tune, tune_part


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_to_search(tmp_path_factory.mktemp("parts") / "project")


@pytest.fixture
def project(featurized: Path, tmp_path: Path) -> Project:
    """A project of its own for each test."""
    return copied(featurized, tmp_path / "p")


def test_ledgers_that_do_not_belong_together_are_refused(project: Project) -> None:
    changes = GUIDED["hyperband"]
    with pytest.raises(Killed):
        search_part(project, (1, 2), killed_at(3), **changes)
    with pytest.raises(Killed):
        search_part(project, (2, 2), killed_at(3), **changes)
    (project.tuning_directory / "ledger-1-of-2.csv").unlink()
    with pytest.raises(
        InputError, match="expected event 1 of a search of several workers, got trial"
    ) as caught:
        search_part(project, (1, 2), **changes)
    assert "\n" not in str(caught.value)
    assert caught.value.file is not None
    assert caught.value.file.endswith("ledger-2-of-2.csv")
    # by which other searches are not disturbed
    assert len(search(project)[0].ranked) == 4


def test_workers_cannot_take_turns_without_locks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tio2nn.files.lock._take", lambda _: None)
    with pytest.raises(InputError, match="expected a file system with locks"):
        search_part(project, (1, 2), **GUIDED["bayesian"])
    assert len(search_part(project, (1, 2))[1]) == 2


@pytest.mark.parametrize("part", ["0/4", "5/4", "x/4", "4", "1/2/3", ""])
def test_a_part_that_is_none_is_refused_in_one_line(project: Project, part: str) -> None:
    line = refusal("tune", "-C", project.root, "--part", part, code=2)
    assert line == f"--part: expected K/N with K from 1 to N, such as 3/20, got {part}"


@pytest.mark.parametrize("part", [None, (0, 4), (5, 4), 3, ("1", 4), (True, 4)])
def test_a_caller_hears_what_a_part_is(project: Project, part: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="part: expected"):
        tune_part(project, part)


def test_the_result_is_not_a_part_s(project: Project) -> None:
    assert "--part cannot be combined with --json" in refusal(
        "tune", "-C", project.root, "--part", "1/2", "--json", code=2
    )


def test_the_same_part_twice_and_a_command_beside_parts_are_refused(project: Project) -> None:
    with project.joined("tune --part 1/2"):
        for arguments in (("tune", "--part", "1/2"), ("tune",)):
            _, err = invoke(*arguments, "-C", project.root, code=3)
            assert "cannot start: tio2nn tune --part 1/2 (process " in err.splitlines()[-1]
    with project.locked("tune"):
        _, err = invoke("tune", "--part", "1/2", "-C", project.root, code=3)
        assert "cannot start: tio2nn tune (process " in err.splitlines()[-1]


def test_parts_of_other_settings_and_unfinished_ones_are_named(project: Project) -> None:
    heard: list[str] = []

    def listen(_data: object, parts: str) -> None:
        heard.append(parts)

    parameters = PARAMETERS.with_overrides(tuning=GRID)
    changed = parameters.with_overrides(training={"loss": "mae"})
    options: dict[str, Any] = {"jobs": 1, "make_executor": lambda _: Here(invented), "on_data": listen}
    tune_part(project, (1, 3), changed, **options)
    tune_part(project, (2, 3), parameters, **options)
    tune(project, parameters, **options)
    assert heard == [
        "",
        "part 1 of 3",
        "part 3 of 3 did not finish; part 1 of 3 had other parameters or structures",
    ]


def test_status_says_that_parts_have_searched(project: Project) -> None:
    search_part(project, (1, 2))
    out, _ = invoke("status", "-C", project.root)
    (row,) = [line for line in out.splitlines() if "tuning" in line]
    assert "missing" in row
    assert "part 1 of 2 searched; the command without --part ends the search" in row
    search(project)
    out, _ = invoke("status", "-C", project.root)
    assert "4 trials" in next(line for line in out.splitlines() if "tuning" in line)
