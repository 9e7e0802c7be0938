"""The files that aenet reads: `El.nn`, one network for each element.

N. Artrith and A. Urban, Comput. Mater. Sci. 114 (2016) 135; records and their order are those of aenet 2.0. They are
sequential records of Fortran: network, set-up of the symmetry functions, what is known of the training set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import FortranFile

from tio2nn.array_types import FloatArray
from tio2nn.export.functions import RADIAL, Function, functions_of, scaling_of
from tio2nn.export.network import architecture, layers_around, scaling_around
from tio2nn.export.units import METAL
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential

CODES = {"linear": 0, "tanh": 1, "sigmoid": 2}
"""Activations, by their numbers."""

# lengths of texts; the path is longer in later versions, and a record may be longer than what is read of it
_SYMBOL, _DESCRIPTION, _KIND, _PATH = 2, 1024, 100, 1024
_RADIAL, _ANGULAR = 2, 4  # numbers of the functions
_N_PARAMETERS, _N_NEIGHBORS = 4, 2  # that a function may have
# Å; aenet refuses closer atoms, and makes room for as many neighbors as this allows
_CLOSEST = 0.55


def aenet_file(element: str) -> str:
    """The name of the file of an element."""
    return f"{element}.nn"


def aenet_files(potential: Potential, *, train: str) -> dict[str, bytes]:
    """The files of a potential; each member of a committee has a folder, `nnp-1` and so on.

    Sums over all elements are written out; the whitening is part of the first layer, so that aenet's own scaling of
    functions is the identity.

    Args:
        potential: any.
        train: the command that trains the potential.

    Raises:
        InputError: an activation that aenet does not know, or networks that it cannot hold.
    """
    shape = architecture(potential, "aenet", train)
    functions = in_aenet_order(functions_of(potential.parameters, METAL, weighted=False), potential.elements)
    codes = [CODES[name] for name in (*shape.activations, "linear")]
    n_members = len(potential.members)
    return {
        f"{'' if n_members == 1 else f'nnp-{member + 1}/'}{aenet_file(element)}": _file(
            potential, member, element, functions, codes
        )
        for member in range(n_members)
        for element in potential.elements
    }


def in_aenet_order(functions: Sequence[Function], elements: Sequence[str]) -> list[Function]:
    """As aenet sorts the values of functions: by neighbor, radial ones before the pairs that the neighbor begins."""
    place = {element: k for k, element in enumerate(elements)}

    def key(function: Function) -> tuple[int, ...]:
        first, *second = sorted(place[element] for element in function.neighbors)
        return (first, *(second or [-1]))

    return sorted(functions, key=key)


def _file(
    potential: Potential, member: int, element: str, functions: Sequence[Function], codes: Sequence[int]
) -> bytes:
    scaling = scaling_around(potential, element, functions)
    layers = layers_around(potential, member, element, functions, METAL)
    # on values as they are, not centered and scaled
    first = layers[0].kernel / (scaling.high - scaling.low)[:, None]
    layers[0] = Layer(first, layers[0].bias - scaling.mean @ first, layers[0].activation)
    with tempfile.TemporaryDirectory() as here:
        path = Path(here) / aenet_file(element)
        with FortranFile(path, "w") as handle:
            _write_network(handle, layers, codes)
            _write_setup(handle, potential, element, functions)
            _write_training_set(handle, potential)
        return path.read_bytes()


def _write_network(handle: FortranFile, layers: Sequence[Layer], codes: Sequence[int]) -> None:
    nodes = [len(layers[0].kernel), *(layer.kernel.shape[1] for layer in layers)]
    # column by column, the bias as the last of them
    weights = np.concatenate([np.vstack([layer.kernel, layer.bias]).ravel() for layer in layers])
    ends = np.cumsum([0, *((layer.kernel.size + layer.bias.size) for layer in layers)])
    # of the values of nodes: each layer but the last has a node for the bias
    values = np.cumsum([0, *(n + 1 for n in nodes[:-1])])
    for number in (len(nodes), max(nodes), len(weights), int(values[-1]) + nodes[-1]):
        handle.write_record(_integers([number]))
    for numbers in (nodes, codes, ends, values):
        handle.write_record(_integers(numbers))
    handle.write_record(weights)


def _write_setup(
    handle: FortranFile, potential: Potential, element: str, functions: Sequence[Function]
) -> None:
    place = {name: k for k, name in enumerate(potential.elements, start=1)}
    n = len(functions)
    kinds = [_RADIAL if function.kind == RADIAL else _ANGULAR for function in functions]
    parameters = np.zeros((n, _N_PARAMETERS))
    neighbors = np.zeros((n, _N_NEIGHBORS))
    for k, f in enumerate(functions):
        if f.kind == RADIAL:
            parameters[k, :3] = (f.cutoff, f.r_s, f.eta)
        else:
            parameters[k] = (f.cutoff, f.lambda_, f.zeta, f.eta)
        neighbors[k, : len(f.neighbors)] = sorted(place[name] for name in f.neighbors)
    atoms = potential.training_atoms[potential.elements.index(element)]
    scaling = scaling_of(functions, atoms.low, atoms.high, np.zeros(len(atoms.low)))
    handle.write_record(_text("written by tio2nn$$", _DESCRIPTION))
    handle.write_record(_text(element, _SYMBOL))
    handle.write_record(_integers([len(potential.elements)]))
    handle.write_record(_text("".join(name.ljust(_SYMBOL) for name in potential.elements)))
    handle.write_record(np.array([_CLOSEST]))
    handle.write_record(np.array([float(potential.parameters.cutoff)]))
    handle.write_record(_text("Behler2011", _KIND))
    for number in (n, _N_PARAMETERS):
        handle.write_record(_integers([number]))
    handle.write_record(_integers(kinds))
    handle.write_record(parameters.ravel())
    handle.write_record(_integers(neighbors.ravel()))
    handle.write_record(_integers([1]))  # evaluations
    # scaled by (G - average) / sqrt(covariance - average²)
    for values in (scaling.low, scaling.high, np.zeros(n), np.ones(n)):
        handle.write_record(values)


def _write_training_set(handle: FortranFile, potential: Potential) -> None:
    """Nothing is normalized; the reference energies are all that a prediction needs of it."""
    energies: FloatArray = np.array([potential.reference_energies[name] for name in potential.elements])
    handle.write_record(_text("", _PATH))
    handle.write_record(_integers([0]))  # not normalized
    handle.write_record(np.array([1.0]))  # scale
    handle.write_record(np.array([0.0]))  # shift
    handle.write_record(_integers([len(energies)]))
    handle.write_record(_text("".join(name.ljust(_SYMBOL) for name in potential.elements)))
    handle.write_record(energies)
    handle.write_record(_integers([0]))  # atoms
    handle.write_record(_integers([0]))  # structures
    handle.write_record(np.zeros(3))  # lowest, highest and mean energy


def _integers(numbers: Sequence[int] | NDArray[np.generic]) -> NDArray[np.int32]:
    return np.asarray(numbers).astype(np.int32)


def _text(content: str, length: int = 0) -> NDArray[np.bytes_]:
    return np.frombuffer(content.ljust(length).encode("ascii"), dtype="S1")
