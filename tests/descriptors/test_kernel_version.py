from __future__ import annotations

import dataclasses

from projects import PARAMETERS

from tio2nn.descriptors.kernel_version import KERNELS, fingerprint, is_of_older_kernels


def test_every_version_of_the_kernels_has_its_own_fingerprint_the_first_that_of_0_1_0() -> None:
    found = [fingerprint(PARAMETERS, kernels) for kernels in range(1, KERNELS + 2)]
    assert len(set(found)) == len(found)
    assert found[0] == PARAMETERS.fingerprint
    assert found[KERNELS - 1] == fingerprint(PARAMETERS)


def test_features_of_earlier_kernels_are_told_from_those_of_other_functions() -> None:
    other = dataclasses.replace(PARAMETERS, cutoff=PARAMETERS.cutoff - 0.5)
    assert is_of_older_kernels(fingerprint(PARAMETERS, 1), PARAMETERS)
    assert not is_of_older_kernels(fingerprint(PARAMETERS), PARAMETERS)
    assert not is_of_older_kernels(fingerprint(other, 1), PARAMETERS)
