from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tio2nn.errors import ParameterError, UsageError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import PRESETS, preset
from tio2nn.parameters.schema import fields


def test_artrith_urban_2016_has_70_columns_for_ti_and_o() -> None:
    parameters = preset("artrith-urban-2016", ("Ti", "O"))
    assert parameters.n_features == 70
    assert (len(parameters.radial), len(parameters.angular)) == (8, 18)
    assert parameters.cutoff == 6.5
    assert parameters.recipe == "auto"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_to_its_recipe_all_that_a_recipe_decides(name: str) -> None:
    parameters = preset(name)
    by_recipe = {
        f"{section.key}.{field.key}"
        for section in fields(ParameterSet)
        if section.is_section
        for field in fields(section.section)
        if field.about.by_recipe
    }
    assert set(parameters.undecided) == by_recipe | {"training.forces", "training.stress"}
    assert {"network.hidden_layers", "training.epochs", "training.members", "tuning.layers"} < by_recipe
    assert (parameters.training.validation_fraction, parameters.training.seed) == (0.05, 0)


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
