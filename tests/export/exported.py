"""Potentials to export, and what an exported folder says of a structure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from export.plain_n2p2 import PlainFolder
from numpy.typing import NDArray
from potentials import make_potential
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.export.n2p2 import n2p2_files
from tio2nn.export.units import METAL, UNITS, Units
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

CRYSTALS = crystals(6)


def potential_for(
    parameters: ParameterSet,
    structures: tuple[Structure, ...],
    activation: str = "tanh",
    members: int = 1,
    *,
    hidden: tuple[int, ...] = (6, 5),
    shared: bool = False,
    **changes: Any,
) -> Potential:
    """A potential with random weights, whitened and scaled by the features of some structures."""
    rng = np.random.default_rng(5)
    elements, n = parameters.elements, parameters.n_features
    features = list(SymmetryCalculator(parameters).map(structures))
    kinds = np.concatenate([np.array(structure.elements) for structure in structures])
    by_element = [np.concatenate(features)[kinds == element] for element in elements]
    trained = [np.concatenate(by_element)] if shared else by_element
    whitenings = tuple(Whitening.fit(own, floor=1e-4) for own in trained)
    subnet_of = {element: 0 if shared else k for k, element in enumerate(elements)}
    sizes_of_points = [n + int(whitenings[k].constant.sum()) for k in subnet_of.values()]
    sizes = [n, *hidden, 1]

    def layers() -> tuple[Layer, ...]:
        return tuple(
            Layer(
                0.5 * rng.normal(size=(before, after)),
                rng.normal(size=after),
                activation if after > 1 else "linear",
            )
            for before, after in itertools.pairwise(sizes)
        )

    made = make_potential(1)
    return replace(
        made,
        parameters=parameters,
        reference_energies={element: -100.0 * (k + 1) - 0.123 for k, element in enumerate(elements)},
        subnet_of=subnet_of,
        whitenings=whitenings,
        members=tuple(tuple(layers() for _ in trained) for _ in range(members)),
        training_atoms=tuple(
            TrainingAtoms(own.min(axis=0), own.max(axis=0), np.zeros((1, n_points), np.float32), 1.0)
            for own, n_points in zip(by_element, sizes_of_points, strict=True)
        ),
        composition_span=np.eye(len(elements)),
        **changes,
    )


def write_files(directory: Path, files: Mapping[str, str | bytes]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def by_plain_reader(directory: Path, structure: Structure, units: Units = METAL) -> tuple[float, FloatArray]:
    """Energy, eV, and forces, eV/Å, averaged over the members."""
    folders = sorted(directory.glob("nnp-*")) or [directory]
    cell = structure.cell if all(structure.periodic) else np.zeros((3, 3))
    found = [
        PlainFolder(folder).energy_and_forces(
            structure.elements, structure.positions * units.length, cell * units.length
        )
        for folder in folders
    ]
    energies, forces = zip(*found, strict=True)
    return (
        float(np.mean(energies)) / units.energy,
        np.mean(forces, axis=0) * units.length / units.energy,
    )


def exported_folder(
    directory: Path, parameters: ParameterSet = PARAMETERS, units: str = "metal", members: int = 1
) -> Potential:
    """A folder of n2p2 with a potential for `CRYSTALS`; the potential."""
    potential = potential_for(parameters, CRYSTALS, members=members)
    write_files(directory, n2p2_files(potential, UNITS[units], weighted=units == "metal", train=""))
    return potential
