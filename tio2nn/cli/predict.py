"""tio2nn predict."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    EnergyKeyOption,
    ForcesKeyOption,
    FormatOption,
    OutputFormat,
    OutputOption,
    PotentialOption,
    ProjectOption,
    SourcesArgument,
    StrictOption,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.errors import InputError, UsageError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.io.labels import ReadOptions
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict import Format

_REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR)


@command
def predict(
    files: SourcesArgument,
    project: ProjectOption = None,
    potential: PotentialOption = None,
    form: FormatOption = OutputFormat.TSV,
    forces: Annotated[
        bool, typer.Option("--forces", help="Also forces and stress; tables then have a line for each atom.")
    ] = False,
    output: OutputOption = None,
    strict: StrictOption = False,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
) -> bool:
    """Predict the energies of structures, and their forces; print them, or write files."""
    from tio2nn.io.labels import ReadOptions

    options = ReadOptions(energy_key, forces_key, xsf_forces.value)
    return perform(files, _potential_file(project, potential), form.value, forces, output, strict, options)


def perform(
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
            if n_doubts[kind] <= console.SHOWN:
                console.warn(message)
    for kind, n in n_doubts.items():
        if n > console.SHOWN:
            console.warn(f"... and {n - console.SHOWN} more such warnings of the {kind}")
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


def _potential_file(project_option: Path | None, given: Path | None) -> Path:
    """The potential that is named, else that of the project."""
    from tio2nn.project.project import Project

    if given is not None:
        return given
    project = Project.find(project_option)
    return project.require(project.potential_file)
