"""The formats that are read, and how a file is known to be in one of them: by its name, else by how it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from tio2nn.structures.names import uncompressed

How = Literal["whole", "stream", "place", "folder"]

HEAD = 16_384  # bytes of a file that tell its format; programs print their license before their name
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Format:
    """A format of structure files.

    Attributes:
        key: short name.
        title: name in a sentence.
        names: patterns of file names, in lower case and without suffix of a compression, that tell the format.
        beginning: matches the first bytes of such a file; None if only the name tells.
        labels: what the files say beside the geometry.
        how: what the reader needs: the "whole" content, a "stream" read forwards, or the "place" of the file on disk,
            so that it can be neither compressed nor in an archive. Of a "folder", the names are those of a file in it.
        needs: a package that must be installed; "" for none.
    """

    key: str
    title: str
    names: tuple[str, ...]
    beginning: re.Pattern[bytes] | None
    labels: str
    how: How = "stream"
    needs: str = ""

    def is_kin_of(self, other: Format) -> bool:
        """Whether one reader reads both."""
        return self.key.partition("-")[0] == other.key.partition("-")[0]


def _begins(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


# the keyword alone also begins input of CRYSTAL
XSF = Format(
    "xsf",
    "XSF",
    ("*.xsf", "*.axsf"),
    _begins(
        rb"(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t]*(?:(?:CRYSTAL|SLAB|POLYMER|MOLECULE|DIM-GROUP|ANIMSTEPS)\b"
        rb".*?\b(?:PRIM|CONV)(?:VEC|COORD)\b|ATOMS[ \t\r]*\n\s*(?:[A-Z][a-z]?|[0-9]+)[ \t]+[-+.0-9])"
    ),
    "energy, forces",
    "whole",
)
# the comment of extended XYZ, or an atom
EXTXYZ = Format(
    "extxyz",
    "extended XYZ",
    ("*.xyz", "*.extxyz", "*.exyz"),
    _begins(
        rb"\s*[0-9]+[ \t\r]*\n(?:[^\n]*\b(?:Lattice|Properties)=|[^\n]*\n[ \t]*[A-Z][A-Za-z]?(?:[ \t]+[-+.0-9eE]+){3})"
    ),
    "energy, free energy, forces, stress",
    "whole",
)
VASPRUN = Format(
    "vasprun",
    "vasprun.xml of VASP",
    # with the steps of a workflow behind it
    ("*vasprun*.xml", "*vasprun*.xml.relax*", "*vasprun*.xml.static*", "*vasprun*.xml.[0-9]*"),
    _begins(rb"\s*(<\?xml[^>]*>\s*)?<modeling\b"),
    "energy, free energy, forces, stress",
)
ESPRESSO = Format(
    "espresso",
    "output of pw.x (Quantum ESPRESSO)",
    ("*.pwo",),
    _begins(rb".*?Program PWSCF"),
    "energy, free energy, forces, stress",
)
AIMS = Format(
    "aims",
    "output of FHI-aims (single points)",
    ("*aims.out",),
    _begins(rb".*?Invoking FHI-aims"),
    "energy, free energy, forces, stress",
)
TRAJECTORY = Format(
    "traj",
    "trajectory of ASE",
    ("*.traj",),
    _begins(rb"- of UlmASE-Trajectory|AFFormatASE-Trajectory|PickleTrajectory"),
    "energy, free energy, forces, stress",
)
DATABASE = Format(
    "db",
    "database of ASE (SQLite)",
    ("*.db",),
    _begins(rb"SQLite format 3\0"),
    "energy, free energy, forces, stress",
    "place",
)
RUNNER = Format(
    "runner",
    "input.data of RuNNer and n2p2",
    ("input.data*",),
    _begins(rb"(\s*#[^\n]*\n)*\s*begin\b[^\n]*\n\s*(comment|c|lattice|atom|energy|charge)\b"),
    "energy, forces",
)
AIMS_DYNAMICS = Format(
    "aims-md",
    "output of FHI-aims (dynamics)",
    (),
    _begins(rb".*?Invoking FHI-aims.*?\n[ \t]*MD_run\b"),
    "energy, free energy, forces, stress",
    needs="dpdata",
)
CP2K = Format(
    "cp2k",
    "output of CP2K (single points)",
    ("*cp2k*.out", "*cp2k*.log"),
    _begins(rb".*?CP2K\| version string"),
    "energy, free energy, forces, stress",
    needs="dpdata",
)
OUTCAR = Format(
    "outcar",
    "OUTCAR of VASP",
    ("outcar*", "*outcar"),
    _begins(rb"\s*vasp\.[0-9]"),
    "energy, free energy, forces, stress",
    needs="dpdata",
)
DEEPMD = Format(
    "deepmd",
    "data set of DeePMD (npy)",
    ("type.raw",),
    None,
    "energy, forces, stress",
    "folder",
)

FORMATS: tuple[Format, ...] = (
    XSF,
    EXTXYZ,
    VASPRUN,
    ESPRESSO,
    AIMS_DYNAMICS,
    AIMS,
    CP2K,
    OUTCAR,
    TRAJECTORY,
    DATABASE,
    RUNNER,
    DEEPMD,
)

# files with such names are opened, also in folders and archives, to see how they begin
_DOUBTFUL = ("*.out", "*.log", "*.stdout", "*.xml", "*.data")


def _bare(name: str) -> str:
    # members of archives are named by their path
    return uncompressed(name.rpartition("/")[2].lower())


def format_of_name(name: str) -> Format | None:
    """The format that the name of a file tells."""
    bare = _bare(name)
    return next((one for one in FORMATS if any(fnmatchcase(bare, pattern) for pattern in one.names)), None)


def is_doubtful(name: str) -> bool:
    """Whether a file of this name may be a structure file, so that its content decides."""
    bare = _bare(name)
    return any(fnmatchcase(bare, pattern) for pattern in _DOUBTFUL)


def format_of_content(head: bytes) -> Format | None:
    """The format that the first `HEAD` bytes of a file tell."""
    head = head.removeprefix(_UTF8_MARK)
    return next((one for one in FORMATS if one.beginning is not None and one.beginning.match(head)), None)
