"""The report of an evaluation: one page with its errors, figures, data, settings and provenance."""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from tio2nn.errors import UsageError
from tio2nn.evaluation.html_report import Page, Table, write_html
from tio2nn.evaluation.report_pictures import pictures_of
from tio2nn.evaluation.report_tables import error_tables, number
from tio2nn.files.paths import AnyPath
from tio2nn.io.source_names import printable
from tio2nn.potential.potential import Potential
from tio2nn.project.commands import kept_command
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FEATURES, STRUCTURES
from tio2nn.project.project import Project
from tio2nn.project.provenance import versions
from tio2nn.structures.audit import audit
from tio2nn.structures.force_audit import ForceAudit
from tio2nn.structures.stress_audit import StressAudit
from tio2nn.wording import counted
from tio2nn.workflow.evaluate import EvaluationSummary
from tio2nn.workflow.extract import reference_energies_of

REPORT = "report.html"
SUFFIX = ".html"
_MOST_REASONS = 10  # rejected files or structures shown
_MOST_FOLDERS = 5  # of structure files


def report_file(file: AnyPath | None, directory: Path | None) -> Path:
    """Where a report goes.

    Args:
        file: where the user wants it, or None.
        directory: of the results of the evaluation; None without a project.

    Raises:
        UsageError: no file is named, or the name is that of something else, such as a structure file.
    """
    if file is None:
        if directory is None:
            raise UsageError(f"expected --report FILE{SUFFIX} where there is no project, got no file")
        return directory / REPORT
    if Path(file).suffix.lower() != SUFFIX:
        raise UsageError(f"--report: expected a file named *{SUFFIX}, got {os.fspath(file)!r}")
    return Path(file)


def write_report(
    summary: EvaluationSummary,
    file: AnyPath | None = None,
    *,
    project: Project | Snapshot | AnyPath | None = None,
    command: Sequence[str] = (),
) -> Path:
    """Write the report of an evaluation as HTML that needs nothing else.

    Args:
        summary: the evaluation.
        file: named `*.html`; by default `report.html` beside its results.
        project: as for the evaluation.
        command: the command line that made the evaluation, to show.

    Returns:
        The file.

    Raises:
        UsageError: no file, or one of another kind.
        OSError: it cannot be written.
    """
    path = report_file(file, summary.directory)
    snapshot = None if project is None else Snapshot.of(project)
    write_html(page_of(summary, snapshot, command), path)
    return path


def page_of(summary: EvaluationSummary, snapshot: Snapshot | None, command: Sequence[str] = ()) -> Page:
    """What the report says."""
    if summary.table is None or summary.potential_file is None:
        raise ValueError("summary: expected that of an evaluation, got one without its table")
    metrics, potential = summary.metrics, Potential.load(summary.potential_file)
    its_own = snapshot is not None and summary.potential_file == snapshot.project.potential_file
    history = snapshot.project.history_file if snapshot is not None and its_own else None
    name = (
        snapshot.project.root.absolute().name if snapshot is not None else Path(summary.potential_file).name
    )
    return Page(
        title=f"Evaluation of {printable(name)}",
        summary=_sentences(summary, potential),
        warnings=_warnings(summary),
        errors=error_tables(metrics, summary.comparison, summary.table),
        pictures=pictures_of(
            summary.table,
            metrics,
            summary.data_set,
            history if history is not None and history.exists() else None,
        ),
        audit=[] if snapshot is None or not snapshot.have_weights else _audit(snapshot),
        settings=[_settings(potential)],
        parameters=potential.parameters.to_json(),
        provenance=[_versions(potential), _digests(summary, potential)],
        commands=_commands(summary, snapshot if its_own else None, potential, command),
    )


def _sentences(summary: EvaluationSummary, potential: Potential) -> list[str]:
    metrics, energy = summary.metrics, summary.metrics["energy"]
    errors = f"RMSE {number(energy['rmse_meV_per_atom'])} meV/atom, MAE {number(energy['mae_meV_per_atom'])} meV/atom"
    if "forces" in metrics:
        errors += f", RMSE of force components {number(metrics['forces']['rmse_eV_per_A'])} eV/Å"
    what = f"{', '.join(potential.elements)}; {counted(len(potential.members), 'network')}"
    on = f"{counted(metrics['n_structures'], 'structure')} with {counted(metrics['n_atoms'], 'atom')}"
    sentences = [f"{what}; {on}.", f"{errors}."]
    stress = metrics.get("stress")
    if stress is not None and stress["n_structures"] < metrics["n_structures"]:
        have = counted(stress["n_structures"], "structure has", "structures have")
        sentences.append(f"{have} a stress to compare with.")
    if better := summary.comparison.sentence():
        sentences.append(f"{better[0].upper()}{better[1:]}.")
    return sentences


def _warnings(summary: EvaluationSummary) -> list[str]:
    mostly_far = 2 * summary.extrapolating > summary.metrics["n_structures"]
    warning = summary.comparison.warning(summary.facts, mostly_far=mostly_far)
    found = [] if warning is None else [f"{warning[0].upper()}{warning[1:]}."]
    for n, one, many in (
        (
            summary.trained_on,
            "structure is in the training set of this potential: its error says nothing about new ones.",
            "structures are in the training set of this potential: their errors say nothing about new ones.",
        ),
        (
            summary.extrapolating,
            "structure has atoms far from all training atoms.",
            "structures have atoms far from all training atoms.",
        ),
        (
            summary.foreign_compositions,
            "structure has a composition unlike those in training: its total energy may be off.",
            "structures have compositions unlike those in training: their total energies may be off.",
        ),
        (
            summary.outliers_left_out,
            "gross outlier is left out, as in training.",
            "gross outliers are left out, as in training.",
        ),
        (
            summary.above_max_energy,
            "structure above max_energy is left out.",
            "structures above max_energy are left out.",
        ),
        (
            len(summary.rejected),
            "file or structure could not be used.",
            "files or structures could not be used.",
        ),
    ):
        if n:
            found.append(counted(n, one, many))
    return [*found, *summary.remarks]


def _audit(snapshot: Snapshot) -> list[Table]:
    """What `extract` says about the data set."""
    project, store = snapshot.project, snapshot.structures
    structures = list(store)
    parameters = project.parameters_or_draft() if project.parameters_file.exists() else None
    findings = audit(structures, reference_energies_of(structures, parameters))
    facts = findings.facts()
    forces = ForceAudit.of(structures, findings.groups)
    facts += [("warning", line) for line in forces.messages]
    if (stresses := StressAudit.of(structures, forces_agree=forces.agree)) is not None:
        facts += [("stresses", stresses.fact()), *(("warning", line) for line in stresses.messages())]
    label = store.label_notes.label
    facts.append(("energy learned", label.replace("_", " ")))
    tables = [Table("Audit of the structures", ["of", "found"], [list(fact) for fact in facts])]
    reasons, n_rejected = _rejected(project)
    if n_rejected:
        shown = f" ({_MOST_REASONS} of {n_rejected:,})" if n_rejected > _MOST_REASONS else ""
        tables.append(Table(f"Rejected files and structures{shown}", ["file", "line", "reason"], reasons))
    return tables


def _rejected(project: Project) -> tuple[list[list[str]], int]:
    """The first rows of `rejected.csv`, and their number."""
    if not project.rejected_file.exists():
        return [], 0
    with project.rejected_file.open(encoding="utf-8", errors="replace", newline="") as handle:
        first, n = [], 0
        for row in csv.DictReader(handle):
            n += 1
            if n <= _MOST_REASONS:
                first.append([printable(row.get(key) or "") for key in ("file", "line", "reason")])
    return first, n


def _settings(potential: Potential) -> Table:
    parameters, about = potential.parameters, potential.about
    layers = parameters.network.hidden_layers
    rows = [
        ("elements", ", ".join(potential.elements)),
        ("cutoff, Å", f"{parameters.cutoff:g}"),
        ("hidden layers", "-".join(map(str, layers)) if layers else "none"),
        ("activation", parameters.network.activation),
        ("members", number(len(potential.members))),
        ("epochs", ", ".join(map(str, about.get("epochs", [])))),
        ("recipe", parameters.recipe),
        ("seed", number(about.get("seed"))),
        ("training structures", number(about.get("n_train"))),
        ("validation structures", number(about.get("n_validation"))),
        ("device", about.get("device")),
        ("training took, s", number(about.get("seconds"))),
        *(
            (f"reference energy of {key}, eV", f"{value:.6f}")
            for key, value in potential.reference_energies.items()
        ),
    ]
    return Table(
        "Potential", ["of", "value"], [[what, str(value)] for what, value in rows if value not in (None, "")]
    )


def _versions(potential: Potential) -> Table:
    then, now = potential.about.get("versions", {}), versions()
    rows = [[name, str(then.get(name, "")), str(now.get(name, ""))] for name in {**now, **then}]
    return Table("Versions", ["of", "training", "this report"], rows)


def _digests(summary: EvaluationSummary, potential: Potential) -> Table:
    rows = [
        ["potential", str(summary.metrics.get("potential", ""))],
        *([f"training: {name}", str(value)] for name, value in potential.about.get("inputs", {}).items()),
    ]
    return Table("Digests (BLAKE2b) of what this was made from", ["of", "digest"], rows)


def _commands(
    summary: EvaluationSummary, snapshot: Snapshot | None, potential: Potential, command: Sequence[str]
) -> list[tuple[str, str]]:
    """Command lines: the recorded ones, and for other steps those that do the same."""
    found = []
    recorded: list[str] = [str(word) for word in potential.about.get("command", [])]
    is_run = recorded[1:2] == ["run"]
    if snapshot is not None and not is_run:
        project = snapshot.project
        sources = shlex.join(_folders(snapshot.stored.files)) if snapshot.has_structures else "SOURCE..."
        has_structures = snapshot.has_structures
        if has_structures and (words := kept_command(snapshot, STRUCTURES)):
            found.append(("Extracted by:", _line(words)))
        else:
            told = "Extracted from these folders and archives, with settings of params.json:"
            found.append((told, project.command("extract") + f" {sources}"))
        if has_structures and (words := kept_command(snapshot, FEATURES)):
            found.append(("Features and derivatives by:", _line(words)))
        else:
            told = "Features and, where forces are used, their derivatives:"
            found.append((told, project.command("featurize")))
    if recorded:
        found.append(("Trained by:", _line(recorded)))
    if command:
        found.append(("Evaluated by:", _line(command)))
    elif snapshot is not None:
        found.append(("Evaluated by:", snapshot.project.command("evaluate --report")))
    return found or [("Evaluated from Python, of the potential:", str(summary.potential_file))]


def _line(words: Sequence[str]) -> str:
    program, *others = words
    name = Path(program).name
    return printable(shlex.join(["tio2nn" if name == "__main__.py" else name, *others]))


def _folders(names: Sequence[str]) -> list[str]:
    """Folders, or archives, that hold all these files; a few, else the one above them."""
    from tio2nn.structures.names import container

    found = sorted({container(name) for name in names})
    return (
        found
        if len(found) <= _MOST_FOLDERS
        else [os.path.commonpath([str(Path(one).absolute()) for one in found])]
    )
