"""Options that several commands share, as types: a signature reads like a form."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

# Optional[...]: Typer reads these at run time, and on Python 3.10 older versions of it know no `X | None`.
ProjectOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--project",
        "-C",
        metavar="DIR",
        help="Project directory. Default: $TIO2NN_PROJECT, else the nearest parent with a params.json.",
        show_default=False,
    ),
]
SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Structure files (.xsf, .xyz, .extxyz, also .gz), folders, patterns, tar archives; - for a list on stdin.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--jobs", "-j", min=1, metavar="N", help="Worker processes. Default: one per core, if it pays."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
PresetOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Symmetry functions: auto (default: made for the structures), artrith-urban-2016, extended or rili-2024.",
    ),
]
ElementsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--elements",
        metavar="LIST",
        help="Chemical symbols with commas between, as in Ti,O. Default: those of the structures.",
    ),
]
RecipeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Decides what params.json leaves open: auto (of new projects), default, quick, forces, record, rili-2024.",
    ),
]
ForcesOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--forces/--energies-only",
        help="Insist on forces, or leave them out. Default: as params.json says, in new projects where there are any.",
        show_default=False,
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="End with exit code 3 if a warning is given for a structure.")
]
TunedOption = Annotated[bool, typer.Option("--tuned", help="Take the best trial of `tio2nn tune`.")]
SplitFileOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--split",
        metavar="FILE",
        help="CSV with the columns structure and part, or a list of names to train on (validation is drawn from it).",
        show_default=False,
    ),
]
NewSplitOption = Annotated[bool, typer.Option("--new-split", help="Split anew, replacing split.csv.")]
NoTestOption = Annotated[
    bool,
    typer.Option("--no-test", help="Keep no structures for a test, all others train; implies --new-split."),
]
KeepOutliersOption = Annotated[
    bool,
    typer.Option(
        "--keep-outliers",
        help="Keep structures whose energy or forces are far beyond those of all others.",
    ),
]
LimitOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--limit", min=2, metavar="N", help="Take N structures, evenly spaced in the order of names."
    ),
]
EpochsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--epochs", min=1, metavar="N", help="Passes over the training part."),
]
MembersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--members", min=1, metavar="N", help="Networks in the committee."),
]
SeedOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--seed", min=0, metavar="N", help="Seed of first weights and batches, and of a new split."),
]
MaxEnergyOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--max-energy", metavar="X", help="Leave out structures above X eV/atom (cohesive)."),
]
SplitKindOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--split-by", metavar="KIND", help="random or grouped; implies --new-split."),
]
PotentialOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--potential", metavar="FILE", help="A potential.npz; no project is needed.", show_default=False
    ),
]


class XsfForcesUnit(str, Enum):
    """Units of forces in XSF files."""

    EV = "eV/A"
    HARTREE = "Ha/A"


EnergyKeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--energy-key",
        metavar="KEY",
        help="Key of the total energy in extended XYZ. Default: a usual one, such as energy or REF_energy.",
        show_default=False,
    ),
]
ForcesKeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--forces-key",
        metavar="KEY",
        help="Columns of the forces in extended XYZ. Default: usual ones, such as forces or REF_forces.",
        show_default=False,
    ),
]
XsfForcesOption = Annotated[
    XsfForcesUnit,
    typer.Option(
        "--xsf-forces",
        help="Unit of forces in XSF files without a comment that states it: eV/A as aenet writes them, Ha/A as ASE.",
    ),
]


class OutputFormat(str, Enum):
    """Formats of `predict`."""

    TSV = "tsv"
    CSV = "csv"
    JSON = "json"
    EXTXYZ = "extxyz"
    XSF = "xsf"


FormatOption = Annotated[OutputFormat, typer.Option("--format", "-f", help="json is one object a line.")]
OutputOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Write a file for each structure there, instead of printing.",
        show_default=False,
    ),
]


def element_symbols(text: str | None) -> tuple[str, ...] | None:
    """What --elements says: "Ti, O" is ("Ti", "O")."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
