from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tio2nn.structures.audit import audit
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure
from tio2nn.structures.wild_forces import wild_among_few


def chains(n: int) -> list[Structure]:
    """Chains of 2 to 9 atoms of copper."""
    rng = np.random.default_rng(4)
    made = []
    for k in range(n):
        elements = ("Cu",) * int(rng.integers(2, 10))
        positions = np.zeros((len(elements), 3))
        positions[:, 2] = np.cumsum(rng.normal(2.6, 0.05, len(elements)))
        made.append(Structure(f"s{k}", elements, positions, np.zeros((3, 3)), (False,) * 3))
    return made


@pytest.mark.parametrize(("n", "factor", "is_told"), [(4, 1e4, True), (4, 50.0, False), (8, 1e4, False)])
def test_wild_forces_among_few_are_named(n: int, factor: float, is_told: bool) -> None:
    structures = [
        replace(s, energy=-1003.0 * s.n_atoms, forces=np.full((s.n_atoms, 3), 0.5)) for s in chains(n)
    ]
    assert structures[2].forces is not None
    structures[2] = replace(structures[2], forces=factor * structures[2].forces)
    line = wild_among_few(audit(structures, ReferenceEnergies.given({"Cu": -1000.0})))
    assert (line is not None) == is_told
    assert line is None or line.startswith("forces of s2 reach 8,660 eV/Å, those of the others")
