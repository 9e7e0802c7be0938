"""The parts of a project: their names, the commands that make them, and their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError

FRESH, STALE, MISSING, BROKEN, IN_PROGRESS = "up to date", "stale", "missing", "broken", "in progress"


class Part(NamedTuple):
    """One part of a project.

    Attributes:
        name: in messages.
        command: the command that makes it, with options.
        depends_on: the parts that it is made from.
        records: names of the inputs whose digests it records, to be compared with the present ones.
    """

    name: str
    command: str
    depends_on: tuple[Part, ...] = ()
    records: tuple[str, ...] = ()

    @property
    def is_plural(self) -> bool:
        """Whether a sentence about it needs "are"."""
        return self.name.split()[0].endswith("s")

    @property
    def of_data(self) -> tuple[str, ...]:
        """What it records besides what a command line may say."""
        return tuple(name for name in self.records if name not in ("settings", "origin"))

    def needs(self, other: Part) -> bool:
        """Whether it is made from another part, directly or through others."""
        return other in self.depends_on or any(part.needs(other) for part in self.depends_on)


PARAMETERS = Part("parameters", "init")
STRUCTURES = Part("structures", "extract")
FEATURES = Part("features", "featurize", (PARAMETERS, STRUCTURES), ("functions", "geometries"))
DERIVATIVES = Part(
    "derivatives", "featurize --forces", (PARAMETERS, STRUCTURES), ("functions", "geometries", "labels")
)
STRAINS = Part(
    "derivatives by strain",
    "featurize --stress",
    (PARAMETERS, STRUCTURES),
    ("functions", "geometries", "labels"),
)
SPLIT = Part("split", "train", (STRUCTURES,), ("names",))
SEARCH = Part(
    "tuning",
    "tune",
    (FEATURES, DERIVATIVES, STRAINS, SPLIT),
    ("features", "energies", "forces", "stresses", "weights"),
)
MODEL = Part(
    "model",
    "train",
    (FEATURES, DERIVATIVES, STRAINS, SPLIT),
    ("features", "energies", "forces", "stresses", "weights", "split", "settings", "origin"),
)
EVALUATION = Part("evaluation", "evaluate", (MODEL, SPLIT), ("potential",))
CURVE = Part("learning curve", "learning-curve", (FEATURES, DERIVATIVES))

PARTS = (PARAMETERS, STRUCTURES, FEATURES, DERIVATIVES, STRAINS, SPLIT, SEARCH, MODEL, EVALUATION)
"""In the order in which they are made; a learning curve is of what was there, and no other part is made from it."""


class State(NamedTuple):
    """The state of a part.

    Attributes:
        kind: `FRESH`, `STALE`, `MISSING`, `BROKEN` or `IN_PROGRESS`.
        what: one line: a summary, what changed, why it is broken, or which command is making it.
        of: names of the inputs that changed since it was made.
    """

    kind: str
    what: str = ""
    of: tuple[str, ...] = ()

    @classmethod
    def broken(cls, file: Path, error: Exception) -> State:
        """Of a part with a file that cannot be used."""
        told = f"{file}: expected a file that tio2nn wrote, got {error!r}"
        return cls(BROKEN, str(error) if isinstance(error, InputError) else told)
