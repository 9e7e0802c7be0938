"""Predictions for one large structure, and for many: the same bits whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import POTENTIAL

from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Structure


def crystal(n: int) -> Structure:
    rng = np.random.default_rng(n)
    grid = np.stack(np.meshgrid(*[np.arange(float(n))] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    elements = tuple("Ti" if (k * 7) % 3 == 0 else "O" for k in range(n**3))
    return Structure(f"of{n}", elements, 2.2 * grid + rng.uniform(-0.2, 0.2, grid.shape), 2.2 * n * np.eye(3))


def numbers(prediction: Prediction) -> list[bytes]:
    assert prediction.forces is not None
    assert prediction.forces_spread is not None
    return [
        np.asarray(value).tobytes()
        for value in (
            prediction.energy,
            prediction.atomic_energies,
            prediction.distances,
            prediction.forces,
            prediction.forces_spread,
            prediction.stress,
        )
    ]


def test_predictions_have_the_same_bits_for_any_number_of_threads() -> None:
    structures = [crystal(9), *map(crystal, (2, 3, 4, 5))]
    found = [
        [numbers(prediction) for prediction in POTENTIAL.predict(structures, forces=True, threads=threads)]
        for threads in (1, 2, 5)
    ]
    assert found[0] == found[1] == found[2]
    energies = [
        [prediction.energy for prediction in POTENTIAL.predict(structures, threads=threads)]
        for threads in (1, 3)
    ]
    assert energies[0] == energies[1]


def test_a_prediction_does_not_depend_on_the_other_structures() -> None:
    structures = [crystal(n) for n in (2, 3, 4, 5)]
    together = POTENTIAL.predict(structures, forces=True, threads=2)
    for structure, prediction in zip(structures, together, strict=True):
        (alone,) = POTENTIAL.predict([structure], forces=True, threads=1)
        assert numbers(prediction) == numbers(alone)


def test_a_small_structure_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr("tio2nn.cores.ThreadPoolExecutor", refuse)
    structure = crystal(5)
    (together,) = POTENTIAL.predict([structure], forces=True, threads=8)
    (alone,) = POTENTIAL.predict([structure], forces=True, threads=1)
    assert numbers(together) == numbers(alone)
