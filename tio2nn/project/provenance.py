"""Digests of what a potential was trained on, by which later commands tell whether it is up to date."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.files.digests import digest, digest_of
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_parameters import with_effect
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.facts import needs_derivatives, needs_strains
from tio2nn.project.structure_store import StructureStore
from tio2nn.version import __version__


def inputs_of_model(
    parameters: ParameterSet, store: StructureStore, split_file: Path, origin: str | None = None
) -> dict[str, str]:
    """Digests of what a fit depends on; `origin` is that of the potential that it begins from, if any.

    Returns:
        "features" (parameter set and geometries), "energies", "forces", "split", "settings" (network and training), and
        "stresses", "weights" and "origin" if there are any.
    """
    network = parameters.network.affecting(Affects.FIT)
    training = parameters.training.affecting(Affects.DATA | Affects.FIT | Affects.POTENTIAL)
    # settings without effect are left out: models of 0.1.0 had neither repulsion nor outliers
    if not parameters.network.repulsion:
        network["repulsion"] = False
    if not store.gross_outliers.any():
        training.pop("outliers")
    if "forces" in store.label_notes.doubts and not needs_derivatives(parameters, store):
        training["forces"] = False
    if "shears" in store.label_notes.doubts and parameters.training.stress == "auto":
        training["stress"] = "diagonal"
    training = with_effect(training, needs_strains(parameters, store))
    settings = [network, training, parameters.reference_energies]
    split = split_file.read_bytes() if split_file.exists() else b""
    stresses, weights = store.digest_of_stresses, store.weights
    return {
        "features": digest_of([fingerprint(parameters), *store.geometry_hashes]),
        "energies": store.digest_of_energies,
        "forces": store.digest_of_forces,
        "split": digest(split),
        "settings": digest(json.dumps(settings, sort_keys=True).encode()),
        **({} if stresses is None else {"stresses": stresses}),
        **({} if weights is None else {"weights": digest(weights.astype("<f8").tobytes())}),
        **({} if origin is None else {"origin": origin}),
    }


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    packages = ("numpy", "scipy", "numba", "tensorflow", "keras")
    found = {name: version(name) for name in packages}
    return {
        "tio2nn": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **found,
    }
