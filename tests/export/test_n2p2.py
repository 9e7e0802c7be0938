"""The n2p2 folder says what the potential says: judged by a reader that knows the format and nothing of the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export.exported import by_plain_reader, potential_for, write_files
from export.plain_n2p2 import PlainFolder
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError
from tio2nn.export.n2p2 import n2p2_files
from tio2nn.export.units import ATOMIC, METAL, UNITS
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

CRYSTALS = crystals(6)
CLOSE = 1e-9  # eV, eV/Å
# shifted, sharp, not in the order of n2p2, the heavier element first; ζ no integer
SHUFFLED = ParameterSet(
    elements=("Ti", "O"),
    cutoff=4.2,
    radial=(RadialFunction(0.7, 1.5), RadialFunction(0.05), RadialFunction(0.7)),
    angular=(
        AngularFunction(0.09, 1, 2.5),
        AngularFunction(0.02, 1, 4),
        AngularFunction(0.02, -1, 4),
        AngularFunction(0.02, 1, 1),
    ),
)


def export(potential: Potential, directory: Path, units: str = "metal", *, weighted: bool = True) -> None:
    write_files(directory, n2p2_files(potential, UNITS[units], weighted=weighted, train="tio2nn train"))


def check(potential: Potential, directory: Path, structure: Structure, units: str = "metal") -> None:
    (expected,) = potential.predict([structure], forces=True)
    energy, forces = by_plain_reader(directory, structure, UNITS[units])
    assert energy == pytest.approx(expected.energy, abs=CLOSE)
    assert np.abs(forces).max() > 0.01
    np.testing.assert_allclose(forces, expected.forces, rtol=0.0, atol=CLOSE)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "relu", "linear"])
def test_a_plain_reader_computes_the_same_energy_and_forces(tmp_path: Path, activation: str) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS, activation)
    export(potential, tmp_path)
    check(potential, tmp_path, CRYSTALS[0])


@pytest.mark.parametrize("units", ["metal", "atomic"])
def test_functions_stand_in_the_order_of_n2p2_whatever_that_of_the_set(tmp_path: Path, units: str) -> None:
    potential = potential_for(SHUFFLED, CRYSTALS)
    export(potential, tmp_path, units)
    check(potential, tmp_path, CRYSTALS[1], units)
    plain = PlainFolder(tmp_path)
    assert plain.elements == [8, 22]
    # as they are written, too: a reader that does not sort is right as well
    written = [
        line
        for line in (tmp_path / "input.nn").read_text().splitlines()
        if line.startswith("symfunction_short O")
    ]
    assert [float(line.split()[4]) for line in written[:6]] == [f.eta for f in plain.functions[8][:6]]


def test_each_member_of_a_committee_has_a_folder(tmp_path: Path) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS, members=3)
    export(potential, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nnp-1", "nnp-2", "nnp-3"]
    check(potential, tmp_path, CRYSTALS[2])
    energies = [by_plain_reader(tmp_path / f"nnp-{member}", CRYSTALS[2])[0] for member in (1, 2, 3)]
    (prediction,) = potential.predict([CRYSTALS[2]])
    assert np.std(energies, ddof=1) / CRYSTALS[2].n_atoms == pytest.approx(prediction.spread, rel=1e-6)
    inputs = {(tmp_path / f"nnp-{member}" / "input.nn").read_text() for member in (1, 2, 3)}
    assert len(inputs) == 1  # CP2K reads one for all


@pytest.mark.parametrize(
    ("radial", "angular"),
    [("blind", "blind"), ("weighted", "weighted"), ("each", "weighted"), ("blind", "pairs")],
)
@pytest.mark.parametrize("weighted", [True, False], ids=["12 and 13", "written out"])
def test_sums_over_all_elements_become_functions_that_n2p2_or_cp2k_has(
    tmp_path: Path, radial: str, angular: str, weighted: bool
) -> None:
    parameters = PARAMETERS.with_overrides(radial_elements=radial, angular_elements=angular)
    potential = potential_for(parameters, CRYSTALS)
    export(potential, tmp_path, weighted=weighted)
    check(potential, tmp_path, CRYSTALS[0])
    kinds = {line.kind for line in PlainFolder(tmp_path).functions[22]}
    if not weighted:
        assert kinds == {2, 3}
    else:
        assert (12 in kinds, 13 in kinds) == (radial == "weighted", angular == "weighted")


@pytest.mark.parametrize("shared", [True, False])
def test_one_subnet_for_all_elements_is_written_for_each(tmp_path: Path, shared: bool) -> None:
    parameters = PARAMETERS.with_overrides(radial_elements="blind", angular_elements="blind")
    potential = potential_for(parameters, CRYSTALS, shared=shared)
    export(potential, tmp_path)
    check(potential, tmp_path, CRYSTALS[3])


def test_a_network_without_hidden_layers_gets_a_linear_node(tmp_path: Path) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS, hidden=())
    export(potential, tmp_path)
    assert PlainFolder(tmp_path).keywords["global_activation_short"] == ["l", "l"]
    check(potential, tmp_path, CRYSTALS[0])


def test_a_column_that_training_never_saw_has_a_range_and_no_weight(tmp_path: Path) -> None:
    # no neighbor of Cu in any structure: its columns are zero
    parameters = PARAMETERS.with_overrides(elements=("Ti", "Cu", "O"))
    with_copper = [
        replace(s, elements=tuple("Cu" if k == 0 else e for k, e in enumerate(s.elements))) for s in CRYSTALS
    ]
    potential = potential_for(parameters, tuple(with_copper))
    export(potential, tmp_path)
    plain = PlainFolder(tmp_path)
    constant = (plain.scaling[29][:, 3] - plain.scaling[29][:, 2]) == 1.0
    assert constant.any()
    assert (plain.layers[29][0][0][constant] == 0.0).all()
    check(potential, tmp_path, with_copper[0])


def test_every_number_comes_back_as_it_was(tmp_path: Path) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS)
    export(potential, tmp_path)
    plain = PlainFolder(tmp_path)
    assert plain.offsets == {22: potential.reference_energies["Ti"], 8: potential.reference_energies["O"]}
    assert {f.eta for f in plain.functions[8]} == {f.eta for f in (*PARAMETERS.radial, *PARAMETERS.angular)}
    assert sorted(plain.scaling[22][:, 4]) == sorted(potential.whitenings[0].mean)
    np.testing.assert_array_equal(plain.layers[22][1][0], potential.members[0][0][1].kernel)


def test_molecules_are_the_same(tmp_path: Path, molecule: Structure) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS)
    export(potential, tmp_path)
    check(potential, tmp_path, molecule)


def test_the_scaling_is_the_range_of_training(tmp_path: Path) -> None:
    """So that n2p2 and CP2K warn where an atom lies beyond it."""
    potential = potential_for(PARAMETERS, CRYSTALS)
    export(potential, tmp_path)
    rows = PlainFolder(tmp_path).scaling[8]
    atoms = potential.training_atoms[1]
    assert sorted(rows[:, 2]) == sorted(atoms.low)
    assert sorted(rows[:, 3]) == sorted(atoms.high)


def test_an_activation_that_the_program_lacks_is_refused_with_the_way_out() -> None:
    potential = potential_for(PARAMETERS, CRYSTALS, "silu")
    with pytest.raises(
        InputError, match=r'LAMMPS has no activation "silu", only .*; .* run "tio2nn train --for lammps"'
    ):
        n2p2_files(potential, METAL, weighted=True, train="tio2nn train")
    potential = potential_for(PARAMETERS, CRYSTALS, "relu")
    with pytest.raises(InputError, match='CP2K has no activation "relu"'):
        n2p2_files(potential, ATOMIC, weighted=False, train="tio2nn train")


def test_networks_of_different_sizes_are_refused() -> None:
    one, other = (potential_for(PARAMETERS, CRYSTALS, hidden=hidden) for hidden in ((6, 5), (6, 4)))
    mixed = replace(one, members=(*one.members, *other.members))
    with pytest.raises(InputError, match="wants hidden layers of the same sizes"):
        n2p2_files(mixed, METAL, weighted=True, train="tio2nn train")


def test_the_repulsion_is_a_comment_and_changes_nothing_else() -> None:
    repulsion = Repulsion(("Ti", "O"), np.full((2, 2), 2.5))
    plain, repelling = (potential_for(PARAMETERS, CRYSTALS, repulsion=r) for r in (None, repulsion))
    one, other = (n2p2_files(each, METAL, weighted=True, train="tio2nn train") for each in (plain, repelling))
    lines = other["input.nn"].splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("# tio2nn: repulsion ")]
    assert len(lines) == len(kept) + 3
    assert {**other, "input.nn": "".join(kept)} == one
