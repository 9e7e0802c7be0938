"""What the comment line of extended XYZ says, as several programs write it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tio2nn.errors import InputError
from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.extxyz_comment import Comment
from tio2nn.structures.structure import Structure

LATTICE = "4.0 0.0 0.0 0.0 5.0 0.0 0.5 0.0 6.0"


def read(comment: str) -> Structure:
    (item,) = iter_extxyz(f"1\n{comment}\nCu 0 0 0 0.1 0.2 0.3\n", name="x", file="x.xyz")
    assert isinstance(item, Structure), item
    return item


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a= b=1", {"a": "", "b": "1"}),
        ("a= b = 1", {"a": "", "b": "1"}),
        ("a = b = 1", {"a": "", "b": "1"}),
        ("a=\tb= c=1", {"a": "", "b": "", "c": "1"}),
        ('a= b="1 2"', {"a": "", "b": "1 2"}),
        ('a= "b"=1', {"a": "", "b": "1"}),
        ("a= flag b=1", {"a": "flag", "b": "1"}),
        ("a= [1, 2] b=1", {"a": "1, 2", "b": "1"}),
        ("a=", {"a": ""}),
        ('a="" b=1', {"a": "", "b": "1"}),
        # a value that holds =
        ("a=b=c d=1", {"a": "b=c", "d": "1"}),
        ("a=b=c=d", {"a": "b=c=d"}),
        ("a=b= c=1", {"a": "b", "c": "1"}),
        # blanks around =
        ("a = 1 b =2 c= 3", {"a": "1", "b": "2", "c": "3"}),
        ("a =b=c", {"a": "b=c"}),
    ],
)
def test_a_key_that_follows_a_blank_is_no_value(text: str, expected: dict[str, str]) -> None:
    assert Comment(text, "x.xyz", 2).written == expected


def test_what_follows_an_empty_value_is_read() -> None:
    comment = (
        f'config_type= Lattice="{LATTICE}" name= energy=-1 Properties=species:S:1:pos:R:3:forces:R:3 note='
    )
    structure = read(comment)
    assert structure.periodic == (True, True, True)
    assert (structure.energy, structure.config_type) == (-1.0, "")
    assert structure.forces is not None
    assert read(f'{comment} pbc="F F F"').periodic == (False, False, False)
    assert structure.extras.info["config_type"] == '""'


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, str])
def test_cell_columns_and_periodicity_may_be_written_in_any_case(change: Callable[[str], str]) -> None:
    lattice, properties, pbc = map(change, ("Lattice", "Properties", "pbc"))
    columns = ":".join([change("species"), "S:1", change("pos"), "R:3:force:R:3"])
    structure = read(f'{lattice}="{LATTICE} " {properties}={columns} {pbc}="1 0 1" Energy=" -1.5"')
    assert structure.cell[2].tolist() == [0.5, 0.0, 6.0]
    assert structure.periodic == (True, False, True)
    assert structure.energy == -1.5
    assert structure.forces is not None
    assert structure.extras.columns.keys() == {"force"}


def test_a_key_may_come_again_with_the_same_value() -> None:
    structure = read(f'Lattice="{LATTICE}" energy=-1 source=a source="a" pbc="T T T" energy=-1 pbc="T T T"')
    assert structure.energy == -1.0
    assert structure.periodic == (True, True, True)
    for text in ("a=1 a=2", "a= a=1", "pbc=T PBC=F"):
        with pytest.raises(
            InputError, match=r"x\.xyz:2: expected each key once, got a second '.*' with another value"
        ):
            Comment(text, "x.xyz", 2)


def test_brackets_that_are_not_closed_take_no_time() -> None:
    assert Comment("a=" + "[" * 2**19, "x.xyz", 2).written.keys() == {"a"}
    assert Comment("a=" + "[b" * 2**18, "x.xyz", 2).written.keys() == {"a"}
