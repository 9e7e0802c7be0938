"""Features that independent programs compute: aenet 2.0.4, and DScribe where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from places import SAMPLE_DATA

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.io.read import read_structures
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

ELEMENTS = ("Ti", "O")


@pytest.fixture(scope="module")
def reference_values(test_data: Path) -> Path:
    return test_data / "reference"


def _name(function: dict[str, Any]) -> str:
    """The column's name in the parameter set."""
    if function["kind"] == "radial":
        return f"radial[{function['type2']}] eta={function['eta']!r} r_s={function['Rs']:g}"
    pair = "-".join(sorted((function["type2"], function["type3"]), key=ELEMENTS.index))
    numbers = f"eta={function['eta']!r} lambda={function['lambda']:g} zeta={function['zeta']:g}"
    return f"angular[{pair}] {numbers}"


def test_the_preset_computes_the_features_of_aenet(reference_values: Path) -> None:
    parameters = preset("artrith-urban-2016", ELEMENTS)
    functions = json.loads((reference_values / "behler70.json").read_text(encoding="utf-8"))["functions"]
    columns = [parameters.feature_names.index(_name(function)) for function in functions]
    assert sorted(columns) == list(range(70))
    files = sorted(reference_values.glob("structure*.npz"))
    assert len(files) == 14
    structures, expected = [], []
    for file in files:
        with np.load(file) as values:
            elements = tuple(str(element) for element in values["species"])
            structures.append(Structure(file.stem, elements, values["positions"], values["lattice"]))
            expected.append(values["G"])
    for features, wanted in zip(SymmetryCalculator(parameters).map(structures), expected, strict=True):
        np.testing.assert_allclose(features[:, columns], wanted, rtol=0, atol=1e-10)


def test_the_preset_computes_the_features_of_dscribe() -> None:
    pytest.importorskip("dscribe")
    from benchmarks.acsf import acsf, columns_in_acsf

    parameters = preset("artrith-urban-2016", ELEMENTS)
    theirs, order = acsf(parameters), columns_in_acsf(parameters)
    # rutile strained, anatase with a vacancy, brookite, brookite in a large cell, columbite rattled
    files = [SAMPLE_DATA / f"structure{number:04}.xsf" for number in (11, 143, 151, 201, 251)]
    structures = list(read_structures(files))
    assert len(structures) == 5
    for structure, features in zip(structures, SymmetryCalculator(parameters).map(structures), strict=True):
        atoms = Atoms(structure.elements, structure.positions, cell=structure.cell, pbc=structure.periodic)
        np.testing.assert_allclose(features, theirs.create(atoms)[:, order], rtol=0, atol=1e-9)
