"""The command status: what a project holds, what is stale, what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import (
    DERIVATIVES,
    EVALUATION,
    FEATURES,
    FRESH,
    IN_PROGRESS,
    MISSING,
    MODEL,
    PARAMETERS,
    SEARCH,
    STALE,
    STRUCTURES,
    Part,
    State,
)
from tio2nn.project.project import Project


@dataclass(frozen=True)
class Row:
    """One part of a project.

    Attributes:
        name: as people call it.
        command: that makes it.
        state: "there", "stale", "missing", "broken" or "in progress".
        what: one line of content, or the reason.
    """

    name: str
    command: str
    state: str
    what: str


@dataclass(frozen=True)
class Status:
    """All parts of a project in the order in which they are made; `advice` is what to run next."""

    root: Path
    parts: tuple[Row, ...]
    advice: str

    def rows(self) -> list[tuple[str, str, str]]:
        return [(part.name, part.state, part.what) for part in self.parts]

    def as_dict(self) -> dict[str, Any]:
        return {"root": str(self.root), "parts": [asdict(part) for part in self.parts], "advice": self.advice}


def status(project: Project | Snapshot) -> Status:
    """Look at a project without changing it.

    Raises:
        InputError: params.json is not a parameter set.
    """
    snapshot = Snapshot.of(project)
    parameters = snapshot.state(PARAMETERS)
    if parameters.kind != FRESH:
        # whatever lies there, it does not belong to functions that are not chosen yet
        rows = [
            _row(Part("parameters", "extract"), parameters),
            _row(STRUCTURES, snapshot.state(STRUCTURES)),
            *(_row(part, State(MISSING)) for part in (FEATURES, MODEL, EVALUATION)),
        ]
        return Status(snapshot.project.root, tuple(rows), _advice(snapshot, rows))
    model = snapshot.state(MODEL)
    rows = [
        _row(PARAMETERS, parameters),
        *(_row(part, snapshot.state(part)) for part in (STRUCTURES, FEATURES)),
    ]
    derivatives = snapshot.state(DERIVATIVES)
    if derivatives.kind not in (MISSING, IN_PROGRESS) or _are_missed(snapshot, model):
        rows.append(_row(DERIVATIVES, derivatives))
    if snapshot.project.trials_file.exists():
        rows.append(_row(SEARCH, snapshot.state(SEARCH)))
    rows += [_row(MODEL, model), _row(EVALUATION, snapshot.state(EVALUATION))]
    return Status(snapshot.project.root, tuple(rows), _advice(snapshot, rows))


def _row(part: Part, state: State) -> Row:
    return Row(part.name, part.command, state.kind, state.what)


def _are_missed(snapshot: Snapshot, model: State) -> bool:
    """Whether the next training will need derivatives, which are not there."""
    parameters = snapshot.parameters
    # a model that does without them was made so on purpose, for nobody insists on forces
    done_without = model.kind == FRESH and parameters.training.forces == "auto"
    return snapshot.has_structures and snapshot.needs_derivatives(parameters) and not done_without


def _advice(snapshot: Snapshot, rows: Sequence[Row]) -> str:
    """What to run next."""
    if (other := snapshot.at_work) is not None:
        return f"{other} is at work; wait for its end"
    # a search is a matter of choice: one that is stale need not be repeated
    todo = [row for row in rows if row.state != FRESH and (row.name, row.state) != (SEARCH.name, STALE)]
    if not todo:
        return f"nothing to do; {snapshot.project.command('predict')} FILE... predicts structures"
    sources = " SOURCE..." if todo[0].command == "extract" else ""
    return f"next: {snapshot.project.command(todo[0].command)}{sources}"
