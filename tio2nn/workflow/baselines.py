"""How a committee compares with reference energies alone and with zero forces, on the structures of its fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from tio2nn.evaluation.baseline import Comparison, about_training
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.structure_store import StructureStore
from tio2nn.training.data import TrainingData
from tio2nn.training.history import Epoch

_MEV = 1000.0  # per eV


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def compared(
    part: Literal["train", "validation"], store: StructureStore, data: TrainingData, chosen: Sequence[Epoch]
) -> Comparison | None:
    """The errors of members on a part of the split beside those of the baseline; None without errors.

    Args:
        part: of the split.
        store: the structures of the project.
        data: of the fit.
        chosen: the epoch of each member.
    """
    of_training = part == "train"
    rmse = mean_of(
        epoch.train_rmse_meV_per_atom if of_training else epoch.validation_rmse_meV_per_atom
        for epoch in chosen
    )
    if rmse is None:
        return None
    own, elements = data.split.indices(part), data.fitted_reference.elements
    cohesive = data.fitted_reference.cohesive(store.compositions(elements)[own], store.energies[own])
    reference_rmse = _MEV * float(np.sqrt(np.mean(cohesive**2)))
    force_rmse = mean_of(
        epoch.train_force_rmse_eV_per_A if of_training else epoch.validation_force_rmse_eV_per_A
        for epoch in chosen
    )
    labels = data.train_forces if of_training else data.validation_forces
    if force_rmse is None or labels is None:
        return Comparison(rmse, reference_rmse)
    known = labels.forces[np.repeat(labels.has_forces, labels.n_atoms)]
    return Comparison(
        rmse, reference_rmse, force_rmse, float(np.sqrt(np.mean(known.astype(np.float64) ** 2)))
    )


def facts_of_fit(
    parameters: ParameterSet,
    store: StructureStore,
    data: TrainingData,
    chosen: Sequence[Epoch],
    n_steps: int,
) -> dict[str, Any]:
    """What may explain later why a potential is poor, as `about_training`; arguments as for `compared`."""
    training = data.split.indices("train")
    counts = (store.compositions(parameters.elements)[training] > 0).sum(axis=0).tolist()
    return about_training(
        dict(zip(parameters.elements, counts, strict=True)),
        int(store.gross_outliers[training].sum()),
        data.train_forces is not None,
        n_steps,
        compared("train", store, data, chosen),
        store.label_notes.doubts,
    )
