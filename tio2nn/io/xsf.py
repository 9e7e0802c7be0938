"""XSF, the structure format of XCrySDen, with the energy comment of aenet.

The grammar, as XCrySDen describes it: a line says what the structure is (`CRYSTAL`, periodic along three
vectors; `SLAB`, along the first two; `POLYMER`, along the first; `MOLECULE`, or `ATOMS` alone, along none),
`PRIMVEC` gives the cell vectors, `PRIMCOORD` a count and that many rows `El x y z [fx fy fz]` (`ATOMS` the
rows alone). El is a symbol or an atomic number. `ANIMSTEPS n` announces n frames; then `PRIMCOORD k`, `ATOMS k`
and, if the cell varies, `PRIMVEC k` carry the frame's number. `#` begins a comment, on a line of its own or
behind a row.

What this project makes of it:

- Lengths are Å. Forces are eV/Å, as aenet writes them, though XCrySDen itself takes them as Ha/Å.
- The energy is that of a comment `# total energy = -19960.66 eV`, wherever it stands. In a file of several
  frames each one stands in front of its frame's coordinates, or each one behind them.
- `CONVVEC` only informs, where there is `PRIMCOORD`, which needs `PRIMVEC`. `CONVVEC` with `CONVCOORD` and
  nothing else is a structure, too: the conventional cell.
- Data grids and `BEGIN_INFO` are passed over.
- `ATOMS` does not say how many, so a file cut between two of its rows cannot be recognized.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tio2nn.errors import InputError
from tio2nn.io.text import decode_text
from tio2nn.io.xsf_frames import XsfFrames
from tio2nn.io.xsf_rows import RowParser
from tio2nn.io.xsf_sections import split_sections
from tio2nn.structure import FloatArray, Structure

_KEYWORD_OF_PERIODICITY = {
    (True, True, True): "CRYSTAL",
    (True, True, False): "SLAB",
    (True, False, False): "POLYMER",
    (False, False, False): "ATOMS",
}


def parse_xsf(data: bytes | str, *, name: str, file: str) -> list[Structure]:
    """All frames of an XSF file.

    Args:
        data: the whole file.
        name: of the structure; frames of several become `name-1`, `name-2` ...
        file: what messages and `Structure.file` call it.

    Raises:
        InputError: the first thing that is wrong.
    """
    structures = []
    for item in iter_xsf(data, name=name, file=file):
        if isinstance(item, InputError):
            raise item
        structures.append(item)
    return structures


def iter_xsf(data: bytes | str, *, name: str, file: str) -> Iterator[Structure | InputError]:
    """The frames of an XSF file; one that cannot be used is its error. Arguments as for `parse_xsf`."""
    try:
        text = decode_text(data, file)
        sections, energies = split_sections(text.split("\n"), file)
        # what float() takes beyond numbers, underscores and digits of other scripts, is looked at row by row
        rows = RowParser(file, fast=text.isascii() and "_" not in text)
        frames = XsfFrames(sections, energies, rows)
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


def write_xsf(structure: Structure, *, decimals: int = 8) -> str:
    """The text of an XSF file, laid out as in the data that aenet comes with.

    Args:
        structure: periodic along none, the first, the first two or all three vectors. The energy, if known,
            becomes a comment.
        decimals: of energy, lengths and forces; `parse_xsf` returns the numbers as printed.

    Raises:
        ValueError: XSF has no word for these periodic axes.
    """
    keyword = _KEYWORD_OF_PERIODICITY.get(structure.periodic)
    if keyword is None:
        raise ValueError(f"expected the periodic axes of an XSF file to come first, got {structure.periodic}")

    def row(label: str, numbers: FloatArray) -> str:
        # the blank in front keeps numbers apart that are wider than their column
        return f"{label:<3}" + "".join(f" {number:{decimals + 6}.{decimals}f}" for number in numbers)

    lines = []
    if structure.energy is not None:
        lines += [f"# total energy = {structure.energy:.{decimals}f} eV", ""]
    lines.append(keyword)
    if keyword != "ATOMS":
        lines.append("PRIMVEC")
        lines += [row("", vector) for vector in structure.cell]
        lines += ["PRIMCOORD", f"{structure.n_atoms} 1"]
    table = structure.positions
    if structure.forces is not None:
        table = np.hstack([table, structure.forces])
    lines += [row(element, numbers) for element, numbers in zip(structure.elements, table, strict=True)]
    return "\n".join(lines) + "\n"
