"""Predictions on their way to where they are shown or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tio2nn.cli import console
from tio2nn.errors import InputError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parallel.remote import RemotePool
    from tio2nn.potential.potential import Potential
    from tio2nn.structures.structure import Structure
    from tio2nn.workflow.predict import Format
    from tio2nn.workflow.predict_parts import Outcome


class PredictSettings(NamedTuple):
    """How structures are predicted.

    Attributes:
        potential: what predicts.
        form: output format.
        forces: also predict forces and stress.
        options: how to read structure files; XSF output has forces in the same unit.
        threads: as for `Potential.predict`.
        workers: other machines to predict on; None for this one.
    """

    potential: Potential
    form: Format
    forces: bool
    options: ReadOptions
    threads: int
    workers: RemotePool | None = None


class Output(Protocol):
    """Where predictions go."""

    def next_name(self) -> str: ...

    def take(self, text: str, name: str, structure: Structure) -> None: ...

    def end(self) -> None: ...


def predict_into(output: Output, items: Iterable[Structure | InputError], how: PredictSettings) -> Outcome:
    """Predict structures, and report what could not be used and what is in doubt."""
    from tio2nn.workflow.predict import SHOW_FORCES_SPREAD, predict_stream, text, warnings
    from tio2nn.workflow.predict_parts import Outcome

    n_rejected, n_doubts, n_predicted = Counter[str](), Counter[str](), 0
    with console.compile_notice("the symmetry functions"):
        found = predict_stream(
            how.potential,
            items,
            forces=how.forces,
            forces_spread=how.form in SHOW_FORCES_SPREAD,
            threads=how.threads,
            workers=how.workers,
        )
        for result in found:
            name = output.next_name()
            try:
                if isinstance(result, InputError):
                    raise result
                output.take(text(result, how.form, how.options.xsf_forces), name, result.structure)
            except InputError as error:
                # every file is named, but of a long trajectory only the first frames
                file = error.file or ""
                n_rejected[file] += 1
                if n_rejected[file] <= console.SHOWN:
                    console.error(str(error))
                continue
            n_predicted += 1
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
    return Outcome(n_predicted, n_rejected.total(), n_doubts.total())


def all_names(lines: Iterable[str]) -> list[str]:
    try:
        return [name for line in lines if (name := line.rstrip("\r\n"))]
    except UnicodeDecodeError:
        raise InputError("expected file names in UTF-8, got other bytes", file="-") from None
