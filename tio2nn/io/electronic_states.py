"""Total charges and spins that files tell of their structures; a potential of this kind knows neither.

Structures of one composition and geometry have other energies with another charge or spin: a fit to several of them
learns the mean.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tio2nn.files.text import parse_number
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.structure import Structure

_CHARGE = "total charge"
_OF = "total|net|system|molecular"
_KEYS = {
    _CHARGE: re.compile(rf"(?:{_OF})?charge", re.IGNORECASE),
    "spin multiplicity": re.compile(r"(?:spin)?mult(?:iplicity)?", re.IGNORECASE),
    "spin": re.compile(rf"(?:{_OF})?spin", re.IGNORECASE),
}
_SEPARATORS = re.compile(r"[\W_]+")
_SHOWN = 4  # values in a line
_DECIMALS = 2  # a total charge that was summed from partial charges is not whole to the last digit


def stated(*tables: object, initial_charges: object = None) -> dict[str, str]:
    """What ASE keeps of the total charge and the spin of a structure, for `Extras.states`.

    No label depends on it: what is damaged tells nothing.

    Args:
        tables: keys and values, such as `info` and the parameters of the calculator, those that count most first;
            anything else tells nothing.
        initial_charges: (n_atoms,) of the atoms, which many calculators add up; sums that are not whole are guesses.
    """
    found: dict[str, str] = {}
    for table in tables:
        items = table.items() if isinstance(table, Mapping) else ()
        words = {str(key): str(value) for key, value in items if _meaning(str(key)) is not None}
        known = _told(found)
        found |= {key: word for key, word in words.items() if _told({key: word}).keys() - known.keys()}
    if _CHARGE not in _told(found) and (total := _whole_sum(initial_charges)) is not None:
        found["charge"] = str(total)
    return found


def by_electrons(protons: Sequence[float | None], n_electrons: float | None) -> dict[str, str]:
    """The total charge by the number of electrons, for `Extras.states`; nothing if a number is unknown.

    Args:
        protons: of each atom, or what is left of its charge if core electrons are not counted.
        n_electrons: in all.
    """
    known = [number for number in protons if number is not None]
    if n_electrons is None or not known or len(known) < len(protons):
        return {}
    total = sum(known) - n_electrons
    return {"charge": f"{total:.{_DECIMALS}f}"} if math.isfinite(total) else {}


def _whole_sum(charges: object) -> int | None:
    """Sum of the charges of atoms; None if there are none, or it is not whole."""
    try:
        numbers = np.asarray(charges, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(numbers))
    if not numbers.size or not math.isfinite(total) or abs(total - round(total)) >= 10.0**-_DECIMALS:
        return None
    return round(total)


class ElectronicStates:
    """Charges and spins of structures, by their names."""

    def __init__(self) -> None:
        self._charges: dict[str, float] = {}
        self._spins: dict[tuple[str, bool], dict[str, float]] = {}

    def add(self, structure: Structure) -> None:
        """Note what a file tells of a structure."""
        told = _told({**structure.extras.info, **structure.extras.states})
        if (charge := told.pop(_CHARGE, None)) is not None:
            self._charges[structure.name] = charge
        # a single atom has the spin of its shell
        if not told or structure.n_atoms == 1:
            return
        # an odd number of electrons has another spin than an even one
        n_electrons = sum(ATOMIC_NUMBERS[element] for element in structure.elements) - (charge or 0.0)
        for what, value in told.items():
            self._spins.setdefault((what, round(n_electrons) % 2 == 1), {})[structure.name] = value

    def messages(self, names: Collection[str]) -> tuple[str, ...]:
        """A line if charges differ, and one if spins do for as many electrons, odd or even.

        Args:
            names: of the structures that count.
        """
        found: dict[str, str] = {}
        for what, values in ((_CHARGE, self._charges), *((key[0], own) for key, own in self._spins.items())):
            counts = Counter(value for name, value in values.items() if name in names)
            if len(counts) < 2 or what in found:
                continue
            shown = [f"{n} with {value:g}" for value, n in sorted(counts.items())]
            listed = ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
            found[what] = (
                f"structures differ in {what} ({listed}), which a potential does not know: fits learn the mean; "
                "extract those of one value into a project of their own"
            )
        return tuple(found.values())


def _told(info: Mapping[str, str]) -> dict[str, float]:
    told: dict[str, float] = {}
    for key, word in info.items():
        what, number = _meaning(key), parse_number(word.strip("\"'"))
        if number is None or what is None:
            continue
        value = round(number, _DECIMALS) + 0.0  # not -0
        if what == _CHARGE:
            told.setdefault(what, value)
        elif (2.0 * value).is_integer():
            # others are moments that were computed; up and down are the same
            told.setdefault(what, abs(value))
    return told


def _meaning(key: str) -> str | None:
    """What a key tells; None if something else."""
    name = _SEPARATORS.sub("", key)
    return next((what for what, pattern in _KEYS.items() if pattern.fullmatch(name)), None)
