"""Comparison of a fit with a baseline: one reference energy per element, and zero forces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tio2nn.wording import counted, digits

# With fewer training structures that contain an element, too little data is the likely reason for a poor fit: a data
# set of seven metals in small cells needs some hundred of each before symmetry functions beat the mean energy.
_FEW = 100
# meV/atom; smaller differences of energies are comparable to the numerical noise of the reference method
_NOISE = 0.5
# a fit is better if its errors are smaller by this factor; less is not significant, and of no use
_CLEARLY = 1.05
# eV/Å, RMSE; forces that are smaller vanish by symmetry, so that no fit can be better than zero
_ZERO = 1e-6
# a fit that is better on its own structures by this factor has learned something from them, which forces in wrong units
# or of the wrong sign beside energies do not allow
_WELL = 2.0
# optimizer steps; after as many, every data set tried was at least halfway to its final error
_FEW_STEPS = 500
_DOUBTED = "the forces of the data set do not match its energies, as extract warned"


@dataclass(frozen=True)
class Comparison:
    """Errors on held-out structures.

    Attributes:
        rmse: RMSE of the predicted energies, meV/atom.
        reference_rmse: RMSE of energies given by the composition alone, with reference energies fitted to the training
            set, meV/atom.
        force_rmse: RMSE of the predicted force components, eV/Å; None without forces.
        zero_force_rmse: RMSE of zero forces, eV/Å; None without forces.
    """

    rmse: float
    reference_rmse: float
    force_rmse: float | None = None
    zero_force_rmse: float | None = None

    @property
    def factor(self) -> float | None:
        """How many times better than reference energies alone; None for errors of zero."""
        return self.reference_rmse / self.rmse if self.rmse > 0.0 else None

    @property
    def force_factor(self) -> float | None:
        """How many times better than zero forces; None without forces to compare or for errors of zero."""
        if not self.force_rmse or self.zero_force_rmse is None or not self.compares_forces:
            return None
        return self.zero_force_rmse / self.force_rmse

    @property
    def energies_are_better(self) -> bool:
        return _CLEARLY * self.rmse < self.reference_rmse

    @property
    def compares_forces(self) -> bool:
        """Whether there are forces, and not all of them are zero by symmetry."""
        return self.zero_force_rmse is not None and not are_zero(self.zero_force_rmse)

    @property
    def forces_are_better(self) -> bool:
        """True if there are no forces to compare."""
        if self.force_rmse is None or self.zero_force_rmse is None or not self.compares_forces:
            return True
        return _CLEARLY * self.force_rmse < self.zero_force_rmse

    def as_dict(self) -> dict[str, float | None]:
        """The entry "baseline" of `metrics.json`."""
        return {
            "reference_rmse_meV_per_atom": _rounded(self.reference_rmse),
            "better_by_factor": _rounded(self.factor),
            "zero_force_rmse_eV_per_A": _rounded(self.zero_force_rmse),
            "forces_better_by_factor": _rounded(self.force_factor),
        }

    def sentence(self) -> str:
        """What the fit improves on, as text; "" if on nothing."""
        parts = []
        if self.energies_are_better:
            by = "" if self.factor is None else f" by a factor of {_factor(self.factor)}"
            parts.append(
                f"than reference energies alone{by} (RMSE {digits(self.reference_rmse, 2)} meV/atom)"
            )
        if self.compares_forces and self.forces_are_better:
            by = "" if self.force_factor is None else f" by a factor of {_factor(self.force_factor)}"
            parts.append(f"than zero forces{by} (RMSE {digits(self.zero_force_rmse, 4)} eV/Å)")
        return f"better {' and '.join(parts)}" if parts else ""

    def warning(self, facts: Mapping[str, Any], *, mostly_far: bool = False) -> str | None:
        """What the fit does not improve on, and the likely reason; None if it improves on everything.

        Args:
            facts: facts about the training, see `facts`; empty if unknown.
            mostly_far: most of the structures have atoms far from all training atoms.
        """
        worse = []
        if not self.energies_are_better:
            own, reference = digits(self.rmse, 2), digits(self.reference_rmse, 2)
            worse.append(f"reference energies alone (RMSE {own} against {reference} meV/atom)")
        if not self.forces_are_better:
            own, reference = digits(self.force_rmse, 4), digits(self.zero_force_rmse, 4)
            worse.append(f"zero forces (RMSE {own} against {reference} eV/Å)")
        if not worse:
            return None
        return f"no better than {' or '.join(worse)}; likely reason: {self._reason(facts, mostly_far)}"

    def _reason(self, facts: Mapping[str, Any], mostly_far: bool) -> str:
        counts: dict[str, int] = facts.get("structures_with_element", {})
        if "energies" in facts.get("doubts", ()):
            return "the energies are wrong, as extract warned"
        if not self.energies_are_better and self.reference_rmse < _NOISE:
            return "these energies hardly differ, so there is next to nothing to learn"
        if facts.get("outliers_kept"):
            n = facts["outliers_kept"]
            return counted(
                n,
                "gross outlier is in the training set; leave it out",
                "gross outliers are in the training set; leave them out",
            )
        doubted = "forces" in facts.get("doubts", ())
        if self.energies_are_better and not facts.get("trained_on_forces", True):
            if doubted:
                return f"the potential was trained on energies alone: {_DOUBTED}"
            if not mostly_far:
                return "the potential was trained on energies alone; use --forces"
        if doubted and facts.get("trained_on_forces", True):
            return _DOUBTED
        if mostly_far:
            return "most of these structures are unlike all training structures"
        if (steps := facts.get("steps", _FEW_STEPS)) < _FEW_STEPS:
            return f"training was too short ({counted(steps, 'step')}); increase --epochs"
        fewest = min(counts, key=lambda element: counts[element], default="")
        # too few structures are fitted well, and predict nothing else; labels that are wrong are not even fitted
        fits = facts.get(
            "fits_forces_in_training" if self.energies_are_better else "fits_energies_in_training"
        )
        if counts and counts[fewest] < _FEW and fits is not False:
            few = counted(counts[fewest], "training structure contains", "training structures contain")
            return f"too few structures, only {few} {fewest}"
        lacks = "the training set, which is fitted well, lacks structures of these kinds"
        if self.energies_are_better and facts.get("fits_forces_in_training"):
            return lacks
        if not self.energies_are_better and facts.get("fits_energies_in_training"):
            return f"{lacks}, or energies are from different methods"
        if self.energies_are_better:
            return (
                "the forces are not in eV/Å, or have the wrong sign, or are zero where they are unknown, at least in "
                "some structures; compare them with the energies"
            )
        return (
            "energies from different methods or in different units, forces that contradict them, or symmetry "
            "functions that do not distinguish the structures"
        )


def are_zero(rmse: float) -> bool:
    """Whether reference forces of this RMSE from zero, eV/Å, are zero but for rounding."""
    return rmse < _ZERO


def about_training(
    structures_with_element: Mapping[str, int],
    outliers_kept: int,
    trained_on_forces: bool,
    steps: int,
    in_training: Comparison | None = None,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """Facts about a training, recorded in the potential so that an evaluation can explain a poor fit.

    Args:
        structures_with_element: of the training set, for each element.
        outliers_kept: gross outliers in the training set.
        trained_on_forces: whether the fit uses forces.
        steps: of the optimizer.
        in_training: errors on the training set; None if unknown.
        doubts: labels that contradict others, as the audit found.
    """
    return {
        "structures_with_element": dict(structures_with_element),
        "outliers_kept": outliers_kept,
        "trained_on_forces": trained_on_forces,
        "steps": steps,
        "doubts": list(doubts),
        "fits_energies_in_training": None if in_training is None else _is_well(in_training.factor),
        "fits_forces_in_training": None if in_training is None else _is_well(in_training.force_factor),
    }


def _is_well(factor: float | None) -> bool:
    return factor is not None and factor >= _WELL


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.8g}")


def _factor(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
