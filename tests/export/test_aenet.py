"""The files for aenet say what the potential says: judged by a reader that knows the format alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export.exported import potential_for, write_files
from export.plain_aenet import PlainNetwork, energy_and_forces
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError
from tio2nn.export.aenet import aenet_files
from tio2nn.parameters.parameter_set import AngularFunction, RadialFunction
from tio2nn.potential.potential import Potential
from tio2nn.structures.structure import Structure

CRYSTALS = crystals(6)
CLOSE = 1e-9  # eV, eV/Å
SHUFFLED = PARAMETERS.with_overrides(
    cutoff=4.2,
    radial=(RadialFunction(0.7, 1.5), RadialFunction(0.05)),
    angular=(AngularFunction(0.09, 1, 2.5), AngularFunction(0.02, -1, 4), AngularFunction(0.02, 1, 1)),
)


def check(directory: Path, potential: Potential, structure: Structure) -> None:
    (expected,) = potential.predict([structure], forces=True)
    energy, forces = energy_and_forces(directory, structure.elements, structure.positions, structure.cell)
    assert energy == pytest.approx(expected.energy, abs=CLOSE)
    assert np.abs(forces).max() > 0.01
    np.testing.assert_allclose(forces, expected.forces, rtol=0.0, atol=CLOSE)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("hidden", [(6, 5), ()])
def test_a_plain_reader_computes_the_same(tmp_path: Path, activation: str, hidden: tuple[int, ...]) -> None:
    potential = potential_for(SHUFFLED, CRYSTALS, activation, hidden=hidden)
    write_files(tmp_path, aenet_files(potential, train="tio2nn train"))
    check(tmp_path, potential, CRYSTALS[0])


@pytest.mark.parametrize("choice", ["weighted", "blind"])
def test_sums_over_all_elements_are_written_out(tmp_path: Path, choice: str) -> None:
    parameters = SHUFFLED.with_overrides(radial_elements=choice, angular_elements=choice)
    potential = potential_for(parameters, CRYSTALS)
    write_files(tmp_path, aenet_files(potential, train="tio2nn train"))
    check(tmp_path, potential, CRYSTALS[1])


def test_members_have_folders_and_the_limits_of_training_are_told(tmp_path: Path) -> None:
    potential = potential_for(PARAMETERS, CRYSTALS, members=2)
    files = aenet_files(potential, train="tio2nn train")
    assert sorted(files) == ["nnp-1/O.nn", "nnp-1/Ti.nn", "nnp-2/O.nn", "nnp-2/Ti.nn"]
    write_files(tmp_path, files)
    network = PlainNetwork(tmp_path / "nnp-2" / "O.nn")
    assert (network.symbol, network.types, network.cutoff) == ("O", ["Ti", "O"], 4.0)
    energies = [energy_and_forces(tmp_path / f"nnp-{k}", *_of(CRYSTALS[2]))[0] for k in (1, 2)]
    (expected,) = potential.predict([CRYSTALS[2]])
    assert np.mean(energies) == pytest.approx(expected.energy, abs=CLOSE)


def _of(structure: Structure) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    return structure.elements, structure.positions, structure.cell


def test_an_activation_that_aenet_lacks_is_refused() -> None:
    with pytest.raises(
        InputError, match=r'aenet has no activation "softplus", only linear, sigmoid, tanh; .* --for aenet"'
    ):
        aenet_files(potential_for(PARAMETERS, CRYSTALS, "softplus"), train="tio2nn train")
