from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import InputError, ParameterError
from tio2nn.parameters.fit_parameters import (
    ACTIVATIONS,
    NetworkParameters,
    TrainingParameters,
    TuningParameters,
)
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.elements import SYMBOLS

SMALL = ParameterSet(
    elements=("Ti", "O"),
    cutoff=6.5,
    radial=(RadialFunction(0.5), RadialFunction(0.25, 1.5)),
    angular=(AngularFunction(0.01, -1, 2.5),),
)

MINIMAL_TEXT = '{"elements": ["Ti", "O"], "cutoff": 6, "radial": [{"eta": 1}], "angular": []}'


positive = st.floats(0, exclude_min=True, allow_infinity=False)
etas = st.floats(0, allow_infinity=False)
fractions = st.floats(0, 1, exclude_max=True)
symbols = st.sampled_from([symbol for symbol in SYMBOLS if symbol.isalpha()])
networks = st.builds(
    NetworkParameters,
    hidden_layers=st.lists(st.integers(1, 500), max_size=4).map(tuple),
    activation=st.sampled_from(ACTIVATIONS),
    dropout=fractions,
    shared_subnet=st.booleans(),
)
trainings = st.builds(
    TrainingParameters,
    learning_rate=positive,
    gradient_clip=st.none() | positive,
    max_energy=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    validation_fraction=st.floats(0.01, 0.5),
    test_fraction=st.floats(0, 0.49),
    seed=st.integers(0, 2**31 - 1),
)
tunings = st.builds(TuningParameters, learning_rate=st.lists(positive, min_size=1, unique=True).map(tuple))


@st.composite
def parameter_sets(draw: st.DrawFn) -> ParameterSet:
    elements = tuple(draw(st.lists(symbols, min_size=1, max_size=5, unique=True)))
    energies = st.fixed_dictionaries({symbol: st.floats(-1e6, 1e6) for symbol in elements})
    radial = st.builds(RadialFunction, etas, etas)
    angular = st.builds(AngularFunction, etas, st.sampled_from([-1, 1]), st.floats(1, 64))
    return ParameterSet(
        elements=elements,
        cutoff=draw(st.floats(0, 1000, exclude_min=True)),
        radial_elements=draw(st.sampled_from(("each", "weighted", "blind"))),
        angular_elements=draw(st.sampled_from(("pairs", "weighted", "blind"))),
        radial=tuple(draw(st.lists(radial, min_size=1, max_size=4, unique=True))),
        angular=tuple(draw(st.lists(angular, max_size=4, unique=True))),
        network=draw(networks),
        training=draw(trainings),
        tuning=draw(tunings),
        reference_energies=draw(st.none() | energies),
    )


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ParameterError) as caught:
        ParameterSet.from_json(text)
    return caught.value.problems


@given(parameter_sets())
def test_a_set_written_and_read_is_the_same_set(parameters: ParameterSet) -> None:
    text = parameters.to_json()
    again = ParameterSet.from_json(text)
    assert again == parameters
    assert again.to_json() == text
    assert again.fingerprint == parameters.fingerprint
    assert hash(again) == hash(parameters)


@given(parameter_sets())
def test_feature_names_are_unique_and_fit_into_a_csv_header(parameters: ParameterSet) -> None:
    names = parameters.feature_names
    n_elements = len(parameters.elements)
    n_radial = n_elements if parameters.radial_elements == "each" else 1
    n_angular = n_elements * (n_elements + 1) // 2 if parameters.angular_elements == "pairs" else 1
    assert len(set(names)) == len(names) == parameters.n_features
    assert parameters.n_features == len(parameters.radial) * n_radial + len(parameters.angular) * n_angular
    assert not set(",;\"'\t\n") & set("".join(names))


def test_columns_are_radial_first_then_angular_each_function_by_function() -> None:
    assert SMALL.feature_names == (
        "radial[Ti] eta=0.5 r_s=0",
        "radial[O] eta=0.5 r_s=0",
        "radial[Ti] eta=0.25 r_s=1.5",
        "radial[O] eta=0.25 r_s=1.5",
        "angular[Ti-Ti] eta=0.01 lambda=-1 zeta=2.5",
        "angular[Ti-O] eta=0.01 lambda=-1 zeta=2.5",
        "angular[O-O] eta=0.01 lambda=-1 zeta=2.5",
    )


def test_a_blind_set_has_one_column_for_each_function() -> None:
    assert replace(SMALL, radial_elements="blind", angular_elements="blind").feature_names == (
        "radial[*] eta=0.5 r_s=0",
        "radial[*] eta=0.25 r_s=1.5",
        "angular[*] eta=0.01 lambda=-1 zeta=2.5",
    )


def test_a_weighted_set_has_one_column_for_each_function() -> None:
    assert replace(SMALL, radial_elements="weighted", angular_elements="weighted").feature_names == (
        "radial[Z] eta=0.5 r_s=0",
        "radial[Z] eta=0.25 r_s=1.5",
        "angular[Z] eta=0.01 lambda=-1 zeta=2.5",
    )


def test_radial_functions_may_be_told_apart_where_angular_ones_are_weighted() -> None:
    assert replace(SMALL, angular_elements="weighted").feature_names == (
        "radial[Ti] eta=0.5 r_s=0",
        "radial[O] eta=0.5 r_s=0",
        "radial[Ti] eta=0.25 r_s=1.5",
        "radial[O] eta=0.25 r_s=1.5",
        "angular[Z] eta=0.01 lambda=-1 zeta=2.5",
    )


@pytest.mark.parametrize(
    ("element_blind", "today"), [("false", ("each", "pairs")), ("true", ("blind", "blind"))]
)
def test_the_element_blind_of_a_file_of_0_1_0_keeps_its_meaning(
    element_blind: str, today: tuple[str, str]
) -> None:
    parameters = ParameterSet.from_json(MINIMAL_TEXT[:-1] + f', "element_blind": {element_blind}}}')
    assert (parameters.radial_elements, parameters.angular_elements) == today
    assert parameters == ParameterSet.from_json(parameters.to_json())
    assert "element_blind" not in parameters.to_json()


def test_features_that_0_1_0_made_blind_stay_those_of_their_parameters() -> None:
    blind = replace(SMALL, radial_elements="blind", angular_elements="blind")
    assert blind.fingerprint == "b69241eddc788ec87b531361"


def test_element_blind_beside_what_took_its_place_is_refused() -> None:
    text = MINIMAL_TEXT[:-1] + ', "element_blind": true, "radial_elements": "each"}'
    (problem,) = problems_of(text)
    assert problem.startswith("element_blind: unknown key")


def test_what_a_file_leaves_out_has_its_default() -> None:
    parameters = ParameterSet.from_json(MINIMAL_TEXT)
    assert parameters.network == NetworkParameters()
    assert parameters.training == TrainingParameters()
    assert parameters.tuning == TuningParameters()
    assert parameters.reference_energies is None
    assert parameters.radial == (RadialFunction(1.0, 0.0),)
    partial = ParameterSet.from_json(MINIMAL_TEXT[:-1] + ', "training": {"epochs": 7}}')
    assert partial.training == TrainingParameters(epochs=7)


def test_the_file_has_one_symmetry_function_a_line() -> None:
    lines = SMALL.to_json().splitlines()
    assert '    {"eta": 0.25, "r_s": 1.5}' in lines
    assert '    {"eta": 0.01, "lambda": -1, "zeta": 2.5}' in lines
    assert '  "elements": ["Ti", "O"],' in lines
    assert '    "epochs": 800,' in lines


def test_an_empty_object_is_told_every_key_it_must_have() -> None:
    assert problems_of("{}") == (
        "elements: expected a non-empty list of chemical symbols, got nothing",
        "cutoff: expected a number > 0 and <= 1000, got nothing",
        "radial: expected a list of objects, got nothing",
        "angular: expected a list of objects, got nothing",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"radial": []}, "radial: expected at least one radial or angular function, got none"),
        (
            {"radial": [{"eta": 1}, {"eta": 1.0, "r_s": 0}]},
            "radial[1]: expected distinct items, got the same as radial[0]",
        ),
        ({"elements": ["ti", "O"]}, 'elements[0]: expected a chemical symbol, got "ti", did you mean "Ti"?'),
        ({"elements": ["O", "O"]}, "elements[1]: expected distinct items, got the same as elements[0]"),
        ({"elements": []}, "elements: expected a non-empty list of chemical symbols, got []"),
        (
            {"reference_energies": {"Ti": -1626.7}},
            'reference_energies: expected the keys "Ti", "O", got "Ti"',
        ),
        ({"reference_energies": {}}, 'reference_energies: expected the keys "Ti", "O", got none'),
        ({"cutoff": -6.5}, "cutoff: expected a number > 0 and <= 1000, got -6.5"),
        ({"trainning": {}}, 'trainning: unknown key, did you mean "training"?'),
        ({"epochs": 3}, 'epochs: unknown key, did you mean "training.epochs"?'),
        (
            {"angular": [{"eta": 1, "lambda": 0, "zeta": 1}]},
            "angular[0].lambda: expected -1 or 1, got 0",
        ),
        (
            {"angular": [{"eta": 1, "lambda_": 1, "lambda": 1, "zeta": 1}]},
            'angular[0].lambda_: unknown key, did you mean "lambda"?',
        ),
        (
            {"training": {"validation_fraction": 0.5, "test_fraction": 0.5}},
            "training.test_fraction: expected less than 1 - validation_fraction, to leave a rest, got 0.5",
        ),
        (
            {"training": {"validation_fraction": 0}},
            "training.validation_fraction: expected a number > 0 and < 1, got 0",
        ),
        (
            {"network": {"hidden_layers": [0]}},
            "network.hidden_layers[0]: expected an integer >= 1 and <= 10000, got 0",
        ),
        (
            {"network": {"hidden_layers": [10**30]}},
            "network.hidden_layers[0]: expected an integer >= 1 and <= 10000, got 1000000000000000000000000000000",
        ),
        ({"network": {"hidden_layers": [1] * 101}}, "network.hidden_layers: expected at most 100, got 101"),
        ({"cutoff": 1e300}, "cutoff: expected a number > 0 and <= 1000, got 1e+300"),
        (
            {"tuning": {"nodes": [8, 8]}},
            "tuning.nodes[1]: expected distinct items, got the same as tuning.nodes[0]",
        ),
    ],
)
def test_an_impossible_value_is_refused_with_path_expected_and_got(
    changes: dict[str, object], problem: str
) -> None:
    assert problems_of(json.dumps({**json.loads(MINIMAL_TEXT), **changes})) == (problem,)


def test_rules_between_fields_are_checked_beside_problems_elsewhere() -> None:
    document = {
        **json.loads(MINIMAL_TEXT),
        "radial": [],
        "reference_energies": {"H": 1},
        "network": {"dropout": 2},
    }
    assert problems_of(json.dumps(document)) == (
        "network.dropout: expected a number >= 0 and < 1 or null, got 2",
        "radial: expected at least one radial or angular function, got none",
        'reference_energies: expected the keys "Ti", "O", got "H"',
    )


def test_nan_and_infinity_are_refused() -> None:
    text = MINIMAL_TEXT.replace("6,", "NaN,").replace('"eta": 1', '"eta": 1e999')
    assert problems_of(text) == (
        "cutoff: expected a number > 0 and <= 1000, got NaN",
        "radial[0].eta: expected a number >= 0, got Infinity",
    )


def test_the_file_stands_before_the_problems(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"elements": ["Ti"],\n "cutoff": }', encoding="utf-8")
    with pytest.raises(InputError, match=r'params\.json:2: expected valid JSON, got "}" at column 12'):
        ParameterSet.load(path)
    path.write_text(MINIMAL_TEXT.replace("6,", "0,"), encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        ParameterSet.load(path)
    assert str(caught.value) == f"{path}: cutoff: expected a number > 0 and <= 1000, got 0"


def test_a_file_is_read_with_its_byte_order_mark_and_refused_in_utf16(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text(MINIMAL_TEXT, encoding="utf-8-sig")
    assert ParameterSet.load(path).cutoff == 6.0
    path.write_text(MINIMAL_TEXT, encoding="utf-16")
    with pytest.raises(InputError, match="expected UTF-8 text, got UTF-16"):
        ParameterSet.load(path)


def test_a_path_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(InputError, match=r"cannot read the file: |no such file"):
            ParameterSet.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SMALL, elements=("O", "Ti")),
        replace(SMALL, cutoff=6.0),
        replace(SMALL, radial_elements="blind", angular_elements="blind"),
        replace(SMALL, radial_elements="blind"),
        replace(SMALL, radial_elements="weighted"),
        replace(SMALL, angular_elements="blind"),
        replace(SMALL, angular_elements="weighted"),
        replace(SMALL, radial=SMALL.radial[::-1]),
        replace(SMALL, angular=()),
    ],
)
def test_the_fingerprint_changes_with_what_the_features_depend_on(changed: ParameterSet) -> None:
    assert changed.fingerprint != SMALL.fingerprint


def test_the_fingerprint_ignores_network_training_tuning_and_reference_energies() -> None:
    changed = replace(
        SMALL,
        network=NetworkParameters(hidden_layers=(3,)),
        training=TrainingParameters(epochs=1),
        tuning=TuningParameters(strategy="random"),
        reference_energies={"Ti": 1.0, "O": 2.0},
    )
    assert changed.fingerprint == SMALL.fingerprint


def test_the_fingerprint_is_the_same_in_every_process_and_release() -> None:
    assert SMALL.fingerprint == "b0e3a8f58af1c56ee8eb9ed0"


def test_equal_sets_share_a_fingerprint_however_their_numbers_were_written() -> None:
    text = MINIMAL_TEXT.replace("6,", "6.0e0,").replace('"eta": 1', '"r_s": -0.0, "eta": 10e-1')
    assert ParameterSet.from_json(text).fingerprint == ParameterSet.from_json(MINIMAL_TEXT).fingerprint


def test_overrides_replace_only_what_they_name() -> None:
    changed = SMALL.with_overrides(cutoff=5, training={"epochs": 3}, network={"hidden_layers": (8, 8)})
    assert changed == replace(
        SMALL,
        cutoff=5.0,
        training=TrainingParameters(epochs=3),
        network=NetworkParameters(hidden_layers=(8, 8)),
    )
    assert SMALL.training.epochs == 800


def test_overrides_take_whole_sections_functions_and_energies() -> None:
    energies = {"Ti": -1.0, "O": -2.0}
    first = SMALL.with_overrides(training=TrainingParameters(seed=4), radial=(RadialFunction(9),))
    second = first.with_overrides(reference_energies=energies)
    assert second.training == TrainingParameters(seed=4)
    assert second.radial == (RadialFunction(9.0),)
    assert second.reference_energies == energies
    assert second.with_overrides(reference_energies={"O": 1, "Ti": 2}).reference_energies == {
        "O": 1.0,
        "Ti": 2.0,
    }


def test_overrides_are_checked_all_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        SMALL.with_overrides(training={"epoch": 3, "members": 0}, cutof=5, network=3)
    assert caught.value.problems == (
        'cutof: unknown key, did you mean "cutoff"?',
        "network: expected an object, got 3",
        'training.epoch: unknown key, did you mean "epochs"?',
        "training.members: expected an integer >= 1 or null, got 0",
    )


def test_a_set_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(SMALL)) == SMALL


def test_sixty_elements_are_as_welcome_as_two() -> None:
    elements = tuple(symbol for symbol in SYMBOLS if symbol.isalpha())[:60]
    assert replace(SMALL, elements=elements).n_features == 2 * 60 + 60 * 61 // 2
