"""What recipes decide, what they leave alone, and what projects of 0.1.0 make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from places import OLD_PROJECTS

from tio2nn.errors import UsageError
from tio2nn.parameters.fit_cost import epoch_seconds, fit_seconds
from tio2nn.parameters.fit_parameters import (
    RECIPE_NAMES,
    NetworkParameters,
    TrainingParameters,
    TuningParameters,
)
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.parameters.recipes import resolve, settings_of, with_recipe
from tio2nn.parameters.training_size import Facts

FACTS = Facts(
    n_structures=250,
    n_atoms=5_000,
    n_structures_with_forces=250,
    n_force_components=15_000,
    n_derivatives=250 * 20 * 20 * 70 * 3,
    n_features=70,
    n_elements=2,
)
NEW = preset("artrith-urban-2016")
OF_ADAM = NEW.with_overrides(training={"optimizer": "adam"})


def sized(n_structures: int, *, forces: bool = True, n_atoms: int = 20) -> Facts:
    """Of so many structures with so many atoms each."""
    facts = Facts(
        n_structures,
        n_structures * n_atoms,
        n_structures,
        3 * n_structures * n_atoms,
        n_structures * n_atoms**2 * 70 * 3,
        70,
        2,
    )
    return facts if forces else facts.without_forces


def of_0_1_0(**changes: Any) -> ParameterSet:
    """A set as 0.1.0 wrote it: every setting, and no recipe."""
    document = json.loads(
        NEW.with_overrides(network=NetworkParameters(), training=TrainingParameters()).to_json()
    )
    del document["recipe"]
    document["tuning"] = {**document["tuning"], **json.loads(tuning_json())}
    for section, settings in changes.items():
        document[section] |= settings
    return ParameterSet.from_json(json.dumps(document))


def tuning_json() -> str:
    from tio2nn.parameters.schema import to_json

    return json.dumps(to_json(TuningParameters()))


# --- filling what is open ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPE_NAMES)
@pytest.mark.parametrize("forces", [True, False])
def test_every_recipe_decides_everything_and_leaves_features_and_data_alone(name: str, forces: bool) -> None:
    before = with_recipe(NEW, name).with_overrides(
        training={"seed": 7, "max_energy": 1.0, "split": "grouped", "test_fraction": 0.2}
    )
    facts = FACTS if forces else FACTS.without_forces
    after = resolve(before, facts)
    assert before.undecided
    assert after.undecided == ()
    assert after == resolve(before, facts) == resolve(after, facts)
    assert after.fingerprint == before.fingerprint
    assert ParameterSet.from_json(after.to_json()) == after
    for field in ("seed", "max_energy", "split", "test_fraction", "validation_fraction"):
        assert getattr(after.training, field) == getattr(before.training, field)


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_a_setting_that_is_not_null_is_the_users_own(name: str) -> None:
    own = {"epochs": 77, "force_weight": 0.5, "members": 3, "gradient_clip": 9.0, "final_force_weight": 2.0}
    parameters = NEW.with_overrides(recipe=name, training=own, network={"hidden_layers": [7]})
    for decided in (resolve(parameters, FACTS), resolve(with_recipe(parameters, "record"), FACTS)):
        assert decided.network.hidden_layers == (7,)
        assert {key: getattr(decided.training, key) for key in own} == own


def test_the_default_recipe_is_that_of_0_1_0() -> None:
    decided = resolve(with_recipe(NEW, "default"), FACTS.without_forces)
    assert decided.network == NetworkParameters()
    assert decided.training == TrainingParameters()


def test_the_rili_recipe_is_that_of_the_paper() -> None:
    decided = resolve(preset("rili-2024"), FACTS)
    assert decided.network.hidden_layers == (64,) * 5
    assert decided.network.shared_subnet
    training = decided.training
    assert (training.loss, training.loss_target, training.epochs, training.batch_size) == (
        "mae",
        "total",
        80,
        20,
    )
    assert training.gradient_clip is None
    assert (training.schedule, training.warmup_epochs, training.weight_averaging) == ("constant", 0, 0.0)
    assert training.learning_rate == 1e-4
    assert training.forces is False
    assert decided.tuning == TuningParameters()
    grid = decided.tuning
    assert len(grid.layers) * len(grid.nodes) * len(grid.learning_rate) * len(grid.dropout) == 54


def test_quick_is_shorter_than_default_and_record_a_committee_trained_on_forces() -> None:
    default, quick, record = (
        resolve(with_recipe(NEW, name), FACTS) for name in ("default", "quick", "record")
    )
    assert quick.training.epochs < default.training.epochs
    assert quick.network == default.network
    assert record.training.members > 1
    assert record.training.forces


def test_a_recipe_is_a_copy_that_may_be_changed() -> None:
    settings_of("rili-2024", FACTS)["network"]["hidden_layers"].append(1)
    assert settings_of("rili-2024", FACTS)["network"]["hidden_layers"] == [64] * 5


def test_what_is_no_recipe_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match='got "quik", did you mean "quick"'):
        with_recipe(NEW, "quik")
    with pytest.raises(UsageError, match="expected one of auto, default"):
        settings_of("fast", FACTS)


# --- files ---------------------------------------------------------------------------------------------------


def test_what_a_file_leaves_out_is_left_to_the_recipe_that_it_names() -> None:
    text = '{"elements": ["Ti", "O"], "cutoff": 6, "radial": [{"eta": 1}], "angular": []'
    named = ParameterSet.from_json(f'{text}, "recipe": "auto", "training": {{"seed": 3}}}}')
    assert named.training.epochs is None
    assert named.network.hidden_layers is None
    assert (named.training.forces, named.training.seed, named.training.gradient_clip) == ("auto", 3, 1.0)
    unnamed = ParameterSet.from_json(f'{text}, "training": {{"seed": 3}}}}')
    assert unnamed.undecided == ()
    assert unnamed.training == TrainingParameters(seed=3)


def test_a_file_of_0_1_0_means_what_it_meant() -> None:
    parameters = of_0_1_0()
    assert parameters.undecided == ()
    assert resolve(parameters, FACTS) == parameters
    assert (parameters.training.epochs, parameters.training.forces) == (800, False)
    text = (OLD_PROJECTS / "0.1.0/params.json").read_text(encoding="utf-8")
    old = ParameterSet.from_json(text)
    assert resolve(old, FACTS) == old
    written = json.loads(text)
    now = json.loads(old.to_json())
    assert (now["radial_elements"], now["angular_elements"]) == ("each", "pairs")
    for key, value in written.items():
        if key != "element_blind":
            assert {**now[key], **value} == now[key] if isinstance(value, dict) else now[key] == value


def test_another_recipe_for_a_set_of_0_1_0_replaces_its_defaults_and_nothing_else() -> None:
    record = resolve(with_recipe(of_0_1_0(), "record"), FACTS)
    assert record.training.members == 4
    assert record.training.forces is True
    assert record.training.epochs == 400
    assert record.network.hidden_layers == (128, 128)
    assert record.tuning == TuningParameters()
    own = resolve(with_recipe(of_0_1_0(training={"epochs": 700}, network={"dropout": 0.1}), "record"), FACTS)
    assert (own.training.epochs, own.network.dropout, own.training.members) == (700, 0.1, 4)
    paper = resolve(with_recipe(of_0_1_0(), "rili-2024"), FACTS)
    assert paper.training == resolve(preset("rili-2024"), FACTS).training
    quick = resolve(with_recipe(of_0_1_0(), "quick"), FACTS)
    assert (quick.training.forces, quick.training.epochs) == (False, 60)


@pytest.mark.parametrize(
    ("n_structures", "floor"), [(1, 1e-4), (1_200, 1e-4), (2_400, 3.54e-5), (5_600, 1e-5), (100_000, 1e-5)]
)
def test_record_damps_less_where_there_are_more_structures(n_structures: int, floor: float) -> None:
    record = resolve(with_recipe(NEW, "record"), replace(FACTS, n_structures=n_structures))
    assert record.network.whitening_floor == pytest.approx(floor, rel=0.01)


def test_a_value_that_happens_to_be_a_default_of_0_1_0_is_the_users_own_in_a_new_set() -> None:
    own = NEW.with_overrides(training={"epochs": 800, "forces": False})
    decided = resolve(with_recipe(own, "record"), FACTS)
    assert (decided.training.epochs, decided.training.forces, decided.training.members) == (800, False, 4)


# --- forces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "own", "n_with_forces", "used"),
    [
        ("auto", "auto", 250, True),
        ("auto", "auto", 1, True),
        ("auto", "auto", 0, False),
        ("auto", False, 250, False),
        ("auto", True, 0, True),
        ("quick", "auto", 250, True),
        ("default", "auto", 250, True),
        ("forces", "auto", 0, True),
        ("rili-2024", "auto", 250, False),
        ("rili-2024", True, 250, True),
    ],
)
def test_forces_are_used_where_they_are_unless_somebody_decides(
    recipe: str, own: bool | str, n_with_forces: int, used: bool
) -> None:
    parameters = NEW.with_overrides(recipe=recipe, training={"forces": own})
    assert resolve(parameters, replace(FACTS, n_structures_with_forces=n_with_forces)).training.forces is used


# --- the recipe auto -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_structures", [1, 3, 10, 300, 6_000, 100_000])
@pytest.mark.parametrize("forces", [True, False])
def test_auto_fits_sets_of_any_size_in_bounded_time(n_structures: int, forces: bool) -> None:
    facts = sized(n_structures, forces=forces)
    training = resolve(NEW, facts).training
    steps = training.epochs * -(-n_structures // training.batch_size)
    if n_structures <= 300:
        assert steps >= 2_000 - training.batch_size
    assert training.epochs >= 60 or steps >= 70_000
    assert fit_seconds(resolve(NEW, facts), facts) <= 20 * 60 + 60 or training.epochs == 60


def test_auto_takes_as_many_steps_an_epoch_as_the_data_allow() -> None:
    assert resolve(NEW, sized(2)).training.batch_size == 2
    assert resolve(NEW, sized(10)).training.batch_size == 4
    assert resolve(NEW, sized(160)).training.batch_size == 8
    assert resolve(NEW, sized(1_900)).training.batch_size == 16
    assert resolve(NEW, sized(6_000)).training.batch_size == 64


def test_auto_takes_a_committee_as_large_as_costs_little() -> None:
    assert resolve(NEW, sized(3)).training.members == 4
    assert resolve(NEW, sized(160)).training.members == 4
    assert resolve(NEW, sized(5_000)).training.members == 4
    assert resolve(OF_ADAM, sized(7_000)).training.members == 2
    assert resolve(NEW, sized(100_000)).training.members == 1


def test_auto_learns_many_forces_by_muon() -> None:
    few, many = (resolve(NEW, sized(n)).training for n in (1_900, 2_100))
    assert (few.optimizer, many.optimizer) == ("adam", "muon")
    assert resolve(NEW, sized(6_000, forces=False)).training.optimizer == "adam"
    assert resolve(NEW, replace(sized(6_000), n_structures_with_forces=100)).training.optimizer == "adam"
    # an optimizer of the user's own has the batches and epochs that suit it
    own = resolve(OF_ADAM, sized(6_000)).training
    assert (own.optimizer, own.batch_size) == ("adam", 16)
    assert own.epochs > resolve(NEW, sized(6_000)).training.epochs


def test_record_learns_many_forces_by_muon() -> None:
    few, many = (resolve(with_recipe(NEW, "record"), sized(n)).training for n in (1_900, 5_000))
    assert (few.optimizer, few.batch_size, few.epochs) == ("adam", 16, 400)
    assert (many.optimizer, many.batch_size) == ("muon", 64)
    own = resolve(with_recipe(OF_ADAM, "record"), sized(5_000)).training
    assert own == few
    # a part of a large set, as of a learning curve, has enough steps
    asked = with_recipe(NEW, "record").with_overrides(training={"optimizer": "muon"})
    assert resolve(asked, sized(250)).training.epochs == 2_500


def test_auto_gives_up_epochs_for_four_networks_that_learn_forces() -> None:
    facts = sized(5_000)
    four = resolve(OF_ADAM, facts)
    assert 190 <= four.training.epochs < 300
    assert fit_seconds(four, facts) < 13 * 60
    # too few would be left
    assert resolve(OF_ADAM, sized(7_000)).training.epochs == 300
    # Muon needs fewer
    of_muon = resolve(NEW, sized(7_000)).training
    assert 100 <= of_muon.epochs < 200
    assert of_muon.members == 4
    # networks that are asked for, or not there, are worth no epochs
    for own in (1, 2, 4):
        assert resolve(OF_ADAM.with_overrides(training={"members": own}), facts).training.epochs == 300
    assert resolve(OF_ADAM.with_overrides(target="lammps"), facts).training.epochs == 300
    # energies alone are learned to the end
    without = sized(6_000, forces=False, n_atoms=100)
    of_energies = resolve(NEW, without).training
    assert 1 < of_energies.members < 4
    alone = resolve(NEW.with_overrides(training={"members": 1}), without).training
    assert of_energies.epochs == alone.epochs


@pytest.mark.parametrize("target", ["lammps", "cp2k", "aenet"])
def test_auto_takes_two_networks_at_most_for_programs_that_compute_the_functions_for_each(
    target: str,
) -> None:
    assert resolve(NEW.with_overrides(target=target), sized(160)).training.members == 2
    own = NEW.with_overrides(target=target, training={"members": 3})
    assert resolve(own, sized(160)).training.members == 3
    record = with_recipe(NEW.with_overrides(target=target), "record")
    assert resolve(record, sized(160)).training.members == 4


def test_auto_without_forces_has_the_network_of_default() -> None:
    decided = resolve(NEW, sized(300, forces=False))
    assert decided.network == NetworkParameters()
    assert resolve(NEW, FACTS).network.hidden_layers != NetworkParameters().hidden_layers


@pytest.mark.parametrize(
    ("n_structures", "batch", "epochs", "decay"),
    [
        (1, 1, 2_000, 0.3),
        (20, 20, 2_000, 0.3),
        (160, 32, 2_000, 0.3),
        (900, 32, 800, 0.105),
        (5_157, 64, 800, 0.03),
        (20_000, 64, 239, 0.03),
    ],
)
def test_auto_gives_few_energies_more_steps_and_more_decay(
    n_structures: int, batch: int, epochs: int, decay: float
) -> None:
    training = resolve(NEW, sized(n_structures, forces=False)).training
    assert (training.batch_size, training.epochs, training.weight_decay) == (batch, epochs, decay)
    # that of forces is none
    assert resolve(NEW, sized(n_structures)).training.weight_decay == 0.0


def test_forces_that_are_not_used_do_not_matter() -> None:
    without = NEW.with_overrides(training={"forces": False})
    assert resolve(without, FACTS) == resolve(without, FACTS.without_forces)


def test_the_estimate_grows_with_work() -> None:
    plain = epoch_seconds(FACTS, (80, 80, 80), 16)
    assert epoch_seconds(FACTS, (160, 80, 80), 16) > plain
    assert epoch_seconds(FACTS, (80, 80, 80), 32) > plain
    assert epoch_seconds(replace(FACTS, n_derivatives=2 * FACTS.n_derivatives), (80, 80, 80), 16) > plain
    assert epoch_seconds(FACTS.without_forces, (80, 80, 80), 16) < plain
    # derivatives are read once for all members
    assert plain < epoch_seconds(FACTS, (80, 80, 80), 16, members=4) < 4 * plain


# --- the search ----------------------------------------------------------------------------------------------


def test_the_grid_lies_around_the_settings_of_the_fit() -> None:
    decided = resolve(NEW, FACTS)
    tuning = decided.tuning
    assert 8 <= len(tuning.layers) * len(tuning.nodes) * len(tuning.learning_rate) * len(tuning.dropout) <= 12
    assert len(decided.network.hidden_layers) in tuning.layers
    assert decided.network.hidden_layers[0] in tuning.nodes
    assert decided.training.learning_rate in tuning.learning_rate
    assert decided.network.dropout in tuning.dropout
    assert decided.training.epochs / 5 < tuning.epochs < decided.training.epochs
    own = resolve(NEW.with_overrides(network={"hidden_layers": [10]}, tuning={"epochs": 3}), FACTS)
    assert (own.tuning.layers, own.tuning.nodes, own.tuning.epochs) == ((1,), (5, 10, 15), 3)
    linear = resolve(NEW.with_overrides(network={"hidden_layers": []}), FACTS)
    assert linear.tuning.layers == (1,)
