"""The option --report of evaluate and run, and the page that it asks for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import REPORT

if TYPE_CHECKING:
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.evaluate import EvaluationSummary

ReportOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        REPORT,
        metavar="[FILE.html]",
        help="Also write one self-contained page with tables, figures, audit and settings. Default: report.html beside "
        "the other results.",
        show_default=False,
    ),
]


class Page(NamedTuple):
    """The report that is asked for.

    Attributes:
        file: None for one beside the other results.
    """

    file: Path | None

    def write(self, summary: EvaluationSummary, project: Project | Snapshot | None) -> None:
        """Write it, and say where."""
        from tio2nn.workflow.report import write_report

        written = write_report(summary, self.file, project=project, command=sys.argv)
        console.say(f"wrote the report to {written}")


def page_wanted(report: str | None, directory: Path | None) -> Page | None:
    """What the option asks for; None for no report.

    Args:
        report: the option; "" if it stands alone.
        directory: of the other results; None if nothing else is written.

    Raises:
        UsageError: there is no place for it, or the name is that of something else.
    """
    if report is None:
        return None
    from tio2nn.workflow.report import report_file

    report_file(report or None, directory)
    return Page(Path(report) if report else None)
