"""The repulsion of a fitted potential: where it begins, how a file keeps it, and what it is for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.md.langevin import Langevin
from ase.units import fs, kB
from potential.repulsive import OUTER, REPELLING, REPULSION, pair
from potentials import POTENTIAL
from projects import PARAMETERS, small_project, trained_project
from projects import structures as crystals

from tio2nn.descriptors.neighbors import neighbor_lists
from tio2nn.errors import InputError
from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import closest_distances
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import read_store
from tio2nn.structures.split import read_split
from tio2nn.structures.structure import Structure

# --- a fit --------------------------------------------------------------------------------------------------


def test_a_fit_repels_from_where_its_training_part_ends(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    potential = Potential.load(project.potential_file)
    store = read_store(project.structures_file)
    split = read_split(project.split_file, store.names, 0.05, 0)
    training = [store[k] for k in split.indices("train").tolist()]
    expected = closest_distances(training, ("Ti", "O"), PARAMETERS.cutoff)
    assert potential.repulsion is not None
    np.testing.assert_allclose(potential.repulsion.closest, expected, rtol=1e-7)
    assert (potential.repulsion.closest < expected).all()
    bare = replace(potential, repulsion=None)
    for one, other in zip(
        potential.predict(training, forces=True), bare.predict(training, forces=True), strict=True
    ):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.forces, other.forces)
        np.testing.assert_array_equal(one.stress, other.stress)


def test_a_fit_may_do_without(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p", network={"repulsion": False})
    potential = Potential.load(project.potential_file)
    assert potential.repulsion is None
    assert next(potential.predict([pair(0.5)])).repulsion == 0.0
    other = Potential.load(trained_project(tmp_path / "q").potential_file)
    # the networks are the same to the last bit
    for one, same in zip(potential.members[0], other.members[0], strict=True):
        for layer, equal in zip(one, same, strict=True):
            np.testing.assert_array_equal(layer.kernel, equal.kernel)


def test_a_model_without_repulsion_is_stale_where_the_project_wants_none(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    store = read_store(project.structures_file)
    settings = {
        repulsion: inputs_of_model(
            PARAMETERS.with_overrides(network={"repulsion": repulsion}), store, project.split_file
        )["settings"]
        for repulsion in (True, False)
    }
    assert settings[True] != settings[False]


# --- the file -----------------------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change header and arrays of a file."""
    with np.load(path) as arrays:
        content = dict(arrays)
    header = json.loads(str(content["header"]))
    change(header, content)
    np.savez(path, **{**content, "header": np.array(json.dumps(header))})


def test_a_file_keeps_the_repulsion(tmp_path: Path) -> None:
    REPELLING.save(tmp_path / "p.npz")
    loaded = Potential.load(tmp_path / "p.npz")
    assert loaded.repulsion is not None
    assert loaded.repulsion.elements == REPULSION.elements
    np.testing.assert_array_equal(loaded.repulsion.outer, OUTER)
    POTENTIAL.save(tmp_path / "q.npz")
    assert Potential.load(tmp_path / "q.npz").repulsion is None


def test_a_file_of_format_2_has_none(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    POTENTIAL.save(path)

    def age(header: dict[str, Any], _: dict[str, Any]) -> None:
        header["format"] = 2
        del header["has_repulsion"], header["largest_in_training"]
        del header["parameters"]["network"]["repulsion"]

    edited(path, age)
    loaded = Potential.load(path)
    assert loaded.repulsion is None
    assert (loaded.limits.energy, loaded.limits.force) == (1000.0, 1000.0)
    assert loaded.energy(crystals()[0]) == POTENTIAL.energy(crystals()[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _, arrays: arrays.pop("repulsion/outer"), "repulsion/outer"),
        (lambda header, _: header.pop("has_repulsion"), "has_repulsion"),
        (lambda header, _: header.update(has_repulsion=1), "true or false for has_repulsion"),
        (lambda _, arrays: arrays.update({"repulsion/outer": np.eye(3)}), "repulsion: expected numbers"),
        (lambda _, arrays: arrays.update({"repulsion/outer": np.nan * OUTER}), "expected finite"),
        (lambda _, arrays: arrays.update({"repulsion/outer": 0.0 * OUTER}), "within the cutoff"),
        (lambda _, arrays: arrays.update({"repulsion/outer": OUTER + 2.0}), "within the cutoff"),
        (
            lambda _, arrays: arrays.update({"repulsion/outer": OUTER * np.array([[1.0, 1.1], [1.0, 1.0]])}),
            "a symmetric repulsion",
        ),
        (lambda header, _: header["largest_in_training"].update(largest_force="x"), "limits of training"),
        (lambda header, _: header["largest_in_training"].update(largest_energy=-1.0), "limits of training"),
        (lambda header, _: header["largest_in_training"].update(largest=1.0), "foreign file"),
    ],
)
def test_a_file_of_a_wrong_repulsion_or_wrong_limits_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], reason: str
) -> None:
    path = tmp_path / "p.npz"
    REPELLING.save(path)
    edited(path, change)
    with pytest.raises(InputError, match=f"expected a potential .*{reason}") as caught:
        Potential.load(path)
    assert "\n" not in str(caught.value)


# --- what it is for -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Potential:
    """A fit whose energies fall as unlike atoms approach each other, as those that it was made from do."""
    root = tmp_path_factory.mktemp("fitted") / "p"
    return Potential.load(trained_project(root, training={"epochs": 30}).potential_file)


def pressure(potential: Potential, structure: Structure, scale: float) -> float:
    scaled = replace(structure, positions=scale * structure.positions, cell=scale * structure.cell)
    (prediction,) = potential.predict([scaled], forces=True)
    assert prediction.stress is not None
    return -float(np.trace(prediction.stress)) / 3.0


def test_a_compressed_crystal_pushes_back_the_more_the_smaller_it_is(fitted: Potential) -> None:
    for structure in crystals()[:4]:
        pressures = [pressure(fitted, structure, scale) for scale in (0.58, 0.5, 0.43, 0.37, 0.3)]
        assert pressures[0] > 0.0
        assert pressures == sorted(pressures)
        assert pressures[-1] > 10.0  # eV/Å³
    without = replace(fitted, repulsion=None)
    assert min(pressure(without, structure, 0.7) for structure in crystals()[:4]) < 0.0


def closest_in_dynamics(potential: Potential, start: Structure, steps: int) -> float:
    """Å, smallest distance in a molecular dynamics at 5,000 K."""
    atoms = Atoms(start.elements, start.positions, cell=start.cell, pbc=True)
    atoms.calc = BehlerParrinello(potential, warn=False)
    chance = np.random.default_rng(1).normal(size=(len(atoms), 3))
    atoms.set_momenta(np.sqrt(kB * 5000 * atoms.get_masses())[:, None] * chance)
    friction, noise = 0.02 / fs, np.random.default_rng(2)
    dynamics = Langevin(atoms, fs, temperature_K=5000, friction=friction, rng=noise, fixcm=False)
    smallest = math.inf
    for _ in range(steps // 5):
        dynamics.run(5)
        now = Structure("now", start.elements, atoms.positions.copy(), start.cell)
        kinds = np.zeros(now.n_atoms, dtype=np.int64)
        lists = neighbor_lists([now], 6.0, kinds, 1)
        smallest = min(smallest, *(float(np.linalg.norm(found.vectors, axis=1).min()) for found in lists))
    return smallest


def test_atoms_do_not_fall_into_each_other_in_hot_dynamics(fitted: Potential) -> None:
    start = next(structure for structure in crystals() if structure.n_atoms == 8)
    assert fitted.repulsion is not None
    assert closest_in_dynamics(fitted, start, 300) > 0.7 * float(fitted.repulsion.outer.min())
    assert closest_in_dynamics(replace(fitted, repulsion=None), start, 300) < 0.2
