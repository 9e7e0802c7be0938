"""The parts of a project: what each is called, which command makes it, and what it is made from."""

from __future__ import annotations

from typing import NamedTuple

FRESH, STALE, MISSING, BROKEN, IN_PROGRESS = "there", "stale", "missing", "broken", "in progress"


class Part(NamedTuple):
    """One part of a project.

    Attributes:
        name: as people call it.
        command: of tio2nn, with the options that it takes to make this part.
        depends_on: names of the parts that it is made from.
        records: names of the inputs whose digests it keeps, to be compared with those of today.
    """

    name: str
    command: str
    depends_on: tuple[str, ...] = ()
    records: tuple[str, ...] = ()


PARAMETERS = Part("parameters", "init")
STRUCTURES = Part("structures", "extract")
FEATURES = Part("features", "featurize", ("parameters", "structures"), ("functions", "geometries"))
DERIVATIVES = Part(
    "derivatives", "featurize --forces", ("parameters", "structures"), ("functions", "geometries", "labels")
)
SPLIT = Part("split", "train", ("structures",), ("names",))
SEARCH = Part("tuning", "tune", ("features", "derivatives", "split"), ("features", "energies", "forces"))
MODEL = Part(
    "model",
    "train",
    ("features", "derivatives", "split"),
    ("features", "energies", "forces", "split", "settings"),
)
EVALUATION = Part("evaluation", "evaluate", ("model", "split"), ("potential",))

PARTS = (PARAMETERS, STRUCTURES, FEATURES, DERIVATIVES, SPLIT, SEARCH, MODEL, EVALUATION)
"""In the order in which they are made."""


class State(NamedTuple):
    """How a part of a project is.

    Attributes:
        kind: `FRESH`, `STALE`, `MISSING`, `BROKEN` or `IN_PROGRESS`.
        what: one line of its content, of what it is stale of, why it is broken, or who is at work on it.
        of: names of the inputs that are not what they were when it was made.
    """

    kind: str
    what: str = ""
    of: tuple[str, ...] = ()
