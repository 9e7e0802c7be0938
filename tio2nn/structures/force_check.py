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
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.structures.contradictions import (
    SMALLEST_CHANGE,
    SMALLEST_PER_ATOM,
    Contradiction,
    find_contradiction,
)
from tio2nn.structures.force_pairs import Pairs, pairs_of, weighted_median
from tio2nn.structures.structure import Structure
from tio2nn.structures.third_orders import may_explain
from tio2nn.structures.usual_units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG

_FEWEST_PAIRS = 5
_FEWEST_WITHOUT_CAUSE = 10  # of a slope that suggests no cause: fewer may be far apart and have it by chance
_FEWEST_WEIGHTS = 3.0  # effective number of pairs whose scatter says something
_MOST_TOGETHER = 2000  # structures with the same atoms; more add nothing
_SMALLEST_DIFFERENCE = 1e-3  # eV; smaller differences are rounding and convergence errors
# weighted median deviation of the ratios, relative to their median: 0.02 to 0.2 for runs of correct data
_LARGEST_SCATTER = 0.3
_SMALL_SCATTER = 0.05  # of nearly harmonic structures
_AGREEMENT = (0.8, 1.25)
# Factor between slopes of all pairs and of those with little work: of 3,312 random choices of 6 to 25 structures from
# 138 sets, right forces were accused in 52, and in 20 with this limit
_SAME_SLOPE = 1.5
_FEWEST_ALIKE = 12  # structures, to determine five coefficients and a spread
_FARTHEST = 0.2  # from the mean, in fractional coordinates; diffusing atoms have no mean
_FARTHEST_MOVED = (
    1.0  # Å, of one structure from another; beyond, as in a dimer pulled apart, energies are not harmonic
)
_LARGEST_STRAIN = 0.15
_SMALLEST_STRAIN = 1e-9
_ENOUGH_FOR_STRAINS = 56  # structures; twice the number of strain coefficients
_MOST_SETS = 8  # of similar structures with the same atoms, such as phases of one composition
_SMALLEST_SIGNIFICANCE = 8.0  # standard errors
# Structures of a set, and standard errors of its mean work. Forces draw displaced atoms back, except where the mean is
# a saddle, and there energies tell. Of 25 sets of right data with noticeable forces the work was 2.3 to 190 errors
# above zero, 7.5 at least where the slope was not significant; permuted among the atoms, forces left it within 2.5
_FEWEST_TO_CONTRADICT = 20
_DRAWN_BACK = 4.0
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
    (HARTREE, "as if forces were in Ha/Å"),
    (HARTREE / BOHR, "as if forces were in Ha/Bohr"),
    (RYDBERG, "as if forces were in Ry/Å"),
    (RYDBERG / BOHR, "as if forces were in Ry/Bohr"),
    (1 / HARTREE, _OF_ENERGIES),
    (1 / RYDBERG, "as if energies were in Ry, or forces were multiplied by 13.6 once too often"),
    (BOHR / HARTREE, "as if forces were multiplied by 51.4 (Ha/Bohr) once too often"),
    (1 / BOHR, "as if forces were per Bohr"),
    (BOHR, "as if lengths were in Bohr"),
    (KCAL_PER_MOL, "as if forces were in kcal/mol/Å"),
    (1 / KCAL_PER_MOL, "as if energies were in kcal/mol"),
    (1 / KJ_PER_MOL, "as if energies were in kJ/mol"),
    (KJ_PER_MOL, "as if forces were in kJ/mol/Å"),
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

    def message(self, of_part: str = "", others: str = "") -> str:
        """One line: the factor, its likely cause, and what to do.

        Args:
            of_part: " of " and the name of the part of the data set, if it is one.
            others: what is known of other parts, with a semicolon.
        """
        found = (
            f"forces{of_part} do not match energies: over {self.n} {self.what}, energies change {self.factor:.3g} "
            "times as much as the forces predict"
        )
        cause = self.cause
        if self.per_atom:
            return f"{found}, {cause}; {others}give total energies"
        if self.from_xsf and not others and cause == _CAUSES[0][1]:
            return f"{found}, {cause}; read them with --xsf-forces Ha/A"
        if self.from_xsf and not others and cause == _OF_ENERGIES:
            return f"{found}, {cause}; leave out --xsf-forces Ha/A, or correct the files"
        told = f"{found}, {cause}; {others}correct the files"
        return told if cause else f"{found}; {others}check units and signs"

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


class ForceCheck(NamedTuple):
    """What was found of the forces.

    Attributes:
        finding: what is wrong; None if nothing is, or there is too little to compare.
        are_right: whether pairs of structures show that they are right.
    """

    finding: Disagreement | Contradiction | None = None
    are_right: bool = False


def check_forces(structures: Sequence[Structure], *, in_one_cell: bool = False) -> ForceCheck:
    """Compare forces with energy differences.

    Args:
        structures: in natural order, with energies and forces, each geometry once.
        in_one_cell: whether to compare pairs of structures with the same cell alone.
    """
    from_xsf = bool(structures) and all(
        "xsf" in structure.file.lower().rpartition(".")[2] for structure in structures
    )
    pairs = pairs_of(structures)
    totals = pairs._replace(differences=pairs.differences * pairs.n_atoms)
    of_totals = _ratio(totals)
    are_per_atom = _is_within(_AGREEMENT, of_totals) and _is_of_small_changes(totals, 1.0)
    ratio = _ratio(pairs)
    agree = _is_within(_AGREEMENT, ratio)
    if ratio is not None and not agree and not _is_of_small_changes(pairs, ratio):
        ratio = None
    if ratio is not None and ratio < 0.0 and pairs.draw_back:
        # gradients push displaced atoms farther away; here energies follow something else
        ratio = None
    if agree or (ratio is None and not are_per_atom):
        if (contradiction := find_contradiction(structures, pairs)) is not None:
            return ForceCheck(contradiction)
        if agree:
            return ForceCheck(are_right=True)
        if in_one_cell:
            return ForceCheck()
        return ForceCheck(_of_displacements(structures, from_xsf))
    factor = ratio or float(np.median(1 / pairs.n_atoms))
    scaled = totals if are_per_atom else pairs._replace(at_ends=factor * pairs.at_ends)
    contradiction = find_contradiction(structures, pairs)
    if contradiction is not None and find_contradiction(structures, scaled) is not None:
        # a few pairs outweigh the others, and have this factor by chance
        return ForceCheck(contradiction)
    found = Disagreement(factor, len(pairs.differences), "pairs", are_per_atom, from_xsf)
    is_known = ratio is not None and any(1 / _NEAR < ratio / known < _NEAR for known, _ in _CAUSES)
    if found.cause is None and len(pairs.differences) < _FEWEST_WITHOUT_CAUSE:
        return ForceCheck()
    return ForceCheck(None if _is_within(_ROUGH_AGREEMENT, ratio) and not is_known else found)


def _is_within(limits: tuple[float, float], slope: float | None) -> bool:
    return slope is not None and limits[0] <= slope <= limits[1]


def _ratio(pairs: Pairs) -> float | None:
    """The slope of least absolute deviations from the origin; 1 if it may be; None if pairs are few or differ."""
    chosen = (np.abs(pairs.differences) > _SMALLEST_DIFFERENCE) & (pairs.work != 0.0)
    if np.count_nonzero(chosen) < _FEWEST_PAIRS:
        return None
    differences, work = pairs.differences[chosen], pairs.work[chosen]
    ratios, weights = differences / work, np.abs(work)
    slope = weighted_median(ratios, weights)
    scatter = weighted_median(np.abs(ratios - slope), weights)
    if scatter > _LARGEST_SCATTER * abs(slope):
        return None
    if slope <= 0.0:
        return slope
    # a few may outweigh the others, and then have no scatter
    are_many = weights.sum() ** 2 > _FEWEST_WEIGHTS * (weights**2).sum()
    spread = scatter / slope if are_many else _LARGEST_SCATTER
    is_right = may_explain(slope, spread, differences, pairs.at_ends[chosen], small=_SMALL_SCATTER)
    return 1.0 if is_right else slope


def _is_of_small_changes(pairs: Pairs, slope: float) -> bool:
    """Whether the half of the pairs with the least work has about this slope, too.

    A unit or a sign is the same for all; what atoms pressed together or pulled far apart add is least in small changes.
    """
    chosen = (np.abs(pairs.differences) > _SMALLEST_DIFFERENCE) & (pairs.work != 0.0)
    sizes = np.abs(pairs.at_ends).max(axis=1)
    small = chosen & (sizes <= np.median(sizes[chosen]))
    own = weighted_median(pairs.differences[small] / pairs.work[small], np.abs(pairs.work[small]))
    return 1.0 / _SAME_SLOPE < own / slope < _SAME_SLOPE


class _OfMean(NamedTuple):
    """What displacements of similar structures from their mean show.

    Attributes:
        slope: coefficient of their work in the energies.
        error: its standard error.
        n: number of structures.
        n_atoms: of each.
        drawn_back: how many standard errors the mean work is from zero; None if the work is too small, or follows the
            strains, so that it cannot tell.
    """

    slope: float
    error: float
    n: int
    n_atoms: int
    drawn_back: float | None

    @property
    def is_significant(self) -> bool:
        return abs(self.slope) > _SMALLEST_SIGNIFICANCE * self.error


def _of_displacements(structures: Sequence[Structure], from_xsf: bool) -> Disagreement | Contradiction | None:
    """What is wrong by displacements from the mean in all sets of similar structures; None if nothing is."""
    found = [_regression(alike) for alike in _like_structures(structures)]
    significant = [one for one in found if one.is_significant]
    if significant:
        best = min(significant, key=lambda one: one.error / abs(one.slope))
        # of two, the rough slope of right forces may be that of energies per atom
        per_atom = _is_within(_ROUGH_AGREEMENT, best.slope * best.n_atoms) and best.n_atoms > 2
        wrong = Disagreement(best.slope, best.n, "structures", per_atom, from_xsf)
        return None if _is_within(_ROUGH_AGREEMENT, best.slope) or wrong.cause is None else wrong
    telling = [one.n for one in found if one.drawn_back is not None and one.n >= _FEWEST_TO_CONTRADICT]
    draw_back = [one for one in found if abs(one.drawn_back or 0.0) >= _DRAWN_BACK]
    return Contradiction(0, sum(telling)) if telling and not draw_back else None


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
            apart -= np.rint(apart)
            moved = np.linalg.norm(apart @ cells[0], axis=2).max(axis=1)
            near = (np.abs(strains).max(axis=(1, 2)) < _LARGEST_STRAIN) & (
                (np.abs(apart).max(axis=(1, 2)) < _FARTHEST) & (moved < _FARTHEST_MOVED)
            )
            alike = [s for s, is_near in zip(waiting, near, strict=True) if is_near]
            waiting = [s for s, is_near in zip(waiting, near, strict=True) if not is_near]
            if len(alike) >= _FEWEST_ALIKE:
                yield alike


def _fractions(structure: Structure) -> FloatArray:
    """(n_atoms, 3) fractional coordinates relative to the first atom."""
    return np.asarray((structure.positions - structure.positions[0]) @ np.linalg.inv(structure.cell))


def _regression(structures: Sequence[Structure]) -> _OfMean:
    """Coefficient of the work of displacements from the mean in the energies."""
    n, n_atoms = len(structures), structures[0].n_atoms
    cells = np.stack([s.cell for s in structures])
    forces = np.stack([s.forces for s in structures if s.forces is not None])
    energies = np.array([s.energy for s in structures], dtype=np.float64)
    fractions = np.stack([_fractions(s) for s in structures])
    fractions -= np.rint(fractions - fractions[0])
    shifts = (fractions - fractions.mean(axis=0)) @ cells
    shifts -= shifts.mean(axis=1, keepdims=True)
    work = -0.5 * (forces * shifts).sum(axis=(1, 2))
    if np.abs(work).max() < _ROUNDING or energies.std() < _SMALLEST_DIFFERENCE:
        return _OfMean(0.0, 1.0, n, n_atoms, None)
    columns = [np.ones(len(work)), *_of_cells(cells), work]
    # cells that hardly differ do not determine strain coefficients, and would make the others uncertain
    scales = np.array([np.abs(column).max() for column in columns])
    design = np.column_stack([c / s for c, s in zip(columns, scales, strict=True) if s > _SMALLEST_STRAIN])
    of_strains, own = design[:, :-1], design[:, -1]
    apart = own - of_strains @ np.linalg.lstsq(of_strains, own, rcond=1e-10)[0]
    if apart @ apart < (1.0 - _TIED) * ((own - own.mean()) ** 2).sum():
        return _OfMean(0.0, 1.0, n, n_atoms, None)
    inverse = np.linalg.pinv(design.T @ design, rcond=1e-10)
    energies -= energies.mean()
    coefficients = inverse @ design.T @ energies
    rest = energies - design @ coefficients
    variance = rest @ rest / max(1, len(work) - design.shape[1])
    error = np.sqrt(variance * inverse[-1, -1]) / scales[-1]
    is_large = work.std() > max(SMALLEST_CHANGE, SMALLEST_PER_ATOM * n_atoms)
    drawn_back = float(work.mean() / work.std() * np.sqrt(n)) if is_large else None
    return _OfMean(float(coefficients[-1] / scales[-1]), float(error), n, n_atoms, drawn_back)


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
