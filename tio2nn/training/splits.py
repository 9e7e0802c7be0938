"""The split of a fit into training, validation and test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import IntArray
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.facts import are_used
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import Split, random_split, read_split
from tio2nn.wording import counted

FEWEST_TO_TRAIN = 2
"""Smallest number of training structures; a single one only determines its own energy."""
# In smaller sets a structure is of more use in training than held out: an error on one or two is chance.
FEWEST_TO_VALIDATE = 5
FEWEST_TO_TEST = 10


def given_split(path: Path, parameters: ParameterSet, store: StructureStore) -> Split:
    """The split in a file, with a validation set drawn if it has none."""
    settings = parameters.training
    used = _used_compositions(parameters, store)
    return read_split(path, store.names, settings.validation_fraction, settings.seed, used, store.has_forces)


def drawn_split(parameters: ParameterSet, store: StructureStore) -> Split:
    """A new split by the settings; small sets have no test set, and the smallest no validation set."""
    settings = parameters.training
    used = _used_compositions(parameters, store)
    in_use = np.asarray(used.any(axis=1), dtype=np.bool_)
    n_used = int(np.count_nonzero(in_use))
    validation = settings.validation_fraction if n_used >= FEWEST_TO_VALIDATE else 0.0
    test = settings.test_fraction if n_used >= FEWEST_TO_TEST else 0.0
    names = np.array(store.names)
    units = np.array(store.groups) if settings.split == "grouped" else names

    def drawn(chosen: NDArray[np.bool_]) -> Split:
        return random_split(
            names[chosen].tolist(),
            units[chosen].tolist(),
            validation,
            test,
            settings.seed,
            used[chosen],
            store.has_forces[chosen],
        )

    split = drawn(np.ones(len(names), dtype=np.bool_))
    there = {part for part, is_used in zip(split.parts, in_use.tolist(), strict=True) if is_used}
    if there.issuperset(split.parts):
        return split
    # structures that are not used take all places of a held-out set; they then go where their group goes
    of_unit = dict(zip(units[in_use].tolist(), drawn(in_use).parts, strict=True))
    return replace(
        split,
        parts=tuple(
            [of_unit.get(unit, part) for unit, part in zip(units.tolist(), split.parts, strict=True)]
        ),
    )


def why_no_test(parameters: ParameterSet, store: StructureStore) -> str:
    """Why a new split by the settings has no test set, and what to do; "" if it has one.

    Args:
        parameters: of the fit.
        store: the structures to split.
    """
    if parameters.training.test_fraction == 0.0 or "test" in drawn_split(parameters, store).parts:
        return ""
    are_in_use = are_used(parameters, store)
    n_used = int(np.count_nonzero(are_in_use))
    if n_used < FEWEST_TO_TEST:
        return f"{n_used} structures are too few; with {FEWEST_TO_TEST} there is one"
    groups = {group for group, is_used in zip(store.groups, are_in_use.tolist(), strict=True) if is_used}
    if parameters.training.split != "grouped" or len(groups) == n_used:
        return "the fraction is too small; raise test_fraction in params.json and use --new-split"
    return (
        f"{counted(len(groups), 'group')} of related structures are too few or too large to be held out whole; use "
        "--split-by random --new-split, or add unrelated structures"
    )


def _used_compositions(parameters: ParameterSet, store: StructureStore) -> IntArray:
    """(n_structures, n_elements) number of atoms, zero for structures that are not used."""
    return store.compositions(store.elements) * are_used(parameters, store)[:, None]
