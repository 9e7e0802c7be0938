"""A committee as one network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from export.exported import CRYSTALS, potential_for
from projects import PARAMETERS

from tio2nn.errors import InputError
from tio2nn.potential.merged import merged
from tio2nn.potential.potential import Potential


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5), (4, 3, 5)])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_one_network_predicts_the_mean_of_the_committee(
    hidden: tuple[int, ...], activation: str, shared: bool
) -> None:
    committee = potential_for(PARAMETERS, CRYSTALS, activation, 3, hidden=hidden, shared=shared)
    one = merged(committee, "potential.npz")
    assert len(one.members) == 1
    assert one.parameters.network.hidden_layers == tuple(3 * n for n in hidden)
    assert one.parameters.training.members == 1
    both = (potential.predict(CRYSTALS, forces=True) for potential in (committee, one))
    for expected, got in zip(*both, strict=True):
        assert got.energy == pytest.approx(expected.energy, rel=1e-13)
        np.testing.assert_allclose(got.atomic_energies, expected.atomic_energies, rtol=1e-12)
        np.testing.assert_allclose(got.forces, expected.forces, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(got.stress, expected.stress, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(got.distances, expected.distances)
        assert expected.spread is not None
        assert got.spread is None


def test_networks_that_cannot_stand_side_by_side_are_refused() -> None:
    def refused(potential: Potential) -> str:
        with pytest.raises(InputError) as raised:
            merged(potential, "potential.npz")
        return str(raised.value)

    committee = potential_for(PARAMETERS, CRYSTALS, members=2)
    single = replace(committee, members=committee.members[:1])
    assert refused(single) == "potential.npz: expected a committee, got one network"
    for other in (
        potential_for(PARAMETERS, CRYSTALS, "silu"),
        potential_for(PARAMETERS, CRYSTALS, hidden=(6,)),
    ):
        mixed = replace(committee, members=(committee.members[0], other.members[0]))
        assert refused(mixed).startswith("potential.npz: expected networks with the same ")


def test_widths_may_differ() -> None:
    narrow, wide = (potential_for(PARAMETERS, CRYSTALS, hidden=(n, n)) for n in (3, 7))
    committee = replace(narrow, members=(narrow.members[0], wide.members[0]))
    expected, got = (next(one.predict(CRYSTALS[:1])) for one in (committee, merged(committee, "x")))
    assert got.energy == pytest.approx(expected.energy, rel=1e-13)
