"""A fit as a worker process receives it: settings, and the file with the data that all workers share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tio2nn.parallel.devices import Device
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.dataset import FitData
from tio2nn.training.fit import Fit
from tio2nn.training.network import initial_network


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """Everything that a worker needs to fit one network.

    Attributes:
        data: file of the `FitData`.
        derivatives: file of the derivatives; None for a fit to energies alone.
        strains: file of the derivatives with respect to strain; None for a fit without stress.
        features: file of the features; None if they are among the data.
        elements: chemical symbols, in the order of the data's subnets.
        n_features: columns of the features.
        network, training: settings of the fit.
        seed: of initial weights and batches.
        member: number of the committee member, from 1; members have the same batches, and first weights of their own.
        device: what to compute on.
    """

    data: Path
    derivatives: Path | None
    strains: Path | None = None
    features: Path | None = None
    elements: tuple[str, ...]
    n_features: int
    network: NetworkParameters
    training: TrainingParameters
    seed: int
    member: int = 1
    device: Device = "cpu"

    def begin(self) -> Fit:
        """The fit at its first epoch; the data are read once per process."""
        data = _load(self.data, self.derivatives, self.strains, self.features)
        own_seed = seed_of(self.seed, self.member)
        network = initial_network(self.network, self.elements, self.n_features, data, own_seed)
        return Fit(network, self.training, self.seed, data, self.member)


def seed_of(seed: int, member: int) -> int:
    """Seed of the first weights of a committee member, from that of the fit and its number from 1."""
    return seed + member - 1


@lru_cache(maxsize=1)
def _load(path: Path, derivatives: Path | None, strains: Path | None, features: Path | None) -> FitData:
    return FitData.load(path, derivatives, strains, features)
