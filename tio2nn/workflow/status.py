"""The command status: what a project holds, what is stale, what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.tables import count_rows, read_json
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.derivatives import fresh_layout
from tio2nn.project.facts import needs_derivatives
from tio2nn.project.feature_store import Manifest, digest_of
from tio2nn.project.jacobian_store import open_jacobian
from tio2nn.project.project import Project
from tio2nn.project.provenance import changed, changed_data, digest_of_file, inputs_of_model
from tio2nn.project.structure_store import StructureStore, read_store
from tio2nn.structures.split import read_parts
from tio2nn.wording import counted, size

# what a file that is no longer as it was written makes of itself
_UNUSABLE = (InputError, ValueError, KeyError, TypeError, OverflowError)

FRESH, STALE, MISSING, BROKEN = "there", "stale", "missing", "broken"


@dataclass(frozen=True)
class Part:
    """One part of a project.

    Attributes:
        name: as people call it.
        command: that makes it.
        state: "there", "stale", "missing" or "broken".
        what: one line of content, or the reason.
    """

    name: str
    command: str
    state: str
    what: str


@dataclass(frozen=True)
class Status:
    """All parts of a project in the order in which they are made; `advice` is what to run next."""

    root: Path
    parts: tuple[Part, ...]
    advice: str

    def rows(self) -> list[tuple[str, str, str]]:
        return [(part.name, part.state, part.what) for part in self.parts]

    def as_dict(self) -> dict[str, Any]:
        return {"root": str(self.root), "parts": [asdict(part) for part in self.parts], "advice": self.advice}


def status(project: Project) -> Status:
    """Look at a project without changing it.

    Raises:
        InputError: params.json is not a parameter set.
    """
    parameters = project.parameters_or_draft()
    if isinstance(parameters, Draft):
        return _of_draft(project, parameters)
    parts = [
        Part(
            "parameters",
            "init",
            FRESH,
            f"{counted(parameters.n_features, 'function')} for {', '.join(parameters.elements)}",
        )
    ]
    structures, store = _structures(project)
    parts.append(structures)
    parts.append(_features(project, parameters, store))
    model = _model(project, parameters, store)
    derivatives = _derivatives(project, parameters, store)
    # a model that does without them was made so on purpose, for nobody insists on forces
    done_without = model.state == FRESH and parameters.training.forces == "auto"
    if derivatives is not None and not (derivatives.state == MISSING and done_without):
        parts.append(derivatives)
    if (tuning := _tuning(project, parameters, store)) is not None:
        parts.append(tuning)
    parts += [model, _evaluation(project, model)]
    return Status(project.root, tuple(parts), _advice(project, parts))


def _of_draft(project: Project, draft: Draft) -> Status:
    """Whatever lies there, it does not belong to functions that are not chosen yet."""
    elements = f" for {', '.join(draft.elements)}" if draft.elements is not None else ""
    what = f'"preset": "auto": extract chooses the functions{elements}'
    parts = [Part("parameters", "extract", MISSING, what), _structures(project)[0]]
    later = (("features", "featurize"), ("model", "train"), ("evaluation", "evaluate"))
    parts += [Part(name, command, MISSING, "") for name, command in later]
    return Status(project.root, tuple(parts), _advice(project, parts))


def _advice(project: Project, parts: Sequence[Part]) -> str:
    """What to run next."""
    # a search is a matter of choice: one that is stale need not be repeated
    todo = [part for part in parts if part.state != FRESH and (part.name, part.state) != ("tuning", STALE)]
    at = project.as_option()
    if not todo:
        return f"nothing to do; tio2nn predict{at} FILE... predicts structures"
    verb, *options = todo[0].command.split()
    words = [*options, *(["SOURCE..."] if verb == "extract" else [])]
    return f"next: tio2nn {verb}{at}{''.join(f' {word}' for word in words)}"


def _structures(project: Project) -> tuple[Part, StructureStore | None]:
    if not project.structures_file.exists():
        return Part("structures", "extract", MISSING, ""), None
    try:
        store = read_store(project.structures_file)
        rejected = count_rows(project.rejected_file) if project.rejected_file.exists() else 0
    except InputError as error:
        return Part("structures", "extract", BROKEN, str(error)), None
    what = f"{counted(len(store), 'structure')}, {counted(int(store.n_atoms.sum()), 'atom')}, "
    what += f"{counted(rejected, 'file')} rejected"
    return Part("structures", "extract", FRESH, what), store


def _features(project: Project, parameters: ParameterSet, store: StructureStore | None) -> Part:
    name, command = "features", "featurize"
    if not project.features_manifest.exists():
        shards = len(list(project.features_directory.glob("shard-*.npz")))
        what = f"interrupted, {counted(shards, 'shard is', 'shards are')} there" if shards else ""
        return Part(name, command, MISSING, what)
    try:
        manifest = Manifest.read(project.features_manifest)
        if store is not None:
            project.check_fresh(asdict(manifest), parameters.fingerprint, digest_of(store.geometry_hashes))
    except InputError as error:
        return Part(name, command, STALE, str(error))
    lost = [s.file for s in manifest.shards if not (project.features_directory / s.file).exists()]
    if lost:
        return Part(name, command, BROKEN, f"{len(lost)} of {len(manifest.shards)} shards are missing")
    n_atoms = sum(shard.n_atoms for shard in manifest.shards)
    return Part(
        name,
        command,
        FRESH,
        f"{counted(n_atoms, 'atom')} × {counted(len(manifest.feature_names), 'function')}",
    )


def _derivatives(project: Project, parameters: ParameterSet, store: StructureStore | None) -> Part | None:
    """None where there are none and the training will need none."""
    name, command = "derivatives", "featurize --forces"
    if not project.jacobian_table.exists():
        will_be_needed = store is not None and needs_derivatives(parameters, store)
        return Part(name, command, MISSING, "") if will_be_needed else None
    if store is None:
        return Part(name, command, FRESH, "")
    try:
        layout = fresh_layout(project, parameters, store)
    except InputError as error:
        return Part(name, command, STALE, str(error))
    try:
        open_jacobian(project.features_directory, layout)
    except InputError as error:
        return Part(name, command, BROKEN, str(error))
    n_structures = int(layout.has_derivatives(store.has_forces).sum())
    chosen = "" if layout.selection is None else f" of {int(store.has_forces.sum())} with forces"
    return Part(
        name,
        command,
        FRESH,
        f"of {counted(n_structures, 'structure')}{chosen}, {size(layout.n_bytes)}",
    )


def _tuning(project: Project, parameters: ParameterSet, store: StructureStore | None) -> Part | None:
    if not project.trials_file.exists():
        return None
    try:
        trials = count_rows(project.trials_file)
    except InputError as error:
        return Part("tuning", "tune", BROKEN, str(error))
    if project.best_trial_file.exists():
        try:
            best = read_json(project.best_trial_file)
            recorded = dict(best["inputs"])
        except _UNUSABLE as error:
            return Part("tuning", "tune", BROKEN, _told(project.best_trial_file, error))
        if store is not None:
            differences = changed(recorded, inputs_of_model(parameters, store, project.split_file))
            on_forces = best.get("validation_force_rmse_eV_per_A") is not None
            searched_on = ("features", "energies", "forces") if on_forces else ("features", "energies")
            if stale := [difference for difference in differences if difference in searched_on]:
                return Part(
                    "tuning", "tune", STALE, f"{counted(trials, 'trial')}; with other {' and '.join(stale)}"
                )
        return Part("tuning", "tune", FRESH, counted(trials, "trial"))
    return Part("tuning", "tune", MISSING, f"interrupted after {counted(trials, 'trial')}")


def _model(project: Project, parameters: ParameterSet, store: StructureStore | None) -> Part:
    name, command = "model", "train"
    if not project.potential_file.exists() or not project.training_metrics_file.exists():
        interrupted = any(project.model_directory.glob("checkpoint-*.npz"))
        return Part(name, command, MISSING, "interrupted; train goes on where it was" if interrupted else "")
    try:
        about = read_json(project.training_metrics_file)
        recorded, rmse = dict(about["inputs"]), about["validation_rmse_meV_per_atom"]
        judged = "not validated" if rmse is None else f"validation RMSE {float(rmse):.2f} meV/atom"
        what = f"{int(about['members'])} × network, {judged}"
    except _UNUSABLE as error:
        return Part(name, command, BROKEN, _told(project.training_metrics_file, error))
    now = None if store is None else inputs_of_model(parameters, store, project.split_file)
    if now is not None and (stale := changed_data(recorded, now)):
        return Part(name, command, STALE, f"{what}; trained on other {' and '.join(stale)}")
    return Part(name, command, FRESH, what)


def _evaluation(project: Project, model: Part) -> Part:
    name, command = "evaluation", "evaluate"
    file = project.evaluation_metrics_file
    if _has_no_test(project):
        return Part(name, command, FRESH, "none: the split keeps no structures for a test")
    if not file.exists():
        return Part(name, command, MISSING, "")
    try:
        metrics = read_json(file)
        energy = metrics["energy"]
        what = (
            f"{counted(int(metrics['n_structures']), 'structure')}, RMSE {energy['rmse_meV_per_atom']:.2f}, "
            f"MAE {energy['mae_meV_per_atom']:.2f} meV/atom"
        )
    except _UNUSABLE as error:
        return Part(name, command, BROKEN, _told(file, error))
    if model.state != FRESH:
        return Part(name, command, STALE, f"{what}; of a model that is {model.state}")
    if metrics.get("potential") != digest_of_file(project.potential_file):
        return Part(name, command, STALE, f"{what}; of an earlier model")
    return Part(name, command, FRESH, what)


def _told(file: Path, error: Exception) -> str:
    return (
        str(error) if isinstance(error, InputError) else f"{file}: expected what tio2nn writes, got {error!r}"
    )


def _has_no_test(project: Project) -> bool:
    try:
        return project.split_file.exists() and "test" not in read_parts(project.split_file).values()
    except InputError:
        return False  # train tells what is wrong with it
