from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    extracted_project,
    no_pool,
    small_project,
    structures,
    trained_project,
)

from tio2nn.errors import InputError
from tio2nn.potential.potential import Potential
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.featurize import compute_features
from tio2nn.workflow.status import Row, status

NAMES = ["parameters", "structures", "features", "split", "model", "evaluation"]


def states(project: Project) -> dict[str, str]:
    return {part.name: part.state for part in status(project).parts}


def part(project: Project, name: str) -> Row:
    return next(part for part in status(project).parts if part.name == name)


def change_parameters(project: Project, **changes: Any) -> None:
    content = json.loads(project.parameters_file.read_text(encoding="utf-8"))
    project.parameters_file.write_text(json.dumps(content | changes), encoding="utf-8")


# --- what is next -------------------------------------------------------------------------------------------


def test_every_stage_names_the_next_command(tmp_path: Path) -> None:
    root = tmp_path / "p"
    project = Project.create(root, PARAMETERS)
    assert states(project) == {name: "up to date" if name == "parameters" else "missing" for name in NAMES}
    assert status(project).advice == f"next: tio2nn extract -C {root} SOURCE..."

    project = extracted_project(tmp_path / "extracted")
    assert status(project).advice == f"next: tio2nn featurize -C {project.root}"
    compute_features(project, jobs=1, make_executor=no_pool)
    assert status(project).advice == f"next: tio2nn train -C {project.root}"

    project = trained_project(tmp_path / "trained")
    assert status(project).advice == f"next: tio2nn evaluate -C {project.root}"
    evaluate(project)
    assert states(project) == dict.fromkeys(NAMES, "up to date")
    assert (
        status(project).advice
        == f"nothing to do; tio2nn predict -C {project.root} FILE... predicts structures"
    )


def test_advice_can_be_pasted_into_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Project.create(Path(), PARAMETERS)
    assert status(Project(Path())).advice == "next: tio2nn extract SOURCE..."
    spaced = Project.create(Path("my project"), PARAMETERS)
    assert status(spaced).advice == "next: tio2nn extract -C 'my project' SOURCE..."


def test_looking_changes_nothing(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
    status(project)
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before


def test_everything_can_be_had_as_json(tmp_path: Path) -> None:
    found = status(trained_project(tmp_path / "p"))
    document = json.loads(json.dumps(found.as_dict()))
    assert document["root"] == str(tmp_path / "p")
    assert document["advice"] == found.advice
    assert [entry["name"] for entry in document["parts"]] == NAMES
    assert set(document["parts"][0]) == {"name", "command", "state", "what"}
    assert [row[:2] for row in found.rows()] == [(e["name"], e["state"]) for e in document["parts"]]


def test_parts_say_what_they_hold(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    project.rejected_file.write_text("file,line,reason\na.xsf,3,no energy\n", encoding="utf-8")
    n_atoms = sum(structure.n_atoms for structure in structures())
    assert part(project, "parameters").what == "10 functions for Ti, O"
    assert part(project, "structures").what == f"24 structures, {n_atoms} atoms, 1 file rejected"
    assert part(project, "features").what == f"{n_atoms} atoms × 10 functions"
    assert part(project, "model").what.startswith("1 network, validation RMSE ")


def test_parameters_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    change_parameters(project, cutoff=-1)
    with pytest.raises(InputError, match="cutoff: expected a number > 0"):
        status(project)


# --- stale --------------------------------------------------------------------------------------------------


def test_other_functions_make_features_and_model_stale_until_each_is_made_again(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    change_parameters(project, cutoff=3.5)
    assert part(project, "features").state == "stale"
    assert "made with another parameter set" in part(project, "features").what
    assert status(project).advice == f"next: tio2nn featurize -C {project.root}"
    compute_features(project, jobs=1, make_executor=no_pool)
    assert states(project) | {"evaluation": ""} == {
        "parameters": "up to date",
        "structures": "up to date",
        "features": "up to date",
        "split": "up to date",
        "model": "stale",
        "evaluation": "",
    }
    assert part(project, "model").what.endswith("trained on other features")
    assert status(project).advice == f"next: tio2nn train -C {project.root}"


def test_settings_of_a_training_are_no_reason_to_train_again(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    change_parameters(project, training={"epochs": 7})
    assert part(project, "model").state == "up to date"


def test_other_structures_make_the_features_stale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    write_store(project.structures_file, structures()[:20], reference_energies=ATOMIC_ENERGIES)
    assert states(project)["features"] == states(project)["model"] == "stale"
    assert "made from other structures" in part(project, "features").what


def test_other_energies_make_only_the_model_stale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    changed = [replace(structure, energy=-1.0) for structure in structures()]
    write_store(project.structures_file, changed, reference_energies=ATOMIC_ENERGIES)
    assert states(project)["features"] == "up to date"
    assert part(project, "model").what.endswith("trained on other energies")


def test_another_split_makes_the_model_stale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    project.split_file.write_text("structure,part\nstructure0001,train\n", encoding="utf-8")
    assert part(project, "model").what.endswith("trained on another split")


def test_an_evaluation_of_an_earlier_model_is_stale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    evaluate(project)
    potential = Potential.load(project.potential_file)
    replace(potential, about=potential.about | {"command": ["another"]}).save(project.potential_file)
    assert part(project, "evaluation").state == "stale"
    assert part(project, "evaluation").what.endswith("of an earlier model")
    assert status(project).advice == f"next: tio2nn evaluate -C {project.root}"


def test_copies_of_whatever_age_are_no_staler_than_the_project(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    evaluate(project)
    for age, path in enumerate(sorted(project.root.rglob("*.*"), reverse=True)):
        os.utime(path, (age, age))
    assert set(states(project).values()) == {"up to date"}


# --- interrupted and broken ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"file,line,reason\n\xff\n", "'utf-8' codec can't decode byte 0xff"),
        (b'file,line,reason\n"a', "unexpected end of data"),
        (b"", "an empty file"),
    ],
)
def test_tables_that_are_none_are_named(tmp_path: Path, content: bytes, got: str) -> None:
    project = small_project(tmp_path / "p")
    for name, file in (("structures", project.rejected_file), ("tuning", project.trials_file)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        found = part(project, name)
        assert found.state == "broken"
        assert found.what.startswith(f"{file}: expected a table, got")
        assert got in found.what


def test_a_folder_in_place_of_a_table_is_named(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    project.rejected_file.unlink(missing_ok=True)
    project.rejected_file.mkdir()
    assert (
        part(project, "structures").what == f"{project.rejected_file}: cannot read the file: Is a directory"
    )


def test_an_interrupted_featurize_is_told_from_none(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    project.features_manifest.unlink()
    assert part(project, "features") == Row("features", "featurize", "missing", "interrupted, 1 shard done")


def test_an_interrupted_training_is_told_from_none(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    assert part(project, "model").what == ""
    project.model_directory.mkdir()
    project.checkpoint_file(1).touch()
    assert part(project, "model").what == "interrupted; train resumes it"


def test_tuning_is_shown_once_there_is_some(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    assert "tuning" not in states(project)
    project.tuning_directory.mkdir()
    project.trials_file.write_text("trial,score\n1,2.0\n2,3.0\n", encoding="utf-8")
    assert part(project, "tuning").what == "interrupted after 2 trials"
    assert status(project).advice == f"next: tio2nn tune -C {project.root}"
    store = read_store(project.structures_file)
    inputs = inputs_of_model(project.parameters(), store, project.split_file)
    project.best_trial_file.write_text(json.dumps({"inputs": inputs}), encoding="utf-8")
    assert part(project, "tuning") == Row("tuning", "tune", "up to date", "2 trials")
    project.best_trial_file.write_text(json.dumps({"inputs": {**inputs, "features": "x"}}), encoding="utf-8")
    assert part(project, "tuning") == Row("tuning", "tune", "stale", "2 trials; made with other features")
    assert status(project).advice == f"next: tio2nn train -C {project.root}"
    project.best_trial_file.write_text("{}", encoding="utf-8")
    assert part(project, "tuning").state == "broken"


def test_a_split_without_a_test_part_leaves_nothing_to_evaluate(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    rows = project.split_file.read_text(encoding="utf-8").replace(",test,", ",train,")
    project.split_file.write_text(rows, encoding="utf-8")
    assert part(project, "evaluation").state == "up to date"
    assert "the test set is empty" in part(project, "evaluation").what


def test_the_evaluation_of_a_stale_model_is_stale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    evaluate(project)
    assert part(project, "evaluation").state == "up to date"
    changed = project.parameters().with_overrides(cutoff=3.5)
    project.parameters_file.write_text(changed.to_json(), encoding="utf-8")
    assert (part(project, "model").state, part(project, "evaluation").state) == ("stale", "stale")


def test_lost_shards_are_noticed(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    for shard in project.features_directory.glob("shard-*.npz"):
        shard.unlink()
    assert part(project, "features").state == "broken"
    assert part(project, "features").what == "1 of 1 shard is missing"
    assert status(project).advice == f"next: tio2nn featurize -C {project.root}"


def test_a_weight_that_cannot_be_used_is_to_be_corrected_before_anything_else(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    rows = ["structure,weight", *(f"{name},-3" for name in read_store(project.structures_file).names)]
    project.energies_file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert part(project, "structures").state == "broken"
    assert status(project).advice == f"next: correct {project.energies_file}"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"inputs": 1}', '{"inputs": {}}', '{"energy": 1}'])
def test_files_that_say_nothing_are_broken_and_the_command_that_makes_them_is_next(
    tmp_path: Path, content: str
) -> None:
    project = trained_project(tmp_path / "p")
    project.evaluation_directory.mkdir()
    project.evaluation_metrics_file.write_text(content, encoding="utf-8")
    assert part(project, "evaluation").state == "broken"
    assert str(project.evaluation_metrics_file) in part(project, "evaluation").what
    project.training_metrics_file.write_text(content, encoding="utf-8")
    assert part(project, "model").state == "broken"
    assert status(project).advice == f"next: tio2nn train -C {project.root}"
    project.structures_file.write_bytes(content.encode())
    assert part(project, "structures").state == "broken"
    assert status(project).advice == f"next: tio2nn extract -C {project.root} SOURCE..."
