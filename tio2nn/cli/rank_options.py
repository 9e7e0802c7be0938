"""Options of a training that several processes share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

RankOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--rank",
        metavar="K/N",
        help="Fit the prepared members together with N-1 other processes, on machines that share the files: this one "
        "takes share K of every batch.",
        show_default=False,
    ),
]
FitWaitOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--wait",
        min=0.0,
        metavar="SECONDS",
        help="How long to wait for the scheduler, for workers if there are none (default: 60), or for other ranks "
        "(default: 300).",
        show_default=False,
    ),
]
