"""Options of train and run that name a potential to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

FromOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--from",
        metavar="POTENTIAL",
        help="Begin from the networks of this potential.npz instead of random weights, and fine-tune them.",
        show_default=False,
    ),
]
DistillOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--distill",
        metavar="POTENTIAL",
        help="Learn the predictions of this potential.npz, usually a committee, on the training structures and "
        "displaced copies of them.",
        show_default=False,
    ),
]
CopiesOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--copies",
        min=0,
        metavar="N",
        help="With --distill: displaced copies of each training structure. Default: 1.",
        show_default=False,
    ),
]
DisplacementOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--displacement",
        metavar="X",
        help="With --distill: standard deviation of each component of the displacements, Å. Default: 0.05.",
        show_default=False,
    ),
]
TruthOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--truth",
        metavar="W",
        help="With --distill: weight of the true labels of the training structures, 0 to 1. Default: 0.",
        show_default=False,
    ),
]
