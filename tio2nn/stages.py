"""The steps of a project, each a verb together with what people see of it; `cli.py` strings them together."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn import console
from tio2nn.errors import InputError, UsageError
from tio2nn.parameters import ParameterSet
from tio2nn.project import Project

if TYPE_CHECKING:
    from tio2nn.featurize import Estimate
    from tio2nn.predict import Format
    from tio2nn.structure import Structure

_SHARDS_PER_WORKER = 10**9  # a process that computes symmetry functions does not grow
_REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)
SHOWN = 10  # rejected files, warnings and trials shown before the rest is only counted


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool(workers: int) -> Executor:
    """Worker processes that start empty, safe with threads, and end with this one, however it ends."""
    from tio2nn.workers import WorkerProcesses

    return WorkerProcesses(workers, _SHARDS_PER_WORKER)


def extract(
    project: Project, sources: Sequence[str], limit: int | None, parameters: ParameterSet | None
) -> bool:
    """Extract and show what the audit found; return whether every structure was accepted.

    Without parameters, as for a project that is just being made, every element is welcome.
    """
    from tio2nn.extract import extract

    summary = extract(
        sources,
        energies_csv=project.energies_file,
        rejected_csv=project.rejected_file,
        store=project.structures_file,
        elements=None if parameters is None else parameters.elements,
        reference_energies=None if parameters is None else parameters.reference_energies,
        limit=limit,
        stdin=sys.stdin,
        track=console.track,
    )
    show_rejected(summary.rejected)
    if summary.audit is None:
        raise InputError("expected at least one structure with an energy, got none")
    console.facts(summary.audit.facts())
    if summary.rejected:
        console.say(f"{len(summary.rejected)} rejected, with reasons in {project.rejected_file}")
    return not summary.rejected


def show_rejected(rejected: Iterable[InputError]) -> None:
    """The first of them, and how many there are."""
    errors = list(rejected)
    for rejection in errors[:SHOWN]:
        console.error(str(rejection))
    if len(errors) > SHOWN:
        console.error(f"... and {len(errors) - SHOWN} more")


def featurize(project: Project, jobs: int | None, csv: bool = False) -> None:
    """Compute the features and show what was done."""
    from tio2nn.featurize import featurize

    def announce(estimate: Estimate) -> None:
        console.say(
            f"symmetry functions: {estimate.n_structures} structures, {estimate.n_atoms} atoms, "
            f"{estimate.n_features} functions; about {console.duration(estimate.seconds)} on {estimate.jobs} "
            f"process{'es' if estimate.jobs > 1 else ''}, {console.size(estimate.memory_bytes)} of memory, "
            f"{console.size(estimate.disk_bytes)} of disk"
        )

    summary = featurize(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        csv=csv,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"symmetry functions: {summary.n_computed} structures computed, {summary.n_structures} in all, "
            f"in {console.duration(summary.seconds)}"
        )
    else:
        console.say(f"symmetry functions: nothing to do, all {summary.n_structures} structures are there")
    if summary.csv_files:
        console.say(f"{summary.csv_files} CSV files in {project.features_directory}")


def differentiate(project: Project, jobs: int | None) -> None:
    """Compute the derivatives that a training on forces needs, and show what was done."""
    from tio2nn.differentiate import JacobianEstimate, differentiate

    def announce(estimate: JacobianEstimate) -> None:
        console.say(
            f"derivatives: {estimate.n_structures} structures, {estimate.n_atoms} atoms, {estimate.n_features} "
            f"functions; about {console.duration(estimate.seconds)} on {estimate.jobs} "
            f"process{'es' if estimate.jobs > 1 else ''}, {console.size(estimate.disk_bytes)} of disk"
        )
        if estimate.n_left_out:
            console.say(
                f"derivatives of {estimate.n_left_out} more structures with forces would not fit into "
                f"{estimate.bound}: those computed are drawn at random, with groups, compositions and elements "
                "represented; of the others only the energies count"
            )

    summary = differentiate(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"derivatives: {summary.n_computed} structures computed, {summary.n_structures} in all, "
            f"{console.size(summary.disk_bytes)}, in {console.duration(summary.seconds)}"
        )
    else:
        console.say(f"derivatives: nothing to do, all {summary.n_structures} structures are there")
    if summary.n_left_out:
        console.say(
            f"{summary.n_left_out} structures with forces have no derivatives, only their energies count"
        )
    if summary.n_without_forces:
        console.say(f"{summary.n_without_forces} structures have no forces")


def evaluate(
    project: Project | None,
    sources: Sequence[str] = (),
    potential: Path | None = None,
    strict: bool = False,
) -> tuple[dict[str, Any], bool]:
    """Evaluate, show the errors; return the metrics and whether every source could be used.

    With `strict` a structure that the potential does not know well counts as one that cannot be used.
    """
    from tio2nn.evaluate import evaluate

    summary = evaluate(project, sources, potential_file=potential, stdin=sys.stdin, track=console.track)
    show_rejected(summary.rejected)
    metrics = summary.metrics
    energy = metrics["energy"]
    console.table(
        f"errors on {metrics['n_structures']} structures, {metrics['n_atoms']} atoms",
        ["", "RMSE", "MAE", "p95", "largest"],
        [
            [
                "energy, meV/atom",
                *(f"{energy[f'{key}_meV_per_atom']:.2f}" for key in ("rmse", "mae", "p95", "max")),
            ],
            ["total energy, eV", f"{energy['rmse_eV']:.4f}", f"{energy['mae_eV']:.4f}", "", ""],
            *_force_row(metrics.get("forces")),
        ],
    )
    _show_errors("by cohesive energy, eV/atom", metrics["by_energy"], ["from_eV_per_atom", "to_eV_per_atom"])
    _show_errors("by size", metrics["by_size"], ["n_atoms"])
    _show_errors("by composition", metrics["by_composition"], ["composition"])
    if "leakage" in metrics:
        _show_leakage(metrics["leakage"])
    _show_spread(metrics.get("spread", {}))
    console.say(
        f"residuals of the totals: mean {energy['mean_residual_eV']:.4f} eV, standard error "
        f"{energy['standard_error_eV']:.4f} eV, beyond 1.5 sigma {energy['outlier_fraction']:.3f}"
    )
    if summary.above_max_energy:
        console.say(
            f"{summary.above_max_energy} structures of the test part lie above --max-energy and are left out"
        )
    if summary.extrapolating:
        console.say(
            f"{summary.extrapolating} structures have atoms far from all in training "
            "(largest_distance in residuals.csv)"
        )
    if summary.foreign_compositions:
        console.warn(
            f"{summary.foreign_compositions} structures have compositions that no combination of those in training "
            "makes: their total energies are off by an unknown reference energy"
        )
    if summary.directory is not None:
        console.say(f"figures and tables in {summary.directory}")
    doubtful = summary.extrapolating + summary.foreign_compositions
    return metrics, not (summary.rejected or (strict and doubtful))


def _force_row(errors: Mapping[str, float] | None) -> list[list[str]]:
    if errors is None:
        return []
    rmse, mae, most = (errors[f"{key}_eV_per_A"] for key in ("rmse", "mae", "max"))
    return [["force component, eV/Å", f"{rmse:.4f}", f"{mae:.4f}", "", f"{most:.2f}"]]


def _show_leakage(leakage: Mapping[str, Any]) -> None:
    """How near the test part is to the training part."""
    _show_errors(
        "by distance from the nearest training structure",
        leakage["by_distance"],
        ["from_distance", "to_distance"],
    )
    share = leakage["fraction_with_group_in_training"]
    if share > 0:
        console.say(
            f"{100 * share:.0f} % of these structures have relatives in the training part (frames of one run, or "
            "scans of one geometry): for errors on new ones, train with --split-by grouped"
        )


def _show_spread(spread: Mapping[str, Any]) -> None:
    for name, found in spread.items():
        ratio = found["error_over_spread"]
        size = "" if ratio is None else f", error over spread {ratio:.2f} (rms)"
        console.say(
            f"spread of the committee, {name}: rank correlation with the error {found['spearman']:.2f}{size}"
        )


def _show_errors(title: str, entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Errors of parts of the structures; a single part is all of them, and was shown."""
    if len(entries) < 2:
        return
    columns = [key.removesuffix("_eV_per_atom") for key in keys]
    rows = [
        [
            *(f"{entry[key]:g}" if isinstance(entry[key], float) else entry[key] for key in keys),
            entry["n_structures"],
            f"{entry['rmse_meV_per_atom']:.2f}",
            f"{entry['mae_meV_per_atom']:.2f}",
        ]
        for entry in entries[:SHOWN]
    ]
    console.table(title, [*columns, "structures", "RMSE meV/atom", "MAE meV/atom"], rows)
    if len(entries) > SHOWN:
        console.say(f"... and {len(entries) - SHOWN} more in metrics.json")


def predict(
    files: Sequence[str],
    potential_file: Path,
    form: Format,
    forces: bool = False,
    directory: Path | None = None,
    strict: bool = False,
) -> bool:
    """Print what is predicted of each structure, or write it to a file of its own; return whether all could be.

    Args:
        files: structures.
        potential_file: of the potential.
        form: of the text.
        forces: predict forces and stress, too.
        directory: where a file for each structure belongs; None for stdout.
        strict: a structure that is warned of counts as one that could not be predicted.

    Raises:
        UsageError: XSF of several structures on stdout, where nothing would tell them apart.
    """
    from tio2nn import predict as verb
    from tio2nn.io import read_structures
    from tio2nn.io.sources import NamedFiles
    from tio2nn.potential import Potential

    potential = Potential.load(potential_file)
    stdin: Iterable[str] = sys.stdin
    if directory is not None:
        # a file that is to be predicted must not be written over before its turn
        stdin = _all_names(sys.stdin) if "-" in files else ()
        inputs = NamedFiles([*(file for file in files if file != "-"), *stdin])
    n_rejected, n_doubts = 0, Counter[str]()
    first = verb.header(form, forces=forces)
    if first is not None and directory is None:
        console.print_line(first)
    written: set[str] = set()
    single: str | None = None
    for result in verb.predict_stream(potential, read_structures(files, stdin=stdin), forces=forces):
        try:
            if isinstance(result, InputError):
                raise result
            name, shown = verb.file_name(result.structure, form), verb.text(result, form)
            if directory is not None:
                path = directory / name
                if name in written:
                    raise result.structure.error(f"expected one structure for {path}, got another")
                if path in inputs:
                    raise result.structure.error(
                        f"expected another directory for --output, got that of {path}, which is predicted"
                    )
                _write_alone(path, shown if first is None else f"{first}\n{shown}", result.structure)
        except InputError as error:
            n_rejected += 1
            console.error(str(error))
            continue
        if directory is None:
            if form != "xsf":
                console.print_line(shown)
            elif single is None:
                single = shown
            else:
                raise UsageError(
                    "expected one structure for XSF on stdout, got more; write files with --output DIR"
                )
        written.add(name)
        for kind, message in verb.warnings(result).items():
            n_doubts[kind] += 1
            if n_doubts[kind] <= SHOWN:
                console.warn(message)
    for kind, n in n_doubts.items():
        if n > SHOWN:
            console.warn(f"... and {n - SHOWN} more such warnings of the {kind}")
    if single is not None:
        console.print_line(single)
    if directory is not None:
        console.say(f"{len(written)} files in {directory}")
    return n_rejected == 0 and not (strict and n_doubts)


def _all_names(lines: Iterable[str]) -> list[str]:
    try:
        return [name for line in lines if (name := line.rstrip("\r\n"))]
    except UnicodeDecodeError:
        raise InputError("expected file names in UTF-8, got other bytes", file="-") from None


def _write_alone(path: Path, text: str, structure: Structure) -> None:
    from tio2nn.io.atomic import atomic_write

    try:
        with atomic_write(path) as handle:
            handle.write(f"{text}\n")
    except OSError as error:
        if error.errno not in _REFUSED_NAMES:
            raise  # a full disk, say, which spoils what follows, too
        raise structure.error(f"expected a name that a file can have, got: {error.strerror}") from None


def potential_file(project_option: Path | None, given: Path | None) -> Path:
    """The potential that is named, else that of the project."""
    if given is not None:
        return given
    project = Project.find(project_option)
    return project.require(project.potential_file)
