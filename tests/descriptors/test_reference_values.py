"""Features that an independent program, aenet 2.0.4, computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.presets import preset
from tio2nn.structure import Structure

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
