"""Checks that forces are the negative gradient of the energies, and finds wrong units and signs.

The energies of two structures with the same cell differ by the work of the forces, to third order in the displacement
dR (trapezoidal rule; exact in a harmonic crystal, however far atoms move):

    E2 - E1 = -(F1 + F2) · dR / 2

If no cell occurs twice, structures with the same atoms in cells of similar shape are compared with their mean: with u
the displacements from the mean fractional coordinates, E + F · u / 2 is to second order the energy of the undisplaced
atoms, a function of the strain of the cell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.structures.force_pairs import Pairs, pairs_of, to_compare
from tio2nn.structures.groups import Groups
from tio2nn.structures.structure import Structure
from tio2nn.structures.third_orders import may_explain

_HARTREE, _BOHR = 27.211386, 0.529177  # eV, Å
_FEWEST_PAIRS = 5
_FEWEST_WEIGHTS = 3.0  # effective number of pairs whose scatter says something
_MOST_TOGETHER = 2000  # structures with the same atoms; more add nothing
_SMALLEST_DIFFERENCE = 1e-3  # eV; smaller differences are rounding and convergence errors
# weighted median deviation of the ratios, relative to their median: 0.02 to 0.2 for runs of correct data
_LARGEST_SCATTER = 0.3
_SMALL_SCATTER = 0.05  # of nearly harmonic structures
_AGREEMENT = (0.8, 1.25)
_FEWEST_ALIKE = 12  # structures, to determine five coefficients and a spread
_FARTHEST = 0.2  # from the mean, in fractional coordinates; diffusing atoms have no mean
_LARGEST_STRAIN = 0.15
_SMALLEST_STRAIN = 1e-9
_ENOUGH_FOR_STRAINS = 56  # structures; twice the number of strain coefficients
_MOST_SETS = 8  # of similar structures with the same atoms, such as phases of one composition
_SMALLEST_SIGNIFICANCE = 8.0  # standard errors
# part of the work of displacements that strains explain where they follow a path; then no slope tells it from strains
_TIED = 0.9
_ROUNDING = 1e-9  # eV
# room for anharmonicity: for correct data the slope of displacements from a mean was 0.55 to 1.25
_ROUGH_AGREEMENT = (0.4, 2.5)
_NEAR = 1.1  # factor within which a slope of pairs is that of a cause where anharmonicity may be another
_RECOGNIZED = 1.2  # factor within which a slope is recognized; slopes from a mean are up to 15 % off

_OF_ENERGIES = "as if energies were in Ha, or forces were multiplied by 27.2 once too often"
# slope and its cause, given that the numbers were read as eV/Å and eV; likely causes first, as rough slopes do not tell
# Hartree from kcal/mol
_CAUSES: tuple[tuple[float, str], ...] = (
    (_HARTREE, "as if forces were in Ha/Å"),
    (_HARTREE / _BOHR, "as if forces were in Ha/Bohr"),
    (_HARTREE / 2, "as if forces were in Ry/Å"),
    (_HARTREE / 2 / _BOHR, "as if forces were in Ry/Bohr"),
    (1 / _HARTREE, _OF_ENERGIES),
    (2 / _HARTREE, "as if energies were in Ry, or forces were multiplied by 13.6 once too often"),
    (_BOHR / _HARTREE, "as if forces were multiplied by 51.4 (Ha/Bohr) once too often"),
    (1 / _BOHR, "as if forces were per Bohr"),
    (_BOHR, "as if lengths were in Bohr"),
    (1 / 23.0605, "as if forces were in kcal/mol/Å"),
    (23.0605, "as if energies were in kcal/mol"),
    (96.4853, "as if energies were in kJ/mol"),
    (1 / 96.4853, "as if forces were in kJ/mol/Å"),
    (1000.0, "as if energies were in meV"),
    (0.001, "as if forces were in meV/Å"),
)


@dataclass(frozen=True)
class Disagreement:
    """Forces that are not the negative gradient of the energies.

    Attributes:
        factor: change of energy divided by the change that the forces predict; negative if forces have the wrong sign.
        n: number of compared pairs or structures.
        what: "pairs" of structures with the same cell, or "structures" with similar cells.
        per_atom: whether energies and forces agree if the energies are energies per atom.
        from_xsf: whether the structures come from XSF files.
    """

    factor: float
    n: int
    what: str
    per_atom: bool
    from_xsf: bool

    def message(self) -> str:
        """One line: the factor, its likely cause, and what to do."""
        found = (
            f"forces do not match energies: over {self.n} {self.what}, energies change {self.factor:.3g} times as much "
            "as the forces predict"
        )
        if self.per_atom:
            return f"{found}, {self.cause}; give total energies"
        cause = self.cause
        if self.from_xsf and cause == _CAUSES[0][1]:
            return f"{found}, {cause}; read them with --xsf-forces Ha/A"
        if self.from_xsf and cause == _OF_ENERGIES:
            return f"{found}, {cause}; leave out --xsf-forces Ha/A, or correct the files"
        return f"{found}, {cause}; correct the files" if cause else f"{found}; check units and signs"

    @property
    def cause(self) -> str | None:
        """The likely cause, if the factor suggests one."""
        if self.per_atom:
            return "as if energies were per atom"
        size = abs(self.factor)
        sign = "forces had the wrong sign (gradients)" if self.factor < 0 else ""
        near = [known for known in _CAUSES if 1 / _RECOGNIZED < size / known[0] < _RECOGNIZED]
        if self.what == "pairs":
            near.sort(key=lambda known: abs(np.log(size / known[0])))
        if near:
            # slopes of pairs tell causes apart, others do not; XSF has forces in Ha/Å
            shown = near[:1] if self.what == "pairs" or self.from_xsf else near[:2]
            told = " or ".join(cause for _, cause in shown)
            return f"{told} and {sign}" if sign else told
        return f"as if {sign}" if sign else None


def compare_forces(structures: Sequence[Structure], groups: Groups) -> Disagreement | None:
    """Compare forces with energy differences.

    Args:
        structures: in natural order.
        groups: their groups; duplicates are skipped.

    Returns:
        The disagreement; None if forces and energies agree, or if there is too little to compare.
    """
    usable = to_compare(structures, groups)
    from_xsf = bool(usable) and all(
        "xsf" in structure.file.lower().rpartition(".")[2] for structure in usable
    )
    pairs = pairs_of(usable)
    of_totals = _ratio(pairs._replace(differences=pairs.differences * pairs.n_atoms))
    if (ratio := _ratio(pairs)) is None and not _is_within(_AGREEMENT, of_totals):
        slope, n_structures, size = _slope_of_displacements(usable)
        per_atom = _is_within(_ROUGH_AGREEMENT, slope * size) and size > 1
        found = Disagreement(slope, n_structures, "structures", per_atom, from_xsf)
        return None if _is_within(_ROUGH_AGREEMENT, slope) or found.cause is None else found
    if _is_within(_AGREEMENT, ratio):
        return None
    per_atom = _is_within(_AGREEMENT, of_totals)
    factor = ratio or float(np.median(1 / pairs.n_atoms))
    found = Disagreement(factor, len(pairs.differences), "pairs", per_atom, from_xsf)
    is_known = ratio is not None and any(1 / _NEAR < ratio / known < _NEAR for known, _ in _CAUSES)
    return None if _is_within(_ROUGH_AGREEMENT, ratio) and not is_known else found


def _is_within(limits: tuple[float, float], slope: float | None) -> bool:
    return slope is not None and limits[0] <= slope <= limits[1]


def _ratio(pairs: Pairs) -> float | None:
    """The slope of least absolute deviations from the origin; 1 if it may be; None if pairs are few or differ."""
    chosen = (np.abs(pairs.differences) > _SMALLEST_DIFFERENCE) & (pairs.work != 0.0)
    if np.count_nonzero(chosen) < _FEWEST_PAIRS:
        return None
    differences, work = pairs.differences[chosen], pairs.work[chosen]
    ratios, weights = differences / work, np.abs(work)
    slope = _weighted_median(ratios, weights)
    scatter = _weighted_median(np.abs(ratios - slope), weights)
    if scatter > _LARGEST_SCATTER * abs(slope):
        return None
    if slope <= 0.0:
        return slope
    # a few may outweigh the others, and then have no scatter
    are_many = weights.sum() ** 2 > _FEWEST_WEIGHTS * (weights**2).sum()
    spread = scatter / slope if are_many else _LARGEST_SCATTER
    is_right = may_explain(slope, spread, differences, pairs.at_ends[chosen], small=_SMALL_SCATTER)
    return 1.0 if is_right else slope


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, 0.5 * below[-1])])


def _slope_of_displacements(structures: Sequence[Structure]) -> tuple[float, int, int]:
    """Slope of energies against the work of displacements from the mean, number of structures, and atoms of each.

    Of several sets of similar structures, the one with the smallest error counts; the slope is 1 if none is
    significant.
    """
    found = []
    for alike in _like_structures(structures):
        slope, error = _regression(alike)
        if abs(slope) > _SMALLEST_SIGNIFICANCE * error:
            found.append((error / abs(slope), slope, len(alike), alike[0].n_atoms))
    _, slope, n, size = min(found, default=(0.0, 1.0, 0, 0))
    return slope, n, size


def _like_structures(structures: Sequence[Structure]) -> Iterator[list[Structure]]:
    """Large enough sets of structures with the same atoms at similar places in cells of similar shape."""
    by_elements: dict[tuple[str, ...], list[Structure]] = defaultdict(list)
    for structure in structures:
        if all(structure.periodic):
            by_elements[structure.elements].append(structure)
    for left in by_elements.values():
        waiting = left[:_MOST_TOGETHER]
        for _ in range(_MOST_SETS):
            if len(waiting) < _FEWEST_ALIKE:
                break
            cells = np.stack([s.cell for s in waiting])
            places = np.stack([_fractions(s) for s in waiting])
            strains, apart = np.linalg.solve(cells[0], cells) - np.eye(3), places - places[0]
            near = (np.abs(strains).max(axis=(1, 2)) < _LARGEST_STRAIN) & (
                np.abs(apart - np.rint(apart)).max(axis=(1, 2)) < _FARTHEST
            )
            alike = [s for s, is_near in zip(waiting, near, strict=True) if is_near]
            waiting = [s for s, is_near in zip(waiting, near, strict=True) if not is_near]
            if len(alike) >= _FEWEST_ALIKE:
                yield alike


def _fractions(structure: Structure) -> FloatArray:
    """(n_atoms, 3) fractional coordinates relative to the first atom."""
    return np.asarray((structure.positions - structure.positions[0]) @ np.linalg.inv(structure.cell))


def _regression(structures: Sequence[Structure]) -> tuple[float, float]:
    """Coefficient of the work of displacements in the energies, and its standard error."""
    cells = np.stack([s.cell for s in structures])
    forces = np.stack([s.forces for s in structures if s.forces is not None])
    energies = np.array([s.energy for s in structures], dtype=np.float64)
    fractions = np.stack([_fractions(s) for s in structures])
    fractions -= np.rint(fractions - fractions[0])
    shifts = (fractions - fractions.mean(axis=0)) @ cells
    shifts -= shifts.mean(axis=1, keepdims=True)
    work = -0.5 * (forces * shifts).sum(axis=(1, 2))
    if np.abs(work).max() < _ROUNDING or energies.std() < _SMALLEST_DIFFERENCE:
        return 0.0, 1.0
    columns = [np.ones(len(work)), *_of_cells(cells), work]
    # cells that hardly differ do not determine strain coefficients, and would make the others uncertain
    scales = np.array([np.abs(column).max() for column in columns])
    design = np.column_stack([c / s for c, s in zip(columns, scales, strict=True) if s > _SMALLEST_STRAIN])
    of_strains, own = design[:, :-1], design[:, -1]
    apart = own - of_strains @ np.linalg.lstsq(of_strains, own, rcond=1e-10)[0]
    if apart @ apart < (1.0 - _TIED) * ((own - own.mean()) ** 2).sum():
        return 0.0, 1.0
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10)
    energies -= energies.mean()
    coefficients = inverse @ design.T @ energies
    rest = energies - design @ coefficients
    variance = rest @ rest / max(1, len(work) - design.shape[1])
    return float(coefficients[-1] / scales[-1]), float(np.sqrt(variance * inverse[-1, -1]) / scales[-1])


def _of_cells(cells: FloatArray) -> list[FloatArray]:
    """Functions of the strains, to second order: all of them if there are enough structures, else volume and shear."""
    strains = np.linalg.solve(cells.mean(axis=0), cells) - np.eye(3)
    strains = 0.5 * (strains + strains.transpose(0, 2, 1))
    if len(cells) >= _ENOUGH_FOR_STRAINS:
        linear = [strains[:, i, j] for i in range(3) for j in range(i, 3)]
        return linear + [one * other for k, one in enumerate(linear) for other in linear[: k + 1]]
    volumes = np.log(np.abs(np.linalg.det(cells)))
    volumes -= volumes.mean()
    shear = strains - np.trace(strains, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    return [volumes, volumes**2, (shear**2).sum(axis=(1, 2))]
