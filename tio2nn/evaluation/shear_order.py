"""Finds stresses whose shears, or whose diagonal, have another order than was read, by the predictions of a potential.

A potential that learned energies and forces knows which component is which, also in a constant cell, where energies
tell nothing about the stress. Data sets put together from several sources may have several orders, so each kind of
structure is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from tio2nn.evaluation.kinds import Compared
from tio2nn.structures.stress import GPA
from tio2nn.structures.stress_causes import NAMES
from tio2nn.wording import counted

_FEWEST = 8  # structures
_BETTER = 0.5  # RMSE in the other order over that as read
_SMALLEST = 0.05  # GPa; RMSE as read


class OtherOrder(NamedTuple):
    """Shears, or components of the diagonal, that fit better in another order.

    Attributes:
        config_type: the kind of the structures, or "".
        n: number of structures.
        order: components in the order in which they seem to be given.
        rmse, rmse_as_read: of the three components in this order, and as they were read, GPa.
    """

    config_type: str
    n: int
    order: tuple[str, ...]
    rmse: float
    rmse_as_read: float

    def message(self) -> str:
        """One line."""
        of_kind = f" ({self.config_type})" if self.config_type else ""
        what = "shear" if self.order[:3] == NAMES[:3] else "normal"
        return (
            f"{what} stresses of {counted(self.n, 'structure')}{of_kind} seem to be in the order "
            f"{' '.join(self.order)}: their RMSE would be {self.rmse:.3f} GPa, not {self.rmse_as_read:.3f}; "
            "check the labels"
        )


def other_orders(kinds: Sequence[str], stresses: Sequence[Compared | None]) -> list[OtherOrder]:
    """The kinds of structures whose stresses fit much better in another order; none if all are right.

    Args:
        kinds: (n_structures,) "" without one.
        stresses: (n_structures,) of six components; None where there are none.
    """
    by_kind: dict[str, list[Compared]] = defaultdict(list)
    for kind, stress in zip(kinds, stresses, strict=True):
        if stress is not None:
            by_kind[kind].append(stress)
    found = []
    for kind, own in by_kind.items():
        if len(own) >= _FEWEST:
            found += [better for three in (slice(0, 3), slice(3, 6)) if (better := _better(kind, own, three))]
    return found


def _better(kind: str, stresses: Sequence[Compared], three: slice) -> OtherOrder | None:
    """Another order of three of the components, if it fits much better."""
    true, predicted = (
        np.stack([getattr(s, name)[three] for s in stresses]) for name in ("true", "predicted")
    )
    errors = {
        order: GPA * float(np.sqrt(np.mean((predicted - true[:, order]) ** 2)))
        for order in permutations(range(3))
    }
    best, as_read = min(errors, key=errors.__getitem__), errors[0, 1, 2]
    if as_read <= _SMALLEST or errors[best] >= _BETTER * as_read:
        return None
    order = list(NAMES)
    # the true component c stands where the component best[c] was read
    order[three] = [NAMES[three][best.index(slot)] for slot in range(3)]
    return OtherOrder(kind, len(stresses), tuple(order), errors[best], as_read)
