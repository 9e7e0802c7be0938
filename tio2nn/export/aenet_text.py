"""What stands beside files for aenet: how its programs read them, and what to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from tio2nn.export.aenet import aenet_file
from tio2nn.export.folder import MARK
from tio2nn.potential.potential import Potential
from tio2nn.version import __version__
from tio2nn.wording import counted


def aenet_readme(potential: Potential, directory: PurePath, warnings: Sequence[str]) -> str:
    """The text of the README.

    Args:
        potential: what is exported.
        directory: the folder, as programs are to name it.
        warnings: on what aenet cannot have.
    """
    n_members = len(potential.members)
    folder = directory if n_members == 1 else directory / "nnp-1"
    files = [f"  {element} {(folder / aenet_file(element)).as_posix()}" for element in potential.elements]
    parts = [
        f"# {'-'.join(potential.elements)}, {MARK} {__version__}",
        f"Networks for aenet, in Å and eV: {counted(n_members, 'network')}; cutoff {potential.parameters.cutoff:g} Å.",
        *(f"Note: {warning}." for warning in warnings),
        "The input of `predict.x`, before its list of structures:",
        "\n".join(
            [
                "```text",
                f"TYPES\n{len(files)}",
                *potential.elements,
                "",
                "NETWORKS",
                *files,
                "",
                "FORCES",
                "```",
            ]
        ),
    ]
    if n_members > 1:
        parts.append(
            "aenet runs one network at a time: the prediction is the mean over the folders `nnp-1`, `nnp-2`, ..."
        )
    return "\n\n".join(parts) + "\n"
