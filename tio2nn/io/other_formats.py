"""Files in formats that tio2nn does not read, for advice in messages."""

from __future__ import annotations

import re
from pathlib import Path

_SUFFIXES = (".cif", ".vasp", ".gen", ".res", ".cell", ".castep", ".pdb", ".cfg", ".xtd")
_NAMES_OF_VASP = ("POSCAR", "CONTCAR", "XDATCAR", "VASPRUN")

_BY_ASE = "write extended XYZ, for example through ASE"
_MLIP = re.compile(rb"\s*BEGIN_CFG\b")
_JSON_OF_ASE = re.compile(rb"\s*\{\s*\"[0-9]+\":\s*\{.{0,2000}\"(?:cell|numbers|ctime)\":", re.DOTALL)
# what ASE does not read by itself, and no unpacking helps with
_CONTAINERS = {
    **dict.fromkeys((".npz", ".npy"), "arrays of NumPy"),
    **dict.fromkeys((".pt", ".pth"), "data of PyTorch"),
    **dict.fromkeys((".pkl", ".pckl", ".pickle"), "pickled data"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "data in HDF5"),
    **dict.fromkeys((".lmdb", ".aselmdb", ".mdb"), "data in LMDB"),
    ".parquet": "a Parquet table",
}
_COMPRESSED = (".gz", ".gzip", ".bz2", ".xz")


def is_read_by_ase(name: str) -> bool:
    """Whether the name is usual for a format of structures that ASE reads."""
    beginning = name.partition(".")[0].partition("_")[0].upper()
    return beginning in _NAMES_OF_VASP or Path(name.lower()).suffix in _SUFFIXES


def to_be_converted(name: str, head: bytes) -> str:
    """What a file is and what to do, where neither a reader here nor unpacking helps; "" for anything else.

    Args:
        name: of the file.
        head: its first bytes.
    """
    if _MLIP.match(head):
        return "configurations of MLIP (BEGIN_CFG): write extended XYZ with their energies and forces"
    if _JSON_OF_ASE.match(head):
        return 'a database of ASE in JSON: convert it with "ase db FILE.json --insert-into FILE.db"'
    suffixes = [suffix for suffix in Path(name.lower()).suffixes if suffix not in _COMPRESSED]
    what = _CONTAINERS.get(suffixes[-1], "") if suffixes else ""
    return f"{what}: {_BY_ASE}" if what else ""
