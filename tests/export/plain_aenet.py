"""Files of aenet, read and evaluated by NumPy alone, from the format; nothing of the program is used."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from export.plain_n2p2 import NUMBERS, Line, neighbors_of, value_of
from numpy.typing import NDArray

Array = NDArray[Any]

_STEP = 1e-40


def _records(path: Path) -> Iterator[bytes]:
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("=i", data, place)
        yield data[place + 4 : place + 4 + length]
        assert struct.unpack_from("=i", data, place + 4 + length) == (length,)
        place += 8 + length


class PlainNetwork:
    """One file."""

    def __init__(self, path: Path) -> None:
        records = _records(path)

        def integers() -> list[int]:
            return np.frombuffer(next(records), np.int32).tolist()

        def reals() -> Array:
            return np.frombuffer(next(records), np.float64)

        def text(length: int) -> str:
            found = next(records)
            assert len(found) == length
            return found.decode().strip()

        (n_layers,), (largest,), (n_weights,), (n_values,) = (integers() for _ in range(4))
        self.nodes, self.codes, ends, value_ends = (integers() for _ in range(4))
        self.weights = reals()
        assert (len(self.nodes), max(self.nodes), len(self.weights)) == (n_layers, largest, n_weights)
        assert ends[0] == value_ends[0] == 0
        assert ends[-1] == n_weights
        assert n_values == value_ends[-1] + self.nodes[-1]
        self.ends = ends
        assert text(1024).endswith("$$")
        self.symbol = text(2)
        (n_types,) = integers()
        symbols = next(records).decode()
        self.types = [symbols[2 * k : 2 * k + 2].strip() for k in range(n_types)]
        (self.closest,), (self.cutoff,) = reals(), reals()
        assert text(100) == "Behler2011"
        (n_functions,), (n_parameters,) = integers(), integers()
        kinds, parameters = integers(), reals().reshape(n_functions, n_parameters)
        neighbors = np.array(integers()).reshape(n_functions, 2)
        integers()
        _, _, average, covariance = (reals() for _ in range(4))
        self.scale, self.shift = 1.0 / np.sqrt(covariance - average**2), average
        assert text(1024) == ""
        assert integers() == [0]
        (energy_scale,), (energy_shift,) = reals(), reals()
        assert (energy_scale, energy_shift) == (1.0, 0.0)
        assert integers() == [n_types]
        assert next(records).decode() == symbols
        self.offset = reals()[self.types.index(self.symbol)]
        assert len(integers()) == len(integers()) == 1
        assert len(reals()) == 3
        assert list(records) == []
        self.functions = self._sorted(kinds, parameters, neighbors)

    def _sorted(self, kinds: list[int], parameters: Array, neighbors: Array) -> list[Line]:
        """aenet orders values by type of neighbor: radial functions, then those of pairs that begin with it."""
        found = []
        for first in range(1, len(self.types) + 1):
            for second in (0, *range(first, len(self.types) + 1)):
                for kind, p, around in zip(kinds, parameters, neighbors, strict=True):
                    of_pair = sorted(around[around > 0].tolist())
                    if of_pair != ([first] if second == 0 else [first, second]):
                        continue
                    numbers = tuple(sorted(NUMBERS[self.types[k - 1]] for k in of_pair))
                    if kind == 2:
                        found.append(Line(2, p[0], p[2], p[1], 0.0, 0.0, numbers))
                    else:
                        assert kind == 4
                        found.append(Line(3, p[0], p[3], 0.0, p[2], p[1], numbers))
        return found

    def energy(self, vectors: Array, kinds: Array) -> Any:
        x = np.array([value_of(line, vectors, kinds) for line in self.functions])
        x = self.scale * (x - self.shift)
        for layer, code in enumerate(self.codes):
            before, after = self.nodes[layer : layer + 2]
            matrix = self.weights[self.ends[layer] : self.ends[layer + 1]].reshape(
                (after, before + 1), order="F"
            )
            x = matrix @ np.append(x, 1.0)
            x = {0: lambda y: y, 1: np.tanh, 2: lambda y: 1.0 / (1.0 + np.exp(-y))}[code](x)
        return x[0] + self.offset


def energy_and_forces(
    directory: Path, elements: Sequence[str], positions: Array, cell: Array
) -> tuple[float, Array]:
    networks = {
        NUMBERS[network.symbol]: network for network in map(PlainNetwork, sorted(directory.glob("*.nn")))
    }
    numbers = np.array([NUMBERS[element] for element in elements])

    def energy(at: Array) -> Any:
        total: Any = 0.0
        for center, number in enumerate(numbers):
            network = networks[int(number)]
            total += network.energy(*neighbors_of(numbers, at, cell, center, network.cutoff))
        return total

    forces = np.empty(positions.shape)
    for place in np.ndindex(*positions.shape):
        moved = positions.astype(complex)
        moved[place] += 1j * _STEP
        forces[place] = -energy(moved).imag / _STEP
    return float(np.real(energy(positions))), forces
