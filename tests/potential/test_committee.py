"""Forces of a committee: their mean by one derivative of the symmetry functions, and their spread if asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from export.exported import CRYSTALS, potential_for
from potentials import POTENTIAL
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.descriptors.verlet import VerletList
from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.interfaces.watch import Watch
from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.potential.merged import merged
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction

COMMITTEE = potential_for(PARAMETERS, CRYSTALS, members=5)


def predicted(potential: Potential, **options: Any) -> list[Prediction]:
    return list(potential.predict(CRYSTALS, forces=True, **options))


def bits(prediction: Prediction) -> list[bytes]:
    """Of all but the spread of forces."""
    numbers = (prediction.energy, prediction.spread, prediction.atomic_energies, prediction.distances)
    return [np.asarray(value).tobytes() for value in (*numbers, prediction.forces, prediction.stress)]


@pytest.fixture
def derivatives(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many networks symmetry functions are differentiated, call by call."""
    found: list[int] = []
    original = SymmetryCalculator.pair_gradients

    def counted(self: SymmetryCalculator, neighbors: Any, weights: Any) -> Any:
        found.append(len(weights))
        return original(self, neighbors, weights)

    monkeypatch.setattr(SymmetryCalculator, "pair_gradients", counted)
    return found


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("members", [2, 3, 5])
def test_mean_and_spread_are_those_of_the_members(members: int, shared: bool) -> None:
    committee = potential_for(PARAMETERS, CRYSTALS, members=members, shared=shared)
    alone = [predicted(replace(committee, members=(member,))) for member in committee.members]
    for k, found in enumerate(predicted(committee)):
        forces = np.array([of_member[k].forces for of_member in alone])
        spread = np.sqrt(forces.var(axis=0, ddof=1).sum(axis=1))
        np.testing.assert_allclose(found.forces, forces.mean(axis=0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.forces_spread, spread, rtol=1e-12, atol=1e-12)
        stresses = [of_member[k].stress for of_member in alone]
        np.testing.assert_allclose(found.stress, np.mean(stresses, axis=0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_spread_changes_no_bit_of_the_rest(threads: int) -> None:
    with_it, without = (
        predicted(COMMITTEE, forces_spread=wanted, threads=threads) for wanted in (True, False)
    )
    assert [one.forces_spread for one in without] == [None] * len(CRYSTALS)
    assert [bits(one) for one in with_it] == [bits(one) for one in without]
    for structure, one, other in zip(CRYSTALS, without, with_it, strict=True):
        (alone,) = COMMITTEE.predict([structure], forces=True, forces_spread=False)
        assert bits(alone) == bits(one)
        (alone,) = COMMITTEE.predict([structure], forces=True)
        np.testing.assert_array_equal(alone.forces_spread, other.forces_spread)


def test_equal_members_do_not_differ() -> None:
    (member, *_), structure = COMMITTEE.members, CRYSTALS[0]
    (found,) = replace(COMMITTEE, members=(member,) * 4).predict([structure], forces=True)
    (one,) = replace(COMMITTEE, members=(member,)).predict([structure], forces=True)
    np.testing.assert_allclose(found.forces_spread, 0.0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.forces, one.forces, rtol=0, atol=1e-13)


@pytest.mark.parametrize("potential", [COMMITTEE, merged(COMMITTEE, "x"), POTENTIAL])
def test_without_the_spread_functions_are_differentiated_once(
    potential: Potential, derivatives: list[int]
) -> None:
    predicted(potential, forces_spread=False)
    potential.predict_step(CRYSTALS[0], VerletList(), forces_spread=False)
    assert set(derivatives) == {1}
    derivatives.clear()
    predicted(potential)
    assert set(derivatives) == {len(potential.members)}


def test_the_calculator_for_ase_asks_for_the_spread_once_somebody_does(derivatives: list[int]) -> None:
    atoms = CRYSTALS[1].to_ase()
    atoms.calc = BehlerParrinello(COMMITTEE, warn=False)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert "forces_spread" not in atoms.calc.results
    assert set(derivatives) == {1}
    spread = atoms.calc.get_property("forces_spread", atoms)
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    np.testing.assert_array_equal(atoms.get_stress(), stress)
    derivatives.clear()
    atoms.rattle(0.01, seed=1)
    atoms.get_forces()
    prediction = atoms.calc.prediction
    assert not np.array_equal(atoms.calc.get_property("forces_spread", atoms), spread)
    assert atoms.calc.prediction is prediction
    assert set(derivatives) == {5}


@pytest.mark.parametrize(("by", "n"), [("distance", 1), ("spread", 5)])
def test_a_watch_takes_the_spread_only_if_it_compares_that(by: Any, n: int, derivatives: list[int]) -> None:
    atoms = CRYSTALS[1].to_ase()
    atoms.calc = BehlerParrinello(COMMITTEE, warn=False, watch=Watch(stop_at=1e9, by=by))
    atoms.get_forces()
    assert set(derivatives) == {n}


@pytest.mark.parametrize(("form", "n"), [("tsv", 5), ("csv", 5), ("json", 5), ("extxyz", 1), ("xsf", 1)])
def test_predict_takes_the_spread_only_where_it_shows_it(
    form: str, n: int, derivatives: list[int], tmp_path: Path
) -> None:
    COMMITTEE.save(file := tmp_path / "potential.npz")
    structure = tmp_path / "one.xyz"
    structure.write_text(exact_extxyz(crystals()[1], {}), encoding="utf-8")
    out, _ = invoke("predict", "--forces", "--format", form, "--potential", file, structure)
    assert set(derivatives) == {n}
    if form == "json":
        (expected,) = COMMITTEE.predict([crystals()[1]], forces=True)
        spread = json.loads(out)["forces_spread_eV_per_A"]
        np.testing.assert_allclose(spread, expected.forces_spread, rtol=1e-6)
