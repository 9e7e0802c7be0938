"""The verb export: a potential as a folder that another program reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from tio2nn.errors import InputError, UsageError
from tio2nn.export.aenet import aenet_files
from tio2nn.export.aenet_text import aenet_readme
from tio2nn.export.folder import README, write_folder
from tio2nn.export.n2p2 import n2p2_files
from tio2nn.export.n2p2_text import n2p2_readme
from tio2nn.export.units import UNITS, UnitsName
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.fit_parameters import ACTIVATIONS
from tio2nn.parameters.targets import NAMES, Target, warning_of
from tio2nn.parameters.validation import known
from tio2nn.potential.potential import Potential

Format = Literal["n2p2", "aenet"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Exported(NamedTuple):
    """Result of an export.

    Attributes:
        directory: the folder.
        n_members: networks in it.
        readme: how to use it.
        warnings: where the other program computes something else.
        remarks: on structures for which it does not work.
    """

    directory: Path
    n_members: int
    readme: Path
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]


def known_format(name: str | None) -> Format | None:
    """The format of that name; None for none.

    Raises:
        UsageError: no such format.
    """
    return None if name is None else known(name, FORMATS, "--format")


def export(
    potential: Potential,
    directory: AnyPath,
    form: Format | None = None,
    *,
    units: UnitsName | None = None,
    strict: bool = False,
    train: str = "tio2nn train",
    source: AnyPath | None = None,
) -> Exported:
    """Write a potential as a folder for other programs.

    Args:
        potential: any.
        directory: new, empty, or an earlier export, which is replaced.
        form: of the files; by default aenet for a potential that is made for it, else n2p2.
        units: of the files; by default those of the folder that the potential was read from, else atomic for one that
            is made for CP2K, else metal. A folder in atomic units is also for CP2K, so it holds only what CP2K reads.
        strict: refuse where the other program would compute something else.
        train: the command that trains the potential, for messages.
        source: what the potential was read from, if that is known; a folder is not written over.

    Raises:
        UsageError: units that the format does not have.
        InputError: the format cannot hold the potential, or the directory holds something else; nothing is written.
    """
    directory = Path(directory)
    if source is not None and Path(source).is_dir():
        _require_apart(directory, Path(source))
    target = potential.parameters.target
    if (form or ("aenet" if target == "aenet" else "n2p2")) == "aenet":
        if units == "atomic":
            raise UsageError("--units: expected metal, the units of aenet, got atomic")
        warnings, remarks = _warnings(potential, "aenet"), tuple[str, ...]()
        files: Mapping[str, str | bytes] = aenet_files(potential, train=train)
        readme = aenet_readme(potential, directory, warnings)
    else:
        own = potential.about.get("units") or ("atomic" if target == "cp2k" else "metal")
        chosen = UNITS[units or own]
        for_cp2k = chosen.name == "atomic"
        warnings = _warnings(potential, "cp2k") if for_cp2k else ()
        remarks = (_on_narrow_cells(potential),) if for_cp2k else ()
        files = n2p2_files(potential, chosen, weighted=not for_cp2k, train=train)
        readme = n2p2_readme(potential, chosen, directory, warnings)
    if strict and warnings:
        raise InputError(f"cannot export the potential: {'; '.join(warnings)}")
    write_folder(directory, {README: readme, **files})
    return Exported(directory, len(potential.members), directory / README, warnings, remarks)


def _require_apart(directory: Path, source: Path) -> None:
    one, other = directory.resolve(), source.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InputError(
            f"expected a directory apart from that of the potential, {source}, got one with it",
            file=str(directory),
        )


def _on_narrow_cells(potential: Potential) -> str:
    cutoff = potential.parameters.cutoff
    return f"CP2K computes wrong numbers for cells narrower than {cutoff:g} Å between opposite faces"


def _warnings(potential: Potential, target: Target) -> tuple[str, ...]:
    """Where a program computes something other than the potential."""
    activations = {layer.activation for member in potential.members for net in member for layer in net}
    found = [warning for name in ACTIVATIONS if name in activations and (warning := warning_of(target, name))]
    if potential.repulsion is not None:
        pairs = itertools.combinations_with_replacement(enumerate(potential.elements), 2)
        radii = ", ".join(
            f"{one}-{other} {potential.repulsion.outer[i, j]:.2f} Å" for (i, one), (j, other) in pairs
        )
        found.append(
            f"{NAMES[target]} gets the networks without the short-range repulsion: energies and forces differ where "
            f"atoms are closer than {radii}"
        )
    return tuple(found)
