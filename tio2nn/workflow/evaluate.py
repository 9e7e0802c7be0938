"""The verb evaluate: errors of predicted energies and forces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError, StaleError, UsageError
from tio2nn.evaluation.baseline import Comparison
from tio2nn.evaluation.leakage import fingerprints_of, nearest_in_training
from tio2nn.evaluation.report import write_report
from tio2nn.evaluation.residuals import Evaluated, Nearest, ResidualTable, evaluated
from tio2nn.evaluation.shear_order import OtherOrder
from tio2nn.files.digests import digest_of_file
from tio2nn.files.paths import AnyPath
from tio2nn.io.labels import ReadOptions, Remarks
from tio2nn.io.read import read_structures
from tio2nn.parallel.progress import Track, silent
from tio2nn.parallel.remote import RemotePool
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.project.feature_store import Manifest, StoredFeatures
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FEATURES, FRESH, SPLIT
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures import zero_forces
from tio2nn.structures.names import natural_key
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.split import LEFT_OUT, Split, read_parts
from tio2nn.training.splits import why_no_test
from tio2nn.wording import listed
from tio2nn.workflow.predict import predict_stream


@dataclass(frozen=True)
class EvaluationSummary:
    """Result of an evaluation.

    Attributes:
        metrics: the content of `metrics.json`.
        rejected: structures and files that could not be evaluated, in the order of the input.
        above_max_energy: number of test structures left out because of the potential's `max_energy`.
        outliers_left_out: number of test structures that training left out as gross outliers.
        comparison: comparison with reference energies alone and zero forces.
        facts: facts about the training that the potential records.
        extrapolating: number of evaluated structures with an atom far from all training atoms.
        foreign_compositions: number of evaluated structures whose composition is not a linear combination of the
            training compositions, so that training left a part of their total energy undetermined.
        directory: directory of the results, or None.
        paths: the files written.
        remarks: on labels that were ignored, one line each.
        trained_on: number of given structures with the geometry of a training structure.
        n_groups: number of groups of related structures in the project; 0 if unknown.
        other_orders: kinds of structures whose stresses fit much better in another order.
        table: the evaluated structures, one by one.
        data_set: (n_all,) cohesive energies of the project's structures, eV/atom; None if unknown.
        potential_file: the potential.
    """

    metrics: dict[str, Any]
    rejected: tuple[InputError, ...]
    above_max_energy: int
    outliers_left_out: int
    comparison: Comparison
    facts: dict[str, Any]
    extrapolating: int
    foreign_compositions: int
    directory: Path | None
    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()
    trained_on: int = 0
    n_groups: int = 0
    other_orders: tuple[OtherOrder, ...] = ()
    table: ResidualTable | None = None
    data_set: FloatArray | None = None
    potential_file: Path | None = None


def evaluate(
    project: Project | Snapshot | AnyPath | None,
    sources: AnyPath | Sequence[AnyPath] = (),
    *,
    potential_file: AnyPath | None = None,
    directory: AnyPath | None = None,
    stdin: Iterable[str] | None = None,
    options: ReadOptions | None = None,
    workers: RemotePool | None = None,
    track: Track = silent,
) -> EvaluationSummary:
    """Compare predicted with true energies, forces and stresses, on the test set of a project or on labeled structures.

    The order of the sources has no effect. Structures above the `max_energy` of the training, and those that it left
    out as gross outliers, are removed from the test set, but not from the sources.

    Args:
        project: project, or its directory, with the test set, the potential, and the data set whose energies are
            plotted; or None.
        sources: as for `tio2nn.io.read.read_structures`; empty for the test set.
        potential_file: a potential other than that of the project.
        directory: directory for the results; by default `evaluation` in the project, or `evaluation/other` for given
            sources or another potential; without a project, nothing is written.
        stdin: lines to read for the source "-".
        options: how to read structure files.
        workers: other machines to predict on; energies from stored features are computed here.
        track: reports progress, one step per structure.

    Raises:
        UsageError: there is no project, and the potential or the sources are missing.
        MissingInputError: a part of the project is missing; the message names the command that makes it.
        StaleError: features or potential are out of date.
        InputError: the potential cannot be read, the test set is empty, or no structure can be evaluated.
    """
    snapshot = None if project is None else Snapshot.of(project)
    project = None if snapshot is None else snapshot.project
    its_own = potential_file is None
    if potential_file is None:
        if project is None:
            raise UsageError("expected a project or a potential, got neither")
        potential_file = project.existing_file(project.potential_file)
    potential_file, directory = Path(potential_file), None if directory is None else Path(directory)
    potential = Potential.load(potential_file)
    if sources:
        reading = _as_trained(options or ReadOptions(), snapshot if its_own else None)
        items = read_structures(sources, stdin=stdin, options=reading, errors="yield")
        training = _training_geometries(snapshot) if snapshot is not None and its_own else frozenset()
        part = _Part(predict_stream(potential, items, forces=True, workers=workers), training=training)
    elif snapshot is not None:
        part = _test_part(snapshot, potential, its_own=its_own, workers=workers)
    else:
        raise UsageError("expected labeled structures or a project with a test set, got neither")
    remarks = Remarks()
    table, rejected, trained_on = _collect(part, potential, remarks, track)
    facts = dict(potential.about.get("baseline", {}))
    comparison = _compared(table, facts.get("reference_energies_eV", potential.reference_energies))
    metrics = table.metrics() | {
        "baseline": comparison.as_dict(),
        "outliers_left_out": part.outliers_left_out,
        "potential": digest_of_file(potential_file),
    }
    paths: tuple[Path, ...] = ()
    if directory is None and project is not None:
        directory = (
            project.evaluation_directory if its_own and not sources else project.other_evaluation_directory
        )
    data_set = None if snapshot is None else _data_set_energies(snapshot, potential)
    if directory is not None:
        paths = write_report(directory, table, metrics, data_set)
    return EvaluationSummary(
        metrics=metrics,
        rejected=rejected,
        above_max_energy=part.above_max_energy,
        outliers_left_out=part.outliers_left_out,
        comparison=comparison,
        facts=facts,
        extrapolating=sum(row.n_extrapolating > 0 for row in table.rows),
        foreign_compositions=sum(not row.composition_is_known for row in table.rows),
        directory=directory,
        paths=paths,
        remarks=remarks.lines(),
        trained_on=trained_on,
        n_groups=part.n_groups,
        other_orders=tuple(table.other_orders),
        table=table,
        data_set=data_set,
        potential_file=potential_file,
    )


class _Part(NamedTuple):
    """Predictions to evaluate, or errors in their place.

    Attributes:
        n_structures: 0 if unknown.
        above_max_energy, outliers_left_out: as in `EvaluationSummary`.
        nearest: nearest training structure of each structure by name, if known.
        training: geometry hashes of training structures that may be among those to evaluate.
        n_groups: number of groups of related structures in the project; 0 if unknown.
    """

    results: Iterator[Prediction | InputError]
    n_structures: int = 0
    above_max_energy: int = 0
    outliers_left_out: int = 0
    nearest: Mapping[str, Nearest] = MappingProxyType({})
    training: frozenset[str] = frozenset()
    n_groups: int = 0


def _as_trained(options: ReadOptions, snapshot: Snapshot | None) -> ReadOptions:
    """Read the energies that the structures of the project have, unless others are asked for."""
    if options.energy != "auto" or snapshot is None or not snapshot.has_structures:
        return options
    label = snapshot.stored.label_notes.label
    return replace(options, energy=label) if label == "free_energy" else options


def _training_geometries(snapshot: Snapshot) -> frozenset[str]:
    """Geometry hashes of the training structures; none if the project lacks structures or a split."""
    project = snapshot.project
    if not (project.split_file.exists() and project.structures_file.exists()):
        return frozenset()
    parts, store = read_parts(project.split_file), snapshot.stored
    return frozenset(
        geometry
        for name, geometry in zip(store.names, store.geometry_hashes, strict=True)
        if parts.get(name) == "train"
    )


def _test_part(
    snapshot: Snapshot, potential: Potential, *, its_own: bool, workers: RemotePool | None
) -> _Part:
    """Predictions for the test set of a project; its own potential must be up to date."""
    project, store = snapshot.project, snapshot.stored
    snapshot.require(SPLIT)
    parts = read_parts(project.split_file)
    features = _features_for(snapshot, potential, its_own=its_own)
    split = Split(store.names, tuple([parts.get(name, LEFT_OUT) for name in store.names]))
    max_energy = potential.parameters.training.max_energy
    # potentials of earlier versions, which left none out, lack the entry
    left_out = set(potential.about.get("outliers_left_out", ()))
    sound = split.restricted_to(np.array([name not in left_out for name in store.names], dtype=np.bool_))
    low = sound.restricted_to(store.are_up_to(max_energy))
    n_test, n_sound, chosen = len(split.indices("test")), len(sound.indices("test")), low.indices("test")
    if not len(chosen):
        got = f"none up to the max_energy of {max_energy} eV/atom" if n_sound else "none"
        got = f"{n_test} gross outliers" if n_test and not n_sound else got
        files = f'name labeled files, "{project.command("evaluate")} FILE..."'
        why = "" if n_test else why_no_test(potential.parameters, store)
        advice = (
            f": {why}, or {files}"
            if why
            else f'; {files}, or draw a test set, "{project.command("train --new-split")}"'
        )
        raise InputError(
            f"expected structures in the test set, got {got}{advice}", file=str(project.split_file)
        )
    # with forces comes the stress
    with_spread = bool(store.has_forces[chosen].any())
    has_forces = with_spread or bool(store.has_stress[chosen].any())
    structures = (store[k] for k in chosen.tolist())
    if features is None or has_forces:
        results = predict_stream(
            potential, structures, forces=has_forces, forces_spread=with_spread, workers=workers
        )
    else:
        results = map(potential.predict_features, structures, features.of_structures(chosen, store.offsets))
    nearest = {}
    if features is not None and its_own:
        nearest = _nearest(store, features, potential, chosen, low.indices("train"))
    return _Part(
        results,
        n_structures=len(chosen),
        above_max_energy=n_sound - len(chosen),
        outliers_left_out=n_test - n_sound,
        nearest=nearest,
        n_groups=len(set(store.groups)),
    )


def _features_for(snapshot: Snapshot, potential: Potential, *, its_own: bool) -> StoredFeatures | None:
    """The features of the project; None if another potential needs different ones."""
    project = snapshot.project
    if its_own:
        manifest = snapshot.features()
        _require_of_today(snapshot, potential)
    elif snapshot.seen_by(potential.parameters).state(FEATURES).kind == FRESH:
        manifest = Manifest.read(project.features_manifest)
    else:
        return None
    return StoredFeatures(project.features_directory, manifest)


def _nearest(
    store: StructureStore,
    features: StoredFeatures,
    potential: Potential,
    test: NDArray[np.int64],
    training: NDArray[np.int64],
) -> dict[str, Nearest]:
    """The nearest training structure of each test structure."""
    elements = potential.elements
    whitenings = [potential.whitenings[potential.subnet_of[element]] for element in elements]
    of_test, of_training = fingerprints_of(
        (test, training), features, store.element_indices(elements), store.n_atoms, whitenings
    )
    found = nearest_in_training(
        of_test,
        of_training,
        [store.names[k] for k in training],
        [store.groups[k] for k in test],
        [store.groups[k] for k in training],
    )
    return {store.names[k]: nearest for k, nearest in zip(test.tolist(), found, strict=True)}


def _require_of_today(snapshot: Snapshot, potential: Potential) -> None:
    """Raise StaleError if the potential was trained on inputs that have changed since."""
    others = snapshot.changed_since(potential.about.get("inputs", {}))
    if others:
        project = snapshot.project
        expected = f"expected a potential trained on the current {listed(others)}, got an older one"
        raise StaleError(
            f'{expected}; run "{project.command("train")}" again', file=str(project.potential_file)
        )


def _compared(table: ResidualTable, reference_energies: Mapping[str, float]) -> Comparison:
    """Compare with reference energies alone and with zero forces."""
    known = replace(table, reference_energies=dict(reference_energies))
    forces = table.forces
    return Comparison(
        _rms(table.residuals_per_atom),
        1000.0 * _rms(known.cohesive),
        None if forces is None else _rms(forces.predicted - forces.true),
        None if forces is None else _rms(forces.true),
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _collect(
    part: _Part, potential: Potential, remarks: Remarks, track: Track
) -> tuple[ResidualTable, tuple[InputError, ...], int]:
    """Collect the numbers and discard the structures, so that archives of any size fit into memory.

    Returns:
        The table, what cannot be evaluated, and the number of training structures.
    """
    rows: list[Evaluated] = []
    n_trained_on = 0
    with_placeholders: list[tuple[int, dict[str, int], float | None]] = []  # places of rows, atoms, energies
    above = zero_forces.Above()
    rejected: list[InputError] = []
    with track("evaluating structures", part.n_structures) as advance:
        for result in part.results:
            if not isinstance(result, InputError):
                remarks.add(result.structure)
                n_trained_on += bool(part.training) and result.structure.geometry_hash in part.training
            row = (
                result
                if isinstance(result, InputError)
                else evaluated(result, potential.elements, part.nearest)
            )
            if isinstance(row, InputError):
                rejected.append(row)
            else:
                if not isinstance(result, InputError):
                    structure = result.structure
                    above.add(structure)
                    if zero_forces.is_placeholder(structure):
                        with_placeholders.append((len(rows), structure.composition, structure.energy))
                rows.append(row)
            advance(1)
    if not rows:
        if len(rejected) == 1:
            raise rejected[0]
        got = f"{len(rejected)} that cannot be used; the first: {rejected[0]}" if rejected else "none"
        raise InputError(f"expected structures to evaluate, got {got}")
    unknown = [k for k, atoms, energy in with_placeholders if not above.are_relaxed(atoms, energy)]
    if len(unknown) >= zero_forces.FEWEST:
        for k in unknown:
            rows[k] = rows[k]._replace(forces=None)
        remarks.add_line(zero_forces.message(len(unknown)))
    rows.sort(key=lambda row: (natural_key(row.name), natural_key(row.file)))
    table = ResidualTable(tuple(rows), potential.elements, potential.reference_energies)
    return table, tuple(rejected), n_trained_on


def _data_set_energies(snapshot: Snapshot, potential: Potential) -> FloatArray | None:
    """(n_all,) cohesive energies of the project's structures, eV/atom; None if the potential lacks an element."""
    if not snapshot.project.structures_file.exists():
        return None
    store = snapshot.stored
    if not set(store.elements) <= set(potential.elements):
        return None
    elements = potential.elements
    reference = ReferenceEnergies.given(
        {element: potential.reference_energies[element] for element in elements}
    )
    return reference.cohesive(store.compositions(elements), store.energies)
