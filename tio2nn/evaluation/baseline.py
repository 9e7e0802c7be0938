"""What a fit is worth: its errors beside those of knowing no more than one energy for each element, and no forces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tio2nn.wording import counted

# Fewer training structures that have an element are the likely reason of a fit that tells nothing: a set of seven
# metals in small cells needs some hundred of each before functions of their neighborhoods beat their mean energy.
_FEW = 100
# meV/atom; where energies differ by less, noise of the reference method is as large as what there is to learn
_NOISE = 0.5
# a fit is better if its errors are smaller by this factor: what is less tells nothing, and nobody would use it
_CLEARLY = 1.05
# steps of the optimizer; of these every set that was tried had made half of its way at least
_FEW_STEPS = 500


@dataclass(frozen=True)
class Comparison:
    """Errors on structures that training did not see.

    Attributes:
        rmse: of the energies of the fit, meV/atom.
        reference_rmse: of the energies that the composition alone gives, with reference energies fitted to the training
            part, meV/atom.
        force_rmse: of the force components of the fit, eV/Å; None without forces.
        zero_force_rmse: of zero for every force, eV/Å; None without forces.
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
        """How many times better than zero forces; None without forces or for errors of zero."""
        if not self.force_rmse or self.zero_force_rmse is None:
            return None
        return self.zero_force_rmse / self.force_rmse

    @property
    def energies_are_better(self) -> bool:
        return _CLEARLY * self.rmse < self.reference_rmse

    @property
    def forces_are_better(self) -> bool:
        """Also where there are none."""
        if self.force_rmse is None or self.zero_force_rmse is None:
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
        """In what it is better, for people; "" if in nothing."""
        parts = []
        if self.energies_are_better:
            by = "" if self.factor is None else f" by a factor of {_factor(self.factor)}"
            parts.append(f"than reference energies alone{by} (RMSE {self.reference_rmse:.2f} meV/atom)")
        if self.force_rmse is not None and self.forces_are_better:
            by = "" if self.force_factor is None else f" by a factor of {_factor(self.force_factor)}"
            parts.append(f"than zero forces{by} (RMSE {self.zero_force_rmse:.4f} eV/Å)")
        return f"better {' and '.join(parts)}" if parts else ""

    def warning(self, facts: Mapping[str, Any], *, mostly_far: bool = False) -> str | None:
        """In what it is no better, and the likely reason; None if it is better in everything.

        Args:
            facts: of the training, as `facts` makes them; empty if they are not known.
            mostly_far: most of the structures have atoms far from all in training.
        """
        worse = []
        if not self.energies_are_better:
            worse.append(
                f"reference energies alone (RMSE {self.rmse:.2f} against {self.reference_rmse:.2f} meV/atom)"
            )
        if not self.forces_are_better:
            worse.append(f"zero forces (RMSE {self.force_rmse:.4f} against {self.zero_force_rmse:.4f} eV/Å)")
        if not worse:
            return None
        return f"no better than {' or '.join(worse)}; the likely reason: {self._reason(facts, mostly_far)}"

    def _reason(self, facts: Mapping[str, Any], mostly_far: bool) -> str:
        counts: dict[str, int] = facts.get("structures_with_element", {})
        if not self.energies_are_better and self.reference_rmse < _NOISE:
            return "these energies hardly differ, there is next to nothing to learn"
        if facts.get("outliers_kept"):
            n = facts["outliers_kept"]
            return counted(
                n,
                "gross outlier is trained on, leave it out",
                "gross outliers are trained on, leave them out",
            )
        if mostly_far:
            return "most of these structures are unlike all in training"
        if self.energies_are_better and not facts.get("trained_on_forces", True):
            return "no forces were trained on (--forces)"
        if (steps := facts.get("steps", _FEW_STEPS)) < _FEW_STEPS:
            return f"too short a training, of {counted(steps, 'step')} (--epochs)"
        fewest = min(counts, key=lambda element: counts[element], default="")
        if counts and counts[fewest] < _FEW:
            few = counted(counts[fewest], "of those trained on has", "of those trained on have")
            return f"too few structures, only {few} {fewest}"
        if self.energies_are_better:
            return "forces in another unit than eV/Å or of another sign, compare with the energies"
        return "energies of different methods or units, or functions that do not tell these structures apart"


def facts(
    structures_with_element: Mapping[str, int], outliers_kept: int, trained_on_forces: bool, steps: int
) -> dict[str, Any]:
    """What a potential records of its training, so that a later evaluation can tell a likely reason."""
    return {
        "structures_with_element": dict(structures_with_element),
        "outliers_kept": outliers_kept,
        "trained_on_forces": trained_on_forces,
        "steps": steps,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.8g}")


def _factor(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
