"""Writes POSCAR files, from which VASP reads a structure."""

from __future__ import annotations

from tio2nn.structures.structure import Structure


def write_poscar(structure: Structure, comment: str) -> str:
    """A file of one structure with all digits, in Å; atoms of one element stand together, as the POTCAR needs them.

    Args:
        structure: periodic along three cell vectors, as VASP takes every one.
        comment: of one line.

    Raises:
        ValueError: it is not.
    """
    if not all(structure.periodic):
        raise ValueError(f"expected three periodic axes, as POSCAR demands, got {structure.periodic}")
    elements = list(dict.fromkeys(structure.elements))
    rows = [
        _row(position)
        for element in elements
        for own, position in zip(structure.elements, structure.positions.tolist(), strict=True)
        if own == element
    ]
    counts = [str(structure.elements.count(element)) for element in elements]
    head = [comment, "1.0", *map(_row, structure.cell.tolist()), " ".join(elements), " ".join(counts)]
    return "\n".join([*head, "Cartesian", *rows]) + "\n"


def _row(numbers: list[float]) -> str:
    return " ".join(map(repr, numbers))
