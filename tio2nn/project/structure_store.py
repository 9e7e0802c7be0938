"""The structure store: all accepted structures of a project in one file of plain arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.errors import InputError, one_line
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.digests import digest
from tio2nn.files.paths import AnyPath
from tio2nn.project.label_notes import LabelNotes
from tio2nn.project.project import command_for
from tio2nn.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from tio2nn.structures.energy_label import EnergyLabel
from tio2nn.structures.gross_outliers import gross_outliers
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure, geometry_digest

_FORMAT = "tio2nn structures 1"
_ARRAYS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    # name: one row for each ..., type, further dimensions
    "offsets": ("boundary", "<i8", ()),
    "numbers": ("atom", "|u1", ()),
    "positions": ("atom", "<f8", (3,)),
    "forces": ("atom", "<f8", (3,)),
    "cells": ("structure", "<f8", (3, 3)),
    "periodic": ("structure", "|b1", (3,)),
    "energies": ("structure", "<f8", ()),
    "lines": ("structure", "<i8", ()),
}
_STRESSES = "stresses"  # like one of these, but only there if a structure has a stress
_TEXTS = ("names", "files", "groups")  # one for each structure


def write_store(
    path: AnyPath,
    structures: Sequence[Structure],
    *,
    groups: Sequence[str] | None = None,
    reference_energies: Mapping[str, float] | None = None,
    label: EnergyLabel = "energy",
    doubts: Sequence[str] = (),
) -> None:
    """Write structures, atomically.

    Args:
        path: of the file.
        structures: with distinct names.
        groups: name of the group of each structure; by default each is its own group.
        reference_energies: of each element, eV.
        label: which of two energies of the files the energy is.
        doubts: which labels contradict the energies, as in `LabelNotes`.

    Raises:
        ValueError: two structures with the same name.
    """
    names = [structure.name for structure in structures]
    if len(set(names)) < len(names):
        raise ValueError("names: expected distinct names, got one twice")
    n_atoms = [structure.n_atoms for structure in structures]
    nothing = np.empty((0, 3))
    unknown = [
        np.full((n, 3), np.nan) if s.forces is None else s.forces
        for s, n in zip(structures, n_atoms, strict=True)
    ]
    columns: dict[str, Any] = {
        "offsets": np.concatenate([[0], np.cumsum(n_atoms, dtype=np.int64)]),
        "numbers": [ATOMIC_NUMBERS[element] for structure in structures for element in structure.elements],
        "positions": np.concatenate([nothing, *(structure.positions for structure in structures)]),
        "forces": np.concatenate([nothing, *unknown]),
        "cells": np.reshape([structure.cell for structure in structures], (-1, 3, 3)),
        "periodic": np.reshape([structure.periodic for structure in structures], (-1, 3)),
        "energies": [np.nan if structure.energy is None else structure.energy for structure in structures],
        "lines": [structure.line or 0 for structure in structures],
    }
    header: dict[str, Any] = {
        "format": _FORMAT,
        "units": {
            "positions": "Å",
            "cells": "Å",
            "energies": "eV",
            "forces": "eV/Å",
            "reference_energies": "eV",
        },
        "reference_energies": dict(reference_energies or {}),
        "names": names,
        "files": [structure.file for structure in structures],
        "groups": list(names if groups is None else groups),
        **LabelNotes.of(structures, label, doubts).as_header(),
    }
    arrays = {name: np.asarray(columns[name], dtype=kind) for name, (_, kind, _) in _ARRAYS.items()}
    if any(structure.stress is not None for structure in structures):
        header["units"][_STRESSES] = "eV/Å³"
        arrays[_STRESSES] = np.array(
            [np.full((3, 3), np.nan) if s.stress is None else s.stress for s in structures], "<f8"
        )
    text = np.frombuffer(json.dumps(header, ensure_ascii=False).encode(), dtype=np.uint8)
    write_arrays(path, {"header": text, **arrays})


def read_store(path: AnyPath) -> StructureStore:
    """Read a file of `write_store`.

    Raises:
        InputError: a missing or damaged file.
    """
    file = os.fspath(path)
    advice = f'run "{command_for(path, "extract SOURCE...")}" again'
    try:
        with opened_arrays(path) as content:
            optional = [_STRESSES] if _STRESSES in content else []
            arrays: dict[str, Any] = {name: content[name] for name in ("header", *_ARRAYS, *optional)}
        header = json.loads(arrays.pop("header").tobytes().decode())
        if header["format"] != _FORMAT:
            raise ValueError(f"the unknown format {header['format']!r}")
        texts = {name: header[name] for name in _TEXTS}
        store = StructureStore(arrays, texts, header["reference_energies"], LabelNotes.read(header))
    except FileNotFoundError:
        raise InputError(f"expected a structure store, got no file; {advice}", file=file) from None
    except Exception as error:
        reason = f"expected a structure store, got {one_line(error)}; {advice}"
        raise InputError(reason, file=file) from None
    return store


class StructureStore(Sequence[Structure]):
    """A sequence of structures, created on access from flat arrays.

    Attributes:
        offsets: (n_structures + 1,) structure k has the atoms offsets[k]:offsets[k + 1].
        numbers: (n_atoms of all,) atomic numbers.
        positions: (n_atoms of all, 3) Å.
        forces: (n_atoms of all, 3) eV/Å; NaN if unknown.
        cells: (n_structures, 3, 3) one cell vector per row, Å.
        periodic: (n_structures, 3).
        energies: (n_structures,) total energies, eV; NaN if unknown.
        lines: (n_structures,) first line of the structure in its file, or 0.
        stresses: (n_structures, 3, 3) eV/Å³, positive under tension; NaN if unknown.
        names, files, groups: one per structure.
        reference_energies: of each element, eV; they define the cohesive energies.
        label_notes: which energy of the files `energies` is, and both; kinds and weights.
    """

    offsets: IntArray
    numbers: NDArray[np.uint8]
    positions: FloatArray
    forces: FloatArray
    cells: FloatArray
    periodic: BoolArray
    energies: FloatArray
    lines: IntArray
    stresses: FloatArray

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        reference_energies: Mapping[str, float],
        notes: LabelNotes | None = None,
    ) -> None:
        """Check that the arrays are consistent.

        Args:
            arrays, texts: by the names of the attributes; without stresses, none is known.
            reference_energies: of each element, eV.
            notes: on the labels; by default there is one energy, no kind, and no weight but 1.

        Raises:
            ValueError: they are not.
        """
        self.label_notes = notes or LabelNotes()
        self.label_notes.check(len(texts["names"]))
        for name in _ARRAYS:
            setattr(self, name, arrays[name])
        self.names, self.files, self.groups = (tuple(texts[name]) for name in _TEXTS)
        self.reference_energies = dict(reference_energies)
        offsets, numbers = self.offsets, self.numbers
        rows = {"boundary": len(self.names) + 1, "structure": len(self.names), "atom": len(numbers)}
        for name, (row, kind, shape) in _ARRAYS.items():
            array = getattr(self, name)
            if array.dtype.str != kind or array.shape != (rows[row], *shape):
                raise ValueError(f"{name} of type {array.dtype.str} and shape {array.shape}")
        self.stresses = arrays.get(_STRESSES, _unknown_stresses(len(self)))
        if self.stresses.dtype.str != "<f8" or self.stresses.shape != (len(self), 3, 3):
            raise ValueError(f"stresses of type {self.stresses.dtype.str} and shape {self.stresses.shape}")
        for name in _TEXTS:
            texts = getattr(self, name)
            if len(texts) != len(self.names) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name} that are not one string per structure")
        if len(set(self.names)) < len(self.names):
            raise ValueError("a repeated name")
        if offsets[0] != 0 or offsets[-1] != len(numbers) or (np.diff(offsets) < 1).any():
            raise ValueError("inconsistent offsets")
        if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= len(SYMBOLS):
            raise ValueError("invalid atomic numbers")

    def with_weights(self, weights: Sequence[float]) -> StructureStore:
        """The same structures with these weights in the loss, one for each."""
        other = copy(self)
        vars(other).pop("weights", None)  # what was read from the old ones
        some = list(weights) if any(weight != 1.0 for weight in weights) else None
        other.label_notes = self.label_notes._replace(weights=some)
        return other

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Structure]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, key: int | str) -> Structure: ...
    @overload
    def __getitem__(self, key: slice) -> list[Structure]: ...
    def __getitem__(self, key: int | str | slice) -> Structure | list[Structure]:
        """By index, by name (KeyError if there is none) or several."""
        if isinstance(key, slice):
            return [self[index] for index in range(*key.indices(len(self)))]
        index = self._indices[key] if isinstance(key, str) else range(len(self))[key]
        atoms = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        energy, forces = float(self.energies[index]), self.forces[atoms]
        periodic = self.periodic[index]
        return Structure(
            name=self.names[index],
            elements=tuple([SYMBOLS[number - 1] for number in self.numbers[atoms].tolist()]),
            positions=self.positions[atoms],
            cell=self.cells[index],
            periodic=(bool(periodic[0]), bool(periodic[1]), bool(periodic[2])),
            energy=None if np.isnan(energy) else energy,
            forces=None if np.isnan(forces).any() else forces,
            file=self.files[index],
            line=int(self.lines[index]) or None,
            stress=self.stresses[index] if self.has_stress[index] else None,
            **self.label_notes.of_structure(index),
        )

    def chosen(self, indices: NDArray[np.int64]) -> Sequence[Structure]:
        """Some structures, each of which is made when it is asked for."""
        return _Chosen(self, indices)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def n_atoms(self) -> IntArray:
        """(n_structures,)"""
        return np.diff(self.offsets)

    @cached_property
    def has_forces(self) -> BoolArray:
        """(n_structures,)"""
        return np.asarray(~np.isnan(self.forces[self.offsets[:-1]]).any(axis=1))

    @cached_property
    def has_stress(self) -> BoolArray:
        """(n_structures,)"""
        return np.asarray(~np.isnan(self.stresses).any(axis=(1, 2)))

    @cached_property
    def weights(self) -> FloatArray | None:
        """(n_structures,) of the structures in the loss, of any mean; None if all are 1."""
        given = self.label_notes.weights
        return None if given is None else np.array(given, dtype=np.float64)

    @cached_property
    def has_bulk_stress(self) -> BoolArray:
        """(n_structures,) which have a stress that can be learned: finite, of a cell periodic along all axes."""
        return np.asarray(np.isfinite(self.stresses).all(axis=(1, 2)) & self.periodic.all(axis=1))

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """All chemical symbols, in alphabetical order."""
        return tuple(sorted(SYMBOLS[number - 1] for number in np.unique(self.numbers)))

    @cached_property
    def geometry_hashes(self) -> tuple[str, ...]:
        """`Structure.geometry_hash` of each structure."""
        # to make the structures would take ten times as long
        arrays = (self.numbers, self.positions, self.cells, self.periodic)
        numbers, positions, cells, periodic = (memoryview(array.tobytes()) for array in arrays)
        symbols: dict[memoryview, bytes] = {}
        found = []
        for k, (first, last) in enumerate(pairwise(self.offsets.tolist())):
            own = numbers[first:last]
            if own not in symbols:
                symbols[own] = " ".join([SYMBOLS[number - 1] for number in own]).encode()
            parts = (
                positions[24 * first : 24 * last],
                cells[72 * k : 72 * k + 72],
                periodic[3 * k : 3 * k + 3],
            )
            found.append(geometry_digest(symbols[own], *parts))
        return tuple(found)

    @cached_property
    def digest_of_energies(self) -> str:
        """Digest of all total energies."""
        return digest(self.energies.astype("<f8").tobytes())

    @cached_property
    def digest_of_forces(self) -> str:
        """Digest of all forces."""
        return digest(self.forces.astype("<f8").tobytes())

    @cached_property
    def digest_of_stresses(self) -> str | None:
        """Digest of all stresses; None if there are none."""
        return digest(self.stresses.astype("<f8").tobytes()) if self.has_stress.any() else None

    def element_indices(self, elements: Sequence[str]) -> IntArray:
        """(n_atoms of all,) index of the element of each atom in `elements`.

        Raises:
            InputError: an element that is not among them.
        """
        place = np.full(len(SYMBOLS) + 1, -1, dtype=np.int64)
        place[[ATOMIC_NUMBERS[element] for element in elements]] = np.arange(len(elements))
        indices = place[self.numbers]
        if (indices < 0).any():
            atom = int(np.flatnonzero(indices < 0)[0])
            structure = self[int(np.searchsorted(self.offsets, atom, side="right")) - 1]
            got = SYMBOLS[self.numbers[atom] - 1]
            raise structure.error(f"expected the elements {', '.join(elements)}, got {got}")
        return np.asarray(indices)

    def compositions(self, elements: Sequence[str]) -> IntArray:
        """(n_structures, n_elements) number of atoms of each element; errors as for `element_indices`."""
        structure = np.repeat(np.arange(len(self)), self.n_atoms)
        flat = structure * len(elements) + self.element_indices(elements)
        return np.bincount(flat, minlength=len(self) * len(elements)).reshape(len(self), len(elements))

    @cached_property
    def cohesive_energies(self) -> FloatArray:
        """(n_structures,) total energies minus reference energies, eV/atom; NaN if either is unknown."""
        compositions = self.compositions(self.elements)
        known = np.array([element in self.reference_energies for element in self.elements], dtype=bool)
        values = {element: self.reference_energies.get(element, 0.0) for element in self.elements}
        cohesive = ReferenceEnergies.given(values).cohesive(compositions, self.energies)
        return np.where((compositions[:, ~known] > 0).any(axis=1), np.nan, cohesive)

    @cached_property
    def max_forces(self) -> FloatArray:
        """(n_structures,) length of the largest force on an atom, eV/Å; NaN if unknown."""
        if not len(self):
            return np.empty(0)
        return np.asarray(np.maximum.reduceat(np.linalg.norm(self.forces, axis=1), self.offsets[:-1]))

    @cached_property
    def gross_outliers(self) -> BoolArray:
        """(n_structures,) see `tio2nn.structures.gross_outliers`."""
        return gross_outliers(self, self.compositions(self.elements), self.energies, self.max_forces)

    def are_up_to(self, max_energy: float | None) -> NDArray[np.bool_]:
        """(n_structures,) which cohesive energies, eV/atom, are at most a limit; all if it is None."""
        if max_energy is None:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.cohesive_energies <= max_energy)


class _Chosen(Sequence[Structure]):
    """Some structures of a store."""

    def __init__(self, store: StructureStore, indices: NDArray[np.int64]) -> None:
        self._store, self._indices = store, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, key: int) -> Structure: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Structure]: ...
    def __getitem__(self, key: int | slice) -> Structure | Sequence[Structure]:
        if isinstance(key, slice):
            return _Chosen(self._store, self._indices[key])
        return self._store[int(self._indices[key])]


def _unknown_stresses(n: int) -> FloatArray:
    """(n, 3, 3) NaN, in the memory of one."""
    return np.broadcast_to(np.full((), np.nan), (n, 3, 3))
