"""XSF files: every dialect is read, and what was written comes back."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import structures
from xsf_texts import CRYSTAL, VECTORS, assert_same, complaint, parse

from tio2nn.errors import InputError
from tio2nn.io.xsf.file import iter_xsf, parse_xsf, write_xsf
from tio2nn.structures.structure import Structure

WRITABLE = ((True, True, True), (True, True, False), (True, False, False), (False, False, False))


def test_a_file_of_aenet_is_read_in_full() -> None:
    structure = parse(CRYSTAL)
    assert structure.name == "x"
    assert structure.file == "x.xsf"
    assert structure.line == 3
    assert structure.elements == ("Ti", "O", "O")
    assert structure.periodic == (True, True, True)
    assert structure.energy == -19.25
    np.testing.assert_array_equal(structure.cell, [[4, 0, 0], [0, 5, 0], [0.5, 0, 6]])
    np.testing.assert_array_equal(structure.positions[2], [-1.5, 1.0, 0.75])
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces[0], [0.1, 0.2, 0.3])


def test_writing_gives_the_layout_of_aenet_to_the_last_blank() -> None:
    assert write_xsf(parse(CRYSTAL)) == CRYSTAL


VARIATIONS = {
    "Windows line ends": CRYSTAL.replace("\n", "\r\n"),
    "line ends of old Macs": CRYSTAL.replace("\n", "\r"),
    "a byte order mark": "\ufeff" + CRYSTAL,
    "atomic numbers": CRYSTAL.replace("Ti ", "22 ").replace("O ", "8 "),
    "other capitals": CRYSTAL.replace("Ti ", "TI ").replace("CRYSTAL", "crystal"),
    "Fortran exponents": re.sub(r"(\d\.\d{8})(?! eV)", r"\1D+00", CRYSTAL),
    "short Fortran exponents": re.sub(r"(\d\.\d{8})", r"\1d0", CRYSTAL),
    "comments everywhere": CRYSTAL.replace("\n", "  # what_a line\n# and Å one between\n"),
    "blank lines everywhere": CRYSTAL.replace("\n", "\n\n  \n"),
    "tabs": re.sub(" +", "\t", CRYSTAL).replace("#\ttotal\tenergy", "# total energy"),
    "no line end after a last row that is visibly whole": CRYSTAL[:-1],
    "no 1 behind the count": CRYSTAL.replace("3 1\n", "3\n"),
    "the conventional cell as well": CRYSTAL.replace("PRIMCOORD", "CONVVEC\n8 0 0\n0 5 0\n0 0 6\nPRIMCOORD"),
    "conventional coordinates as well": CRYSTAL + "CONVVEC\n1 0 0\n0 1 0\n0 0 1\nCONVCOORD\n1 1\nO 9 9 9\n",
    "a data grid behind": CRYSTAL
    + "BEGIN_BLOCK_DATAGRID_3D\n my_grid\n BEGIN_DATAGRID_3D_rho\n 2 2 2\n 0 0 0\n 1 2 3\nEND_DATAGRID_3D\n"
    + "END_BLOCK_DATAGRID_3D\n",
    "an information block in front": "BEGIN_INFO\n Fermi Energy: 1.0\nEND_INFO\n" + CRYSTAL,
    "the energy behind": CRYSTAL.partition("\n")[2] + "# total energy = -19.25 eV\n",
    "the energy within": CRYSTAL.partition("\n")[2].replace("3 1", "3 1 # total energy = -1.925D1 eV"),
    "the energy twice": CRYSTAL + "# Total Energy: -19.25 eV\n",
    "a unit that sticks": CRYSTAL.replace(" eV", "eV"),
    "a unit in other letters": CRYSTAL.replace(" eV", "   EV  "),
    "a comment behind the energy": CRYSTAL.replace(" eV", " eV # by hand, 2 of 3"),
    "no unit": CRYSTAL.replace(" eV", ""),
    "a single frame of an animation": "ANIMSTEPS 1\n" + CRYSTAL.replace("PRIMCOORD", "PRIMCOORD 1"),
}


@pytest.mark.parametrize("text", VARIATIONS.values(), ids=VARIATIONS.keys())
def test_the_same_structure_is_read_whatever_the_dialect(text: str) -> None:
    structure = parse(text.encode())
    assert_same(structure, parse(CRYSTAL))
    assert structure.energy == -19.25


def test_latin1_comments_of_older_programs_are_read() -> None:
    assert_same(parse(("# lengths in Å\n" + CRYSTAL).encode("latin-1")), parse(CRYSTAL))


def test_a_slab_repeats_along_two_vectors_a_polymer_along_one_and_a_molecule_along_none() -> None:
    assert parse(CRYSTAL.replace("CRYSTAL", "SLAB")).periodic == (True, True, False)
    assert parse(CRYSTAL.replace("CRYSTAL", "POLYMER")).periodic == (True, False, False)
    molecule = parse("MOLECULE\nATOMS\nO 0 0 0\nH 0 0 1\n")
    assert molecule.periodic == (False, False, False)
    assert molecule.energy is None
    assert molecule.forces is None
    assert_same(molecule, parse("ATOMS\n8 0 0 0\n1 0 0 1\n"))
    assert_same(molecule, parse("MOLECULE\nPRIMCOORD\n2 1\n8 0 0 0\n1 0 0 1\n"))


def test_a_conventional_cell_alone_is_a_structure() -> None:
    text = "CRYSTAL\nCONVVEC\n4 0 0\n0 5 0\n0 0 6\nCONVCOORD\n1 1\nO 0 0 0\n"
    np.testing.assert_array_equal(parse(text).cell, np.diag([4.0, 5.0, 6.0]))
    assert "expected PRIMVEC for PRIMCOORD, got none" in complaint(text.replace("CONVCOORD", "PRIMCOORD"))


def test_frames_in_a_fixed_cell_share_it() -> None:
    rows = "".join(f"# total energy = -{k} eV\nPRIMCOORD {k}\n1 1\nO 0 0 0.{k}\n" for k in (1, 2, 3))
    frames = parse_xsf(f"ANIMSTEPS 3\nCRYSTAL\n{VECTORS}{rows}", name="md", file="md.axsf")
    assert [frame.name for frame in frames] == ["md-1", "md-2", "md-3"]
    assert [frame.energy for frame in frames] == [-1.0, -2.0, -3.0]
    assert [frame.positions[0, 2] for frame in frames] == [0.1, 0.2, 0.3]
    assert [frame.line for frame in frames] == [8, 12, 16]
    assert all(frame.cell[1, 1] == 5.0 for frame in frames)


def test_frames_in_a_variable_cell_have_their_own() -> None:
    rows = "".join(
        f"PRIMVEC {k}\n{k} 0 0\n0 5 0\n0 0 6\nPRIMCOORD {k}\n1 1\nO 0 0 0\n# total energy = -{k} eV\n"
        for k in (1, 2)
    )
    frames = parse_xsf(f"ANIMSTEPS 2\nCRYSTAL\n{rows}", name="md", file="md.xsf")
    assert [frame.cell[0, 0] for frame in frames] == [1.0, 2.0]
    assert [frame.energy for frame in frames] == [-1.0, -2.0]
    assert [frame.line for frame in frames] == [3, 11]


def test_molecules_move_in_frames_of_atoms() -> None:
    frames = parse_xsf("ANIMSTEPS 2\nATOMS 1\nO 0 0 0\nATOMS 2\nO 0 0 1\n", name="m", file="m.xsf")
    assert [frame.positions[0, 2] for frame in frames] == [0.0, 1.0]


def test_a_bad_frame_does_not_stop_the_others() -> None:
    text = "ANIMSTEPS 3\nATOMS 1\nO 0 0 0\nATOMS 2\nO 0 zero 1\nATOMS 3\nO 0 0 2\n"
    first, second, third = iter_xsf(text, name="m", file="m.xsf")
    assert isinstance(first, Structure)
    assert isinstance(third, Structure)
    assert third.name == "m-3"
    assert str(second) == "m.xsf:5: expected a finite number, got 'zero'"


def test_frames_that_were_announced_and_did_not_come_are_missed() -> None:
    *frames, shortage = iter_xsf("ANIMSTEPS 5\nATOMS 1\nO 0 0 0\nATOMS 2\nO 0 0 1\n", name="m", file="m.xsf")
    assert len(frames) == 2
    assert str(shortage) == "m.xsf:1: expected 5 frames, got 2: truncated?"


def labeled() -> st.SearchStrategy[Structure]:
    """Structures with and without energy and forces."""
    plain = structures(elements=("Ti", "O", "H", "Og"), periodicities=WRITABLE)
    energies = st.none() | st.floats(-1e5, 1e5)
    scales = st.none() | st.floats(0.01, 100.0)
    return st.builds(
        lambda structure, energy, scale: replace(
            structure, energy=energy, forces=None if scale is None else structure.positions[::-1] * scale
        ),
        plain,
        energies,
        scales,
    )


@given(labeled())
def test_reading_what_was_written_gives_the_printed_digits(structure: Structure) -> None:
    read = parse(write_xsf(structure))
    assert_same(read, structure, tolerance=0.5001e-8)
    assert read.energy == (None if structure.energy is None else pytest.approx(structure.energy, abs=1e-8))
    assert write_xsf(read) == write_xsf(structure)


@given(labeled(), st.data(), st.booleans(), st.booleans())
def test_a_file_cut_anywhere_is_refused_or_read_right(
    structure: Structure, data: st.DataObject, energy_behind: bool, shortest_numbers: bool
) -> None:
    text = write_xsf(structure, decimals=12)
    if text.startswith("ATOMS") or "\nATOMS" in text:
        text = text.replace("ATOMS\n", f"MOLECULE\nPRIMCOORD\n{structure.n_atoms} 1\n")
    if shortest_numbers:
        text = re.sub(r"(\.\d+?)0+(?=\s)", r"\1", text)
    if energy_behind and text.startswith("#"):
        comment, _, rest = text.partition("\n")
        text = f"{rest}{comment}\n"
    whole = parse(text)
    try:
        cut = parse(text[: data.draw(st.integers(0, len(text) - 1))])
    except InputError:
        return
    if structure.n_atoms == 1 and cut.forces is None:
        # no other row tells that a row of one atom ended after its position, where the cut happens to be
        whole = replace(whole, forces=None)
    assert_same(cut, whole)
    assert cut.energy in (whole.energy, None)


def test_a_slab_that_is_periodic_along_other_axes_cannot_be_written() -> None:
    structure = replace(parse(CRYSTAL), periodic=(True, False, True))
    with pytest.raises(ValueError, match="expected the periodic axes first, as XSF demands"):
        write_xsf(structure)


def test_wide_numbers_stay_apart() -> None:
    structure = replace(parse(CRYSTAL), positions=parse(CRYSTAL).positions - 123456789.0)
    assert_same(parse(write_xsf(structure)), structure, tolerance=1e-7)


@pytest.mark.parametrize(("row", "word"), [("3 1", "CRYSTAL"), ("2 1", "SLAB"), ("1 1", "POLYMER")])
def test_the_number_of_periodic_axes_means_what_a_word_means(row: str, word: str) -> None:
    assert_same(
        parse(CRYSTAL.replace("CRYSTAL", f"DIM-GROUP\n {row}")), parse(CRYSTAL.replace("CRYSTAL", word))
    )


def test_a_molecule_has_no_periodic_axes() -> None:
    assert parse("DIM-GROUP\n0 1\nPRIMCOORD\n1 1\nO 0 0 0\n").periodic == (False, False, False)
    frames = "".join(f"PRIMCOORD {k}\n1 1\nO 0 0 0.{k}\n" for k in (1, 2))
    found = parse_xsf(f"ANIMSTEPS 2\nDIM-GROUP\n 3 1\n{VECTORS}{frames}", name="m", file="m.axsf")
    assert [frame.periodic for frame in found] == [(True, True, True)] * 2


FORCES = ((0.1, 0.2, 0.3), (-0.1, 0.0, 0.0), (0.0, -0.2, -0.3))


@pytest.mark.parametrize("unit", ["Ha/A", "Ha/Å", "Hartree/Angstrom", "ha/ang"])
def test_forces_in_the_unit_that_a_comment_states_are_converted(unit: str) -> None:
    forces = parse(f"# forces in {unit}\n{CRYSTAL}").forces
    assert forces is not None
    np.testing.assert_allclose(forces, 27.211386024367243 * np.array(FORCES), rtol=1e-15)


def test_a_comment_on_forces_wins_over_the_unit_of_files_without() -> None:
    for text, factor in ((CRYSTAL, 27.211386024367243), (f"# forces in eV/Angstrom\n{CRYSTAL}", 1.0)):
        (structure,) = iter_xsf(text, name="x", file="x.xsf", forces="Ha/A")
        assert isinstance(structure, Structure)
        assert structure.forces is not None
        np.testing.assert_allclose(structure.forces, factor * np.array(FORCES), rtol=1e-15)


@pytest.mark.parametrize("number", ["0.000000000000", "1.500000", "-2.25000000"])
def test_an_atom_alone_needs_no_line_end_where_its_numbers_are_visibly_whole(number: str) -> None:
    row = " ".join([number] * 6)
    assert parse(f"# total energy = -3.1 eV\n\nATOMS\nCu {row}").n_atoms == 1
    assert "expected a newline after the last row" in complaint(f"ATOMS\nCu {row[:-1]}")
