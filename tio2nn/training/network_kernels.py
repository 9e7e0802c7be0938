"""Compiled passes through one subnet: energies of atoms, their derivatives, and those of a loss of both.

The formulas are those of `backpropagation`. What stands between two products of matrices is one loop over the atoms,
where TensorFlow has ten operations that each read and write all of them, and each take some microseconds to start: an
epoch of one network takes 0.3 s less (5,157 structures of TiO2, three layers of 80). The matrices are multiplied by the
library that SciPy brings, on the thread that asks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.descriptors.kernels.compiling import compiled_once, pasted
from tio2nn.parameters.fit_parameters import Activation

# Unlike other loops, no sum of these may be reordered: what an atom gets does not depend on its place.
_compiled = compiled_once(fastmath={"contract", "nsz", "arcp"}, error_model="numpy", nogil=True)

# of each hidden layer, (n_atoms, n_nodes): what a pass leaves for the next one
_VALUE, _SLOPE, _CURVATURE, _ARRIVING, _LEAVING = range(5)
_N_KEPT = 5

# Of these loops alone: machine code that is kept beside a module does not notice when another one changes its numbers.
LINEAR, RELU, TANH, SIGMOID, SOFTPLUS, SILU = range(6)
CODES: dict[Activation, int] = {
    "linear": LINEAR,
    "relu": RELU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
    "silu": SILU,
}
"""The number of each activation in compiled loops."""

_ZERO, _ONE, _TWO, _HALF = map(np.float32, (0.0, 1.0, 2.0, 0.5))
# The exponential function is written out, because that of a library keeps a loop from being vectorized.
_LARGEST = np.float32(87.0)  # exp(x) stays within normal numbers
_LOG2_E, _LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
_MANTISSA, _BIAS = np.int32(23), np.int32(127)
# exp(r) = 1 + r + r² p(r) for |r| < ln 2 / 2, to single precision (Cephes, S. L. Moshier)
_E5, _E4, _E3, _E2, _E1, _E0 = map(
    np.float32, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
# the series of artanh; the next term adds 6e-9 where its argument is 1/3
_A3, _A5, _A7, _A9, _A11, _A13 = (np.float32(1.0 / n) for n in (3, 5, 7, 9, 11, 13))


class Subnet(NamedTuple):
    """One subnet of one network, and where its passes put what they need later."""

    widths: IntArray  # (n_layers + 1,) inputs, nodes of each hidden layer, one output
    codes: IntArray  # (n_layers - 1,) activation of each hidden layer
    places: IntArray  # (n_layers,) where each layer begins among the weights
    nodes: IntArray  # (n_layers,) nodes of all hidden layers before each layer
    weights: Float32Array  # (n_weights,) layer after layer, kernel and bias
    first_kernel: Float32Array  # (n_features, n_nodes) of the first layer, on features that are not whitened
    work: Float32Array  # as many numbers as `work_size` says


def work_size(widths: tuple[int, ...], n_atoms: int) -> int:
    """Numbers that the passes through a subnet of these widths keep for so many atoms."""
    return n_atoms * (_N_KEPT * sum(widths[1:-1]) + 2 * max(widths))


@pasted
def _matrix(numbers: Any, place: Any, rows: Any, columns: Any) -> Any:
    return numbers[place : place + rows * columns].reshape((rows, columns))


@pasted
def _kept(subnet: Any, n: Any, level: Any, which: Any) -> Any:
    """What is kept of one hidden layer, (n, n_nodes)."""
    width = subnet.widths[level + 1]
    place = n * (_N_KEPT * subnet.nodes[level] + which * width)
    return _matrix(subnet.work, place, n, width)


@pasted
def _spare(subnet: Any, n: Any, width: Any, which: Any) -> Any:
    """One of two matrices (n, width) for what is not kept."""
    place = n * (_N_KEPT * subnet.nodes[-1] + which * subnet.widths.max())
    return _matrix(subnet.work, place, n, width)


@pasted
def _kernel(numbers: Any, subnet: Any, level: Any) -> Any:
    """The kernel of a layer among the weights, or among numbers in their order."""
    return _matrix(numbers, subnet.places[level], subnet.widths[level], subnet.widths[level + 1])


@pasted
def _bias(numbers: Any, subnet: Any, level: Any) -> Any:
    width = subnet.widths[level + 1]
    place = subnet.places[level] + subnet.widths[level] * width
    return numbers[place : place + width]


@pasted
def _exponential(x: Any) -> Any:
    """exp(x) to 2e-7 of itself, of x cut at ±87."""
    x = min(max(x, -_LARGEST), _LARGEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN_2
    p = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    power = np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)
    return (p * r * r + r + _ONE) * power


@pasted
def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return _ONE / (_ONE + _exponential(-x))


@pasted
def _softplus(x: Any) -> Any:
    """log(1 + exp(x)), as max(x, 0) + 2 artanh(e / (2 + e)) with e = exp(-|x|)."""
    e = _exponential(-abs(x))
    w = e / (_TWO + e)
    y = w * w
    series = ((((_A13 * y + _A11) * y + _A9) * y + _A7) * y + _A5) * y + _A3
    return max(x, _ZERO) + _TWO * (w + w * y * series)


@pasted
def _tangent(x: Any) -> Any:
    """tanh(x)."""
    return _ONE - _TWO / (_ONE + _exponential(_TWO * x))


@pasted
def _activate(code: Any, bias: Any, value: Any, slope: Any, curvature: Any) -> Any:
    """The activation and its derivatives at value + bias; value is changed in place."""
    n, width = value.shape
    for i in range(n):
        if code == SILU:
            for j in range(width):
                x = value[i, j] + bias[j]
                s = _sigmoid(x)
                rest = _ONE - s
                y = x * s
                first = s + y * rest
                value[i, j], slope[i, j] = y, first
                curvature[i, j] = s * rest * (_ONE - y) + first * rest
        elif code == TANH:
            for j in range(width):
                y = _tangent(value[i, j] + bias[j])
                first = _ONE - y * y
                value[i, j], slope[i, j], curvature[i, j] = y, first, -_TWO * y * first
        elif code == SOFTPLUS:
            for j in range(width):
                x = value[i, j] + bias[j]
                s = _sigmoid(x)
                value[i, j], slope[i, j], curvature[i, j] = _softplus(x), s, s * (_ONE - s)
        elif code == SIGMOID:
            for j in range(width):
                s = _sigmoid(value[i, j] + bias[j])
                rest = _ONE - s
                first = s * rest
                value[i, j], slope[i, j], curvature[i, j] = s, first, first * (rest - s)
        else:
            for j in range(width):
                x = value[i, j] + bias[j]
                first = _ONE
                if code == RELU and not x > _ZERO:
                    first = _ZERO
                value[i, j], slope[i, j], curvature[i, j] = first * x, first, _ZERO


@_compiled
def to_features(
    subnet: Subnet,
    features: Float32Array,
    masks: Float32Array,
    energies: Float32Array,
    gradients: Float32Array,
) -> None:
    """Energies of atoms, and their derivatives with respect to features that are not whitened.

    Args:
        subnet: of these atoms.
        features: (n_atoms, n_features), whitened.
        masks: (n_atoms, nodes of all hidden layers) factors of the nodes, for dropout; no columns for none.
        energies: (n_atoms,) receives them, eV.
        gradients: (n_atoms, n_features) receives them; no columns for none.
    """
    n, widths = features.shape[0], subnet.widths
    if n == 0:
        return
    n_hidden = len(widths) - 2
    last, last_bias = subnet.weights[subnet.places[n_hidden] : -1], subnet.weights[-1]
    inputs = features
    for level in range(n_hidden):
        value, slope = _kept(subnet, n, level, _VALUE), _kept(subnet, n, level, _SLOPE)
        curvature = _kept(subnet, n, level, _CURVATURE)
        np.dot(inputs, _kernel(subnet.weights, subnet, level), value)
        _activate(subnet.codes[level], _bias(subnet.weights, subnet, level), value, slope, curvature)
        if masks.shape[1]:
            for i in range(n):
                for j in range(widths[level + 1]):
                    factor = masks[i, subnet.nodes[level] + j]
                    value[i, j] *= factor
                    slope[i, j] *= factor
                    curvature[i, j] *= factor
        inputs = value
    energies[:] = np.dot(inputs, last) + last_bias
    if gradients.shape[1] == 0:
        return
    if n_hidden == 0:
        gradients[:] = subnet.first_kernel[:, 0]
        return
    for back in range(n_hidden):
        level = n_hidden - 1 - back
        slope, leaving = _kept(subnet, n, level, _SLOPE), _kept(subnet, n, level, _LEAVING)
        arriving = _kept(subnet, n, level, _ARRIVING)
        for i in range(n):
            for j in range(widths[level + 1]):
                if back == 0:
                    arriving[i, j] = last[j]
                leaving[i, j] = arriving[i, j] * slope[i, j]
        if level:
            kernel = _kernel(subnet.weights, subnet, level)
            np.dot(leaving, kernel.T, _kept(subnet, n, level - 1, _ARRIVING))
        else:
            np.dot(leaving, subnet.first_kernel.T, gradients)


@_compiled
def to_weights(
    subnet: Subnet,
    features: Float32Array,
    of_energies: Float32Array,
    of_gradients: Float32Array,
    of_weights: Float32Array,
    of_first_kernel: Float32Array,
) -> None:
    """Derivatives of a loss with respect to the weights, after `to_features` of the same atoms.

    Args:
        subnet: of these atoms.
        features: (n_atoms, n_features), whitened.
        of_energies: (n_atoms,) derivatives of the loss with respect to them.
        of_gradients: (n_atoms, n_features) likewise; no columns for a loss of energies alone.
        of_weights: (n_weights,) receives the derivatives, without what comes by way of the first kernel.
        of_first_kernel: (n_features, n_nodes) receives those with respect to the first kernel on features that are not
            whitened; left alone for a loss of energies alone.
    """
    n, widths = features.shape[0], subnet.widths
    with_gradients = of_gradients.shape[1] > 0
    of_weights[:] = _ZERO
    if n == 0:
        if with_gradients:
            of_first_kernel[:] = _ZERO
        return
    n_hidden = len(widths) - 2
    first_of_last = subnet.places[n_hidden]
    last, of_last = subnet.weights[first_of_last:-1], of_weights[first_of_last:-1]
    of_weights[-1] = of_energies.sum()
    if with_gradients:
        u = of_gradients
        for level in range(n_hidden):
            width = widths[level + 1]
            q = _spare(subnet, n, width, level % 2)
            arriving, slope = _kept(subnet, n, level, _ARRIVING), _kept(subnet, n, level, _SLOPE)
            leaving = _kept(subnet, n, level, _LEAVING)
            if level:
                np.dot(u, _kernel(subnet.weights, subnet, level), q)
                np.dot(u.T, leaving, _kernel(of_weights, subnet, level))
            else:
                np.dot(u, subnet.first_kernel, q)
                np.dot(u.T, leaving, of_first_kernel)
            for i in range(n):
                for j in range(width):
                    # from here on what the curvature is multiplied with
                    arriving[i, j] *= q[i, j]
                    q[i, j] *= slope[i, j]
            u = q
        if n_hidden:
            for i in range(n):
                for j in range(len(last)):
                    of_last[j] += u[i, j]
        else:
            of_first_kernel[:] = _ZERO
            for i in range(n):
                for j in range(widths[0]):
                    of_first_kernel[j, 0] += u[i, j]
    inputs = features
    if n_hidden:
        inputs = _kept(subnet, n, n_hidden - 1, _VALUE)
    of_last += np.dot(inputs.T, of_energies)
    along = _spare(subnet, n, widths[n_hidden], 0)
    for back in range(n_hidden):
        level = n_hidden - 1 - back
        slope, curvature = _kept(subnet, n, level, _SLOPE), _kept(subnet, n, level, _CURVATURE)
        of_slopes, of_bias = _kept(subnet, n, level, _ARRIVING), _bias(of_weights, subnet, level)
        for i in range(n):
            energy = of_energies[i]
            for j in range(widths[level + 1]):
                of_value = along[i, j]
                if back == 0:
                    of_value = energy * last[j]
                dz = of_value * slope[i, j]
                if with_gradients:
                    dz += of_slopes[i, j] * curvature[i, j]
                along[i, j] = dz
                of_bias[j] += dz
        inputs = features
        if level:
            inputs = _kept(subnet, n, level - 1, _VALUE)
        of_kernel = _kernel(of_weights, subnet, level)
        of_kernel += np.dot(inputs.T, along)
        if level:
            kernel = _kernel(subnet.weights, subnet, level)
            before = _spare(subnet, n, widths[level], (back + 1) % 2)
            np.dot(along, kernel.T, before)
            along = before
