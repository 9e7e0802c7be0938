"""Columns that `input.data` states."""

from __future__ import annotations

import io

import pytest

from tio2nn.errors import InputError
from tio2nn.io.runner import iter_runner
from tio2nn.structures.structure import Structure


def read(columns: str, fields: str) -> Structure | InputError:
    text = f"begin {columns}\natom {fields}\nenergy -1.0\ncharge 0.0\nend\n"
    (item,) = iter_runner(io.BytesIO(text.encode()), file="input.data", units="A,eV")
    return item


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ("position(3) element charge magmom forces(3)", "1 2 3 Cu 0.1 0.5 4 5 6"),
        ("position(3) element magmom(3) forces(3)", "1 2 3 Cu 0.1 0.5 nan 4 5 6"),
        ("spin tag_2(2) position(3) forces(3) element Q", "up a b 1 2 3 4 5 6 Cu 0"),
        ("position(3) element charge energy forces(3)", "1 2 3 Cu 0 0 4 5 6"),
    ],
)
def test_other_columns_are_passed_over(columns: str, fields: str) -> None:
    structure = read(columns, fields)
    assert isinstance(structure, Structure), structure
    assert structure.elements == ("Cu",)
    assert structure.positions.tolist() == [[1.0, 2.0, 3.0]]
    assert structure.forces is not None
    assert structure.forces.tolist() == [[4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    "column",
    [
        "force(3)",
        "Forces(3)",
        "forces",
        "forces(2)",
        "position(3)",
        "magmom(0)",
        "magmom()",
        "3",
        "magmom(33)",
    ],
)
def test_wrong_columns_are_refused(column: str) -> None:
    error = read(f"position(3) element {column}", "1 2 3 Cu 4 5 6")
    assert str(error).startswith("input.data:1: expected columns such as position(3) element charge energy")
    assert str(error).endswith(f"got '{column}'")


def test_a_column_stands_once() -> None:
    error = read("position(3) element magmom magmom", "1 2 3 Cu 4 5")
    assert str(error).endswith("got 'magmom'")
    assert "expected 6 columns for an atom, got 4" in str(read("position(3) element magmom(2)", "1 2 3 Cu"))
