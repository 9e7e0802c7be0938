"""Data sets of DeePMD."""

from __future__ import annotations

import pickle
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import foreign_outputs
import numpy as np
import outputs
import pytest

from tio2nn.errors import InputError
from tio2nn.io.outputs import foreign
from tio2nn.io.read import read_structures, sorted_by_name
from tio2nn.structures.structure import Structure

needs_dpdata = pytest.mark.skipif(not foreign.is_installed(), reason="dpdata is not installed")


@pytest.mark.parametrize("mixed", [False, True])
def test_a_data_set_of_deepmd_is_one_source(tmp_path: Path, mixed: bool) -> None:
    folder = foreign_outputs.deepmd(tmp_path / "all" / "sys", mixed=mixed)
    structures = outputs.found(folder)
    outputs.check(structures)
    assert [s.name for s in structures] == ["sys-1", "sys-2"]
    assert {s.file for s in structures} == {str(folder)}
    for structure in structures:
        np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-12)
    assert [s.energy for s in structures] == [outputs.ENERGY, outputs.ENERGY - 1]
    # as a file in a folder is, and by its own file
    (tmp_path / "all" / "x.pwo").write_text(outputs.espresso(1))
    assert [s.name for s in outputs.found(tmp_path / "all")] == ["sys-1", "sys-2", "x"]
    assert [s.name for s in outputs.found(folder / "type.raw")] == ["sys-1", "sys-2"]


def test_the_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(foreign_outputs.deepmd(tmp_path / "water"))
    for source in (".", "../water", "type.raw"):
        assert [s.name for s in read_structures(source)] == ["water-1", "water-2"]


def test_data_sets_that_differ_behind_a_point_keep_their_names_apart(tmp_path: Path) -> None:
    for k in (1, 2):
        foreign_outputs.deepmd(tmp_path / f"sys.{k}", 1)
    named = sorted_by_name(read_structures(tmp_path))
    assert [s.name.removeprefix(f"{tmp_path}/") for s in named] == ["sys.1", "sys.2"]


def test_without_a_box_it_is_not_periodic(tmp_path: Path) -> None:
    for structure in outputs.found(foreign_outputs.deepmd(tmp_path / "x", periodic=False)):
        assert structure.periodic == (False, False, False)
        assert not structure.cell.any()


@needs_dpdata
@pytest.mark.parametrize("form", ["deepmd/npy", "deepmd/npy/mixed"])
def test_what_dpdata_writes_is_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "OUTCAR").write_text(foreign_outputs.outcar())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dpdata

        system = dpdata.LabeledSystem(str(tmp_path / "OUTCAR"), fmt="vasp/outcar")
        system.to(form, str(tmp_path / "set"), set_size=1)
    structures = outputs.found(tmp_path / "set")
    assert len(structures) == 2
    for step, structure in enumerate(structures):
        assert structure.energy == pytest.approx(outputs.FREE_ENERGY - step)
        np.testing.assert_allclose(structure.positions, system.data["coords"][step], atol=1e-6)
        np.testing.assert_allclose(structure.forces, system.data["forces"][step], atol=1e-6)
        virial = -np.linalg.det(structure.cell) * np.asarray(structure.stress)
        np.testing.assert_allclose(virial, system.data["virials"][step], atol=1e-6)


def test_virtual_atoms_of_mixed_sets_are_left_out(tmp_path: Path) -> None:
    folder = foreign_outputs.deepmd(tmp_path / "x", 1, mixed=True)
    np.save(folder / "set.000" / "real_atom_types.npy", np.array([[1, 0, -1]]))
    (structure,) = outputs.found(folder)
    assert structure.elements == ("Si", "O")
    np.testing.assert_array_equal(structure.forces, outputs.FORCES[:2])


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["coord", "box", "energy", "force", "virial", "real_atom_types"])
def test_nothing_is_unpickled(tmp_path: Path, name: str) -> None:
    folder = foreign_outputs.deepmd(tmp_path / "x", 1)
    sprung = tmp_path / "sprung"
    path = folder / "set.000" / f"{name}.npy"
    np.save(path, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    (problem,) = outputs.problems(folder)
    assert problem.endswith(
        f"numbers in {name}.npy, got Python objects, which could run code when they are read"
    )
    path.write_bytes(pickle.dumps(Trap(sprung)))
    assert outputs.problems(folder)[0].startswith(f": set.000: expected an array of numbers in {name}.npy")
    assert not sprung.exists()
    np.load(path, allow_pickle=True)
    assert sprung.exists()


def test_raw_text_without_sets_is_told_how_to_become_sets(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "type_map.raw").write_text("O\n")
    assert outputs.problems(tmp_path) == [": expected folders set.* beside type.raw, got none"]
    (tmp_path / "coord.raw").write_text("0 0 0\n")
    (problem,) = outputs.problems(tmp_path)
    assert problem == (
        ": expected folders set.* beside type.raw, got raw text alone: let raw_to_set.sh of DeePMD-kit, or dpdata, "
        "write sets from it"
    )


def test_arrays_stay_on_disk(tmp_path: Path) -> None:
    """A set of 80 GB, nearly all of it a hole in the file, is read frame by frame."""
    folder = foreign_outputs.deepmd(tmp_path / "x", 1)
    n_frames = 10**9
    place = folder / "set.000"
    for name, width in (("coord", 9), ("box", 9), ("energy", 1), ("force", 9)):
        whole = np.load(place / f"{name}.npy")
        header = np.lib.format.header_data_from_array_1_0(whole)
        header["shape"] = (n_frames, width)
        with (place / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(whole.tobytes())
            stream.truncate(stream.tell() + 8 * width * (n_frames - 1))
    first = next(iter(read_structures(folder, errors="yield")))
    assert isinstance(first, (Structure, InputError))


def test_in_an_archive_it_says_so(tmp_path: Path) -> None:
    folder = foreign_outputs.deepmd(tmp_path / "x")
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "x")
    (problem,) = outputs.problems(archive)
    assert problem.startswith(
        ":x/type.raw: expected a data set of DeePMD (npy) as a folder of its own, got one in"
    )


def test_damaged_arrays_end_in_lines_and_structures_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    good = foreign_outputs.deepmd(tmp_path / "good")
    files = sorted(path for path in good.rglob("*") if path.is_file())
    for k in range(150):
        folder = tmp_path / f"x{k}"
        shutil.copytree(good, folder)
        path = folder / files[rng.integers(len(files))].relative_to(good)
        data = bytearray(path.read_bytes())
        for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
            data[place] = int(rng.integers(256))
        path.write_bytes(bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data))
        outputs.check_items(folder)
