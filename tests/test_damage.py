"""A flipped bit in what a project is made of is noticed, or changes nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import invoke
from projects import features_bytes, structures, trained_project, write_files

from tio2nn.errors import InputError
from tio2nn.potential.potential import Potential
from tio2nn.project.feature_store import Manifest
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store

N_PLACES = 400  # of some ten thousand bytes


def structures_of(project: Project) -> tuple[Path, Callable[[], object]]:
    path = project.structures_file

    def content() -> object:
        store = read_store(path)
        arrays = (store.positions, store.forces, store.cells, store.energies, store.numbers, store.offsets)
        return [array.tobytes() for array in arrays], store.names, store.groups, store.reference_energies

    return path, content


def features_of(project: Project) -> tuple[Path, Callable[[], object]]:
    first = Manifest.read(project.features_manifest).shards[0]
    return project.features_directory / first.file, lambda: features_bytes(project)


def potential_of(project: Project) -> tuple[Path, Callable[[], object]]:
    path = project.potential_file

    def content() -> object:
        potential = Potential.load(path)
        return potential.energy(structures()[0]), potential.reference_energies, potential.about

    return path, content


@pytest.mark.parametrize("part", [structures_of, features_of, potential_of])
def test_a_flipped_bit_is_named_with_its_file_or_changes_nothing(
    tmp_path: Path, part: Callable[[Project], tuple[Path, Callable[[], object]]]
) -> None:
    path, content = part(trained_project(tmp_path / "p"))
    whole, undamaged = path.read_bytes(), content()
    chance = random.Random(0)
    noticed: list[str] = []
    for _ in range(N_PLACES):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert content() == undamaged
        except InputError as error:
            noticed.append(str(error))
    # the rest are times and flags in the headers of the archive's members
    assert len(noticed) > 0.8 * N_PLACES
    assert all(message.startswith(f"{path}: ") for message in noticed)


@pytest.mark.parametrize("part", [structures_of, features_of, potential_of])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_half_a_file_is_never_taken_for_a_whole_one(
    tmp_path: Path, part: Callable[[Project], tuple[Path, Callable[[], object]]], share: float
) -> None:
    path, content = part(trained_project(tmp_path / "p"))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=path.name):
        content()


def test_a_project_is_the_same_on_another_path_with_blanks_and_letters_of_any_kind(tmp_path: Path) -> None:
    here = trained_project(tmp_path / "p")
    there = tmp_path / "Übung 3, größer" / "проект 项目"
    shutil.copytree(here.root, there)
    (path, *_) = write_files(tmp_path, structures()[:1])
    assert invoke("predict", path, "-C", there) == invoke("predict", path, "-C", here.root)
    _, said = invoke("featurize", "-C", there)
    assert "nothing to do" in said
    invoke("evaluate", "-C", there)
    assert (there / "evaluation" / "parity.png").exists()
