"""Which fits a learning curve is made of; without TensorFlow, so that wrong ones are refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tio2nn.errors import UsageError
from tio2nn.evaluation.power_law import FEWEST_SIZES

PERCENTS = (5.0, 10.0, 20.0, 50.0, 100.0)
REPEATS = 2


@dataclass(frozen=True)
class CurveSettings:
    """Which fits.

    Attributes:
        percents: parts of the training set.
        repeats: fits to each, with other structures and first weights.
    """

    percents: Sequence[float] = PERCENTS
    repeats: int = REPEATS

    def __post_init__(self) -> None:
        for percent in self.percents:
            if not 0.0 < percent <= 100.0:
                raise UsageError(f"--fractions: expected numbers above 0 and up to 100, got {percent:g}")
        if len(set(self.percents)) < FEWEST_SIZES:
            got = len(set(self.percents))
            raise UsageError(f"--fractions: expected at least {FEWEST_SIZES} different numbers, got {got}")
        if self.repeats < 1:
            raise UsageError(f"--repeats: expected at least 1, got {self.repeats}")
