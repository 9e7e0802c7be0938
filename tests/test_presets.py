from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tio2nn.errors import ParameterError, UsageError
from tio2nn.fit_parameters import NetworkParameters, TrainingParameters, TuningParameters
from tio2nn.parameters import ParameterSet
from tio2nn.presets import DEFAULT_PRESET, PRESETS, RECIPES, apply_recipe, preset, recipe


def test_artrith_urban_2016_is_the_default_and_has_70_columns_for_ti_and_o() -> None:
    parameters = preset("artrith-urban-2016", ("Ti", "O"))
    assert DEFAULT_PRESET == "artrith-urban-2016"
    assert parameters.n_features == 70
    assert (len(parameters.radial), len(parameters.angular)) == (8, 18)
    assert parameters.cutoff == 6.5
    assert parameters.network == NetworkParameters()
    assert parameters.training == TrainingParameters()


def test_rili_2024_has_14_columns_and_the_network_and_training_of_the_paper() -> None:
    parameters = preset("rili-2024", ("Ti", "O"))
    assert parameters.n_features == 14
    assert (parameters.radial_elements, parameters.angular_elements) == ("blind", "blind")
    assert parameters.network.hidden_layers == (64,) * 5
    assert parameters.network.shared_subnet
    assert parameters.training.loss == "mae"
    assert (parameters.training.epochs, parameters.training.batch_size) == (80, 20)
    assert parameters.tuning == TuningParameters()
    assert parameters == apply_recipe(parameters, "rili-2024")


def test_the_default_grid_has_the_54_trials_of_the_paper() -> None:
    tuning = TuningParameters()
    assert len(tuning.layers) * len(tuning.nodes) * len(tuning.learning_rate) * len(tuning.dropout) == 54


def test_functions_are_ordered_by_eta_then_lambda_then_zeta() -> None:
    parameters = preset("artrith-urban-2016")
    assert list(parameters.radial) == sorted(parameters.radial, key=lambda f: f.eta)
    assert list(parameters.angular) == sorted(parameters.angular, key=lambda f: (f.eta, f.lambda_, f.zeta))
    assert [(f.lambda_, f.zeta) for f in parameters.angular[:6]] == [
        (-1, 1),
        (-1, 2),
        (-1, 4),
        (1, 1),
        (1, 2),
        (1, 4),
    ]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("elements", [("Si",), ("O", "H"), ("Cs", "Pb", "Br", "I")])
def test_a_preset_fits_any_elements(name: str, elements: tuple[str, ...]) -> None:
    parameters = preset(name, elements)
    assert parameters.elements == elements
    assert ParameterSet.from_json(parameters.to_json()) == parameters


def test_what_is_no_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        preset("artrith-2016")
    assert str(caught.value) == (
        "preset: expected one of artrith-urban-2016, extended, rili-2024, "
        'got "artrith-2016", did you mean "artrith-urban-2016"?'
    )


def test_elements_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ParameterError, match=r'elements\[0\]: expected a chemical symbol, got "Tio"'):
        preset("rili-2024", ["Tio", "O"])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_valid_set_and_leaves_features_and_data_alone(name: str) -> None:
    before = preset("artrith-urban-2016").with_overrides(
        training={"seed": 7, "max_energy": 1.0, "split": "grouped", "test_fraction": 0.2}
    )
    after = apply_recipe(before, name)
    assert after.fingerprint == before.fingerprint
    assert after.tuning == before.tuning
    for field in ("seed", "max_energy", "split", "test_fraction", "validation_fraction"):
        assert getattr(after.training, field) == getattr(before.training, field)


def test_the_default_recipe_brings_back_the_defaults() -> None:
    changed = preset("rili-2024")
    back = apply_recipe(changed, "default")
    assert back.network == NetworkParameters()
    assert back.training == TrainingParameters()
    assert back.angular_elements == "blind"


def test_the_rili_recipe_is_the_same_whatever_the_project_says() -> None:
    plain = preset("artrith-urban-2016")
    changed = plain.with_overrides(training={"early_stopping": 9, "members": 3}, network={"dropout": 0.5})
    assert apply_recipe(changed, "rili-2024") == apply_recipe(plain, "rili-2024")
    training = apply_recipe(plain, "rili-2024").training
    assert training.loss_target == "total"
    assert training.gradient_clip is None
    assert (training.schedule, training.warmup_epochs, training.weight_averaging) == ("constant", 0, 0.0)
    assert training.learning_rate == 1e-4


def test_quick_is_shorter_than_default_and_record_a_committee_trained_on_forces() -> None:
    plain = preset("artrith-urban-2016")
    quick, record = apply_recipe(plain, "quick"), apply_recipe(plain, "record")
    assert quick.training.epochs < plain.training.epochs
    assert record.training.members > 1
    assert record.training.forces
    assert not plain.training.forces
    assert quick.network == plain.network


def test_a_recipe_is_a_copy_that_may_be_changed() -> None:
    recipe("rili-2024")["network"]["hidden_layers"].append(1)
    assert recipe("rili-2024")["network"]["hidden_layers"] == [64] * 5


def test_what_is_no_recipe_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match='got "quik", did you mean "quick"'):
        recipe("quik")


@pytest.mark.skipif("TIO2NN_TEST_DATA" not in os.environ, reason="needs TIO2NN_TEST_DATA")
def test_artrith_urban_2016_has_the_functions_of_the_reference() -> None:
    path = Path(os.environ["TIO2NN_TEST_DATA"]) / "reference" / "behler70.json"
    reference = json.loads(path.read_text(encoding="utf-8"))
    expected = {
        ("radial", f["type2"], f["eta"], f["Rs"])
        if f["kind"] == "radial"
        else ("angular", "".join(sorted(f["type2"] + f["type3"])), f["eta"], f["lambda"], f["zeta"])
        for f in reference["functions"]
    }
    parameters = preset("artrith-urban-2016")
    pairs = [("Ti", "Ti"), ("Ti", "O"), ("O", "O")]
    radial = {("radial", element, f.eta, f.r_s) for f in parameters.radial for element in ("Ti", "O")}
    angular = {
        ("angular", "".join(sorted(a + b)), f.eta, f.lambda_, f.zeta)
        for f in parameters.angular
        for a, b in pairs
    }
    assert radial | angular == expected
    assert parameters.cutoff == reference["Rc"]
