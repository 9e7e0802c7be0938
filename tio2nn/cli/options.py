"""Option types shared by several commands."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

# Optional[...]: Typer evaluates these at run time, and its older versions do not support `X | None` on Python 3.10.
RunProjectOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--project",
        "-C",
        metavar="DIR",
        help="Project directory, created if missing. Default: the current directory if it has a params.json, else "
        "tio2nn-project.",
        show_default=False,
    ),
]

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
        help="Structure files (see `extract --formats`), folders, patterns, tar archives; - for a list on stdin.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Worker processes, or tasks at a time on a cluster. Default: one per core if that is faster.",
    ),
]
FitJobsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Threads, or members at a time on a cluster. Default: one per core.",
    ),
]
PartOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--part",
        metavar="K/N",
        help="Do only part K of N; all parts may run at once, on machines that share the files.",
        show_default=False,
    ),
]
PrepareOption = Annotated[
    bool,
    typer.Option(
        "--prepare", help="Only prepare what all members share, to fit them one by one with --member."
    ),
]
MemberOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--member",
        metavar="K",
        help="Only fit member K, from 1, as prepared; all may run at once, on machines that share the files.",
        show_default=False,
    ),
]
SchedulerOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="Work on a Dask cluster: the address of its scheduler, or the file that the scheduler wrote.",
        show_default=False,
    ),
]
TlsOption = Annotated[
    Optional[tuple[Path, Path, Path]],  # noqa: UP045
    typer.Option(
        "--tls",
        metavar="CA CERTIFICATE KEY",
        help="PEM files for a scheduler with TLS. Default: those in Dask's configuration.",
        show_default=False,
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Use a scheduler on another machine without TLS; anyone who reaches it can run programs as you.",
    ),
]
WaitOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--wait",
        min=0.0,
        metavar="SECONDS",
        help="How long to wait for the scheduler, and for workers if there are none. Default: 60.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="What to train on: cpu (default) or gpu, the first that TensorFlow finds; needs the extra gpu.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        help="Threads. Default: $TIO2NN_THREADS, else one per core. Results do not depend on it.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
PresetOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Symmetry functions: auto (default; chosen for the data), artrith-urban-2016, extended or rili-2024.",
    ),
]
ElementsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--elements",
        metavar="LIST",
        help="Comma-separated chemical symbols, such as Ti,O. Default: all elements of the structures.",
    ),
]
RecipeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Sets what params.json leaves open: auto (new projects), default, quick, forces, record or rili-2024.",
    ),
]
ForcesOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--forces/--energies-only",
        help="Train on forces, or on energies alone. Default: as in params.json; new projects use forces if available.",
        show_default=False,
    ),
]
DerivativesOption = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--forces/--energies-only",
        help="Compute derivatives for training on forces, or skip them. Default: as in params.json.",
        show_default=False,
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with code 3 if there is a warning about a structure.")
]
TunedOption = Annotated[bool, typer.Option("--tuned", help="Use the best settings found by `tio2nn tune`.")]
SplitFileOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--split",
        metavar="FILE",
        help="CSV with columns structure and part, or a list of names to train on (validation is drawn from it).",
        show_default=False,
    ),
]
NewSplitOption = Annotated[bool, typer.Option("--new-split", help="Draw a new split and replace split.csv.")]
NoTestOption = Annotated[
    bool,
    typer.Option("--no-test", help="Hold out no test set; implies --new-split."),
]
KeepOutliersOption = Annotated[
    bool,
    typer.Option(
        "--keep-outliers",
        help="Keep structures with energies or forces far beyond all others.",
    ),
]
LimitOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", min=2, metavar="N", help="Use N structures, evenly spaced in order of name."),
]
EpochsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--epochs", min=1, metavar="N", help="Passes over the training set."),
]
MembersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--members", min=1, metavar="N", help="Number of committee members."),
]
SeedOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--seed", min=0, metavar="N", help="Random seed for initial weights, batches and a new split."
    ),
]
MaxEnergyOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--max-energy", metavar="X", help="Leave out structures with a cohesive energy above X eV/atom."
    ),
]
SplitKindOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--split-by", metavar="KIND", help="random or grouped; implies --new-split."),
]
PotentialOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--potential", metavar="FILE", help="A potential.npz, used without a project.", show_default=False
    ),
]
AnyPotentialOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--potential",
        metavar="FILE",
        help="A potential.npz or a trained n2p2 folder, used without a project.",
        show_default=False,
    ),
]


UnitsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--units",
        metavar="NAME",
        help="Units of an input.nn that does not state them: metal (Å, eV) or atomic (Bohr, Hartree).",
        show_default=False,
    ),
]
ForOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--for",
        metavar="PROGRAM",
        help="Make the potential for lammps, cp2k or aenet, with an activation they know. Stored in params.json.",
        show_default=False,
    ),
]


class XsfForcesUnit(str, Enum):
    """Units of the forces in XSF files."""

    EV = "eV/A"
    HARTREE = "Ha/A"


def _show_formats(wanted: bool) -> None:
    from tio2nn.cli.formats import show_formats

    show_formats(wanted)


FormatsOption = Annotated[
    bool,
    typer.Option(
        "--formats",
        help="List the formats that are read, and exit.",
        is_eager=True,
        callback=_show_formats,
    ),
]


IsolatedAtomsOption = Annotated[
    bool,
    typer.Option(
        "--isolated-atoms",
        help="Take the reference energies from structures of one atom with config_type=isolated_atom in extended XYZ, "
        "write them to params.json, and leave these structures out.",
    ),
]


class EnergyUnits(str, Enum):
    """Units of `input.data` of RuNNer."""

    ATOMIC = "Bohr,Ha"
    METAL = "A,eV"


class WhichEnergy(str, Enum):
    """Which of two energies is learned."""

    AUTO = "auto"
    ENERGY = "energy"
    FREE_ENERGY = "free_energy"


EnergyOption = Annotated[
    WhichEnergy,
    typer.Option(
        "--energy",
        help="Which energy to use where files give two: the free energy, whose derivatives are the forces, or the "
        "energy without electronic entropy. auto: the free energy if every structure with forces has it.",
    ),
]
RunnerUnitsOption = Annotated[
    Optional[EnergyUnits],  # noqa: UP045
    typer.Option(
        "--runner-units",
        help="Units of a RuNNer input.data that does not state them. Default: Bohr,Ha.",
        show_default=False,
    ),
]
XsfForcesOption = Annotated[
    XsfForcesUnit,
    typer.Option(
        "--xsf-forces",
        help="Unit of forces in XSF files that do not state it: eV/A as written by aenet, Ha/A as written by ASE.",
    ),
]


class OutputFormat(str, Enum):
    """Output formats of `predict`."""

    TSV = "tsv"
    CSV = "csv"
    JSON = "json"
    EXTXYZ = "extxyz"
    XSF = "xsf"


FormatOption = Annotated[
    OutputFormat, typer.Option("--format", "-f", help="Output format; json writes one object per line.")
]
OutputOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Write one file per structure to DIR instead of printing.",
        show_default=False,
    ),
]
ToOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--to",
        metavar="FILE",
        help="Write everything to FILE instead of printing; joins what each --part has written for FILE.",
        show_default=False,
    ),
]


def element_symbols(text: str | None) -> tuple[str, ...] | None:
    """The symbols given with --elements: ("Ti", "O") for "Ti, O"."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
