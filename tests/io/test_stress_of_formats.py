"""Stresses in files of other programs: as they were written, or told in one line why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import outputs
import pytest
from ase.io import read as ase_read
from outputs import ASE_FORMATS, FILES

from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure

WITH_STRESS = {
    **{name: content for name, content in FILES.items() if name in ASE_FORMATS},
    "a.traj": outputs.trajectory(periodic=True),
    "a.db": outputs.database(periodic=True),
}


@pytest.mark.filterwarnings("ignore:FHI-aims IO is moving:FutureWarning")
@pytest.mark.parametrize("name", WITH_STRESS)
def test_the_stress_is_what_was_written_and_as_ase_reads(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WITH_STRESS[name])
    ours = outputs.found(path)
    theirs = ase_read(path, index=":", format=ASE_FORMATS.get(name))
    for structure, atoms in zip(ours, theirs, strict=True):
        assert structure.stress is not None
        assert structure.extras.remarks == ()
        np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-6)
        np.testing.assert_allclose(structure.stress, atoms.get_stress(voigt=False), atol=1e-7)


@pytest.mark.parametrize("name", ["a.traj", "a.db"])
def test_kind_and_weight_of_ase_are_kept(tmp_path: Path, name: str) -> None:
    from ase.db import connect

    (atoms,) = outputs.frames(1)
    atoms.info |= {"config_type": "bulk", "config_weight": 0.25}
    path = tmp_path / name
    if name == "a.db":
        with connect(path) as rows:
            rows.write(atoms, config_type="bulk", config_weight=0.25)
    else:
        atoms.write(path)
    (structure,) = outputs.found(path)
    for one in (structure, Structure.from_ase(atoms), Structure.from_ase(structure.to_ase())):
        assert (one.config_type, one.weight) == ("bulk", 0.25)
    atoms.info["config_weight"] = "heavy"
    with pytest.raises(InputError, match="at least 0 for config_weight, got 'heavy'"):
        Structure.from_ase(atoms)


def test_a_stress_that_cannot_be_learned_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(outputs.vasprun(1, isif=1))
    (structure,) = outputs.found(path)
    assert structure.stress is None
    assert structure.extras.remarks == ("stress ignored: expected ISIF of at least 2, got 1",)
    slab = tmp_path / "slab.traj"
    (atoms,) = outputs.frames(1, periodic=True)
    atoms.pbc = (True, True, False)
    atoms.calc.atoms.pbc = (True, True, False)
    atoms.write(slab)
    (structure,) = outputs.found(slab)
    assert structure.stress is None
    assert structure.extras.remarks == ("stress ignored: expected three periodic axes, got fewer",)


def test_pressure_does_not_count_as_stress(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(outputs.vasprun(1, pstress=100.0))
    np.testing.assert_allclose(outputs.found(path)[0].stress, outputs.STRESS, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "old"), [("vasprun.xml", "35.24788566"), ("relax.pwo", "0.00011981"), ("aims.out", "0.02200000")]
)
def test_a_stress_that_is_no_number_takes_no_part(tmp_path: Path, name: str, old: str) -> None:
    path = tmp_path / name
    text = FILES[name].decode()
    assert old in text
    path.write_text(text.replace(old, "*" * len(old)))
    for structure in outputs.found(path):
        assert structure.stress is None
        assert structure.extras.remarks == ("stress ignored: expected finite numbers, got NaN or infinity",)


def test_a_stress_by_finite_differences_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aims.out"
    words = "  Components of the stress tensor (for mathematical background see comments in numerical_stress.f90).\n"
    path.write_text(outputs.aims().replace("  Energy and forces in a compact form:", words))
    (problem,) = outputs.problems(path)
    assert problem.endswith(
        "expected a single point, got a stress by finite differences, which computes strained cells"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[eV/A**3]",
            "[Ha/bohr**3]",
            "expected a stress in [eV/A**3], got '| Cartesian components [Ha/bohr**3] |'",
        ),
        ("  |  y  ", "  |  q  ", "expected a row of the stress, got "),
    ],
)
def test_a_damaged_stress_is_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = tmp_path / "aims.out"
    assert old in outputs.aims()
    path.write_text(outputs.aims().replace(old, new))
    (problem,) = outputs.problems(path)
    assert expected in problem
