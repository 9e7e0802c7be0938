"""The entries of a project directory, and the part of the project that each belongs to."""

from __future__ import annotations

from typing import NamedTuple

from tio2nn.project import parts

PARAMETERS_NAME = "params.json"


class Entry(NamedTuple):
    """An entry of the project directory.

    Attributes:
        path: a file or folder directly below the root.
        part: the part of the project that it belongs to.
        name: in messages.
    """

    path: str
    part: parts.Part
    name: str

    @property
    def command(self) -> str:
        """The command that makes it, without options."""
        return self.part.command.split()[0]


ENTRIES = (
    Entry(PARAMETERS_NAME, parts.PARAMETERS, PARAMETERS_NAME),
    Entry("energies.csv", parts.STRUCTURES, "energies"),
    Entry("structures", parts.STRUCTURES, parts.STRUCTURES.name),
    Entry("rejected.csv", parts.STRUCTURES, "rejected.csv"),
    Entry("features", parts.FEATURES, parts.FEATURES.name),
    Entry("tuning", parts.SEARCH, "tuning results"),
    Entry("split.csv", parts.SPLIT, parts.SPLIT.name),
    Entry("split-earlier.csv", parts.SPLIT, "split of other structures"),
    Entry("model", parts.MODEL, parts.MODEL.name),
    Entry("evaluation", parts.EVALUATION, parts.EVALUATION.name),
    Entry("learning-curve", parts.CURVE, parts.CURVE.name),
)
