"""Where the ionic steps of an `OUTCAR` begin and end: no step takes what belongs to another one."""

from __future__ import annotations

from pathlib import Path

import foreign_outputs
import numpy as np
import outputs
import pytest

from tio2nn.errors import InputError
from tio2nn.io.outputs import foreign
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

pytestmark = pytest.mark.skipif(not foreign.is_installed(), reason="dpdata is not installed")


def written(folder: Path, text: str) -> Path:
    path = folder / "OUTCAR"
    path.write_text(text)
    return path


def early_outcar(version: str, *, numbered: bool = True) -> str:
    """An `OUTCAR` as VASP 4 prints it: the energy of a step before its cell and forces."""
    lines = foreign_outputs.outcar(3).replace("vasp.6.3.2", version).splitlines()
    made: list[str] = []
    held: list[str] = []
    for line in lines:
        if "FORCE on cell" in line or "VOLUME and BASIS" in line or held:
            held.append(line)
        else:
            made.append(line)
        if "energy  without entropy" in line:
            place = next(k for k, row in enumerate(held) if "FREE ENERGIE" in row)
            made += held[place:] + held[:place]
            held = []
    return "\n".join(line for line in made + held if numbered or "Iteration" not in line) + "\n"


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("version", ["vasp.4.6.35", "vasp.5.1.0"])
def test_energies_before_their_geometries_are_refused(tmp_path: Path, version: str, numbered: bool) -> None:
    text = early_outcar(version, numbered=numbered)
    assert text.index("free  energy   TOTEN") < text.index("TOTAL-FORCE")
    (problem,) = outputs.problems(written(tmp_path, text))
    assert problem.split(": ", 1)[1] == (
        "expected the free energy of a step behind its cell and forces, got an OUTCAR of "
        f"'{version}', which prints it before them: give vasprun.xml of that run, or repeat it with VASP 5.4 or later"
    )


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ("VOLUME and BASIS", "expected VOLUME and BASIS in a step, got none (NWRITE = 0?)"),
        ("TOTAL-FORCE", "expected TOTAL-FORCE in a step, got none (NWRITE = 0?)"),
        ("Iteration", "expected electronic steps before the energy of a step, got none"),
    ],
)
def test_a_step_never_gets_what_belongs_to_another(tmp_path: Path, lost: str, expected: str) -> None:
    text = foreign_outputs.outcar(3)
    end = text.index("free  energy   TOTEN")
    middle = text.index("free  energy   TOTEN", end + 1)
    second = "\n".join(line for line in text[end:middle].split("\n") if lost not in line)
    path = written(tmp_path, text[:end] + second + text[middle:])
    first, error, last = read_structures(path, errors="yield")
    assert isinstance(error, InputError)
    assert error.reason == expected
    for structure, step in ((first, 0), (last, 2)):
        assert isinstance(structure, Structure)
        assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY - step)
        np.testing.assert_allclose(structure.positions, outputs.positions(step), atol=1e-5)


def test_a_free_energy_that_is_lost_takes_its_step_along(tmp_path: Path) -> None:
    rows = foreign_outputs.outcar(3).splitlines()
    total = [k for k, row in enumerate(rows) if "free  energy   TOTEN" in row][1]
    path = written(tmp_path, "\n".join(rows[:total] + rows[total + 1 :]) + "\n")
    for structure, step in zip(outputs.found(path), (0, 2), strict=True):
        assert structure.free_energy == pytest.approx(outputs.FREE_ENERGY - step)
        np.testing.assert_allclose(structure.positions, outputs.positions(step), atol=1e-5)


@pytest.mark.parametrize(("number", "is_read"), [("1000", True), ("****", True), ("2000", False)])
def test_more_electronic_steps_than_their_field_has_room_for(
    tmp_path: Path, number: str, is_read: bool
) -> None:
    text = foreign_outputs.outcar(2, nelm=2000).replace("(   3)", f"({number})")
    items = list(read_structures(written(tmp_path, text), errors="yield"))
    assert [isinstance(item, Structure) for item in items] == [is_read] * 2
    assert is_read or "all 2000 electronic steps that NELM allows" in str(items[0])


@pytest.mark.parametrize("n_stars", [1, 2, 6])
def test_a_pressure_that_is_too_wide_costs_the_stress_alone(tmp_path: Path, n_stars: int) -> None:
    rows = foreign_outputs.outcar(1).splitlines()
    place = next(k for k, row in enumerate(rows) if "in kB" in row)
    rows[place] = "  in kB     " + n_stars * "*" * 12 + rows[place][12 + 12 * n_stars :]
    (structure,) = outputs.found(written(tmp_path, "\n".join(rows) + "\n"))
    assert structure.stress is None
    assert structure.forces is not None
    assert structure.extras.remarks == ("stress ignored: expected finite numbers, got NaN or infinity",)
