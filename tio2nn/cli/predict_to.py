"""tio2nn predict --to: all predictions in one file, which the parts of a job array may write together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tio2nn.cli import console
from tio2nn.cli.predicted import all_names, predict_into
from tio2nn.errors import UsageError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.cli.predicted import PredictSettings
    from tio2nn.job_part import JobPart
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict_parts import Outcome, PartWriter


class _Written:
    """Writes each prediction to an open file."""

    def __init__(self, writer: PartWriter) -> None:
        self._writer = writer

    def next_name(self) -> str:
        return ""

    def take(self, text: str, name: str, structure: Structure) -> None:  # noqa: ARG002
        self._writer.write(f"{text}\n")

    def end(self) -> None:
        """Nothing is left to be written."""


def perform_to(
    files: Sequence[str], how: PredictSettings, path: Path, part: JobPart | None, potential: Path
) -> Outcome:
    """Write the predictions for all structures, or those of one part, to a file.

    Args:
        files: structure files and other sources.
        how: what predicts, and what is written.
        path: of the file with all of them.
        part: to be done alone; None to join all, and to do those that are missing.
        potential: file or folder of the potential.

    Raises:
        UsageError: the file is one of the sources.
    """
    from tio2nn.files.atomic import atomic_write
    from tio2nn.io.source_names import NamedFiles
    from tio2nn.workflow.predict import header
    from tio2nn.workflow.predict_parts import Outcome, PartWriter, SharedFile, SharedSources

    lines = all_names(sys.stdin) if "-" in files else []
    if path in NamedFiles([*(file for file in files if file != "-"), *lines]):
        raise UsageError(f"refusing to overwrite the input file {path}; choose another file with --to")
    path.parent.mkdir(parents=True, exist_ok=True)
    sources = SharedSources(files, lines, how.options)
    shared = SharedFile.of(path, potential, sources, how.form, how.forces)
    if part is not None:
        done = shared.finished(part)
        if done is None:
            with shared.written_part(part) as writer:
                done = writer.outcome = predict_into(_Written(writer), sources.share(part), how)
        console.say(
            f"part {part.number} of {part.total}: {counted(done.n_predicted, 'structure')}; after all of them run "
            "the same command without --part"
        )
        return done
    parts = shared.parts()
    if undone := shared.undone(parts):
        console.warn(f"{undone}; predicting here what is missing")
    outcome = Outcome(0, 0, 0)
    with atomic_write(path, "wb") as handle:
        if (first_line := header(how.form, forces=how.forces)) is not None:
            handle.write(f"{first_line}\n".encode())
        for each in parts:
            done = shared.finished(each)
            if done is not None:
                shared.copy_part(each, handle)
                if done.n_rejected:
                    console.error(
                        f"part {each.number} of {each.total} could not use "
                        f"{counted(done.n_rejected, 'file or structure', 'files or structures')}; see its messages"
                    )
            else:
                done = predict_into(_Written(PartWriter(handle)), sources.share(each), how)
            outcome += done
    shared.remove_parts(parts)
    console.say(f"wrote {counted(outcome.n_predicted, 'structure')} to {path}")
    return outcome
