"""What select takes from a pool, what it leaves, and what it writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from command_line import invoke, refusal
from potentials import make_potential
from projects import PARAMETERS, structures, structures_with_forces, trained_project, write_files

from tio2nn.errors import InputError, UsageError
from tio2nn.evaluation.pool import ALIKE
from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.io.read import read_structures
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FEATURES
from tio2nn.project.project import Project
from tio2nn.structures.split import read_parts
from tio2nn.structures.structure import Structure
from tio2nn.workflow import select as verb
from tio2nn.workflow.select import COLUMNS, TABLE, SelectSettings, SelectSummary, select


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A committee trained on two dozen structures, in an empty current directory."""
    monkeypatch.chdir(tmp_path)
    return trained_project(tmp_path / "p", training={"members": 2})


@pytest.fixture
def single(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return trained_project(tmp_path / "p")


def others(n: int = 30, seed: int = 5) -> list[Structure]:
    """Structures that no project has seen."""
    return list(structures(n, seed))


def write_pool(pool: Sequence[Structure], file: str = "pool.xyz") -> Path:
    path = Path(file)
    path.write_text("".join(exact_extxyz(structure, {}) for structure in pool), encoding="utf-8")
    return path


def rows_of(directory: Path) -> list[dict[str, str]]:
    with (directory / TABLE).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def choose(project: Any, pool: Path, count: int = 5, to: str = "chosen", **settings: Any) -> SelectSummary:
    return select(project, pool, to, SelectSettings(count, **settings))


def turned(structure: Structure, seed: int = 0) -> Structure:
    """Rotated, moved, its atoms in another order."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(structure.n_atoms)
    return replace(
        structure,
        elements=tuple(structure.elements[k] for k in order),
        positions=(structure.positions[order] @ rotation) + 1.7,
        cell=structure.cell @ rotation,
    )


def doubled(structure: Structure) -> Structure:
    return Structure.from_ase(structure.to_ase().repeat((2, 1, 1)))


# --- what is chosen -----------------------------------------------------------------------------------------


def test_the_chosen_are_unlike_each_other_and_unlike_training(project: Project) -> None:
    own = structures()
    pool = others()
    copies = [turned(pool[3]), doubled(pool[3]), pool[7], turned(own[0]), doubled(own[1]), own[2]]
    found = choose(project, write_pool([*pool, *copies]), count=36, by="distance")
    assert (found.n_pool, found.n_known, found.n_alike, found.n_training) == (36, 3, 3, len(own))
    assert sorted(int(row["source"].split("#")[1]) for row in found.rows) == list(range(1, 31))
    assert min(row["distance"] for row in found.rows) > ALIKE


def test_a_test_structure_has_its_labels_already(project: Project) -> None:
    parts = read_parts(project.split_file)
    held_out = [s for s in structures() if parts[s.name] == "test"]
    assert held_out
    found = choose(project, write_pool([*held_out, *others(3)]), count=9, by="distance")
    assert (len(found.rows), found.n_known) == (3, len(held_out))
    with pytest.raises(InputError, match=f"got {len(held_out)} like structures with labels"):
        choose(project, write_pool(held_out), to="none")


def test_known_structures_are_named_besides_those_of_the_project(project: Project) -> None:
    pool = others()
    given = write_pool(pool[:10], "running.xyz")
    found = choose(project, write_pool(pool), count=30, by="distance", known=[given])
    assert (found.n_known, len(found.rows)) == (10, 20)
    alone = select(
        None,
        write_pool(pool),
        "alone",
        SelectSettings(30, "distance", known=[given]),
        potential_file=project.potential_file,
    )
    assert (alone.n_training, alone.n_known, len(alone.rows)) == (10, 10, 20)
    assert alone.rows[0]["nearest_in_training"].startswith("running.xyz#")


def test_the_spread_is_that_of_the_forces(project: Project) -> None:
    from tio2nn.potential.potential import Potential

    found = choose(project, write_pool(others()), by="spread")
    potential = Potential.load(project.potential_file)
    predictions = list(potential.predict(others(), forces=True))
    spreads = [float(np.sqrt(np.mean(np.square(p.forces_spread)))) for p in predictions]
    by_source = {int(row["source"].split("#")[1]) - 1: row["spread_eV_per_A"] for row in found.rows}
    assert by_source == {k: pytest.approx(spreads[k]) for k in by_source}
    assert max(spreads) == pytest.approx(found.rows[0]["spread_eV_per_A"])


def test_by_default_the_pool_is_covered_and_a_single_network_will_do(single: Project) -> None:
    found = choose(single, write_pool(others()))
    assert found.by == "coverage"
    assert {row["spread_eV_per_A"] for row in found.rows} == {""}
    reasons = [row["reason"].removesuffix(", share of its composition") for row in found.rows]
    assert reasons == ["covers most", "covers most atoms"] * 2 + ["covers most"]


@pytest.mark.parametrize("by", ["both", "coverage"])
def test_threads_do_not_matter(project: Project, by: Any) -> None:
    pool = write_pool(others(150))
    one, four = (choose(project, pool, 20, to=f"on-{n}", threads=n, by=by) for n in (1, 4))
    assert one.rows == four.rows


def test_atoms_of_the_project_count_as_known_whether_it_or_its_files_are_named(project: Project) -> None:
    pool, own = write_pool(others(60)), write_pool(structures(), "own.xyz")
    of_project = choose(project, pool, 12)
    potential = project.potential_file
    of_files = select(None, pool, "alone", SelectSettings(12, known=[own]), potential_file=potential)
    assert [row["source"] for row in of_project.rows] == [row["source"] for row in of_files.rows]


def test_every_structure_of_the_pool_is_within_the_radius(project: Project) -> None:
    found = choose(project, write_pool(others(150)), 20, by="distance")
    again = choose(
        project,
        write_pool(others(150)),
        1,
        to="again",
        by="distance",
        known=list(Path("chosen").glob("*.xyz")),
    )
    assert again.rows[0]["distance"] <= found.radius + 1e-9


# --- what is written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "suffix"), [("extxyz", "xyz"), ("xsf", "xsf"), ("poscar", "vasp")])
def test_files_have_the_structures_without_their_labels(project: Project, form: Any, suffix: str) -> None:
    pool = list(structures_with_forces())
    pool = [
        replace(
            s,
            positions=s.positions + 0.05 * np.sin(np.arange(3 * s.n_atoms)).reshape(-1, 3),
            stress=0.01 * np.eye(3),
        )
        for s in pool
    ]
    found = choose(project, write_pool(pool), 6, form=form)
    files = sorted(path.name for path in found.directory.iterdir())
    frames = ["chosen.xyz"] if form == "poscar" else []
    assert files == [*(f"000{k}.{suffix}" for k in range(1, 7)), TABLE, *frames]
    again = choose(project, write_pool(pool), 24, "again", known=[found.directory])
    assert again.n_known == found.n_known + 6
    for row in found.rows:
        original = pool[int(row["source"].split("#")[1]) - 1]
        path = found.directory / row["file"]
        if form == "poscar":
            atoms = ase.io.read(path, format="vasp")
            assert sorted(atoms.get_chemical_symbols()) == sorted(original.elements)
            assert atoms.get_volume() == pytest.approx(original.volume)
            continue
        (written,) = read_structures(path)
        assert (written.energy, written.forces, written.stress) == (None, None, None)
        assert written.elements == original.elements
        assert written.positions.tobytes() == original.positions.tobytes()
        assert written.cell.tobytes() == original.cell.tobytes()


def test_the_table_is_that_of_the_summary(project: Project) -> None:
    found = choose(project, write_pool(others()), by="both")
    table = rows_of(found.directory)
    assert [list(row) for row in table] == [list(COLUMNS)] * 5
    for row, other in zip(table, found.rows, strict=True):
        assert row == {name: str(other[name]) for name in COLUMNS}
    assert {row["reason"] for row in table} <= {
        "largest distance x spread",
        "largest distance x spread, share of its composition",
    }
    assert table[0]["nearest"] == table[0]["nearest_in_training"]


def test_there_is_a_whole_folder_or_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verb, "write_csv", fail)
    with pytest.raises(OSError, match="No space"):
        choose(project, write_pool(others()))
    assert sorted(path.name for path in Path().iterdir()) == ["p", "pool.xyz"]


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_a_pool_smaller_than_asked_for_is_taken_whole_with_a_warning() -> None:
    write_pool([*others(6), others(6)[2]])
    _, err = invoke("select", "pool.xyz", "--count", 50, "--to", "chosen", "-C", "p")
    assert "warning: only 6 structures of 50: the pool has no more but duplicates" in err.splitlines()
    assert len(rows_of(Path("chosen"))) == 6
    write_pool(others(6))
    _, err = invoke("select", "pool.xyz", "--count", 50, "--to", "again", "-C", "p")
    assert "warning: only 6 structures of 50: the pool has no more" in err.splitlines()


@pytest.mark.usefixtures("project")
def test_what_cannot_be_used_is_one_line_each_and_the_rest_is_used() -> None:
    good = others(4)
    foreign = replace(good[0], elements=("Ti", "Fe", *good[0].elements[2:]), name="foreign")
    slab = replace(good[1], periodic=(True, True, False))
    write_pool([*good, foreign, slab])
    Path("torn.xyz").write_text('3\nLattice="1 0 0"\nTi 0 0 0\n', encoding="utf-8")
    out, err = invoke(
        "select",
        "pool.xyz",
        "torn.xyz",
        "-n",
        3,
        "--to",
        "chosen",
        "-C",
        "p",
        "-f",
        "poscar",
        "--json",
        code=3,
    )
    lines = err.splitlines()
    assert sum("expected the elements Ti, O, got Fe" in line for line in lines) == 1
    assert sum("expected three periodic axes, as POSCAR demands" in line for line in lines) == 1
    assert sum(line.startswith("torn.xyz:") for line in lines) == 1
    document = json.loads(out)
    assert (document["rejected"], document["pool"], len(document["chosen"])) == (3, 4, 3)


@pytest.mark.usefixtures("project")
def test_no_more_than_ten_lines_for_one_trajectory() -> None:
    foreign = [replace(s, elements=("Fe",) * s.n_atoms) for s in others(14)]
    write_pool([*foreign, *others(3, seed=8)])
    _, err = invoke("select", "pool.xyz", "-n", 2, "--to", "chosen", "-C", "p", code=3)
    assert sum("got Fe" in line for line in err.splitlines()) == 10
    assert "pool.xyz: ... and 4 more structures" in err.splitlines()


@pytest.mark.usefixtures("single")
def test_a_single_network_has_no_spread() -> None:
    write_pool(others(4))
    line = refusal("select", "pool.xyz", "-n", 2, "--to", "chosen", "-C", "p", "--by", "spread", code=3)
    assert line == (
        "--by spread: expected a committee, whose members disagree, got a single network; use another measure, or "
        "train with --members 2"
    )
    assert not Path("chosen").exists()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (
            ["--by", "spred"],
            2,
            '--by: expected one of coverage, distance, spread, both, got "spred", did you mean "spread"?',
        ),
        (["--format", "cif"], 2, "--format"),
        (["--to", "p"], 3, "p: expected a new or empty folder, got one that exists"),
        (["--to", "pool.xyz"], 3, "pool.xyz: expected a new or empty folder, got one that exists"),
        (["--potential", "none.npz"], 3, "none.npz"),
        (["--known", "none.xyz"], 3, "none.xyz"),
    ],
)
@pytest.mark.usefixtures("project")
def test_wrong_options_are_one_line(words: list[str], code: int, expected: str) -> None:
    write_pool(others(4))
    line = refusal("select", "pool.xyz", "-n", 2, "--to", "chosen", "-C", "p", *words, code=code)
    assert expected in line
    assert not Path("chosen").exists()


def test_a_pool_of_known_structures_has_nothing_to_choose(project: Project) -> None:
    parts = read_parts(project.split_file)
    own = [turned(s) for s in structures() if parts[s.name] == "train"]
    write_pool(own)
    line = refusal("select", "pool.xyz", "-n", 2, "--to", "chosen", "-C", "p", code=3)
    expected = "expected structures in the pool that have no labels yet, got"
    assert line == f"{expected} {len(own)} like structures with labels"


@pytest.mark.usefixtures("project")
def test_another_cutoff_is_told() -> None:
    make_potential(parameters=PARAMETERS.with_overrides(cutoff=5.0)).save("other.npz")
    write_pool(others(4))
    words = ("select", "pool.xyz", "-n", 2, "--to", "chosen", "-C", "p", "--potential", "other.npz")
    line = refusal(*words, code=3)
    assert "expected features of the functions that the potential has (10 for Ti, O, cutoff 5 Å)" in line
    assert "got others (10 for Ti, O, cutoff 4 Å)" in line


def test_without_a_project_the_known_structures_must_be_named(project: Project) -> None:
    with pytest.raises(UsageError, match="expected structures that have labels, got none"):
        select(
            None, write_pool(others(4)), "chosen", SelectSettings(2), potential_file=project.potential_file
        )
    with pytest.raises(UsageError, match="expected a project or a potential, got neither"):
        select(None, "pool.xyz", "chosen", SelectSettings(2))
    with pytest.raises(UsageError, match="--count: expected at least 1, got 0"):
        select(project, "pool.xyz", "chosen", SelectSettings(0))


def test_a_pool_that_changes_while_it_is_read_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, choosing = write_pool(others(8)), verb.Sieve.choose

    def changing(self: Any, *arguments: Any) -> Any:
        write_pool(others(8, seed=9))
        return choosing(self, *arguments)

    monkeypatch.setattr(verb.Sieve, "choose", changing)
    with pytest.raises(InputError, match="expected a pool that does not change while it is read"):
        choose(project, pool)
    assert not Path("chosen").exists()


@pytest.mark.usefixtures("project")
def test_names_may_come_from_stdin() -> None:
    files = write_files(Path("files"), others(5))
    names = "".join(f"{path}\n" for path in files)
    _, err = invoke("select", "-", "-n", 2, "--to", "chosen", "-C", "p", stdin=names)
    assert "pool of 5 structures" in err
    assert rows_of(Path("chosen"))[0]["source"].startswith("files/")


def test_a_weight_that_no_fit_could_use_does_not_matter(single: Project) -> None:
    lines = ["structure,weight", *(f"{s.name},heavy" for s in structures())]
    single.energies_file.write_text("\n".join(lines), encoding="utf-8")
    pool = write_pool(others())
    assert len(choose(single, pool).rows) == 5
    snapshot = Snapshot(single)
    snapshot.require(FEATURES)
    with pytest.raises(InputError, match="got 'heavy'"):
        _ = snapshot.structures
