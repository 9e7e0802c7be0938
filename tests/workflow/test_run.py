from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refusal, without_training
from projects import PARAMETERS, structures, write_files

from tio2nn.cli import evaluate, tune
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.parameters.recipes import with_recipe
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project

TRAINED = "trained 1 network"
NOT_TRAINED = "training: nothing to do"
COMPUTED = "structures computed"
NOT_COMPUTED = "symmetry functions: nothing to do"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a folder of structure files, and no project named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    write_files(tmp_path / "files", structures())
    return tmp_path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[ParameterSet]:
    """The settings of each training that is asked for; none is done."""
    return without_training(monkeypatch, "structure0001")


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A project in which run has done everything, and what it wrote to stdout and stderr."""
    place = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_files(place / "files", structures())
        Project.create(place / "p", PARAMETERS)
        return place / "p", *invoke("run", "files", "-C", "p", "--json", "-j", "1")


@pytest.fixture
def project(here: Path, first_run: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project, here; what comes after the training is left out."""
    monkeypatch.setattr(evaluate, "perform", lambda *_, **__: ({}, True))
    return Path(shutil.copytree(first_run[0], here / "p"))


# --- a new project ------------------------------------------------------------------------------------------


def test_run_does_everything_and_names_the_potential(first_run: tuple[Path, str, str]) -> None:
    root, out, err = first_run
    project = Project(root)
    assert json.loads(out) == json.loads(project.evaluation_metrics_file.read_text(encoding="utf-8"))
    assert COMPUTED in err
    assert TRAINED in err
    assert "the potential is p/model/potential.npz" in err
    assert err.splitlines()[-1].endswith("next: tio2nn predict -C p FILE...")
    made = (
        project.energies_file,
        project.rejected_file,
        project.split_file,
        project.network_file(),
        project.history_figure,
        project.parity_figure,
    )
    assert all(path.stat().st_size > 0 for path in made)
    assert "nothing to do; tio2nn predict" in invoke("status", "-C", root)[0]


@pytest.mark.usefixtures("trainings")
def test_run_ends_with_3_if_a_prediction_for_the_test_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "perform", lambda *_, **__: ({}, False))
    _, err = invoke("run", "files", code=3)
    assert "the potential is tio2nn-project/model/potential.npz" in err


def test_run_makes_a_project_of_the_default_preset_for_the_elements_that_it_finds(
    here: Path, trainings: list[ParameterSet]
) -> None:
    assert invoke("run", "files")[0] == ""
    found = Project(here / "tio2nn-project").parameters()
    assert trainings == [found]
    assert found == preset("artrith-urban-2016", ("Ti", "O"))


def test_run_takes_elements_preset_and_recipe_from_its_flags(
    here: Path, trainings: list[ParameterSet]
) -> None:
    flags = ("--preset", "rili-2024", "--elements", "O,Ti", "--recipe", "quick", "-C", "new/p")
    invoke("run", "files", *flags)
    parameters = preset("rili-2024", ("O", "Ti"))
    assert Project(here / "new/p").parameters() == parameters
    assert trainings == [with_recipe(parameters, "quick")]


def test_run_accepts_only_structures_of_the_elements_that_are_named(
    here: Path, trainings: list[ParameterSet]
) -> None:
    text = (here / "files/structure0001.xsf").read_text(encoding="utf-8")
    (here / "files/water.xsf").write_text(text.replace("Ti ", "H "), encoding="utf-8")
    _, err = invoke("run", "files", "--elements", "Ti,O", code=3)
    assert "files/water.xsf:3: expected the elements Ti, O, got H" in err
    assert len(trainings) == 1


def test_run_takes_the_project_of_the_current_directory_but_none_above(
    here: Path, trainings: list[ParameterSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    Project.create(here, PARAMETERS)
    invoke("run", "files")
    assert (here / "energies.csv").exists()
    (here / "inner").mkdir()
    monkeypatch.chdir(here / "inner")
    invoke("run", "../files")
    assert (here / "inner/tio2nn-project/energies.csv").exists()
    assert len(trainings) == 2


def test_run_tunes_first_if_it_is_asked_or_the_recipe_searches(
    here: Path, trainings: list[ParameterSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    best = {"network": {"hidden_layers": [3]}}
    searches: list[ParameterSet] = []

    def search(snapshot: Snapshot, parameters: ParameterSet, *_: object) -> dict[str, Any]:
        searches.append(parameters)
        snapshot.project.tuning_directory.mkdir(exist_ok=True)
        snapshot.project.best_trial_file.write_text(json.dumps(best), encoding="utf-8")
        return best

    monkeypatch.setattr(tune, "perform", search)
    monkeypatch.setattr(
        "tio2nn.tuning.trials.read_best", lambda path, _: json.loads(path.read_text(encoding="utf-8"))
    )
    Project.create(here, PARAMETERS)
    invoke("run", "files")
    invoke("run", "files", "--recipe", "rili-2024", "--no-tune")
    assert searches == []
    invoke("run", "files", "--recipe", "rili-2024")
    invoke("run", "files", "--tune")
    paper = with_recipe(PARAMETERS, "rili-2024")
    assert searches == [paper, PARAMETERS]
    assert trainings == [
        PARAMETERS,
        paper,
        paper.with_overrides(network={"hidden_layers": [3]}),
        PARAMETERS.with_overrides(network={"hidden_layers": [3]}),
    ]


# --- a project that is there --------------------------------------------------------------------------------


def test_a_second_run_keeps_features_split_and_model(project: Path) -> None:
    kept = [*(project / "features").iterdir(), *(project / "model").iterdir(), project / "split.csv"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    _, err = invoke("run", "files", "-C", "p")
    assert NOT_COMPUTED in err
    assert NOT_TRAINED in err
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_run_trains_again_with_changed_settings_and_keeps_the_features(project: Path) -> None:
    change(project / "params.json", lambda content: content["training"].update(epochs=2))
    _, err = invoke("run", "files", "-C", "p")
    assert NOT_COMPUTED in err
    assert TRAINED in err
    history = (project / "model/history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 1 + 2


@pytest.mark.parametrize(
    "written", ["tio2nn.workflow.train.write_json", "tio2nn.workflow.train.Potential.save"]
)
def test_run_trains_again_where_a_second_training_was_killed_between_its_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    change(project / "params.json", lambda content: content["training"].update(epochs=2))

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(written, killed)
        invoke("run", "files", "-C", "p", code=130)
    invoke("run", "files", "-C", "p")
    metrics = json.loads((project / "model/metrics.json").read_text(encoding="utf-8"))
    assert Potential.load(project / "model/potential.npz").about == metrics
    assert metrics["epochs"] == [2]


@pytest.mark.slow
def test_run_computes_and_trains_again_with_changed_functions(project: Path) -> None:
    change(project / "params.json", lambda content: content["radial"].pop())
    _, err = invoke("run", "files", "-C", "p")
    assert COMPUTED in err
    assert TRAINED in err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("what", ["energy", "number"])
def test_run_follows_changed_structure_files(here: Path, what: str) -> None:
    file = here / "files/structure0005.xsf"
    if what == "energy":
        text = file.read_text(encoding="utf-8")
        energy = next(line for line in text.splitlines() if "total energy" in line)
        file.write_text(text.replace(energy, "# total energy = -4000.0 eV"), encoding="utf-8")
    else:
        file.unlink()
    _, err = invoke("run", "files", "-C", "p")
    assert (NOT_COMPUTED in err) == (what == "energy")
    assert TRAINED in err


@pytest.mark.usefixtures("project")
def test_a_split_is_trained_on_once_and_need_not_have_a_test_part(here: Path) -> None:
    names = [structure.name for structure in structures()]
    (here / "mine.txt").write_text("\n".join(names[:15]), encoding="utf-8")
    out, err = invoke("run", "files", "-C", "p", "--split", "mine.txt", "--json")
    assert TRAINED in err
    assert "the split has no test set" in err
    assert json.loads(out) == {}
    assert NOT_TRAINED in invoke("run", "files", "-C", "p", "--split", "mine.txt")[1]
    assert NOT_TRAINED in invoke("run", "files", "-C", "p")[1]
    (here / "mine.txt").write_text("\n".join(names[:16]), encoding="utf-8")
    assert TRAINED in invoke("run", "files", "-C", "p", "--split", "mine.txt")[1]


def test_run_takes_so_many_structures(here: Path, trainings: list[ParameterSet]) -> None:
    Project.create(here / "p", PARAMETERS)
    invoke("run", "files", "-C", "p", "--limit", "8")
    table = (here / "p/energies.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split(",")[0] for line in table] == [f"structure{number:04d}" for number in range(1, 25, 3)]
    assert len(trainings) == 1


def test_a_broken_file_does_not_stop_run_and_it_ends_with_3(here: Path) -> None:
    (here / "files/structure0002.xsf").write_text("CRYSTAL\n", encoding="utf-8")
    Project.create(here / "p", PARAMETERS)
    out, err = invoke("run", "files", "-C", "p", "--json", code=3)
    assert json.loads(out)["n_structures"] >= 1
    assert "files/structure0002.xsf" in err
    assert TRAINED in err


def test_a_run_that_finds_nothing_leaves_what_was_there(project: Path) -> None:
    before = (project / "energies.csv").read_bytes()
    _, err = invoke("run", "gone", "-C", "p", code=3)
    assert err == "gone: no such file or folder\n"
    assert (project / "energies.csv").read_bytes() == before


FLAGS = (
    *("--seed", 5, "--split-by", "grouped", "--members", 2, "--epochs", 2),
    *("--max-energy", 100, "--new-split", "--keep-outliers"),
)


@pytest.mark.slow
def test_run_takes_what_train_takes_and_a_second_one_has_nothing_to_do(project: Path) -> None:
    _, err = invoke("run", "files", "-C", "p", *FLAGS, "-j", 1)
    assert "trained 2 networks" in err
    assert "epoch 2/2" in err
    about = json.loads((project / "model/metrics.json").read_text(encoding="utf-8"))
    training = about["parameters"]["training"]
    assert (training["seed"], training["split"], training["max_energy"]) == (5, "grouped", 100.0)
    assert training["outliers"] == "keep"
    assert NOT_TRAINED in invoke("run", "files", "-C", "p", *FLAGS)[1]


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_without_a_test_part_all_but_the_validation_trains() -> None:
    _, err = invoke("run", "files", "-C", "p", "--no-test")
    assert "training on 23 structures, validating on 1; reference" in err
    assert "the split has no test set" in err
    assert NOT_TRAINED in invoke("run", "files", "-C", "p", "--no-test")[1]


def test_run_says_how_much_better_it_is_than_reference_energies(first_run: tuple[Path, str, str]) -> None:
    root, out, err = first_run
    found = json.loads(out)
    assert found["baseline"]["reference_rmse_meV_per_atom"] > 0.0
    assert "reference energies alone" in err
    assert "evaluation, 2 structures: " in err
    about = json.loads((root / "model/metrics.json").read_text(encoding="utf-8"))
    assert about["baseline"]["validation"]["better_by_factor"] > 0.0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_structures_all_train_and_one_is_refused(here: Path, n: int) -> None:
    Project.create(here / "p", PARAMETERS)
    write_files(here / "few", structures()[:n])
    _, err = invoke("run", "few", "-C", "p", "-j", 1, code=3 if n == 1 else 0)
    if n == 1:
        assert err.splitlines()[-1] == "expected at least 2 structures to train on, got 1; add structures"
        return
    assert f"training on {n} structures; reference" in err
    assert "warning: no structures are held out" in err
    history = (here / "p/model/history.csv").read_text(encoding="utf-8").splitlines()
    assert dict(zip(history[0].split(","), history[1].split(","), strict=True))["validation_loss"] == ""
    assert "not validated" in invoke("status", "-C", "p")[0]
    assert NOT_TRAINED in invoke("run", "few", "-C", "p")[1]


@pytest.mark.slow
def test_a_gross_outlier_is_left_out_and_announced(here: Path) -> None:
    Project.create(here / "p", PARAMETERS)
    file = here / "files/structure0005.xsf"
    text = file.read_text(encoding="utf-8")
    energy = next(line for line in text.splitlines() if "total energy" in line)
    file.write_text(text.replace(energy, "# total energy = -4000.0 eV"), encoding="utf-8")
    _, err = invoke("run", "files", "-C", "p", "-j", 1)
    assert "1 gross outlier, far beyond the energies or forces of the others (structure0005): left out" in err
    assert "--keep-outliers" in err
    about = json.loads((here / "p/model/metrics.json").read_text(encoding="utf-8"))
    assert about["outliers_left_out"] == ["structure0005"]
    assert "structure0005" not in (here / "p/evaluation/residuals.csv").read_text(encoding="utf-8")


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [("--preset", "rili-2024"), ("--elements", "O,Ti"), ("--elements", "Ti")])
def test_other_parameters_than_those_of_the_project_are_refused(here: Path, flags: tuple[str, str]) -> None:
    Project.create(here / "p", preset("artrith-urban-2016", ("Ti", "O")))
    message = refusal("run", "files", "-C", "p", *flags, code=2)
    assert message.startswith("p/params.json: expected the parameter set of --preset and --elements")
    assert [path.name for path in (here / "p").iterdir()] == ["params.json"]


@pytest.mark.parametrize(
    ("parameters", "flags"),
    [
        (preset("rili-2024", ("O", "Ti")), ("--preset", "rili-2024")),
        (preset("rili-2024", ("O", "Ti")), ("--preset", "rili-2024", "--elements", "O,Ti")),
        (PARAMETERS, ("--elements", "Ti,O")),
    ],
)
def test_the_parameters_of_the_project_may_be_named_again(
    here: Path, trainings: list[ParameterSet], parameters: ParameterSet, flags: tuple[str, ...]
) -> None:
    Project.create(here / "p", parameters)
    invoke("run", "files", "-C", "p", *flags)
    assert trainings == [parameters]


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (("--split-by", "chance"), 2, '--split-by: expected "random" or "grouped"'),
        (
            ("--split", "mine.csv", "--no-test"),
            2,
            "--split cannot be combined with --split-by, --new-split or --no-test",
        ),
        (("--recipe", "quikc"), 2, 'did you mean "quick"?'),
        (("--preset", "rili"), 2, 'got "rili"'),
        (("--split", "gone.csv"), 3, "gone.csv: no such file"),
        (("-C", "files/structure0001.xsf"), 2, "expected a project directory, got a file"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    here: Path, flags: tuple[str, ...], code: int, expected: str
) -> None:
    assert expected in refusal("run", "files", *flags, code=code)
    assert [path.name for path in here.iterdir()] == ["files"]
