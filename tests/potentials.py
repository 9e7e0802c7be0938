"""Potentials that no training made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from projects import ATOMIC_ENERGIES, PARAMETERS

from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.whitening import Whitening

N = PARAMETERS.n_features


def everything(n: int) -> TrainingAtoms:
    """What a training remembers that saw all there is: no atom is far from it."""
    return TrainingAtoms(np.full(n, -1e6), np.full(n, 1e6), np.zeros((1, n), np.float32), 1e6)


def nothing(n: int) -> TrainingAtoms:
    """What a training remembers that saw nothing like real atoms: every one is far from it."""
    return TrainingAtoms(np.full(n, 98.0), np.full(n, 99.0), np.full((1, n), 1e3, np.float32), 1.0)


def make_potential(members: int = 2, activation: str = "tanh", **changes: Any) -> Potential:
    """Untrained, two hidden layers, every member and every element another one; nothing lies outside."""
    rng = np.random.default_rng(11)

    def layers() -> tuple[Layer, ...]:
        sizes = [(N, 6), (6, 5), (5, 1)]
        names = [activation, activation, "linear"]
        return tuple(
            Layer(0.5 * rng.normal(size=size), rng.normal(size=size[1]), name)
            for size, name in zip(sizes, names, strict=True)
        )

    made = Potential(
        parameters=PARAMETERS,
        reference_energies=dict(ATOMIC_ENERGIES),
        subnet_of={"Ti": 0, "O": 1},
        whitenings=tuple(Whitening.fit(rng.normal(k, 1.0, size=(40, N)), floor=1e-5) for k in range(2)),
        members=tuple((layers(), layers()) for _ in range(members)),
        training_atoms=(everything(N),) * 2,
        composition_span=np.eye(2),
        about={"seed": 3, "versions": {"tio2nn": "0"}},
    )
    return replace(made, **changes)


POTENTIAL = make_potential()
