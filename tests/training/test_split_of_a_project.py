"""The split of a project: it stays until a new one is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import ATOMIC_ENERGIES, PARAMETERS, extracted_project, small_project, structures
from training.labeled_inputs import PART_OF

from tio2nn.errors import InputError
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import SETS, Split, read_parts
from tio2nn.training.splits import why_no_test
from tio2nn.workflow.inputs import SplitRequest, choose_split, keep_split


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """24 structures with features, in groups of three, divided as `PART_OF` says."""
    made = small_project(tmp_path / "p", groups=[f"g{k // 3}" for k in range(24)])
    store = read_store(made.structures_file)
    Split(store.names, tuple(PART_OF[name] for name in store.names)).write(made.split_file, store.groups)
    return made


def chosen_parts(project: Project, given: Path | None = None, new: bool = False, **settings: Any) -> Split:
    parameters = PARAMETERS.with_overrides(training=settings)
    snapshot = Snapshot(project)
    chosen = choose_split(snapshot, parameters, SplitRequest(given, new))
    keep_split(snapshot, chosen)
    return chosen


def test_the_split_of_a_project_stays_until_a_new_one_is_asked_for(project: Project) -> None:
    kept = chosen_parts(project, seed=9)
    assert dict(zip(kept.names, kept.parts, strict=True)) == PART_OF
    new = chosen_parts(project, new=True, seed=9, validation_fraction=0.25, test_fraction=0.25)
    assert [len(new.indices(part)) for part in SETS] == [12, 6, 6]
    assert chosen_parts(project) == new


def test_a_split_of_other_structures_is_replaced(project: Project) -> None:
    write_store(project.structures_file, structures()[:20], reference_energies=ATOMIC_ENERGIES)
    new = chosen_parts(project, test_fraction=0.2)
    assert new.replaces_another
    assert not chosen_parts(project).replaces_another
    assert [len(new.indices(part)) for part in SETS] == [15, 1, 4]
    assert read_parts(project.split_file) == dict(zip(new.names, new.parts, strict=True))


def test_a_split_with_one_damaged_name_is_not_lost(project: Project) -> None:
    given = project.split_file.read_text(encoding="utf-8")
    damaged = given.replace("structure0005", "strukture0005", 1)
    assert damaged != given
    project.split_file.write_text(damaged, encoding="utf-8")
    assert chosen_parts(project).replaces_another
    assert project.earlier_split_file.read_text(encoding="utf-8") == damaged
    project.split_file.write_text(given.replace("part", "pbrt", 1), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"split.csv:1: expected the columns structure and part, got 'struct"
    ):
        chosen_parts(project)


@pytest.mark.parametrize(
    ("n", "expected"), [(2, [2, 0, 0]), (4, [4, 0, 0]), (5, [4, 1, 0]), (9, [8, 1, 0]), (10, [8, 1, 1])]
)
def test_few_structures_are_not_spent_on_held_out_parts(
    project: Project, n: int, expected: list[int]
) -> None:
    write_store(project.structures_file, structures()[:n], reference_energies=ATOMIC_ENERGIES)
    found = chosen_parts(project, new=True)
    assert [len(found.indices(part)) for part in SETS] == expected
    assert chosen_parts(project) == found


def test_a_rare_element_is_trained_on_whatever_the_seed(project: Project) -> None:
    rare = [replace(s, elements=("Cu", *s.elements[1:])) if k == 7 else s for k, s in enumerate(structures())]
    write_store(project.structures_file, rare, reference_energies=ATOMIC_ENERGIES)
    given = project.root / "mine.txt"
    given.write_text("".join(f"{s.name}\n" for s in rare), encoding="utf-8")
    for seed in range(10):
        settings = {"seed": seed, "validation_fraction": 0.25, "test_fraction": 0.25}
        for found in (chosen_parts(project, new=True, **settings), chosen_parts(project, given, **settings)):
            assert found.parts[7] == "train"
            assert len(found.indices("validation")) == 6


def test_groups_stay_together_if_that_is_asked_for(project: Project) -> None:
    settings = {"validation_fraction": 0.25, "test_fraction": 0.25}
    groups = read_store(project.structures_file).groups
    grouped = chosen_parts(project, new=True, split="grouped", **settings)
    assert len(set(zip(groups, grouped.parts, strict=True))) == 8
    scattered = chosen_parts(project, new=True, split="random", **settings)
    assert len(set(zip(groups, scattered.parts, strict=True))) > 8


def test_a_list_that_is_given_becomes_the_split_of_the_project(project: Project) -> None:
    given = project.root / "mine.txt"
    given.write_text("".join(f"{s.name}.xsf\n" for s in structures()[:10]), encoding="utf-8")
    found = chosen_parts(project, given, validation_fraction=0.2)
    assert [len(found.indices(part)) for part in SETS] == [8, 2, 0]
    given.unlink()
    assert chosen_parts(project) == found


def test_why_a_split_has_no_test_set_is_known(tmp_path: Path) -> None:
    def why(n: int, n_groups: int, **training: Any) -> str:
        root = tmp_path / f"{n}-{n_groups}"
        groups = [f"g{k % n_groups}" for k in range(n)]
        project = extracted_project(root, chosen=structures()[:n], groups=groups)
        parameters = PARAMETERS.with_overrides(training={"split": "grouped", **training})
        return why_no_test(parameters, read_store(project.structures_file))

    few = (
        "3 groups of related structures are too few or too large to be held out whole; use --split-by random"
    )
    assert why(24, 3).startswith(few)
    assert why(24, 24) == ""
    assert why(8, 8) == "8 structures are too few; with 10 there is one"
    assert why(20, 2, test_fraction=0.0) == ""
    assert why(18, 3, split="random") == ""
