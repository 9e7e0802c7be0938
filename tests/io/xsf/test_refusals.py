"""XSF files that cannot be trusted are refused with their line."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xsf_texts import CRYSTAL, VECTORS, complaint, parse

from tio2nn.errors import InputError
from tio2nn.io.xsf.file import iter_xsf
from tio2nn.structures.structure import Structure


def test_only_periodic_vectors_have_to_span_something() -> None:
    flat = "PRIMVEC\n4 0 0\n0 5 0\n0 0 0\nPRIMCOORD\n1 1\nO 0 0 0\n"
    assert parse("SLAB\n" + flat).periodic == (True, True, False)
    assert complaint("CRYSTAL\n" + flat) == (
        "x.xsf:2: expected independent cell vectors, got vectors that span no volume"
    )


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


@pytest.mark.parametrize("row", ["4 1", "3 1 1", "three 1", "3 x", "", "3 1\n3 1"])
def test_no_number_of_periodic_axes_is_refused(row: str) -> None:
    assert "DIM-GROUP" in complaint(CRYSTAL.replace("CRYSTAL", f"DIM-GROUP\n{row}")) or row == "3 1\n3 1"
    complaint(CRYSTAL.replace("CRYSTAL", f"CRYSTAL\nDIM-GROUP\n{row}"))


def test_another_unit_of_forces_and_two_units_are_refused() -> None:
    assert complaint(f"# forces in Ry/Bohr\n{CRYSTAL}") == (
        "x.xsf:1: expected forces in eV/Å or Ha/Å, got 'Ry/Bohr'"
    )
    assert complaint(f"# forces in eV/A\n# forces in Ha/A\n{CRYSTAL}") == (
        "x.xsf:2: expected one unit of forces, got a second"
    )


@pytest.mark.parametrize("row", ["0 0 0 0 0 0.1", "0 0 0 0 0 0", "0.1 0.1 0.1 0.1 0.1 0.1"])
def test_an_atom_alone_that_may_be_cut_short_is_refused(row: str) -> None:
    assert "expected a newline after the last row" in complaint(f"ATOMS\nCu {row}")
