"""What stands beside an n2p2 folder: the lines to write for LAMMPS and for CP2K, and what to know of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from tio2nn.export.folder import MARK
from tio2nn.export.n2p2 import INPUT, SCALING, member_folders
from tio2nn.export.units import Units
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import INNER
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.version import __version__
from tio2nn.wording import counted

# LAMMPS compares its cutoff with that of the folder, which has been converted twice
_ROUNDING = 1e-12
_MOST_WARNINGS = 100_000  # for `maxew`, of a run

_ON_WARNINGS = (
    "n2p2 counts a warning for each atom and step with a symmetry function beyond its range in training. LAMMPS "
    "stops the run when there have been more than `maxew` of them (0 where it is left out: at the first); "
    "`showewsum` reports their number every so many steps, `showew yes` each of them, and `resetew yes` makes "
    "`maxew` a limit for each step."
)


def n2p2_readme(potential: Potential, units: Units, directory: PurePath, warnings: Sequence[str]) -> str:
    """The text of the README.

    Args:
        potential: what is exported.
        units: of the folder.
        directory: the folder, as programs are to name it.
        warnings: on what a program computes wrong or cannot have.
    """
    n_members, cutoff = len(potential.members), f"{potential.parameters.cutoff:g} Å"
    types = ", ".join(f"{number} {element}" for number, element in enumerate(potential.elements, start=1))
    parts = [
        f"# {'-'.join(potential.elements)}, {MARK} {__version__}",
        f"An n2p2 folder with {counted(n_members, 'network')}; cutoff {cutoff}. All numbers are in {units.described}.",
        *(f"Note: {warning}." for warning in warnings),
        "## LAMMPS",
        f"With the package ML-HDNNP, and atom types in this order: {types}.",
        _block("lammps", ["units metal", *lammps_lines(potential, units, directory)]),
        _ON_WARNINGS,
        "## CP2K",
    ]
    if units.name == "atomic":
        parts += [
            "Beside the section SUBSYS of FORCE_EVAL:",
            _block("text", list(cp2k_lines(n_members, directory))),
            f"Cells must be wider than {cutoff} between opposite faces.",
        ]
        if n_members > 1:
            factor = math.sqrt(n_members / (n_members - 1))
            parts.append(
                "CP2K's sigma of the committee divides by the number N of members, tio2nn's spread by N - 1: "
                f"sigma times {factor:.10f} is the spread, of energies that of the whole structure, not per atom."
            )
    else:
        parts.append(
            "CP2K reads folders in Bohr and Hartree: export the potential again with `--units atomic`."
        )
    return "\n\n".join(parts) + "\n"


def lammps_lines(potential: Potential, units: Units, directory: PurePath) -> Iterator[str]:
    """`pair_style` and `pair_coeff`, in metal units, all digits of all numbers.

    The repulsion has an instance of `pair_style zbl` for each of its radii, which are global there.
    """
    cutoff = potential.parameters.cutoff * (1.0 + (_ROUNDING if units.length != 1.0 else 0.0))
    options = f"showew no showewsum 1000 maxew {_MOST_WARNINGS} resetew no"
    factors = f"cflength {units.length!r} cfenergy {units.energy!r}"
    folders = [directory / folder for folder in member_folders(len(potential.members))]
    networks = [f'hdnnp {cutoff!r} dir "{folder.as_posix()}" {options} {factors}' for folder in folders]
    elements = " ".join(potential.elements)
    radii, pairs = _zbl(potential)
    styles = [f"zbl {INNER * outer!r} {outer!r}" for outer in radii]
    if len(networks) == 1 and not styles:
        yield f"pair_style {networks[0]}"
        yield f"pair_coeff * * {elements}"
        return
    if len(networks) == 1:
        yield from _continued("pair_style hybrid/overlay", [*networks, *styles])
    else:
        share = 1.0 / len(networks)
        scaled = [f"{share!r} {network}" for network in networks] + [f"1.0 {style}" for style in styles]
        yield from _continued("pair_style hybrid/scaled", scaled)
    for number in range(1, len(networks) + 1):
        instance = f" {number}" if len(networks) > 1 else ""
        yield f"pair_coeff * * hdnnp{instance} {elements}"
    for (one, other), number in pairs:
        instance = f" {number}" if len(styles) > 1 else ""
        charges = [ATOMIC_NUMBERS[potential.elements[k]] for k in (one, other)]
        yield f"pair_coeff {one + 1} {other + 1} zbl{instance} {charges[0]} {charges[1]}"


def cp2k_lines(n_members: int, directory: PurePath) -> Iterator[str]:
    """`METHOD NNP` and its section."""
    folders = [(directory / folder).as_posix() for folder in member_folders(n_members)]
    yield "METHOD NNP"
    yield "&NNP"
    yield f"  NNP_INPUT_FILE_NAME {folders[0]}/{INPUT}"
    yield f"  SCALE_FILE_NAME {folders[0]}/{SCALING}"
    for folder in folders:
        yield "  &MODEL"
        yield f"    WEIGHTS {folder}/weights"
        yield "  &END MODEL"
    yield "&END NNP"


def _zbl(potential: Potential) -> tuple[list[float], list[tuple[tuple[int, int], int]]]:
    """The outer radii of the repulsion, and for each pair of elements which of them is its own, from 1."""
    if potential.repulsion is None:
        return [], []
    outer = potential.repulsion.outer.tolist()
    radii: list[float] = []
    pairs = []
    for one, other in itertools.combinations_with_replacement(range(len(potential.elements)), 2):
        radius = outer[one][other]
        if radius not in radii:
            radii.append(radius)
        pairs.append(((one, other), radii.index(radius) + 1))
    return radii, pairs


def _continued(start: str, parts: Sequence[str]) -> Iterator[str]:
    """One command on several lines."""
    lines = [start, *(f"  {part}" for part in parts)]
    yield from (f"{line} &" for line in lines[:-1])
    yield lines[-1]


def _block(language: str, lines: Sequence[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
