from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from places import SAMPLE_DATA

from tio2nn.io.read import read_structures
from tio2nn.structures.geometry import closest_pairs
from tio2nn.structures.groups import find_groups
from tio2nn.structures.structure import Structure

DIRECTORY = SAMPLE_DATA
PHASES = {"rutile", "anatase", "brookite", "columbite"}
KINDS = {"volume", "strain", "thermal", "supercell", "vacancy"}

NUMBER = r"-?\d+\.\d{8}"
LAYOUT = re.compile(
    rf"# total energy = {NUMBER} eV\n\nCRYSTAL\nPRIMVEC\n"
    rf"(?:(?=.{{48}}\n) +{NUMBER} +{NUMBER} +{NUMBER}\n){{3}}"
    rf"PRIMCOORD\n\d+ 1\n"
    rf"(?:(?=.{{93}}\n)(?:Ti|O )(?: +{NUMBER}){{6}}\n)+"
)


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    return list(read_structures(DIRECTORY))


@pytest.fixture(scope="module")
def index() -> dict[str, dict[str, str]]:
    with (DIRECTORY / "index.csv").open(newline="", encoding="utf-8") as file:
        return {row["structure"]: row for row in csv.DictReader(file)}


def of_kind(structures: list[Structure], index: dict[str, dict[str, str]], **wanted: str) -> list[Structure]:
    return [s for s in structures if all(index[s.name][key] == value for key, value in wanted.items())]


def test_there_are_about_three_hundred_structures_below_one_megabyte(structures: list[Structure]) -> None:
    assert 280 <= len(structures) <= 300
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir() if path.is_file()) < 1_000_000


def test_names_count_from_one_without_gaps(structures: list[Structure]) -> None:
    assert [s.name for s in structures] == [f"structure{k:04d}" for k in range(1, len(structures) + 1)]


def test_every_file_has_the_layout_of_the_aenet_set() -> None:
    wrong = [p.name for p in DIRECTORY.glob("*.xsf") if not LAYOUT.fullmatch(p.read_text(encoding="utf-8"))]
    assert not wrong


def test_the_index_describes_every_structure(
    structures: list[Structure], index: dict[str, dict[str, str]]
) -> None:
    assert [s.name for s in structures] == list(index)
    assert all(s.n_atoms == int(index[s.name]["n_atoms"]) for s in structures)
    assert all(int(row["n_atoms_labelled"]) % int(row["n_atoms"]) == 0 for row in index.values())


def test_structures_have_6_to_48_atoms_of_titanium_and_oxygen(structures: list[Structure]) -> None:
    assert {s.n_atoms for s in structures} >= {6, 12, 24, 48}
    assert all(6 <= s.n_atoms <= 48 for s in structures)
    assert all(set(s.composition) == {"Ti", "O"} for s in structures)


def test_every_phase_comes_in_every_kind(index: dict[str, dict[str, str]]) -> None:
    pairs = {(row["phase"], row["kind"]) for row in index.values()}
    assert pairs == {(phase, kind) for phase in PHASES for kind in KINDS}


def test_only_vacancy_structures_lack_oxygen_and_they_lack_one_atom(
    structures: list[Structure], index: dict[str, dict[str, str]]
) -> None:
    for s in structures:
        missing = 2 * s.composition["Ti"] - s.composition["O"]
        assert missing == (index[s.name]["kind"] == "vacancy"), s.name


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_every_phase_has_skew_cells(
    phase: str, structures: list[Structure], index: dict[str, dict[str, str]]
) -> None:
    metrics = [s.cell @ s.cell.T for s in of_kind(structures, index, phase=phase)]
    skew = [np.abs(metric - np.diag(np.diag(metric))).max() > 0.1 for metric in metrics]
    assert sum(skew) > 10


def test_energies_and_forces_are_there_and_forces_balance(structures: list[Structure]) -> None:
    for s in structures:
        assert s.energy is not None
        assert s.forces is not None
        # each of up to 48 numbers is rounded to 1e-8
        np.testing.assert_allclose(s.forces.sum(axis=0), 0.0, atol=1e-6, err_msg=s.name)
        assert np.linalg.norm(s.forces, axis=1).max() < 60.0, s.name


def test_no_two_atoms_are_closer_than_one_and_a_half_angstrom(structures: list[Structure]) -> None:
    distances, *_ = closest_pairs(structures)
    assert np.min(distances) > 1.5


def test_energies_per_atom_spread_as_vibrations_do_around_reference_energies(
    structures: list[Structure],
) -> None:
    counts = np.array([[s.composition["Ti"], s.composition["O"]] for s in structures], dtype=np.float64)
    energies = np.array([s.energy for s in structures])
    references = np.linalg.lstsq(counts, energies, rcond=None)[0]
    per_atom = (energies - counts @ references) / counts.sum(axis=1)
    assert -0.5 < per_atom.min() < -0.05
    assert 0.1 < per_atom.max() < 2.0


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_a_volume_scan_has_one_minimum_inside(
    phase: str, structures: list[Structure], index: dict[str, dict[str, str]]
) -> None:
    scan = of_kind(structures, index, phase=phase, kind="volume")
    energies = np.array([s.energy for s in sorted(scan, key=lambda s: s.volume or 0.0)])
    slopes = np.sign(np.diff(energies))
    assert slopes[0] == -1
    assert slopes[-1] == 1
    assert np.count_nonzero(np.diff(slopes)) == 1


def test_only_the_volume_scans_form_groups(structures: list[Structure]) -> None:
    groups = find_groups(structures)
    assert np.all(groups.duplicate_of == -1)
    assert np.all(groups.run == -1)
    assert len(np.unique(groups.group)) > 250
