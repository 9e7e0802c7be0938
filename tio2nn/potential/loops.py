"""Compiled loops of the networks of a potential: what a thread does for its atoms, without Python's lock.

`networks.py` is the door in front. Products of matrices are SciPy's BLAS, which Numba calls. Between them, NumPy takes
Python's lock and goes through memory for each operation: with gradients and distances, networks of 2 × 60 nodes, two
members, took 9.7 µs an atom so, and take 4.9 here, of which 2 are the comparison with the reference atoms. Of 48 atoms
alone they took 21 µs an atom, and take 7.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  # before `cores.one_blas_thread` looks for it; Numba loads it late
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.kernels.compiling import U, compiled_once, pasted

# Rounding depends on the order of operations in `_exponential`: none are reordered, but a product may be fused with a
# sum.
_OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}

LINEAR, RELU, TANH, SIGMOID, SILU, SOFTPLUS = range(6)
CODES = {
    "linear": LINEAR,
    "relu": RELU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "silu": SILU,
    "softplus": SOFTPLUS,
}
"""Activations as the loops know them."""

# x + 1.5 · 2⁵² has the nearest integer of x in its last bits
_TO_INTEGER = 1.5 * 2.0**52
_SMALLEST = -700.0  # exp of it is 1e-304
_PER_LN2 = 1.0 / math.log(2.0)
# ln 2 in two parts; the first ends with zeros, so that its product with an integer is exact (from fdlibm)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN2 = math.log(2.0)
# what follows adds less than 1.2e-17 of the sum at |x| = ln 2/2
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = (
    1.0 / math.factorial(k) for k in range(2, 14)
)
# of artanh(x)/x in powers of x²; what follows adds less than 2.3e-17 at x = (√2 - 1)/(√2 + 1)
_A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9 = (1.0 / (2 * k + 1) for k in range(1, 10))
_LARGE = math.sqrt(2.0) - 1.0

# References compared at once: their products with 256 atoms are 0.25 MB and stay in the cache
_REFERENCES_TOGETHER = 256


class NetworkTables(NamedTuple):
    """The subnets of all members; the numbers of all layers one after the other.

    The whitening is a part of the first layers.
    """

    means: FloatArray  # (n_subnets, n_features) subtracted from features
    n_members: int
    first: IntArray  # (n_subnets * n_members + 1,) where the layers of each begin below, subnet by subnet
    layers: IntArray  # (n_layers, 6) inputs, nodes, code, and the places of the three that follow
    numbers: FloatArray  # (n,) kernels, row by row; biases; transposed kernels, row by row


class ReferenceTables(NamedTuple):
    """The training atoms of all elements, as points between which distances are measured."""

    metrics: FloatArray  # (n,) matrices (n_features, n_coordinates) from features to points, subnet by subnet
    of_subnets: IntArray  # (n_subnets, 2) where each begins, and its number of coordinates
    points: NDArray[np.float32]  # (n,) matrices (n_references, n_coordinates + 1): -2 r and r²
    of_elements: IntArray  # (n_elements, 2) where each begins, and its number of references
    units: FloatArray  # (n_elements,)


class Atoms(NamedTuple):
    """Atoms, some of one element at a time."""

    rows: IntArray  # (n_atoms,) in the features
    products: IntArray  # (n_products, 4) the first of these rows and the one after the last, element, subnet
    features: FloatArray  # (n_all, n_features)


@compiled_once(**_OPTIONS)
def activate(code: int, y: FloatArray, slope: FloatArray) -> None:
    """Put activations in the place of their inputs, and their slopes beside them, both within 1e-15.

    Args:
        code: of the activation, see `CODES`.
        y: (n,) of all nodes of all atoms in one loop, as the end of a loop is not SIMD code.
        slope: (n,)
    """
    if code == LINEAR:
        for k in range(U(y.shape[0])):
            slope[k] = 1.0
        return
    if code == RELU:
        for k in range(U(y.shape[0])):
            slope[k] = 1.0 if y[k] > 0.0 else 0.0
            y[k] = 0.0 if y[k] < 0.0 else y[k]
        return
    factor, offset = (-2.0, 1.0) if code == TANH else (-1.0, 0.0)
    for k in range(U(y.shape[0])):
        # exp(factor |x|) - offset, accurate also near 0; NaN stays NaN
        x = factor * abs(y[k])
        x = _SMALLEST if x < _SMALLEST else x
        shifted = x * _PER_LN2 + _TO_INTEGER
        n = shifted - _TO_INTEGER
        bits = np.float64(shifted).view(np.int64) + np.int64(1023)
        scale = np.int64(bits << np.int64(52)).view(np.float64)  # 2ⁿ
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        s = _E11 + r * (_E12 + r * _E13)
        s = _E8 + r * (_E9 + r * (_E10 + r * s))
        s = _E5 + r * (_E6 + r * (_E7 + r * s))
        s = _E2 + r * (_E3 + r * (_E4 + r * s))
        slope[k] = (scale - offset) + scale * (r + r * r * s)
    if code == TANH:
        for k in range(U(y.shape[0])):
            v = -slope[k] / (2.0 + slope[k])
            slope[k] = 1.0 - v * v
            y[k] = v if y[k] >= 0.0 else -v
        return
    if code == SOFTPLUS:
        for k in range(U(y.shape[0])):
            x, e = y[k], slope[k]
            # ln(1 + e) = 2 artanh(e/(2 + e)); for large e that of (1 + e)/2, and ln 2
            is_large = e > _LARGE
            z = (e - 1.0 if is_large else e) / (e + (3.0 if is_large else 2.0))
            w = z * z
            s = _A7 + w * (_A8 + w * _A9)
            s = _A4 + w * (_A5 + w * (_A6 + w * s))
            s = _A1 + w * (_A2 + w * (_A3 + w * s))
            log = 2.0 * (z + z * w * s)
            y[k] = (x if x > 0.0 else 0.0) + (log + _LN2 if is_large else log)
            slope[k] = (1.0 if x >= 0.0 else e) / (1.0 + e)
        return
    for k in range(U(y.shape[0])):
        x, e = y[k], slope[k]
        large = 1.0 / (1.0 + e)
        up, down = (large if x >= 0.0 else e * large), (e * large if x >= 0.0 else large)
        y[k] = x * up if code == SILU else up
        slope[k] = up + x * up * down if code == SILU else up * down


@compiled_once(**_OPTIONS)
def evaluate_products(
    networks: NetworkTables,
    references: ReferenceTables,
    atoms: Atoms,
    energies: FloatArray,
    weights: FloatArray,
    distances: FloatArray,
) -> None:
    """Evaluate the networks of some atoms, and measure their distances from training.

    Args:
        networks, references, atoms: as above.
        energies: (n_members, n_all), filled in the rows of these atoms.
        weights: (n_sets, n_all, n_features), filled with the derivatives of the energies: one set is their mean, and as
            many as there are members are the mean and its contrasts, see `networks.Evaluated`; empty if not wanted.
        distances: (n_all,), likewise; empty if not wanted.
    """
    n_features = atoms.features.shape[1]
    for p in range(atoms.products.shape[0]):
        begin, end = atoms.products[p, 0], atoms.products[p, 1]
        element, subnet = atoms.products[p, 2], atoms.products[p, 3]
        rows = atoms.rows[begin:end]
        n = end - begin
        centered = np.empty((n, n_features))
        for i in range(U(n)):
            for k in range(U(n_features)):
                centered[i, k] = atoms.features[rows[i], k] - networks.means[subnet, k]
        for member in range(networks.n_members):
            net = subnet * networks.n_members + member
            first, last = networks.first[net], networks.first[net + 1]
            n_nodes = 0
            for layer in range(first, last):
                n_nodes += networks.layers[layer, 1]
            slopes = np.empty(n * n_nodes)
            x, done = centered, 0
            for layer in range(first, last):
                n_in, n_out, kernel, bias = (
                    networks.layers[layer, 0],
                    networks.layers[layer, 1],
                    networks.layers[layer, 3],
                    networks.layers[layer, 4],
                )
                y = np.empty((n, n_out))
                np.dot(x, networks.numbers[kernel : kernel + n_in * n_out].reshape((n_in, n_out)), y)
                for i in range(U(n)):
                    for k in range(U(n_out)):
                        y[i, k] += networks.numbers[U(bias) + k]
                activate(networks.layers[layer, 2], y.reshape(n * n_out), slopes[done : done + n * n_out])
                done += n * n_out
                x = y
            for i in range(U(n)):
                energies[member, rows[i]] = x[i, 0]
            if weights.size == 0:
                continue
            gradient = np.empty((n, 1))
            for i in range(U(n)):
                gradient[i, 0] = 1.0
            for layer in range(last - 1, first - 1, -1):
                n_in, n_out = networks.layers[layer, 0], networks.layers[layer, 1]
                kernel = networks.layers[layer, 5]
                done -= n * n_out
                flat = gradient.reshape(n * n_out)
                for k in range(U(n * n_out)):
                    flat[k] *= slopes[U(done) + k]
                before = np.empty((n, n_in))
                np.dot(
                    gradient, networks.numbers[kernel : kernel + n_in * n_out].reshape((n_out, n_in)), before
                )
                gradient = before
            _add_member(weights, member, rows, gradient)
        if weights.size > 0:
            for i in range(U(n)):
                for k in range(U(n_features)):
                    weights[0, rows[i], k] /= networks.n_members
        if distances.size > 0:
            _measure(references, element, subnet, centered, rows, distances)


@pasted
def _add_member(weights: FloatArray, member: int, rows: IntArray, gradient: FloatArray) -> None:
    """Add the derivatives (n, n_features) of a member to the sum in the first set, and fill its contrast, if wanted."""
    n, n_features = gradient.shape
    if member == 0:
        for i in range(U(n)):
            for k in range(U(n_features)):
                weights[0, rows[i], k] = gradient[i, k]
        return
    if weights.shape[0] > 1:
        scale = 1.0 / np.sqrt(member * (member + 1.0))
        for i in range(U(n)):
            for k in range(U(n_features)):
                weights[member, rows[i], k] = scale * (weights[0, rows[i], k] - member * gradient[i, k])
    for i in range(U(n)):
        for k in range(U(n_features)):
            weights[0, rows[i], k] += gradient[i, k]


@pasted
def _measure(
    references: ReferenceTables,
    element: int,
    subnet: int,
    centered: FloatArray,
    rows: IntArray,
    distances: FloatArray,
) -> None:
    """Distance of atoms of one element from the nearest of its training atoms, as `TrainingAtoms.distances`."""
    n, n_features = centered.shape
    place, n_coordinates = references.of_subnets[subnet, 0], references.of_subnets[subnet, 1]
    metric = references.metrics[place : place + n_features * n_coordinates].reshape(
        (n_features, n_coordinates)
    )
    points = np.empty((n, n_coordinates))
    np.dot(centered, metric, points)
    # single precision is accurate enough to choose, not to measure
    columns = np.empty((n_coordinates + 1, n), np.float32)
    for i in range(U(n)):
        columns[n_coordinates, i] = 1.0
        for k in range(U(n_coordinates)):
            columns[k, i] = points[i, k]
    place, n_references = references.of_elements[element, 0], references.of_elements[element, 1]
    width = n_coordinates + 1
    table = references.points[place : place + n_references * width].reshape((n_references, width))
    least, nearest = np.empty(n, np.float32), np.empty(n, np.int32)
    for i in range(U(n)):
        least[i], nearest[i] = np.inf, 0
    for start in range(0, n_references, _REFERENCES_TOGETHER):
        stop = min(start + _REFERENCES_TOGETHER, n_references)
        squares = np.empty((stop - start, n), np.float32)
        np.dot(table[start:stop], columns, squares)
        for r in range(stop - start):
            for i in range(U(n)):
                is_nearer = squares[U(r), i] < least[i]
                least[i] = squares[U(r), i] if is_nearer else least[i]
                nearest[i] = start + r if is_nearer else nearest[i]
    for i in range(U(n)):
        total = 0.0
        for k in range(U(n_coordinates)):
            difference = points[i, k] + 0.5 * np.float64(table[nearest[i], k])
            total += difference * difference
        distances[rows[i]] = np.sqrt(total / n_coordinates) / references.units[element]
