"""The folder that n2p2, RuNNer and CP2K read: `input.nn`, `scaling.data` and `weights.NNN.data`.

A. Singraber, J. Behler and C. Dellago, J. Chem. Theory Comput. 15 (2019) 1827. All numbers have 17 significant digits,
with which a double comes back as it was: with 7 the energies of TiO2 are off by 2 meV, with 11 by 1e-8 eV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tio2nn.export.functions import (
    ANGULAR,
    RADIAL,
    WEIGHTED_RADIAL,
    Function,
    Scaling,
    functions_of,
    in_n2p2_order,
)
from tio2nn.export.marks import UNITS_MARK, lines_of_marks
from tio2nn.export.network import Architecture, architecture, layers_around, scaling_around
from tio2nn.export.units import Units
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.structures.elements import ATOMIC_NUMBERS

LETTERS = {"linear": "l", "tanh": "t", "sigmoid": "s", "softplus": "p", "relu": "r"}
"""Activations, as `global_activation_short` has them."""

INPUT, SCALING = "input.nn", "scaling.data"


def weights_file(element: str) -> str:
    """The name of the file with the network of an element."""
    return f"weights.{ATOMIC_NUMBERS[element]:03d}.data"


def member_folders(n_members: int) -> list[str]:
    """The folder of each member below that of the potential; "" for a single one."""
    return [""] if n_members == 1 else [f"nnp-{number}" for number in range(1, n_members + 1)]


def n2p2_files(potential: Potential, units: Units, *, weighted: bool, train: str) -> dict[str, str]:
    """The files of a potential.

    Args:
        potential: any.
        units: of all numbers.
        weighted: whether the program that reads them knows functions weighted by atomic number, as n2p2 does and
            CP2K does not.
        train: the command that trains the potential.

    Returns:
        files: the content of each, by its path in the folder. Each member has a folder with all it needs.

    Raises:
        InputError: an activation that n2p2 does not know, or networks that it cannot hold.
    """
    shape = architecture(potential, "lammps" if weighted else "cp2k", train)
    elements = sorted(potential.elements, key=ATOMIC_NUMBERS.__getitem__)
    functions = in_n2p2_order(functions_of(potential.parameters, units, weighted=weighted))
    scalings = [scaling_around(potential, element, functions) for element in elements]
    shared = {
        INPUT: _lines(_input(potential, elements, functions, shape, units)),
        SCALING: _lines(_scaling(scalings)),
    }
    files: dict[str, str] = {}
    for member, folder in enumerate(member_folders(len(potential.members))):
        own = dict(shared)
        for element in elements:
            layers = layers_around(potential, member, element, functions, units)
            own[weights_file(element)] = _lines(_weights(element, layers))
        files |= {f"{folder}/{name}".lstrip("/"): text for name, text in own.items()}
    return files


def digits(number: float) -> str:
    """A number with 17 significant digits."""
    return f"{number:.16E}"


def _input(
    potential: Potential,
    elements: Sequence[str],
    functions: Sequence[Function],
    shape: Architecture,
    units: Units,
) -> Iterator[str]:
    yield f"# neural network potential for {', '.join(elements)}"
    yield f"{UNITS_MARK}{units.name} ({units.described})"
    yield from lines_of_marks(potential)
    yield f"number_of_elements {len(elements)}"
    yield f"elements {' '.join(elements)}"
    for element in elements:
        yield f"atom_energy {element} {digits(potential.reference_energies[element] * units.energy)}"
    yield "remove_atom_energies"
    yield "cutoff_type 1 0.0"
    yield "center_symmetry_functions"
    yield "scale_symmetry_functions"
    yield "scale_min_short 0.0"
    yield "scale_max_short 1.0"
    yield f"global_hidden_layers_short {len(shape.nodes)}"
    yield f"global_nodes_short {' '.join(map(str, shape.nodes))}"
    yield f"global_activation_short {' '.join(LETTERS[name] for name in (*shape.activations, 'linear'))}"
    for element in elements:
        yield from (_function_line(element, function) for function in functions)


def _function_line(element: str, function: Function) -> str:
    cutoff, eta = digits(function.cutoff), digits(function.eta)
    start = " ".join(["symfunction_short", element, str(function.kind), *function.neighbors, eta])
    if function.kind in (RADIAL, WEIGHTED_RADIAL):
        return f"{start} {digits(function.r_s)} {cutoff}"
    shift = "" if function.kind == ANGULAR else f"{digits(0.0)} "
    return f"{start} {shift}{function.lambda_} {digits(function.zeta)} {cutoff}"


def _scaling(scalings: Sequence[Scaling]) -> Iterator[str]:
    yield "# element function minimum maximum mean sigma"
    for element, scaling in enumerate(scalings, start=1):
        rows = zip(scaling.low.tolist(), scaling.high.tolist(), scaling.mean.tolist(), strict=True)
        for function, (low, high, mean) in enumerate(rows, start=1):
            # nothing is scaled by sigma
            numbers = " ".join(map(digits, (low, high, mean, high - low)))
            yield f"{element} {function} {numbers}"


def _weights(element: str, layers: Sequence[Layer]) -> Iterator[str]:
    yield f"# network of {element}: value, a weight (a) or bias (b), index, from layer and node, to layer and node"
    index = 0
    for number, layer in enumerate(layers, start=1):
        for source, row in enumerate(layer.kernel.tolist(), start=1):
            for target, value in enumerate(row, start=1):
                index += 1
                yield f"{digits(value)} a {index} {number - 1} {source} {number} {target}"
        for target, value in enumerate(layer.bias.tolist(), start=1):
            index += 1
            yield f"{digits(value)} b {index} {number} {target}"


def _lines(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"
