"""tio2nn predict."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.key_options import EnergyKeyOption, ForcesKeyOption, StressKeyOption
from tio2nn.cli.options import (
    AnyPotentialOption,
    FormatOption,
    InsecureOption,
    OutputFormat,
    OutputOption,
    PartOption,
    ProjectOption,
    RunnerUnitsOption,
    SchedulerOption,
    SourcesArgument,
    StrictOption,
    ThreadsOption,
    TlsOption,
    ToOption,
    UnitsOption,
    WaitOption,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.cli.pools import pool, refuse_both
from tio2nn.cli.potential_file import opened, potential_file
from tio2nn.cli.predict_to import perform_to
from tio2nn.cli.predicted import PredictSettings, all_names, predict_into
from tio2nn.errors import InputError, UsageError
from tio2nn.job_part import JobPart
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict import Format
    from tio2nn.workflow.predict_parts import Outcome

_REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)


@command
def predict(
    files: SourcesArgument,
    project: ProjectOption = None,
    potential: AnyPotentialOption = None,
    form: FormatOption = OutputFormat.TSV,
    forces: Annotated[
        bool,
        typer.Option("--forces", help="Also predict forces and stress; tables then have one line per atom."),
    ] = False,
    output: OutputOption = None,
    to: ToOption = None,
    part: PartOption = None,
    strict: StrictOption = False,
    units: UnitsOption = None,
    threads: ThreadsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
    runner_units: RunnerUnitsOption = None,
) -> bool:
    """Predict energies, forces and stresses of structures."""
    from tio2nn.cores import thread_count
    from tio2nn.io.labels import ReadOptions

    own = None if part is None else JobPart.parse(part)
    if own is not None and to is None:
        raise UsageError("--part needs --to FILE, the file that all parts write for")
    if to is not None and (output is not None or form is OutputFormat.XSF):
        raise UsageError("--to cannot be combined with --output or --format xsf")
    options = ReadOptions(
        energy_key,
        forces_key,
        xsf_forces.value,
        None if runner_units is None else runner_units.value,
        stress_key=stress_key,
    )
    refuse_both(part, scheduler)
    place = potential_file(project, potential)
    found = opened(place, units)
    with pool(None, scheduler, tls, insecure, wait) as workers:
        how = PredictSettings(found, form.value, forces, options, thread_count(threads), workers.predictors())
        outcome = perform(files, how, output) if to is None else perform_to(files, how, to, own, place)
    return not outcome.n_rejected and not (strict and outcome.n_doubts)


def perform(files: Sequence[str], how: PredictSettings, directory: Path | None = None) -> Outcome:
    """Print the prediction for each structure or write it to a file.

    Args:
        files: structure files and other sources.
        how: what predicts, and what is written.
        directory: directory for one file per structure; None for stdout.

    Raises:
        UsageError: XSF of several structures on stdout, where they could not be told apart.
    """
    from tio2nn.io.read import read_structures
    from tio2nn.workflow.predict import header

    first_line = header(how.form, forces=how.forces)
    stdin: Iterable[str] = sys.stdin
    if directory is not None:
        # read all names first: an input must not be overwritten before it is read
        stdin = all_names(sys.stdin) if "-" in files else ()
    items: Iterable[Structure | InputError] = read_structures(
        files, stdin=stdin, options=how.options, errors="yield"
    )
    if directory is None:
        return predict_into(_Printed(how.form, first_line), items, how)
    # the name of a structure depends on the others
    items = list(items)
    inputs = [*(file for file in files if file != "-"), *stdin]
    return predict_into(_Files(directory, how.form, first_line, inputs, items), items, how)


class _Printed:
    """Prints each prediction to stdout as soon as it is available."""

    def __init__(self, form: Format, first_line: str | None) -> None:
        self._form = form
        self._single: str | None = None
        if first_line is not None:
            console.print_line(first_line)

    def next_name(self) -> str:
        return ""

    def take(self, text: str, name: str, structure: Structure) -> None:  # noqa: ARG002
        if self._form != "xsf":
            console.print_line(text)
        elif self._single is None:
            self._single = text
        else:
            raise UsageError(
                "expected one structure for XSF on stdout, got several; write files with --output DIR"
            )

    def end(self) -> None:
        if self._single is not None:
            console.print_line(self._single)


class _Files:
    """Writes one file per structure.

    Args:
        directory: output directory.
        form: output format.
        first_line: header of each file, or None.
        inputs: sources, which must not be overwritten.
        items: all structures and errors read from them.
    """

    def __init__(
        self,
        directory: Path,
        form: Format,
        first_line: str | None,
        inputs: Sequence[str],
        items: Sequence[Structure | InputError],
    ) -> None:
        from tio2nn.io.source_names import NamedFiles
        from tio2nn.workflow.predict import file_names

        self._directory, self._form = directory, form
        self._head = "" if first_line is None else f"{first_line}\n"
        self._inputs = NamedFiles(inputs)
        self._names = iter(file_names(items, form))
        self._n_written = 0

    def next_name(self) -> str:
        return next(self._names)

    def take(self, text: str, name: str, structure: Structure) -> None:
        from tio2nn.workflow.predict import own_file_name

        path = self._directory / name
        # overwrite no input, and do not write next to an input that has the name of this structure
        for taken in (self._directory / own_file_name(structure, self._form), path):
            if taken in self._inputs:
                raise structure.error(
                    f"refusing to overwrite the input file {taken}; choose another --output directory"
                )
        _write_alone(path, self._head + text, structure)
        self._n_written += 1

    def end(self) -> None:
        console.say(f"wrote {counted(self._n_written, 'file')} to {self._directory}")


def _write_alone(path: Path, text: str, structure: Structure) -> None:
    from tio2nn.files.atomic import atomic_write

    try:
        with atomic_write(path) as handle:
            handle.write(f"{text}\n")
    except OSError as error:
        if error.errno not in _REFUSED_NAMES:
            raise  # such as a full disk, which would also stop what follows
        raise structure.error(f"expected a valid file name, got: {error.strerror}") from None
