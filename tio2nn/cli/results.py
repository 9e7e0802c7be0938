"""What comes out of a potential, together with what people see of it: predictions and errors."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console
from tio2nn.cli.stages import SHOWN, show_rejected
from tio2nn.errors import InputError, UsageError
from tio2nn.project.project import Project
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.evaluation.baseline import Comparison
    from tio2nn.io.labels import ReadOptions
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict import Format

_REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)


def evaluate(
    project: Project | None,
    sources: Sequence[str] = (),
    potential: Path | None = None,
    strict: bool = False,
    options: ReadOptions | None = None,
) -> tuple[dict[str, Any], bool]:
    """Evaluate, show the errors; return the metrics and whether every source could be used.

    With `strict` a structure that the potential does not know well counts as one that cannot be used.
    """
    from tio2nn.workflow.evaluate import evaluate

    summary = evaluate(
        project, sources, potential_file=potential, stdin=sys.stdin, options=options, track=console.track
    )
    show_rejected(summary.rejected)
    for remark in summary.remarks:
        console.warn(remark)
    metrics = summary.metrics
    energy = metrics["energy"]
    console.table(
        f"errors on {counted(metrics['n_structures'], 'structure')}, {counted(metrics['n_atoms'], 'atom')}",
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
    show_comparison(
        "evaluation",
        metrics["n_structures"],
        summary.comparison,
        summary.facts,
        mostly_far=2 * summary.extrapolating > metrics["n_structures"],
    )
    if summary.outliers_left_out:
        console.say(
            counted(
                summary.outliers_left_out,
                "gross outlier of the test part is left out, as in training",
                "gross outliers of the test part are left out, as in training",
            )
        )
    if summary.above_max_energy:
        console.say(
            counted(
                summary.above_max_energy,
                "structure of the test part lies above --max-energy and is left out",
                "structures of the test part lie above --max-energy and are left out",
            )
        )
    if summary.extrapolating:
        console.say(
            counted(summary.extrapolating, "structure has", "structures have")
            + " atoms far from all in training (largest_distance in residuals.csv)"
        )
    if summary.foreign_compositions:
        console.warn(
            counted(
                summary.foreign_compositions,
                "structure has a composition that no combination of those in training makes: its total energy is off",
                "structures have compositions that no combination of those in training makes: their total energies "
                "are off",
            )
            + " by an unknown reference energy"
        )
    if summary.directory is not None:
        console.say(f"figures and tables in {summary.directory}")
    doubtful = summary.extrapolating + summary.foreign_compositions
    return metrics, not (summary.rejected or (strict and doubtful))


def show_comparison(
    where: str, n: int, comparison: Comparison, facts: Mapping[str, Any], *, mostly_far: bool = False
) -> None:
    """Whether a fit is worth more than reference energies alone, and zero forces."""
    judged = f"{where}, {counted(n, 'structure')}"
    if sentence := comparison.sentence():
        console.say(f"{judged}: {sentence}")
    if (warning := comparison.warning(facts, mostly_far=mostly_far)) is not None:
        console.warn(f"{judged}: {warning}")


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
        rank, ratio = found["spearman"], found["error_over_spread"]
        told = [
            *([] if rank is None else [f"rank correlation with the error {rank:.2f}"]),
            *([] if ratio is None else [f"error over spread {ratio:.2f} (rms)"]),
        ]
        if told:
            console.say(f"spread of the committee, {name}: {', '.join(told)}")


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
    options: ReadOptions | None = None,
) -> bool:
    """Print what is predicted of each structure, or write it to a file of its own; return whether all could be.

    Args:
        files: structures.
        potential_file: of the potential.
        form: of the text.
        forces: predict forces and stress, too.
        directory: where a file for each structure belongs; None for stdout.
        strict: a structure that is warned of counts as one that could not be predicted.
        options: how structure files are to be understood; forces in XSF are written in the unit that they name.

    Raises:
        UsageError: XSF of several structures on stdout, where nothing would tell them apart.
    """
    from tio2nn.io.labels import ReadOptions
    from tio2nn.io.read import read_structures
    from tio2nn.io.sources import NamedFiles
    from tio2nn.potential.potential import Potential
    from tio2nn.workflow import predict as verb

    options = options or ReadOptions()
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
    single: str | None = None
    n_written = 0
    items: Iterable[Structure | InputError] = read_structures(files, stdin=stdin, options=options)
    names: Iterable[str] = repeat("")
    if directory is not None:
        # what a structure is called depends on the others
        items = list(items)
        names = verb.file_names(items, form)
    for result, name in zip(verb.predict_stream(potential, items, forces=forces), names, strict=False):
        try:
            if isinstance(result, InputError):
                raise result
            shown = verb.text(result, form, options.xsf_forces)
            if directory is not None:
                path = directory / name
                # neither a file that is predicted, nor beside one whose name this structure would have by itself
                for taken in (directory / verb.own_file_name(result.structure, form), path):
                    if taken in inputs:
                        raise result.structure.error(
                            f"expected another directory for --output, got that of {taken}, which is predicted"
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
        n_written += 1
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
        console.say(f"{counted(n_written, 'file')} in {directory}")
    return n_rejected == 0 and not (strict and n_doubts)


def _all_names(lines: Iterable[str]) -> list[str]:
    try:
        return [name for line in lines if (name := line.rstrip("\r\n"))]
    except UnicodeDecodeError:
        raise InputError("expected file names in UTF-8, got other bytes", file="-") from None


def _write_alone(path: Path, text: str, structure: Structure) -> None:
    from tio2nn.files.atomic import atomic_write

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
