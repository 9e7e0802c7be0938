from __future__ import annotations

import io

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from tio2nn.errors import InputError
from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.labels import ReadOptions
from tio2nn.structures.structure import Structure

LATTICE = 'Lattice="4.0 0.0 0.0 0.0 5.0 0.0 0.5 0.0 6.0"'
COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"
ROWS = "Ti 0.0 0.0 0.0 0.1 0.2 0.3\nO 1.5 1.0 0.25 -0.1 -0.2 -0.3\n"
FRAME = f"2\n{LATTICE} {COLUMNS} energy=-19.25\n{ROWS}"
FRAME_OF_NUMBERS = f"2\n{LATTICE} Properties=Z:I:1:pos:R:3 energy=-19.25\n22 0.0 0.0 0.0\n8 1.5 1.0 0.25\n"


def read(text: str | bytes) -> list[Structure | InputError]:
    return list(iter_extxyz(text, name="x", file="x.xyz"))


def only(text: str) -> Structure:
    (item,) = read(text)
    assert isinstance(item, Structure), item
    return item


def test_a_frame_is_read_in_full() -> None:
    structure = only(FRAME)
    assert structure.name == "x"
    assert structure.line == 1
    assert structure.elements == ("Ti", "O")
    assert structure.periodic == (True, True, True)
    assert structure.energy == -19.25
    np.testing.assert_array_equal(structure.cell, [[4, 0, 0], [0, 5, 0], [0.5, 0, 6]])
    np.testing.assert_array_equal(structure.positions[1], [1.5, 1.0, 0.25])
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces[1], [-0.1, -0.2, -0.3])


def test_what_ase_writes_is_read() -> None:
    atoms = Atoms("TiO2", [[0, 0, 0], [1.9, 0, 0], [0, 1.9, 0]], cell=[4, 5, 6], pbc=[True, True, False])
    atoms.calc = SinglePointCalculator(atoms, energy=-1234.56789, forces=np.arange(9.0).reshape(3, 3))
    stream = io.StringIO()
    write(stream, [atoms, atoms], format="extxyz")
    first, second = read(stream.getvalue())
    assert isinstance(first, Structure)
    assert isinstance(second, Structure)
    assert (first.name, second.name) == ("x-1", "x-2")
    assert second.line == 6
    assert second.energy == -1234.56789
    assert second.periodic == (True, True, False)
    assert second.forces is not None
    np.testing.assert_array_equal(second.forces, np.arange(9.0).reshape(3, 3))


def test_elements_may_be_given_by_number_by_symbol_or_by_both() -> None:
    assert only(FRAME_OF_NUMBERS).elements == ("Ti", "O")
    both = "2\nProperties=species:S:1:pos:R:3:Z:I:1\nTi 0 0 0 22\nO 2 0 0 8\n"
    assert only(both).elements == ("Ti", "O")


def test_plain_xyz_is_a_molecule_without_labels() -> None:
    structure = only("2\nthe comment says anything, even 3\nO 0 0 0\nH 0 0 1\n\n\n")
    assert structure.periodic == (False, False, False)
    assert structure.energy is None
    assert structure.forces is None


def test_a_comment_that_is_a_number_begins_no_frame() -> None:
    assert only("1\n1\nO 0 0 0\n").n_atoms == 1


@pytest.mark.parametrize(
    "key", ["energy", "total_energy", "REF_energy", "ref_energy", "DFT_energy", "dft_energy"]
)
def test_the_energy_goes_by_several_names(key: str) -> None:
    assert only(FRAME.replace("energy=", f"{key}=")).energy == -19.25
    assert only(FRAME.replace("energy=-19.25", f"{key} = -1.925D1")).energy == -19.25


@pytest.mark.parametrize("key", ["force", "REF_forces", "ref_forces", "DFT_forces", "dft_forces"])
def test_forces_go_by_several_names(key: str) -> None:
    structure = only(FRAME.replace("forces:", f"{key}:"))
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces[0], [0.1, 0.2, 0.3])


def test_a_column_may_have_a_name_with_a_blank() -> None:
    text = FRAME.replace(COLUMNS, '"Properties"="species:S:1:pos:R:3:my forces:R:3"')
    (structure,) = iter_extxyz(text, name="x", file="x.xyz", options=ReadOptions(forces_key="my forces"))
    assert isinstance(structure, Structure), structure
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces[0], [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "comment",
    [
        "what is what: the the, and = 1 more",
        'energy=-1 note="energy=-2 energy=-3" title=energy=-4',
        r"""energy=-1 list=[a=1 a=2] set={a=1 a=2} word=\"a=1 other='a=1 a=2""",
        'energy=-1 "a b"=1 "a c"=2',
    ],
)
def test_only_keys_count_as_keys(comment: str) -> None:
    assert only(f"1\n{comment}\nO 0 0 0\n").n_atoms == 1


@pytest.mark.parametrize(
    ("pbc", "expected"),
    [
        ("T", (True,) * 3),
        ("[T,F,true]", (True, False, True)),
        ('"1 0 1"', (True, False, True)),
        ('"F F F"', (False,) * 3),
        ('"[True, False, True]"', (True, False, True)),
        ('"_JSON [true, true, false]"', (True, True, False)),
        ("TFT", (True, False, True)),
        ('"t f t"', (True, False, True)),
    ],
)
def test_periodic_axes_are_said_in_several_ways(pbc: str, expected: tuple[bool, ...]) -> None:
    assert only(FRAME.replace(LATTICE, f"{LATTICE} pbc={pbc}")).periodic == expected


def test_exponents_of_fortran_are_read_and_written_as_others_read_them() -> None:
    structure = only(FRAME.replace("Ti 0.0 0.0 0.0 0.1", "Dy 2.5D-01 0.0 0.0 1.0d-1"))
    assert structure.elements[0] == "Dy"
    assert structure.positions[0, 0] == 0.25
    assert structure.forces is not None
    assert structure.forces[0, 0] == 0.1
    assert structure.extras.columns["forces"].rows[0] == ("1.0e-1", "0.2", "0.3")


def test_forces_that_are_all_unknown_are_left_out_with_a_word() -> None:
    text = FRAME.replace("0.1 0.2 0.3\n", "nan nan nan\n").replace("-0.1 -0.2 -0.3", "NaN NaN NaN")
    structure = only(text)
    assert (structure.energy, structure.forces) == (-19.25, None)
    assert structure.extras.remarks == ("forces ignored: expected numbers, got NaN only",)
    rows = "Ti 0 0 0 nan nan nan 0.1 0.2 0.3\nO 1.5 1 0.25 nan nan nan -0.1 -0.2 -0.3\n"
    both = only(f"2\n{LATTICE} {COLUMNS}:REF_forces:R:3 energy=-19.25\n{rows}")
    assert both.forces is not None
    assert both.extras.remarks == structure.extras.remarks


@pytest.mark.parametrize(("more", "columns"), [("", ""), (" 0.5 0.5", ":others:R:2")])
def test_columns_of_plain_xyz_that_may_be_forces_are_told(more: str, columns: str) -> None:
    structure = only("2\nenergy=-19.25\n" + ROWS.replace("\n", f"{more}\n"))
    declared = f"{COLUMNS}{columns}"
    assert structure.forces is None
    assert structure.extras.remarks == (
        f"columns behind the positions ignored: if they are forces, add {declared} to the comment lines",
    )
    told = only(f"2\nenergy=-19.25 {declared}\n" + ROWS.replace("\n", f"{more}\n"))
    assert told.forces is not None
    # who has no energy cannot use forces
    assert only(f"2\nmolecule\n{ROWS}").extras.remarks == ()
    assert only("1\nenergy=-1\nO 0 0 0 a b c\n").extras.remarks == ()


def test_labels_that_agree_are_one_label() -> None:
    assert only(FRAME.replace("energy=-19.25", "energy=-19.25 REF_energy=-19.25")).energy == -19.25


ERRORS = {
    "labels that differ": (
        FRAME.replace("energy=-19.25", "energy=-19.25 REF_energy=-19.5"),
        "x.xyz:2: expected equal values of energy and REF_energy, got others",
    ),
    "no energy": (FRAME.replace("-19.25", "low"), "x.xyz:2: expected a finite number for energy, got 'low'"),
    "an energy that is not finite": (
        FRAME.replace("-19.25", "nan"),
        "x.xyz:2: expected a finite number for energy",
    ),
    "fewer rows": (FRAME.replace("2\n", "3\n", 1), "x.xyz:1: expected 3 atoms, got 2"),
    "a million announced": (FRAME.replace("2\n", "1000000\n", 1), "x.xyz:1: expected 1000000 atoms, got 2"),
    "more rows": (
        FRAME + "O 1 1 1 0 0 0\n",
        "x.xyz:5: expected the next frame after 2 atoms, got 'O 1 1 1 0 0 0'",
    ),
    "no count": ("Ti 0 0 0\n", "x.xyz:1: expected the number of atoms, got 'Ti 0 0 0'"),
    "only a count": ("2\n", "x.xyz:1: expected 2 atoms, got 0"),
    "no number": (FRAME.replace("1.5 ", "1.5o "), "x.xyz:4: expected a number, got '1.5o'"),
    "not a number": (
        FRAME.replace("1.5 ", "nan "),
        "x.xyz:4: expected finite positions, got NaN or infinity",
    ),
    "an infinite force": (
        FRAME.replace("-0.3", "inf"),
        "x.xyz:4: expected finite forces, got NaN or infinity",
    ),
    "a force that is no number": (FRAME.replace(" 0.3", " nan"), "x.xyz:3: expected finite forces"),
    "forces of one column": (
        "1\nProperties=species:S:1:pos:R:3:forces:R:1\nO 0 0 0 1\n",
        "x.xyz:2: expected three columns for forces, got 1",
    ),
    "forces of six columns": (
        "1\nProperties=species:S:1:pos:R:3:forces:R:6\nO 0 0 0 1 2 3 4 5 6\n",
        "x.xyz:2: expected three columns for forces, got 6",
    ),
    "positions of two columns": (
        "1\nProperties=species:S:1:pos:R:2\nO 0 0\n",
        "x.xyz:2: expected three columns for pos, got 2",
    ),
    "no positions": ("1\nProperties=species:S:1\nO\n", "x.xyz:2: expected three columns for pos, got none"),
    "no elements": ("1\nProperties=pos:R:3\n0 0 0\n", "x.xyz:1: expected a column species or Z, got neither"),
    "an element of number zero": (
        "1\nProperties=Z:I:1:pos:R:3\n0 0 0 0\n",
        "x.xyz:3: expected an atomic number, got '0'",
    ),
    "a trillion columns": (
        FRAME.replace("forces:R:3", "forces:R:3:a:R:1000000000000"),
        "x.xyz:3: expected 1000000000007 columns, got 7",
    ),
    "a negative number of columns": (
        FRAME.replace("forces:R:3", "forces:R:-3"),
        "x.xyz:2: expected Properties as name:type:columns",
    ),
    "two columns of one name": (
        FRAME.replace(COLUMNS, "Properties=species:S:1:forces:R:3:forces:R:3"),
        "x.xyz:2: expected each column once, got a second 'forces'",
    ),
    "a comment without end": (
        FRAME.replace(LATTICE, LATTICE + " " * 2**20),
        "x.xyz:2: expected a comment of at most 1048576 characters, got a longer one",
    ),
    "two energies": (
        FRAME.replace("energy=-19.25", "energy=-19.25 energy=-20"),
        "x.xyz:2: expected each key once, got a second 'energy'",
    ),
    "two energies apart": (
        FRAME.replace("2\n", "2\nenergy = -20 ", 1),
        "x.xyz:2: expected each key once, got a second 'energy'",
    ),
    "two cells": (
        FRAME.replace(LATTICE, f"{LATTICE} {LATTICE.replace('4.0', '4.5')}"),
        "x.xyz:2: expected each key once, got a second 'Lattice' with another value",
    ),
    "periodicity of two axes": (
        FRAME.replace(LATTICE, f'{LATTICE} pbc="T T"'),
        "x.xyz:2: expected T or F for each axis in pbc, got",
    ),
    "periodicity of words": (
        FRAME.replace(LATTICE, f'{LATTICE} pbc="yes no no"'),
        "x.xyz:2: expected T or F for each axis in pbc, got 'yes no no'",
    ),
    "a column too few": (FRAME.replace(" 0.25", ""), "x.xyz:4: expected 7 columns, got 6"),
    "a column too many": (FRAME.replace(" 0.25", " 0.25 1"), "x.xyz:4: expected 7 columns, got 8"),
    "no element": (FRAME.replace("Ti ", "Xx "), "x.xyz:3: expected a chemical symbol, got 'Xx'"),
    "the sign for no element": (FRAME.replace("Ti ", "X "), "x.xyz:3: expected a chemical symbol, got 'X'"),
    "unreadable columns": (FRAME.replace(COLUMNS, "Properties=pos"), "x.xyz:2: expected Properties as"),
    "an unreadable lattice": (FRAME.replace("4.0 ", ""), "x.xyz:2: expected nine numbers for Lattice, got 8"),
    "a lattice that stands alone": (
        FRAME.replace(LATTICE, "Lattice"),
        "x.xyz:2: expected nine numbers for Lattice, got 0",
    ),
    "a lattice in quotes and brackets": (
        FRAME.replace(LATTICE, LATTICE + "}"),
        "x.xyz:2: expected nine numbers for Lattice, got '6.0\"}'",
    ),
    "elements of two columns": (
        "1\nProperties=species:S:2:pos:R:3\nO O 0 0 0\n",
        "x.xyz:2: expected one column for species, got 2",
    ),
    "numbers of three columns": (
        "1\nProperties=Z:I:3:pos:R:3\n8 8 8 0 0 0\n",
        "x.xyz:2: expected one column for Z, got 3",
    ),
    "columns of an unknown type": (
        FRAME.replace("forces:R", "forces:X"),
        "x.xyz:2: expected Properties as name:type:columns, got",
    ),
    "a force beyond all numbers": (
        "1\nProperties=species:S:1:pos:R:3:forces:I:3\nO 0 0 0 1 2 1" + 400 * "0" + "\n",
        "x.xyz:3: expected finite forces, got NaN or infinity",
    ),
    "a flat cell": (
        FRAME.replace("0.5 0.0 6.0", "0.5 1.0 0.0"),
        "x.xyz:2: expected independent cell vectors, got vectors that span no volume",
    ),
    "an infinite cell": (
        FRAME.replace("6.0", "inf"),
        "x.xyz:2: expected nine numbers for Lattice, got 'inf'",
    ),
    "a cell with underscores": (
        FRAME.replace("6.0", "6_0"),
        "x.xyz:2: expected nine numbers for Lattice, got '6_0'",
    ),
    "an energy with underscores": (
        FRAME.replace("energy=-19.25", "energy=-1_9"),
        "x.xyz:2: expected a finite number for energy, got '-1_9'",
    ),
    "a coordinate with underscores": (
        FRAME.replace(" 0.25", " 2_0"),
        "x.xyz:4: expected a number, got '2_0'",
    ),
    "a coordinate in other digits": (
        FRAME.replace(" 0.25", " \u0662"),
        "x.xyz:4: expected a number, got '\u0662'",
    ),
    "two cells by two spellings": (
        FRAME.replace(LATTICE, f"{LATTICE} {LATTICE.lower().replace('4.0', '4.5')}"),
        "x.xyz:2: expected each key once, got a second 'Lattice' with another value",
    ),
    "a cell by another name": (FRAME.replace("Lattice", "cell"), "x.xyz:2: expected Lattice, got 'cell'"),
    "positions of two names": (
        FRAME.replace("forces:R:3", "positions:R:3"),
        "x.xyz:2: expected one of the columns pos and positions, got both",
    ),
    "positions that are true or false": (
        FRAME.replace("pos:R:3", "pos:L:3"),
        "x.xyz:2: expected type R or I for pos, got 'L'",
    ),
    "forces that are true or false": (
        FRAME.replace("forces:R:3", "forces:L:3"),
        "x.xyz:2: expected type R or I for forces, got 'L'",
    ),
    "an element of number 999": (
        FRAME_OF_NUMBERS.replace("22 ", "999 "),
        "x.xyz:3: expected an atomic number, got '999'",
    ),
    "an element of number -8": (
        FRAME_OF_NUMBERS.replace("\n8 ", "\n-8 "),
        "x.xyz:4: expected an atomic number, got '-8'",
    ),
    "a symbol and the number of another element": (
        "1\nProperties=species:S:1:pos:R:3:Z:I:1\nTi 0 0 0 8\n",
        "x.xyz:3: expected the atomic number of Ti, got '8'",
    ),
    "a number cut short": (FRAME[:-2], "x.xyz:4: expected a newline after the last row"),
    "nothing": ("", "x.xyz: expected text, got an empty file"),
}


@pytest.mark.parametrize(("text", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_what_cannot_be_trusted_is_refused_with_its_line(text: str, expected: str) -> None:
    (error,) = read(text)
    assert isinstance(error, InputError)
    assert expected in str(error)


@pytest.mark.parametrize(
    "bad", [FRAME.replace("2\n", "3\n", 1), FRAME + "O 1 1 1 0 0 0\n", FRAME.replace("Ti", "?")]
)
def test_a_bad_frame_does_not_stop_the_others(bad: str) -> None:
    first, error, third = read(FRAME + bad + FRAME)
    assert isinstance(first, Structure)
    assert isinstance(error, InputError)
    assert isinstance(third, Structure)
    assert third.name == "x-3"


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(FRAME) - 1):
        found = read(FRAME[:length])
        assert [type(item) for item in found] == [InputError], FRAME[:length]


def test_a_frame_without_atoms_is_an_error_of_its_own() -> None:
    good = "1\nenergy=-1\nO 0 0 0\n"
    for text, places in ((f"0\n\n{good}", [0]), (f"{good}0\nenergy=0\n{good}00\n", [1, 3])):
        found = list(iter_extxyz(text, name="x", file="x.xyz"))
        errors = [k for k, item in enumerate(found) if isinstance(item, InputError)]
        assert errors == places
        assert all("expected atoms, got none" in str(found[k]) for k in places)
