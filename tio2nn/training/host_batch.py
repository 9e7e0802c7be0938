"""A batch on the CPU, which is computed in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batches import Batches
from tio2nn.training.host_networks import HostNetworks, Place
from tio2nn.training.losses import MEV, energy_losses_with_slopes
from tio2nn.training.pieces import Piece
from tio2nn.training.predictions import Predictions

Share = Callable[[Callable[[Any], None], Sequence[Any]], Iterable[None]]
"""As `map`; gives the work to several threads."""

Masks = Sequence[Sequence[Float32Array]]
"""Of each network and subnet (n_atoms, nodes of all hidden layers) factors of the nodes."""


class HostBatch:
    """What networks in company find in one batch.

    Args:
        batches: which it is of.
        batch: its number.
        networks: at as many pieces.
        pieces: of the batch.
        parameters: of the losses.
        force_weight: of the loss of forces.

    Attributes:
        features: of each subnet, (n_atoms, n_features).
        masks: factors of the nodes, for dropout; None for none.
    """

    def __init__(
        self,
        batches: Batches,
        batch: int,
        networks: HostNetworks,
        pieces: Sequence[Piece],
        parameters: TrainingParameters,
        force_weight: float = 1.0,
    ) -> None:
        self._networks, self._pieces, self._parameters = networks, pieces, parameters
        self._force_weight, self._size = force_weight, batches.size
        self.masks: Masks | None = None
        self.features, self._segments = batches.atoms(batch)
        self._first_row = np.cumsum([0, *map(len, self.features)]).tolist()
        self._labels = [column[batch] for column in (batches.energies, batches.n_atoms, batches.weights)]
        n_members, n_rows = networks.n_members, self._first_row[-1]
        self._energies = np.zeros((n_members, batches.size), np.float32)
        self._losses, self._slopes = np.zeros_like(self._energies), np.zeros_like(self._energies)
        self._of_atoms = np.empty((n_members, n_rows), np.float32)
        n_columns = self.features[0].shape[1] if batches.uses_gradients else 0
        self._gradients = np.empty((n_members, n_rows, n_columns), np.float32)
        self._of_gradients = self._gradients
        self._forces = self._stress = None
        if batches.stress is not None:
            scale = parameters.stress_huber_scale / MEV
            self._stress = batches.stress.of_batch(batch, self._gradients, scale)
            self._of_gradients = self._stress.derivatives
        if batches.forces is not None:
            scale = parameters.force_huber_scale
            self._forces = batches.forces.of_batch(batch, self._gradients, scale)
            self._of_gradients = self._forces.derivatives

    def compute(
        self,
        numbers: Sequence[int],
        share: Share = map,
        n_slices: int = 1,
        *,
        differentiate: bool,
    ) -> None:
        """Compute some pieces: energies, forces, stresses, and the derivatives of the loss.

        Args:
            numbers: of the pieces; several threads may have some each.
            share: gives what there is to do to several threads.
            n_slices: of the structures of each piece, for `share`.
            differentiate: whether the networks are to have the derivatives with respect to their weights.
        """
        places = [place for place in self._networks.places if place[0] in numbers]
        pieces = [self._pieces[p] for p in numbers]

        def run(compute: Callable[[Any], None], of: Sequence[Any]) -> None:
            for _ in share(compute, of):
                pass

        # other threads do not know what this one ignores
        with np.errstate(all="ignore"):
            run(self._forward, places)
            for piece in pieces:
                self._add_up(piece)
            slices = [own for piece in pieces for own in _cut(piece.structures, n_slices)]
            for losses in (self._forces, self._stress):
                if losses is not None:
                    run(losses.compute, slices)
            if differentiate:
                for piece in pieces:
                    self._find_slopes(piece)
                run(self._backward, places)

    def totals(self) -> FloatArray:
        """(n_members, 4 or 6) loss and squared errors, of energies, forces and stresses, when all is computed."""
        target, n_atoms, weights = self._labels
        errors = np.where(weights > 0.0, (self._energies - target) / n_atoms, 0.0)
        found = np.zeros((len(errors), 4 if self._stress is None else 6))
        found[:, 0] = (weights * self._losses).sum(axis=1) / self._size
        found[:, 1] = (errors * errors).sum(axis=1)
        if self._forces is not None:
            found[:, 2:4] = self._forces.totals() * (self._force_weight, 1.0)
        if self._stress is not None:
            found[:, 4:6] = self._stress.totals() * (self._parameters.stress_weight, 1.0)
        return found

    def predictions(self) -> Predictions:
        """What was predicted, when all is computed."""
        found = Predictions.of_energies(self._energies)
        if self._forces is not None:
            losses, forces = self._forces.totals()[:, 0], self._forces.predicted
            found = replace(found, force_losses=losses, forces=forces)
        if self._stress is not None:
            losses, stresses = self._stress.totals()[:, 0], self._stress.predicted
            found = replace(found, stress_losses=losses, stresses=stresses)
        return found

    def _rows(self, piece: Piece, k: int) -> slice:
        """Of the atoms of one subnet in a piece, among those of all subnets."""
        own, first = piece.atoms[k], self._first_row[k]
        return slice(first + own.start, first + own.stop)

    def _forward(self, place: Place) -> None:
        p, m, k = place
        own, rows = self._pieces[p].atoms[k], self._rows(self._pieces[p], k)
        mask = self._gradients[0, :0, :0] if self.masks is None else self.masks[m][k][own]
        self._networks.forward(
            place, self.features[k][own], mask, self._of_atoms[m, rows], self._gradients[m, rows]
        )

    def _add_up(self, piece: Piece) -> None:
        """The energies of a piece from those of its atoms."""
        n, first = piece.structures.stop - piece.structures.start, piece.structures.start
        for m, of_atoms in enumerate(self._of_atoms):
            energies = np.zeros(n)
            for k, own in enumerate(piece.atoms):
                energies += np.bincount(self._segments[k][own] - first, of_atoms[self._rows(piece, k)], n)
            self._energies[m, piece.structures] = energies

    def _find_slopes(self, piece: Piece) -> None:
        """Derivatives of the loss of a piece with respect to energies, and to the gradients of those."""
        own = piece.structures
        target, n_atoms, weights = (column[own] for column in self._labels)
        self._losses[:, own], slopes = energy_losses_with_slopes(
            self._parameters, self._energies[:, own], target, n_atoms
        )
        self._slopes[:, own] = weights * slopes / self._size
        for rows in (self._rows(piece, k) for k in range(len(self.features))):
            if self._forces is not None:
                self._forces.derivatives[:, rows] *= np.float32(self._force_weight)
            if self._stress is not None:
                of_stress = self._stress.derivatives[:, rows]
                of_stress *= np.float32(self._parameters.stress_weight)
                if self._forces is not None:
                    self._forces.derivatives[:, rows] += of_stress

    def _backward(self, place: Place) -> None:
        p, m, k = place
        own, rows = self._pieces[p].atoms[k], self._rows(self._pieces[p], k)
        of_energies = self._slopes[m][self._segments[k][own]]
        self._networks.backward(place, self.features[k][own], of_energies, self._of_gradients[m, rows])


def _cut(structures: slice, n: int) -> list[slice]:
    """Cut consecutive structures into at most n slices."""
    edges = np.linspace(structures.start, structures.stop, n + 1).astype(np.int64).tolist()
    return [slice(begin, end) for begin, end in pairwise(edges) if begin < end]
