"""The version of the numerical kernels, on which the last bits of features and derivatives depend.

Numbers of two versions are equal to rounding, but not to the bit, and are never mixed: the version is a part of every
digest of what is made from features.
"""

from __future__ import annotations

from tio2nn.files.digests import digest
from tio2nn.parameters.parameter_set import ParameterSet

KERNELS = 2
"""Raised by every change of the kernels that changes a bit of a feature or a derivative. 1: tio2nn 0.1.0."""


def fingerprint(parameters: ParameterSet, kernels: int = KERNELS) -> str:
    """Hexadecimal digest of what features depend on beside the structure: functions, and the version of the kernels."""
    if kernels == 1:
        # as 0.1.0 wrote it
        return parameters.fingerprint
    return digest(f"{parameters.fingerprint} kernels {kernels}".encode())


def is_of_older_kernels(found: str, parameters: ParameterSet) -> bool:
    """Whether a fingerprint differs from that of today by an older version of the kernels alone."""
    return any(found == fingerprint(parameters, kernels) for kernels in range(1, KERNELS))
