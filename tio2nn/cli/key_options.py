"""The options that name the labels of extended XYZ, and of trajectories and databases of ASE."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

EnergyKeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--energy-key",
        metavar="KEY",
        help="Key of the total energy in extended XYZ and ASE's files. Default: a common one, such as energy or "
        "REF_energy.",
        show_default=False,
    ),
]
ForcesKeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--forces-key",
        metavar="KEY",
        help="Key of the forces in extended XYZ and ASE's files. Default: a common one, such as forces or REF_forces.",
        show_default=False,
    ),
]
StressKeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--stress-key",
        metavar="KEY",
        help="Key of the stress in extended XYZ and ASE's files, or of the virial if its name says so. Default: a "
        "common one, such as stress or virial.",
        show_default=False,
    ),
]
