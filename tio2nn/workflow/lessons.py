"""What a fit learns from, besides the labels of its structures: a potential to begin from, or a teacher."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import TypeAlias

from tio2nn.errors import UsageError
from tio2nn.files.paths import AnyPath


@dataclass(frozen=True)
class FineTuning:
    """Begin from the networks of a potential.

    Attributes:
        potential: its file.
    """

    potential: AnyPath


# Å; each atom moves by 1.6 times as much on average, two neighbors by half a bond
_LARGEST_DISPLACEMENT = 0.5
_MOST_COPIES = 1000  # each costs the derivatives of the training set


# Errors of one network over those of a committee of four, RMSE of energies and of forces on test structures. That
# begins as three of its networks, one copy displaced by 0.05 Å: TiO2 1.038 and 1.032, sample_data 1.044 and 1.001, Si
# 0.990 and 1.004; by 0.1 Å: TiO2 1.065 and 1.032. With half of the epochs of a fit, sample_data: one copy 1.034 and
# 0.992, three 1.020 and 0.987; on Si 1.002 and 1.002 with three. From random weights, sample_data, 3 copies:
# displaced by 0.05 Å 1.053 and 1.105, by 0.1 Å 1.048 and 1.055; on the labels alone 1.011 and 1.121.
@dataclass(frozen=True)
class Distillation:
    """Learn the predictions of a potential on the training structures, and on copies of them with displaced atoms.

    Attributes:
        teacher: its file.
        copies: of each training structure.
        displacement: standard deviation of each component of the displacements, Å.
        truth: weight of their own labels in those of the training structures, from 0 to 1; the rest are the teacher's.

    Raises:
        UsageError: a number out of its range.
    """

    teacher: AnyPath
    copies: int = 1
    displacement: float = 0.05
    truth: float = 0.0

    def options(self) -> list[str]:
        """The options of `tio2nn train` that ask for it."""
        asked = ["--distill", os.fspath(self.teacher)]
        for field in fields(self)[1:]:
            if (value := getattr(self, field.name)) != field.default:
                asked += [f"--{field.name}", f"{value:g}"]
        return asked

    def __post_init__(self) -> None:
        if not 0 <= self.copies <= _MOST_COPIES:
            raise UsageError(f"--copies: expected a number from 0 to {_MOST_COPIES}, got {self.copies}")
        if not (math.isfinite(self.displacement) and 0.0 < self.displacement <= _LARGEST_DISPLACEMENT):
            raise UsageError(
                f"--displacement: expected a number above 0, at most {_LARGEST_DISPLACEMENT:g} (Å; with more, atoms "
                f"come closer than a teacher knows), got {self.displacement:g}"
            )
        if not 0.0 <= self.truth <= 1.0:
            raise UsageError(f"--truth: expected a number from 0 to 1, got {self.truth:g}")


Lesson: TypeAlias = FineTuning | Distillation
