"""Weights that a user gives in the column `weight` of energies.csv."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import invoke, refusal
from projects import PARAMETERS, structures, write_files

from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import MODEL, STALE
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model

N = 12


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project.create(tmp_path / "p", PARAMETERS)
    invoke("extract", "-C", made.root, *write_files(tmp_path, structures(N)))
    return made


def table_of(project: Project) -> list[dict[str, str]]:
    with project.energies_file.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def give(project: Project, weights: dict[int, str], column: str = "weight") -> None:
    """Write some weights, by row, as a user would."""
    rows = [{**row, column: weights.get(k, "")} for k, row in enumerate(table_of(project))]
    write(project, rows)


def write(
    project: Project, rows: list[dict[str, str]], *, separator: str = ",", encoding: str = "utf-8"
) -> None:
    with project.energies_file.open("w", encoding=encoding, newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def weights_of(project: Project) -> list[float] | None:
    weights = Snapshot(project).structures.weights
    return None if weights is None else weights.tolist()


def test_a_weight_in_the_table_counts_in_the_fit_and_makes_the_old_one_stale(project: Project) -> None:
    invoke("featurize", "-C", project.root)
    invoke("train", "-C", project.root, "--energies-only")
    before = project.potential_file.read_bytes()
    assert Snapshot(project).state(MODEL).kind != STALE
    give(project, dict.fromkeys(range(0, N, 2), "0"))
    out, _ = invoke("status", "-C", project.root)
    assert "trained on other weights" in out
    assert weights_of(project) == [float(k % 2) for k in range(N)]
    invoke("train", "-C", project.root, "--energies-only")
    assert project.potential_file.read_bytes() != before
    assert Snapshot(project).state(MODEL).kind != STALE


def test_weights_in_the_table_replace_those_of_the_files_and_are_those_of_a_fit(tmp_path: Path) -> None:
    with_weights = [replace(s, weight=0.5 + k) for k, s in enumerate(structures(4))]
    made = Project.create(tmp_path / "p", PARAMETERS)
    text = "".join(exact_extxyz(structure, {}) for structure in with_weights)
    (tmp_path / "all.xyz").write_text(text, encoding="utf-8")
    invoke("extract", "-C", made.root, tmp_path / "all.xyz")
    assert [row["config_weight"] for row in table_of(made)] == ["0.5", "1.5", "2.5", "3.5"]
    assert "weight" not in table_of(made)[0]
    give(made, {1: "7"})
    assert weights_of(made) == [0.5, 7.0, 2.5, 3.5]
    assert [structure.weight for structure in Snapshot(made).structures] == [0.5, 7.0, 2.5, 3.5]
    digests = inputs_of_model(PARAMETERS, Snapshot(made).structures, made.split_file)
    give(made, dict.fromkeys(range(4), "1"))
    assert weights_of(made) is None
    assert digests["weights"] != inputs_of_model(PARAMETERS, Snapshot(made).structures, made.split_file).get(
        "weights"
    )
    give(made, {})
    assert weights_of(made) == [0.5, 1.5, 2.5, 3.5]


def test_extracting_again_keeps_the_weights_and_says_so(project: Project, tmp_path: Path) -> None:
    give(project, {0: "3", 5: "0.25"})
    names = [row["structure"] for row in table_of(project)]
    files = write_files(tmp_path, structures(N))
    for _ in range(2):  # what is kept once is not taken for a weight of the files
        _, err = invoke("extract", "-C", project.root, *files)
        assert "weights 0.25 to 3" in " ".join(err.split())
        assert f"the weights of 2 structures in {project.energies_file} were kept" in err
        assert weights_of(project) == [3.0, *[1.0] * 4, 0.25, *[1.0] * (N - 6)]
    _, err = invoke("extract", "-C", project.root, *files, "--limit", "2")
    assert (
        f"warning: 1 structure is gone from {project.energies_file} with the weights given there: {names[5]}"
        in err
    )
    assert weights_of(project) == [3.0, 1.0]
    give(project, {})
    assert weights_of(project) is None


@pytest.mark.parametrize(
    ("separator", "encoding", "text"),
    [(",", "utf-8-sig", "0.5"), (";", "utf-8-sig", "0,5"), ("\t", "utf-8", "0.5"), (";", "utf-8", "5E-1")],
)
def test_a_table_that_a_spreadsheet_wrote_is_read(
    project: Project, separator: str, encoding: str, text: str
) -> None:
    give(project, {2: text})
    # a spreadsheet sorts, rounds, and adds empty rows
    rows = [{**row, "energy_eV": "-1,0"} for row in reversed(table_of(project))]
    write(project, [*rows, dict.fromkeys(rows[0], "")], separator=separator, encoding=encoding)
    assert weights_of(project) == [1.0, 1.0, 0.5, *[1.0] * (N - 3)]


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "heavy", "1_0", "1,000"])
def test_what_is_no_weight_is_refused_in_its_line(project: Project, weight: str) -> None:
    give(project, {3: weight})
    expected = f"{project.energies_file}:5: expected a finite number of at least 0 for weight, got '{weight}'"
    assert refusal("train", "-C", project.root, code=3) == expected
    if weight == "-1":
        for command in ("featurize", "tune", "learning-curve"):
            assert refusal(command, "-C", project.root, code=3) == expected
        before = project.energies_file.read_bytes()
        assert refusal("extract", project.root.parent, "-C", project.root, code=3) == expected
        assert project.energies_file.read_bytes() == before
        out, _ = invoke("status", "-C", project.root)
        assert expected.removeprefix(str(project.root)) in out


def test_wrong_rows_and_columns_are_refused_in_their_line(project: Project) -> None:
    table = project.energies_file
    names = [row["structure"] for row in table_of(project)]
    plain = table_of(project)

    def found() -> str:
        return refusal("train", "-C", project.root, code=3)

    write(project, [{"structure": name, "weight": "2"} for name in [*names[:-1], "stranger"]])
    assert found() == f'{table}:{N + 1}: expected a structure of the project, got "stranger"'
    write(project, [{"structure": name, "weight": "2"} for name in [*names, names[0]]])
    assert found() == f'{table}:{N + 2}: expected each structure once, got "{names[0]}" twice'
    write(project, [{"structure": name, "weight": "2"} for name in names[2:]])
    assert found() == (
        f'{table}: expected a row for each structure, got none for "{names[0]}" and 1 other; a weight of 0 leaves a '
        "structure out of the loss"
    )
    for name in ("Weight", "weights", "weigth", "config weight", "configweights"):
        write(project, plain)
        give(project, {0: "2"}, name)
        assert found() == f"{table}:1: expected the column weight, got '{name}'"
    write(project, plain)
    give(project, {0: "2", 1: "1"}, "config_weight")
    assert found() == (
        f"{table}:2: expected 1.0 for config_weight, which repeats the structure file, got '2'; give another weight "
        "in a column weight"
    )
    write(project, [{"name": name, "weight": "2"} for name in names])
    assert found() == f"{table}:1: expected the column structure, got none"
    lines = [f"{name},2" for name in names]
    table.write_text("\n".join(["structure,weight", lines[0], f"{lines[1]},3", *lines[2:]]), encoding="utf-8")
    assert found() == f"{table}:3: expected 2 columns, got 3"
    table.write_text("\n".join(["structure,weight,weight", *lines]), encoding="utf-8")
    assert found() == f"{table}:1: expected one column weight, got 2"
    table.write_text("\n".join(["structure,weight", *lines]), encoding="utf-16")
    assert found() == f"{table}: expected UTF-8 text, got another encoding; correct or delete it"
    table.unlink()
    assert weights_of(project) is None


def test_columns_of_the_users_own_are_left_alone(project: Project) -> None:
    for name in ("height", "comment", "eight", "weighed by"):
        give(project, {0: "any"}, name)
    assert weights_of(project) is None


def test_weights_given_are_those_of_converted_files(project: Project, tmp_path: Path) -> None:
    give(project, {0: "0.125"})
    invoke("convert", "-C", project.root, tmp_path / "out.xyz")
    assert (tmp_path / "out.xyz").read_text(encoding="utf-8").count("config_weight=0.125") == 1
