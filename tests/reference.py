"""The printed equations as plain loops: what the compiled program is compared with. Slow, and meant to be.

With weights: Gastegger et al., J. Chem. Phys. 148 (2018) 241709.
Behler and Parrinello, Phys. Rev. Lett. 98 (2007) 146401; Behler, J. Chem. Phys. 134 (2011) 074106, eqs. 4, 6, 8.
Nothing here is taken from the program but the types that hold a structure and a parameter set.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbor:
    """An atom, or an image of one, within the cutoff of a center."""

    atom: int
    element: str
    vector: FloatArray  # (3,) from the center, Å
    distance: float  # Å


def cutoff_function(distance: float, cutoff: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * distance / cutoff)) if distance < cutoff else 0.0


def neighbors(structure: Structure, center: int, cutoff: float) -> list[Neighbor]:
    """All j ≠ i with R_ij < R_c, as many images in each direction as can lie within R_c."""
    axes = [axis for axis in range(3) if structure.periodic[axis]]
    lattice = structure.cell[axes]
    found = []
    for atom in range(structure.n_atoms):
        offset = structure.positions[atom] - structure.positions[center]
        ranges = [range(1)]
        if axes:
            # the component along an axis of a vector shorter than R_c is at most R_c / (distance of the faces)
            inverse = np.linalg.pinv(lattice)
            reach = cutoff * np.sqrt((inverse**2).sum(axis=0)) + 1e-6
            component = offset @ inverse
            ranges = [
                range(math.ceil(-r - c), math.floor(r - c) + 1) for r, c in zip(reach, component, strict=True)
            ]
        for image in itertools.product(*ranges):
            if atom == center and not any(image):
                continue
            vector = offset + np.array(image, dtype=float) @ lattice if axes else offset
            distance = math.sqrt(float(vector @ vector))
            if distance < cutoff:
                found.append(Neighbor(atom, structure.elements[atom], vector, distance))
    return found


def symmetry_functions(structure: Structure, parameters: ParameterSet) -> FloatArray:
    """(n_atoms, n_features), one printed sum after the other, columns as `ParameterSet.feature_names` has them."""
    elements = parameters.elements
    each, pairwise = parameters.radial_elements == "each", parameters.angular_elements == "pairs"
    kinds = list(elements) if each else ["*"]
    pairs = list(itertools.combinations_with_replacement(elements, 2)) if pairwise else [("*", "*")]
    radial_weight = {
        e: ATOMIC_NUMBERS[e] if parameters.radial_elements == "weighted" else 1 for e in elements
    }
    angular_weight = {
        e: ATOMIC_NUMBERS[e] if parameters.angular_elements == "weighted" else 1 for e in elements
    }
    rows = []
    for center in range(structure.n_atoms):
        around = neighbors(structure, center, parameters.cutoff)
        row = []
        for radial, kind in itertools.product(parameters.radial, kinds):
            total = 0.0
            for j in around:
                if not each or j.element == kind:
                    gaussian = radial_weight[j.element] * math.exp(
                        -radial.eta * (j.distance - radial.r_s) ** 2
                    )
                    total += gaussian * cutoff_function(j.distance, parameters.cutoff)
            row.append(total)
        sums = np.zeros((len(parameters.angular), len(pairs)))
        eta = np.array([f.eta for f in parameters.angular])
        lambda_ = np.array([f.lambda_ for f in parameters.angular])
        zeta = np.array([f.zeta for f in parameters.angular])
        for j, k in itertools.combinations(around, 2):
            between = k.vector - j.vector
            distance = math.sqrt(float(between @ between))
            cosine = float(j.vector @ k.vector) / (j.distance * k.distance)
            cutoffs = 1.0
            for r in (j.distance, k.distance, distance):
                cutoffs *= cutoff_function(r, parameters.cutoff)
            squares = j.distance**2 + k.distance**2 + distance**2
            # rounding may put the cosine of 180° below -1
            angular = np.maximum(1.0 + lambda_ * cosine, 0.0) ** zeta
            angular *= angular_weight[j.element] * angular_weight[k.element]
            ends = sorted((j.element, k.element), key=elements.index) if pairwise else ("*", "*")
            sums[:, pairs.index((ends[0], ends[1]))] += angular * np.exp(-eta * squares) * cutoffs
        row.extend((2.0 ** (1.0 - zeta[:, None]) * sums).ravel())
        rows.append(row)
    return np.array(rows).reshape(structure.n_atoms, -1)
