"""Forces that belong to other atoms or other structures, or are wrong in some structures of many.

Along a path on which the force changes steadily, the change of the energy lies between what the forces at both ends
predict, however anharmonic the energy is. Forces of other atoms predict anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.force_pairs import Move, Pairs
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

# changes below both are errors of convergence, and what smearing adds to energies
SMALLEST_CHANGE = 0.02  # eV
SMALLEST_PER_ATOM = 5e-4  # eV
# Distance of the change of the energy from the range of both predictions, or from their mean, as a part of the largest
# of the three
_FAR = 0.3
_FEWEST = 5  # pairs
# Part of the pairs that are far from the range. Right forces of 15 kinds of data sets and of dynamics of metals, argon
# and molecules from 30 to 4,000 K, frames 1 to 40 fs apart: none, but for hot molecules, whose atoms went to and fro,
# up to 0.08. Forces permuted among the atoms, the same: 0.20 to 0.73, mostly 0.3 to 0.5
_CONTRADICTED = 0.15
# Median distance from the mean up to which pairs agree so well that single ones tell
_CLOSE = 0.05
# Part of the pairs that are far from the mean, where most are close to it. Right forces: at most 0.01
_SINGLE = 0.05
# Part of the half of the change of the work from one end to the other. A force that dies off along a path of right
# forces leaves the energy 0.3 to 0.6 from the mean, one that is wrong at one end 1 or more
_EXPLAINED = 0.7
# Forces that draw atoms back are those of these atoms, and energies are to blame, unless the forces are in another
# unit. Too small ones leave most of the energies, and what they leave follows their work; beside the work of too large
# ones energies hardly change. Sums over sums of sizes. Of 1,083 sets with right forces, 120 of them with energies that
# lack the entropy of electrons smeared by 0.5 or 1 eV, 815 with noise of 1 to 10 meV in their energies, at most 4 lose
# the forces. With energies that lack the entropy, what right forces near a minimum leave follows them to 0.5 to 0.8; of
# 286 sets in Ha/Å, 175 are found with 0.5, 170 with 0.65, 164 with 0.75
_FOLLOWS = 0.75
_MUCH_MORE, _HARDLY = 3.0, 0.1
_LEAST_LEFT = 0.05  # part of the pairs that right forces in the right order leave far from the range
_LARGEST_SCATTER = 0.15  # of the factors by which forces of single structures are wrong
_MOST_ATOMS = 5000  # whose order is looked for: 25 million numbers
_SHOWN = 3  # names, and atoms of an order


@dataclass(frozen=True)
class Contradiction:
    """Forces that energies contradict, by no factor that all have in common.

    Attributes:
        n_pairs: number of pairs whose energies contradict their forces; 0 if displacements from a mean do.
        n_compared: number of pairs, or of structures if displacements from their mean do.
        names: structures to which this is due, if most others agree; else none.
        factor: by which their energies change more than their forces predict; None if they have none in common.
        order: how the forces stand to the atoms, if a single other order makes them agree; else "".
        draw_back: whether the forces draw atoms back all the same, so that the energies are more likely wrong.
    """

    n_pairs: int
    n_compared: int
    names: tuple[str, ...] = ()
    factor: float | None = None
    order: str = ""
    draw_back: bool = False


def find_contradiction(structures: Sequence[Structure], pairs: Pairs) -> Contradiction | None:
    """What pairs of structures contradict of the forces; None if nothing.

    Args:
        structures: with energies and forces.
        pairs: of them.
    """
    sizes, from_range, from_mean = _distances(pairs)
    chosen = sizes > np.maximum(SMALLEST_CHANGE, SMALLEST_PER_ATOM * pairs.n_atoms)
    n = int(np.count_nonzero(chosen))
    if n < _FEWEST:
        return None
    if np.median(from_mean[chosen]) <= _CLOSE:
        far = chosen & (from_mean > _FAR) & _is_beyond_curvature(pairs)
        n_far = int(np.count_nonzero(far))
        if n_far < max(_FEWEST, _SINGLE * n):
            return None
        agreeing = np.zeros(len(structures), dtype=np.bool_)
        agreeing[pairs.among(chosen & (from_mean <= 2.0 * _CLOSE)).ends] = True
        wrong = _due_to(pairs.among(far).ends, agreeing)
        names = tuple(structures[k].name for k in np.flatnonzero(wrong).tolist())
        factor = _factor(pairs.among(far), agreeing, wrong)
        return Contradiction(
            n_far, n, names, factor, draw_back=factor is None and _draw_back(pairs.among(far))
        )
    n_far = int(np.count_nonzero(chosen & (from_range > _FAR)))
    if n_far < max(_FEWEST, _CONTRADICTED * n):
        return None
    order = _order(structures, pairs.among(chosen))
    return Contradiction(n_far, n, order=order, draw_back=not order and _draw_back(pairs.among(chosen)))


def _draw_back(pairs: Pairs) -> bool:
    """Whether forces are those of these atoms in eV/Å, so that energies are more likely wrong."""
    if not pairs.draw_back:
        return False
    left = pairs.differences - pairs.work
    total, of_work = np.abs(pairs.differences).sum(), np.abs(pairs.work).sum()
    are_small = total > _MUCH_MORE * of_work and (
        (np.sign(pairs.work) * left).sum() >= _FOLLOWS * np.abs(left).sum()
    )
    return not are_small and bool(total > _HARDLY * of_work)


def _is_beyond_curvature(pairs: Pairs) -> BoolArray:
    """(n_pairs,) whether the distance from the mean is more than what a change of the force along the path explains."""
    half = 0.5 * np.abs(pairs.at_ends[:, 1] - pairs.at_ends[:, 0])
    return np.asarray(np.abs(pairs.differences - pairs.work) > _EXPLAINED * half)


def _distances(pairs: Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Largest change of each pair, eV, and how far the energies are from the range and the mean of the predictions."""
    sizes = np.maximum(np.abs(pairs.differences), np.abs(pairs.at_ends).max(axis=1))
    above = pairs.differences - pairs.at_ends.max(axis=1)
    below = pairs.at_ends.min(axis=1) - pairs.differences
    safe = np.maximum(sizes, np.finfo(np.float64).tiny)
    return sizes, np.maximum(above, below) / safe, np.abs(pairs.differences - pairs.work) / safe


def _due_to(far: IntArray, agreeing: BoolArray) -> BoolArray:
    """(n_structures,) whether forces of a structure are wrong, as few of them as explain the pairs.

    Args:
        far: (n_pairs, 2) structures of pairs that are far from what their forces predict.
        agreeing: (n_structures,) whether a structure agrees with another one.
    """
    wrong = np.zeros_like(agreeing)
    for one, other in (far.T, far.T[::-1]):
        wrong[one[agreeing[other] & ~agreeing[one]]] = True
    wrong[far[~wrong[far].any(axis=1)]] = True
    return wrong


def _factor(far: Pairs, agreeing: BoolArray, wrong: BoolArray) -> float | None:
    """The factor that is missing in the work of the wrong structures; None if they have none in common."""
    are_wrong = wrong[far.ends]
    known = (are_wrong | agreeing[far.ends]).all(axis=1)
    of_wrong = (far.at_ends * are_wrong).sum(axis=1)
    missing = 2.0 * far.differences - (far.at_ends * ~are_wrong).sum(axis=1)
    told = known & (of_wrong != 0.0)
    if np.count_nonzero(told) < _FEWEST:
        return None
    factors = missing[told] / of_wrong[told]
    factor = float(np.median(factors))
    return factor if np.median(np.abs(factors - factor)) <= _LARGEST_SCATTER * abs(factor) else None


def _order(structures: Sequence[Structure], pairs: Pairs) -> str:
    """How forces stand to atoms, where one other order makes those of most pairs agree with the energies.

    An atom is drawn back by the forces that its own displacement causes: of all orders, the right one has the smallest
    sum of changes of forces times displacements.
    """
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for k, first in enumerate(pairs.ends[:, 0].tolist()):
        alike[structures[first].elements].append(k)
    largest = max(alike.values(), key=len)
    # found from one half and judged by the other: so many orders explain anything else
    found_from, judged_by = (
        pairs.among(np.isin(np.arange(len(pairs.ends)), largest[half::2])) for half in (0, 1)
    )
    if len(judged_by.ends) < _FEWEST or len(structures[judged_by.ends[0, 0]].elements) > _MOST_ATOMS:
        return ""
    moves = [Move.between(structures[one], structures[other]) for one, other in found_from.ends.tolist()]
    order = linear_sum_assignment(sum(move.step @ (move.after - move.before).T for move in moves))[1]
    if (order == np.arange(len(order))).all():
        return ""
    moves = [Move.between(structures[one], structures[other]) for one, other in judged_by.ends.tolist()]
    work = [
        [-float((forces[order] * move.step).sum()) for forces in (move.before, move.after)] for move in moves
    ]
    from_range = _distances(judged_by._replace(at_ends=np.array(work)))[1]
    return _told(order) if np.mean(from_range > _FAR) <= _LEAST_LEFT else ""


def _told(order: IntArray) -> str:
    """What an order is: row k has the force of atom `order[k]` in these words."""
    n = len(order)
    if (order == np.arange(n)[::-1]).all():
        return "as if forces stood in reverse order of the atoms"
    shift = int(order[0])
    if (order == (np.arange(n) + shift) % n).all():
        rows = shift if shift <= n // 2 else n - shift
        way = "down" if shift <= n // 2 else "up"
        return f"as if forces stood {counted(rows, 'row')} too far {way}"
    moved = [k for k in range(n) if order[k] != k]
    shown = ", ".join(f"that of atom {k + 1} in row {order[k] + 1}" for k in moved[:_SHOWN])
    return f"as if forces stood in another order than atoms ({shown}{', ...' if len(moved) > _SHOWN else ''})"
