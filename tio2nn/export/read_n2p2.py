"""A trained n2p2 folder as a potential, so that it can be used and compared like one of our own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.export.functions import (
    ANGULAR,
    RADIAL,
    WEIGHTED_ANGULAR,
    WEIGHTED_RADIAL,
    Function,
    functions_of,
    in_n2p2_order,
)
from tio2nn.export.lines import Line, lines_of
from tio2nn.export.marks import Marks, marks_of, stated_units
from tio2nn.export.n2p2 import INPUT, LETTERS, SCALING, weights_file
from tio2nn.export.read_functions import ReadFunction, SetUp, read_setup
from tio2nn.export.units import METAL, UNITS, Units, UnitsName
from tio2nn.files.paths import AnyPath
from tio2nn.files.text import parse_count
from tio2nn.parameters.fit_parameters import Activation, NetworkParameters
from tio2nn.parameters.parameter_set import ParameterSet, RadialFunction
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.elements import ATOMIC_NUMBERS

_ACTIVATIONS: dict[str, Activation] = {letter: name for name, letter in LETTERS.items()}  # type: ignore[misc]
# change what the other lines mean
_NOT_READ = re.compile(
    r"element_(hidden_layers|nodes|activation)_short|(element|global)_symfunction_short|normalize_nodes|nnp_(type|gen)"
    r"|use_electrostatics|use_vdw"
)
# what is read
_SECOND_GENERATION = (("nnp_gen", "2"), ("nnp_type", "2"), ("nnp_type", "2G-HDNNP"))


class _Folder(NamedTuple):
    """What one folder holds, in Å and eV.

    Attributes:
        setup: functions.
        units: of its files.
        marks: what its comments say.
        layers: of each element, on scaled functions.
        scaling: of each element, (n_functions, 4): lowest, highest, factor a and offset b of a G + b.
        energies: of an atom of each element.
    """

    setup: SetUp
    units: Units
    marks: Marks
    layers: dict[str, list[Layer]]
    scaling: dict[str, FloatArray]
    energies: dict[str, float]


def read_n2p2(directory: AnyPath, units: UnitsName | None = None) -> Potential:
    """Read a folder with `input.nn`, `scaling.data` and `weights.NNN.data`, or with such folders `nnp-1`, ... in it.

    It has no training atoms: the distance from training of a prediction is the root mean square of (G - middle) /
    range, by the ranges in `scaling.data`.

    Args:
        directory: the folder.
        units: metal (Å, eV) or atomic (Bohr, Hartree), of a folder whose `input.nn` does not state them, as an export
            does.

    Raises:
        InputError: a file is missing or damaged, with the line, or means what a potential cannot be.
    """
    directory = Path(directory)
    folders = _folders(directory)
    given = None if units is None else UNITS[units]
    found = [_read_folder(folder, given) for folder in folders]
    first = found[0]
    if folders != [directory]:
        _require_all(directory, [int(folder.name[4:]) for folder in folders], first.marks)
    hidden = next(iter(first.layers.values()))[:-1]
    parameters = first.setup.parameters(
        network=NetworkParameters(
            hidden_layers=tuple(layer.kernel.shape[1] for layer in hidden),
            activation=hidden[0].activation,  # type: ignore[arg-type]
        ),
        target=first.marks.target,
    )
    for folder, other in zip(folders[1:], found[1:], strict=True):
        if other.units != first.units:
            raise InputError(
                f"expected the units of {folders[0]}, {first.units.name}, got {other.units.name}",
                file=str(folder / INPUT),
            )
        same = other.setup.parameters(network=parameters.network, target=other.marks.target) == parameters
        if not same or (other.energies, other.marks) != (first.energies, first.marks):
            raise InputError(
                f"expected functions, atom energies and comments of {folders[0]}, got others",
                file=str(folder),
            )
    elements = parameters.elements
    whitenings = tuple(_whitening(first, parameters, element) for element in elements)
    return Potential(
        parameters=parameters,
        reference_energies={element: first.energies[element] for element in elements},
        subnet_of={element: k for k, element in enumerate(elements)},
        whitenings=whitenings,
        members=tuple(
            tuple(
                _on_features(folder, parameters, element, whitening)
                for element, whitening in zip(elements, whitenings, strict=True)
            )
            for folder in found
        ),
        training_atoms=tuple(_training_atoms(first, parameters, element) for element in elements),
        composition_span=np.eye(len(elements)),
        about={"read_from": "n2p2", "units": first.units.name},
        repulsion=first.marks.repulsion(elements, folders[0] / INPUT),
    )


def _folders(directory: Path) -> list[Path]:
    """The folder of each member."""
    if (directory / INPUT).exists():
        return [directory]
    found = [(int(path.name[4:]), path) for path in directory.glob("nnp-*") if path.name[4:].isdecimal()]
    return [path for _, path in sorted(found)] or [directory]


def _require_all(directory: Path, numbers: list[int], marks: Marks) -> None:
    n_members = max(marks.members or 1, *numbers)
    if numbers != list(range(1, n_members + 1)):
        got = ", ".join(f"nnp-{number}" for number in numbers)
        raise InputError(f"expected folders nnp-1 to nnp-{n_members}, got {got}", file=str(directory))


def load_potential(path: AnyPath, units: UnitsName | None = None) -> Potential:
    """A potential from its file, or from an n2p2 folder.

    Raises:
        InputError: as `Potential.load` or `read_n2p2`.
    """
    return read_n2p2(path, units) if Path(path).is_dir() else Potential.load(path)


def _read_folder(directory: Path, given: Units | None) -> _Folder:
    units = stated_units(directory / INPUT, given)
    setup = read_setup([directory / INPUT], units)
    keywords = {line.words[0]: line for line in lines_of(directory / INPUT, "#")}
    for line in keywords.values():
        if _NOT_READ.fullmatch(line.words[0]) and line.words[:2] not in _SECOND_GENERATION:
            raise line.error(f"expected one network for each element and no other terms, got {line.words[0]}")
    energies = dict.fromkeys(setup.elements, 0.0)
    for line in lines_of(directory / INPUT, "#"):
        if line.words[0] == "atom_energy":
            energies[line.element(1)] = line.value(2) / units.energy
    factor = units.energy
    if "conv_energy" in keywords:  # a network on normalized energies
        factor *= keywords["conv_energy"].value(1)
        shift = keywords["mean_energy"].value(1) / units.energy if "mean_energy" in keywords else 0.0
        energies = {element: energy + shift for element, energy in energies.items()}
    nodes, activations = _architecture(keywords, directory / INPUT)
    counts = {element: sum(f.center == element for f in setup.functions) for element in setup.elements}
    layers = {}
    for element, n_functions in counts.items():
        own = _read_layers(directory / weights_file(element), [n_functions, *nodes, 1], activations)
        own[-1] = Layer(own[-1].kernel / factor, own[-1].bias / factor, own[-1].activation)
        layers[element] = own
    scaling = _read_scaling(directory / SCALING, counts, keywords)
    return _Folder(setup, units, marks_of(directory / INPUT, setup.elements), layers, scaling, energies)


def _architecture(keywords: Mapping[str, Line], file: Path) -> tuple[list[int], list[str]]:
    """Nodes of the hidden layers, and activations of all."""
    needed = ("global_hidden_layers_short", "global_nodes_short", "global_activation_short")
    for keyword in needed:
        if keyword not in keywords:
            raise InputError(f"expected a line {keyword}, got none", file=str(file))
    number, nodes, letters = (keywords[keyword] for keyword in needed)
    n_hidden = parse_count(number.words[1]) if len(number.words) > 1 else None
    if n_hidden is None:
        raise number.error("expected at least one hidden layer, got none")
    widths = [parse_count(word) for word in nodes.words[1:]]
    if len(widths) < n_hidden or None in widths[:n_hidden]:
        raise nodes.error(f"expected {n_hidden} numbers of nodes, got {' '.join(nodes.words[1:]) or 'none'}")
    found = letters.words[1 : n_hidden + 2]
    if len(found) <= n_hidden or found[-1] != "l" or set(found) - set(_ACTIVATIONS):
        raise letters.error(
            f"expected {n_hidden} of {', '.join(sorted(_ACTIVATIONS))} and then l, got {' '.join(found) or 'none'}"
        )
    return [width for width in widths[:n_hidden] if width is not None], [
        _ACTIVATIONS[letter] for letter in found
    ]


def _read_layers(file: Path, sizes: Sequence[int], activations: Sequence[str]) -> list[Layer]:
    lines = list(lines_of(file, "#"))
    values = np.array([line.value(0) for line in lines])
    expected = sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    if len(values) != expected:
        last = lines[-1].number if lines else None
        raise InputError(
            f"expected {expected} weights and biases, got {len(values)}", file=str(file), line=last
        )
    layers, place = [], 0
    for (before, after), activation in zip(itertools.pairwise(sizes), activations, strict=True):
        kernel = values[place : place + before * after].reshape(before, after)
        place += before * after
        layers.append(Layer(kernel, values[place : place + after], activation))
        place += after
    return layers


def _read_scaling(
    file: Path, counts: Mapping[str, int], keywords: Mapping[str, Line]
) -> dict[str, FloatArray]:
    lines = iter(list(lines_of(file, "#")))
    lowest, highest = (
        keywords[name].value(1) if name in keywords else default
        for name, default in (("scale_min_short", 0.0), ("scale_max_short", 1.0))
    )
    centers = "center_symmetry_functions" in keywords
    scales = "scale_symmetry_functions" in keywords
    by_sigma = "scale_symmetry_functions_sigma" in keywords
    found = {}
    for place, element in enumerate(sorted(counts, key=ATOMIC_NUMBERS.__getitem__), start=1):
        rows = np.empty((counts[element], 4))
        for k in range(counts[element]):
            line = next(lines, None)
            if line is None:
                raise InputError(
                    f"expected {counts[element]} functions of {element}, got {k}", file=str(file)
                )
            if (line.value(0), line.value(1)) != (place, k + 1):
                raise line.error(
                    f"expected element {place}, function {k + 1}, got {' '.join(line.words[:2])}"
                )
            low, high, mean = line.value(2), line.value(3), line.value(4)
            width = line.value(5) if by_sigma else high - low
            if (scales or by_sigma) and width <= 0.0:
                raise line.error("expected a maximum above the minimum, got none")
            factor = (highest - lowest) / width if scales or by_sigma else 1.0
            zero = mean if centers or by_sigma else low if scales else 0.0
            rows[k] = low, high, factor, (lowest if scales or by_sigma else 0.0) - factor * zero
        found[element] = rows
    return found


def _columns(folder: _Folder, parameters: ParameterSet, element: str) -> list[int]:
    """The column of each function of an element, in the order of the folder."""
    column_of = {
        _key(function): function.column for function in functions_of(parameters, METAL, weighted=True)
    }
    own = [_function(read) for read in folder.setup.functions if read.center == element]
    return [column_of[_key(function)] for function in in_n2p2_order(own)]


def _key(function: Function) -> tuple[object, ...]:
    return (function.kind, *function[2:7])


def _function(read: ReadFunction) -> Function:
    neighbors = tuple(sorted(read.neighbors, key=ATOMIC_NUMBERS.__getitem__))
    f = read.function
    if isinstance(f, RadialFunction):
        kind = RADIAL if neighbors else WEIGHTED_RADIAL
        return Function(kind, read.cutoff, f.eta, f.r_s, 0.0, 0, neighbors, 0, 1.0)
    kind = ANGULAR if neighbors else WEIGHTED_ANGULAR
    return Function(kind, read.cutoff, f.eta, 0.0, f.zeta, f.lambda_, neighbors, 0, 1.0)


def _whitening(folder: _Folder, parameters: ParameterSet, element: str) -> Whitening:
    """(G - middle) / range; zero for what the folder does not have around this element."""
    n, columns = parameters.n_features, _columns(folder, parameters, element)
    low, high = folder.scaling[element][:, :2].T
    mean, scale = np.zeros(n), np.zeros(n)
    mean[columns] = 0.5 * (low + high)
    scale[columns] = 1.0 / np.where(high > low, high - low, 1.0)
    return Whitening(mean, np.diag(scale), np.zeros(n, dtype=bool), np.diag(scale))


def _on_features(
    folder: _Folder, parameters: ParameterSet, element: str, whitening: Whitening
) -> tuple[Layer, ...]:
    """The network of an element on whitened features: its scaling becomes part of the first layer."""
    columns = _columns(folder, parameters, element)
    first, *others = folder.layers[element]
    factor, offset = folder.scaling[element][:, 2:].T
    scale = np.diag(whitening.matrix)[columns]
    kernel = np.zeros((parameters.n_features, first.kernel.shape[1]))
    np.add.at(kernel, columns, first.kernel * (factor / scale)[:, None])
    bias = first.bias + (offset + factor * whitening.mean[columns]) @ first.kernel
    return (Layer(kernel, bias, first.activation), *others)


def _training_atoms(folder: _Folder, parameters: ParameterSet, element: str) -> TrainingAtoms:
    n, columns = parameters.n_features, _columns(folder, parameters, element)
    low, high = np.zeros(n), np.zeros(n)
    low[columns], high[columns] = folder.scaling[element][:, :2].T
    return TrainingAtoms(low, high, np.zeros((1, n), np.float32), 1.0)
