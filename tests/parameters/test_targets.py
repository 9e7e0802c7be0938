"""For which program a potential is made: what is chosen for it, what is refused, and what does not change."""

from __future__ import annotations

import json

import pytest
from projects import PARAMETERS

from tio2nn.errors import InputError, UsageError
from tio2nn.export.aenet import CODES
from tio2nn.export.n2p2 import LETTERS
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.fit_parameters import ACTIVATIONS
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.parameters.recipes import resolve
from tio2nn.parameters.targets import (
    ACTIVATIONS_OF,
    TARGETS,
    known_target,
    require_expressible,
    warning_of,
    works,
)
from tio2nn.parameters.training_size import Facts

FACTS = Facts(100, 1000, 100, 3000, 10**6, 70, 2)
OPEN = preset("artrith-urban-2016")


@pytest.mark.parametrize(
    ("target", "activation"), [(None, "silu"), ("lammps", "softplus"), ("cp2k", "tanh"), ("aenet", "tanh")]
)
def test_the_recipe_takes_an_activation_that_works_there(target: str | None, activation: str) -> None:
    assert resolve(OPEN.with_overrides(target=target), FACTS).network.activation == activation


@pytest.mark.parametrize("target", TARGETS)
def test_a_recipe_whose_activation_works_keeps_it(target: str) -> None:
    paper = preset("rili-2024").with_overrides(target=target)
    assert resolve(paper, FACTS).network.activation == "tanh"


@pytest.mark.parametrize(
    ("own", "target", "kept"),
    [
        ("sigmoid", "aenet", "sigmoid"),
        ("silu", "lammps", None),
        ("softplus", "cp2k", None),
        (None, "cp2k", None),
    ],
)
def test_for_a_target_an_activation_of_ones_own_stays_if_it_works(
    own: str | None, target: str, kept: str
) -> None:
    changed = OPEN.with_overrides(network={"activation": own}).for_target(known_target(target))
    assert changed.target == target
    assert changed.network.activation == kept


def test_what_a_target_can_express_is_what_its_format_has() -> None:
    assert ACTIVATIONS_OF["lammps"] == set(LETTERS)
    assert ACTIVATIONS_OF["cp2k"] < set(LETTERS)
    assert ACTIVATIONS_OF["aenet"] == set(CODES)
    assert all(works(None, activation) for activation in ACTIVATIONS)


def test_a_set_without_a_target_is_what_it_was() -> None:
    document = json.loads(PARAMETERS.to_json())
    assert document.pop("target") is None
    assert ParameterSet.from_json(json.dumps(document)) == PARAMETERS
    assert PARAMETERS.with_overrides(target="cp2k").fingerprint == PARAMETERS.fingerprint


def test_a_draft_keeps_its_target() -> None:
    draft = Draft.new().for_target("cp2k")
    assert json.loads(draft.to_json())["target"] == "cp2k"


def test_what_cannot_be_expressed_is_refused_with_a_command_and_what_is_wrong_is_told() -> None:
    with pytest.raises(
        InputError, match=r'LAMMPS, the "target" .* no activation "silu", .* run "tio2nn train"'
    ):
        require_expressible("lammps", "silu", "tio2nn train")
    require_expressible(None, "silu", "")
    require_expressible("cp2k", None, "")
    require_expressible("cp2k", "softplus", "")
    assert "wrong forces from softplus" in str(warning_of("cp2k", "softplus"))
    assert warning_of("lammps", "softplus") is None
    assert warning_of("cp2k", "tanh") is None


def test_a_target_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        UsageError, match='--for: expected one of lammps, cp2k, aenet, got "cpk2", did you mean "cp2k"'
    ):
        known_target("cpk2")
