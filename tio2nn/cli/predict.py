"""tio2nn predict."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    AnyPotentialOption,
    EnergyKeyOption,
    ForcesKeyOption,
    FormatOption,
    InsecureOption,
    OutputFormat,
    OutputOption,
    ProjectOption,
    SchedulerOption,
    SourcesArgument,
    StrictOption,
    ThreadsOption,
    TlsOption,
    UnitsOption,
    WaitOption,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.cli.pools import pool
from tio2nn.cli.potential_file import opened, potential_file
from tio2nn.errors import InputError, UsageError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.io.labels import ReadOptions
    from tio2nn.potential.prediction import Prediction
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict import Format

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
    strict: StrictOption = False,
    units: UnitsOption = None,
    threads: ThreadsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
) -> bool:
    """Predict energies and forces of structures; print them or write files."""
    from tio2nn.cores import thread_count
    from tio2nn.io.labels import ReadOptions
    from tio2nn.workflow.predict import predict_stream

    options = ReadOptions(energy_key, forces_key, xsf_forces.value)
    loaded = opened(potential_file(project, potential), units)
    n_threads = thread_count(threads)
    with pool(None, scheduler, tls, insecure, wait) as workers:
        predicted = partial(
            predict_stream, loaded, forces=forces, threads=n_threads, workers=workers.predictors()
        )
        return perform(files, predicted, form.value, forces, output, strict, options)


def perform(
    files: Sequence[str],
    predicted: Callable[[Iterable[Structure | InputError]], Iterator[Prediction | InputError]],
    form: Format,
    forces: bool = False,
    directory: Path | None = None,
    strict: bool = False,
    options: ReadOptions | None = None,
) -> bool:
    """Print the prediction for each structure or write it to a file; return whether all structures succeeded.

    Args:
        files: structure files and other sources.
        predicted: gives the predictions for structures, in their order.
        form: output format.
        forces: whether they have forces and stress.
        directory: directory for one file per structure; None for stdout.
        strict: count a structure with a warning as failed.
        options: how to read structure files; XSF output has forces in the same unit.

    Raises:
        UsageError: XSF of several structures on stdout, where they could not be told apart.
    """
    from tio2nn.io.labels import ReadOptions
    from tio2nn.io.read import read_structures
    from tio2nn.workflow.predict import header, text, warnings

    options = options or ReadOptions()
    first_line = header(form, forces=forces)
    stdin: Iterable[str] = sys.stdin
    if directory is not None:
        # read all names first: an input must not be overwritten before it is read
        stdin = _all_names(sys.stdin) if "-" in files else ()
    items: Iterable[Structure | InputError] = read_structures(
        files, stdin=stdin, options=options, errors="yield"
    )
    output: _Printed | _Files
    if directory is None:
        output = _Printed(form, first_line)
    else:
        # the name of a structure depends on the others
        items = list(items)
        output = _Files(
            directory, form, first_line, [*(file for file in files if file != "-"), *stdin], items
        )
    n_rejected, n_doubts = Counter[str](), Counter[str]()
    with console.compile_notice("the symmetry functions"):
        for result in predicted(items):
            name = output.next_name()
            try:
                if isinstance(result, InputError):
                    raise result
                output.take(text(result, form, options.xsf_forces), name, result.structure)
            except InputError as error:
                # every file is named, but of a long trajectory only the first frames
                file = error.file or ""
                n_rejected[file] += 1
                if n_rejected[file] <= console.SHOWN:
                    console.error(str(error))
                continue
            for kind, message in warnings(result).items():
                n_doubts[kind] += 1
                if n_doubts[kind] <= console.SHOWN:
                    console.warn(message)
    for file, n in n_rejected.items():
        if n > console.SHOWN:
            console.error(f"{file}: ... and {counted(n - console.SHOWN, 'more structure')}")
    for kind, n in n_doubts.items():
        if n > console.SHOWN:
            console.warn(f"... and {n - console.SHOWN} more warnings about the {kind}")
    output.end()
    return not n_rejected and not (strict and n_doubts)


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
        from tio2nn.io.sources import NamedFiles
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
            raise  # such as a full disk, which would also stop what follows
        raise structure.error(f"expected a valid file name, got: {error.strerror}") from None
