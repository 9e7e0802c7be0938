"""Whatever names a file or a folder in the public interface is a text or a path of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from potentials import POTENTIAL
from projects import PARAMETERS, extracted_project, structures, write_files

from tio2nn import BehlerParrinello, ParameterSet, Potential, Project, read_structures
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.draft import load_parameters
from tio2nn.project.freshness import Snapshot
from tio2nn.structures.split import Split
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.init import init
from tio2nn.workflow.inputs import SplitRequest, choose_split


class OfAnotherLibrary(os.PathLike[str]):
    """A path as py.path, upath and others have them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


Kind = Callable[[Path], AnyPath]


@pytest.fixture(params=[str, Path, OfAnotherLibrary], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_a_potential_is_written_and_read(tmp_path: Path, kind: Kind) -> None:
    file = kind(tmp_path / "potential.npz")
    POTENTIAL.save(file)
    assert Potential.load(file).energy(structures()[0]) == POTENTIAL.energy(structures()[0])
    assert BehlerParrinello(file).potential.elements == POTENTIAL.elements


def test_a_parameter_set_is_read(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "params.json").write_text(PARAMETERS.to_json(), encoding="utf-8")
    file = kind(tmp_path / "params.json")
    assert ParameterSet.load(file) == load_parameters(file) == PARAMETERS


def test_a_project_is_made_and_found(tmp_path: Path, kind: Kind) -> None:
    root = kind(tmp_path / "project")
    made = Project.create(root, PARAMETERS)
    assert made == Project(root) == Project.find(root) == Project.find(cwd=kind(tmp_path / "project"))
    assert made.root == tmp_path / "project"
    assert made.parameters() == PARAMETERS
    other, _ = init(kind(tmp_path / "other"), "artrith-urban-2016")
    assert other.root == tmp_path / "other"


def test_structures_are_read(tmp_path: Path, kind: Kind) -> None:
    (path,) = write_files(tmp_path / "files", structures()[:1])
    for named in (kind(path), kind(path.parent)):
        for sources in (named, [named]):
            (structure,) = read_structures(sources)
            assert structure.name == structures()[0].name


def test_a_split_is_read(tmp_path: Path, kind: Kind) -> None:
    project = extracted_project(tmp_path / "p")
    names = [structure.name for structure in structures()]
    parts = ("test",) * 4 + ("validation",) * 4 + ("train",) * (len(names) - 8)
    Split(tuple(names), parts).write(tmp_path / "split.csv", names)
    found = choose_split(Snapshot(project), PARAMETERS, SplitRequest(kind(tmp_path / "split.csv")))
    assert found.parts == parts


def test_an_evaluation_reads_and_writes(tmp_path: Path, kind: Kind) -> None:
    paths = write_files(tmp_path / "files", structures()[:3])
    POTENTIAL.save(tmp_path / "potential.npz")
    summary = evaluate(
        None,
        kind(paths[0].parent),
        potential_file=kind(tmp_path / "potential.npz"),
        directory=kind(tmp_path / "results"),
    )
    assert summary.metrics["n_structures"] == 3
    assert summary.directory == tmp_path / "results"
    assert all(path.exists() and path.parent == summary.directory for path in summary.paths)


@pytest.mark.parametrize(
    "load", [Potential.load, ParameterSet.load, BehlerParrinello], ids=lambda load: load.__qualname__
)
def test_messages_name_the_file_as_its_user_did(load: Callable[[str], object]) -> None:
    with pytest.raises(Exception, match=r"^nowhere/it\.file: no such file"):
        load("nowhere/it.file")
