from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from potentials import everything, nothing
from projects import PARAMETERS, small_project, structures, write_files
from workflow.evaluated import (
    TEST,
    install,
    make_potential,
    named,
    project_to_evaluate,
    relabel,
    residuals,
    split,
)

from tio2nn.errors import InputError, MissingInputError, StaleError, UsageError
from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.parameters.parameter_set import RadialFunction
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE
from tio2nn.project import feature_store as features
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures import zero_forces
from tio2nn.structures.split import read_parts
from tio2nn.structures.structure import Structure
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract

PNGS = ("parity.png", "residuals.png", "energies.png", "distances.png")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """24 structures in several shards, four of them in the test set, and a potential."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 16)
    return project_to_evaluate(tmp_path / "project")


@pytest.fixture
def potential_file(tmp_path: Path) -> Path:
    make_potential().save(tmp_path / "potential.npz")
    return tmp_path / "potential.npz"


def test_the_test_part_is_compared_with_what_the_potential_says(project: Project) -> None:
    summary = evaluate(project)
    potential, tested = Potential.load(project.potential_file), named(*TEST)
    errors = [potential.energy(structure) - structure.energy for structure in tested]
    per_atom = [1000 * error / s.n_atoms for error, s in zip(errors, tested, strict=True)]
    energy = summary.metrics["energy"]
    assert summary.metrics["n_structures"] == 4
    assert summary.metrics["n_atoms"] == sum(structure.n_atoms for structure in tested)
    assert energy["rmse_eV"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert energy["mae_meV_per_atom"] == pytest.approx(np.mean(np.abs(per_atom)))
    rows = residuals(project.evaluation_directory)
    assert tuple(row["structure"] for row in rows) == TEST
    assert [float(row["residual_eV"]) for row in rows] == pytest.approx(errors, abs=1e-6)
    assert [float(row["residual_meV_per_atom"]) for row in rows] == pytest.approx(per_atom, abs=1e-4)
    assert [float(row["energy_eV"]) for row in rows] == [structure.energy for structure in tested]
    assert (summary.rejected, summary.above_max_energy, summary.extrapolating) == ((), 0, 0)


def test_metrics_have_the_documented_keys_and_lie_beside_the_figures(project: Project) -> None:
    summary = evaluate(project)
    assert list(summary.metrics) == [
        "n_structures",
        "n_atoms",
        "energy",
        "by_size",
        "by_energy",
        "by_composition",
        "leakage",
        "baseline",
        "outliers_left_out",
        "potential",
    ]
    assert list(summary.metrics["energy"]) == [
        "rmse_meV_per_atom",
        "mae_meV_per_atom",
        "p95_meV_per_atom",
        "max_meV_per_atom",
        "rmse_eV",
        "mae_eV",
        "mean_residual_eV",
        "standard_error_eV",
        "outlier_fraction",
    ]
    for key in ("by_size", "by_energy", "by_composition"):
        assert sum(entry["n_structures"] for entry in summary.metrics[key]) == 4
    assert json.loads(project.evaluation_metrics_file.read_text(encoding="utf-8")) == summary.metrics
    assert summary.directory == project.evaluation_directory
    assert sorted(path.name for path in summary.paths) == sorted([*PNGS, "metrics.json", "residuals.csv"])
    assert all(path.stat().st_size > 0 for path in summary.paths)


def test_two_evaluations_write_the_same_bytes(project: Project) -> None:
    before = {path: path.read_bytes() for path in evaluate(project).paths}
    assert {path: path.read_bytes() for path in evaluate(project).paths} == before


def test_files_of_the_test_part_give_the_errors_of_the_test_part_in_any_order(
    project: Project, tmp_path: Path
) -> None:
    expected = evaluate(project)
    files = write_files(tmp_path / "files", named(*TEST))
    for sources in (files, files[::-1], [tmp_path / "files"]):
        summary = evaluate(project, sources)
        assert tuple(row["structure"] for row in residuals(summary.directory)) == TEST
        assert summary.metrics["energy"] == pytest.approx(expected.metrics["energy"], abs=1e-3)


def test_names_of_files_can_come_from_a_list(potential_file: Path, tmp_path: Path) -> None:
    files = write_files(tmp_path / "files", named(*TEST))
    lines = [f"{file}\n" for file in files[:3]]
    assert evaluate(None, ["-"], potential_file=potential_file, stdin=lines).metrics["n_structures"] == 3


def test_what_cannot_be_used_is_rejected_with_its_place_and_the_rest_is_evaluated(
    potential_file: Path, tmp_path: Path
) -> None:
    one, two, three = named(*TEST[:3])
    nickel = Structure("nickel", ("Ni",), np.zeros((1, 3)), 3.0 * np.eye(3), energy=-1.0)
    write_files(tmp_path / "files", [one, replace(two, energy=None), three, nickel])
    (tmp_path / "files" / "broken.xsf").write_text("CRYSTAL\nPRIMVEC\n", encoding="utf-8")
    summary = evaluate(None, [tmp_path / "files"], potential_file=potential_file)
    assert summary.metrics["n_structures"] == 2
    assert [Path(error.file or "").name for error in summary.rejected] == [
        "broken.xsf",
        "nickel.xsf",
        f"{two.name}.xsf",
    ]
    assert summary.rejected[2].reason == "expected a comment '# total energy = ... eV', got none"
    assert "Ni" in summary.rejected[1].reason


def test_when_nothing_can_be_used_the_reason_is_the_error(potential_file: Path, tmp_path: Path) -> None:
    unlabeled = [replace(structure, energy=None) for structure in named(*TEST)]
    files = write_files(tmp_path / "files", unlabeled)
    with pytest.raises(
        InputError, match=r"structure0003\.xsf.* expected a comment '# total energy = .* eV', got none$"
    ):
        evaluate(None, files[:1], potential_file=potential_file)
    with pytest.raises(InputError, match=r"got 4 that cannot be used; the first: .*structure0003\.xsf"):
        evaluate(None, files, potential_file=potential_file)


def test_a_diverged_potential_is_an_error_and_no_metric(project: Project) -> None:
    potential = Potential.load(project.potential_file)
    diverged = tuple(
        tuple(tuple(replace(layer, bias=np.array([1.7e308])) for layer in net) for net in member)
        for member in potential.members
    )
    replace(potential, members=diverged).save(project.potential_file)
    with (
        pytest.raises(InputError, match="cannot predict the energy: the result is not finite"),
        np.errstate(over="ignore"),
    ):
        evaluate(project)
    assert not project.evaluation_directory.exists()


def test_without_a_project_results_are_written_only_where_they_are_wanted(
    potential_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = write_files(tmp_path / "files", named(*TEST))
    summary = evaluate(None, files, potential_file=potential_file)
    assert (summary.directory, summary.paths) == (None, ())
    assert list((tmp_path / "here").iterdir()) == []
    summary = evaluate(None, files, potential_file=potential_file, directory=tmp_path / "there")
    assert {path.name for path in (tmp_path / "there").iterdir()} == {path.name for path in summary.paths}
    assert len(summary.paths) == 5


def test_a_potential_and_something_to_evaluate_it_on_are_needed(potential_file: Path) -> None:
    with pytest.raises(UsageError, match="a project or a potential"):
        evaluate(None, ["x.xsf"])
    with pytest.raises(UsageError, match="labeled structures"):
        evaluate(None, potential_file=potential_file)


def test_a_missing_step_names_its_command(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    with pytest.raises(MissingInputError, match=r'run "tio2nn train -C .*" first'):
        evaluate(project)


def test_an_empty_test_part_says_what_to_do(project: Project) -> None:
    split(project, test=())
    install(project)
    with pytest.raises(
        InputError,
        match=r'test set, got none; name labeled files, "tio2nn evaluate -C .* FILE\.\.\.", or draw a test set',
    ):
        evaluate(project)


def test_features_of_other_parameters_are_refused(project: Project) -> None:
    changed = project.parameters().with_overrides(cutoff=4.5)
    project.parameters_file.write_text(changed.to_json(), encoding="utf-8")
    with pytest.raises(StaleError, match=r'run "tio2nn featurize -C .*" again'):
        evaluate(project)


@pytest.mark.parametrize("what", ["energies", "split"])
def test_a_potential_of_other_inputs_is_refused(project: Project, what: str) -> None:
    if what == "energies":
        relabel(project, lambda structure: replace(structure, energy=(structure.energy or 0.0) + 1.0))
    else:
        split(project, test=("structure0001", "structure0002"))
    with pytest.raises(
        StaleError, match=f'trained on the current {what}, .*; run "tio2nn train -C .*" again'
    ):
        evaluate(project)


def test_a_split_of_structures_that_are_gone_is_refused(project: Project, potential_file: Path) -> None:
    relabel(project, lambda structure: replace(structure, name=f"new-{structure.name}"))
    with pytest.raises(StaleError, match=r"the split in .* was made for other structures; run"):
        evaluate(project, potential_file=potential_file)


def test_another_potential_with_other_functions_is_evaluated_on_the_test_part(
    project: Project, tmp_path: Path
) -> None:
    other = make_potential(PARAMETERS.with_overrides(radial=(RadialFunction(0.3),), angular=()))
    other.save(tmp_path / "other.npz")
    evaluate(project, potential_file=tmp_path / "other.npz")
    predicted = [float(row["predicted_eV"]) for row in residuals(project.other_evaluation_directory)]
    assert predicted == pytest.approx([other.energy(structure) for structure in named(*TEST)], abs=1e-9)


def test_given_structures_leave_the_result_of_the_test_part_alone(project: Project, tmp_path: Path) -> None:
    evaluate(project)
    before = {path.name: path.read_bytes() for path in project.evaluation_directory.iterdir()}
    summary = evaluate(project, write_files(tmp_path / "files", structures()[:3]))
    assert summary.directory == project.other_evaluation_directory
    assert len(residuals(project.other_evaluation_directory)) == 3
    assert {p.name: p.read_bytes() for p in project.evaluation_directory.iterdir() if p.is_file()} == before


def test_given_structures_of_the_training_set_are_counted(project: Project, tmp_path: Path) -> None:
    files = write_files(tmp_path / "files", structures())
    extract(project, files)
    training = {name for name, part in read_parts(project.split_file).items() if part == "train"}
    expected = len({"structure0001", "structure0002", "structure0003"} & training)
    assert evaluate(project, files[:3]).trained_on == expected > 0


def test_structures_above_the_max_energy_of_training_are_left_out_of_the_test_part(project: Project) -> None:
    store = read_store(project.structures_file)
    cohesive = [store.cohesive_energies[store.names.index(name)] for name in TEST]
    limit = float(sorted(cohesive)[2])
    trained = PARAMETERS.with_overrides(training={"max_energy": limit})
    install(project, parameters=trained)
    summary = evaluate(project)
    assert (summary.metrics["n_structures"], summary.above_max_energy) == (3, 1)
    install(project, parameters=PARAMETERS.with_overrides(training={"max_energy": min(cohesive) - 1.0}))
    with pytest.raises(InputError, match="got none up to the max_energy of"):
        evaluate(project)


def test_composition_spread_and_extrapolation_stand_in_the_table(project: Project, tmp_path: Path) -> None:
    committee = make_potential(members=3)
    # training saw no Ti like these, and every O
    n = PARAMETERS.n_features
    seen = (nothing(n), everything(n))
    replace(committee, training_atoms=seen, composition_span=np.array([[1.0, 0.0]])).save(
        tmp_path / "committee.npz"
    )
    summary = evaluate(project, potential_file=tmp_path / "committee.npz")
    tested, rows = named(*TEST), residuals(project.other_evaluation_directory)
    assert [int(row["n_extrapolating"]) for row in rows] == [s.composition["Ti"] for s in tested]
    assert all(float(row["largest_distance"]) > EXTRAPOLATION_DISTANCE for row in rows)
    assert (summary.extrapolating, summary.foreign_compositions) == (4, 4)
    spreads = [1000 * (p.spread or 0.0) for p in committee.predict(tested)]
    assert [float(row["spread_meV_per_atom"]) for row in rows] == pytest.approx(spreads, abs=1e-4)
    formulas = [
        "".join(f"{e}{'' if s.composition[e] == 1 else s.composition[e]}" for e in ("Ti", "O"))
        for s in tested
    ]
    assert [row["composition"] for row in rows] == formulas


def test_a_single_network_has_no_spread(project: Project) -> None:
    evaluate(project)
    assert {row["spread_meV_per_atom"] for row in residuals(project.evaluation_directory)} == {""}


def test_compositions_are_grouped_by_their_reduced_formula(potential_file: Path, tmp_path: Path) -> None:
    def oxide(name: str, elements: tuple[str, ...]) -> Structure:
        positions = np.arange(3.0 * len(elements)).reshape(-1, 3)
        return Structure(name, elements, positions, 20.0 * np.eye(3), energy=-1.0)

    files = write_files(
        tmp_path / "files",
        [oxide("a", ("O", "Ti", "O")), oxide("b", ("Ti", "Ti", *"OOOO")), oxide("c", ("Ti", "O"))],
    )
    by_composition = evaluate(None, files, potential_file=potential_file).metrics["by_composition"]
    assert [(entry["composition"], entry["n_structures"]) for entry in by_composition] == [
        ("TiO2", 2),
        ("TiO", 1),
    ]


def test_structures_of_one_name_are_told_apart_by_their_file(potential_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_files(tmp_path / folder, named("structure0003"))
    sources = [tmp_path / "b", tmp_path / "a"]
    evaluate(None, sources, potential_file=potential_file, directory=tmp_path / "results")
    rows = residuals(tmp_path / "results")
    assert [row["structure"] for row in rows] == ["structure0003"] * 2
    assert [Path(row["file"]).parent.name for row in rows] == ["a", "b"]


def test_the_energies_of_the_whole_data_set_are_drawn_with_the_reference_energies_of_the_potential(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("tio2nn.evaluation.plots.plot_energies", lambda *arguments: drawn.append(arguments))
    install(project, reference_energies={"Ti": -1000.0, "O": -100.0})
    evaluate(project)
    ((evaluated, _, data_set),) = drawn

    def cohesive(structure: Structure) -> float:
        reference = 1000.0 * structure.composition["Ti"] + 100.0 * structure.composition["O"]
        return ((structure.energy or 0.0) + reference) / structure.n_atoms

    np.testing.assert_allclose(data_set, [cohesive(structure) for structure in structures()])
    np.testing.assert_allclose(evaluated, [cohesive(structure) for structure in named(*TEST)])


def test_evaluating_loads_neither_keras_nor_pandas_and_no_plots_before_it_draws() -> None:
    heavy = ("tensorflow", "keras", "pandas", "matplotlib")
    code = f"import sys, tio2nn.workflow.evaluate; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("n", "are_missing"), [(4, False), (6, True)])
def test_zeros_in_place_of_forces_are_taken_as_missing_as_by_extract(
    project: Project, tmp_path: Path, n: int, are_missing: bool
) -> None:
    install(project)
    zero = [replace(s, forces=np.zeros((s.n_atoms, 3))) for s in structures()[:n]]
    (tmp_path / "a.xyz").write_text("".join(exact_extxyz(s, {}) for s in zero), encoding="utf-8")
    summary = evaluate(project, [str(tmp_path / "a.xyz")])
    told = [line for line in summary.remarks if "are exactly zero" in line]
    assert told == [zero_forces.message(n)] * are_missing
    assert ("forces" in summary.metrics) == (not are_missing)
