"""Features of atoms in the layout of the network: those of each subnet in one matrix, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.files.atomic import atomic_write
from tio2nn.files.rows import FileRows, Rows
from tio2nn.potential.layers import Layer, energies
from tio2nn.potential.whitening import Whitening, pieces
from tio2nn.training.places import rows_of


@dataclass(frozen=True)
class AtomTable:
    """Features of the atoms of many structures, one matrix for each subnet.

    Attributes:
        features: for each subnet (n_atoms of it, n_features), float64 or float32, structures consecutive; all in memory
            or all in one file.
        counts: (n_structures, n_subnets) atoms of each structure that belong to each subnet.
    """

    features: tuple[Rows, ...]
    counts: IntArray

    @classmethod
    def from_rows(
        cls, features: FloatArray, subnet_of_atom: IntArray, n_atoms: IntArray, n_subnets: int
    ) -> AtomTable:
        """Sort the atoms of consecutive structures by subnet.

        Args:
            features: (n_atoms of all, n_features)
            subnet_of_atom: (n_atoms of all,)
            n_atoms: (n_structures,)
            n_subnets: number of subnets.
        """
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        parts = tuple(features[subnet_of_atom == k] for k in range(n_subnets))
        return cls(parts, _counts_of(structure, subnet_of_atom, len(n_atoms), n_subnets))

    @classmethod
    def gather(
        cls,
        blocks: Iterable[FloatArray],
        subnet_of_atom: IntArray,
        n_atoms: IntArray,
        n_subnets: int,
        parts: Sequence[IntArray],
        scratch: Path | None = None,
    ) -> tuple[AtomTable, ...]:
        """A table for each part; features come block by block, and only those of the parts are kept.

        Args:
            blocks: (n_atoms of some consecutive structures, n_features), at least one, together all atoms.
            subnet_of_atom, n_atoms, n_subnets: as for `from_rows`, of all structures.
            parts: structures of each part, ascending, without overlap.
            scratch: file for the features; None to hold them in memory.
        """
        part_of_structure = np.full(len(n_atoms), -1)
        for p, structures in enumerate(parts):
            part_of_structure[structures] = p
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        counts = _counts_of(structure, subnet_of_atom, len(n_atoms), n_subnets)
        part_of_atom = part_of_structure[structure]
        place = np.where(part_of_atom >= 0, part_of_atom * n_subnets + subnet_of_atom, -1)
        sizes = [int(counts[structures, k].sum()) for structures in parts for k in range(n_subnets)]
        matrices: list[Any] = []
        filled = [0] * len(sizes)
        row = 0
        for block in blocks:
            matrices = matrices or _empty(sizes, block.shape[1], scratch)
            own = place[row : row + len(block)]
            for k, matrix in enumerate(matrices):
                chosen = block[own == k]
                matrix[filled[k] : filled[k] + len(chosen)] = chosen
                filled[k] += len(chosen)
            row += len(block)
        if row != len(subnet_of_atom):
            raise ValueError(f"blocks: expected {len(subnet_of_atom)} rows, got {row}")
        return tuple(
            cls(tuple(matrices[p * n_subnets : (p + 1) * n_subnets]), counts[structures])
            for p, structures in enumerate(parts)
        )

    @property
    def n_atoms(self) -> IntArray:
        """(n_structures,) number of atoms."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def file(self) -> Path | None:
        """Where the features are; None in memory."""
        first = self.features[0]
        return first.path if isinstance(first, FileRows) else None

    def begins(self) -> IntArray:
        """(n_structures, n_subnets) the place in the file where the features of each structure begin, in values."""
        before = np.cumsum(self.counts, axis=0) - self.counts
        matrices = [own for own in self.features if isinstance(own, FileRows)]
        return np.stack([own.begin + own.width * before[:, k] for k, own in enumerate(matrices)], axis=1)

    def select(self, structures: IntArray) -> AtomTable:
        """The table of these structures, in this order."""
        return AtomTable(
            tuple(part[self.rows(k, structures)] for k, part in enumerate(self.features)),
            self.counts[structures],
        )

    def rows(self, subnet: int, structures: IntArray) -> IntArray:
        """Rows of one subnet's matrix that belong to these structures, one structure after the other."""
        return rows_of(self.counts[:, subnet], structures)

    def segments(self, subnet: int) -> NDArray[np.int32]:
        """(n_atoms of the subnet,) index of the structure that each row belongs to."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts[:, subnet])

    def mean_energies(
        self, networks: Sequence[Sequence[Sequence[Layer]]], whitenings: Sequence[Whitening] | None = None
    ) -> FloatArray:
        """(n_structures,) what networks say of the structures, eV: of each atom, the mean over those of its subnet.

        Args:
            networks: for each subnet, the layers of each of its networks; without one, its atoms count nothing.
            whitenings: one per subnet; None for a table whose features are whitened.
        """
        total = np.zeros(len(self.counts))
        for k, (of_subnet, features) in enumerate(zip(networks, self.features, strict=True)):
            if not of_subnet:
                continue
            whitened = pieces(features) if whitenings is None else map(whitenings[k], pieces(features))
            own = [np.mean([energies(layers, piece) for layers in of_subnet], axis=0) for piece in whitened]
            total += np.bincount(self.segments(k), np.concatenate(own), minlength=len(total))
        return total

    def transformed(self, functions: Sequence[Callable[[NDArray[np.floating]], FloatArray]]) -> AtomTable:
        """The table with a row-wise function applied to each matrix, as float32, in memory."""
        return AtomTable(
            tuple(_mapped(f, part) for f, part in zip(functions, self.features, strict=True)),
            self.counts,
        )


def write_transformed(
    tables: Sequence[AtomTable],
    functions: Sequence[Callable[[NDArray[np.floating]], FloatArray]],
    file: Path,
) -> tuple[AtomTable, ...]:
    """As `AtomTable.transformed`, of several tables, in a file."""
    found, begin = [], 0
    with atomic_write(file, "wb") as handle:
        for table in tables:
            matrices = []
            for function, part in zip(functions, table.features, strict=True):
                for piece in pieces(part):
                    handle.write(np.ascontiguousarray(function(piece), "<f4").data)
                matrices.append(FileRows.of(file, begin, (len(part), part.shape[1]), "<f4"))
                begin = matrices[-1].end
            found.append(AtomTable(tuple(matrices), table.counts))
    return tuple(found)


def _counts_of(
    structure_of_atom: IntArray, subnet_of_atom: IntArray, n_structures: int, n_subnets: int
) -> IntArray:
    """(n_structures, n_subnets) atoms of each structure that belong to each subnet."""
    cells = structure_of_atom * n_subnets + subnet_of_atom
    return np.bincount(cells, minlength=n_structures * n_subnets).reshape(n_structures, n_subnets)


def _empty(sizes: Sequence[int], n_columns: int, scratch: Path | None) -> list[Any]:
    """Matrices of so many rows each, to be filled."""
    if scratch is None:
        return [np.empty((size, n_columns)) for size in sizes]
    first = np.cumsum([0, *sizes]).tolist()
    return [
        FileRows.of(scratch, row * n_columns, (size, n_columns), "<f8")
        for row, size in zip(first, sizes, strict=False)
    ]


def _mapped(function: Callable[[NDArray[np.floating]], FloatArray], features: Rows) -> NDArray[np.float32]:
    """Apply a function of the rows piece by piece, to hold only one piece in float64."""
    mapped: NDArray[np.float32] | None = None
    first = 0
    for piece in pieces(features):
        rows = function(piece)
        if mapped is None:
            mapped = np.empty((len(features), rows.shape[1]), np.float32)
        mapped[first : first + len(rows)] = rows
        first += len(rows)
    assert mapped is not None, "there is at least one piece"
    return mapped
