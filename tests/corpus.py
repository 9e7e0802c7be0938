"""Broken and strange structure files: what each is called, and its bytes. All are made from one good file."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from pathlib import Path

import foreign_outputs
import numpy as np
import outputs
from archives import archive_bytes

_HEAD = "# total energy = -12.5 eV\n\nCRYSTAL\nPRIMVEC\n"
_CELL = ("4.0 0.0 0.0", "0.0 4.0 0.0", "0.0 0.0 4.0")
_ATOMS = (
    "Ti 0.0 0.0 0.0 0.1 0.0 0.0",
    "O 2.0 0.0 0.0 -0.1 0.0 0.0",
    "O 0.0 2.0 2.0 0.0 0.0 0.0",
)


def xsf(
    *,
    head: str = _HEAD,
    cell: tuple[str, ...] = _CELL,
    counts: str = "3 1",
    atoms: tuple[str, ...] = _ATOMS,
) -> str:
    """A small XSF file; by default nothing is wrong with it."""
    return head + "\n".join([*cell, "PRIMCOORD", counts, *atoms]) + "\n"


def xyz(
    *,
    count: str = "2",
    comment: str = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-12.5 pbc="T T T"',
    atoms: tuple[str, ...] = ("Ti 0 0 0", "O 2 0 0"),
) -> str:
    """A small extended XYZ file, likewise."""
    return "\n".join([count, comment, *atoms]) + "\n"


def _cell(*rows: str) -> str:
    return xsf(cell=rows)


def _atom(line: str) -> str:
    """With another second atom."""
    return xsf(atoms=(_ATOMS[0], line, _ATOMS[2]))


def _energy(text: str) -> str:
    return xsf(head=_HEAD.replace("-12.5 eV", text))


def _archive(members: dict[str, bytes | None], kind: bytes = tarfile.SYMTYPE) -> bytes:
    return gzip.compress(archive_bytes(members.items(), kind))


GOOD = xsf()
_WHOLE_ARCHIVE = _archive({"good.xsf": GOOD.encode()})

TEXTS: dict[str, str] = {
    "no-lines.xsf": "",
    "blank-lines.xsf": "\n\n\n",
    "only-a-comment.xsf": "# total energy = -12.5 eV\n",
    "cut-in-head.xsf": GOOD[:20],
    "cut-behind-keyword.xsf": _HEAD,
    "cut-in-cell.xsf": GOOD[: GOOD.index("0.0 4.0 0.0") + 4],
    "cut-behind-primcoord.xsf": GOOD[: GOOD.index("3 1")],
    "cut-in-count.xsf": GOOD[: GOOD.index("3 1") + 1] + "\n",
    "cut-in-atoms.xsf": GOOD[: GOOD.index("O 0.0 2.0")],
    "cut-in-number.xsf": GOOD[: GOOD.rindex("2.0 0.0 0.0 0.0")],
    "cut-before-last-newline.xsf": GOOD.rstrip(),  # or within its last number: nobody can tell
    "prose.xsf": "To whom it may concern:\nthis is no structure.\n",
    "other-format.xsf": "&CONTROL\n calculation = 'scf'\n/\n",
    "million-announced.xsf": xsf(counts="1000000 1"),
    "trillion-announced.xsf": xsf(counts="1000000000000 1"),
    "number-beyond-machine.xsf": xsf(counts="9" * 400 + " 1"),
    "fewer-announced.xsf": xsf(counts="2 1"),
    "none-announced.xsf": xsf(counts="0 1"),
    "negative-count.xsf": xsf(counts="-3 1"),
    "count-with-a-point.xsf": xsf(counts="3.5 1"),
    "count-that-is-a-word.xsf": xsf(counts="three 1"),
    "no-primcoord.xsf": GOOD.replace("PRIMCOORD\n", ""),
    "no-cell.xsf": GOOD.replace("PRIMVEC\n" + "\n".join(_CELL) + "\n", ""),
    "two-vectors.xsf": _cell(*_CELL[:2]),
    "four-vectors.xsf": _cell(*_CELL, "1 1 1"),
    "nan-in-cell.xsf": _cell("nan 0 0", *_CELL[1:]),
    "infinite-cell.xsf": _cell("inf 0 0", *_CELL[1:]),
    "flat-cell.xsf": _cell("1 0 0", "2 0 0", "0 0 1"),
    "no-volume.xsf": _cell("0 0 0", "0 0 0", "0 0 0"),
    "thin-cell.xsf": _cell("1e-9 0 0", *_CELL[1:]),
    "huge-cell.xsf": _cell("1e300 0 0", *_CELL[1:]),
    "cell-of-words.xsf": _cell("a b c", *_CELL[1:]),
    "nan-position.xsf": _atom("O nan 0 0 0 0 0"),
    "infinite-position.xsf": _atom("O inf 0 0 0 0 0"),
    "overflowing-position.xsf": _atom("O 1e999 0 0 0 0 0"),
    "far-position.xsf": _atom("O 1e20 0 0 0 0 0"),
    "nan-force.xsf": _atom("O 2 0 0 nan 0 0"),
    "two-coordinates.xsf": _atom("O 2 0"),
    "five-numbers.xsf": _atom("O 2 0 0 1 1"),
    "hexadecimal.xsf": _atom("O 0x2 0 0 0 0 0"),
    "decimal-comma.xsf": _atom("O 2,0 0,0 0,0 0 0 0"),
    "other-digits.xsf": _atom("O \u0662 0 0 0 0 0"),
    "underscores.xsf": _atom("O 2_0 0 0 0 0 0"),
    "no-such-element.xsf": _atom("Qq 2 0 0 0 0 0"),
    "element-zero.xsf": _atom("0 2 0 0 0 0 0"),
    "element-999.xsf": _atom("999 2 0 0 0 0 0"),
    "negative-element.xsf": _atom("-8 2 0 0 0 0 0"),
    "other-element.xsf": _atom("Au 2 0 0 0 0 0"),
    "atoms-at-one-place.xsf": _atom("O 0 0 0 0 0 0"),
    "atoms-at-one-place-by-image.xsf": _atom("O 4 4 4 0 0 0"),
    "atoms-that-overlap.xsf": _atom("O 0.05 0 0 0 0 0"),
    "nan-energy.xsf": _energy("nan eV"),
    "infinite-energy.xsf": _energy("inf eV"),
    "energy-of-words.xsf": _energy("very low"),
    "energy-for-each-atom.xsf": _energy("-12.5 eV/atom"),
    "energy-for-each-atom-in-words.xsf": _energy("-12.5 eV per atom"),
    "energy-in-two-pieces.xsf": _energy("-1 2.5 eV"),
    "absurd-energy.xsf": _energy("-1e20 eV"),
    "absurd-force.xsf": _atom("O 2 0 0 0 1e20 0"),
    "no-energy.xsf": GOOD.split("\n", 1)[1],
    "two-energies.xsf": "# total energy = -13.5 eV\n" + GOOD,
    "long-line.xsf": GOOD.replace("CRYSTAL", "#" + "x" * 3_000_000 + "\nCRYSTALS"),
    "long-word.xsf": _atom("O " + "1" * 100_000 + " 0 0 0 0 0"),
    "control-characters.xsf": "\x1b[2J\x07\r\x00" + GOOD[:60],
    "no-lines.xyz": "",
    "prose.xyz": "nothing\nof the kind\n",
    "cut.xyz": xyz(atoms=("Ti 0 0 0",)),
    "million-announced.xyz": xyz(count="1000000"),
    "negative-count.xyz": xyz(count="-2"),
    "nan-position.xyz": xyz(atoms=("Ti 0 0 0", "O nan 0 0")),
    "nan-energy.xyz": xyz(
        comment='Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=nan pbc="T T T"'
    ),
    "two-energies.xyz": xyz(comment='Lattice="4 0 0 0 4 0 0 0 4" energy=-12.5 energy=-13.5'),
    "absurd-energy.xyz": xyz(comment='Lattice="4 0 0 0 4 0 0 0 4" energy=-1e20'),
    "nan-force.xyz": xyz(
        comment='Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1',
        atoms=("Ti 0 0 0 0 0 0", "O 2 0 0 0 nan 0"),
    ),
    "no-volume.xyz": xyz(
        comment='Lattice="0 0 0 0 0 0 0 0 0" Properties=species:S:1:pos:R:3 energy=-1 pbc="T T T"'
    ),
    "eight-numbers-of-a-cell.xyz": xyz(
        comment='Lattice="4 0 0 0 4 0 0 0" Properties=species:S:1:pos:R:3 energy=-1 pbc="T T T"'
    ),
    "columns-that-are-not-there.xyz": xyz(
        comment='Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1 pbc="T T T"'
    ),
    "trillion-columns.xyz": xyz(comment="Properties=species:S:1:pos:R:3:forces:R:1000000000000 energy=-1"),
    "no-positions.xyz": xyz(comment="Properties=species:S:1 energy=-1", atoms=("Ti", "O")),
    "periodic-along-two.xyz": xyz(comment='Lattice="4 0 0 0 4 0 0 0 4" energy=-1 pbc="T T"'),
    "long-line.xyz": xyz(comment="energy=-1 energy=" + "x" * 3_000_000),
    "long-word.xyz": xyz(atoms=("Ti 0 0 0", "O 2 0 0" + "x" * 3_000_000)),
    "long-count.xyz": xyz(count="2" * 3_000_000),
    "open-quotation.xyz": xyz(comment='Lattice="4 0 0 0 4 0 0 0 4 Properties=species:S:1:pos:R:3 energy=-1'),
    "no-such-element.xyz": xyz(atoms=("Qq 0 0 0", "O 2 0 0")),
    "atoms-at-one-place.xyz": xyz(atoms=("Ti 0 0 0", "O 0 0 0")),
}

BYTES: dict[str, bytes] = {
    "binary-noise.xsf": bytes(range(256)) * 64,
    "zeros.xsf": bytes(10_000),
    "utf-16.xsf": GOOD.encode("utf-16"),
    "utf-32.xsf": GOOD.encode("utf-32"),
    "compressed-under-a-wrong-name.xsf": gzip.compress(GOOD.encode())[:-9],
    "cut.xsf.gz": gzip.compress(GOOD.encode())[:-12],
    "not-compressed.xsf.gz": b"\x1f\x8bnot at all",
    "bomb.xsf.gz": gzip.compress(bytes(300 * 2**20), 9),
    "cut.tar.gz": _WHOLE_ARCHIVE[: len(_WHOLE_ARCHIVE) // 2],
    "empty.tar": b"",
    "no-structures.tar.gz": _archive({"readme.txt": b"nothing here"}),
    "links.tar.gz": _archive({"link.xsf": None}),
    "hard-link.tar.gz": _archive({"link.xsf": None}, tarfile.LNKTYPE),
    "device-inside.tar.gz": _archive({"device.xsf": None}, tarfile.CHRTYPE),
    "pipe-inside.tar.gz": _archive({"pipe.xsf": None}, tarfile.FIFOTYPE),
    "bad-member.tar.gz": _archive({"bad.xsf": b"CRYSTAL\n"}),
    "noise.tar": bytes(range(256)) * 8,
    "bomb.tar.gz": _archive({"bomb.xsf": bytes(300 * 2**20)}),
}


def _changed(text: str, old: str, new: str) -> bytes:
    """With every `old` replaced; there must be one."""
    assert old in text, old
    return text.replace(old, new).encode()


_VASPRUN = outputs.vasprun(1)
_PWO = outputs.espresso(1)
_AIMS = outputs.aims()
_RUNNER = outputs.runner(1)
_TRAJECTORY = outputs.trajectory(1)
_DATABASE = outputs.database(1)
_BOMB = "<!DOCTYPE x [" + "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12)) + "]>"

_OUTCAR = foreign_outputs.outcar(1)
_CP2K = foreign_outputs.cp2k()
_AIMS_MD = foreign_outputs.aims_dynamics(1)

# of other programs: each with one structure, which cannot be used
OUTPUTS: dict[str, bytes] = {
    "empty-vasprun.xml": b"",
    "cut-vasprun.xml": _VASPRUN[: _VASPRUN.index("e_0_energy")].encode(),
    "other-root-vasprun.xml": _changed(_VASPRUN, "modeling", "html"),
    "entities-vasprun.xml": outputs.vasprun(1, head=_BOMB).encode(),
    "nan-force-vasprun.xml": _changed(_VASPRUN, "0.10000000", "       nan"),
    "stars-vasprun.xml": _changed(_VASPRUN, "0.10000000", "**********"),
    "fewer-atoms-vasprun.xml": _changed(_VASPRUN, "<rc><c>O </c><c> 1</c></rc>\n", ""),
    "no-such-element-vasprun.xml": _changed(_VASPRUN, "<c>Si</c>", "<c>Qq</c>"),
    "not-converged-vasprun.xml": outputs.vasprun(1, nelm=2).encode(),
    "deep-vasprun.xml": b"<modeling>" + b"<a>" * 100_000,
    "long-tag-vasprun.xml": b"<modeling><a " + b"x" * 20_000_000,
    "utf-16-vasprun.xml": _VASPRUN.replace("ISO-8859-1", "utf-16").encode("utf-16")[:300],
    "empty.pwo": b"",
    "prose.pwo": b"nothing of the kind\n",
    "cut-in-positions.pwo": _PWO[: _PWO.index("tau(   2)")].encode(),
    "cut-in-forces.pwo": _PWO[: _PWO.index("0.01166", _PWO.index("Forces acting")) + 4].encode(),
    "no-lattice-parameter.pwo": _changed(
        _changed(_PWO, "celldm(1)", "x").decode(), "lattice parameter (alat)", "x"
    ),
    "trillion-atoms.pwo": _changed(
        _PWO, "number of atoms/cell      =            3", "number of atoms/cell = 1000000000000"
    ),
    "not-converged.pwo": outputs.espresso(1, converged=False).encode(),
    "nan-energy.pwo": _changed(
        _PWO, "!    total energy              =     -1", "!    total energy              = nan"
    ),
    "stars.pwo": _changed(_PWO, "atom    2 type  1   force =", "atom    2 type  1   force = ****"),
    "no-such-element.pwo": _changed(_PWO, "Si1", "Qq1"),
    "binary.pwo": _PWO[:300].encode() + bytes(range(256)),
    "empty-aims.out": b"",
    "cut-aims.out": _AIMS[: _AIMS.index("Self-consistency cycle conv")].encode(),
    "cut-in-atoms-aims.out": _AIMS[: _AIMS.index("2: Species")].encode(),
    "not-converged-aims.out": outputs.aims(converged=False).encode(),
    "relaxation-aims.out": outputs.aims(moved=True).encode(),
    "no-count-aims.out": _changed(_AIMS, "| Number of atoms ", "| Number of spins "),
    "nan-force-aims.out": _changed(_AIMS, "1.000000000000000E-01", "nan"),
    "trillion-aims.out": _changed(_AIMS, ":        3", ": 1000000000000"),
    "ghost-aims.out": _changed(_AIMS, "Species Si", "Species Q1"),
    "other-unit-aims.out": _changed(_AIMS, "[eV/Ang]", "[Ha/Bohr]"),
    "empty.traj": b"",
    "pickled.traj": b"PickleTrajectory" + bytes(100),
    "cut.traj": _TRAJECTORY[:100],
    "cut-at-end.traj": _TRAJECTORY[: len(_TRAJECTORY) // 2],
    "of-gpaw.traj": _changed(_TRAJECTORY.decode("latin-1"), "ASE-Trajectory", "GPAW-wavefunct"),
    "trillion-frames.traj": _TRAJECTORY[:32] + (10**12).to_bytes(8, "little") + _TRAJECTORY[40:],
    "frame-nowhere.traj": _TRAJECTORY[:40] + (10**12).to_bytes(8, "little") + _TRAJECTORY[48:],
    "objects.traj": _TRAJECTORY.replace(b'"float64"', b'"object" '),
    "large-array.traj": _TRAJECTORY.replace(b"[[3, 3]", b"[[9, 9]"),
    "no-json.traj": _TRAJECTORY.replace(b'{"', b"{{"),
    "deep-json.traj": _TRAJECTORY.replace(b'"numbers', b'"nombres'),
    "empty.db": b"",
    "prose.db": b"nothing of the kind\n",
    "cut.db": _DATABASE[:3000],
    "cut-in-a-page.db": _DATABASE[:9000],
    "no-rows.db": outputs.database(0),
    "other-tables.db": outputs.database(1, "DROP TABLE systems"),
    "view.db": outputs.database(
        1, "ALTER TABLE systems RENAME TO s", "CREATE VIEW systems AS SELECT * FROM s"
    ),
    "short-positions.db": outputs.database(1, "UPDATE systems SET positions = x'00'"),
    "text-for-numbers.db": outputs.database(1, "UPDATE systems SET numbers = 'SiO2'"),
    "later-version.db": outputs.database(1, "UPDATE information SET value = '99' WHERE name = 'version'"),
    "infinite-energy.db": outputs.database(1, "UPDATE systems SET energy = 9e999"),
    "input.data.empty": b"",
    "input.data.prose": b"nothing of the kind\n",
    "input.data.cut": _RUNNER[: _RUNNER.index("energy")].encode(),
    "input.data.two-vectors": _changed(_RUNNER, _RUNNER.split("\n")[2] + "\n", ""),
    "input.data.no-atoms": "\n".join(
        row for row in _RUNNER.split("\n") if not row.startswith("atom")
    ).encode(),
    "input.data.two-energies": _changed(_RUNNER, "charge 0.0", "energy -2.0"),
    "input.data.nan": _changed(_RUNNER, "energy -1.0", "energy nan"),
    "input.data.no-such-element": _changed(_RUNNER, " Si ", " Qq "),
    "input.data.nine-fields": _changed(_RUNNER, " Si 0.0 ", " Si "),
    "input.data.other-columns": _changed(_RUNNER, "begin", "begin position(4) element"),
    "input.data.unknown-row": _changed(_RUNNER, "charge", "spin"),
}

# of programs that dpdata knows, likewise
FOREIGN: dict[str, bytes] = {
    "OUTCAR.empty": b"",
    "OUTCAR.prose": b"nothing of the kind\n",
    "OUTCAR.cut-in-forces": _OUTCAR[: _OUTCAR.index("0.300000", _OUTCAR.index("TOTAL-FORCE"))].encode(),
    "OUTCAR.no-potentials": "\n".join(
        row for row in _OUTCAR.split("\n") if "TITEL" not in row and "POTCAR:" not in row
    ).encode(),
    "OUTCAR.other-types": _changed(_OUTCAR, "ions per type =               1   2", "ions per type = 1 1 1"),
    "OUTCAR.trillion-ions": _changed(
        _OUTCAR, "ions per type =               1   2", "ions per type = 1 1000000000000"
    ),
    "OUTCAR.not-converged": foreign_outputs.outcar(1, n_electronic=3, nelm=3).encode(),
    "OUTCAR.only-machine-learned": _changed(_OUTCAR, "free  energy   TOTEN", "free  energy ML TOTEN"),
    "OUTCAR.stars": _changed(_OUTCAR, "0.500000", "********"),
    "OUTCAR.nan": _changed(_OUTCAR, f"{outputs.FREE_ENERGY:18.8f}", "               nan"),
    "OUTCAR.no-such-element": _changed(_OUTCAR, "Si_sv_GW", "Qq"),
    "OUTCAR.no-cell": _changed(_OUTCAR, "VOLUME and BASIS", "VOLUME AND BASIS"),
    "OUTCAR.binary": _OUTCAR[:900].encode() + bytes(range(256)),
    "empty-cp2k.out": b"",
    "prose-cp2k.out": b"nothing of the kind\n",
    "cut-cp2k.out": _CP2K[: _CP2K.index("ENERGY|")].encode(),
    "cut-in-forces-cp2k.out": _CP2K[: _CP2K.rindex(" O ")].encode(),
    "no-forces-cp2k.out": foreign_outputs.cp2k(forces=False).encode(),
    "not-converged-cp2k.out": foreign_outputs.cp2k(converged=False).encode(),
    "relaxation-cp2k.out": foreign_outputs.cp2k(n_points=3).encode(),
    "two-runs-cp2k.out": (_CP2K + _CP2K).encode(),
    "no-cell-cp2k.out": _changed(_CP2K, "CELL| Vector", "CELL| vector"),
    "stars-cp2k.out": _changed(_CP2K, "2.100000", "********"),
    "no-such-element-cp2k.out": _changed(_CP2K, " Si    8", " Qq    8"),
    "other-axes-cp2k.out": foreign_outputs.cp2k(periodicity="ABC").encode(),
    "binary-cp2k.out": _CP2K[:900].encode() + bytes(range(256)),
    "md-cut-aims.out": _AIMS_MD[: _AIMS_MD.index("Self-consistency cycle conv")].encode(),
    "md-cut-in-forces-aims.out": _AIMS_MD[: _AIMS_MD.index("  |    3   ")].encode(),
    "md-cut-in-positions-aims.out": _AIMS_MD[: _AIMS_MD.index("  Si\n", _AIMS_MD.index("atom "))].encode(),
    "md-not-converged-aims.out": foreign_outputs.aims_dynamics(1, unconverged=0).encode(),
    "md-no-count-aims.out": _changed(_AIMS_MD, "| Number of atoms ", "| Number of spins "),
    "md-trillion-aims.out": _changed(_AIMS_MD, ":        3", ": 1000000000000"),
    "md-nan-force-aims.out": _changed(_AIMS_MD, "1.000000000000000E-01", "nan"),
    "md-other-unit-aims.out": _changed(_AIMS_MD, "[eV/Ang]", "[Ha/Bohr]"),
    "md-ghost-aims.out": _changed(_AIMS_MD, "Species Si", "Species Q1"),
    "md-no-geometry-aims.out": _changed(_AIMS_MD, "| Atomic structure:", "| Atoms:"),
    "md-nan-energy-aims.out": _changed(_AIMS_MD, f"{outputs.FREE_ENERGY:29.15E}", "nan"),
    "md-binary-aims.out": _AIMS_MD[:600].encode() + bytes(range(256)),
}

BAD: dict[str, bytes] = {name: text.encode() for name, text in TEXTS.items()} | BYTES | OUTPUTS | FOREIGN


def _npy(array: np.ndarray, *, objects: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=objects)
    return stream.getvalue()


def _data_set(**changed: bytes | None) -> dict[str, bytes]:
    """A data set of DeePMD with other content of some files, or without them."""
    with tempfile.TemporaryDirectory() as place:
        folder = foreign_outputs.deepmd(Path(place) / "x", 1)
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()
        }
    for key, content in changed.items():
        name = {"types": "type.raw", "elements": "type_map.raw"}.get(key, f"set.000/{key}.npy")
        files.pop(name, None)
        if content is not None:
            files[name] = content
    return files


# folders, each a data set of one frame that cannot be used
BAD_FOLDERS: dict[str, dict[str, bytes]] = {
    "no-sets": {"type.raw": b"0\n", "type_map.raw": b"O\n"},
    "no-types": _data_set(types=b""),
    "types-of-words": _data_set(types=b"one two three"),
    "trillion-types": _data_set(types=b"0 0 1000000000000"),
    "more-types-than-elements": _data_set(elements=b"O"),
    "no-elements": _data_set(elements=None),
    "no-such-element": _data_set(elements=b"O Qq"),
    "fewer-atoms": _data_set(types=b"0 0"),
    "no-positions": _data_set(coord=None),
    "no-cell": _data_set(box=None),
    "objects": _data_set(energy=_npy(np.array([{}], dtype=object), objects=True)),
    "pickle": _data_set(energy=b"\x80\x04K\x01."),
    "cut-array": _data_set(coord=_npy(np.zeros((1, 9)))[:-8]),
    "noise": _data_set(force=bytes(range(256))),
    "words": _data_set(energy=_npy(np.array(["low"]))),
    "trillion-frames": _data_set(
        coord=_npy(np.zeros((1, 9))).replace(b"(1, 9), }            ", b"(1000000000000, 9), }")
    ),
    "other-shape": _data_set(force=_npy(np.zeros((1, 8)))),
    "nan-energy": _data_set(energy=_npy(np.array([np.nan]))),
    "infinite-position": _data_set(coord=_npy(np.full((1, 9), np.inf))),
    "empty-arrays": _data_set(
        coord=_npy(np.zeros((0, 9))),
        box=_npy(np.zeros((0, 9))),
        energy=_npy(np.zeros(0)),
        force=_npy(np.zeros((0, 9))),
    ),
}

# strange, and yet all is there: what other programs and other systems write
STRANGE: dict[str, bytes] = {
    "lines-of-windows.xsf": GOOD.replace("\n", "\r\n").encode(),
    "byte-order-mark.xsf": b"\xef\xbb\xbf" + GOOD.encode(),
    "tabs.xsf": GOOD.replace(" 0.0", "\t0.0").encode(),
    "latin-1.xsf": "# gerechnet für Köln\n".encode("latin-1") + GOOD.encode(),
    "left-handed.xsf": _cell(_CELL[1], _CELL[0], _CELL[2]).encode(),
    "exponents.xsf": GOOD.replace("4.0", "0.4D+01").encode(),
    "atomic-numbers.xsf": GOOD.replace("Ti ", "22 ").replace("O 2", "8 2").encode(),
    "outside-the-cell.xsf": _atom("O -38.0 0.0 0.0 -0.1 0.0 0.0").encode(),
    "absolute-path.tar.gz": _archive({"/tmp/absolute-path-member.xsf": GOOD.encode()}),
    "path-upwards.tar.gz": _archive({"../../path-upwards-member.xsf": GOOD.encode()}),
}
