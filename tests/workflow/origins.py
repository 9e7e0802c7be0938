"""Potentials to begin a fit from, and structures that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from projects import PARAMETERS, small_project, structures

from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure

# not so bad that its errors look like labels from elsewhere
COMMITTEE: dict[str, Any] = {"training": {"members": 2, "epochs": 30}}
STANDSTILL: dict[str, Any] = {"training": {"members": 2, "epochs": 1, "learning_rate": 1e-12}}


def others(n: int = 16) -> list[Structure]:
    """Structures that the potential has not seen."""
    return [replace(structure, name=f"other{k}") for k, structure in enumerate(structures(n, seed=7))]


def other_project(root: Path, chosen: Sequence[Structure] | None = None, **changes: Any) -> Project:
    """Of other structures than the potential has seen."""
    return small_project(root, PARAMETERS.with_overrides(**changes), others() if chosen is None else chosen)


def with_lithium(n: int = 16) -> list[Structure]:
    """As `others`, but the first titanium of every other structure is lithium."""
    made = []
    for k, structure in enumerate(others(n)):
        if k % 2:
            made.append(structure)
            continue
        elements = list(structure.elements)
        elements[elements.index("Ti")] = "Li"
        assert structure.energy is not None
        made.append(replace(structure, elements=tuple(elements), energy=structure.energy + 1400.0))
    return made
