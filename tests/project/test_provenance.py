from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from projects import ATOMIC_ENERGIES, PARAMETERS, structures

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.provenance import inputs_of_model, versions
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.structure import Structure
from tio2nn.version import __version__


def same(structure: Structure) -> Structure:
    return structure


def inputs(
    directory: Path,
    parameters: ParameterSet = PARAMETERS,
    split: str | None = "structure,part,group\n",
    change: Callable[[Structure], Structure] = same,
    number: int = 24,
) -> dict[str, str]:
    """Of a model made from small structures, one of which may be changed."""
    chosen = [change(s) if s.name == "structure0007" else s for s in structures()[:number]]
    write_store(directory / "structures.npz", chosen, reference_energies=ATOMIC_ENERGIES)
    split_file = directory / "split.csv"
    split_file.unlink(missing_ok=True)
    if split is not None:
        split_file.write_text(split, encoding="utf-8")
    return inputs_of_model(parameters, read_store(directory / "structures.npz"), split_file)


def with_other_energy(structure: Structure) -> Structure:
    assert structure.energy is not None
    return replace(structure, energy=structure.energy + 1e-9)


def with_other_positions(structure: Structure) -> Structure:
    return replace(structure, positions=structure.positions + 1e-9)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"parameters": PARAMETERS.with_overrides(cutoff=3.5)}, ["features"]),
        ({"parameters": PARAMETERS.with_overrides(network={"hidden_layers": [9]})}, ["settings"]),
        ({"parameters": PARAMETERS.with_overrides(training={"seed": 1})}, ["settings"]),
        ({"parameters": PARAMETERS.with_overrides(reference_energies=ATOMIC_ENERGIES)}, ["settings"]),
        ({"parameters": PARAMETERS.with_overrides(tuning={"epochs": 3})}, []),
        ({"split": "structure,part,group\nstructure0001,test,1\n"}, ["split"]),
        ({"split": None}, ["split"]),
        ({"change": with_other_energy}, ["energies"]),
        ({"change": with_other_positions}, ["features"]),
        ({"change": lambda structure: replace(structure, file="moved/a.xsf")}, []),
        ({"number": 23}, ["features", "energies", "forces"]),
    ],
)
def test_what_a_model_was_made_from_and_is_no_longer_so_is_named(
    tmp_path: Path, change: dict[str, Any], names: list[str]
) -> None:
    recorded = json.loads(json.dumps(inputs(tmp_path)))
    now = inputs(tmp_path, **change)
    assert [name for name, digest in now.items() if recorded[name] != digest] == names


def test_versions_are_those_of_the_program_and_of_what_computes() -> None:
    found = versions()
    assert found["tio2nn"] == __version__
    assert found["numpy"] == version("numpy")
    assert {"python", "machine", "scipy", "numba", "tensorflow", "keras"} < set(found)
    assert json.loads(json.dumps(found)) == found
