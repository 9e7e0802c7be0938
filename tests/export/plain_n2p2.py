"""An n2p2 folder, read and evaluated by NumPy alone, from what is known of the format; nothing of the program is used.

Energies are those of complex positions, too: the imaginary part of E(x + ih) / h is the exact derivative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STEP = 1e-40  # of the imaginary part
NUMBERS = {"H": 1, "O": 8, "Si": 14, "Ti": 22, "Cu": 29}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "l": lambda x: x,
    "t": np.tanh,
    "s": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "p": lambda x: np.log(1.0 + np.exp(x)),
    "r": lambda x: np.where(np.real(x) > 0.0, x, 0.0),
}


class Line(NamedTuple):
    """`symfunction_short`, as n2p2 compares functions of an element."""

    kind: int
    cutoff: float
    eta: float
    shift: float
    zeta: float
    lambda_: float
    neighbors: tuple[int, ...]


class PlainFolder:
    """One network for each element.

    Attributes:
        functions: of each element, in the order of the rows of its first layer.
    """

    def __init__(self, directory: Path) -> None:
        self.keywords: dict[str, list[str]] = {}
        self.offsets: dict[int, float] = {}
        self.functions: dict[int, list[Line]] = {}
        for line in _lines(directory / "input.nn"):
            keyword, *words = line.split()
            if keyword == "symfunction_short":
                self.functions.setdefault(NUMBERS[words[0]], []).append(_function(words[1:]))
            elif keyword == "atom_energy":
                self.offsets[NUMBERS[words[0]]] = float(words[1])
            else:
                self.keywords[keyword] = words
        self.elements = sorted(NUMBERS[name] for name in self.keywords["elements"])
        assert len(self.elements) == int(self.keywords["number_of_elements"][0])
        assert self.keywords["cutoff_type"] == ["1", "0.0"]
        assert {"center_symmetry_functions", "scale_symmetry_functions"} <= set(self.keywords)
        for functions in self.functions.values():
            functions.sort()
        rows = np.array([line.split() for line in _lines(directory / "scaling.data")], dtype=float)
        self.scaling = {number: rows[rows[:, 0] == k + 1] for k, number in enumerate(self.elements)}
        for number in self.elements:
            assert self.scaling[number][:, 1].tolist() == list(range(1, len(self.functions[number]) + 1))
            assert (self.scaling[number][:, 3] > self.scaling[number][:, 2]).all()
        assert int(self.keywords["global_hidden_layers_short"][0]) == len(self.keywords["global_nodes_short"])
        self.layers = {number: self._layers(directory, number) for number in self.elements}

    def _layers(self, directory: Path, number: int) -> list[tuple[Array, Array]]:
        values = [float(line.split()[0]) for line in _lines(directory / f"weights.{number:03d}.data")]
        sizes = [len(self.functions[number]), *map(int, self.keywords["global_nodes_short"]), 1]
        layers = []
        for before, after in itertools.pairwise(sizes):
            weights, values = np.array(values[: before * after]), values[before * after :]
            biases, values = np.array(values[:after]), values[after:]
            layers.append((weights.reshape(before, after), biases))
        assert values == []
        return layers

    def energy(self, elements: Sequence[str], positions: Array, cell: Array) -> Any:
        """Total energy; the cell has three periodic vectors, or none."""
        numbers = np.array([NUMBERS[name] for name in elements])
        total: Any = 0.0
        for center, number in enumerate(numbers):
            cutoff = max(line.cutoff for line in self.functions[int(number)])
            vectors, kinds = neighbors_of(numbers, positions, cell, center, cutoff)
            values = np.array([value_of(line, vectors, kinds) for line in self.functions[int(number)]])
            low, high, mean = self.scaling[int(number)][:, 2:5].T
            x = (values - mean) / (high - low)
            for (weights, biases), letter in zip(
                self.layers[int(number)], self.keywords["global_activation_short"], strict=True
            ):
                x = ACTIVATIONS[letter](x @ weights + biases)
            total += x[0] + self.offsets[int(number)]
        return total

    def energy_and_forces(
        self, elements: Sequence[str], positions: Array, cell: Array
    ) -> tuple[float, Array]:
        """Energy, and the negative gradient (n_atoms, 3)."""
        forces = np.empty(positions.shape)
        for place in np.ndindex(*positions.shape):
            moved = positions.astype(complex)
            moved[place] += 1j * _STEP
            forces[place] = -self.energy(elements, moved, cell).imag / _STEP
        return float(np.real(self.energy(elements, positions, cell))), forces


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _function(words: Sequence[str]) -> Line:
    kind = int(words[0])
    n_neighbors = {2: 1, 3: 2, 12: 0, 13: 0}[kind]
    neighbors = tuple(sorted(NUMBERS[name] for name in words[1 : 1 + n_neighbors]))
    numbers = [float(word) for word in words[1 + n_neighbors :]]
    if kind in (2, 12):
        eta, shift, cutoff = numbers
        return Line(kind, cutoff, eta, shift, 0.0, 0.0, neighbors)
    if kind == 3:
        eta, lambda_, zeta, cutoff = numbers
        return Line(kind, cutoff, eta, 0.0, zeta, lambda_, neighbors)
    eta, shift, lambda_, zeta, cutoff = numbers
    return Line(kind, cutoff, eta, shift, zeta, lambda_, neighbors)


def neighbors_of(
    numbers: Array, positions: Array, cell: Array, center: int, cutoff: float
) -> tuple[Array, Array]:
    """Vectors to all atoms and images within the cutoff, and their atomic numbers."""
    images = np.zeros((1, 3))
    if cell.any():
        reach = [math.ceil(cutoff * h) + 1 for h in np.linalg.norm(np.linalg.inv(cell), axis=0)]
        images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach)))) @ cell
    vectors = (positions[None] - positions[center] + images[:, None]).reshape(-1, 3)
    kinds = np.tile(numbers, len(images))
    squares = (np.real(vectors) ** 2).sum(axis=1)
    near = (squares < cutoff**2) & (squares > 1e-12)
    return vectors[near], kinds[near]


def _cut(r: Array, cutoff: float) -> Array:
    return np.where(np.real(r) < cutoff, 0.5 * (1.0 + np.cos(np.pi * r / cutoff)), 0.0)


def value_of(line: Line, vectors: Array, kinds: Array) -> Any:
    r = np.sqrt((vectors * vectors).sum(axis=1))
    if line.kind in (2, 12):
        chosen = kinds == line.neighbors[0] if line.kind == 2 else np.ones(len(r), dtype=bool)
        terms = np.exp(-line.eta * (r - line.shift) ** 2) * _cut(r, line.cutoff)
        return (terms * (kinds if line.kind == 12 else 1.0))[chosen].sum()
    j, k = np.triu_indices(len(r), 1)
    if line.kind == 3:
        one, other = line.neighbors
        chosen = np.minimum(kinds[j], kinds[k]) == one
        chosen &= np.maximum(kinds[j], kinds[k]) == other
        j, k = j[chosen], k[chosen]
    between = vectors[k] - vectors[j]
    r_jk = np.sqrt((between * between).sum(axis=1))
    cosines = (vectors[j] * vectors[k]).sum(axis=1) / (r[j] * r[k])
    exponent = sum((side - line.shift) ** 2 for side in (r[j], r[k], r_jk))
    terms = (1.0 + line.lambda_ * cosines) ** line.zeta * np.exp(-line.eta * exponent)
    terms = terms * _cut(r[j], line.cutoff) * _cut(r[k], line.cutoff) * _cut(r_jk, line.cutoff)
    if line.kind == 13:
        terms = terms * kinds[j] * kinds[k]
    return 2.0 ** (1.0 - line.zeta) * terms.sum()
