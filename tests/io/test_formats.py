"""Files of other programs: the same numbers as were written, and as ASE reads."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import time
from pathlib import Path

import numpy as np
import outputs
import pytest
from ase.io import read as ase_read
from ase.io import write
from outputs import ASE_FORMATS, FILES

from tio2nn.io.formats import EXTXYZ, FORMATS, HEAD, XSF, Format, format_of_content, format_of_name
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure


@pytest.mark.parametrize("name", FILES)
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    structures = outputs.found(path)
    assert len(structures) == (1 if name == "aims.out" else 2)
    for step, structure in enumerate(structures):
        assert structure.elements == outputs.ELEMENTS
        np.testing.assert_allclose(structure.positions, outputs.positions(step), atol=1e-7)
        np.testing.assert_allclose(structure.cell, outputs.CELL, atol=1e-7)
        np.testing.assert_allclose(structure.forces, outputs.FORCES, atol=1e-6)
        assert structure.periodic == (True, True, name not in ("a.traj", "a.db"))
        if name == "input.data":
            assert structure.energy == -2 * outputs.RYDBERG
            assert structure.free_energy is None
            continue
        # pw.x knows one energy only
        energy = outputs.FREE_ENERGY if name == "relax.pwo" else outputs.ENERGY
        assert structure.energy == pytest.approx(energy - step, abs=1e-8)
        assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY - step, abs=1e-8)


@pytest.mark.filterwarnings("ignore:FHI-aims IO is moving:FutureWarning")
@pytest.mark.parametrize("name", FILES)
def test_ase_reads_the_same(tmp_path: Path, name: str) -> None:
    if name == "input.data":
        pytest.skip("ASE wants its own columns stated; its files are read below")
    path = tmp_path / name
    path.write_bytes(FILES[name])
    theirs = ase_read(path, index=":", format=ASE_FORMATS.get(name))
    ours = outputs.found(path)
    assert len(theirs) == len(ours)
    for atoms, structure in zip(theirs, ours, strict=True):
        assert tuple(atoms.get_chemical_symbols()) == structure.elements
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-6)
        np.testing.assert_allclose(structure.cell, atoms.cell.array, atol=1e-6)
        results = atoms.calc.results
        assert structure.free_energy == pytest.approx(results["free_energy"], rel=1e-6)
        if name != "aims.out":  # ASE takes the free energy for both
            assert structure.energy == pytest.approx(results["energy"], rel=1e-6)
        np.testing.assert_allclose(structure.forces, results["forces"], atol=1e-5)


def test_what_ase_writes_for_runner_is_read(tmp_path: Path) -> None:
    from ase.io.formats import ioformats

    if "runnerdata" not in ioformats:
        pytest.skip("this ASE does not write input.data")
    path = tmp_path / "input.data"
    write(path, outputs.frames(), format="runnerdata")
    for step, structure in enumerate(outputs.found(path)):
        np.testing.assert_allclose(structure.positions, outputs.positions(step), atol=1e-8)
        np.testing.assert_allclose(structure.forces, outputs.FORCES, atol=1e-7)
        assert structure.energy == pytest.approx(outputs.ENERGY - step, abs=1e-7)


def test_units_of_runner_are_what_the_user_says(tmp_path: Path) -> None:
    path = tmp_path / "input.data"
    path.write_text(outputs.runner(1))
    (structure,) = outputs.found(path, runner_units="A,eV")
    assert structure.energy == -1.0
    np.testing.assert_allclose(structure.cell, outputs.CELL / outputs.BOHR)
    np.testing.assert_allclose(structure.forces, outputs.FORCES * outputs.BOHR / outputs.RYDBERG / 2)


@pytest.mark.parametrize("unit", ["angstrom", "bohr", "crystal", "alat"])
def test_positions_of_espresso_come_in_four_units(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "x.pwo"
    path.write_text(outputs.espresso(2, unit=unit))
    np.testing.assert_allclose(outputs.found(path)[1].positions, outputs.positions(1), atol=1e-8)


def test_espresso_called_its_lattice_parameter_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "x.pwo"
    path.write_text(outputs.espresso(2).replace("alat", "a_0"))
    structures = outputs.found(path)
    assert len(structures) == 2
    outputs.check(structures)


def test_pressure_does_not_count_as_energy(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(outputs.vasprun(1, pstress=100.0))
    (structure,) = outputs.found(path)
    assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY, abs=1e-8)


def test_output_of_aims_that_is_cut_behind_its_electronic_steps_has_no_energy(tmp_path: Path) -> None:
    """Electronic steps have the same words as the end, with Hartree before eV."""
    text = outputs.aims()
    words = "  Self-consistency cycle converged.\n"
    step = f"  | Electronic free energy        : {outputs.FREE_ENERGY / 27.2:18.8f} Ha {outputs.FREE_ENERGY:18.8f} eV\n"
    wrong = step.replace("Electronic free energy", "Total energy corrected").replace(" eV", " eV  <-- remark")
    text = text.replace(words, step + wrong + words)
    path = tmp_path / "aims.out"
    path.write_text(text)
    (structure,) = outputs.found(path)
    assert structure.energy == pytest.approx(outputs.ENERGY, abs=1e-8)
    assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY, abs=1e-8)
    lines = text.splitlines(keepends=True)
    first = next(k for k, line in enumerate(lines) if "compact form" in line)
    for n_lines in range(lines.index(words) + 1, first + 4):
        path.write_text("".join(lines[:n_lines]))
        (problem,) = outputs.problems(path)
        got = "one of two" if n_lines == first + 3 else "none"
        assert problem.endswith(f"expected energies in eV at the end of the run, got {got}: interrupted?")


def test_a_molecule_of_aims_is_not_periodic(tmp_path: Path) -> None:
    path = tmp_path / "aims.out"
    path.write_text(outputs.aims(cell=False))
    (structure,) = outputs.found(path)
    assert structure.periodic == (False, False, False)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "vasprun.xml",
            outputs.vasprun(1, n_electronic=3, nelm=3),
            ["expected a converged step, got all 3 electronic steps that NELM allows"],
        ),
        (
            "x.pwo",
            outputs.espresso(1, converged=False),
            ["expected a converged calculation, got 'convergence NOT achieved after 100 it...'"],
        ),
        (
            "aims.out",
            outputs.aims(converged=False),
            ["expected a converged calculation, got one that did not converge"],
        ),
        ("aims.out", outputs.aims(moved=True), ["expected a single point, got a relaxation or dynamics"]),
        (
            "vasprun.xml",
            outputs.vasprun(1, n_electronic=0),
            [
                "expected electronic steps, got none: not a step of electronic structure, perhaps of a force field"
            ],
        ),
    ],
)
def test_what_did_not_converge_is_rejected_by_name(
    tmp_path: Path, name: str, text: str, expected: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert [line.split(": ", 1)[1] for line in outputs.problems(path)] == expected


def test_one_step_that_did_not_converge_leaves_the_others(tmp_path: Path) -> None:
    good, bad = outputs.espresso(1), outputs.espresso(1, converged=False)
    path = tmp_path / "several.out"
    path.write_text(good + bad + good)
    items = list(read_structures(path, errors="yield"))
    assert [isinstance(item, Structure) for item in items] == [True, False, True]
    assert [item.name for item in items if isinstance(item, Structure)] == ["several-1", "several-3"]


@pytest.mark.parametrize("name", FILES)
def test_the_content_tells_where_the_name_does_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / "result.dat"
    path.write_bytes(FILES[name])
    named = tmp_path / name
    named.write_bytes(FILES[name])
    assert [s.energy for s in outputs.found(path)] == [s.energy for s in outputs.found(named)]
    assert format_of_name("result.dat") is None
    assert format_of_content(FILES[name]) is format_of_name(name)


XYZ = "1\nProperties=species:S:1:pos:R:3 energy=-1\nO 0 0 0\n"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (EXTXYZ, XYZ),
        (EXTXYZ, XYZ.replace("\n", "\r\n")),
        (EXTXYZ, "  2 \nof benzene\n C 0.0 1e-3 -.5\n"),
        (XSF, "# total energy = -1 eV\n\n CRYSTAL\nPRIMVEC\n 1 0 0\n"),
        (XSF, "ANIMSTEPS 2\r\nMOLECULE\r\nPRIMCOORD 1\r\n"),
        (XSF, "ATOMS\n8 0.0 0.0 0.0\n"),
        (None, "CRYSTAL\n0 0 0\n225\n"),  # input of the program CRYSTAL
        (None, "3\n4\n5\n"),
        (None, "SLAB of ice\n"),
    ],
)
def test_content_tells_xyz_and_xsf(form: Format | None, text: str) -> None:
    assert format_of_content(text.encode()) is form


@pytest.mark.parametrize(
    "piece", [b" ", b"\n", b" \n", b"1", b"#\n", b"ATOMS\n", b"CRYSTAL ", b"begin\n", b"<?xml "]
)
def test_no_beginning_takes_long_to_tell(piece: bytes) -> None:
    head = piece * (HEAD // len(piece))
    begin = time.perf_counter()
    for _ in range(5):
        assert format_of_content(head) is None
    assert time.perf_counter() - begin < 1.0  # 0.1 s, or 3 s in quadratic time


def test_structures_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text(XYZ)
    (tmp_path / "bare").write_bytes(b"\xef\xbb\xbfATOMS\nO 0 0 0\n")
    assert [s.elements for s in outputs.found(tmp_path / "some.txt")] == [("O",)]
    assert [s.elements for s in outputs.found(tmp_path / "bare")] == [("O",)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.xyz",
            FILES["a.traj"],
            "expected extended XYZ, as the name says, got trajectory of ASE: rename it",
        ),
        ("a.traj", XYZ.encode(), "expected trajectory of ASE, as the name says, got extended XYZ: rename it"),
        (
            "a.db",
            XYZ.encode(),
            "expected database of ASE (SQLite), as the name says, got extended XYZ: rename it",
        ),
        ("a.xsf", XYZ.encode(), "expected XSF, as the name says, got extended XYZ: rename it"),
        (
            "vasprun.xml",
            gzip.compress(FILES["vasprun.xml"]),
            "expected vasprun.xml of VASP, as the name says, got data compressed by gzip: add .gz to its name",
        ),
        (
            "a.xyz.gz",
            gzip.compress(FILES["aims.out"]),
            "expected extended XYZ, as the name says, got output of FHI-aims (single points): rename it",
        ),
        (
            "a.xyz.gz",
            gzip.compress(bz2.compress(XYZ.encode())),
            "expected extended XYZ, as the name says, got data compressed twice: unpack it",
        ),
        ("a.xyz", XYZ[:-5].encode(), "truncated? (if complete, add a newline)"),
    ],
)
def test_a_wrong_name_is_told(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    (problem,) = outputs.problems(tmp_path / name)
    assert problem.endswith(expected)


def test_folders_and_archives_are_searched_for_all_formats(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "scf.out").write_text(outputs.espresso(1))
    (folder / "notes.out").write_text("nothing of interest\n")
    (folder / "notes.dat").write_text(outputs.espresso(1))
    assert [s.name for s in outputs.found(folder)] == [
        *("a-1", "a-2", "a-1", "a-2", "aims", "input-1", "input-2", "relax-1", "relax-2"),
        *("scf", "vasprun-1", "vasprun-2"),
    ]
    archive = tmp_path / "d.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "d")
    items = list(read_structures(archive, errors="yield"))
    assert sum(isinstance(item, Structure) for item in items) == 10
    assert len(outputs.problems(archive)) == 1
    assert outputs.problems(archive)[0].endswith(
        "as a file of its own, got one in an archive or compressed: unpack it"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"vasprun.xml.{step}", "vasprun.xml") for step in ("relax1", "relax2", "static", "0", "12")),
        ("my-vasprun.xml.RELAX1", "vasprun.xml"),
        ("train.exyz", "a.xyz"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_usual_names_are_found_in_folders_and_archives(
    tmp_path: Path, name: str, content: str, suffix: str
) -> None:
    data = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix](
        {**FILES, "a.xyz": XYZ.encode()}[content]
    )
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"{name}{suffix}").write_bytes(data)
    (folder / "vasprun.xml.tar.gz").write_bytes(b"")
    (folder / "vasprun.xml.orig").write_bytes(b"")
    n = 1 if content == "a.xyz" else 2
    assert len(outputs.found(folder)) == n
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        tar.add(folder, "d")
    assert len(outputs.found(tmp_path / "d.tar")) == n


@pytest.mark.parametrize("name", [name for name in FILES if name != "a.db"])
def test_compressed_files_are_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    plain = outputs.found(tmp_path / name)
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (tmp_path / f"{name}{suffix}").write_bytes(compress(FILES[name]))
        compressed = outputs.found(tmp_path / f"{name}{suffix}")
        assert [s.geometry_hash for s in plain] == [s.geometry_hash for s in compressed]
        assert [s.name for s in plain] == [s.name for s in compressed]


def test_every_format_that_is_listed_has_a_file_here() -> None:
    by_name = {format_of_name(name) for name in [*FILES, "x.xsf", "x.xyz"]}
    # tests of those that dpdata reads, and of folders, stand in files of their own
    assert by_name == {form for form in FORMATS if not form.needs and form.how != "folder"}
