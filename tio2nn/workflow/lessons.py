"""What a fit learns from, besides the labels of its structures: a potential to begin from, or one to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tio2nn.files.paths import AnyPath


@dataclass(frozen=True)
class FineTuning:
    """Begin from the networks of a potential.

    Attributes:
        potential: its file.
    """

    potential: AnyPath


Lesson: TypeAlias = FineTuning
