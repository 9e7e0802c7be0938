"""POSCAR files, as ASE reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from projects import structures

from tio2nn.io.poscar import write_poscar


def test_ase_reads_the_same_structure(tmp_path: Path) -> None:
    for structure in structures()[:5]:
        path = tmp_path / "POSCAR"
        path.write_text(write_poscar(structure, "1 some/file.xyz#3"), encoding="utf-8")
        atoms = ase.io.read(path)
        order = sorted(
            range(structure.n_atoms), key=lambda k: structure.elements.index(structure.elements[k])
        )
        assert atoms.get_chemical_symbols() == [structure.elements[k] for k in order]
        np.testing.assert_allclose(atoms.positions, structure.positions[order], rtol=0, atol=1e-12)
        np.testing.assert_allclose(atoms.cell[:], structure.cell, rtol=0, atol=1e-14)
        assert path.read_text(encoding="utf-8").splitlines()[0] == "1 some/file.xyz#3"


def test_a_slab_is_refused() -> None:
    slab = replace(structures()[0], periodic=(True, True, False))
    with pytest.raises(
        ValueError, match=r"expected three periodic axes, as POSCAR demands, got \(True, True, False\)"
    ):
        write_poscar(slab, "")
