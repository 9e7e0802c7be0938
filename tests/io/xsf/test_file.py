from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import structures

from tio2nn.errors import InputError
from tio2nn.io.xsf.file import iter_xsf, parse_xsf, write_xsf
from tio2nn.structures.structure import Structure

WRITABLE = ((True, True, True), (True, True, False), (True, False, False), (False, False, False))

CRYSTAL = """\
# total energy = -19.25000000 eV

CRYSTAL
PRIMVEC
        4.00000000     0.00000000     0.00000000
        0.00000000     5.00000000     0.00000000
        0.50000000     0.00000000     6.00000000
PRIMCOORD
3 1
Ti      0.00000000     0.00000000     0.00000000     0.10000000     0.20000000     0.30000000
O       1.50000000     1.00000000     0.25000000    -0.10000000     0.00000000     0.00000000
O      -1.50000000     1.00000000     0.75000000     0.00000000    -0.20000000    -0.30000000
"""
VECTORS = "PRIMVEC\n4 0 0\n0 5 0\n0.5 0 6\n"


def parse(text: str | bytes) -> Structure:
    (structure,) = parse_xsf(text, name="x", file="x.xsf")
    return structure


def complaint(text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse_xsf(text, name="x", file="x.xsf")
    return str(caught.value)


def assert_same(one: Structure, other: Structure, tolerance: float = 0.0) -> None:
    assert one.elements == other.elements
    assert one.periodic == other.periodic
    np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=tolerance)
    axes = list(one.periodic)
    np.testing.assert_allclose(one.cell[axes], other.cell[axes], rtol=0, atol=tolerance)
    assert (one.forces is None) == (other.forces is None)
    if one.forces is not None and other.forces is not None:
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=tolerance)


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


def test_only_periodic_vectors_have_to_span_something() -> None:
    flat = "PRIMVEC\n4 0 0\n0 5 0\n0 0 0\nPRIMCOORD\n1 1\nO 0 0 0\n"
    assert parse("SLAB\n" + flat).periodic == (True, True, False)
    assert complaint("CRYSTAL\n" + flat) == (
        "x.xsf:2: expected independent cell vectors, got vectors that span no volume"
    )


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


ERRORS = {
    "fewer rows": (CRYSTAL.replace("3 1\n", "4 1\n"), "x.xsf:9: expected 4 atoms, got 3"),
    "a million announced": (CRYSTAL.replace("3 1", "1000000 1"), "x.xsf:9: expected 1000000 atoms, got 3"),
    "more rows": (CRYSTAL.replace("3 1\n", "2 1\n"), "x.xsf:12: expected 2 atoms, got another row: 'O'"),
    "rubbish behind": (CRYSTAL + "THE END\n", "x.xsf:13: expected 3 atoms, got another row: 'THE'"),
    "no atoms": (
        CRYSTAL.replace("3 1\n", "0 1\n"),
        "x.xsf:9: expected the number of atoms and 1 after PRIMCOORD, got '0 1'",
    ),
    "a negative count": (
        CRYSTAL.replace("3 1\n", "-3 1\n"),
        "number of atoms and 1 after PRIMCOORD, got '-3 1'",
    ),
    "no number": (
        CRYSTAL.replace("1.50000000 ", "1.5o000000 ", 1),
        "x.xsf:11: expected a finite number, got",
    ),
    "an overflow of Fortran": (
        CRYSTAL.replace("-0.10000000", "***********"),
        "x.xsf:11: expected a finite number",
    ),
    "not a number": (CRYSTAL.replace("0.25000000", "nan"), "x.xsf:11: expected a finite number, got 'nan'"),
    "infinity": (CRYSTAL.replace("0.25000000", "1e999"), "x.xsf:11: expected a finite number, got '1e999'"),
    "a number of Python only": (CRYSTAL.replace("0.25000000", "0.2_5"), "x.xsf:11: expected a finite number"),
    "digits of another script": (CRYSTAL.replace("0.25000000", "٢"), "x.xsf:11: expected a finite number"),
    "an infinite cell": (
        CRYSTAL.replace("5.00000000", "inf"),
        "x.xsf:6: expected a finite number, got 'inf'",
    ),
    "a row too short": (CRYSTAL.replace("     0.25000000", "", 1), "x.xsf:11: expected 6 numbers, got 5"),
    "a row without forces": (CRYSTAL[:-46] + "\n", "x.xsf:12: expected 6 numbers, got 3"),
    "two numbers": ("ATOMS\nO 0 0\n", "x.xsf:2: expected 3 or 6 numbers, got 2"),
    "no element": (
        CRYSTAL.replace("Ti ", "Xx "),
        "x.xsf:10: expected a chemical symbol or an atomic number, got 'Xx'",
    ),
    "atomic number 119": (
        CRYSTAL.replace("Ti ", "119 "),
        "expected a chemical symbol or an atomic number, got '119'",
    ),
    "a flat cell": (
        CRYSTAL.replace("0.50000000     0.00000000     6.0", "0.50000000     1.00000000     0.0"),
        "x.xsf:4: expected independent cell vectors",
    ),
    "two cell vectors": (
        CRYSTAL.replace("        0.50000000     0.00000000     6.00000000\n", ""),
        "x.xsf:4: expected 3 cell vectors after PRIMVEC, got 2",
    ),
    "four cell vectors": (
        CRYSTAL.replace("PRIMCOORD", "1 1 1\nPRIMCOORD"),
        "x.xsf:8: expected 3 cell vectors after PRIMVEC, got 4",
    ),
    "two atoms at one place": (
        CRYSTAL.replace("-1.50000000     1.00000000     0.75000000", "1.5 1.0 .25"),
        "x.xsf:12: expected distinct positions, got the position of line 11 again",
    ),
    "no PRIMVEC": (re.sub("PRIMVEC\n(.*\n){3}", "", CRYSTAL), "expected PRIMVEC for PRIMCOORD, got none"),
    "two PRIMVEC": (CRYSTAL + VECTORS, "x.xsf:13: expected one PRIMVEC, got two; the other is in line 4"),
    "a PRIMVEC of one frame beside that of all": (
        CRYSTAL + VECTORS.replace("PRIMVEC", "PRIMVEC 1"),
        "x.xsf:13: expected one PRIMVEC, got two; the other is in line 4",
    ),
    "a PRIMVEC of a frame that there is none of": (
        CRYSTAL + VECTORS.replace("PRIMVEC", "PRIMVEC 2"),
        "x.xsf:13: expected PRIMVEC for frames up to 1, got 2",
    ),
    "no word for the periodicity": (
        CRYSTAL.replace("CRYSTAL\n", ""),
        "x.xsf:7: expected CRYSTAL, SLAB, POLYMER or MOLECULE in front of PRIMCOORD, got none",
    ),
    "two words for the periodicity": (CRYSTAL + "SLAB\n", "x.xsf:13: expected one CRYSTAL, got SLAB as well"),
    "rows in front of keywords": ("Ti 0 0 0\n" + CRYSTAL, "x.xsf:1: expected CRYSTAL, SLAB"),
    "rows behind CRYSTAL": (
        CRYSTAL.replace("CRYSTAL\n", "CRYSTAL\n1 2 3\n"),
        "x.xsf:4: expected a keyword after",
    ),
    "ATOMS in a crystal": (
        "CRYSTAL\nATOMS\nO 0 0 0\n",
        "x.xsf:2: expected PRIMCOORD in a CRYSTAL, got ATOMS",
    ),
    "ATOMS beside PRIMCOORD": (
        CRYSTAL + "ATOMS\nO 0 0 0\n",
        "x.xsf:13: expected only PRIMCOORD, got ATOMS as well",
    ),
    "ATOMS without atoms": ("ATOMS\n", "x.xsf:1: expected atoms after ATOMS, got none"),
    "only a cell": ("CRYSTAL\n" + VECTORS, "x.xsf:5: expected PRIMCOORD or ATOMS, got neither"),
    "a second structure": (CRYSTAL + "PRIMCOORD\n1 1\nO 0 0 0\n", "x.xsf:13: expected 1 frame, got another"),
    "frames out of order": (
        "ANIMSTEPS 2\nATOMS 2\nO 0 0 0\nATOMS 1\nO 0 0 1\n",
        "x.xsf:2: expected ATOMS 1, got ATOMS 2",
    ),
    "a frame without number": ("ANIMSTEPS 1\nATOMS\nO 0 0 0\n", "x.xsf:2: expected ATOMS 1, got ATOMS"),
    "no number of a frame": (
        "ANIMSTEPS 1\nATOMS one\nO 0 0 0\n",
        "x.xsf:2: expected a frame number after ATOMS",
    ),
    "no number of frames": (
        "ANIMSTEPS\nATOMS 1\nO 0 0 0\n",
        "x.xsf:1: expected one ANIMSTEPS with the number of frames",
    ),
    "a data grid cut short": (
        CRYSTAL + "BEGIN_BLOCK_DATAGRID_3D\n 1 2 3\n",
        "x.xsf:13: expected END_BLOCK_DATAGRID_3D, got the end of the file",
    ),
    "no energy in the comment": (
        CRYSTAL.replace("-19.25000000", "unknown"),
        "x.xsf:1: expected a total energy in eV",
    ),
    "another unit": (
        CRYSTAL.replace(" eV", " Ry"),
        "x.xsf:1: expected a total energy in eV, got '-19.25000000 Ry'",
    ),
    "two energies": (
        CRYSTAL + "# total energy = -20 eV\n",
        "x.xsf:13: expected one total energy, got -19.25 (line 1) and -20.0",
    ),
    "one energy for two frames": (
        "# total energy = -1 eV\nANIMSTEPS 2\nATOMS 1\nO 0 0 0\nATOMS 2\nO 0 0 1\n",
        "x.xsf:1: expected a total energy for each of 2 frames or for none, got one",
    ),
    "two energies for one frame": (
        "ANIMSTEPS 2\nATOMS 1\nO 0 0 0\n# total energy = -1 eV\n# total energy = -2 eV\nATOMS 2\nO 0 0 1\n",
        "x.xsf:5: expected one total energy for frame 1, got a second",
    ),
    "an energy cut short": (
        CRYSTAL.partition("\n")[2] + "# total energy = -19.2",
        "x.xsf:12: expected a newline after the energy, got the end of the file: truncated?",
    ),
    "a number cut short": (
        CRYSTAL[:-2],
        "x.xsf:12: expected a newline after the last row, got the end of the file",
    ),
    "nothing": ("", "x.xsf: expected text, got an empty file"),
    "blanks": (" \n\n", "x.xsf: expected text, got an empty file"),
    "UTF-16": (CRYSTAL.encode("utf-16"), "x.xsf: expected UTF-8 text, got UTF-16"),
    "binary data": (CRYSTAL.encode() + b"\x00\x01\xff", "x.xsf:13: expected text, got binary data"),
    "binary data in UTF-8": (CRYSTAL.encode() + b"\x07", "x.xsf:13: expected text, got binary data"),
}


@pytest.mark.parametrize(("text", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_what_cannot_be_trusted_is_refused_with_its_line(text: str | bytes, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize(
    "value", ["-1.5 eV/atom", "-1.5eV/atom", "-1.5 eV per atom", "-1 2.5 eV", "-1.5eV eV", ""]
)
def test_an_energy_with_more_than_its_unit_behind_is_refused(value: str) -> None:
    expected = f"x.xsf:1: expected a total energy in eV, got {value!r}"
    assert complaint(CRYSTAL.replace("-19.25000000 eV", value)) == expected


def test_messages_stay_on_one_readable_line() -> None:
    assert len(complaint(CRYSTAL.replace("Ti ", "Ti" * 5000 + " "))) < 200


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


@given(st.data())
def test_damage_of_any_kind_raises_nothing_but_input_errors(data: st.DataObject) -> None:
    text = bytearray(CRYSTAL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(start + 20, len(text))))
        text[start:stop] = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"\n", b" 1", b"PRIMVEC\n", b"ATOMS\n"])
        )
    for item in iter_xsf(bytes(text), name="x", file="x.xsf"):
        assert isinstance(item, Structure | InputError)
        if isinstance(item, Structure):
            assert np.isfinite(item.positions).all()


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


@pytest.mark.parametrize("row", ["4 1", "3 1 1", "three 1", "3 x", "", "3 1\n3 1"])
def test_no_number_of_periodic_axes_is_refused(row: str) -> None:
    assert "DIM-GROUP" in complaint(CRYSTAL.replace("CRYSTAL", f"DIM-GROUP\n{row}")) or row == "3 1\n3 1"
    complaint(CRYSTAL.replace("CRYSTAL", f"CRYSTAL\nDIM-GROUP\n{row}"))


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


def test_another_unit_of_forces_and_two_units_are_refused() -> None:
    assert complaint(f"# forces in Ry/Bohr\n{CRYSTAL}") == (
        "x.xsf:1: expected forces in eV/Å or Ha/Å, got 'Ry/Bohr'"
    )
    assert complaint(f"# forces in eV/A\n# forces in Ha/A\n{CRYSTAL}") == (
        "x.xsf:2: expected one unit of forces, got a second"
    )


@pytest.mark.parametrize("number", ["0.000000000000", "1.500000", "-2.25000000"])
def test_an_atom_alone_needs_no_line_end_where_its_numbers_are_visibly_whole(number: str) -> None:
    row = " ".join([number] * 6)
    assert parse(f"# total energy = -3.1 eV\n\nATOMS\nCu {row}").n_atoms == 1
    assert "expected a newline after the last row" in complaint(f"ATOMS\nCu {row[:-1]}")


@pytest.mark.parametrize("row", ["0 0 0 0 0 0.1", "0 0 0 0 0 0", "0.1 0.1 0.1 0.1 0.1 0.1"])
def test_an_atom_alone_that_may_be_cut_short_is_refused(row: str) -> None:
    assert "expected a newline after the last row" in complaint(f"ATOMS\nCu {row}")
