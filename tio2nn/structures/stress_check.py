"""Checks that stresses are the derivatives of the energies, and finds wrong units, signs and orders of components.

The energies of two structures with the same atoms at similar places in cells h (vectors as rows) differ by the work of
stresses and forces, to third order in the change of the cell dh and the displacement du in it (trapezoidal rule, also
where the cell turns):

    E2 - E1 = mean over both of (V tr(stress h^-1 dh) - F · du)

What is left of the energies without the work of the forces is compared with the work of the stresses: as they are, as
virials, and with their components in other orders. The slope of least absolute deviations tells the unit and the sign,
the deviations which order fits. A constant cell tells nothing about the stress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.structures.strained_pairs import Pairs, pairs_of
from tio2nn.structures.stress import GPA
from tio2nn.structures.stress_causes import (
    AGREEMENT,
    CLOSE_AGREEMENT,
    KINDS,
    NAMES,
    ORDERS,
    cause_of,
    nearest_unit,
    of_order,
)
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

# pairs; so many to tell the order of components, and anything if the deviation is not small
_FEWEST_PAIRS, _MANY_PAIRS, _CLEAR = 5, 12, 0.1
# L1 deviation that a slope leaves, relative to that without any: 0.07 and 0.09 for Si and Ge, 0.5 for Li, whose
# energies differ by less than 1 meV
_LARGEST_DEVIATION = 0.65
_SURE = 0.3  # largest deviation for a word on a factor that is no known one
# deviation of another order relative to that of Voigt's, from which on the other is the right one
_CERTAIN = 0.5
_EQUAL = 1.05  # of deviations
# of a virial and a stress: the third order favors one of them, and 0.07 is usual
_ALIKE, _USUAL = 2.0, 0.07
_NEAR_ONE = 0.3  # logarithm of slopes of virials and stresses taken for each other
_DOUBTFUL = 0.2  # of the logarithm of a slope over a known one: the other of the two is named, too
# deviation of the next order relative to the one that fits, from which on pairs tell the order
_TELLING = 1.5
_TOO_FAR = "atoms of strained copies are too far from each other's places"


@dataclass(frozen=True)
class StressCheck:
    """What the comparison of stresses with energies found.

    Attributes:
        n_stresses, n_structures: how many structures have a stress, of how many.
        n_pairs: number of compared pairs; 0 if there are too few.
        slope: change of the energy divided by the change that the stresses predict, in the order and of the kind that
            fit best; None if nothing fits.
        kind: what the numbers are: "stress", or "virial" (eV) instead, or "stress read as virial".
        order: components in the order in which they seem to be given.
        tells_shears, tells_diagonal: whether another order of these components would fit worse.
        range: smallest and largest tension, a third of the trace, GPa.
        or_else: what else the numbers may be; "" if nothing.
        per_atom: whether energies and stresses agree if the energies are energies per atom.
        agreement: smallest and largest slope of right stresses.
        why_not: why nothing was compared, if so.
    """

    n_stresses: int
    n_structures: int
    n_pairs: int = 0
    slope: float | None = None
    kind: str = "stress"
    order: tuple[str, ...] = NAMES
    tells_shears: bool = False
    tells_diagonal: bool = False
    range: tuple[float, float] = (0.0, 0.0)
    or_else: str = ""
    per_atom: bool = False
    agreement: tuple[float, float] = AGREEMENT
    why_not: str = "no pairs have the same atoms at similar places in strained cells"

    @property
    def disagrees(self) -> bool:
        """Whether there is something to correct."""
        if self.slope is None:
            return False
        return bool(self.cause) or not self.agreement[0] <= self.slope <= self.agreement[1]

    @property
    def doubt(self) -> str:
        """What a fit should not learn: all of the "stress", its "shears", or "" where nothing is wrong with it."""
        if not self.disagrees or self.per_atom:
            return ""
        assert self.slope is not None
        is_shears = self.kind == "stress" and not self.or_else and self.order[:3] == NAMES[:3]
        return "shears" if is_shears and self.agreement[0] <= self.slope <= self.agreement[1] else "stress"

    @property
    def tells_order(self) -> bool:
        """Whether components that are in another order than Voigt's would fit worse in a third one."""
        as_voigt = [self.order[:3] == NAMES[:3], self.order[3:] == NAMES[3:]]
        return (as_voigt[0] or self.tells_diagonal) and (as_voigt[1] or self.tells_shears)

    @property
    def cause(self) -> str:
        """What the numbers seem to be; "" if they are as they should be, or it is unknown."""
        assert self.slope is not None
        if self.per_atom:
            order = of_order(self.order, self.tells_order)
            return " and ".join(["as if energies were per atom", *([f"stresses {order}"] if order else [])])
        kind = "" if self.kind == "stress" else KINDS[self.kind]
        found = cause_of(self.slope, self.order, kind=kind, is_sure=self.tells_order)
        return f"{found}, or {self.or_else}" if self.or_else else found

    def message(self, of_part: str = "", others: str = "") -> str:
        """One line on a disagreement: the factor, its likely cause, and what to do.

        Args:
            of_part: " of b.xyz" if these are not all stresses.
            others: "those of a.xyz agree; ".
        """
        assert self.slope is not None
        pairs = counted(self.n_pairs, "pair", "pairs")
        found = f"stresses{of_part} do not match energies: over {pairs} of strained copies, energies "
        if self.agreement[0] <= self.slope <= self.agreement[1]:
            return f"{found}follow from them {self.cause}; {others}correct the files"
        found += f"change {self.slope:.3g} times as much as the stresses predict"
        if self.cause:
            return f"{found}, {self.cause}; {others}correct the files"
        return f"{found}; {others}check units and signs"

    def range_fact(self) -> str:
        """How many stresses there are, and how large they are."""
        share = "all" if self.n_stresses == self.n_structures else f"{self.n_stresses} of {self.n_structures}"
        return f"in {share} structures, tensions {self.range[0]:.2f} to {self.range[1]:.2f} GPa"

    def fact(self) -> str:
        """Messages about the stresses of a data set."""
        found = self.range_fact()
        if self.slope is None:
            return f"{found}; not compared with energies: {self.why_not}"
        if self.disagrees:
            return f"{found}; they do not match energies, see below"
        untold = [
            name
            for name, is_told in (("of the diagonal", self.tells_diagonal), ("of shears", self.tells_shears))
            if not is_told
        ]
        order = f", but do not determine the order {' and '.join(untold)}" if untold else ""
        pairs = counted(self.n_pairs, "pair of strained copies", "pairs of strained copies")
        return f"{found}; {pairs} agree with energies (ratio {self.slope:.2f}){order}"


def compare_stress(structures: Sequence[Structure], *, forces_agree: bool = True) -> StressCheck:
    """Compare stresses with energy differences.

    Args:
        structures: in natural order.
        forces_agree: whether forces are known not to disagree with the energies.
    """
    usable = [s for s in structures if s.stress is not None and s.energy is not None and all(s.periodic)]
    tensions = [GPA * float(np.trace(s.stress)) / 3.0 for s in usable if s.stress is not None]
    about = StressCheck(
        len(usable), len(structures), range=(min(tensions, default=0.0), max(tensions, default=0.0))
    )
    if not forces_agree:
        return _because(about, "forces and energies disagree first")
    pairs = pairs_of(usable)
    if len(pairs.differences) < _FEWEST_PAIRS:
        return about
    return _fitted(about, pairs)


def _because(about: StressCheck, reason: str) -> StressCheck:
    return replace(about, why_not=reason)


class _Fit(NamedTuple):
    """How well energies follow from the stresses, taken in one way.

    Attributes:
        deviation: part of the differences that the slope leaves.
        slope: of energies against the work of stresses.
        kind, order: as in `StressCheck`.
    """

    deviation: float
    slope: float
    kind: str
    order: tuple[str, ...]


def _fitted(about: StressCheck, pairs: Pairs) -> StressCheck:
    fits = {
        (kind, order): _slope(pairs.differences, _work(pairs.work[power], order), kind, order)
        for power, kind in enumerate(("virial", "stress", "stress read as virial"))
        for order in ORDERS
    }
    likely = _in_likely_order([fits["stress", order] for order in ORDERS], len(pairs.differences))
    likely, or_else = _virial_or_not(likely, fits)
    if likely.deviation > _LARGEST_DEVIATION:
        return _because(
            about,
            _TOO_FAR
            if pairs.are_far_apart
            else "energies of strained copies do not follow from any multiple of their stresses",
        )
    if likely.deviation > _CLEAR and len(pairs.differences) < _MANY_PAIRS:
        return _because(
            about, f"{counted(len(pairs.differences), 'pair')} of strained copies do not tell enough"
        )
    per_atom = _slope(
        pairs.differences * pairs.n_atoms, _work(pairs.work[1], likely.order), "stress", likely.order
    )
    is_per_atom = (
        per_atom.slope > 0.0
        and abs(np.log(per_atom.slope)) < min(_NEAR_ONE, nearest_unit(abs(likely.slope))[0])
        and per_atom.deviation <= _EQUAL * likely.deviation
    )
    tells_diagonal, tells_shears = (
        min(
            fits[likely.kind, order].deviation
            for order in ORDERS
            if order[kept] == likely.order[kept] and order != likely.order
        )
        > _TELLING * likely.deviation
        for kept in (slice(3, 6), slice(0, 3))
    )
    is_unsure = len(pairs.differences) < _MANY_PAIRS or likely.deviation > _SURE
    found = replace(
        about,
        n_pairs=len(pairs.differences),
        slope=likely.slope,
        kind=likely.kind,
        order=likely.order,
        or_else=or_else,
        tells_shears=tells_shears,
        tells_diagonal=tells_diagonal,
        per_atom=is_per_atom,
        agreement=AGREEMENT if is_unsure else CLOSE_AGREEMENT,
    )
    if is_unsure and found.disagrees and not found.cause:
        return _because(about, f"{counted(found.n_pairs, 'pair')} of strained copies do not tell enough")
    is_as_read = found.kind == "stress" and found.order == NAMES and not found.per_atom
    if is_as_read and found.disagrees and pairs.may_be_right(likely.slope, likely.deviation):
        return _because(about, _TOO_FAR)
    return found


def _in_likely_order(fits: Sequence[_Fit], n_pairs: int) -> _Fit:
    """The fit in the order that the pairs tell, which is that of Voigt unless another is much better."""
    as_read = fits[0]
    best = min(fit.deviation for fit in fits)
    if n_pairs < _MANY_PAIRS or best > min(_SURE, _CERTAIN * as_read.deviation):
        return as_read
    return next(fit for fit in fits if fit.deviation <= _EQUAL * best)


def _virial_or_not(stress: _Fit, fits: Mapping[tuple[str, tuple[str, ...]], _Fit]) -> tuple[_Fit, str]:
    """The fit itself or one of the other kinds, and what else the numbers may be.

    Virials have the size that eV have. Where volumes hardly differ, only sizes tell them from stresses in another unit.
    """
    distance, unit = nearest_unit(abs(stress.slope))
    for kind, told in KINDS.items():
        other = fits[kind, stress.order]
        own = abs(float(np.log(max(abs(other.slope), 1e-300))))
        if own > _NEAR_ONE or other.deviation > max(_ALIKE * stress.deviation, _USUAL):
            continue
        if own < distance:
            return other, unit if distance < _DOUBTFUL else ""
        return stress, told if own < _DOUBTFUL and unit else ""
    return stress, ""


def _work(work: FloatArray, order: Sequence[str]) -> FloatArray:
    """(n_pairs,) of stresses whose components have this order."""
    return np.asarray(sum(work[:, k, order.index(name)] for k, name in enumerate(NAMES)))


def _slope(differences: FloatArray, work: FloatArray, kind: str, order: tuple[str, ...]) -> _Fit:
    """The slope of least absolute deviations through the origin, and the part of the differences that it leaves."""
    chosen = work != 0.0
    if not chosen.any():
        return _Fit(1.0, 1.0, kind, order)
    ratios, weights = differences[chosen] / work[chosen], np.abs(work[chosen])
    ranked = np.argsort(ratios)
    below = np.cumsum(weights[ranked])
    slope = float(ratios[ranked][np.searchsorted(below, 0.5 * below[-1])])
    left = differences - slope * work
    deviation = float(np.abs(left).sum() / np.abs(differences).sum())
    return _Fit(deviation, slope, kind, order)
