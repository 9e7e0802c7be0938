"""The audit: what to know about a data set before fitting anything to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray
from tio2nn.structures.elements import formula
from tio2nn.structures.geometry import ClosestPairs, closest_pairs
from tio2nn.structures.gross_outliers import gross_outliers, seeming_unit
from tio2nn.structures.groups import Groups, find_groups
from tio2nn.structures.outliers import FEWEST
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted, digits

# Tukey's outer fences, in interquartile ranges; 2 in a million normally distributed energies lie beyond
_FENCE = 3.0
# eV/atom; where most energies are equal, numerical noise must not make outliers
_SMALLEST_RANGE = 1e-3
_SMALL_RANGE = 0.02  # eV/atom; of smaller ones three decimals show little, as of phonons
_N_SHOWN = 3  # outliers and duplicates that the summary names


@dataclass(frozen=True)
class Audit:
    """The audit of a data set, one entry per structure, in natural order.

    Attributes:
        names: structure names.
        formulas: such as `Ti8O16`.
        n_atoms: (n_structures,)
        cohesive: (n_structures,) total energy minus reference energies, eV/atom.
        max_forces: (n_structures,) length of the largest force on an atom, eV/Å; NaN without forces.
        closest: distance and atoms of the closest pair, periodic images included.
        closest_elements: symbols of that pair: `O-Ti`.
        groups: related structures.
        duplicate_energies: (n_structures,) energy of a duplicate minus the energy of its original, eV; NaN for
            structures that are no duplicates.
        fences: cohesive energies beyond which a structure is an outlier, eV/atom; good data sets have many outliers.
        gross: (n_structures,) see `gross_outliers`; these are mistakes, excluded from training by default.
        units: of each structure, how a gross outlier's energy seems to be written, or "".
        reference: the reference energies.
        kinds: `config_type` of each structure, or "".
        weights: (n_structures,) in the loss.
    """

    names: tuple[str, ...]
    formulas: tuple[str, ...]
    n_atoms: NDArray[np.int64]
    cohesive: FloatArray
    max_forces: FloatArray
    closest: ClosestPairs
    closest_elements: tuple[str, ...]
    groups: Groups
    duplicate_energies: FloatArray
    fences: tuple[float, float]
    gross: BoolArray
    units: tuple[str, ...]
    reference: ReferenceEnergies
    kinds: tuple[str, ...]
    weights: FloatArray

    @property
    def outliers(self) -> tuple[str, ...]:
        """(n_structures,) "gross", "low", "high" or ""."""
        low, high = self.fences
        return tuple(
            [
                "gross" if is_gross else "low" if energy < low else "high" if energy > high else ""
                for energy, is_gross in zip(self.cohesive.tolist(), self.gross.tolist(), strict=True)
            ]
        )

    @property
    def group_names(self) -> tuple[str, ...]:
        """(n_structures,) name of the first structure in the same group."""
        return tuple([self.names[first] for first in self.groups.group])

    @property
    def duplicates(self) -> tuple[str, ...]:
        """(n_structures,) name of the first structure with the same geometry, or ""."""
        return tuple([self.names[first] if first >= 0 else "" for first in self.groups.duplicate_of])

    def facts(self) -> list[tuple[str, str]]:
        """The summary to print: pairs of a label and a text."""
        return [
            ("structures", f"{len(self.names)}, with {counted(int(self.n_atoms.sum()), 'atom')}"),
            ("compositions", _most_common(self.formulas)),
            *(
                [("kinds", _most_common([kind or "(none)" for kind in self.kinds]))]
                if any(self.kinds)
                else []
            ),
            *([("weights", self._weight_fact())] if (self.weights != 1.0).any() else []),
            ("reference energies", self._reference_fact()),
            ("cohesive energies", self._energy_fact()),
            *([("gross outliers", self._gross_fact())] if self.gross.any() else []),
            ("forces", self._force_fact()),
            ("closest atoms", self._distance_fact()),
            ("groups", self._group_fact()),
            ("duplicates", self._duplicate_fact()),
        ]

    def _reference_fact(self) -> str:
        values = ", ".join(f"{element} {value:.6f} eV" for element, value in self.reference.as_dict().items())
        unsure = "; not determined by the compositions" if self.reference.underdetermined else ""
        return f"{values} ({self.reference.source}{unsure})"

    def _weight_fact(self) -> str:
        low, high = float(self.weights.min()), float(self.weights.max())
        n = int(np.count_nonzero(self.weights == 0.0))
        none = f"; {counted(n, 'structure has', 'structures have')} none in the loss" if n else ""
        return f"{low:g} to {high:g}{none}"

    def _energy_fact(self) -> str:
        low, median, high = np.percentile(self.cohesive, [0, 50, 100])
        decimals = 3 if high - low >= _SMALL_RANGE else 6
        # adding 0.0 turns -0.0 into 0.0
        low, median, high = (round(float(value), decimals) + 0.0 for value in (low, median, high))
        fact = f"{low:.{decimals}f} to {high:.{decimals}f} eV/atom, median {median:.{decimals}f}"
        outliers = self.outliers
        for side, fence in zip(("low", "high"), self.fences, strict=True):
            names = [name for name, own in zip(self.names, outliers, strict=True) if own == side]
            if names:
                where = "below" if side == "low" else "above"
                fact += f"; {counted(len(names), 'outlier')} {where} {fence:.{decimals}f} ({_first(names)})"
        return fact

    def _gross_fact(self) -> str:
        found = np.flatnonzero(self.gross)
        shown = [
            f"{self.names[k]} ({self.cohesive[k]:.3f} eV/atom"
            + ("" if np.isnan(self.max_forces[k]) else f", forces to {self.max_forces[k]:.3f} eV/Å")
            + (f", as if {self.units[k]}" if self.units[k] else "")
            + ")"
            for k in found.tolist()
        ]
        return f"{len(found)}, far outside the range of all others: {_first(shown)}"

    def _force_fact(self) -> str:
        known = np.flatnonzero(~np.isnan(self.max_forces))
        if len(known) == 0:
            return "none"
        largest = known[self.max_forces[known].argmax()]
        share = "all" if len(known) == len(self.names) else f"{len(known)} of {len(self.names)}"
        return f"in {share} structures; largest {digits(self.max_forces[largest], 3)} eV/Å in {self.names[largest]}"

    def _distance_fact(self) -> str:
        first = int(self.closest.distances.argmin())
        if not np.isfinite(self.closest.distances[first]):
            return "none: every structure is a single atom"
        return (
            f"{self.closest.distances[first]:.3f} Å ({self.closest_elements[first]}) in {self.names[first]}"
        )

    def _group_fact(self) -> str:
        sizes = Counter(self.groups.group.tolist())
        if max(sizes.values()) == 1:
            return f"{len(sizes)}, no structures are related"
        kinds = (
            (self.groups.scan, "volume scan", "volume scans"),
            (self.groups.run, "run of consecutive frames", "runs of consecutive frames"),
        )
        parts = []
        for first, one, many in kinds:
            members = first[first >= 0]
            n = len(np.unique(members))
            if n:
                parts.append(f"{counted(n, one, many)} ({counted(len(members), 'structure')})")
        alone = sum(size == 1 for size in sizes.values())
        largest = counted(max(sizes.values()), "structure")
        return f"{len(sizes)}, the largest with {largest}: {', '.join([*parts, f'{alone} single'])}"

    def _duplicate_fact(self) -> str:
        differences = np.abs(self.duplicate_energies[~np.isnan(self.duplicate_energies)])
        if len(differences) == 0:
            return "none"
        same = np.count_nonzero(differences == 0.0)
        names = [
            f"{name} of {other}" for name, other in zip(self.names, self.duplicates, strict=True) if other
        ]
        fact = (
            f"{counted(len(differences), 'structure')} with the geometry of another ({_first(names)}), {same} also "
            "with its energy"
        )
        return (
            fact
            if same == len(differences)
            else f"{fact}; energies differ by up to {differences.max():.2g} eV"
        )


def audit(structures: Sequence[Structure], reference: ReferenceEnergies) -> Audit:
    """Audit a data set.

    Args:
        structures: at least one, all with an energy, in natural order.
        reference: reference energies of all their elements.
    """
    energies = np.array([np.nan if s.energy is None else s.energy for s in structures])
    n_atoms = np.array([structure.n_atoms for structure in structures])
    counts = compositions(structures, reference.elements)
    cohesive = reference.cohesive(counts, energies)
    max_forces = np.array([_largest_force(structure) for structure in structures])
    closest = closest_pairs(structures)
    groups = find_groups(structures)
    first = groups.duplicate_of
    gross, fences = gross_outliers(structures, counts, energies, max_forces), _fences(cohesive)
    return Audit(
        names=tuple(structure.name for structure in structures),
        formulas=tuple(formula(structure.composition) for structure in structures),
        n_atoms=n_atoms,
        cohesive=cohesive,
        max_forces=max_forces,
        closest=closest,
        closest_elements=tuple(
            "-".join(sorted((structure.elements[one], structure.elements[other])))
            for structure, (one, other) in zip(structures, closest.atoms.tolist(), strict=True)
        ),
        groups=groups,
        duplicate_energies=np.where(first >= 0, energies - energies[first], np.nan),
        fences=fences,
        gross=gross,
        units=_seeming_units(energies, counts, reference, gross, _range_within(fences, cohesive[~gross])),
        reference=reference,
        kinds=tuple(structure.config_type for structure in structures),
        weights=np.array([structure.weight for structure in structures]),
    )


def _range_within(fences: tuple[float, float], cohesive: FloatArray) -> tuple[float, float]:
    """The least and the largest of the cohesive energies that are no outliers, eV/atom."""
    usual = cohesive[(cohesive >= fences[0]) & (cohesive <= fences[1])]
    return float(usual.min(initial=np.inf)), float(usual.max(initial=-np.inf))


def _seeming_units(
    energies: FloatArray,
    counts: NDArray[np.int64],
    reference: ReferenceEnergies,
    gross: BoolArray,
    usual: tuple[float, float],
) -> tuple[str, ...]:
    found = [""] * len(energies)
    for k in np.flatnonzero(gross).tolist():
        baseline = float(reference.baseline(counts[k]))
        found[k] = seeming_unit(float(energies[k]), int(counts[k].sum()), baseline, usual)
    return tuple(found)


def compositions(structures: Sequence[Structure], elements: Sequence[str]) -> NDArray[np.int64]:
    """(n_structures, n_elements) number of atoms of each element."""
    rows = [[structure.composition.get(element, 0) for element in elements] for structure in structures]
    return np.array(rows, dtype=np.int64).reshape(len(structures), len(elements))


def _fences(cohesive: FloatArray) -> tuple[float, float]:
    if len(cohesive) < FEWEST:
        return -np.inf, np.inf
    lower, upper = np.percentile(cohesive, [25, 75])
    margin = _FENCE * max(upper - lower, _SMALLEST_RANGE)
    return float(lower - margin), float(upper + margin)


def _largest_force(structure: Structure) -> float:
    return np.nan if structure.forces is None else float(np.sqrt((structure.forces**2).sum(axis=1).max()))


def _first(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _N_SHOWN
    return ", ".join(names[:_N_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _most_common(formulas: Sequence[str]) -> str:
    n_shown = 10
    counts = Counter(formulas).most_common()
    shown = ", ".join(f"{formula} ({count})" for formula, count in counts[:n_shown])
    return shown + (f" and {len(counts) - n_shown} more" if len(counts) > n_shown else "")
