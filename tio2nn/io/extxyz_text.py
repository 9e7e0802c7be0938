"""Extended XYZ output: a structure with its predictions, beside everything that its source file says.

Labels of the source (energy, forces, stress, virial) stay as they are; predictions then have the names `tio2nn_energy`,
`tio2nn_forces`, `tio2nn_stress` and `tio2nn_distance`, which no reader takes for reference labels. Without labels,
predictions are named `energy`, `forces`, `stress` and `distance`, unless they must not be taken for labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.io.labels import PREFIX_OF_PREDICTIONS, is_reference_label, words_of_numbers
from tio2nn.structures.structure import Column, Structure

_GEOMETRY_KEYS = ("Lattice", "Properties", "pbc")
_TENSORS = ("stress", "virial")  # ASE refuses a file unless they are nine numbers
_VOIGT = (0, 5, 4, 5, 1, 3, 4, 3, 2)  # indices of the nine components into xx yy zz yz xz xy
_EMPTY = ('""', "''")  # ASE takes the next key for the value
_PLAIN_WORD = re.compile(r"[^\s=\"'{}\[\]\\]+")


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions for a structure.

    Attributes:
        energy: eV.
        forces: (n_atoms, 3) eV/Å, or None.
        stress: (3, 3) eV/Å³, or None.
        distances: (n_atoms,) distances from the training set, or None.
        are_labels: whether predictions for a structure without labels may have the names of labels.
    """

    energy: float
    forces: FloatArray | None = None
    stress: FloatArray | None = None
    distances: FloatArray | None = None
    are_labels: bool = True


def write_extxyz(structure: Structure, predicted: Predicted) -> str:
    """The text of one frame: the content of its source and the predictions, named as the module describes."""
    info, columns = _of_source(structure)
    prefix = PREFIX_OF_PREDICTIONS if _is_labeled(structure) or not predicted.are_labels else ""
    words = {f"{prefix}energy": repr(predicted.energy)}
    if predicted.forces is not None:
        columns[f"{prefix}forces"] = _column(predicted.forces)
    if predicted.stress is not None:
        words[f"{prefix}stress"] = f'"{_numbers(predicted.stress)}"'
    if predicted.distances is not None:
        columns[f"{prefix}distance"] = _column(predicted.distances)
    if "name" not in info:
        words["name"] = _word(structure.name)
    properties = "".join(f":{name}:{column.kind}:{len(column.rows[0])}" for name, column in columns.items())
    geometry = [f"Properties=species:S:1:pos:R:3{properties}"]
    if structure.cell.any():
        geometry.insert(0, f'Lattice="{_numbers(structure.cell)}"')
    pbc = " ".join("FT"[axis] for axis in structure.periodic)
    # content of the source comes last, as an unclosed quote runs to the end
    comment = [
        *geometry,
        f'pbc="{pbc}"',
        *(f"{key}={word}" for key, word in words.items()),
        *(f"{_word(key)}={word}" if word else key for key, word in info.items() if key not in words),
    ]
    rows = [
        f"{element:<3}" + "".join(f" {number:16.8f}" for number in position)
        for element, position in zip(structure.elements, structure.positions.tolist(), strict=True)
    ]
    for column in columns.values():
        widths = [max(map(len, fields)) for fields in zip(*column.rows, strict=True)]
        rows = [_joined(row, fields, widths) for row, fields in zip(rows, column.rows, strict=True)]
    return "\n".join([str(structure.n_atoms), " ".join(comment), *rows]) + "\n"


def _is_labeled(structure: Structure) -> bool:
    extras = structure.extras
    return (
        structure.energy is not None
        or structure.forces is not None
        or structure.stress is not None
        or any(is_reference_label(name) for name in (*extras.info, *extras.columns))
    )


def _of_source(structure: Structure) -> tuple[dict[str, str], dict[str, Column]]:
    """Keys and columns of the source, without geometry and earlier predictions; labels if the source has no keys."""
    extras = structure.extras
    info = {
        key: word
        for key, word in extras.info.items()
        if key not in _GEOMETRY_KEYS
        and not key.startswith(PREFIX_OF_PREDICTIONS)
        and (word or _PLAIN_WORD.fullmatch(key))
        and word not in _EMPTY
    }
    for key in _TENSORS:
        numbers = words_of_numbers(info.pop(key, "").strip("\"'"))
        numbers = [numbers[place] for place in _VOIGT] if len(numbers) == 6 else numbers
        if len(numbers) == 9:
            info[key] = f'"{" ".join(numbers)}"'
    columns = {
        name: column for name, column in extras.columns.items() if not name.startswith(PREFIX_OF_PREDICTIONS)
    }
    if not extras.info:
        if structure.energy is not None:
            info["energy"] = repr(structure.energy)
        if structure.forces is not None:
            columns["forces"] = _column(structure.forces)
        if structure.stress is not None:
            info["stress"] = f'"{_numbers(structure.stress)}"'
    return info, columns


def _column(numbers: FloatArray) -> Column:
    rows = np.reshape(numbers, (len(numbers), -1)).tolist()
    return Column("R", tuple([tuple([f"{number:.8f}" for number in row]) for row in rows]))


def _joined(row: str, fields: Sequence[str], widths: Sequence[int]) -> str:
    return row + "".join(f" {field:>{width + 3}}" for field, width in zip(fields, widths, strict=True))


def _numbers(matrix: FloatArray) -> str:
    return " ".join(repr(number) for number in matrix.ravel().tolist())


def _word(text: str) -> str:
    if _PLAIN_WORD.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
