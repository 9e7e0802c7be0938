"""Texts of XSF files, and what is read of them."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.io.xsf.file import parse_xsf
from tio2nn.structures.structure import Structure

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
    """The one structure of a text."""
    (structure,) = parse_xsf(text, name="x", file="x.xsf")
    return structure


def complaint(text: str | bytes) -> str:
    """Why a text is refused."""
    with pytest.raises(InputError) as caught:
        parse_xsf(text, name="x", file="x.xsf")
    return str(caught.value)


def assert_same(one: Structure, other: Structure, tolerance: float = 0.0) -> None:
    """The same atoms and cell, energies aside, within a tolerance, Å and eV/Å."""
    assert one.elements == other.elements
    assert one.periodic == other.periodic
    np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=tolerance)
    axes = list(one.periodic)
    np.testing.assert_allclose(one.cell[axes], other.cell[axes], rtol=0, atol=tolerance)
    assert (one.forces is None) == (other.forces is None)
    if one.forces is not None and other.forces is not None:
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=tolerance)
