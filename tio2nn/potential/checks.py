"""Consistency checks of a potential file, so that a damaged file never predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.text import quoted
from tio2nn.parameters.fit_parameters import ACTIVATIONS
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.repulsion import Repulsion
from tio2nn.potential.whitening import Whitening

_OLDEST_FORMAT = 2  # of 0.1.0
_FORMAT_WITH_REPULSION = 3


def check_header(header: Mapping[str, Any], current: int, file: str) -> None:
    """Refuse a file that this version cannot read.

    Args:
        header: of the file.
        current: the format that this version writes.
        file: its name in messages.

    Raises:
        InputError: another format, or unknown activations.
        Exception: an invalid header.
    """
    found, about = header["format"], header["about"]
    _expect(type(found) is int, "an integer as its format")
    if not _OLDEST_FORMAT <= found <= current:
        advice = (
            "train it again with this version"
            if found < current
            else "a newer version of tio2nn wrote it; update tio2nn"
        )
        raise InputError(f"expected a potential of format {current}, got format {found}; {advice}", file=file)
    _expect(isinstance(about, dict) and isinstance(about.get("inputs", {}), dict), "a record of its training")
    if found >= _FORMAT_WITH_REPULSION:
        _expect(type(header["has_repulsion"]) is bool, "true or false for has_repulsion")
        for largest in header["largest_in_training"].values():
            _expect(
                largest is None or (type(largest) is float and 0.0 <= largest < math.inf),
                "finite or missing limits of training",
            )
    if unknown := {a for member in header["activations"] for net in member for a in net} - set(ACTIVATIONS):
        got = ", ".join(map(quoted, sorted(unknown)))
        raise InputError(f"expected a potential with known activations, got {got}", file=file)


def check_consistency(
    elements: Sequence[str],
    n_features: int,
    *,
    reference_energies: Mapping[str, float],
    subnet_of: Mapping[str, int],
    whitenings: Sequence[Whitening],
    members: Sequence[Sequence[Sequence[Layer]]],
    training_atoms: Sequence[TrainingAtoms],
    composition_span: np.ndarray[Any, Any],
) -> None:
    """Raise ValueError, naming the array, unless all shapes are consistent and all numbers finite.

    Args:
        elements, n_features: of the parameter set.
        reference_energies, subnet_of, whitenings, members, training_atoms, composition_span: as in `Potential`.
    """
    n, n_subnets = n_features, len(whitenings)
    _expect(set(reference_energies) == set(elements), "a reference energy for each element")
    for element, energy in reference_energies.items():
        _check(np.asarray(energy), (), f"reference energy of {element}")
    _expect(set(subnet_of) == set(elements), "a subnet for each element")
    _expect(set(subnet_of.values()) == set(range(n_subnets)), "subnets numbered from 0")
    for k, whitening in enumerate(whitenings):
        _check(whitening.mean, (n,), f"whitening {k}")
        _check(whitening.matrix, (n, n), f"whitening {k}")
        _check(whitening.metric, (n, n), f"whitening {k}")
        _expect(whitening.constant.dtype == np.bool_ and whitening.constant.shape == (n,), f"whitening {k}")
    _expect(len(members) > 0, "networks")
    for m, member in enumerate(members):
        _expect(len(member) == n_subnets, f"all subnets in network {m}")
        for layers in member:
            width = n
            for layer in layers:
                n_out = layer.kernel.shape[-1] if layer.kernel.ndim else 0
                _check(layer.kernel, (width, n_out), f"network {m}")
                _check(layer.bias, (n_out,), f"network {m}")
                width = n_out
            _expect(bool(layers) and width == 1, f"a single output node in network {m}")
    for element, atoms in zip(elements, training_atoms, strict=True):
        n_constant = int(whitenings[subnet_of[element]].constant.sum())
        for array in (atoms.low, atoms.high):
            _check(array, (n,), f"training atoms of {element}")
        _expect(len(atoms.references) > 0, f"training atoms of {element}")
        _check(atoms.references, (len(atoms.references), n + n_constant), f"training atoms of {element}")
        _check(np.asarray(atoms.unit), (), f"training atoms of {element}")
        _expect(atoms.unit > 0.0, f"a distance unit above 0 for {element}")
    rank = len(composition_span) if composition_span.ndim else 0
    _check(composition_span, (rank, len(elements)), "compositions")


def check_repulsion(repulsion: Repulsion, cutoff: float) -> None:
    """Raise ValueError unless every pair of elements has an outer radius within the cutoff, Å."""
    n, outer = len(repulsion.elements), repulsion.outer
    _check(outer, (n, n), "repulsion")
    _expect(bool((outer == outer.T).all()), "a symmetric repulsion")
    _expect(bool(((outer > 0.0) & (outer <= cutoff)).all()), "a repulsion within the cutoff")


def _check(array: np.ndarray[Any, Any], shape: tuple[int, ...], name: str) -> None:
    if array.dtype.kind not in "fi" or array.shape != shape:
        raise ValueError(
            f"{name}: expected numbers of shape {shape}, got {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"expected {what}")
