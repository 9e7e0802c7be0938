"""Structures and parameter sets for property tests, random ones above all."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import reference
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

# one function of each kind: radial, shifted; wide, narrow; λ of both signs, ζ whole and not
MIXED = ParameterSet(
    elements=("Ti", "O"),
    cutoff=3.5,
    radial=(RadialFunction(0.1), RadialFunction(4.0, 1.9)),
    angular=(AngularFunction(0.02, 1, 1.0), AngularFunction(0.3, -1, 4.0), AngularFunction(0.02, -1, 2.5)),
)
PERIODICITIES = tuple(itertools.product((True, False), repeat=3))
SMALLEST_DISTANCE = 0.7  # Å
# how functions tell neighbors apart: radial ones, angular ones
RESOLUTIONS = (
    ("each", "pairs"),
    ("blind", "blind"),
    ("weighted", "weighted"),
    ("each", "weighted"),
    ("blind", "pairs"),
)


def examples(n: int) -> settings:
    """`n` examples in a thorough run, where the default is 100; proportionally fewer, at least 5, in a quick one."""
    return settings(max_examples=max(5, n * settings.default.max_examples // 100))


def random_structure(
    rng: np.random.Generator,
    *,
    elements: tuple[str, ...] = ("Ti", "O"),
    n_atoms: int = 4,
    periodic: tuple[bool, bool, bool] = (True, True, True),
    thickness: float = 2.5,
) -> Structure:
    """Atoms no closer than `SMALLEST_DISTANCE` to each other or an image, some outside a cell of any handedness.

    Args:
        thickness: Å, of the first vector that is periodic; the others are longer.
    """
    while True:
        cell = rng.normal(size=(3, 3))
        cell *= rng.uniform(3.0, 5.0, size=3)[:, None] / np.linalg.norm(cell, axis=1)[:, None]
        if any(periodic):
            thin = periodic.index(True)
            cell[thin] *= thickness / np.linalg.norm(cell[thin])
        if abs(np.linalg.det(cell)) < 0.3 * np.prod(np.linalg.norm(cell, axis=1)):
            continue
        fractional = rng.uniform(-1.2, 1.7, size=(n_atoms, 3))
        positions = np.where(periodic, fractional, rng.uniform(size=(n_atoms, 3))) @ cell
        structure = Structure(
            "random", tuple(map(str, rng.choice(elements, n_atoms))), positions, cell, periodic
        )
        if closest_distance(structure) > SMALLEST_DISTANCE:
            return structure


def closest_distance(structure: Structure) -> float:
    """Å, between two atoms or an atom and an image; inf for one atom without images."""
    lengths = np.linalg.norm(structure.cell, axis=1)
    reach = [
        range(1) if not periodic else range(-8, 9) if length < 2.0 else range(-2, 3)
        for periodic, length in zip(structure.periodic, lengths, strict=True)
    ]
    images = np.array(list(itertools.product(*reach))) @ structure.cell
    offsets = structure.positions[:, None] - structure.positions
    if any(structure.periodic):
        axes = np.flatnonzero(structure.periodic)
        offsets -= np.rint(offsets @ np.linalg.pinv(structure.cell[axes])) @ structure.cell[axes]
    distances = np.linalg.norm(offsets[:, :, None] + images, axis=-1)
    distances[np.arange(structure.n_atoms), np.arange(structure.n_atoms), len(images) // 2] = np.inf
    return float(distances.min())


def oxygen_molecule(*positions: tuple[float, float, float]) -> Structure:
    """Atoms of oxygen without a cell."""
    free = (False, False, False)
    return Structure(
        "molecule", ("O",) * len(positions), np.array(positions, dtype=float), np.zeros((3, 3)), free
    )


@st.composite
def structures(
    draw: st.DrawFn,
    *,
    elements: tuple[str, ...] = ("Ti", "O"),
    periodicities: tuple[tuple[bool, bool, bool], ...] = PERIODICITIES,
) -> Structure:
    """One to five atoms, periodic along no to three vectors, the thinnest down to 0.8 Å."""
    periodic = draw(st.sampled_from(periodicities))
    thickness = draw(st.sampled_from((0.8, 1.6, 2.5, 4.0)))
    n_atoms = draw(st.integers(1, 5 if thickness > 1.0 else 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random_structure(rng, elements=elements, n_atoms=n_atoms, periodic=periodic, thickness=thickness)


@st.composite
def parameter_sets(
    draw: st.DrawFn, *, elements: tuple[str, ...] = ("Ti", "O"), cutoff: float = 3.2
) -> ParameterSet:
    """Up to five radial and seven angular functions, in no order and on no grid."""
    eta = st.one_of(st.just(0.0), st.floats(1e-4, 1.0), st.floats(1.0, 20.0))
    zeta = st.one_of(st.sampled_from((1.0, 2.0, 3.0, 4.0, 7.0, 16.0, 32.0)), st.floats(1.0, 32.0))
    radial = st.builds(RadialFunction, eta, st.one_of(st.just(0.0), st.floats(0.0, 1.5 * cutoff)))
    angular = st.builds(AngularFunction, eta, st.sampled_from((-1, 1)), zeta)
    chosen_radial = draw(st.lists(radial, max_size=5, unique=True))
    return ParameterSet(
        elements=elements,
        cutoff=cutoff,
        radial_elements=draw(st.sampled_from(("each", "weighted", "blind"))),
        angular_elements=draw(st.sampled_from(("pairs", "weighted", "blind"))),
        radial=tuple(chosen_radial),
        angular=tuple(draw(st.lists(angular, min_size=0 if chosen_radial else 1, max_size=7, unique=True))),
    )


def slope(function: Callable[[float], FloatArray], step: float) -> FloatArray:
    """The derivative at 0 by central differences, of fourth order."""
    near, far = function(step) - function(-step), function(2.0 * step) - function(-2.0 * step)
    return (8.0 * near - far) / (12.0 * step)


def is_clear_of_cutoff(structure: Structure, cutoff: float, reach: float) -> bool:
    """No two atoms are so near the cutoff apart, where the second derivative jumps, that differences meet it.

    Args:
        reach: Å, more than the steps of the differences change a distance.
    """
    distances = [
        neighbor.distance
        for center in range(structure.n_atoms)
        for neighbor in reference.neighbors(structure, center, cutoff + 2.0 * reach)
    ]
    return all(abs(distance - cutoff) > reach for distance in distances)
