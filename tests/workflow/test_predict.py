from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from projects import ATOMIC_ENERGIES, PARAMETERS, structures, write_files

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.io.read import read_structures
from tio2nn.io.xsf.file import write_xsf
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE, Prediction
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure
from tio2nn.workflow import structure_batches
from tio2nn.workflow.predict import COLUMNS, Format, header, label, predict_stream, text, warnings

FORMATS: tuple[Format, ...] = ("tsv", "csv", "json")


def make_potential(members: int = 1) -> Potential:
    """Untrained, one hidden layer; its range is that of the features of the small structures."""
    rng = np.random.default_rng(7)
    n = PARAMETERS.n_features
    features = np.concatenate(list(SymmetryCalculator(PARAMETERS).map(structures())))
    elements = np.array([element for structure in structures() for element in structure.elements])
    owners = np.repeat(np.arange(len(structures())), [structure.n_atoms for structure in structures()])
    whitening = Whitening(np.zeros(n), np.eye(n), np.zeros(n, dtype=bool), np.eye(n))
    return Potential(
        parameters=PARAMETERS,
        reference_energies=dict(ATOMIC_ENERGIES),
        subnet_of={"Ti": 0, "O": 1},
        whitenings=(whitening, whitening),
        members=tuple(
            tuple(
                (
                    Layer(0.3 * rng.normal(size=(n, 4)), rng.normal(size=4), "tanh"),
                    Layer(rng.normal(size=(4, 1)), rng.normal(size=1), "linear"),
                )
                for _ in range(2)
            )
            for _ in range(members)
        ),
        training_atoms=tuple(
            TrainingAtoms.fit(features[elements == element], owners[elements == element], whitening, rng)
            for element in ("Ti", "O")
        ),
        composition_span=np.eye(2),
        about={},
    )


@pytest.fixture(scope="module")
def single() -> Potential:
    return make_potential()


@pytest.fixture(scope="module")
def committee() -> Potential:
    return make_potential(members=3)


def predictions(potential: Potential, *items: Structure | InputError) -> list[Prediction]:
    found = list(predict_stream(potential, items))
    assert [result for result in found if isinstance(result, InputError)] == []
    return [result for result in found if isinstance(result, Prediction)]


def squeezed(structure: Structure) -> Structure:
    return replace(structure, positions=0.8 * structure.positions, cell=0.8 * structure.cell)


def at_one_place(name: str) -> Structure:
    return Structure(name, ("Ti", "O"), np.zeros((2, 3)), 5.0 * np.eye(3), file=f"{name}.xsf")


def parsed(form: Format, found: list[Prediction]) -> list[dict[str, str]]:
    """The rows of the output as its readers see them; JSON as text under the same names."""
    lines = [text(prediction, form) for prediction in found]
    assert all("\n" not in shown for shown in lines)
    if form == "json":
        rows = [json.loads(shown) for shown in lines]
        return [
            {
                **{key: row[key] if key == "file" else repr(row[key]) for key in COLUMNS[:-2]},
                "n_extrapolating": str(len(row["extrapolation"])),
                "largest_distance": repr(max(row["distances"])),
            }
            for row in rows
        ]
    first = header(form)
    assert first is not None
    if form == "csv":
        return list(csv.DictReader([first, *lines]))
    names = first.removeprefix("# ").split("\t")
    return [dict(zip(names, shown.split("\t"), strict=True)) for shown in lines]


# --- lines --------------------------------------------------------------------------------------------------


def test_the_header_names_the_columns_with_their_units() -> None:
    names = ["file", "n_atoms", "energy_eV", "energy_eV_per_atom", "spread_eV_per_atom"]
    names += ["n_extrapolating", "largest_distance"]
    assert header("tsv") == "# " + "\t".join(names)
    assert header("csv") == ",".join(names)
    assert header("json") is None


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("members", [1, 3])
def test_every_format_is_read_back_without_losing_a_digit(form: Format, members: int) -> None:
    found = predictions(make_potential(members), *structures()[:5], squeezed(structures()[5]))
    rows = parsed(form, found)
    assert [row["file"] for row in rows] == [f"structure000{k}.xsf" for k in range(1, 7)]
    for row, prediction in zip(rows, found, strict=True):
        assert int(row["n_atoms"]) == prediction.structure.n_atoms
        assert float(row["energy_eV"]) == prediction.energy
        assert float(row["energy_eV_per_atom"]) == prediction.energy / prediction.structure.n_atoms
        assert int(row["n_extrapolating"]) == len(prediction.extrapolations)
        assert float(row["largest_distance"]) == pytest.approx(prediction.distances.max(), abs=6e-4)
        if members == 1:
            assert row["spread_eV_per_atom"] == ("None" if form == "json" else "nan")
        else:
            assert float(row["spread_eV_per_atom"]) == prediction.spread


def test_the_spread_is_the_standard_deviation_of_the_energies_of_the_members(committee: Potential) -> None:
    (found,) = predictions(committee, structures()[3])
    energies = [replace(committee, members=(member,)).energy(structures()[3]) for member in committee.members]
    assert found.energy == pytest.approx(np.mean(energies), rel=1e-14)
    assert found.spread == pytest.approx(np.std(energies, ddof=1) / found.structure.n_atoms, rel=1e-9)


@pytest.mark.parametrize("name", ["a,b.xsf", 'say "hi".xsf', "Å ζ.xsf", "a b.xsf"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_any_name_is_read_back(single: Potential, form: Format, name: str) -> None:
    structure = replace(structures()[0], name=name.removesuffix(".xsf"), file=name)
    (row,) = parsed(form, predictions(single, structure))
    assert row["file"] == name


def test_json_says_which_atoms_extrapolate_in_which_function_and_how_far(single: Potential) -> None:
    (found,) = predictions(single, squeezed(structures()[2]))
    assert found.extrapolations
    document = json.loads(text(found, "json"))
    listed = document["extrapolation"]
    assert document["composition_is_known"] is True
    assert document["distances"] == found.distances.tolist()
    far = [k + 1 for k, distance in enumerate(found.distances) if distance > EXTRAPOLATION_DISTANCE]
    assert [entry["atom"] for entry in listed] == far
    assert [entry["atom"] for entry in listed] == [e.atom for e in found.extrapolations]
    features = next(SymmetryCalculator(PARAMETERS).map([found.structure]))
    for entry in listed:
        element = found.structure.elements[entry["atom"] - 1]
        seen = single.training_atoms[single.elements.index(element)]
        low, high = seen.low, seen.high
        column = PARAMETERS.feature_names.index(entry["function"])
        value = features[entry["atom"] - 1, column]
        outside = max(low[column] - value, value - high[column]) / (high[column] - low[column])
        assert entry["element"] == element
        assert entry["excess"] == pytest.approx(outside)
        assert entry["distance"] == found.distances[entry["atom"] - 1]


def test_a_frame_of_several_has_its_number_behind_the_file(tmp_path: Path, single: Potential) -> None:
    whole = write_xsf(replace(structures()[0], energy=None), decimals=12)
    steps = whole.replace("CRYSTAL\n", "ANIMSTEPS 2\nCRYSTAL\n", 1)
    cell, _, atoms = steps.partition("PRIMCOORD\n")
    path = tmp_path / "scan-1.axsf"
    path.write_text(f"{cell}PRIMCOORD 1\n{atoms}PRIMCOORD 2\n{atoms}", encoding="utf-8")
    found = predictions(single, *read_structures(path))
    assert [label(prediction.structure) for prediction in found] == [f"{path}#1", f"{path}#2"]
    (whole,) = write_files(tmp_path, [replace(structures()[0], name="scan-1")])
    (alone,) = predictions(single, *read_structures(whole))
    assert label(alone.structure) == str(whole)


# --- the stream ---------------------------------------------------------------------------------------------


def test_one_file_that_is_rejected_stops_no_other(tmp_path: Path, single: Potential) -> None:
    files = write_files(tmp_path, structures()[:4])
    files[1].write_text("CRYSTAL\nPRIMVEC\n1 2\n", encoding="utf-8")
    found = list(predict_stream(single, read_structures([*files, tmp_path / "gone.xsf"], errors="yield")))
    assert [type(result) for result in found] == [Prediction, InputError, *[Prediction] * 2, InputError]
    rejected = [result for result in found if isinstance(result, InputError)]
    assert [error.file for error in rejected] == [str(files[1]), str(tmp_path / "gone.xsf")]


def test_structures_that_cannot_be_described_are_named_and_spoil_no_other(single: Potential) -> None:
    nitride = replace(structures()[0], elements=("N", *structures()[0].elements[1:]), file="nitride.xsf")
    first, second, third = structures()[1:4]
    items = [first, nitride, second, at_one_place("double"), InputError("unreadable", file="x.xsf"), third]
    found = list(predict_stream(single, items))
    assert [result.file for result in found if isinstance(result, InputError)] == [
        "nitride.xsf",
        "double.xsf",
        "x.xsf",
    ]
    energies = [result.energy for result in found if isinstance(result, Prediction)]
    assert energies == [single.energy(structure) for structure in (first, second, third)]
    kinds = [isinstance(result, InputError) for result in found]
    assert kinds == [False, True, False, True, True, False]


@pytest.mark.parametrize(("threads", "most"), [(1, 2), (2, 2 * (2 * 2 + 1))])
def test_a_long_stream_keeps_its_order_and_begins_before_it_is_read_to_the_end(
    single: Potential, monkeypatch: pytest.MonkeyPatch, threads: int, most: int
) -> None:
    monkeypatch.setattr(structure_batches, "_TOGETHER", 2)
    read: list[str] = []

    def items() -> Iterator[Structure]:
        for structure in structures():
            read.append(structure.name)
            yield structure

    assert len(structures()) > most
    stream = predict_stream(single, items(), threads=threads)
    first = next(stream)
    assert len(read) == most
    found = [first, *stream]
    names = [result.structure.name for result in found if isinstance(result, Prediction)]
    assert names == [structure.name for structure in structures()]


@pytest.mark.parametrize("forces", [False, True])
def test_a_stream_says_the_same_on_any_number_of_threads(
    single: Potential, monkeypatch: pytest.MonkeyPatch, forces: bool
) -> None:
    monkeypatch.setattr(structure_batches, "_TOGETHER", 3)
    monkeypatch.setattr(structure_batches, "CENTERS_PER_BLOCK", 20)  # more atoms than that are large
    large = Structure.from_ase(structures()[0].to_ase().repeat((3, 2, 1)))
    assert large.n_atoms > 20
    items = [*structures()[:7], at_one_place("double"), large, InputError("bad", file="x"), *structures()[7:]]
    found = [
        [
            str(result) if isinstance(result, InputError) else text(result, "json")
            for result in predict_stream(single, items, forces=forces, threads=threads)
        ]
        for threads in (1, 2, 5)
    ]
    assert len(found[0]) == len(items)
    assert found[0] == found[1] == found[2]


def test_a_stream_that_is_left_early_ends_its_threads(single: Potential) -> None:
    stream = predict_stream(single, 20 * structures(), threads=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tio2nn")]


# --- warnings -----------------------------------------------------------------------------------------------


def test_a_structure_like_those_in_training_needs_no_warning(single: Potential) -> None:
    (found,) = predictions(single, structures()[0])
    assert warnings(found) == {}


def test_the_farthest_atom_outside_the_training_range_is_named(single: Potential) -> None:
    (found,) = predictions(single, squeezed(structures()[2]))
    worst = max(found.extrapolations, key=lambda extrapolation: extrapolation.distance)
    (warning,) = warnings(found).values()
    n_atoms = found.structure.n_atoms
    n_far = len(found.extrapolations)
    verb = "is" if n_far == 1 else "are"
    assert warning.startswith(f"structure0003.xsf: {n_far} of {n_atoms} atoms {verb} far")
    assert (
        f"atom {worst.atom} ({worst.element}), at {worst.distance:.1f} times an ordinary distance" in warning
    )
    assert worst.function in warning
    assert warning.endswith("train on structures like this one")


def test_a_composition_that_training_says_nothing_about_is_warned_of(single: Potential) -> None:
    dioxide = replace(single, composition_span=np.array([[1.0, 2.0]]) / np.sqrt(5.0))
    known = replace(structures()[0], elements=("Ti", "O", "O"), positions=structures()[0].positions[:3])
    foreign = replace(known, elements=("Ti", "Ti", "O"))
    unknown = [
        [
            message
            for message in warnings(prediction).values()
            if "the training compositions do not span this one" in message
        ]
        for prediction in predictions(dioxide, known, foreign)
    ]
    assert [len(texts) for texts in unknown] == [0, 1]
    assert unknown[1][0].startswith("structure0001.xsf: ")
