"""What each command prints, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refusal, rows
from projects import PARAMETERS, extracted_project, small_project, structures, trained_project, write_files

from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import PRESETS, preset
from tio2nn.parameters.schema import json_schema
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project

HEADER = (
    "# file\tn_atoms\tenergy_eV\tenergy_eV_per_atom\tspread_eV_per_atom\tn_extrapolating\tlargest_distance"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no project named in the environment, for every test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path


# --- init ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_init_writes_the_preset_for_the_elements(name: str) -> None:
    out, err = invoke("init", "new/p", "--preset", name, "--elements", "Si, O ,H")
    assert (out, err) == ("", "created new/p/params.json\n")
    assert Project(Path("new/p")).parameters() == preset(name, ("Si", "O", "H"))


def test_init_makes_a_project_in_the_current_directory_whose_functions_are_chosen_later(here: Path) -> None:
    out, err = invoke("init")
    assert out == ""
    assert err.startswith(
        'created params.json; next: "tio2nn extract SOURCE...", which chooses symmetry functions'
    )
    assert Project(here).parameters_or_draft() == Draft.new()


def test_init_does_not_overwrite_a_project(here: Path) -> None:
    invoke("init", "p")
    before = (here / "p/params.json").read_bytes()
    message = refusal("init", "p", "--preset", "rili-2024", code=2)
    assert message == "cannot create a project: p/params.json exists already"
    assert (here / "p/params.json").read_bytes() == before


def test_init_makes_a_project_inside_a_project(here: Path) -> None:
    invoke("init")
    invoke("init", "inner", "--preset", "rili-2024")
    assert (here / "inner/params.json").exists()


# --- extract and featurize ----------------------------------------------------------------------------------


def test_extract_takes_what_it_can_and_ends_with_3_if_that_is_not_everything(here: Path) -> None:
    files = write_files(here / "files", structures()[:6])
    files[2].write_text(
        files[2].read_text(encoding="utf-8").replace("PRIMVEC\n", "PRIMVEC\n1 2 x\n"), "utf-8"
    )
    Project.create(here / "p", PARAMETERS)
    out, err = invoke("extract", "-", "nothing.xsf", "-C", "p", code=3, stdin="files\n")
    assert out == ""
    assert re.search(r"^files/structure0003\.xsf:\d+: expected .*, got ", err, re.MULTILINE)
    assert re.search(r"^nothing\.xsf: no such file or folder", err, re.MULTILINE)
    assert "2 files or structures rejected; for the reasons see p/rejected.csv" in err
    assert len((here / "p/energies.csv").read_text(encoding="utf-8").splitlines()) == 1 + 5


def test_extract_without_a_structure_ends_with_3_and_keeps_what_was_there(here: Path) -> None:
    write_files(here / "files", structures()[:4])
    Project.create(here / "p", PARAMETERS)
    invoke("extract", "files", "-C", "p")
    before = (here / "p/energies.csv").read_bytes()
    (here / "empty").mkdir()
    out, err = invoke("extract", "empty", "-C", "p", code=3)
    assert out == ""
    assert err.splitlines() == [
        'empty: expected structure files (formats: "tio2nn extract --formats") in this folder, got none'
    ]
    assert (here / "p/energies.csv").read_bytes() == before


def test_extract_of_rejected_structures_alone_ends_with_their_number(here: Path) -> None:
    (here / "x.xyz").write_text(2 * "1\nenergy=-1.0 pbc=F\nX 0 0 0\n")
    _, err = invoke("run", "x.xyz", code=3)
    assert err.splitlines() == [
        "x.xyz:3: expected a chemical symbol, got 'X'; take out ghost atoms and vacancies",
        "x.xyz:6: expected a chemical symbol, got 'X'; take out ghost atoms and vacancies",
        "expected at least one structure to use, got none: 2 files or structures were rejected for the reasons above",
    ]


def test_a_second_featurize_does_nothing_and_csv_can_be_asked_for_later(here: Path) -> None:
    extracted_project(here / "p")
    assert invoke("featurize", "-C", "p", "-j", "1")[0] == ""
    times = {path.name: path.stat().st_mtime_ns for path in (here / "p/features").iterdir()}
    out, err = invoke("featurize", "-C", "p", "--csv")
    assert out == ""
    assert "nothing to do, all 24 structures are there" in err
    assert "wrote 24 CSV files to p/features" in err
    assert {name: (here / "p/features" / name).stat().st_mtime_ns for name in times} == times
    assert (here / "p/features/sym0007.csv").exists()


# --- train and evaluate -------------------------------------------------------------------------------------


def test_train_and_evaluate_print_their_metrics_as_json_alone(here: Path) -> None:
    small_project(here / "p")
    out, err = invoke("train", "-C", "p", "--epochs", "3", "--seed", "5", "--json")
    metrics = json.loads(out)
    assert metrics == json.loads((here / "p/model/metrics.json").read_text(encoding="utf-8"))
    assert metrics["parameters"]["training"]["epochs"] == 3
    assert metrics["seed"] == 5
    assert "member 1, epoch 3/3" in err
    out, err = invoke("evaluate", "-C", "p", "--json")
    assert json.loads(out) == json.loads((here / "p/evaluation/metrics.json").read_text(encoding="utf-8"))
    assert "errors on" in err


def test_train_and_evaluate_print_nothing_on_stdout_unless_asked(here: Path) -> None:
    trained_project(here / "p")
    assert invoke("train", "-C", "p", "--epochs", "1")[0] == ""
    assert invoke("evaluate", "-C", "p")[0] == ""


def test_evaluate_ends_with_3_if_some_files_are_broken_and_measures_the_others(here: Path) -> None:
    files = write_files(here / "files", structures(seed=1)[:5])
    files[1].write_text("CRYSTAL\n", encoding="utf-8")
    project = trained_project(here / "p")
    out, err = invoke("evaluate", "files", "--potential", project.potential_file, "--json", code=3)
    assert json.loads(out)["n_structures"] == 4
    assert "files/structure0002.xsf" in err


# --- predict ------------------------------------------------------------------------------------------------


def test_predict_prints_a_table_with_a_line_for_each_structure(here: Path) -> None:
    write_files(here / "files", structures()[:3])
    trained_project(here / "p")
    out, _ = invoke("predict", "files/structure0002.xsf", "files", "-C", "p")
    assert out.splitlines()[0] == HEADER
    names = ["files/structure0002.xsf", "files/structure0001.xsf", "files/structure0003.xsf"]
    assert [row[0] for row in rows(out)[1:]] == names
    chosen = [structures()[k] for k in (1, 0, 2)]
    for row, structure in zip(rows(out)[1:], chosen, strict=True):
        assert int(row[1]) == structure.n_atoms
        assert float(row[2]) == pytest.approx(float(row[3]) * structure.n_atoms, rel=1e-12)


def test_predict_gives_the_same_numbers_in_every_format(here: Path) -> None:
    write_files(here / "files", structures()[:3])
    trained_project(here / "p")
    tsv, csv, lines = (
        invoke("predict", "files", "-C", "p", "--format", form)[0] for form in ("tsv", "csv", "json")
    )
    assert csv.splitlines()[0].split(",") == HEADER.removeprefix("# ").split("\t")
    assert [line.split(",") for line in csv.splitlines()[1:]] == rows(tsv)[1:]
    for row, line in zip(rows(tsv)[1:], lines.splitlines(), strict=True):
        found = json.loads(line)
        shown = [found["file"], str(found["n_atoms"]), repr(found["energy_eV"])]
        assert shown == row[:3]
        assert found["spread_eV_per_atom"] is None
        assert len(found["extrapolation"]) == int(row[5])


def test_predict_reads_names_from_stdin_and_predicts_around_a_broken_file(here: Path) -> None:
    files = write_files(here / "files", structures()[:4])
    files[1].write_text("CRYSTAL\nPRIMVEC\n1 2\n", encoding="utf-8")
    trained_project(here / "p")
    names = [f"files/{path.name}" for path in files]
    out, err = invoke(
        "predict", "-C", "p", "-", "gone.xsf", stdin="".join(name + "\n" for name in names), code=3
    )
    assert [row[0] for row in rows(out)[1:]] == [names[0], names[2], names[3]]
    reasons = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert [line.split(":")[0] for line in reasons] == [names[1], "gone.xsf"]


def test_predict_needs_no_project_if_a_potential_is_named(here: Path) -> None:
    project = trained_project(here / "p")
    write_files(here / "files", structures()[:2])
    of_project = invoke("predict", "files", "-C", "p")
    project.potential_file.rename(here / "mine.npz")
    assert invoke("predict", "files", "--potential", "mine.npz") == of_project
    message = refusal("predict", "files", "--potential", "yours.npz", code=3)
    assert message.startswith("yours.npz: ")


def test_predict_warns_on_stderr_of_atoms_outside_the_training_range(here: Path) -> None:
    trained_project(here / "p")
    path = write_files(here, structures()[:1])[0]
    text = path.read_text(encoding="utf-8").splitlines()
    start = text.index("PRIMVEC") + 1
    for k in range(start, start + 3):
        text[k] = " ".join(str(0.7 * float(x)) for x in text[k].split())
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    out, err = invoke("predict", path.name, "-C", "p")
    assert int(rows(out)[1][5]) > 0
    assert err.startswith(f"warning: {path.name}: ")
    assert "atoms are far from the training set" in err
    assert invoke("predict", path.name, "-C", "p", "--strict", code=3) == (out, err)
    invoke("evaluate", path.name, "-C", "p")
    invoke("evaluate", path.name, "-C", "p", "--strict", code=3)


def test_strict_has_nothing_against_structures_like_those_in_training(here: Path) -> None:
    trained_project(here / "p")
    (path, *_) = write_files(here, structures()[:1])
    invoke("predict", path.name, "-C", "p", "--strict")
    invoke("evaluate", path.name, "-C", "p", "--strict")


# --- status and schema --------------------------------------------------------------------------------------


def test_status_prints_a_table_and_what_is_next(here: Path) -> None:
    extracted_project(here / "p")
    out, err = invoke("status", "-C", "p")
    assert err == ""
    assert [re.split(r"\s{2,}", line)[:2] for line in out.splitlines()[1:4]] == [
        ["parameters", "up to date"],
        ["structures", "up to date"],
        ["features", "missing"],
    ]
    assert out.splitlines()[-1] == "next: tio2nn featurize -C p"
    assert json.loads(invoke("status", "-C", "p", "--json")[0])["advice"] == out.splitlines()[-1]


def test_schema_prints_a_line_for_every_field() -> None:
    out, err = invoke("schema")
    assert err == ""
    assert out.splitlines()[0].split() == ["field", "type", "default", "unit", "meaning"]
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert {"cutoff", "radial[].eta", "angular[].lambda", "training.epochs", "tuning.strategy"} <= set(names)


@pytest.mark.parametrize("name", PRESETS)
def test_the_printed_json_schema_knows_every_field_of_a_new_project(here: Path, name: str) -> None:
    schema = json.loads(invoke("schema", "--json")[0])
    assert schema == json_schema(ParameterSet, schema["title"])
    assert schema["$schema"].startswith("https://json-schema.org/")
    invoke("init", "p", "--preset", name)
    content = json.loads((here / "p/params.json").read_text(encoding="utf-8"))
    assert unknown(schema, content) == []
    assert unknown(schema, content | {"cutof": 1}) == ["cutof"]


def unknown(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    """Places in a document whose kind, or name, the schema does not allow, or that it asks for in vain."""
    if isinstance(value, dict) and "properties" in schema:
        inner = [
            place
            for key, item in value.items()
            for place in (
                unknown(schema["properties"][key], item, f"{path}.{key}".lstrip("."))
                if key in schema["properties"]
                else [f"{path}.{key}".lstrip(".")]
            )
        ]
        return inner + [f"{path}.{key}?" for key in schema.get("required", ()) if key not in value]
    if isinstance(value, list):
        return [place for item in value for place in unknown(schema["items"], item, f"{path}[]")]
    kinds = {dict: "object", bool: "boolean", int: "integer", float: "number", str: "string"}
    kind = "null" if value is None else kinds[type(value)]
    allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    fits = kind in allowed or (kind == "integer" and "number" in allowed)
    return [] if fits else [path]


def test_a_split_that_somebody_damaged_is_not_replaced_in_silence(here: Path) -> None:
    project = trained_project(here / "p")
    lines = project.split_file.read_text("utf-8").splitlines()
    lines[4] = lines[4].replace(",t", ",T")
    project.split_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = project.split_file.read_bytes()
    _, err = invoke("train", "-C", "p", code=3)
    assert re.search(r'split\.csv:5: expected the part train, validation or test, got "T', err)
    assert project.split_file.read_bytes() == before
    invoke("train", "--new-split", "--epochs", 1, "-C", "p")
