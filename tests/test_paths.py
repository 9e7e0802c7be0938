"""Whatever names a file or a folder in the public interface is a text or a path of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from potentials import POTENTIAL
from projects import PARAMETERS, structures, write_files

from tio2nn import BehlerParrinello, ParameterSet, Potential, Project, read_structures
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.draft import load_parameters


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


def test_structures_are_read(tmp_path: Path, kind: Kind) -> None:
    (path,) = write_files(tmp_path / "files", structures()[:1])
    for named in (kind(path), kind(path.parent)):
        for sources in (named, [named]):
            (structure,) = read_structures(sources)
            assert structure.name == structures()[0].name


@pytest.mark.parametrize(
    "load", [Potential.load, ParameterSet.load, BehlerParrinello], ids=lambda load: load.__qualname__
)
def test_messages_name_the_file_as_its_user_did(load: Callable[[str], object]) -> None:
    with pytest.raises(Exception, match=r"^nowhere/it\.file: expected"):
        load("nowhere/it.file")
