"""What a simulation does with a structure unlike the training set: the run stops, or the structure is recorded.

All drivers share these rules; `Watch` is an argument of each.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.files.special_files import is_special
from tio2nn.io.extxyz_text import Predicted, write_extxyz
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Extras, Structure

Measure = Literal["distance", "spread"]
_MEASURES = ("distance", "spread")


class ExtrapolationWarning(UserWarning):
    """A structure unlike the training set; do not trust its energy and forces."""


class ExtrapolationError(InputError):
    """A structure so unlike the training set that the run was to stop."""


class Watch:
    """Limits of a simulation: where it stops, and where it records a structure for labeling and goes on.

    Both compare the same number with the largest over all atoms of a structure, after each evaluation:

    - distance: of an atom from the training set, as `Prediction.distances`; 1 is ordinary, 2 is warned of.
    - spread: of a committee's forces on an atom, eV/Å, as `Prediction.forces_spread`.

    Recorded structures are appended to a file of extended XYZ. Their predictions have the names `tio2nn_energy` and
    the like, which no reader takes for labels, and `reason` says why the structure is there. A
    structure that stops the run is also recorded, if there is a limit for that.

    Attributes:
        n_recorded: structures that this object has recorded.
    """

    def __init__(
        self,
        *,
        stop_at: float | None = None,
        record_at: float | None = None,
        by: Measure = "distance",
        file: AnyPath = "candidates.xyz",
        interval: int = 10,
        most: int = 1000,
    ) -> None:
        """Set limits.

        Args:
            stop_at: the run ends with an `ExtrapolationError` above this value; None for never.
            record_at: the structure is recorded above this value, with an `ExtrapolationWarning` that says why; None
                for never.
            by: what is compared.
            file: where structures are recorded; those of earlier runs stay.
            interval: structures from one record to the next, at least: successive steps hardly differ.
            most: records of this object, at most.

        Raises:
            InputError: values that make no sense, or a folder for the file that does not exist.
        """
        if by not in _MEASURES:
            raise InputError(f"by: expected {' or '.join(_MEASURES)}, got {by!r}")
        for name, value in (("stop_at", stop_at), ("record_at", record_at)):
            if value is not None and not value > 0.0:
                raise InputError(f"{name}: expected a number above 0, got {value}")
        if stop_at is not None and record_at is not None and record_at > stop_at:
            raise InputError(f"record_at: expected at most stop_at, {stop_at:g}, got {record_at:g}")
        for name, count in (("interval", interval), ("most", most)):
            if count < 1:
                raise InputError(f"{name}: expected at least 1, got {count}")
        self.stop_at, self.record_at, self.by = stop_at, record_at, by
        self.file, self.interval, self.most = Path(file), interval, most
        self.n_recorded = 0
        self._n_structures = 0
        self._last_record: int | None = None
        self._latest: Structure | None = None
        if record_at is not None:
            self._check_file()

    def check_potential(self, potential: Potential) -> None:
        """Refuse a potential that lacks what is compared.

        Raises:
            InputError: the spread of a single network.
        """
        if self.by == "spread" and len(potential.members) == 1:
            raise InputError("by: expected a committee for the spread, got a single network")

    def check(self, prediction: Prediction, where: str) -> None:
        """Record the structure of a prediction if it is beyond the limit for that, and stop beyond the other one.

        Args:
            prediction: with forces if the spread is compared.
            where: what messages begin with, such as "step 12".

        Raises:
            ExtrapolationError: the run is to stop.
            InputError: the file cannot be written.
        """
        if self._latest is None or not _are_same(prediction.structure, self._latest):
            # energy and then forces of one structure count once
            self._n_structures += 1
            self._latest = prediction.structure
        value, what = self._worst(prediction)
        stops = self.stop_at is not None and value > self.stop_at
        if self.record_at is not None and value > self.record_at and self._is_due(stops):
            self._record(prediction, what)
            warnings.warn(
                f"{where}: {what}, above the limit of {self.record_at:g}; recorded in {self.file}",
                ExtrapolationWarning,
                stacklevel=3,
            )
        if stops:
            raise ExtrapolationError(
                f"{where}: stopped: {what}, above the limit of {self.stop_at:g}; label this structure and train again"
            )

    def _worst(self, prediction: Prediction) -> tuple[float, str]:
        """The largest value of an atom, and a clause that tells it."""
        values = prediction.distances if self.by == "distance" else prediction.forces_spread
        assert values is not None, "forces of a committee were predicted"
        atom = int(values.argmax())
        value = float(values[atom])
        name = f"atom {atom + 1} ({prediction.structure.elements[atom]})"
        if self.by == "distance":
            return value, f"{name} is at {value:.3g} times an ordinary distance from training"
        return value, f"the committee disagrees by {value:.3g} eV/Å on the force on {name}"

    def _is_due(self, stops: bool) -> bool:
        if self._last_record is None:
            return True
        since = self._n_structures - self._last_record
        return since > 0 if stops else self.n_recorded < self.most and since >= self.interval

    def _record(self, prediction: Prediction, reason: str) -> None:
        self._check_file()
        named = replace(
            prediction.structure,
            name=f"candidate-{self.n_recorded + 1}",
            extras=Extras(info={"reason": json.dumps(reason, ensure_ascii=False)}),
        )
        predicted = Predicted(
            prediction.energy, prediction.forces, prediction.stress, prediction.distances, are_labels=False
        )
        try:
            with self.file.open("a", encoding="utf-8", newline="") as handle:
                handle.write(write_extxyz(named, predicted))
        except OSError as error:
            raise self._unwritable(error) from None
        self.n_recorded += 1
        self._last_record = self._n_structures

    def _check_file(self) -> None:
        """Refuse a file to which no frame can be appended."""
        if not self.file.parent.is_dir():
            raise InputError("expected a file in a folder that exists", file=str(self.file))
        try:
            if self.file.is_dir() or is_special(self.file):
                raise InputError("expected a regular file, got another kind", file=str(self.file))
            if self.file.exists() and self.file.stat().st_size:
                with self.file.open("rb") as handle:
                    handle.seek(-1, 2)
                    if handle.read(1) != b"\n":
                        raise InputError(
                            "expected complete frames to append to, got one whose last line does not end",
                            file=str(self.file),
                        )
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot record structures: {error.strerror}", file=str(self.file))


def compares_spread(watch: Watch | None) -> bool:
    """Whether there is a watch that needs the spread of forces; they take longer with it."""
    return watch is not None and watch.by == "spread"


def _are_same(one: Structure, other: Structure) -> bool:
    """Whether two structures have the same atoms at the same places."""
    return (
        one.elements == other.elements
        and one.periodic == other.periodic
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.cell, other.cell)
    )
