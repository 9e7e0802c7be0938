"""Extended XYZ as it is written again with predictions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase.io import read as ase_read

from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.extxyz_text import Predicted, write_extxyz
from tio2nn.structures.structure import Structure


@pytest.mark.parametrize(
    "stress",
    [
        '"_JSON [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]"',
        "[[1, 6, 5], [6, 2, 4], [5, 4, 3]]",
        '"1 2 3 4 5 6"',
    ],
)
def test_the_source_is_written_as_ase_reads_it(stress: str) -> None:
    text = f'1\nLattice="5 0 0 0 5 0 0 0 5" config_type= energy=-1 stress={stress}\nCu 0 0 0\n'
    (structure,) = iter_extxyz(text, name="x", file="x.xyz")
    assert isinstance(structure, Structure), structure
    atoms = ase_read(io.StringIO(write_extxyz(structure, Predicted(-2.0))), format="extxyz")
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert atoms.get_potential_energy() == -1.0
