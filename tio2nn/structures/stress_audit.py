"""What energies and forces show about the stresses of a data set: all of them, those of slabs, single parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tio2nn.structures.slab_check import SlabCheck, compare_slabs
from tio2nn.structures.stress_check import StressCheck, compare_stress
from tio2nn.structures.stress_parts import StressParts, compare_parts
from tio2nn.structures.structure import Structure


class StressAudit(NamedTuple):
    """What was found of the stresses.

    Attributes:
        whole: comparison of all of them with energies.
        slabs: comparison of shears with the forces on slabs; None if there is nothing to say.
        parts: what is to be said of single sources and kinds.
    """

    whole: StressCheck
    slabs: SlabCheck | None
    parts: StressParts

    @classmethod
    def of(cls, structures: Sequence[Structure], *, forces_agree: bool) -> StressAudit | None:
        """Compare stresses with energies and forces; None if no structure has a stress.

        Args:
            structures: in natural order.
            forces_agree: whether forces are known not to disagree with the energies.
        """
        if all(structure.stress is None for structure in structures):
            return None
        whole = compare_stress(structures, forces_agree=forces_agree)
        # what energies say comes first
        slabs = compare_slabs(structures) if forces_agree and not whole.disagrees else None
        return cls(whole, slabs, compare_parts(structures, whole, slabs, forces_agree=forces_agree))

    def fact(self) -> str:
        """Messages about the stresses of a data set."""
        return self.parts.fact_of(self.whole) + ("" if self.slabs is None else self.slabs.fact())

    def messages(self) -> list[str]:
        """One line for each disagreement."""
        found = []
        if self.whole.disagrees and not self.parts.instead_of_energies:
            found.append(self.whole.message())
        if self.slabs is not None and self.slabs.cause and not self.parts.instead_of_slabs:
            found.append(self.slabs.message())
        return [*found, *self.parts.messages]

    @property
    def doubt(self) -> str:
        """What a fit should not learn, as `StressCheck.doubt`."""
        # where the diagonal is wrong, nothing can be said about the shears
        found = {self.whole.doubt, *self.parts.doubts, "" if self.slabs is None else self.slabs.doubt}
        return next((doubt for doubt in ("stress", "shears") if doubt in found), "")
