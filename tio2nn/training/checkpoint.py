"""Checkpoints: the state of a fit on disk, from which a killed fit resumes with the same bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.parallel.devices import Device
from tio2nn.training.history import Epoch


class Checkpoint(NamedTuple):
    """Everything that the next epoch depends on.

    Attributes:
        state: (4, n_weights) weights, moments of their gradient, average.
        chosen: weights that the fit would return if it ended now.
        history: the epochs so far.
        best_loss: smallest validation loss so far.
        since_best: epochs since then.
        device: that computed them; another one computes other bits.
    """

    state: Float32Array
    chosen: Float32Array
    history: Sequence[Epoch]
    best_loss: float
    since_best: int
    device: Device

    def write(self, path: Path, fingerprint: str) -> None:
        """Write the checkpoint atomically; `fingerprint` identifies everything that the fit depends on."""
        about = {
            "fingerprint": fingerprint,
            "history": [astuple(epoch) for epoch in self.history],
            "best_loss": self.best_loss,
            "since_best": self.since_best,
            "device": self.device,
        }
        write_arrays(path, {"about": np.array(json.dumps(about)), "state": self.state, "chosen": self.chosen})

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> Checkpoint | None:
        """Read a checkpoint; None if it is missing, damaged or of another fit."""
        try:
            with opened_arrays(path) as arrays:
                about = json.loads(str(arrays["about"]))
                if about["fingerprint"] != fingerprint:
                    return None
                return cls(
                    arrays["state"],
                    arrays["chosen"],
                    [Epoch(*row) for row in about["history"]],
                    about["best_loss"],
                    about["since_best"],
                    about["device"],
                )
        except Exception:
            return None
