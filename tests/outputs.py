"""Small output files, as programs would print them, of a crystal of silicon and oxygen that nobody computed.

Everything is made from the numbers below: readers must give these back, and so must those of ASE.
"""

from __future__ import annotations

import io
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.io.labels import ReadOptions
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

ELEMENTS = ("Si", "O", "O")
CELL = np.array([[4.2, 0.1, 0.0], [0.0, 4.4, 0.2], [0.3, 0.0, 4.6]])
FORCES = np.array([[0.1, -0.2, 0.3], [-0.4, 0.5, 0.0], [0.3, -0.3, -0.3]])
# eV/Å³, positive under tension
STRESS = np.array([[0.011, 0.006, -0.005], [0.006, -0.022, 0.004], [-0.005, 0.004, 0.033]])
FREE_ENERGY, ENERGY = -20.5, -20.25
BOHR, RYDBERG = 0.5291772105638411, 13.605693012183622  # Å, eV


def positions(step: int = 0) -> np.ndarray:
    """(3, 3) Å; each step is a little further."""
    return np.array([[0.0, 0.0, 0.0], [2.1, 0.1, 0.2], [0.2, 2.2, 2.3]]) + 0.01 * step * np.arange(9).reshape(
        3, 3
    )


def _v(rows: np.ndarray, form: str = "16.8f") -> list[str]:
    return ["<v> " + " ".join(f"{number:{form}}" for number in row) + " </v>" for row in rows]


def vasprun(
    n_steps: int = 2,
    *,
    n_electronic: int = 2,
    nelm: int = 60,
    pstress: float = 0.0,
    isif: int = 3,
    head: str = "",
    charge: float = 0.0,
) -> str:
    """A `vasprun.xml`."""
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', head, "<modeling>"]
    lines += ['<kpoints><varray name="kpointlist"><v> 0.0 0.0 0.0 </v></varray>']
    lines += ['<varray name="weights"><v> 1.0 </v></varray></kpoints>']
    lines += ['<parameters><separator name="electronic">', '<i name="EDIFF">  0.0001</i>']
    lines += [
        f'<i type="int" name="NELM">  {nelm}</i>',
        f'<i name="NELECT">  {16.0 - charge:.8f}</i>',
        "</separator>",
        f'<i type="int" name="ISIF">  {isif}</i>',
        f'<i name="PSTRESS"> {pstress}</i>',
        "</parameters>",
    ]
    lines += ["<atominfo><atoms> 3 </atoms>", '<array name="atoms"><dimension dim="1">ion</dimension><set>']
    lines += [f"<rc><c>{element:<2}</c><c> 1</c></rc>" for element in ELEMENTS]
    lines += ["</set></array>", '<array name="atomtypes"><dimension dim="1">type</dimension>']
    lines += [
        f"<field>{name}</field>" for name in ("atomspertype", "element", "mass", "valence", "pseudopotential")
    ]
    lines += [
        "<set>",
        "<rc><c>  1</c><c>Si</c><c> 28.085</c><c>  4.0</c><c>  PAW_PBE Si 05Jan2001  </c></rc>",
    ]
    lines += ["<rc><c>  2</c><c>O </c><c> 16.000</c><c>  6.0</c><c>  PAW_PBE O 08Apr2002  </c></rc>"]
    lines += ["</set></array></atominfo>"]
    lines += [*_structure(0, ' name="initialpos"')]
    volume = float(np.linalg.det(CELL))
    for step in range(n_steps):
        lines.append("<calculation>")
        for k in range(n_electronic):
            free = FREE_ENERGY + (n_electronic - k - 1)
            lines += ["<scstep>", '<time name="total"> 1.0 1.0</time>', "<energy>"]
            lines += [
                f'<i name="e_fr_energy"> {free:.8f} </i>',
                f'<i name="e_0_energy"> {free + 0.25:.8f} </i>',
            ]
            lines += ["</energy></scstep>"]
        lines += _structure(step)
        lines += ['<varray name="forces">', *_v(FORCES), "</varray>"]
        lines += ['<varray name="stress">', *_v(-1602.1766208 * STRESS), "</varray>", "<energy>"]
        enthalpy = FREE_ENERGY - step + pstress / 1602.1766208 * volume
        lines += [f'<i name="e_fr_energy"> {enthalpy:.10f} </i>', '<i name="e_0_energy"> 0.0 </i>']
        lines += ["</energy>", "</calculation>"]
    return "\n".join([*lines, "</modeling>"]) + "\n"


def _structure(step: int, name: str = "") -> list[str]:
    scaled = positions(step) @ np.linalg.inv(CELL)
    lines = [f"<structure{name}>", '<crystal><varray name="basis">', *_v(CELL), "</varray></crystal>"]
    return [*lines, '<varray name="positions">', *_v(scaled, "18.14f"), "</varray></structure>"]


def espresso(
    n_steps: int = 2,
    *,
    unit: str = "angstrom",
    converged: bool = True,
    forces: bool = True,
    charge: float = 0.0,
) -> str:
    """The output of a relaxation by `pw.x`."""
    alat = 8.0  # Bohr
    lines = ["", "     Program PWSCF v.7.0 starts on  1Jan2024 at  0: 0: 0", ""]
    lines += [
        "     bravais-lattice index     =            0",
        f"     lattice parameter (alat)  =  {alat:12.4f}  a.u.",
    ]
    lines += [
        "     number of atoms/cell      =            3",
        "     number of atomic types    =            2",
        f"     number of electrons       = {16.0 - charge:12.2f} (up:   8.50, down:   7.50)",
    ]
    lines += [f"     celldm(1)= {alat:10.6f}  celldm(2)=   0.000000  celldm(3)=   0.000000"]
    lines += ["", "     crystal axes: (cart. coord. in units of alat)"]
    scale = alat * BOHR
    for k, vector in enumerate(CELL / scale, start=1):
        lines.append(f"               a({k}) = ( " + " ".join(f"{number:.10f}" for number in vector) + " )")
    lines += ["", "     atomic species   valence    mass     pseudopotential"]
    lines += ["        Si1            4.00    28.08500     Si( 1.00)"]
    lines += ["        O1             6.00    15.99900     O ( 1.00)", ""]
    lines += ["", "   Cartesian axes", "", "     site n.     atom                  positions (alat units)"]
    for k, (element, row) in enumerate(zip(ELEMENTS, positions() / scale, strict=True), start=1):
        numbers = " ".join(f"{number:.10f}" for number in row)
        lines.append(f"         {k}           {element}1 tau({k:4d}) = ( {numbers}  )")
    for step in range(n_steps):
        if step:
            lines += _moved(step, unit)
        lines += [f"     total energy              =     {(FREE_ENERGY + 1) / RYDBERG:.10f} Ry"]
        if not converged:
            lines += ["     convergence NOT achieved after 100 iterations: stopping", ""]
            break
        lines += [f"!    total energy              =     {(FREE_ENERGY - step) / RYDBERG:.10f} Ry"]
        lines += [
            "     smearing contrib. (-TS)   =      -0.00000001 Ry",
            "     convergence has been achieved in  9 iterations",
        ]
        if forces:
            lines += ["", "     Forces acting on atoms (cartesian axes, Ry/au):", ""]
            for k, row in enumerate(FORCES * BOHR / RYDBERG, start=1):
                numbers = " ".join(f"{number:14.8f}" for number in row)
                lines.append(f"     atom {k:4d} type  1   force = {numbers}")
            lines += ["", "     Total force =     0.100000     Total SCF correction =     0.000000", ""]
            lines += ["     Computing stress (Cartesian axis) and pressure", ""]
            lines += ["          total   stress  (Ry/bohr**3)                   (kbar)     P=       -1.18"]
            for row in -STRESS * BOHR**3 / RYDBERG:
                numbers = "".join(f"{number:14.8f}" for number in row)
                lines.append(numbers + "".join(f"{147105.08 * number:14.2f}" for number in row))
            lines += ["", ""]
    return "\n".join([*lines, "     JOB DONE."]) + "\n"


def _moved(step: int, unit: str) -> list[str]:
    rows = positions(step)
    if unit == "crystal":
        rows = rows @ np.linalg.inv(CELL)
    elif unit != "angstrom":
        rows = rows / BOHR / (1.0 if unit == "bohr" else 8.0)
    lines = ["CELL_PARAMETERS (angstrom)", *(" ".join(f"{n:.9f}" for n in vector) for vector in CELL), ""]
    numbers = ["  ".join(f"{number:.10f}" for number in row) for row in rows]
    return [*lines, f"ATOMIC_POSITIONS ({unit})", *map("{}   {}".format, ELEMENTS, numbers), ""]


def aims_geometry(cell: bool) -> list[str]:
    """The lines by which FHI-aims repeats where atoms are."""
    lines = ["  | Number of atoms                   :        3", "  Input geometry:"]
    if cell:
        lines += ["  | Unit cell:", *("  |  " + " ".join(f"{n:15.8f}" for n in vector) for vector in CELL)]
    else:
        lines += ["  | No unit cell requested."]
    lines += [
        "  | Atomic structure:",
        "  |       Atom                x [A]            y [A]            z [A]",
    ]
    for k, (element, row) in enumerate(zip(ELEMENTS, positions(), strict=True), start=1):
        lines.append(f"  |{k:5d}: Species {element:<10}" + " ".join(f"{number:16.8f}" for number in row))
    return lines


def aims(
    *,
    converged: bool = True,
    cell: bool = True,
    moved: bool = False,
    forces: bool = True,
    charge: float = 0.0,
) -> str:
    """The output of a single point by FHI-aims."""
    lines = ["------------", "          Invoking FHI-aims ...", "", "          Version 221103", ""]
    lines += aims_geometry(cell)
    lines += [f"  The structure contains        3 atoms,  and a total of {30.0 - charge:14.3f} electrons."]
    lines += ["  Occupation type: Gaussian broadening, width =   0.100000E-01 eV."]
    lines += ["  | Number of spin channels           :        1"]
    lines += ["  | Number of k-points             :         1"]
    lines += ["  | Number of Kohn-Sham states (occupied + empty):       11"]
    lines += ["", "          Begin self-consistency loop: Initialization.", ""]
    lines += ["          Begin self-consistency iteration #    1", ""]
    lines += [
        "  Self-consistency cycle converged." if converged else "  Self-consistency cycle not yet converged."
    ]
    if not converged:
        return "\n".join([*lines, "  WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE", ""])
    lines += ["  | Number of self-consistency cycles          :            9"]
    lines += ["", "  Energy and forces in a compact form:"]
    for label, number in (("Total energy uncorrected", ENERGY + 0.25), ("Total energy corrected", ENERGY)):
        lines.append(f"  | {label:<30}: {number:29.15E} eV")
    lines.append(f"  | {'Electronic free energy':<30}: {FREE_ENERGY:29.15E} eV")
    if forces:
        lines.append("  Total atomic forces (unitary forces cleaned) [eV/Ang]:")
        for k, row in enumerate(FORCES, start=1):
            lines.append(f"  |{k:5d}   " + " ".join(f"{number:29.15E}" for number in row))
        if cell:
            lines += box_of_stress()
    if moved:
        lines += ["", "  Updated atomic structure:", "            atom 0.0 0.0 0.0 Si"]
    return "\n".join([*lines, "", "          Have a nice day."]) + "\n"


def box_of_stress() -> list[str]:
    edge = "  +" + 67 * "-" + "+"
    lines = [edge, "  |              Analytical stress tensor - Symmetrized               |"]
    lines += ["  |                  Cartesian components [eV/A**3]                   |", edge]
    lines += [
        "  |                x                y                z                |",
        "  |" + 67 * " " + "|",
    ]
    for axis, row in zip("xyz", STRESS, strict=True):
        lines.append(f"  |  {axis}  " + " ".join(f"{number:16.8f}" for number in row) + "            |")
    return [*lines, "  |" + 67 * " " + "|", edge]


def runner(n: int = 2, *, atoms: Sequence[str] | None = None, energy: str = "-1.0") -> str:
    """An `input.data` of RuNNer, in Bohr and Hartree."""
    text = ""
    for step in range(n):
        rows = np.hstack([positions(step) / BOHR, FORCES * BOHR / RYDBERG / 2]).tolist()
        lines = [
            "begin",
            "comment made by hand",
            *("lattice " + " ".join(map(repr, row)) for row in (CELL / BOHR).tolist()),
        ]
        made = [
            f"atom {' '.join(map(repr, row[:3]))} {element} 0.0 0.0 {' '.join(map(repr, row[3:]))}"
            for element, row in zip(ELEMENTS, rows, strict=True)
        ]
        lines += [*(made if atoms is None else atoms), f"energy {energy}", "charge 0.0", "end"]
        text += "\n".join(lines) + "\n"
    return text


def frames(n: int = 2, *, periodic: bool = False) -> list[Any]:
    """ASE's atoms, the first held by a constraint."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    found = []
    for step in range(n):
        atoms = Atoms(
            ELEMENTS, positions(step), cell=CELL, pbc=(True, True, periodic), constraint=FixAtoms([0])
        )
        labels = {"energy": ENERGY - step, "free_energy": FREE_ENERGY - step, "forces": FORCES}
        if periodic:
            labels["stress"] = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    return found


def trajectory(n: int = 2, *, periodic: bool = False) -> bytes:
    """A `.traj` of ASE."""
    from ase.io import write

    stream = io.BytesIO()
    write(stream, frames(n, periodic=periodic), format="traj")
    return stream.getvalue()


def database(n: int = 2, *commands: str, periodic: bool = False) -> bytes:
    """A database of ASE, after some commands of SQL."""
    from ase.db import connect

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        with connect(path) as rows:
            for atoms in frames(n, periodic=periodic):
                rows.write(atoms)
        connection = sqlite3.connect(path)
        for command in commands:
            connection.execute(command)
        connection.commit()
        connection.close()
        return path.read_bytes()


# --- what readers make of them ----------------------------------------------------------------------------------


def found(path: Path, **options: object) -> list[Structure]:
    """What is read, with options as for `ReadOptions`."""
    return list(read_structures(path, options=ReadOptions(**options)))  # type: ignore[arg-type]


def problems(path: Path) -> list[str]:
    """Why something is not read, without the name of the file."""
    items = read_structures(path, errors="yield")
    return [str(item).removeprefix(f"{path}") for item in items if isinstance(item, InputError)]


def check(structures: list[Structure], *, tolerance: float = 1e-6) -> None:
    """They are those above."""
    for step, structure in enumerate(structures):
        assert structure.elements == ELEMENTS
        np.testing.assert_allclose(structure.positions, positions(step), atol=1e-7)
        np.testing.assert_allclose(structure.cell, CELL, atol=1e-7)
        np.testing.assert_allclose(structure.forces, FORCES, atol=tolerance)
        assert structure.periodic == (True, True, True)


def check_items(path: Path) -> None:
    """A file is read as structures of finite numbers, or refused in one line that names it."""
    for item in read_structures(path, errors="yield"):
        if isinstance(item, InputError):
            assert str(item).startswith(str(path))
            assert "\n" not in str(item)
            assert len(item.reason) < 400
        else:
            assert np.isfinite(item.positions).all()
            assert np.isfinite(item.cell).all()
            assert item.forces is None or np.isfinite(item.forces).all()


def check_damaged(path: Path, content: bytes, n: int, characters: bytes) -> None:
    """So do `n` copies of a file in which a few characters are others, and of which some are cut off."""
    rng = np.random.default_rng(7)
    for _ in range(n):
        data = bytearray(content)
        for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
            data[place] = int(rng.choice(np.frombuffer(characters, np.uint8)))
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        path.write_bytes(bytes(data))
        check_items(path)


FILES: dict[str, bytes] = {
    "vasprun.xml": vasprun().encode(),
    "relax.pwo": espresso().encode(),
    "aims.out": aims().encode(),
    "a.traj": trajectory(),
    "a.db": database(),
    "input.data": runner().encode(),
}
ASE_FORMATS = {"relax.pwo": "espresso-out", "aims.out": "aims-output", "vasprun.xml": "vasp-xml"}
