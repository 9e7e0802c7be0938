"""Which keys and columns of extended XYZ hold the reference labels: energy and forces of the method to learn from.

A name is one of a reference label where it is a usual word for the quantity, in any capitals and with or without
separators (`energy`, `TotEnergy`, `Forces`), alone or with the name of a reference beside it (`REF_energy`,
`dft_force`, `forces_qm`). Any other word beside it names another model (`gap_energy`, `mace_forces`), whose results are
never taken for reference labels. Where several names qualify, what they say has to be equal. Whoever knows better names
the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from tio2nn.files.text import parse_number, quoted
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

XsfForces = Literal["eV/A", "Ha/A"]


@dataclass(frozen=True)
class ReadOptions:
    """How structure files are to be understood.

    Attributes:
        energy_key: of extended XYZ, the key that holds the total energy; by default a usual one.
        forces_key: of extended XYZ, the columns that hold the forces; by default usual ones.
        xsf_forces: unit of forces in XSF files that do not state it.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    xsf_forces: XsfForces = "eV/A"


class Label(NamedTuple):
    """Names whose values have to agree, and what to say of names that were not used."""

    names: tuple[str, ...]
    remark: str | None


_METHODS = (
    *("reference", "ref", "true", "target", "label", "abinitio", "dft", "qm"),
    *(
        "pbesol",
        "revpbe",
        "rpbe",
        "pbe0",
        "pbe",
        "r2scan",
        "rscan",
        "scan",
        "lda",
        "pw91",
        "blyp",
        "b3lyp",
        "hse06",
    ),
    *("hse", "wb97xd", "wb97x", "wb97mv", "wb97m", "mp2", "ccsdt", "ccsd", "rpa", "hf"),
    *(
        "vasp",
        "castep",
        "espresso",
        "qe",
        "cp2k",
        "fhiaims",
        "aims",
        "gpaw",
        "siesta",
        "abinit",
        "orca",
        "psi4",
    ),
)
# a correction for dispersion is no reference by itself: `d3_energy` is the correction alone
_REFERENCE = rf"(?:(?:{'|'.join(_METHODS)})+(?:d3bj|d3|d4|mbd)?)"
# these are total energies by their name
_TOTAL = (
    "totalenergy|energytotal|totenergy|energytot|etotal|etot|toten|potentialenergy|potenergy|energypot|epot"
)
# energies that stand beside a total energy and differ from it: of electrons with a temperature, without it
_BESIDE = "freeenergy|e0|energysigma0"


def _pattern(words: str, initial: str | None = None) -> re.Pattern[str]:
    """Matches names without separators; an initial is a word only beside a reference."""
    alone = rf"{_REFERENCE}?(?:{words}){_REFERENCE}?"
    return re.compile(
        alone if initial is None else rf"{alone}|{_REFERENCE}{initial}|{initial}{_REFERENCE}", re.IGNORECASE
    )


_ENERGY = _pattern("energy|totalenergy", initial="e")
_TOTAL_ENERGY = _pattern(_TOTAL)
_BESIDE_ENERGY = _pattern(_BESIDE)
_FORCES = _pattern("forces?|atomicforces?|totalforces?", initial="f")
_STRESS = _pattern("stress|virials?")
_SEPARATORS = re.compile(r"[\W_]+")
_COMPONENTS = ("fx", "fy", "fz")
_DOUBTFUL = ("f", "frc")  # forces, perhaps
_GRADIENT = _pattern("gradients?|grads?")
_MANY = 8  # names in one line


@lru_cache(maxsize=4096)
def _is(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(_SEPARATORS.sub("", name)) is not None


def energy_label(written: Mapping[str, str], chosen: str | None) -> Label:
    """The keys that hold the total energy.

    Args:
        written: what stands behind each key.
        chosen: the only key that may hold it.
    """
    if chosen is not None:
        if chosen in written:
            return Label((chosen,), None)
        return Label((), f"expected a total energy as {chosen!r}, got none{_others(written)}")
    usual = [key for key in written if _is(_ENERGY, key)]
    total = [key for key in written if _is(_TOTAL_ENERGY, key) and key not in usual]
    beside = [key for key in written if _is(_BESIDE_ENERGY, key)]
    # `free_energy` beside `energy` is what ASE writes; beside a name less usual it is a second candidate
    if names := (*usual, *total, *(beside if not usual else ())):
        return Label(names, None)
    return Label((), f"expected a total energy, got none{_others(written)}")


def _others(written: Mapping[str, str]) -> str:
    numbers = [key for key, value in written.items() if parse_number(value) is not None]
    energies = [key for key in numbers if "energy" in key.lower()]
    names = energies or numbers
    return f"; there is {_listed(names)}: --energy-key KEY reads one" if names else ""


def forces_label(columns: Mapping[str, tuple[str, int]], chosen: str | None) -> Label:
    """The columns that hold the forces; three of one number each as one name, with blanks between.

    Args:
        columns: type and number of each.
        chosen: the only ones that may hold them.
    """
    there = [name for name, (kind, n) in columns.items() if n == 3 and kind in ("R", "I")]
    if chosen is not None:
        if chosen in there:
            return Label((chosen,), None)
        got = "others" if chosen in columns else "none"
        return Label((), f"expected forces as three columns {chosen!r}, got {got}{_vectors(there)}")
    components = [name for name in columns if name.lower() in _COMPONENTS and columns[name] == ("R", 1)]
    names = tuple(name for name in there if _is(_FORCES, name))
    if len(components) == len(_COMPONENTS):
        names += (" ".join(sorted(components, key=str.lower)),)
    if names:
        return Label(names, None)
    doubtful = [
        name
        for name, (kind, _) in columns.items()
        if kind in ("R", "I") and ("forc" in name.lower() or name.lower() in _DOUBTFUL)
    ]
    if doubtful:
        return Label(
            (), f"columns {_listed(doubtful)} not read as reference forces; --forces-key KEY reads them"
        )
    gradients = [name for name, (kind, _) in columns.items() if kind == "R" and _is(_GRADIENT, name)]
    if gradients:
        return Label(
            (), f"columns {_listed(gradients)} not read: forces have the opposite sign, write them as such"
        )
    return Label((), None)


def _vectors(names: Iterable[str]) -> str:
    vectors = [name for name in names if name not in ("pos", "positions")]
    return f"; there is {_listed(vectors)}: --forces-key KEY reads one" if vectors else ""


def stress_remark(written: Mapping[str, str]) -> str | None:
    """What to say of a stress, or a virial, that is neither six (Voigt: xx yy zz yz xz xy) nor nine numbers."""
    for key, value in written.items():
        if not _is(_STRESS, key):
            continue
        numbers = [parse_number(field) for field in re.split(r"[\s,]+", value.strip("[]() "))]
        if None in numbers or len(numbers) not in (6, 9):
            got = counted(len(numbers), "number") if None not in numbers else quoted(value)
            return f"{key} ignored: expected six or nine numbers, got {got}"
    return None


def is_reference_label(name: str) -> bool:
    """Whether a key or column holds a label of the reference: energy, forces, stress or virial."""
    return any(_is(pattern, name) for pattern in (_ENERGY, _TOTAL_ENERGY, _BESIDE_ENERGY, _FORCES, _STRESS))


def _listed(names: Iterable[str]) -> str:
    shown = [quoted(name) for name in names]
    more = f" and {len(shown) - _MANY} more" if len(shown) > _MANY else ""
    return ", ".join(shown[:_MANY]) + more


class Remarks:
    """What readers have to say of labels that they left alone, each thing once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, structure: Structure) -> None:
        """Take down what was said of a structure."""
        for remark in structure.extras.remarks:
            n, place = self._found.get(remark, (0, str(structure.error("")).removesuffix(": ")))
            self._found[remark] = (n + 1, place)

    def lines(self) -> tuple[str, ...]:
        """One line for each thing."""
        return tuple(
            f"{place}: {remark}" if n == 1 else f"{place} and {n - 1} more: {remark}"
            for remark, (n, place) in self._found.items()
        )
