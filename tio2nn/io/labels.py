"""Finds the reference labels of extended XYZ: energy, forces and stress of the reference method, by key and column.

A name denotes a reference label if it is a common word for the quantity, in any case, with or without separators
(`energy`, `TotEnergy`, `Forces`), alone or with the name of a reference method (`REF_energy`, `dft_force`,
`forces_qm`). Any other word with it names another model (`gap_energy`, `mace_forces`), whose results are never taken
for reference labels. If several names qualify, their values must be equal. The user can name the key instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Literal, NamedTuple, get_args

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.files.text import parse_number, quoted
from tio2nn.io.label_weights import ENERGY, STRESS, VIRIAL, key_of_no_weight, weighted_label
from tio2nn.structures.energy_label import EnergyChoice
from tio2nn.structures.stress import usable_stress
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

XsfForces = Literal["eV/A", "Ha/A"]
RunnerUnits = Literal["Bohr,Ha", "A,eV"]


@dataclass(frozen=True)
class ReadOptions:
    """How to interpret structure files.

    Attributes:
        energy_key: key of the total energy in extended XYZ and ASE's files; by default a common one.
        forces_key: columns or key of the forces, likewise; by default common ones.
        stress_key: key of the stress, likewise, or of the virial if it has a name of virials; by default common ones.
        xsf_forces: unit of forces in XSF files that do not state it.
        runner_units: units of `input.data` of RuNNer that does not state them; by default Bohr and Hartree.
        energy: which energy is read where a file gives two, with electronic entropy ("free_energy") and without.
            "auto" reads the one without, else the other; for a data set, `extract` decides.

    Raises:
        TypeError, ValueError: a key that is no text, or an unknown unit.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    xsf_forces: XsfForces = "eV/A"
    runner_units: RunnerUnits | None = None
    energy: EnergyChoice = "auto"
    stress_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("energy_key", "forces_key", "stress_key"):
            key = getattr(self, name)
            if not isinstance(key, (str, NoneType)):
                raise TypeError(f"{name}: expected a key or None, got {key!r}")
        if self.energy not in get_args(EnergyChoice):
            expected = ", ".join(map(repr, get_args(EnergyChoice)))
            raise ValueError(f"energy: expected one of {expected}, got {self.energy!r}")
        if self.xsf_forces not in get_args(XsfForces):
            units = " or ".join(map(repr, get_args(XsfForces)))
            raise ValueError(f"xsf_forces: expected {units}, got {self.xsf_forces!r}")
        if self.runner_units not in (None, *get_args(RunnerUnits)):
            units = ", ".join(map(repr, get_args(RunnerUnits)))
            raise ValueError(f"runner_units: expected {units} or None, got {self.runner_units!r}")


class Label(NamedTuple):
    """Names whose values must agree, and a remark on names that were not used."""

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
# a dispersion correction is no reference method: `d3_energy` is the correction alone
_REFERENCE = rf"(?:(?:{'|'.join(_METHODS)})+(?:d3bj|d3|d4|mbd)?)"
# unmistakable names of total energies
_TOTAL = (
    "totalenergy|energytotal|totenergy|energytot|etotal|etot|toten|potentialenergy|potenergy|energypot|epot"
)
# with electronic entropy, and extrapolated to none; given beside a total energy that may differ from it
_FREE = "freeenergy"
_BESIDE = "e0|energysigma0"


def _pattern(words: str, initial: str | None = None) -> re.Pattern[str]:
    """Matches names without separators; the initial counts only with the name of a reference method."""
    alone = rf"{_REFERENCE}?(?:{words}){_REFERENCE}?"
    return re.compile(
        alone if initial is None else rf"{alone}|{_REFERENCE}{initial}|{initial}{_REFERENCE}", re.IGNORECASE
    )


_ENERGY = _pattern("energy|totalenergy", initial="e")
_TOTAL_ENERGY = _pattern(_TOTAL)
_BESIDE_ENERGY = _pattern(_BESIDE)
_FREE_ENERGY = _pattern(_FREE)
_FORCES = _pattern("forces?|atomicforces?|totalforces?", initial="f")
_STRESS = _pattern("stress")
_VIRIAL = _pattern("virials?")
PREFIX_OF_PREDICTIONS = "tio2nn_"
"""Of the names of what a potential predicted, which are no labels."""

_SEPARATORS = re.compile(r"[\W_]+")
_COMPONENTS = ("fx", "fy", "fz")
_DOUBTFUL = ("f", "frc")  # may be forces
_GRADIENT = _pattern("gradients?|grads?")
_MANY = 8  # names shown in a message
# stress and virial of one frame agree within the digits that are usual: of the largest component, and eV/Å³
_APART, _ROUNDED = 1e-3, 2e-6
_JSON = "_JSON"  # in front of arrays that ASE does not write as plain numbers
_NO_BRACKETS = str.maketrans("[](){}", "      ")
_NOT_FINITE = ("nan", "inf", "infinity")


@lru_cache(maxsize=4096)
def _is(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(_SEPARATORS.sub("", name)) is not None


def energy_label(written: Mapping[str, str], chosen: str | None) -> Label:
    """The keys that hold the total energy.

    Args:
        written: the value of each key.
        chosen: the key that the user named, if any.
    """
    if chosen is not None and chosen not in written:
        return Label((), f"expected a total energy in {chosen!r}, got none{_others(written)}")
    if (weight := key_of_no_weight(written, ENERGY)) is not None:
        return Label((), f"expected a total energy, got none: {weight} is 0")
    if chosen is not None:
        return Label((chosen,), None)
    usual = [key for key in written if _is(_ENERGY, key)]
    total = [key for key in written if _is(_TOTAL_ENERGY, key) and key not in usual]
    beside = [key for key in written if _is(_BESIDE_ENERGY, key)]
    # beside a less common name it is a second candidate
    if names := (*usual, *total, *(beside if not usual else ())):
        return Label(names, None)
    return Label((), f"expected a total energy, got none{_others(written)}")


def free_energy_label(written: Mapping[str, str], chosen: str | None) -> Label:
    """The keys that hold the free energy, to which forces belong; none if the user named another key for energies."""
    if key_of_no_weight(written, ENERGY) is not None:
        return Label((), None)
    names = tuple(key for key in written if _is(_FREE_ENERGY, key) and chosen in (None, key))
    return Label(names, None)


def is_free_energy(key: str) -> bool:
    """Whether a key is a name of free energies."""
    return _is(_FREE_ENERGY, key)


def _others(written: Mapping[str, str]) -> str:
    numbers = [key for key, value in written.items() if number_in(value) is not None]
    numbers = [key for key in numbers if weighted_label(key) is None]
    energies = [key for key in numbers if "energy" in key.lower()]
    found = energies or numbers
    names = [key for key in found if not key.startswith(PREFIX_OF_PREDICTIONS)]
    if found and not names:
        return f"; found {_listed(found)}, predictions of a potential: compute the structures first"
    return f"; found {_listed(names)}: choose with --energy-key KEY" if names else ""


def forces_label(columns: Mapping[str, tuple[str, int]], chosen: str | None) -> Label:
    """The columns that hold the forces; three columns of one component each become one name, joined by blanks.

    Args:
        columns: type and width of each.
        chosen: the columns that the user named, if any.
    """
    if chosen is None:
        columns = {
            name: column for name, column in columns.items() if not name.startswith(PREFIX_OF_PREDICTIONS)
        }
    there = [name for name, (kind, n) in columns.items() if n == 3 and kind in ("R", "I")]
    if chosen is not None:
        if chosen in there:
            return Label((chosen,), None)
        got = "another type or width" if chosen in columns else "none"
        return Label((), f"expected forces in three columns {chosen!r}, got {got}{_vectors(there)}")
    components = [name for name in columns if name.lower() in _COMPONENTS and columns[name] == ("R", 1)]
    names = tuple(name for name in there if _is(_FORCES, name))
    if len(components) == len(_COMPONENTS):
        names += (" ".join(sorted(components, key=str.lower)),)
    if names:
        return Label(names, None)
    doubtful = [
        name
        for name, (kind, _) in columns.items()
        if kind in ("R", "I") and ("forc" in name.lower() or _SEPARATORS.split(name.lower())[0] in _DOUBTFUL)
    ]
    if doubtful:
        return Label(
            (),
            f"columns {_listed(doubtful)} not read as reference forces; to read them, use --forces-key KEY",
        )
    gradients = [name for name, (kind, _) in columns.items() if kind == "R" and _is(_GRADIENT, name)]
    if gradients:
        return Label(
            (),
            f"columns {_listed(gradients)} not read: gradients are the negative forces; give forces instead",
        )
    return Label((), None)


def _vectors(names: Iterable[str]) -> str:
    vectors = [name for name in names if name not in ("pos", "positions")]
    return f"; found {_listed(vectors)}: choose with --forces-key KEY" if vectors else ""


def stress_label(
    written: Mapping[str, str],
    chosen: str | None,
    cell: FloatArray,
    periodic: tuple[bool, bool, bool],
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """The stress of a frame, eV/Å³, and remarks on stresses and virials that are not used.

    Args:
        written: the value of each key.
        chosen: the key that the user named, if any; it is a virial if its name says so.
        cell, periodic: as in `Structure`.
    """
    if chosen is not None and chosen not in written:
        return None, (f"expected a stress in {chosen!r}, got none{_tensors(written)}",)
    keys = [key for key in written if _is(_STRESS, key)] + [key for key in written if _is(_VIRIAL, key)]
    volume = float(abs(np.linalg.det(cell)))
    found: dict[str, FloatArray] = {}
    ignored: dict[str, list[str]] = {}  # keys for each reason
    for key in keys if chosen is None else [chosen]:
        is_virial = "virial" in key.lower()
        weight = key_of_no_weight(written, VIRIAL if is_virial else STRESS)
        numbers = _components(written[key])
        stress: FloatArray | None = None
        reason: str | None
        if weight is not None:
            reason = f"{weight} is 0"
        elif isinstance(numbers, str):
            reason = f"expected six or nine numbers, got {numbers}"
        else:
            stress, reason = usable_stress(numbers, periodic, -1.0 / volume if is_virial and volume else 1.0)
        if stress is None:
            ignored.setdefault(str(reason), []).append(key)
        else:
            found[key] = stress
    remarks = tuple(f"{' and '.join(names)} ignored: {reason}" for reason, names in ignored.items())
    if not found:
        return None, remarks
    (first, stress), *others = found.items()
    for key, other in others:
        if np.abs(stress - other).max() > max(_APART * float(np.abs(stress).max()), _ROUNDED):
            reason = "expected the stress to be minus the virial over the volume, got another"
            reason = reason if "virial" in key.lower() else "expected equal stresses, got others"
            remark = f"{first} and {key} ignored: {reason}; choose one with --stress-key"
            return None, (*remarks, remark)
    return stress, remarks


def words_of_numbers(text: str) -> list[str]:
    """The words of a number, vector or matrix, written with or without brackets and commas, or as JSON by ASE."""
    words = text.translate(_NO_BRACKETS).replace(",", " ").split()
    return words[1:] if words[:1] == [_JSON] else words


def number_in(text: str) -> float | None:
    """The finite number that a text holds, alone or as an array of one; None if it holds something else."""
    words = words_of_numbers(text)
    return parse_number(words[0]) if len(words) == 1 else None


def _components(text: str) -> list[float] | str:
    """The numbers of a matrix or vector, with NaN and infinity; what else it is if they are not six or nine.

    That is no value: remarks with the same words are merged.
    """
    words = words_of_numbers(text)
    numbers = [math.nan if word.lower().lstrip("+-") in _NOT_FINITE else parse_number(word) for word in words]
    if None in numbers:
        return "text"
    if len(numbers) not in (6, 9):
        return counted(len(numbers), "number")
    return [number for number in numbers if number is not None]


def _tensors(written: Mapping[str, str]) -> str:
    names = [key for key, value in written.items() if not isinstance(_components(value), str)]
    names = [name for name in names if name != "Lattice"]
    return f"; found {_listed(names)}: choose with --stress-key KEY" if names else ""


def is_stress(key: str) -> bool:
    """Whether a key is a name of stresses or virials."""
    return _is(_STRESS, key) or _is(_VIRIAL, key)


def is_reference_label(name: str) -> bool:
    """Whether a key or column holds a reference label: energy, forces, stress or virial."""
    patterns = (_ENERGY, _TOTAL_ENERGY, _BESIDE_ENERGY, _FREE_ENERGY, _FORCES, _STRESS, _VIRIAL)
    return any(_is(pattern, name) for pattern in patterns)


def _listed(names: Iterable[str]) -> str:
    shown = [quoted(name) for name in names]
    more = f" and {len(shown) - _MANY} more" if len(shown) > _MANY else ""
    return ", ".join(shown[:_MANY]) + more


class Remarks:
    """Remarks of the readers on labels that they ignored, each one once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._of_all: list[str] = []

    def add(self, structure: Structure) -> None:
        """Add the remarks on a structure."""
        for remark in structure.extras.remarks:
            n, place = self._found.get(remark, (0, str(structure.error("")).removesuffix(": ")))
            self._found[remark] = (n + 1, place)

    def add_line(self, line: str) -> None:
        """Add a remark on the structures together."""
        self._of_all.append(line)

    def lines(self) -> tuple[str, ...]:
        """One line for each remark."""
        found = [
            f"{place}: {remark}" if n == 1 else f"{place} and {n - 1} more: {remark}"
            for remark, (n, place) in self._found.items()
        ]
        return (*found, *self._of_all)
