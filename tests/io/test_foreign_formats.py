"""CP2K, OUTCAR and dynamics of FHI-aims, which dpdata reads, and data sets of DeePMD."""

from __future__ import annotations

import gzip
import pickle
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import foreign_outputs
import numpy as np
import outputs
import pytest
from command_line import invoke

from tio2nn.errors import InputError
from tio2nn.io.formats import AIMS, AIMS_DYNAMICS, CP2K, OUTCAR, format_of_content, format_of_name
from tio2nn.io.outputs import foreign
from tio2nn.io.read import read_structures, sorted_by_name
from tio2nn.structures.structure import Structure

needs_dpdata = pytest.mark.skipif(not foreign.is_installed(), reason="dpdata is not installed")

FILES = {
    "OUTCAR": foreign_outputs.outcar(),
    "a-cp2k.out": foreign_outputs.cp2k(),
    "late-cp2k.out": foreign_outputs.cp2k(late=True),
    "aims.out": foreign_outputs.aims_dynamics(),
}


def found(path: Path) -> list[Structure]:
    return list(read_structures(path))


def problems(path: Path) -> list[str]:
    items = read_structures(path, errors="yield")
    return [str(item).removeprefix(f"{path}") for item in items if isinstance(item, InputError)]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def check(structures: list[Structure], *, tolerance: float = 1e-6) -> None:
    """They are those of `outputs`."""
    for step, structure in enumerate(structures):
        assert structure.elements == outputs.ELEMENTS
        np.testing.assert_allclose(structure.positions, outputs.positions(step), atol=1e-7)
        np.testing.assert_allclose(structure.cell, outputs.CELL, atol=1e-7)
        np.testing.assert_allclose(structure.forces, outputs.FORCES, atol=tolerance)
        assert structure.periodic == (True, True, True)


@needs_dpdata
@pytest.mark.parametrize("name", FILES)
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    structures = found(written(tmp_path, name, FILES[name]))
    assert len(structures) == (1 if "cp2k" in name else 2)
    check(structures)
    for step, structure in enumerate(structures):
        assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY - step, abs=1e-8)
        if name == "OUTCAR":
            np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-8)
        energy = outputs.FREE_ENERGY if "cp2k" in name else outputs.ENERGY - step
        assert structure.energy == pytest.approx(energy, abs=1e-8)


@needs_dpdata
@pytest.mark.parametrize(
    ("name", "form", "energy"),
    [
        ("OUTCAR", "vasp/outcar", outputs.FREE_ENERGY),
        ("a-cp2k.out", "cp2k/output", outputs.FREE_ENERGY),
        ("aims.out", "fhi_aims/md", outputs.ENERGY + 0.25),
    ],
)
def test_dpdata_makes_the_same_of_whole_files(tmp_path: Path, name: str, form: str, energy: float) -> None:
    """It turns the crystal, and its energy of FHI-aims is another one, without entropy."""
    path = written(tmp_path, name, FILES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dpdata

        data = dpdata.LabeledSystem(str(path), fmt=form).data
    ours = found(path)
    assert len(data["energies"]) == len(ours)
    for step, structure in enumerate(ours):
        assert data["energies"][step] == pytest.approx(energy - step, rel=1e-8)
        scalar = np.einsum("ij,kj->ik", data["forces"][step], data["coords"][step])
        assert structure.forces is not None
        np.testing.assert_allclose(structure.forces @ structure.positions.T, scalar, atol=1e-5)
        np.testing.assert_allclose(
            structure.cell @ structure.cell.T, data["cells"][step] @ data["cells"][step].T, atol=1e-5
        )


@needs_dpdata
@pytest.mark.parametrize("name", FILES)
def test_they_come_compressed_in_archives_and_under_any_name(tmp_path: Path, name: str) -> None:
    plain = found(written(tmp_path, name, FILES[name]))
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"{name}.gz").write_bytes(gzip.compress(FILES[name].encode()))
    (folder / "result.log").write_text(FILES[name])
    archive = tmp_path / "d.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "d")
    other_name = written(tmp_path, "result.dat", FILES[name])
    hashes = [s.geometry_hash for s in plain]
    assert [s.geometry_hash for s in found(folder)] == hashes * 2
    assert [s.geometry_hash for s in found(archive)] == hashes * 2
    assert [s.geometry_hash for s in found(other_name)] == hashes


def test_names_and_content_tell_the_format() -> None:
    expected = {"OUTCAR": OUTCAR, "a-cp2k.out": CP2K, "late-cp2k.out": CP2K, "aims.out": AIMS_DYNAMICS}
    for name, text in FILES.items():
        assert format_of_content(text.encode()) is expected[name]
    assert [format_of_name(name) for name in FILES] == [OUTCAR, CP2K, CP2K, AIMS]
    assert format_of_content(outputs.aims().encode()) is AIMS


@needs_dpdata
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "OUTCAR",
            foreign_outputs.outcar(1, n_electronic=3, nelm=3),
            "expected a converged step, got all 3 electronic steps that NELM allows",
        ),
        (
            "x-cp2k.out",
            foreign_outputs.cp2k(converged=False),
            "expected a converged calculation, got 'SCF run NOT converged'",
        ),
        (
            "aims.out",
            foreign_outputs.aims_dynamics(1, unconverged=0),
            "expected a converged step, got one that did not converge",
        ),
    ],
)
def test_what_did_not_converge_is_rejected_by_name(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    assert [line.split(": ", 1)[1] for line in problems(written(tmp_path, name, text))] == [expected]


@needs_dpdata
def test_one_step_that_did_not_converge_leaves_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, "aims.out", foreign_outputs.aims_dynamics(3, unconverged=1))
    items = list(read_structures(path, errors="yield"))
    assert [isinstance(item, Structure) for item in items] == [True, False, True]
    good, bad = foreign_outputs.outcar(1), foreign_outputs.outcar(1, nelm=3)
    path = written(tmp_path, "OUTCAR", good + bad + good)
    assert [isinstance(item, Structure) for item in read_structures(path, errors="yield")] == [
        True,
        False,
        True,
    ]


@needs_dpdata
def test_steps_of_machine_learned_force_fields_are_passed_over(tmp_path: Path) -> None:
    structures = found(written(tmp_path, "OUTCAR", foreign_outputs.outcar(2, ml_steps=3)))
    assert len(structures) == 2
    check(structures)
    only = written(
        tmp_path, "OUTCAR_only", foreign_outputs.outcar(0) + "  free  energy ML TOTEN  =  -1.0 eV\n"
    )
    assert problems(only) == [
        ": expected ionic steps of electronic structure, got those of a machine-learned force field"
    ]


@needs_dpdata
def test_a_molecule_of_cp2k_and_of_aims_is_not_periodic(tmp_path: Path) -> None:
    (molecule,) = found(written(tmp_path, "x-cp2k.out", foreign_outputs.cp2k(periodicity="NONE")))
    assert molecule.periodic == (False, False, False)
    (slab,) = found(written(tmp_path, "y-cp2k.out", foreign_outputs.cp2k(periodicity="XY")))
    assert slab.periodic == (True, True, False)
    for structure in found(written(tmp_path, "aims.out", foreign_outputs.aims_dynamics(cell=False))):
        assert structure.periodic == (False, False, False)


@needs_dpdata
def test_cp2k_writes_what_is_read(tmp_path: Path) -> None:
    """The program itself, where it is installed: two atoms of hydrogen."""
    program = next(
        (path for name in ("cp2k", "cp2k.ssmp", "cp2k.psmp") if (path := shutil.which(name))), None
    )
    if program is None:
        pytest.skip("CP2K is not installed")
    (tmp_path / "x.inp").write_text(CP2K_INPUT)
    subprocess.run([program, "-i", "x.inp", "-o", "x.out"], cwd=tmp_path, check=True, timeout=300)
    (structure,) = found(tmp_path / "x.out")
    assert structure.elements == ("H", "H")
    np.testing.assert_allclose(structure.positions, [[0, 0, 0], [0, 0, 0.8]], atol=1e-6)
    np.testing.assert_allclose(structure.cell, np.diag([5.0, 5.2, 5.4]), atol=1e-3)
    rows = [row.split() for row in (tmp_path / "x.out").read_text().splitlines()]
    energy = next(float(row[-1]) for row in rows if row[:3] == ["ENERGY|", "Total", "FORCE_EVAL"])
    forces = [row[3:6] for row in rows if len(row) == 6 and row[1:3] == ["1", "H"]]
    assert structure.energy == pytest.approx(energy * 2 * outputs.RYDBERG)
    np.testing.assert_allclose(
        structure.forces, np.array(forces, dtype=float) * 2 * outputs.RYDBERG / outputs.BOHR, atol=1e-6
    )


CP2K_INPUT = """
&GLOBAL
  PROJECT x
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL MEDIUM
&END
&FORCE_EVAL
  METHOD QS
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 120
    &END
    &XC
      &XC_FUNCTIONAL PADE
      &END
    &END
  &END
  &SUBSYS
    &CELL
      ABC 5.0 5.2 5.4
    &END
    &COORD
      H1 0.0 0.0 0.0
      H1 0.0 0.0 0.8
    &END
    &KIND H1
      ELEMENT H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q1
    &END
  &END
  &PRINT
    &FORCES ON
    &END
  &END
&END
"""


# --- what may go wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_without_dpdata_one_line_says_what_to_install(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "dpdata"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "dpdata", None)
    (problem,) = problems(written(tmp_path, name, FILES[name]))
    assert problem.startswith(": cannot read ")
    assert problem.endswith(": dpdata is missing; run \"pip install 'tio2nn[formats]'\"")
    listed, _ = invoke("extract", "--formats")
    lines = [line for line in listed.splitlines() if line.endswith("pip install 'tio2nn[formats]'")]
    assert [line.split("\t")[0] for line in lines] == [
        "output of FHI-aims (dynamics)",
        "output of CP2K (single points)",
        "OUTCAR of VASP",
    ]


@needs_dpdata
@pytest.mark.parametrize(
    ("name", "place", "function"),
    [
        ("OUTCAR", "outcar", "analyze_block"),
        ("a-cp2k.out", "cp2k", "get_frames"),
        ("aims.out", "aims", "get_info"),
    ],
)
def test_a_crash_of_dpdata_is_a_line_with_the_name_of_the_file(
    tmp_path: Path, name: str, place: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines " + "x" * 1000)

    monkeypatch.setattr(getattr(foreign.readers("x", "x"), place), function, crash)
    path = written(tmp_path, name, FILES[name])
    for item in read_structures(path, errors="yield"):
        assert isinstance(item, InputError)
        assert str(item).startswith(str(path))
        assert "cannot read it with dpdata: ZeroDivisionError: two lines xxx" in str(item)
        assert len(item.reason) < 300


@needs_dpdata
@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere_ends_in_lines_and_structures_only(tmp_path: Path, name: str) -> None:
    outputs.check_damaged(tmp_path / name, FILES[name].encode(), 100, b"\0 9-\n<>eN|\xff\x7f")


@needs_dpdata
def test_frames_are_read_one_by_one() -> None:
    """No more of the file is read than the frames that were asked for need."""
    import io

    from tio2nn.io.outputs.aims import iter_aims
    from tio2nn.io.outputs.outcar import iter_outcar

    for text, reader in (
        (foreign_outputs.outcar(400), iter_outcar),
        (foreign_outputs.aims_dynamics(400), iter_aims),
    ):
        stream = io.BytesIO(text.encode())
        next(reader(stream, file="x"))
        assert stream.tell() < len(text) / 3


# --- folders of DeePMD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
def test_a_data_set_of_deepmd_is_one_source(tmp_path: Path, mixed: bool) -> None:
    folder = foreign_outputs.deepmd(tmp_path / "all" / "sys", mixed=mixed)
    structures = found(folder)
    check(structures)
    assert [s.name for s in structures] == ["sys-1", "sys-2"]
    assert {s.file for s in structures} == {str(folder)}
    for structure in structures:
        np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-12)
    assert [s.energy for s in structures] == [outputs.ENERGY, outputs.ENERGY - 1]
    # as a file in a folder is, and by its own file
    (tmp_path / "all" / "x.pwo").write_text(outputs.espresso(1))
    assert [s.name for s in found(tmp_path / "all")] == ["sys-1", "sys-2", "x"]
    assert [s.name for s in found(folder / "type.raw")] == ["sys-1", "sys-2"]


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
    for structure in found(foreign_outputs.deepmd(tmp_path / "x", periodic=False)):
        assert structure.periodic == (False, False, False)
        assert not structure.cell.any()


@needs_dpdata
@pytest.mark.parametrize("form", ["deepmd/npy", "deepmd/npy/mixed"])
def test_what_dpdata_writes_is_read(tmp_path: Path, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dpdata

        system = dpdata.LabeledSystem(str(written(tmp_path, "OUTCAR", FILES["OUTCAR"])), fmt="vasp/outcar")
        system.to(form, str(tmp_path / "set"), set_size=1)
    structures = found(tmp_path / "set")
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
    (structure,) = found(folder)
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
    (problem,) = problems(folder)
    assert problem.endswith(
        f"numbers in {name}.npy, got Python objects, which could run code when they are read"
    )
    path.write_bytes(pickle.dumps(Trap(sprung)))
    assert problems(folder)[0].startswith(f": set.000: expected an array of numbers in {name}.npy")
    assert not sprung.exists()
    np.load(path, allow_pickle=True)
    assert sprung.exists()


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
    (problem,) = problems(archive)
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
