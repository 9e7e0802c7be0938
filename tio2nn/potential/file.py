"""The file of a potential: arrays and one JSON header in an `.npz`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError, ParameterError, one_line, unreadable
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.paths import AnyPath
from tio2nn.files.special_files import is_special
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.checks import check_consistency, check_header, check_repulsion
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.prediction import NO_TRAINING_KNOWN, Limits
from tio2nn.potential.repulsion import Repulsion
from tio2nn.potential.whitening import Whitening

FORMAT = 3
"""Version of the file format, increased if older versions cannot read new files. Format 2 had no repulsion."""

_PARTS_OF_ATOMS = ("low", "high", "references", "unit")  # fields of TrainingAtoms, as the file names them


def write_potential(attributes: Mapping[str, Any], path: AnyPath) -> None:
    """Write the file of a `Potential` with these attributes, atomically."""
    repulsion = attributes["repulsion"]
    arrays: dict[str, Any] = {"composition_span": attributes["composition_span"]}
    if repulsion is not None:
        arrays["repulsion/outer"] = repulsion.outer
    for k, atoms in enumerate(attributes["training_atoms"]):
        for part in _PARTS_OF_ATOMS:
            arrays[f"training/{k}/{part}"] = getattr(atoms, part)
    for k, whitening in enumerate(attributes["whitenings"]):
        arrays[f"whitening/{k}/mean"] = whitening.mean
        arrays[f"whitening/{k}/matrix"] = whitening.matrix
        arrays[f"whitening/{k}/constant"] = whitening.constant
        arrays[f"whitening/{k}/metric"] = whitening.metric
    for m, member in enumerate(attributes["members"]):
        for k, layers in enumerate(member):
            for n, layer in enumerate(layers):
                arrays[f"member/{m}/{k}/{n}/kernel"] = layer.kernel
                arrays[f"member/{m}/{k}/{n}/bias"] = layer.bias
    header = {
        "format": FORMAT,
        "parameters": json.loads(attributes["parameters"].to_json()),
        "reference_energies_eV": attributes["reference_energies"],
        "subnet_of": attributes["subnet_of"],
        "activations": [
            [[layer.activation for layer in net] for net in member] for member in attributes["members"]
        ],
        "about": dict(attributes["about"]),
        "has_repulsion": repulsion is not None,
        "largest_in_training": asdict(attributes["limits"]),
    }
    write_arrays(path, {"header": np.array(json.dumps(header)), **arrays})


def read_potential(path: AnyPath) -> dict[str, Any]:
    """The attributes of the `Potential` in a file.

    Raises:
        InputError: a missing or damaged file, or one of a later version.
    """
    path = Path(path)
    file = str(path)
    expected = "expected a potential written by tio2nn train, got"
    try:
        if is_special(path):
            raise InputError("expected a regular file, got another kind", file=file)
        with path.open("rb") as handle:
            if not zipfile.is_zipfile(handle):
                raise InputError(f"{expected} another kind of file, or a truncated one", file=file)
        with opened_arrays(path) as arrays:
            return _attributes(json.loads(str(arrays["header"])), arrays, file)
    except InputError:
        raise
    except IsADirectoryError:
        reason = f"{expected} a directory; tio2nn.read_n2p2 reads n2p2 folders"
        raise InputError(reason, file=file) from None
    except OSError as error:
        raise InputError(unreadable(error), file=file) from None
    except json.JSONDecodeError:
        raise InputError(f"{expected} a damaged or foreign file", file=file) from None
    except Exception as error:
        reason = f"{expected} a damaged or foreign file ({one_line(error)})"
        raise InputError(reason, file=file) from None


def _attributes(header: dict[str, Any], arrays: Mapping[str, Any], file: str) -> dict[str, Any]:
    check_header(header, FORMAT, file)
    is_older = header["format"] < FORMAT
    try:
        parameters = ParameterSet.from_json(json.dumps(header["parameters"]))
    except ParameterError as error:
        raise InputError(f"expected a potential with valid parameters: {error}", file=file) from None
    # format 2 used the matrix of the network as metric
    parts = ("mean", "matrix", "constant", "matrix" if is_older else "metric")
    checked: dict[str, Any] = {
        "reference_energies": header["reference_energies_eV"],
        "subnet_of": header["subnet_of"],
        "whitenings": tuple(
            Whitening(*[arrays[f"whitening/{k}/{part}"] for part in parts])
            for k in range(max(header["subnet_of"].values()) + 1)
        ),
        "members": tuple(
            tuple(_layers(arrays, f"member/{m}/{k}", activations) for k, activations in enumerate(member))
            for m, member in enumerate(header["activations"])
        ),
        "training_atoms": tuple(
            TrainingAtoms(*(arrays[f"training/{k}/{part}"] for part in _PARTS_OF_ATOMS))
            for k in range(len(parameters.elements))
        ),
        "composition_span": arrays["composition_span"],
    }
    has_repulsion = not is_older and header["has_repulsion"]
    repulsion = Repulsion(parameters.elements, arrays["repulsion/outer"]) if has_repulsion else None
    limits = NO_TRAINING_KNOWN if is_older else Limits(**header["largest_in_training"])
    check_consistency(parameters.elements, parameters.n_features, **checked)
    if repulsion is not None:
        check_repulsion(repulsion, parameters.cutoff)
    return {
        "parameters": parameters,
        "about": header["about"],
        "repulsion": repulsion,
        "limits": limits,
        **checked,
    }


def _layers(arrays: Mapping[str, Any], place: str, activations: list[str]) -> tuple[Layer, ...]:
    return tuple(
        Layer(arrays[f"{place}/{n}/kernel"], arrays[f"{place}/{n}/bias"], activation)
        for n, activation in enumerate(activations)
    )
