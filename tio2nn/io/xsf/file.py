"""XSF, the structure format of XCrySDen, with the energy comment of aenet.

The grammar, as XCrySDen describes it: a keyword gives the periodicity (`CRYSTAL`: along three vectors; `SLAB`: along
the first two; `POLYMER`: along the first; `MOLECULE`, or `ATOMS` alone: along none), `PRIMVEC` gives the cell vectors,
`PRIMCOORD` a count and that many rows `El x y z [fx fy fz]` (`ATOMS` the rows alone). El is a symbol or an atomic
number. `ANIMSTEPS n` announces n frames; then `PRIMCOORD k`, `ATOMS k` and, if the cell varies, `PRIMVEC k` carry the
frame number. `#` begins a comment, on its own line or after a row.

Conventions of this project:

- Lengths are Å. Forces are eV/Å, as aenet writes them, unless a comment `# forces in Ha/Angstrom` or the caller says
  Ha/Å, the unit of XCrySDen and ASE. Files written here state the unit in such a comment.
- The energy comes from a comment `# total energy = -19960.66 eV`, anywhere in the file. In a file with several frames,
  all energies stand before the coordinates of their frame, or all after them.
- `DIM-GROUP` with a row `3 1` means CRYSTAL, `2 1` SLAB, `1 1` POLYMER and `0 1` MOLECULE.
- `CONVVEC` is ignored beside `PRIMCOORD`, which needs `PRIMVEC`. `CONVVEC` with `CONVCOORD` alone is also a structure:
  the conventional cell.
- Data grids and `BEGIN_INFO` are skipped.
- `ATOMS` has no count, so a file truncated between two of its rows cannot be recognized.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import decode_text, quoted
from tio2nn.io.atomic_units import HARTREE
from tio2nn.io.labels import XsfForces
from tio2nn.io.xsf.frames import XsfFrames
from tio2nn.io.xsf.rows import RowParser
from tio2nn.io.xsf.sections import Unit, split_sections
from tio2nn.structures.structure import Structure

KEYWORD_OF_PERIODICITY = {
    (True, True, True): "CRYSTAL",
    (True, True, False): "SLAB",
    (True, False, False): "POLYMER",
    (False, False, False): "ATOMS",
}
_UNITS: dict[XsfForces, float] = {"eV/A": 1.0, "Ha/A": HARTREE}  # eV/Å
_ENERGY_WORDS = {"ev": "eV", "ha": "Ha", "hartree": "Ha"}
_LENGTH_WORDS = ("å", "a", "ang", "angstrom", "ångström", "ångstrom")


def parse_xsf(data: bytes | str, *, name: str, file: str) -> list[Structure]:
    """All frames of an XSF file.

    Args:
        data: the whole file.
        name: of the structure; several frames become `name-1`, `name-2` ...
        file: file name for messages and `Structure.file`.

    Raises:
        InputError: the first error in the file.
    """
    structures = []
    for item in iter_xsf(data, name=name, file=file):
        if isinstance(item, InputError):
            raise item
        structures.append(item)
    return structures


def iter_xsf(
    data: bytes | str, *, name: str, file: str, forces: XsfForces = "eV/A"
) -> Iterator[Structure | InputError]:
    """The frames of an XSF file; an unusable frame yields an error.

    Arguments as for `parse_xsf`; `forces` is the unit of forces in a file that does not state it.
    """
    try:
        text = decode_text(data, file)
        sections, energies, units = split_sections(text.split("\n"), file)
        # float() accepts underscores and digits of other scripts, so such files are checked row by row
        rows = RowParser(file, fast=text.isascii() and "_" not in text)
        frames = XsfFrames(sections, energies, rows, _UNITS[_unit(units, file, forces)])
    except InputError as error:
        yield error
        return
    for number in range(1, len(frames) + 1):
        try:
            yield frames.structure(number, f"{name}-{number}" if frames.n_announced > 1 else name)
        except InputError as error:
            yield error
    if (shortage := frames.shortage()) is not None:
        yield shortage


def _unit(stated: Sequence[Unit], file: str, otherwise: XsfForces) -> XsfForces:
    """The force unit that a file states.

    Raises:
        InputError: an unknown unit, or two units.
    """
    found: XsfForces | None = None
    for unit in stated:
        energy, _, length = unit.text.lower().partition("/")
        word = _ENERGY_WORDS.get(energy) if length in _LENGTH_WORDS else None
        if word is None:
            reason = f"expected forces in eV/Å or Ha/Å, got {quoted(unit.text)}"
            raise InputError(reason, file=file, line=unit.line)
        own: XsfForces = "eV/A" if word == "eV" else "Ha/A"
        if found not in (None, own):
            raise InputError("expected one unit of forces, got a second", file=file, line=unit.line)
        found = own
    return found or otherwise


def write_xsf(structure: Structure, *, decimals: int = 8, forces_in: XsfForces | None = None) -> str:
    """The text of an XSF file, laid out like the data of aenet.

    Args:
        structure: periodic along none, the first, the first two or all three vectors. A known energy becomes a
            comment.
        decimals: of energy, lengths and forces; `parse_xsf` returns the numbers as printed.
        forces_in: unit of forces, stated in a comment; by default eV/Å, without a comment.

    Raises:
        ValueError: XSF has no keyword for these periodic axes.
    """
    keyword = KEYWORD_OF_PERIODICITY.get(structure.periodic)
    if keyword is None:
        raise ValueError(f"expected the periodic axes first, as XSF demands, got {structure.periodic}")

    def row(label: str, numbers: FloatArray) -> str:
        # the leading blank separates numbers that are wider than their column
        return f"{label:<3}" + "".join(f" {number:{decimals + 6}.{decimals}f}" for number in numbers)

    lines = []
    if structure.energy is not None:
        lines.append(f"# total energy = {structure.energy:.{decimals}f} eV")
    if structure.forces is not None and forces_in is not None:
        lines.append(f"# forces in {forces_in}ngstrom")
    if lines:
        lines.append("")
    lines.append(keyword)
    if keyword != "ATOMS":
        lines.append("PRIMVEC")
        lines += [row("", vector) for vector in structure.cell]
        lines += ["PRIMCOORD", f"{structure.n_atoms} 1"]
    table = structure.positions
    if structure.forces is not None:
        table = np.hstack([table, structure.forces / _UNITS[forces_in or "eV/A"]])
    lines += [row(element, numbers) for element, numbers in zip(structure.elements, table, strict=True)]
    return "\n".join(lines) + "\n"
