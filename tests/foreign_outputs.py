"""Small files of the formats that are read through dpdata, and data sets of DeePMD, of the crystal in `outputs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from outputs import (
    BOHR,
    CELL,
    ELEMENTS,
    ENERGY,
    FORCES,
    FREE_ENERGY,
    RYDBERG,
    STRESS,
    aims_geometry,
    box_of_stress,
    positions,
)

HARTREE = 2 * RYDBERG
NO_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType({})


def outcar(
    n_steps: int = 2,
    *,
    n_electronic: int = 3,
    nelm: int = 60,
    ml_steps: int = 0,
    labels: str = "Si_sv_GW O",
    charge: float = 0.0,
) -> str:
    """An `OUTCAR`.

    Args:
        n_steps: of electronic structure.
        n_electronic: electronic steps in each.
        nelm: the most that are allowed.
        ml_steps: of a machine-learned force field before each.
        labels: names of the potentials.
        charge: of all atoms.
    """
    lines = [" vasp.6.3.2 27Jun22 (build Jan 01 2024) complex", "", " executed on  LinuxGNU date 2024.01.01"]
    lines += [f" POTCAR:    PAW_PBE {name} 08Apr2002" for name in labels.split()] * 2
    lines += ["   VRHFIN =Si: s2p2", *(f"   TITEL  = PAW_PBE {name} 08Apr2002" for name in labels.split())]
    lines += [" POSCAR = Si1 O2", "   NWRITE =      2    write-flag & timer"]
    lines += [f"   NELM   =    {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps"]
    lines += ["   POMASS =   28.085; ZVAL   =    4.000    mass and valenz"]
    lines += ["   ions per type =               1   2", "", "  Ionic Valenz", "   ZVAL   =   4.00  6.00"]
    lines += [
        f"   NELECT =   {16.0 - charge:12.4f}    total number of electrons",
        "  volume of cell :       84.0",
    ]
    for step in range(n_steps):
        for _ in range(ml_steps):
            lines += [*_table(" POSITION          TOTAL-FORCE (eV/Angst) (ML)", step + 50)]
            lines += ["  free  energy ML TOTEN  =       -19.00000000 eV", ""]
        for k in range(n_electronic):
            lines += [f"--------------------- Iteration {step + 1:6d}({k + 1:4d})  ---------------------"]
            lines += ["  free energy    TOTEN  =       -11.00000000 eV", ""]
        lines += _stress()
        lines += [
            "",
            " VOLUME and BASIS-vectors are now :",
            " ---------------------",
            "  energy-cutoff  :      400.00",
        ]
        lines += [
            "  volume of cell :       84.00",
            "      direct lattice vectors                 reciprocal lattice vectors",
        ]
        inverse = np.linalg.inv(CELL).T
        for vector, other in zip(CELL, inverse, strict=True):
            lines.append("".join(f"{number:13.9f}" for number in [*vector, *other]))
        lines += ["", "  length of vectors", ""]
        lines += _table(" POSITION                                       TOTAL-FORCE (eV/Angst)", step)
        lines += ["", "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  ---------------------"]
        lines += [f"  free  energy   TOTEN  =  {FREE_ENERGY - step:18.8f} eV", ""]
        lines += [
            f"  energy  without entropy= {ENERGY - step:14.6f}  energy(sigma->0) = {ENERGY - step:14.6f}",
            "",
        ]
    return "\n".join([*lines, " General timing and accounting informations for this job:"]) + "\n"


def _stress() -> list[str]:
    """What VASP says of the stress, in ten parts; its pressures are those of compression."""
    parts = ("Alpha Z", "Ewald", "Hartree", "E(xc)", "Local", "n-local", "augment", "Kinetic", "Fock")
    pressures = -1602.1766208 * STRESS[[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
    row = "".join(f"{number:12.5f}" for number in pressures)
    return [
        "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
        "  Direction    XX          YY          ZZ          XY          YZ          ZX",
        "  " + "-" * 86,
        *(f"  {part:<10}{row}" for part in parts),
        "  " + "-" * 86,
        f"  Total     {row}",
        f"  in kB     {row}",
    ]


def _table(head: str, step: int) -> list[str]:
    rows = [
        "".join(f"{number:13.5f}" for number in place) + "".join(f"{number:14.6f}" for number in force)
        for place, force in zip(positions(step), FORCES, strict=True)
    ]
    return [head, " " + "-" * 83, *rows, " " + "-" * 83]


def cp2k(
    *,
    converged: bool = True,
    n_points: int = 1,
    late: bool = False,
    periodicity: str = "XYZ",
    forces: bool = True,
    stress: str = "GPa",
    charge: int = 0,
    units: Mapping[str, tuple[str, float]] = NO_UNITS,
) -> str:
    """The output of a single point by CP2K.

    Args:
        converged: whether the calculation is.
        n_points: of a relaxation.
        late: as CP2K prints it since 2025.
        periodicity: the axes, or NONE.
        forces: whether they were asked for.
        stress: unit in which it is printed; "" if it was not asked for.
        charge: of all atoms.
        units: in place of the usual ones, of "energy", "forces", "cell" and "positions": name, and size in eV and Å.
    """
    energy_unit, per_energy = units.get("energy", ("hartree" if late else "a.u.", HARTREE))
    cell_unit, per_cell = units.get("cell", ("angstrom", 1.0))
    place_unit, per_place = units.get("positions", ("ANGSTROM", 1.0))
    lines = [" DBCSR| CPU Multiplication driver                                 BLAS (U)", ""]
    lines += ["  **** **** ******  **  PROGRAM STARTED AT               2024-01-01 00:00:00.000"]
    lines += ["", " CP2K| version string:                             CP2K version 2023.1", ""]
    for name, vector in zip("abc", CELL / per_cell, strict=True):
        numbers = "".join(f"{number:10.3f}" for number in vector)
        lines.append(
            f" CELL| Vector {name} [{cell_unit}]:  {numbers}   |{name}| = {np.linalg.norm(vector):12.6f}"
        )
    lines += [f" CELL| Periodicity {periodicity:>60}", ""]
    lines += [f" DFT| Multiplicity {1 + charge % 2:>61}", f" DFT| Charge {charge:>67}", ""]
    lines += ["  1. Atomic kind: Si1                               Number of atoms:       1", ""]
    lines += ["  2. Atomic kind: O                                 Number of atoms:       2", ""]
    lines += [f" MODULE QUICKSTEP: ATOMIC COORDINATES IN {place_unit}", ""]
    lines += ["   Atom Kind Element         X             Y             Z       Z(eff)     Mass"]
    for k, (element, row) in enumerate(zip(ELEMENTS, positions() / per_place, strict=True), start=1):
        numbers = "".join(f"{number:14.6f}" for number in row)
        lines.append(f"{k:7d}{1 + (element == 'O'):5d} {element:<4}{8:3d}{numbers}   6.0000  15.9994")
    lines += ["", ""]
    for _ in range(n_points):
        if converged:
            lines.append("  *** SCF run converged in    10 steps ***")
        else:
            lines.append(" *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***")
        unit = f"[{energy_unit}]" + ("" if late else ":")
        lines += ["", f" ENERGY| Total FORCE_EVAL ( QS ) energy {unit} {FREE_ENERGY / per_energy:27.15f}", ""]
        if forces:
            usual = "hartree/bohr" if late else "a.u.", HARTREE / BOHR
            lines += _cp2k_forces(late, *units.get("forces", usual))
        if stress:
            lines += _cp2k_stress(late, stress)
    return "\n".join([*lines, "", "  **** **** ******  **  PROGRAM ENDED AT"]) + "\n"


def _cp2k_stress(late: bool, unit: str) -> list[str]:
    """As CP2K prints it, positive under pressure."""
    per_gpa = {"GPa": 1.0, "bar": 1e4}.get(unit, 1.0)
    pressures = -160.21766208 * per_gpa * STRESS
    if late:
        rows = [
            f" STRESS|      {axis}    " + "".join(f"{number:20.11E}" for number in row)
            for axis, row in zip("xyz", pressures, strict=True)
        ]
        head = [f" STRESS| Analytical stress tensor [{unit}]", " STRESS|            x     y     z"]
        after = [f" STRESS| Eigenvectors and eigenvalues of the analytical stress tensor [{unit}]"]
        return [
            *head,
            *rows,
            " STRESS| 1/3 Trace     -1.0E+00",
            "",
            *after,
            " STRESS|      x   1.0 0.0 0.0",
            "",
        ]
    rows = [
        f"  {axis} " + "".join(f"{number:16.8f}" for number in row)
        for axis, row in zip("XYZ", pressures, strict=True)
    ]
    after = [" EIGENVECTORS AND EIGENVALUES OF THE STRESS TENSOR", "", "   1.0 2.0 3.0"]
    return [
        f" STRESS TENSOR [{unit}]",
        "",
        "            X               Y               Z",
        *rows,
        "",
        *after,
    ]


def _cp2k_forces(late: bool, unit: str, size: float) -> list[str]:
    in_units = FORCES / size
    if late:
        head = [f" FORCES| Atomic forces [{unit}]", " FORCES| Atom x y z |f|"]
        rows = [
            f" FORCES| {k} " + " ".join(f"{number:.12E}" for number in [*row, np.linalg.norm(row)])
            for k, row in enumerate(in_units, start=1)
        ]
        return [*head, *rows, " FORCES| Sum 0.0 0.0 0.0 0.0"]
    rows = [
        f"{k:7d}{1 + (element == 'O'):7d}{element:>7}   " + "".join(f"{number:15.8f}" for number in row)
        for k, (element, row) in enumerate(zip(ELEMENTS, in_units, strict=True), start=1)
    ]
    head = [
        f" ATOMIC FORCES in [{unit}]",
        "",
        " # Atom   Kind   Element          X              Y              Z",
    ]
    return [*head, *rows, " SUM OF ATOMIC FORCES 0.0 0.0 0.0 0.0"]


def aims_dynamics(
    n_steps: int = 2,
    *,
    cell: bool = True,
    unconverged: int | None = None,
    stress: bool = False,
    charge: float = 0.0,
) -> str:
    """The output of dynamics by FHI-aims.

    Args:
        n_steps: of the run.
        cell: whether there is one.
        unconverged: number of a step that is not, from 0.
        stress: whether it is printed.
        charge: of all atoms.
    """
    lines = ["------------", "          Invoking FHI-aims ...", "", "          Version 221103", ""]
    lines += ["  The contents of control.in will be repeated verbatim below", "  -----------"]
    lines += ["  xc pbe", "  MD_run 0.002 NVT_parrinello 300 0.1", "  MD_time_step 0.001", "  -----------"]
    lines += ["  Parsing geometry.in (first pass over file, find array dimensions only).", "  -----------"]
    for element, row in zip(ELEMENTS, positions(), strict=True):
        lines.append("  atom " + " ".join(f"{number:.8f}" for number in row) + f" {element}")
    lines += aims_geometry(cell)
    lines += [f"  The structure contains        3 atoms,  and a total of {30.0 - charge:14.3f} electrons."]
    lines += ["", "          Begin self-consistency loop: Initialization.", ""]
    for step in range(n_steps):
        if step:
            lines += ["", "          Begin self-consistency loop: Re-initialization.", ""]
        lines += ["  | Electronic free energy        :    -0.7 Ha     -19.0 eV"]
        if step != unconverged:
            lines.append("  Self-consistency cycle converged.")
        lines += ["", "  Energy and forces in a compact form:"]
        for label, number in (
            ("Total energy uncorrected", ENERGY + 0.25),
            ("Total energy corrected", ENERGY),
            ("Electronic free energy", FREE_ENERGY),
        ):
            remark = (
                "  <-- do not rely on this value for anything but (periodic) metals"
                if "corrected" in label.split()
                else ""
            )
            lines.append(f"  | {label:<30}: {number - step:29.15E} eV{remark}")
        lines.append("  Total atomic forces (unitary forces cleaned) [eV/Ang]:")
        for k, row in enumerate(FORCES, start=1):
            lines.append(f"  |{k:5d}   " + " ".join(f"{number:29.15E}" for number in row))
        if stress:
            lines += box_of_stress()
        lines += ["", "  Complete information for previous time-step:"]
        which = "Final atomic" if step == n_steps - 1 else "Atomic"
        lines += [f"  {which} structure (and velocities) as used in the preceding time step: "]
        lines += ["                      x [A]             y [A]             z [A]       Atom"]
        for element, row in zip(ELEMENTS, positions(step), strict=True):
            lines.append("            atom " + " ".join(f"{number:17.8f}" for number in row) + f"  {element}")
            lines.append("        velocity " + " ".join(f"{number:17.8f}" for number in row))
    return "\n".join([*lines, "", "          Have a nice day."]) + "\n"


def deepmd(folder: Path, n_frames: int = 2, *, periodic: bool = True, mixed: bool = False) -> Path:
    """Write a data set of DeePMD, a set for each frame."""
    for step in range(n_frames):
        place = folder / f"set.{step:03d}"
        place.mkdir(parents=True)
        np.save(place / "coord.npy", positions(step).reshape(1, -1))
        if periodic:
            np.save(place / "box.npy", CELL.reshape(1, -1))
        np.save(place / "energy.npy", np.array([ENERGY - step]))
        np.save(place / "force.npy", FORCES.reshape(1, -1))
        if periodic:
            np.save(place / "virial.npy", -STRESS.reshape(1, -1) * np.linalg.det(CELL))
        if mixed:
            np.save(place / "real_atom_types.npy", np.array([[1, 0, 0]], dtype=np.int32))
    (folder / "type.raw").write_text("0\n0\n0\n" if mixed else "1\n0\n0\n")
    (folder / "type_map.raw").write_text("O\nSi\n")
    if not periodic:
        (folder / "nopbc").touch()
    return folder
