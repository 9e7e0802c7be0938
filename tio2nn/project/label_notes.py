"""What a structure store says about its labels beside the numbers: which energies they are, kinds, weights, doubts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any, NamedTuple, get_args

from tio2nn.structures.energy_label import EnergyLabel, plain_energy
from tio2nn.structures.structure import Structure

DOUBTED = ("energies", "forces", "stress", "shears")
"""Labels that can be wrong: energies by themselves, others by contradicting them; `shears` are those of the stress."""


class LabelNotes(NamedTuple):
    """What the files say about the labels of the structures, one entry for each.

    Attributes:
        label: which of two energies is learned.
        both: energies without and with electronic entropy, eV; None if no file has the latter.
        config_types: "" without one; None if no structure has one.
        weights: in the loss; None if all are 1.
        doubts: which of `DOUBTED` are wrong, as the audit found.
    """

    label: EnergyLabel = "energy"
    both: list[list[float | None]] | None = None
    config_types: list[str] | None = None
    weights: list[float] | None = None
    doubts: Sequence[str] = ()

    @classmethod
    def of(
        cls, structures: Sequence[Structure], label: EnergyLabel, doubts: Sequence[str] = ()
    ) -> LabelNotes:
        """About structures whose energy is that of the label."""
        have_both = any(structure.free_energy is not None for structure in structures)
        have_types = any(structure.config_type for structure in structures)
        have_weights = any(structure.weight != 1.0 for structure in structures)
        return cls(
            label,
            [[plain_energy(s), s.free_energy] for s in structures] if have_both else None,
            [structure.config_type for structure in structures] if have_types else None,
            [structure.weight for structure in structures] if have_weights else None,
            list(doubts),
        )

    @classmethod
    def read(cls, header: dict[str, Any]) -> LabelNotes:
        """From the header of a store; stores of earlier versions know one energy."""
        return cls(
            header.get("label", "energy"),
            header.get("two_energies"),
            header.get("config_types"),
            header.get("weights"),
            header.get("doubts", ()),
        )

    def as_header(self) -> dict[str, Any]:
        """For the header of a store: only what there is."""
        optional = {
            "two_energies": self.both,
            "config_types": self.config_types,
            "weights": self.weights,
            "doubts": list(self.doubts) or None,
        }
        return {"label": self.label, **{name: some for name, some in optional.items() if some is not None}}

    def check(self, n: int) -> None:
        """Raise a ValueError unless they are those of n structures."""
        if self.label not in get_args(EnergyLabel):
            raise ValueError(f"the unknown energy {self.label!r}")
        for what, given in (
            ("two energies", self.both),
            ("kinds", self.config_types),
            ("weights", self.weights),
        ):
            if given is not None and len(given) != n:
                raise ValueError(f"{what} that are not one entry for each structure")
        for pair in self.both or ():
            if len(pair) != 2 or not all(isinstance(number, (float, NoneType)) for number in pair):
                raise ValueError("energies of files that are not two for each structure")
        if not all(isinstance(text, str) for text in self.config_types or ()):
            raise ValueError("kinds that are not text")
        if not all(isinstance(w, (int, float)) and 0.0 <= w < math.inf for w in self.weights or ()):
            raise ValueError("weights that are not finite numbers of at least 0")
        if not all(doubt in DOUBTED for doubt in self.doubts):
            raise ValueError("doubts about unknown labels")

    def of_structure(self, index: int) -> dict[str, Any]:
        """The attributes of a structure that follow from the notes."""
        plain, free = (None, None) if self.both is None else self.both[index]
        return {
            "free_energy": free,
            "plain_energy": None if free is None else plain,
            "config_type": "" if self.config_types is None else self.config_types[index],
            "weight": 1.0 if self.weights is None else float(self.weights[index]),
        }
