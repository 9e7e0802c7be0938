from __future__ import annotations

import pytest

from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters, TuningParameters
from tio2nn.parameters.parameter_set import ParameterSet, RadialFunction
from tio2nn.parameters.schema import fields, to_json
from tio2nn.parameters.validation import Section

PARAMETERS = ParameterSet(elements=("Ti", "O"), cutoff=6.0, radial=(RadialFunction(1.0),), angular=())
SECTIONS = (NetworkParameters, TrainingParameters, TuningParameters)

# As the digests of 0.1.0 have them: a field that moves from one to another makes existing projects stale.
AFFECTING = {
    (ParameterSet, Affects.FEATURES): {
        "elements",
        "cutoff",
        "radial_elements",
        "angular_elements",
        "radial",
        "angular",
    },
    (NetworkParameters, Affects.POTENTIAL): {"repulsion"},
    (TrainingParameters, Affects.DATA): {
        "validation_fraction",
        "test_fraction",
        "split",
        "max_energy",
        "outliers",
        "derivatives_limit",
        "seed",
    },
    (TrainingParameters, Affects.POTENTIAL): {"members"},
    (TuningParameters, Affects.TRIAL): {"batch_size", "seed"},
}
SEARCHED = {NetworkParameters: {"hidden_layers", "dropout"}, TrainingParameters: {"epochs", "learning_rate"}}


@pytest.mark.parametrize(("cls", "part"), AFFECTING)
def test_a_part_depends_on_the_fields_that_say_so(cls: type[Section], part: Affects) -> None:
    assert {field.key for field in fields(cls) if field.about.affects & part} == AFFECTING[cls, part]


@pytest.mark.parametrize("cls", [NetworkParameters, TrainingParameters])
def test_a_fit_depends_on_all_settings_of_network_and_training_but_those_of_other_parts(
    cls: type[Section],
) -> None:
    of_the_fit = {field.key for field in fields(cls) if field.about.affects & Affects.FIT}
    of_others = {
        key for (owner, _), keys in AFFECTING.items() if owner is cls for key in keys if key != "seed"
    }
    assert of_the_fit == {field.key for field in fields(cls)} - of_others


@pytest.mark.parametrize("cls", [ParameterSet, *SECTIONS])
def test_every_setting_says_what_depends_on_it(cls: type[Section]) -> None:
    silent = {field.key for field in fields(cls) if not field.is_section and not field.about.affects}
    # a recipe and a target are of effect by what they decide
    assert silent == ({"recipe", "target"} if cls is ParameterSet else set())


@pytest.mark.parametrize("cls", SECTIONS)
def test_what_each_trial_has_of_its_own_are_settings_of_a_fit(cls: type[Section]) -> None:
    searched = [field for field in fields(cls) if field.about.searched]
    assert {field.key for field in searched} == SEARCHED.get(cls, set())
    assert all(field.about.affects & Affects.FIT for field in searched)


def test_what_affects_a_part_is_given_as_json() -> None:
    network = PARAMETERS.network.affecting(Affects.FIT)
    assert network["hidden_layers"] == [48, 48]
    assert network.keys() | {"repulsion"} == to_json(PARAMETERS.network).keys()
    both = PARAMETERS.network.affecting(Affects.FIT | Affects.POTENTIAL)
    assert both == to_json(PARAMETERS.network)
    assert PARAMETERS.affecting(Affects.FEATURES)["radial"] == [{"eta": 1.0, "r_s": 0.0}]
