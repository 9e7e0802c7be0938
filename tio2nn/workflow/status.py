"""The verb status: what a project contains, what is stale, and what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tio2nn.files.lock import told
from tio2nn.files.paths import AnyPath
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import (
    BROKEN,
    DERIVATIVES,
    EVALUATION,
    FEATURES,
    FRESH,
    IN_PROGRESS,
    MISSING,
    MODEL,
    PARAMETERS,
    SEARCH,
    SPLIT,
    STALE,
    STRAINS,
    STRUCTURES,
    Part,
    State,
)
from tio2nn.project.preparation import interrupted_options
from tio2nn.project.project import Project


@dataclass(frozen=True)
class Row:
    """One part of a project.

    Attributes:
        name: name of the part.
        command: command that makes it.
        state: "up to date", "stale", "missing", "broken" or "in progress".
        what: its content in one line, or the reason for its state.
    """

    name: str
    command: str
    state: str
    what: str


@dataclass(frozen=True)
class Status:
    """All parts of a project in the order in which they are made; `advice` says what to run next."""

    root: Path
    parts: tuple[Row, ...]
    advice: str

    def rows(self) -> list[tuple[str, str, str]]:
        return [(part.name, part.state, part.what) for part in self.parts]

    def as_dict(self) -> dict[str, Any]:
        return {"root": str(self.root), "parts": [asdict(part) for part in self.parts], "advice": self.advice}


def status(project: Project | Snapshot | AnyPath) -> Status:
    """Read the state of a project without changing it.

    Raises:
        MissingInputError: there is no project in this directory.
        InputError: params.json is not a valid parameter set.
    """
    snapshot = Snapshot.of(project)
    parameters = snapshot.state(PARAMETERS)
    if parameters.kind != FRESH:
        # existing files cannot belong to symmetry functions that are not chosen yet
        rows = [
            _row(PARAMETERS._replace(command="extract"), parameters),
            _row(STRUCTURES, snapshot.state(STRUCTURES)),
            *(_row(part, State(MISSING)) for part in (FEATURES, SPLIT, MODEL, EVALUATION)),
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
    by_strain = snapshot.state(STRAINS)
    if by_strain.kind not in (MISSING, IN_PROGRESS) or _are_missed_by_strain(snapshot, model):
        rows.append(_row(STRAINS, by_strain))
    search = snapshot.state(SEARCH)
    if search.kind != MISSING or search.what:
        rows.append(_row(SEARCH, search))
    rows += [
        _row(SPLIT, snapshot.state(SPLIT)),
        _row(MODEL, model),
        _row(EVALUATION, snapshot.state(EVALUATION)),
    ]
    return Status(snapshot.project.root, tuple(rows), _advice(snapshot, rows))


def _row(part: Part, state: State) -> Row:
    return Row(part.name, part.command, state.kind, state.what)


def _are_missed(snapshot: Snapshot, model: State) -> bool:
    """Whether the next fit needs derivatives that are missing."""
    parameters = snapshot.parameters
    # a fresh model without derivatives was trained so on purpose, as forces are not required
    done_without = model.kind == FRESH and parameters.training.forces == "auto"
    return snapshot.has_structures and snapshot.needs_derivatives(parameters) and not done_without


def _are_missed_by_strain(snapshot: Snapshot, model: State) -> bool:
    """As `_are_missed`, of those with respect to strain."""
    parameters = snapshot.parameters
    done_without = model.kind == FRESH and parameters.training.stress == "auto"
    return snapshot.has_structures and snapshot.needs_strains(parameters) and not done_without


def _advice(snapshot: Snapshot, rows: Sequence[Row]) -> str:
    """What to run next."""
    if (other := snapshot.at_work) is not None:
        return f"{other} is running; wait until it ends"
    if jobs := snapshot.jobs_at_work:
        are, end = ("is", "it ends") if len(jobs) == 1 else ("are", "they end")
        return f"{told(jobs)} {are} running; wait until {end}"
    # a search is optional: a stale one need not be repeated
    todo = [row for row in rows if row.state != FRESH and (row.name, row.state) != (SEARCH.name, STALE)]
    if not todo:
        return f"nothing to do; {snapshot.project.command('predict')} FILE... predicts structures"
    energies = snapshot.project.energies_file
    if todo[0].state == BROKEN and todo[0].what.startswith(f"{energies}:"):
        # extract keeps the weights in it, and would refuse it, too
        return f"next: correct {energies}"
    more = " SOURCE..." if todo[0].command == "extract" else ""
    if todo[0].name == MODEL.name:
        more = interrupted_options(snapshot.project)
    return f"next: {snapshot.project.command(todo[0].command)}{more}"
