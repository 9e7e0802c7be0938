"""The compiled loops of a fit on the CPU, of all modules that have some."""

from __future__ import annotations

from tio2nn.training.dataset import FitData
from tio2nn.training.force_kernels import compile_force_losses
from tio2nn.training.host_networks import compile_networks
from tio2nn.training.stress_kernels import compile_stress_losses


def compile_loops(data: FitData) -> None:
    """Compile what a fit needs on the CPU, or load it from Numba's cache, so that workers find it on disk."""
    compile_networks()
    if data.train_forces is not None:
        compile_force_losses(data.train_forces.jacobian)
    if data.train_stress is not None:
        compile_stress_losses(data.train_stress.strains)
