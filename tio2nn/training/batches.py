"""Structures in the order of an epoch, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.job_part import JobPart
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batch_atoms import BatchAtoms
from tio2nn.training.dataset import FitData, ForceLabels, Labels, StressLabels
from tio2nn.training.force_batches import ForceBatches
from tio2nn.training.padding import Padding
from tio2nn.training.shares import dealt
from tio2nn.training.stress_batches import StressBatches
from tio2nn.training.windows import FeatureWindows, WindowReader, Windows, in_turn, mixed


@dataclass(frozen=True)
class Part:
    """The training or validation set.

    Attributes:
        table, labels: of its structures.
        forces: None for energies alone.
        stress: None for a fit without.
    """

    table: AtomTable
    labels: Labels
    forces: ForceLabels | None
    stress: StressLabels | None = None

    def __len__(self) -> int:
        return len(self.table.counts)

    def sizes(self, n_features: int) -> IntArray:
        """(n_structures,) number of values of each structure in files: all derivatives, and features in one."""
        in_file = self.table.n_atoms if self.table.file is not None else np.zeros(len(self), np.int64)
        return np.asarray(self._derivatives(n_features) + n_features * in_file)

    def work(self) -> IntArray:
        """(n_structures,) grows with what each structure costs in an epoch."""
        return np.asarray(self._derivatives(1) + self.table.n_atoms)

    def _derivatives(self, n_features: int) -> IntArray:
        sizes = np.zeros(len(self), np.int64)
        for own in (self.forces, self.stress):
            if own is not None:
                sizes += own.sizes(n_features)
        return sizes

    def n_labeled(self, order: IntArray) -> tuple[int, int]:
        """Number of atoms with forces, and of structures with a stress, among structures (n_structures,)."""
        forces, stress = self.forces, self.stress
        return (
            0 if forces is None else int((forces.n_atoms * forces.has_forces)[order].sum()),
            0 if stress is None else int(np.count_nonzero(stress.has_stress[order])),
        )

    def without_forces(self, left_out: NDArray[np.bool_]) -> Part:
        """The part with the forces of some structures (n_structures,) left out."""
        assert self.forces is not None, "there are forces"
        offsets = np.where(left_out, -1, self.forces.offsets)
        return replace(self, forces=replace(self.forces, offsets=offsets))


class Batches:
    """The structures of a part in an order. The atoms are gathered once, so each batch is a slice.

    Args:
        part: the structures.
        order: (n_structures,) of them.
        size: structures of a batch; the last one is padded with structures without atoms and weight.
        readers: of derivatives, and of features in a file, if they are read window by window.
        first_batches: (n_windows + 1,) where each window begins, and the number of batches; None for windows of
            about equal size.
        rank: gets its share of each batch, with losses whose sums over all ranks are those of whole batches; None for
            all.
        padding: what all batches are padded to, with their features on the device; None for no padding.

    Attributes:
        n: number of batches.
        size: structures of a batch, or of the largest share of one.
        width: places for structures in the graph; with padding, one more.
        n_structures: number of structures here.
        order: (n_structures,) of them.
        whole: structures of a batch, and number of structures, of all ranks.
        n_components: of the forces and of the stresses of all structures, of all ranks.
        features: for each subnet (n_atoms of it, n_features); none with padding, or if they are read window by window.
        segments: for each subnet (n_atoms of it,) the place of each atom's structure in its batch.
        first_atom: (n_batches * size + 1, n_subnets) where the atoms of each structure begin.
        in_graph: the atoms on a GPU, with padding; otherwise None.
        energies, n_atoms, weights: (n_batches, width) of the structures.
        forces: None for energies alone.
        stress: None for a fit without.
    """

    def __init__(
        self,
        part: Part,
        order: IntArray,
        size: int,
        readers: Readers | None = None,
        first_batches: IntArray | None = None,
        rank: JobPart | None = None,
        padding: Padding | None = None,
    ) -> None:
        if readers is not None and first_batches is None:
            first_batches = readers.in_turn(part, order, size)
        # The loss of the forces of a batch is the sum over its atoms with forces divided by those of a full batch on
        # average, so that atoms count alike in batches with few of them. The mean of the losses of all full batches is
        # then the mean loss of an atom. It is so with structures and their stresses.
        n_atoms, n_stresses = part.n_labeled(order)
        per_force = max(1.0, n_atoms * size / len(order))
        per_stress = n_stresses * size / len(order) if n_stresses else 1.0
        n_of_stresses = 0 if part.stress is None else part.stress.n_components(order)
        self.n_components = (3 * n_atoms, n_of_stresses)
        self.n, self.whole = -(-len(order) // size), (size, len(order))
        if rank is not None:
            order, size = dealt(order, part.work(), size, rank), -(-size // rank.total)
        self.size, self.n_structures, self.order = size, len(order), order
        self.width, self.padding = size + (padding is not None), padding
        shape, fill = (self.n, size), (0, self.n * size - len(order))
        table, labels = part.table, part.labels
        counts = table.counts[order]
        self.first_atom = np.cumsum(np.pad(counts, ((1, fill[1]), (0, 0))), axis=0)
        owners = np.arange(len(order)) % size
        self.segments = [np.repeat(owners, own) for own in counts.T]
        self.features: list[Float32Array] = []
        self._windows: FeatureWindows | None = None
        if table.file is not None:
            assert readers is not None, "what is in a file is read in windows"
            self._windows = readers.features_of(table, order, size, first_batches)
        elif padding is None:
            # one subnet at a time, to save memory
            self.features = [own[table.rows(k, order)] for k, own in enumerate(table.features)]

        def by_batch(column: NDArray[np.generic], value: float = 0.0) -> Float32Array:
            whole = np.pad(column, fill, constant_values=value).reshape(shape)
            whole = np.pad(whole, ((0, 0), (0, self.width - size)), constant_values=value)
            return whole.astype(np.float32)

        self.energies = by_batch(labels.energies[order])
        self.n_atoms = by_batch(table.n_atoms[order], 1.0)
        self.weights = by_batch(labels.weights[order] * (self.width / self.whole[0]))
        self.in_graph = None if padding is None else BatchAtoms.of(table, order, shape, padding)
        room = None if padding is None else padding.atoms
        self.forces, self.stress = None, None
        if part.forces is not None:
            own = part.forces.select(order)
            windows = None
            if readers is not None:
                windows = readers.windows(readers.forces, own, size, first_batches)
            self.forces = ForceBatches(own, counts, size, labels.weights[order] / per_force, windows, room)
        if part.stress is not None:
            own_stress = part.stress.select(order)
            windows = None
            if readers is not None:
                windows = readers.windows(readers.stress, own_stress, size, first_batches)
            self.stress = StressBatches(
                own_stress, counts, size, labels.weights[order] / per_stress, windows, room
            )

    def atoms(self, batch: int) -> tuple[list[Float32Array], list[IntArray]]:
        """Features and segments of the atoms of one batch."""
        edges = self.first_atom[[batch * self.size, (batch + 1) * self.size]]
        own = [slice(*of_subnet) for of_subnet in edges.T.tolist()]
        segments = [part[atoms] for part, atoms in zip(self.segments, own, strict=True)]
        if self._windows is not None:
            return self._windows.of_batch(batch), segments
        return [part[atoms] for part, atoms in zip(self.features, own, strict=True)], segments

    @property
    def uses_gradients(self) -> bool:
        """Whether the loss has forces or stress."""
        return self.forces is not None or self.stress is not None


class Readers(NamedTuple):
    """Read derivatives and features window by window; close them at the end.

    Attributes:
        forces, stress: of the derivatives with respect to positions and strain; None if there are none.
        features: None if they are in memory.
        n_features: symmetry functions.
        capacity: values of a window.
    """

    forces: WindowReader | None
    stress: WindowReader | None
    features: WindowReader | None
    n_features: int
    capacity: int

    @classmethod
    def of(cls, data: FitData) -> Readers | None:
        """Those of a fit; None if its features are in memory and its derivatives used where they lie."""
        window = data.window
        if window is None:
            return None
        files = (data.derivatives_file, data.strains_file, data.features_file)
        # the file cache keeps the small files, or as much of them as of the others
        forces, stress, features = (
            None if file is None else WindowReader(file, window.kept) for file in files
        )
        return cls(forces, stress, features, window.n_features, window.capacity)

    def in_turn(self, part: Part, order: IntArray, size: int) -> IntArray:
        """Windows of about equal size for batches of structures in an order."""
        return in_turn(part.sizes(self.n_features)[order], size, self.capacity)

    def windows(
        self,
        reader: WindowReader | None,
        labels: ForceLabels | StressLabels,
        size: int,
        first_batches: IntArray | None,
    ) -> Windows:
        """The windows of structures in the order of batches."""
        assert reader is not None, "there are such derivatives"
        assert first_batches is not None, "windows are planned"
        return Windows(reader, labels.offsets, labels.sizes(self.n_features), size, first_batches)

    def features_of(
        self, table: AtomTable, order: IntArray, size: int, first_batches: IntArray | None
    ) -> FeatureWindows:
        """The windows of the features of structures in an order."""
        assert self.features is not None, "there are such features"
        assert first_batches is not None, "windows are planned"
        return FeatureWindows(self.features, table, order, size, first_batches)

    @contextmanager
    def errors_in_the_open(self) -> Iterator[None]:
        """As `WindowReader.errors_in_the_open`, of all."""
        with ExitStack() as stack:
            for reader in self._all:
                if reader is not None:
                    stack.enter_context(reader.errors_in_the_open())
            yield

    def close(self) -> None:
        """Stop reading."""
        for reader in self._all:
            if reader is not None:
                reader.close()

    @property
    def _all(self) -> tuple[WindowReader | None, ...]:
        return self.forces, self.stress, self.features


def shuffled(
    part: Part,
    size: int,
    random: np.random.Generator,
    readers: Readers | None,
    rank: JobPart | None = None,
    padding: Padding | None = None,
) -> Batches:
    """All structures in an order that is drawn, or one rank's share of them; within windows, if there are readers."""
    if readers is None:
        return Batches(part, random.permutation(len(part)), size, rank=rank, padding=padding)
    plan = mixed(part.sizes(readers.n_features), size, readers.capacity, random)
    return Batches(part, plan.order, size, readers, plan.first_batches, rank)
