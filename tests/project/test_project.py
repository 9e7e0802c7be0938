from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tio2nn.errors import InputError, MissingInputError, UsageError
from tio2nn.parameters.presets import preset
from tio2nn.project.entries import ENTRIES
from tio2nn.project.layout import Layout
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project

PARAMETERS = preset("artrith-urban-2016")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no project named in the environment, for every test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def project() -> Project:
    return Project.create(Path("my-project"), PARAMETERS)


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    return str(error.value)


def paths_of(project: Project) -> dict[str, Path]:
    names = [name for name, value in vars(Layout).items() if isinstance(value, property)]
    return {name: getattr(project, name) for name in names}


def test_a_created_project_gives_back_its_parameters(here: Path) -> None:
    project = Project.create(Path("deep/my-project"), PARAMETERS)
    assert project.parameters() == PARAMETERS
    assert (here / "deep/my-project/params.json").read_text(encoding="utf-8") == PARAMETERS.to_json()
    assert [path.name for path in project.root.iterdir()] == ["params.json"]


def test_a_project_can_be_created_beside_other_files(here: Path) -> None:
    (here / "water.xyz").touch()
    assert Project.create(Path(), PARAMETERS).parameters() == PARAMETERS


def test_an_existing_project_is_not_overwritten(project: Project) -> None:
    other = preset("rili-2024")
    with pytest.raises(UsageError) as caught:
        Project.create(project.root, other)
    assert message(caught) == "cannot create a project: my-project/params.json exists already"
    assert Project.create(project.root, other, exist_ok=True) == project
    assert project.parameters() == PARAMETERS


def test_a_file_is_no_place_for_a_project(here: Path) -> None:
    (here / "notes").touch()
    with pytest.raises(UsageError, match=r"^notes: expected a project directory, got a file$"):
        Project.create(Path("notes"), PARAMETERS)
    with pytest.raises(UsageError, match=r"^notes: expected a project directory, got a file$"):
        Project.find(Path("notes"))


def test_the_named_project_is_stronger_than_the_environment_and_that_than_the_search() -> None:
    for name in (".", "named", "environment"):
        Project.create(Path(name), PARAMETERS)
    environ = {ENVIRONMENT_VARIABLE: "environment"}
    assert Project.find(Path("named"), environ).root == Path("named")
    assert Project.find(None, environ).root == Path("environment")
    assert Project.find(None, {ENVIRONMENT_VARIABLE: ""}).root == Path()
    assert Project.find(None, {}).root == Path()


def test_the_environment_is_that_of_the_process_unless_given(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "my-project")
    assert Project.find() == project


def test_the_nearest_directory_above_is_found_and_shown_as_a_user_would_type_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project.root / "features" / "old"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert Project.find() == Project(Path("../.."))
    assert Project.find(cwd=Path.cwd()) == Project(Path("../.."))


def test_the_search_can_begin_elsewhere(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Project.create(elsewhere, PARAMETERS)
    (elsewhere / "inner").mkdir()
    assert Project.find(cwd=elsewhere / "inner").root == elsewhere
    Project.create(Path("my-project"), PARAMETERS)
    assert Project.find(Path("my-project"), cwd=here).root == here / "my-project"


def test_where_no_project_is_found_init_is_named() -> None:
    with pytest.raises(MissingInputError) as caught:
        Project.find()
    assert message(caught) == 'no params.json in the current directory or above; run "tio2nn init" first'


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("my-project", 'no params.json in my-project; run "tio2nn init my-project" first'),
        ("my project", "no params.json in my project; run \"tio2nn init 'my project'\" first"),
        (".", 'no params.json in the current directory; run "tio2nn init" first'),
    ],
)
def test_a_named_directory_without_parameters_names_the_init_that_makes_them(
    directory: str, expected: str
) -> None:
    for attempt in (lambda: Project.find(Path(directory)), lambda: Project(Path(directory)).parameters()):
        with pytest.raises(MissingInputError) as caught:
            attempt()
        assert message(caught) == expected


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(MissingInputError) as caught:
        Project.find(None, {ENVIRONMENT_VARIABLE: "gone"})
    assert message(caught) == 'no params.json in gone (named by TIO2NN_PROJECT); run "tio2nn init gone" first'


def test_broken_parameters_are_reported_with_the_file_as_typed(project: Project) -> None:
    project.parameters_file.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"^my-project/params\.json:1: expected valid JSON"):
        project.parameters()


def test_every_path_lies_in_the_project_and_has_a_command_that_makes_it(project: Project) -> None:
    paths = paths_of(project)
    shown = {path.relative_to(project.root).as_posix() for path in paths.values()}
    assert shown == {
        "params.json",
        "energies.csv",
        "rejected.csv",
        "structures/structures.npz",
        "features",
        "features/jacobian.json",
        "features/manifest.json",
        "features/strain.json",
        "tuning",
        "tuning/ledger.csv",
        "tuning/data.npz",
        "tuning/trials.csv",
        "tuning/best.json",
        "split.csv",
        "split-earlier.csv",
        "model",
        "model/data.npz",
        "model/preparation.npz",
        "model/lessons",
        "model/lessons/lessons.json",
        "model/ranks.json",
        "model/potential.npz",
        "model/history.csv",
        "model/history.png",
        "model/potential-earlier.npz",
        "model/metrics.json",
        "evaluation",
        "evaluation/other",
        "evaluation/metrics.json",
        "evaluation/residuals.csv",
        "evaluation/parity.png",
        "evaluation/residuals.png",
        "evaluation/distances.png",
        "evaluation/energies.png",
        "evaluation/forces.png",
        "evaluation/stress.png",
        "evaluation/config_types.csv",
        "evaluation/extrapolation.png",
        "evaluation/spread.png",
        "learning-curve",
    }
    assert {project.entry_of(path) for path in paths.values()} == set(ENTRIES)


def test_networks_of_a_committee_are_numbered_from_the_second(project: Project) -> None:
    assert project.network_file().as_posix() == "my-project/model/network.keras"
    assert project.network_file(2).as_posix() == "my-project/model/network-2.keras"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energies_file", 'no energies in my-project; run "tio2nn extract -C my-project SOURCE..." first'),
        (
            "structures_file",
            'no structures in my-project; run "tio2nn extract -C my-project SOURCE..." first',
        ),
        ("features_manifest", 'no features in my-project; run "tio2nn featurize -C my-project" first'),
        ("best_trial_file", 'no tuning results in my-project; run "tio2nn tune -C my-project" first'),
        ("potential_file", 'no model in my-project; run "tio2nn train -C my-project" first'),
        ("split_file", 'no split in my-project; run "tio2nn train -C my-project" first'),
        (
            "earlier_split_file",
            'no split of other structures in my-project; run "tio2nn train -C my-project" first',
        ),
        ("evaluation_metrics_file", 'no evaluation in my-project; run "tio2nn evaluate -C my-project" first'),
    ],
)
def test_missing_input_names_the_command_that_makes_it(project: Project, name: str, expected: str) -> None:
    path = paths_of(project)[name]
    with pytest.raises(MissingInputError) as caught:
        project.existing_file(path)
    assert message(caught) == expected
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert project.existing_file(path) == path


def test_what_an_interrupted_command_left_out_is_named_by_its_path(project: Project) -> None:
    project.features_directory.mkdir()
    with pytest.raises(MissingInputError) as caught:
        project.existing_file(project.features_manifest)
    assert (
        message(caught)
        == 'no features/manifest.json in my-project; run "tio2nn featurize -C my-project" first'
    )


def test_finding_a_project_and_reading_its_parameters_loads_no_numerical_library() -> None:
    Project.create(Path("my-project"), PARAMETERS)
    code = (
        "import sys; from tio2nn.project.project import Project; from tio2nn.parameters import presets, schema;"
        "Project.find(__import__('pathlib').Path('my-project')).parameters();"
        "print([name for name in ('numpy', 'scipy', 'pandas', 'keras') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
