"""Trials of a search: candidates, outcomes, which is best, and the files `trials.csv` and `best.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.tables import read_json, write_csv, write_json
from tio2nn.parameters.auto_recipe import Overrides
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.parameters.schema import to_json
from tio2nn.parameters.validation import read
from tio2nn.wording import counted, digits

COMPLETED = "completed"
DIVERGED = "diverged"
FAILED = "failed"
"""A trial whose process died or ran out of memory; the next search repeats it."""
STARTED = "started"
"""A trial without an outcome, running or lost with its worker: one of several that share a search."""


# of the stress in a score, beside that of the energies: its weight in the loss of every recipe
_SHARE_OF_STRESS = 0.25


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The settings of a trial: number of hidden layers, nodes in each, and how to train."""

    layers: int
    nodes: int
    learning_rate: float
    dropout: float
    epochs: int

    @property
    def overrides(self) -> Overrides:
        """The changes to a parameter set."""
        return {
            "network": {"hidden_layers": [self.nodes] * self.layers, "dropout": self.dropout},
            "training": {"learning_rate": self.learning_rate},
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a trial.

    Attributes:
        status: `COMPLETED`, `DIVERGED` or `FAILED`.
        validation_rmse_meV_per_atom, validation_mae_meV_per_atom: of the best epoch.
        validation_force_rmse_eV_per_A: of the force components; None for a search on energies alone.
        validation_stress_rmse_meV_per_A3: of the components of the stress; None for a fit without.
        best_epoch: from 1.
        n_parameters: weights and biases.
        seconds: wall time.
        message: why the trial did not complete.
    """

    status: str
    validation_rmse_meV_per_atom: float | None = None
    validation_mae_meV_per_atom: float | None = None
    validation_force_rmse_eV_per_A: float | None = None
    best_epoch: int | None = None
    n_parameters: int | None = None
    seconds: float = 0.0
    message: str = ""
    validation_stress_rmse_meV_per_A3: float | None = None

    @property
    def score(self) -> float:
        """The quantity that the search minimizes; infinite for a trial that did not complete.

        The validation RMSE of the energies, meV/atom; in a search on forces, the geometric mean of the RMSE of
        energies and of force components, eV/Å: a percent of one is worth a percent of the other. With stress, its
        RMSE, meV/Å³, is one of them, and a percent of it is worth a quarter, as the loss weighs stresses.
        """
        energies, forces = self.validation_rmse_meV_per_atom, self.validation_force_rmse_eV_per_A
        stress = self.validation_stress_rmse_meV_per_A3
        if energies is None:
            return math.inf
        if stress is None:
            return energies if forces is None else math.sqrt(energies * forces)
        product = energies * (1.0 if forces is None else forces) * stress**_SHARE_OF_STRESS
        return float(product ** (1.0 / self._shares))

    @property
    def score_per_energy(self) -> float:
        """By how many per cent one per cent of the errors of structures changes the score: of energies and stresses.

        Those of the two are independent; the error of the many forces is negligible.
        """
        stress = 0.0 if self.validation_stress_rmse_meV_per_A3 is None else _SHARE_OF_STRESS
        return math.hypot(1.0, stress) / self._shares

    @property
    def _shares(self) -> float:
        """The sum of the powers of all errors in the score."""
        with_forces = 0.0 if self.validation_force_rmse_eV_per_A is None else 1.0
        with_stress = 0.0 if self.validation_stress_rmse_meV_per_A3 is None else _SHARE_OF_STRESS
        return 1.0 + with_forces + with_stress


@dataclass(frozen=True, kw_only=True)
class Trial(Outcome, Candidate):
    """A candidate, its outcome, and its number in the search, from 1."""

    trial: int

    @classmethod
    def of(cls, number: int, candidate: Candidate, outcome: Outcome) -> Trial:
        """Combine a candidate with its outcome."""
        return cls(trial=number, **asdict(candidate), **asdict(outcome))

    @property
    def candidate(self) -> Candidate:
        """The settings of the trial."""
        return Candidate(**{field.name: getattr(self, field.name) for field in fields(Candidate)})

    @property
    def shown_rmse(self) -> str:
        """The validation RMSE of the energies for display, meV/atom."""
        rmse = self.validation_rmse_meV_per_atom
        return "-" if rmse is None else digits(rmse, 2)

    @property
    def shown_force_rmse(self) -> str:
        """The validation RMSE of the force components for display, eV/Å."""
        rmse = self.validation_force_rmse_eV_per_A
        return "-" if rmse is None else digits(rmse, 4)

    @property
    def shown_stress_rmse(self) -> str:
        """The validation RMSE of the components of the stress for display, meV/Å³."""
        rmse = self.validation_stress_rmse_meV_per_A3
        return "-" if rmse is None else digits(rmse, 2)

    def describe(self) -> str:
        """One line: number, settings, outcome."""
        what = (
            f"{self.trial}: {self.layers} × {self.nodes} nodes, learning rate {self.learning_rate:g}, "
            f"dropout {self.dropout:g}, {counted(self.epochs, 'epoch')}: "
        )
        if self.status == COMPLETED:
            forces = "" if self.validation_force_rmse_eV_per_A is None else f", {self.shown_force_rmse} eV/Å"
            stress = (
                "" if self.validation_stress_rmse_meV_per_A3 is None else f", {self.shown_stress_rmse} meV/Å³"
            )
            return what + f"validation RMSE {self.shown_rmse} meV/atom{forces}{stress}"
        return what + self.status + (f", {self.message}" if self.message else "")


# Probability that chance alone puts one of the trials that far before or behind the settings of the recipe, which were
# chosen on many more structures, shared among the trials (Bonferroni). On sample_data (15 validation structures) the
# best of 12 trials was better by 1.4 standard errors, and its fit worse by a sixth on the test set; on Si (11), by 2.8,
# and its fit had energies worse by 7 % (RMSE), with equal forces.
_CHANCE = 0.05

TRIAL_COLUMNS = (
    "trial",
    "status",
    "validation_rmse_meV_per_atom",
    "validation_mae_meV_per_atom",
    "validation_force_rmse_eV_per_A",
    "validation_stress_rmse_meV_per_A3",
    "layers",
    "nodes",
    "learning_rate",
    "dropout",
    "epochs",
    "best_epoch",
    "n_parameters",
    "seconds",
    "message",
)
_ERRORS = TRIAL_COLUMNS[2:6]
_REAL = frozenset((*_ERRORS, "learning_rate", "dropout", "seconds"))
_TEXT = frozenset(("status", "message"))
_OPTIONAL = frozenset((*_ERRORS, "best_epoch", "n_parameters"))


def ranked(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Trials from best to worst, incomplete ones last, ties in the order of the search."""
    return tuple(sorted(trials, key=lambda trial: (trial.score, trial.trial)))


def best_of(trials: Sequence[Trial], own: Candidate | None, n_validation: int) -> Trial:
    """The best trial; but the settings without a search are kept unless another trial is clearly better.

    Args:
        trials: at least one.
        own: the settings without a search.
        n_validation: number of validation structures.
    """
    best = ranked(trials)[0]
    # relative standard error of the RMSE of normally distributed errors
    error = best.score_per_energy / math.sqrt(2.0 * n_validation)
    n_others = max(1, sum(trial.status == COMPLETED and trial.epochs == best.epochs for trial in trials) - 1)
    clearly_better = NormalDist().inv_cdf(1.0 - _CHANCE / (2.0 * n_others))
    for trial in trials:
        if (
            own is not None
            and replace(trial.candidate, epochs=own.epochs) == own
            and trial.epochs == best.epochs
            and trial.score <= (1.0 + clearly_better * error) * best.score
        ):
            return trial
    return best


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Write `trials.csv`: one row for each trial, in the order of the search."""
    write_csv(
        path, TRIAL_COLUMNS, [cells_of(trial) for trial in sorted(trials, key=lambda trial: trial.trial)]
    )


def write_best(path: Path, best: Trial, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write `best.json`: the settings for `train --tuned`, and their origin.

    Args:
        path: of the file.
        best: the trial.
        about: further entries.

    Returns:
        The document.
    """
    document = {**best.candidate.overrides, **_facts(best), **about}
    write_json(path, document)
    return document


def read_best(path: Path, command: str) -> Overrides:
    """The changes of the best trial to a parameter set: `parameters.with_overrides(**read_best(path, command))`.

    Args:
        path: of the file.
        command: the command that makes it, for messages.

    Raises:
        InputError: not readable, not JSON, or without these settings.
    """
    file = str(path)
    document = read_json(path)
    overrides: Overrides = {}
    for section, cls, names in (
        ("network", NetworkParameters, ("hidden_layers", "dropout")),
        ("training", TrainingParameters, ("learning_rate",)),
    ):
        found = document.get(section) if isinstance(document, dict) else None
        if not isinstance(found, dict) or set(found) != set(names):
            got = ", ".join(found) if isinstance(found, dict) and found else "none"
            raise InputError(
                f'expected a section {section} with {" and ".join(names)}, got {got}; run "{command}" again',
                file=file,
            )
        checked = to_json(read(cls, found, file=file))
        overrides[section] = {name: checked[name] for name in names}
    return overrides


def _facts(best: Trial) -> dict[str, Any]:
    names = (*TRIAL_COLUMNS[:1], *_ERRORS, "epochs", "best_epoch", "n_parameters")
    return {name: getattr(best, name) for name in names}


def cells_of(trial: Trial) -> list[object]:
    """The row of a trial in a table with `TRIAL_COLUMNS`."""
    return [getattr(trial, name) for name in TRIAL_COLUMNS]


def trial_from(cells: Mapping[str, str]) -> Trial:
    """The trial of a row, by column; columns may be missing that earlier versions did not write.

    Raises:
        ValueError: no such trial.
    """
    trial = Trial(**{name: _value(name, cell) for name, cell in cells.items()})
    if trial.status not in (COMPLETED, DIVERGED, FAILED, STARTED):
        raise ValueError(f"the status {trial.status!r}")
    if trial.status == COMPLETED and not math.isfinite(trial.score):
        raise ValueError("a completed trial without an error")
    return trial


def _value(name: str, cell: str) -> Any:
    if name in _TEXT:
        return cell
    if cell == "" and name in _OPTIONAL:
        return None
    return float(cell) if name in _REAL else int(cell)
