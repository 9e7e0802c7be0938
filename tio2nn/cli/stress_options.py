"""Options of commands that learn, or prepare to learn, the stress."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

StressOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--stress/--no-stress",
        help="Also train on the stress, or not. Default: as in params.json; new projects use it if available.",
        show_default=False,
    ),
]
StrainsOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--stress/--no-stress",
        help="Compute derivatives by strain for training on the stress, or skip them. Default: as in params.json.",
        show_default=False,
    ),
]
