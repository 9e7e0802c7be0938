"""The data of a fit: reference energies, whitening and ranges follow from the training part alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from memory import peak_bytes
from projects import PARAMETERS, structures
from training.labeled_inputs import PART_OF, data, inputs_of, small_inputs, split_of

from tio2nn.descriptors.natural_sizes import natural_sizes, near
from tio2nn.errors import InputError
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters, TuningParameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.parameters.schema import to_json
from tio2nn.potential import familiarity, whitening
from tio2nn.potential.whitening import LEAST_FLOOR, Whitening, floor_of
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import SETS, Split
from tio2nn.structures.structure import Structure
from tio2nn.training.data import Inputs, prepare
from tio2nn.training.splits import drawn_split

STORED = ("numbers", "positions", "forces", "cells", "periodic", "energies", "lines")


# --- what a fit starts from ---------------------------------------------------------------------------------


def with_energies(inputs: Inputs, energies: np.ndarray) -> Inputs:
    """The same structures and features under other labels."""
    store = copy.copy(inputs.store)
    for derived in ("cohesive_energies", "gross_outliers"):
        store.__dict__.pop(derived, None)
    store.energies = energies
    return replace(inputs, store=store)


def in_part(part: str) -> list[Structure]:
    return [structure for structure in structures() if PART_OF[structure.name] == part]


def energies(chosen: Sequence[Structure]) -> np.ndarray:
    return np.array([structure.energy for structure in chosen])


def compositions(chosen: Sequence[Structure]) -> np.ndarray:
    return np.array([[s.composition.get(element, 0) for element in ("Ti", "O")] for s in chosen])


def rows(part: str, element: str) -> np.ndarray:
    """Features of the atoms of one element in one part."""
    inputs = small_inputs()
    structure_of_atom = np.repeat(inputs.store.names, inputs.store.n_atoms)
    elements = np.array([e for structure in structures() for e in structure.elements])
    parts = np.array([PART_OF[name] for name in structure_of_atom])
    return np.concatenate(list(inputs.features))[(parts == part) & (elements == element)]


def test_reference_energies_are_the_least_squares_fit_to_the_training_part() -> None:
    found = data().reference
    chosen = in_part("train")
    expected = np.linalg.lstsq(compositions(chosen).astype(float), energies(chosen), rcond=None)[0]
    assert found.as_dict() == pytest.approx({"Ti": expected[0], "O": expected[1]}, rel=1e-12)
    everything = np.linalg.lstsq(compositions(structures()).astype(float), energies(structures()), rcond=None)
    assert found.values != pytest.approx(everything[0], rel=1e-9)


def test_labels_are_total_energies_minus_the_reference_energies() -> None:
    found = data()
    for part, labels in (("train", found.train_labels), ("validation", found.validation_labels)):
        chosen = in_part(part)
        expected = energies(chosen) - compositions(chosen) @ found.reference.values
        np.testing.assert_allclose(labels.energies, expected, atol=1e-9)


def test_reference_energies_that_are_given_are_taken_as_they_are() -> None:
    given = {"O": -431.5, "Ti": -1600.25}
    found = data(reference_energies=given)
    assert found.reference.as_dict() == given
    chosen = in_part("train")
    expected = energies(chosen) - compositions(chosen) @ [-1600.25, -431.5]
    np.testing.assert_allclose(found.train_labels.energies, expected, atol=1e-9)


@pytest.mark.parametrize(("whitening", "fit"), [(True, Whitening.fit), (False, Whitening.standardization)])
def test_the_whitening_is_that_of_the_training_part(whitening: bool, fit: Callable[..., Whitening]) -> None:
    found = data(network={"whitening": whitening, "whitening_floor": LEAST_FLOOR})
    for k, element in enumerate(("Ti", "O")):
        sizes = natural_sizes(PARAMETERS, element, near(PARAMETERS.elements, found.repulsion.closest))
        expected = fit(rows("train", element), sizes=sizes)
        np.testing.assert_array_equal(found.whitenings[k].mean, expected.mean)
        np.testing.assert_array_equal(found.whitenings[k].matrix, expected.matrix)
        for part, table in (("train", found.train), ("validation", found.validation)):
            np.testing.assert_allclose(table.features[k], expected(rows(part, element)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("floor", [None, 1e-7, 0.3])
def test_a_whitening_floor_is_that_of_the_parameters_or_follows_from_the_numbers_of_atoms_and_structures(
    floor: float | None,
) -> None:
    document = json.loads(PARAMETERS.to_json())
    assert document["network"]["whitening_floor"] is None
    document["network"]["whitening_floor"] = floor
    parameters = ParameterSet.from_json(json.dumps(document))
    inputs = small_inputs()
    found = prepare(inputs, parameters, split_of(inputs))
    for k, element in enumerate(("Ti", "O")):
        atoms, sizes = (
            rows("train", element),
            natural_sizes(PARAMETERS, element, near(PARAMETERS.elements, found.repulsion.closest)),
        )
        n_structures = sum(element in structure.elements for structure in in_part("train"))
        own = floor_of(len(atoms), n_structures) if floor is None else floor
        expected = Whitening.fit(atoms, own, sizes)
        np.testing.assert_array_equal(found.whitenings[k].matrix, expected.matrix)
        np.testing.assert_array_equal(found.whitenings[k].metric, expected.metric)


def test_the_training_range_is_that_of_the_training_part() -> None:
    for shared in (False, True):
        found = data(network={"shared_subnet": shared}).training_atoms
        for atoms, element in zip(found, ("Ti", "O"), strict=True):
            np.testing.assert_array_equal(atoms.low, rows("train", element).min(axis=0))
            np.testing.assert_array_equal(atoms.high, rows("train", element).max(axis=0))
            assert len(atoms.references) == len(rows("train", element))


def test_one_subnet_for_all_elements_has_one_whitening_of_all_atoms() -> None:
    found = data(network={"shared_subnet": True})
    assert found.subnet_of == {"Ti": 0, "O": 0}
    (whitening,) = found.whitenings
    everything = np.concatenate([rows("train", "Ti"), rows("train", "O")])
    np.testing.assert_allclose(whitening.mean, everything.mean(axis=0), rtol=1e-12)
    assert data().subnet_of == {"Ti": 0, "O": 1}


def test_what_the_test_part_says_changes_nothing_in_the_data_of_a_fit() -> None:
    inputs = small_inputs()
    tested = np.array([PART_OF[name] == "test" for name in inputs.store.names])
    atoms = np.repeat(tested, inputs.store.n_atoms)
    other = with_energies(inputs, inputs.store.energies + 7.0 * tested)
    (features,) = inputs.features
    other = replace(other, features=[np.where(atoms[:, None], 99.0, features)])
    first, second = (prepare(given, PARAMETERS, split_of(given)) for given in (inputs, other))
    assert first.reference.as_dict() == second.reference.as_dict()
    for one, other in zip(first.training_atoms, second.training_atoms, strict=True):
        np.testing.assert_array_equal(one.references, other.references)
        assert one.unit == other.unit
    np.testing.assert_array_equal(first.train_labels.energies, second.train_labels.energies)
    for k in range(2):
        np.testing.assert_array_equal(first.whitenings[k].matrix, second.whitenings[k].matrix)
        np.testing.assert_array_equal(first.train.features[k], second.train.features[k])


def test_structures_above_the_largest_energy_are_left_out_of_every_part() -> None:
    cohesive = dict(zip(small_inputs().store.names, small_inputs().store.cohesive_energies, strict=True))
    limit = float(np.median(list(cohesive.values())))
    found = data(training={"max_energy": limit})
    low = {name for name, energy in cohesive.items() if energy <= limit}
    assert len(low) == 12
    for part in SETS:
        expected = [name for name in PART_OF if PART_OF[name] == part and name in low]
        assert [found.split.names[k] for k in found.split.indices(part)] == expected
    assert len(found.train.counts) == len(found.train_labels.energies) < len(in_part("train"))
    assert data(training={"max_energy": 1e9}).split == data().split


def test_functions_that_do_not_vary_are_named_for_their_subnet() -> None:
    inputs = small_inputs()
    features = np.concatenate(list(inputs.features))
    titanium = np.array([e == "Ti" for structure in structures() for e in structure.elements])
    features[titanium, 1] = 0.25
    features[:, 4] = 0.0
    constant = prepare(replace(inputs, features=[features]), PARAMETERS, split_of(inputs)).constant_features
    names = PARAMETERS.feature_names
    assert constant == {"Ti": (names[1], names[4]), "O": (names[4],)}
    assert data().constant_features == {}


@pytest.mark.parametrize("n", [0, 1])
def test_a_fit_needs_two_structures_to_train_on(n: int) -> None:
    inputs = small_inputs()
    part_of = {name: "train" if k < n else "test" for k, name in enumerate(PART_OF)}
    with pytest.raises(InputError) as caught:
        prepare(inputs, PARAMETERS, split_of(inputs, part_of))
    assert str(caught.value) == (
        f"expected at least 2 structures in the training set, got {n}; add structures, or draw another split with "
        "--new-split"
    )


def test_a_fit_needs_no_validation_part() -> None:
    inputs = small_inputs()
    found = prepare(inputs, PARAMETERS, split_of(inputs, dict.fromkeys(PART_OF, "train")))
    assert (len(found.train.counts), len(found.validation.counts)) == (24, 0)


# --- gross outliers -----------------------------------------------------------------------------------------


def with_outlier(inputs: Inputs, index: int, per_atom: float = 500.0) -> Inputs:
    wild = inputs.store.energies.copy()
    wild[index] += per_atom * inputs.store.n_atoms[index]
    return with_energies(inputs, wild)


@pytest.mark.parametrize("part", SETS)
def test_a_gross_outlier_is_left_out_of_its_part_and_named(part: str) -> None:
    inputs = small_inputs()
    index = next(k for k, name in enumerate(inputs.store.names) if PART_OF[name] == part)
    found = prepare(with_outlier(inputs, index), PARAMETERS, split_of(inputs))
    assert found.outliers == (inputs.store.names[index],)
    clean = data().split
    assert [k for k in range(24) if found.split.parts[k] != clean.parts[k]] == [index]
    assert data().outliers == ()


def test_a_gross_outlier_that_is_kept_moves_no_reference_energy() -> None:
    inputs = small_inputs()
    index = next(k for k, name in enumerate(inputs.store.names) if PART_OF[name] == "train")
    keeping = PARAMETERS.with_overrides(training={"outliers": "keep"})
    wild = with_outlier(inputs, index)
    found, left_out = prepare(wild, keeping, split_of(inputs)), prepare(wild, PARAMETERS, split_of(inputs))
    assert len(found.train.counts) == 16
    assert found.outliers == left_out.outliers
    assert found.reference.as_dict() == left_out.reference.as_dict()


@pytest.mark.parametrize("seed", range(6))
def test_gross_outliers_do_not_take_the_places_of_held_out_structures(seed: int) -> None:
    parameters = PARAMETERS.with_overrides(training={"seed": seed})
    inputs = small_inputs()
    before = drawn_split(parameters, inputs.store)
    wild = {part: before.indices(part).tolist() for part in SETS[1:]}
    for k in wild["validation"]:
        inputs = with_outlier(inputs, k)
    found = prepare(inputs, parameters, drawn_split(parameters, inputs.store))
    assert len(found.outliers) == len(wild["validation"])
    assert len(found.split.indices("validation")) > 0
    assert len(found.split.indices("test")) > 0


def test_outliers_go_where_their_group_goes_when_a_split_is_drawn_anew() -> None:
    inputs = small_inputs()
    pairs = tuple([inputs.store.names[k - k % 2] for k in range(len(inputs.store.names))])
    inputs.store.groups = pairs
    n_drawn_anew = 0
    for seed in range(12):
        parameters = PARAMETERS.with_overrides(training={"seed": seed, "split": "grouped"})
        before = drawn_split(parameters, inputs.store)
        wild = inputs
        for k in [*before.indices("validation").tolist(), *before.indices("train")[1:6:2].tolist()]:
            wild = with_outlier(wild, k)
        found = drawn_split(parameters, wild.store)
        n_drawn_anew += found != before
        assert len(set(zip(pairs, found.parts, strict=True))) == len(set(pairs))
    assert n_drawn_anew > 0


def test_an_element_without_atoms_in_the_training_part_is_named() -> None:
    oxygen = [replace(s, elements=("O",) * s.n_atoms) for s in structures() if PART_OF[s.name] == "train"]
    inputs = inputs_of([*oxygen, *in_part("validation"), *in_part("test")])
    with pytest.raises(InputError) as caught:
        prepare(inputs, PARAMETERS, split_of(inputs))
    assert str(caught.value) == "expected atoms of Ti in the training set, got none"


def test_an_element_that_is_left_out_is_named_with_the_reason_and_the_option() -> None:
    wild = in_part("train")[:2]
    spoiled = inputs_of(
        [
            replace(s, forces=np.full((s.n_atoms, 3), 1e6))
            if s in wild
            else replace(s, elements=("O",) * s.n_atoms, forces=np.full((s.n_atoms, 3), 0.1))
            for s in structures()
        ]
    )
    with pytest.raises(InputError) as caught:
        prepare(spoiled, PARAMETERS, split_of(spoiled))
    assert str(caught.value) == (
        "expected atoms of Ti in the training set, got none; "
        "2 gross outliers are left out (keep with --keep-outliers)"
    )


def test_nothing_below_the_largest_energy_names_the_option() -> None:
    inputs = small_inputs()
    parameters = PARAMETERS.with_overrides(training={"max_energy": -1000.0})
    with pytest.raises(InputError, match=r"got 0; .* above --max-energy -1000 eV/atom"):
        prepare(inputs, parameters, split_of(inputs))


class LazyFeatures:
    """Features that are made when they are asked for, a thousand structures at a time."""

    def __init__(self, store: StructureStore, n_features: int) -> None:
        self._store, self._n_features = store, n_features

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self._store), 1000):
            n = int(self._store.n_atoms[first : first + 1000].sum())
            yield np.random.default_rng(first).normal(size=(n, self._n_features))


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_features_are_held_once_in_double_and_once_in_single_precision(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whitening, "_ROWS_TOGETHER", 2000)
    # what a potential remembers of the atoms has a size of its own
    monkeypatch.setattr(familiarity, "N_REFERENCES", 50)
    monkeypatch.setattr(familiarity, "_N_CALIBRATION", 50)
    small, n_features, times = small_inputs().store, 70, 400
    offsets = np.concatenate([[0], np.cumsum(np.tile(small.n_atoms, times))])
    arrays = {name: np.concatenate([getattr(small, name)] * times) for name in STORED}
    names = [f"{name}-{k}" for k in range(times) for name in small.names]
    texts = {"names": names, "files": small.files * times, "groups": small.groups * times}
    store = StructureStore({"offsets": offsets, **arrays}, texts, small.reference_energies)
    parts = tuple(
        "test" if k % 4 == 0 else "validation" if k % 4 == 1 else "train" for k in range(len(store))
    )
    inputs = Inputs(store, LazyFeatures(store, n_features), "")
    parameters = preset("artrith-urban-2016").with_overrides(
        recipe="default",
        network={**to_json(NetworkParameters()), "shared_subnet": shared},
        training=to_json(TrainingParameters()),
        tuning=to_json(TuningParameters()),
    )
    assert parameters.n_features == n_features
    used = n_features * int(store.n_atoms[[part != "test" for part in parts]].sum())
    peak = peak_bytes(lambda: prepare(inputs, parameters, Split(store.names, parts)))
    # 12 bytes a number; the rest is what is held of each atom, and of pieces
    assert peak < 15 * used
