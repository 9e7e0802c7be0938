"""CP2K, OUTCAR and dynamics of FHI-aims, which dpdata reads."""

from __future__ import annotations

import gzip
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
from tio2nn.io.electronic_states import ElectronicStates
from tio2nn.io.formats import AIMS, AIMS_DYNAMICS, CP2K, OUTCAR, format_of_content, format_of_name
from tio2nn.io.outputs import foreign
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

needs_dpdata = pytest.mark.skipif(not foreign.is_installed(), reason="dpdata is not installed")

FILES = {
    "OUTCAR": foreign_outputs.outcar(),
    "a-cp2k.out": foreign_outputs.cp2k(),
    "late-cp2k.out": foreign_outputs.cp2k(late=True, stress="bar"),
    "aims.out": foreign_outputs.aims_dynamics(),
}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@needs_dpdata
@pytest.mark.parametrize("name", FILES)
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    structures = outputs.found(written(tmp_path, name, FILES[name]))
    assert len(structures) == (1 if "cp2k" in name else 2)
    outputs.check(structures)
    for step, structure in enumerate(structures):
        assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY - step, abs=1e-8)
        if name != "aims.out":
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
    ours = outputs.found(path)
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
    plain = outputs.found(written(tmp_path, name, FILES[name]))
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"{name}.gz").write_bytes(gzip.compress(FILES[name].encode()))
    (folder / "result.log").write_text(FILES[name])
    archive = tmp_path / "d.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "d")
    other_name = written(tmp_path, "result.dat", FILES[name])
    hashes = [s.geometry_hash for s in plain]
    assert [s.geometry_hash for s in outputs.found(folder)] == hashes * 2
    assert [s.geometry_hash for s in outputs.found(archive)] == hashes * 2
    assert [s.geometry_hash for s in outputs.found(other_name)] == hashes


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
    assert [line.split(": ", 1)[1] for line in outputs.problems(written(tmp_path, name, text))] == [expected]


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
    structures = outputs.found(written(tmp_path, "OUTCAR", foreign_outputs.outcar(2, ml_steps=3)))
    assert len(structures) == 2
    outputs.check(structures)
    only = written(
        tmp_path, "OUTCAR_only", foreign_outputs.outcar(0) + "  free  energy ML TOTEN  =  -1.0 eV\n"
    )
    assert outputs.problems(only) == [
        ": expected ionic steps of electronic structure, got those of a machine-learned force field"
    ]


@needs_dpdata
def test_a_molecule_of_cp2k_and_of_aims_is_not_periodic(tmp_path: Path) -> None:
    (molecule,) = outputs.found(written(tmp_path, "x-cp2k.out", foreign_outputs.cp2k(periodicity="NONE")))
    assert molecule.periodic == (False, False, False)
    (slab,) = outputs.found(written(tmp_path, "y-cp2k.out", foreign_outputs.cp2k(periodicity="XY")))
    assert slab.periodic == (True, True, False)
    for structure in outputs.found(written(tmp_path, "aims.out", foreign_outputs.aims_dynamics(cell=False))):
        assert structure.periodic == (False, False, False)


@needs_dpdata
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cp2k.out", foreign_outputs.cp2k),
        ("OUTCAR", lambda charge: foreign_outputs.outcar(1, charge=charge)),
        ("aims.out", lambda charge: foreign_outputs.aims_dynamics(1, charge=charge)),
    ],
)
def test_charges_are_told(tmp_path: Path, name: str, text: Callable[..., str]) -> None:
    states, names = ElectronicStates(), []
    for charge in (0, 1):
        path = written(tmp_path, f"{charge}-{name}", text(charge=charge))
        (structure,) = outputs.found(path)
        states.add(structure)
        names.append(structure.name)
    (line,) = states.messages(names)
    assert "total charge (1 with 0, 1 with 1)" in line


@needs_dpdata
@pytest.mark.parametrize(
    ("old", "new"),
    [("ZVAL   =   4.00", "ZVAL   =   x"), ("ZVAL   =   4.00", "ZVAL   = "), ("NELECT =", "NELECT = *")],
)
def test_electrons_of_an_outcar_that_cannot_be_read_tell_nothing(tmp_path: Path, old: str, new: str) -> None:
    text = foreign_outputs.outcar(1, charge=1.0)
    assert old in text
    (structure,) = outputs.found(written(tmp_path, "OUTCAR", text.replace(old, new)))
    assert structure.extras.states == {}


@needs_dpdata
def test_stresses_of_cp2k_that_are_missing_strange_or_cut_off(tmp_path: Path) -> None:
    (without,) = outputs.found(written(tmp_path, "x-cp2k.out", foreign_outputs.cp2k(stress="")))
    assert without.stress is None
    assert without.extras.remarks == ()
    (strange,) = outputs.found(written(tmp_path, "y-cp2k.out", foreign_outputs.cp2k(stress="furlongs")))
    assert strange.stress is None
    assert strange.extras.remarks == ("stress ignored: expected the unit GPa or bar, got 'furlongs'",)
    lines = foreign_outputs.cp2k().splitlines()
    row = next(k for k, line in enumerate(lines) if line.startswith("  Z "))
    wide = "\n".join([*lines[:row], "  Z " + 3 * " ***************", *lines[row + 1 :]]) + "\n"
    (unreadable,) = outputs.found(written(tmp_path, "z-cp2k.out", wide))
    assert unreadable.stress is None
    assert unreadable.extras.remarks == ("stress ignored: expected finite numbers, got NaN or infinity",)
    cut = "\n".join([*lines[:row], *lines[row + 1 :]]) + "\n"
    (problem,) = outputs.problems(written(tmp_path, "w-cp2k.out", cut))
    assert problem == ": expected three rows of the stress, got fewer: interrupted?"


@needs_dpdata
def test_stresses_of_dynamics_of_aims(tmp_path: Path) -> None:
    text = foreign_outputs.aims_dynamics(stress=True)
    for structure in outputs.found(written(tmp_path, "aims.out", text)):
        np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-7)
    assert [
        s.stress for s in outputs.found(written(tmp_path, "plain.out", foreign_outputs.aims_dynamics()))
    ] == [None] * 2
    in_gpa = text.replace("[eV/A**3]", "[GPa]")
    assert all(
        "expected a stress in [eV/A**3]" in p for p in outputs.problems(written(tmp_path, "gpa.out", in_gpa))
    )
    rows = text.splitlines()
    row = next(k for k, line in enumerate(rows) if line.startswith("  |  z"))
    cut = "\n".join([*rows[:row], *rows[row + 1 :]]) + "\n"
    (problem,) = outputs.problems(written(tmp_path, "cut.out", cut))
    assert problem.endswith("expected three rows of the stress in a step, got none: interrupted?")


@needs_dpdata
@pytest.mark.parametrize("late", [False, True])
def test_the_last_force_of_cp2k_is_not_cut(tmp_path: Path, late: bool) -> None:
    text = foreign_outputs.cp2k(late=late, stress="")
    end = text.index("FORCES| Sum" if late else "SUM OF ATOMIC FORCES")
    for n_lost in (0, 1, 3, 6):
        path = tmp_path / f"{n_lost}-cp2k.out"
        path.write_text(text[: end - n_lost].rstrip(" \n")[: -n_lost or None])
        (problem,) = outputs.problems(path)
        assert "truncated?" in problem or "interrupted?" in problem


@needs_dpdata
def test_cp2k_writes_what_is_read(tmp_path: Path) -> None:
    """The program itself, where it is installed: two atoms of hydrogen."""
    program = next(
        (path for name in ("cp2k", "cp2k.ssmp", "cp2k.psmp") if (path := shutil.which(name))), None
    )
    if program is None:
        pytest.skip("CP2K is not installed")
    structures = []
    for name, height in (("x", 5.4), ("y", 5.8)):
        text = CP2K_INPUT.replace("5.4", f"{height}").replace("0.8", f"{0.8 * height / 5.4}")
        (tmp_path / f"{name}.inp").write_text(text)
        subprocess.run(
            [program, "-i", f"{name}.inp", "-o", f"{name}.out"], cwd=tmp_path, check=True, timeout=300
        )
        structures += outputs.found(tmp_path / f"{name}.out")
    structure, longer = structures
    # the work of the stress, by the trapezoidal rule
    work = sum(s.volume * s.stress[2, 2] / s.cell[2, 2] for s in structures) / 2.0 * 0.4
    assert longer.energy - structure.energy == pytest.approx(work, rel=0.1)
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
  STRESS_TENSOR ANALYTICAL
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
    &STRESS_TENSOR ON
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
    (problem,) = outputs.problems(written(tmp_path, name, FILES[name]))
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
