"""Limits of a simulation: where it stops, where it records structures; here with the calculator for ASE."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.md.verlet import VelocityVerlet
from command_line import invoke
from potentials import POTENTIAL, make_potential
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError
from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.interfaces.watch import ExtrapolationError, ExtrapolationWarning, Watch
from tio2nn.io.read import read_structures
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.potential import Potential

CRYSTAL = crystals()[1]


def knowing(*structures: Any) -> Potential:
    """A potential whose training atoms are those of some structures."""
    features = np.concatenate([POTENTIAL._calculator(structure) for structure in structures])
    elements = np.array([element for structure in structures for element in structure.elements])
    owners = np.repeat(np.arange(len(structures)), [structure.n_atoms for structure in structures])
    return replace(
        POTENTIAL,
        training_atoms=tuple(
            TrainingAtoms.fit(
                features[elements == element],
                owners[elements == element],
                POTENTIAL.whitenings[k],
                np.random.default_rng(0),
            )
            for k, element in enumerate(PARAMETERS.elements)
        ),
    )


KNOWING = knowing(*crystals()[:6])


def atoms_of(potential: Potential, watch: Watch) -> Atoms:
    atoms = CRYSTAL.to_ase()
    atoms.calc = BehlerParrinello(potential, warn=False, watch=watch)
    return atoms


def largest(atoms: Atoms, name: str) -> float:
    return float(BehlerParrinello(KNOWING, warn=False).get_property(name, atoms).max())


def test_a_structure_of_training_passes(tmp_path: Path) -> None:
    watch = Watch(stop_at=1.0, record_at=1.0, file=tmp_path / "candidates.xyz")
    atoms = atoms_of(KNOWING, watch)
    atoms.get_forces()
    assert watch.n_recorded == 0
    assert not (tmp_path / "candidates.xyz").exists()


@pytest.mark.parametrize(("by", "name"), [("distance", "distances"), ("spread", "forces_spread")])
def test_a_run_stops_at_the_limit_with_a_line_that_says_why(by: Any, name: str) -> None:
    atoms = CRYSTAL.to_ase()
    atoms.rattle(0.3, seed=1)
    value = largest(atoms, name)
    atoms.calc = BehlerParrinello(KNOWING, warn=False, watch=Watch(stop_at=1.001 * value, by=by))
    atoms.get_potential_energy()
    atoms.calc = BehlerParrinello(KNOWING, warn=False, watch=Watch(stop_at=0.999 * value, by=by))
    # the energy alone is enough to be stopped, and whoever asks again is stopped again
    for _ in range(2):
        with pytest.raises(ExtrapolationError) as caught:
            atoms.get_potential_energy()
    line = str(caught.value)
    assert line.count("\n") == 0
    assert line.startswith(f"{atoms.get_chemical_formula(mode='metal')}: stopped: ")
    assert f"{value:.3g}" in line
    assert f"above the limit of {0.999 * value:g}" in line
    worst = int(BehlerParrinello(KNOWING, warn=False).get_property(name, atoms).argmax())
    assert f"atom {worst + 1} ({atoms.get_chemical_symbols()[worst]})" in line


def test_molecular_dynamics_ends_with_the_step_that_goes_too_far() -> None:
    atoms = atoms_of(KNOWING, Watch(stop_at=1.5))
    atoms.set_momenta(np.random.default_rng(3).normal(scale=20.0, size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=0.1)
    with pytest.raises(ExtrapolationError):
        dynamics.run(2000)
    assert 0 < dynamics.nsteps < 2000
    assert largest(atoms, "distances") > 1.5


def test_a_structure_beyond_the_limit_is_recorded_for_labelling(tmp_path: Path) -> None:
    file = tmp_path / "candidates.xyz"
    watch = Watch(record_at=0.05, file=file)
    atoms = atoms_of(KNOWING, watch)
    atoms.rattle(0.3, seed=1)
    with pytest.warns(ExtrapolationWarning, match=r"^Ti\d?O\d?: atom \d .* recorded in .*\.xyz$") as caught:
        forces = atoms.get_forces()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert watch.n_recorded == 1
    (read,) = read_structures(file)
    np.testing.assert_allclose(read.positions, atoms.positions, atol=1e-8)
    np.testing.assert_allclose(read.cell, atoms.cell[:])
    # nothing in the file can be taken for a label
    assert read.energy is None
    assert read.forces is None
    frame = ase.io.read(file)
    assert frame.calc is None
    assert frame.info["tio2nn_energy"] == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(frame.arrays["tio2nn_forces"], forces, atol=1e-8)
    assert "times an ordinary distance from training" in frame.info["reason"]


def test_predict_reads_the_candidates_and_extract_misses_their_labels(tmp_path: Path) -> None:
    file = tmp_path / "candidates.xyz"
    atoms = atoms_of(KNOWING, Watch(record_at=0.05, file=file, interval=1))
    for seed in range(2):
        atoms.rattle(0.3, seed=seed)
        with pytest.warns(ExtrapolationWarning):
            atoms.get_forces()
    KNOWING.save(tmp_path / "potential.npz")
    out, _ = invoke("predict", file, "--potential", tmp_path / "potential.npz")
    rows = [line for line in out.splitlines() if not line.startswith("#")]
    assert len(rows) == 2
    invoke("init", tmp_path / "p", "--preset", "artrith-urban-2016", "--elements", "Ti,O")
    _, err = invoke("extract", file, "-C", tmp_path / "p", code=3)
    first, second, _ = err.splitlines()
    assert first.startswith(f"{file}:1: expected a total energy, got none")
    assert second.startswith(f"{file}:9: expected a total energy, got none")


def test_records_are_some_evaluations_apart_and_not_more_than_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "candidates.xyz"
    watch = Watch(record_at=0.01, file=file, interval=3, most=3)
    atoms = atoms_of(KNOWING, watch)
    counts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExtrapolationWarning)
        for seed in range(12):
            atoms.rattle(0.2, seed=seed)
            atoms.get_potential_energy()
            counts.append(watch.n_recorded)
    assert counts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert len(caught) == 3
    names = [structure.extras.info["name"] for structure in read_structures(file)]
    assert names == ["candidate-1", "candidate-2", "candidate-3"]


def test_energy_and_then_forces_of_one_structure_are_one_evaluation(tmp_path: Path) -> None:
    watch = Watch(record_at=0.01, file=tmp_path / "candidates.xyz", interval=3)
    atoms = atoms_of(KNOWING, watch)
    counts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        for seed in range(7):
            atoms.rattle(0.2, seed=seed)
            atoms.get_potential_energy()
            atoms.get_forces()
            counts.append(watch.n_recorded)
    assert counts == [1, 1, 1, 2, 2, 2, 3]


def test_whoever_asks_again_after_a_stop_records_nothing_more(tmp_path: Path) -> None:
    watch = Watch(stop_at=0.3, record_at=0.2, file=tmp_path / "candidates.xyz")
    atoms = atoms_of(KNOWING, watch)
    atoms.rattle(0.5, seed=1)
    with pytest.warns(ExtrapolationWarning, match="recorded"), pytest.raises(ExtrapolationError):
        atoms.get_potential_energy()
    with pytest.raises(ExtrapolationError):
        atoms.get_forces()
    assert watch.n_recorded == len(list(read_structures(watch.file))) == 1


def test_a_cell_or_an_element_alone_makes_another_structure(tmp_path: Path) -> None:
    watch = Watch(record_at=0.01, file=tmp_path / "candidates.xyz", interval=1)
    atoms = atoms_of(KNOWING, watch)
    atoms.rattle(0.2, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        atoms.get_potential_energy()
        atoms.set_cell(1.01 * atoms.cell)
        atoms.get_potential_energy()
        atoms.symbols[0] = "O" if atoms.symbols[0] == "Ti" else "Ti"
        atoms.get_potential_energy()
        atoms.pbc = (True, True, False)
        atoms.get_potential_energy()
    assert watch.n_recorded == 4


def test_the_structure_that_stops_a_run_is_recorded_whenever_the_last_one_was(tmp_path: Path) -> None:
    file = tmp_path / "candidates.xyz"
    watch = Watch(stop_at=0.3, record_at=0.001, file=file, interval=100)
    atoms = atoms_of(KNOWING, watch)
    atoms.rattle(0.01, seed=0)
    with pytest.warns(ExtrapolationWarning, match="recorded"):
        atoms.get_potential_energy()
    atoms.rattle(0.5, seed=1)
    with pytest.warns(ExtrapolationWarning, match="recorded"), pytest.raises(ExtrapolationError):
        atoms.get_potential_energy()
    assert len(list(read_structures(file))) == 2


def test_structures_of_earlier_runs_stay(tmp_path: Path) -> None:
    file = tmp_path / "candidates.xyz"
    for seed in range(2):
        atoms = atoms_of(KNOWING, Watch(record_at=0.05, file=file))
        atoms.rattle(0.3, seed=seed)
        with pytest.warns(ExtrapolationWarning):
            atoms.get_potential_energy()
    assert len(list(read_structures(file))) == 2


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"by": "energy"}, "by: expected distance or spread, got 'energy'"),
        ({"stop_at": 0.0}, "stop_at: expected a number above 0, got 0.0"),
        ({"record_at": float("nan")}, "record_at: expected a number above 0, got nan"),
        ({"stop_at": 2.0, "record_at": 3.0}, "record_at: expected at most stop_at, 2, got 3"),
        ({"interval": 0}, "interval: expected at least 1, got 0"),
        ({"most": -1}, "most: expected at least 1, got -1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        Watch(**limits)
    assert str(caught.value) == reason


def test_a_single_network_has_no_spread_to_watch() -> None:
    with pytest.raises(InputError, match=r"^by: expected a committee for the spread, got a single network$"):
        BehlerParrinello(make_potential(members=1), watch=Watch(stop_at=1.0, by="spread"))


def test_files_that_cannot_take_a_frame_are_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file in a folder that exists"):
        Watch(record_at=1.0, file=tmp_path / "missing/candidates.xyz")
    with pytest.raises(InputError, match="expected a regular file, got another kind"):
        Watch(record_at=1.0, file=tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="expected a regular file, got another kind"):
        Watch(record_at=1.0, file=tmp_path / "pipe")
    (tmp_path / "torn.xyz").write_text("2\nLattice", encoding="utf-8")
    with pytest.raises(InputError, match=r"torn\.xyz: expected complete frames to append to"):
        Watch(record_at=1.0, file=tmp_path / "torn.xyz")
