"""Structures in the order of an epoch, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.job_part import JobPart
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batch_atoms import BatchAtoms
from tio2nn.training.dataset import FitData, ForceLabels, Labels, StressLabels
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.padding import Padding
from tio2nn.training.places import Places, Share, atoms_of, in_pieces
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
        edges: (n_batches + 1, n_subnets) where the atoms of each batch begin.
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
        in_batch = np.pad(counts, (fill, (0, 0))).reshape(*shape, -1).sum(axis=1)
        self.edges = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(in_batch, axis=0)])
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
        ranges = list(zip(self.edges[batch].tolist(), self.edges[batch + 1].tolist(), strict=True))
        segments = [part[begin:end] for part, (begin, end) in zip(self.segments, ranges, strict=True)]
        if self._windows is not None:
            return self._windows.of_batch(batch), segments
        return [part[begin:end] for part, (begin, end) in zip(self.features, ranges, strict=True)], segments

    @property
    def most_atoms(self) -> list[int]:
        """(n_subnets,) atoms of each subnet in the batch that has most of them."""
        return np.diff(self.edges, axis=0).max(axis=0).tolist()  # type: ignore[no-any-return]


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


class ForceBatches:
    """The forces of structures in the order of batches.

    Args:
        labels: in that order.
        counts: (n_structures, n_subnets)
        size: structures of a batch.
        weights: (n_structures,) of the losses, divided by the atoms with forces of a batch on average.
        windows: of the derivatives; None to use them where they lie.
        room: (n_subnets,) as for `Places.of`.

    Attributes:
        labels, size, weights: as above.
        rows, first_atom: as in `Places`.
    """

    def __init__(
        self,
        labels: ForceLabels,
        counts: IntArray,
        size: int,
        weights: FloatArray,
        windows: Windows | None = None,
        room: IntArray | None = None,
    ) -> None:
        self.labels, self.size, self.weights, self._windows = labels, size, weights, windows
        self.rows, self.first_atom = Places.of(labels.subnets, labels.n_atoms, counts, size, room)

    def product(
        self,
        batch: int,
        gradients: Float32Array,
        scale: float,
        pieces: int = 1,
        share: Share = map,
    ) -> tuple[FloatArray, Float32Array, Float32Array]:
        """Losses of the forces of one batch, and their derivatives; the bits do not depend on `pieces`.

        Args:
            batch: its number.
            gradients: (n_members, n_atoms of the batch, n_features) ∂E/∂G, subnet after subnet.
            scale: error at which the loss turns linear, eV/Å.
            pieces: number of pieces in which `share` gets the work, to give it to several threads.
            share: as `map`.

        Returns:
            (n_members, 2) loss and sum of squared errors of all components; its derivatives with respect to the
            gradients; forces (n_members, n_atoms of the batch, 3), structure after structure.
        """
        own, labels = slice(batch * self.size, (batch + 1) * self.size), self.labels
        atoms, first_atom = atoms_of(self.first_atom, own)
        jacobian, offsets = labels.jacobian, labels.offsets[own]
        if self._windows is not None:
            jacobian, offsets = self._windows.of_batch(batch)
        whole = ForceBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            labels.forces[atoms],
            self.weights[own].astype(np.float32),
        )
        forces = np.empty((len(gradients), atoms.stop - atoms.start, 3), np.float32)
        derivatives = np.empty_like(gradients)
        results = np.empty((len(whole.offsets), len(gradients), 2))

        def compute(some: IntArray) -> None:
            part = slice(int(some[0]), int(some[-1]) + 1)
            batch_of_part = whole._replace(
                offsets=whole.offsets[part],
                first_atom=first_atom[part.start : part.stop + 1],
                weights=whole.weights[part],
            )
            force_losses(jacobian, batch_of_part, gradients, scale, forces, derivatives, results[part])

        in_pieces(len(whole.offsets), pieces, share, compute)
        return results.sum(axis=0), derivatives, forces
