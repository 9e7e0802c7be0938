from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import peak_bytes
from strategies import random_structure

from tio2nn.io.labels import ReadOptions
from tio2nn.io.xsf.file import write_xsf
from tio2nn.parameters.draft import Draft, load_parameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.audit import audit
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure
from tio2nn.workflow.extract import ExtractSummary, _energies_table, extract


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a test, with a folder `data` of five structures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number in (1, 2, 10):
        write(f"data/s{number}.xsf", labeled(rng))
    scan = labeled(rng)
    write("data/s11.xsf", replace(scan, forces=None))
    write("data/s12.xsf", replace(scan, positions=scan.positions * 1.25, cell=scan.cell * 1.25))
    return tmp_path


def labeled(rng: np.random.Generator) -> Structure:
    structure = random_structure(rng, n_atoms=5)
    return replace(structure, energy=float(rng.normal(-5000.0, 0.1)), forces=rng.normal(size=(5, 3)))


def write(path: str, structure: Structure) -> None:
    Path(path).write_text(write_xsf(structure), encoding="utf-8")


def run(*sources: str, **options: Any) -> ExtractSummary:
    return extract(Project(Path("out")), sources, **options)


def draft(reference_energies: dict[str, float]) -> ParameterSet | Draft:
    Path("params.json").write_text(json.dumps({"preset": "auto", "reference_energies": reference_energies}))
    return load_parameters("params.json")


def table(path: str = "out/energies.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_structure_has_its_row_in_the_order_of_names() -> None:
    summary = run("data")
    assert summary.n_structures == 5
    assert summary.rejected == ()
    rows = table()
    assert list(rows[0]) == [
        *(
            "structure",
            "file",
            "n_atoms",
            "n_O",
            "n_Ti",
            "energy_eV",
            "energy_eV_per_atom",
            "cohesive_eV_per_atom",
        ),
        *("max_force", "min_distance", "group", "duplicate_of", "outlier"),
    ]
    assert [row["structure"] for row in rows] == ["s1", "s2", "s10", "s11", "s12"]
    assert rows[0]["file"] == "data/s1.xsf"
    assert [row["group"] for row in rows] == ["s1", "s2", "s10", "s11", "s11"]
    assert rows[3]["max_force"] == ""
    assert Path("out/rejected.csv").read_text() == "file,line,reason\n"


def test_energies_lose_no_digit_between_file_table_and_store() -> None:
    write("data/s1.xsf", replace(labeled(np.random.default_rng(1)), energy=-19960.66173261))
    run("data")
    row = table()[0]
    store = read_store("out/structures/structures.npz")
    assert row["energy_eV"] == "-19960.66173261"
    assert store["s1"].energy == -19960.66173261
    assert float(row["energy_eV_per_atom"]) == -19960.66173261 / 5
    np.testing.assert_allclose(
        [float(r["cohesive_eV_per_atom"]) for r in table()], store.cohesive_energies, atol=1e-12
    )
    assert store.groups == tuple(r["group"] for r in table())


def test_reference_energies_are_those_that_are_given() -> None:
    run("data", parameters=draft({"Ti": -1000.0, "O": -1000.0, "N": -1.0}))
    row = table()[0]
    assert float(row["cohesive_eV_per_atom"]) == pytest.approx(
        float(row["energy_eV"]) / 5 + 1000.0, abs=1e-12
    )
    assert read_store("out/structures/structures.npz").reference_energies == {"O": -1000.0, "Ti": -1000.0}


def test_structures_with_an_element_without_reference_energy_are_rejected() -> None:
    summary = run("data", parameters=draft({"Ti": -1000.0}))
    assert (summary.n_structures, summary.n_foreign, summary.foreign_elements) == (1, 4, ("O",))


def test_what_cannot_be_trusted_is_listed_and_stops_nothing() -> None:
    text = Path("data/s2.xsf").read_text()
    Path("data/s2.xsf").write_text(text.replace("PRIMCOORD\n5", "PRIMCOORD\n6"))
    Path("data/s9.xsf").write_text(text.partition("\n")[2])
    Path("data/s3.xsf").write_bytes(b"\x00\x01")
    summary = run("data", "data/none.xsf")
    assert summary.n_structures == 4
    assert [str(error) for error in summary.rejected] == [
        "data/none.xsf: no such file or folder",
        "data/s2.xsf:9: expected 6 atoms, got 5",
        "data/s3.xsf:1: expected text, got binary data",
        "data/s9.xsf:2: expected a comment '# total energy = ... eV', got none",
    ]
    assert [row["structure"] for row in table()] == ["s1", "s10", "s11", "s12"]
    assert table("out/rejected.csv")[1] == {
        "file": "data/s2.xsf",
        "line": "9",
        "reason": "expected 6 atoms, got 5",
    }


def test_structures_of_other_elements_are_rejected_where_elements_are_given() -> None:
    nitride = replace(labeled(np.random.default_rng(2)), elements=("Ti", "N", "O", "O", "O"))
    write("data/s5.xsf", nitride)
    summary = run("data", parameters=preset("artrith-urban-2016", ("Ti", "O")))
    assert [str(error) for error in summary.rejected] == ["data/s5.xsf:3: expected the elements Ti, O, got N"]
    assert run("data").n_structures == 6


def test_a_limit_takes_structures_from_all_over_the_set() -> None:
    assert run("data", limit=2).n_structures == 2
    assert [row["structure"] for row in table()] == ["s1", "s10"]
    assert run("data", limit=9).n_structures == 5


def test_without_any_structure_the_earlier_table_stays() -> None:
    run("data")
    before = Path("out/energies.csv").read_bytes()
    summary = run("nowhere")
    assert summary.n_structures == 0
    assert summary.audit is None
    assert Path("out/energies.csv").read_bytes() == before
    assert [row["file"] for row in table("out/rejected.csv")] == []


def test_results_do_not_depend_on_the_order_of_the_input() -> None:
    Path("more").mkdir()
    write("more/s1.xsf", labeled(np.random.default_rng(3)))
    files = sorted(str(path) for path in Path().glob("*/*.xsf"))
    results = []
    for order in (files, files[::-1]):
        run("-", stdin=[f"{file}\n" for file in order])
        paths = [Path("out/energies.csv"), Path("out/structures/structures.npz")]
        results.append([path.read_bytes() for path in paths])
    assert results[0] == results[1]
    assert [row["structure"] for row in table()][:2] == ["data/s1.xsf", "more/s1.xsf"]


def test_an_archive_gives_what_its_folder_gives() -> None:
    with tarfile.open("data.tar.gz", "w:gz") as tar:
        tar.add("data")
    run("data")
    expected = [{**row, "file": f"data.tar.gz:{row['file']}"} for row in table()]
    run("data.tar.gz")
    assert table() == expected


def test_progress_hears_of_every_structure() -> None:
    steps: list[int] = []

    @contextmanager
    def track(description: str, total: int) -> Iterator[Any]:
        assert (description, total) == ("reading structures", 0)
        yield steps.append

    run("data", track=track)
    assert sum(steps) == 5


def test_files_are_replaced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    run("data")
    before = Path("out/energies.csv").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    Path("data/s1.xsf").unlink()
    with pytest.raises(OSError, match="disk full"):
        run("data")
    assert Path("out/energies.csv").read_bytes() == before
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "energies.csv",
        "rejected.csv",
        "structures",
    ]


@pytest.mark.slow
def test_the_public_data_is_extracted_in_time(test_data: Path) -> None:
    program = """
import json, sys
from pathlib import Path
from tio2nn.project.project import Project
from tio2nn.workflow.extract import extract
summary = extract(Project(Path("out")), sys.argv[1:])
heavy = sorted({"tensorflow", "keras", "numba", "pandas", "ase"} & sys.modules.keys())
print(json.dumps([summary.n_structures, len(summary.rejected), heavy, dict(summary.audit.facts())]))
"""
    archive = test_data / "data" / "data-set-2016-TiO2.tar.bz2"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, str(archive)], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    n_structures, n_rejected, heavy, facts = json.loads(done.stdout)
    assert (n_structures, n_rejected) == (7146, 0)
    assert heavy == []
    assert facts["closest atoms"] == "0.975 Å (O-O) in structure5717"
    assert facts["forces"].startswith("in all structures; largest 191.")
    # seconds of CPU, which a busy machine changes less than seconds on the wall; 3.7 on the developer's machine
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10.0


def test_the_rows_of_the_table_of_energies_are_not_held_together() -> None:
    n, one = 2000, labeled(np.random.default_rng(0))
    structures = [replace(one, name=f"s{k}") for k in range(n)]
    findings = audit(structures, ReferenceEnergies.given(dict.fromkeys(one.composition, 0.0)))
    rows = deque[list[object]](maxlen=1)

    def write() -> None:
        rows.extend(_energies_table(structures, findings, {})[1])

    # a row alone takes 1 kB, its numbers as columns a fraction of that
    assert peak_bytes(write) < 500 * n
    assert rows[0][0] == f"s{n - 1}"


def test_labels_that_are_left_alone_are_told_once() -> None:
    frame = (
        '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:mace_forces:R:3 energy=-1 stress="1 2 3 4 5"\n'
        "O 0 0 0 0 0 0\n"
    )
    Path("more.xyz").write_text(3 * frame, encoding="utf-8")
    summary = run("more.xyz")
    assert summary.n_structures == 3
    assert summary.remarks == (
        "more.xyz:1 and 2 more: columns 'mace_forces' not read as reference forces; to read them, use --forces-key KEY",
        "more.xyz:1 and 2 more: stress ignored: expected six or nine numbers, got 5 numbers",
    )


def test_options_say_which_labels_are_meant() -> None:
    frame = "1\nProperties=species:S:1:pos:R:3:a:R:3:b:R:3 energy=-1 REF_energy=-2\nO 0 0 0 0 0 1 0 0 2\n"
    Path("more.xyz").write_text(frame, encoding="utf-8")
    assert run("more.xyz").n_structures == 0
    run("more.xyz", options=ReadOptions(energy_key="REF_energy", forces_key="b"))
    structure = read_store("out/structures/structures.npz")["more"]
    assert structure.energy == -2.0
    assert structure.forces is not None
    assert structure.forces.tolist() == [[0.0, 0.0, 2.0]]
