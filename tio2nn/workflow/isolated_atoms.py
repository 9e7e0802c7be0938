"""Reference energies from isolated atoms: structures of one atom that their file marks as isolated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.files.strict_json import format_json, load
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.project import Project
from tio2nn.structures.geometry import closest_pairs
from tio2nn.structures.structure import CONFIG_TYPE, Structure
from tio2nn.wording import counted

_LABEL = "isolatedatom"
_LONGEST_CUTOFF = 6.5  # Å; of those that are chosen for a project without one
_LARGEST_DIFFERENCE = 1e-3  # eV, between two atoms of one element


def is_isolated_atom(structure: Structure) -> bool:
    """Whether a structure is one atom that its file calls isolated."""
    letters = "".join(filter(str.isalpha, structure.config_type))
    return structure.n_atoms == 1 and letters.lower() == _LABEL


def are_references(atoms: Iterable[Structure], given: Mapping[str, float] | None) -> bool:
    """Whether the energies of isolated atoms are the reference energies: they tell nothing else."""
    return given is not None and all(
        abs((atom.energy or 0.0) - given.get(atom.elements[0], math.inf)) <= _LARGEST_DIFFERENCE
        for atom in atoms
    )


def remark_on_unused(atoms: Sequence[Structure]) -> str | None:
    """A line on isolated atoms that stay among the structures, or None if there are none."""
    if not atoms:
        return None
    return (
        f"{counted(len(atoms), 'isolated atom')} learned like any other structure; with an atom of each element, "
        "--isolated-atoms takes the reference energies from them"
    )


def energies_of_atoms(
    atoms: Sequence[Structure], structures: Iterable[Structure], parameters: ParameterSet | Draft
) -> dict[str, float]:
    """The energy of an atom of each element, eV.

    Args:
        atoms: isolated atoms.
        structures: those that need reference energies.
        parameters: with the cutoff, within which an isolated atom has no neighbor.

    Raises:
        InputError: an atom that is not isolated, two that disagree, or an element without one.
    """
    cutoff = parameters.cutoff if isinstance(parameters, ParameterSet) else _LONGEST_CUTOFF
    found: dict[str, Structure] = {}
    for atom, distance in zip(atoms, closest_pairs(atoms).distances.tolist(), strict=True):
        if distance <= cutoff:
            raise atom.error(
                f"expected an isolated atom, got its image {distance:.2f} Å away, within {cutoff} Å"
            )
        first = found.setdefault(atom.elements[0], atom)
        if abs((atom.energy or 0.0) - (first.energy or 0.0)) > _LARGEST_DIFFERENCE:
            got = f"{first.energy} and {atom.energy} eV"
            raise atom.error(f"expected one energy for isolated atoms of {atom.elements[0]}, got {got}")
    needed = {element for structure in structures for element in structure.composition}
    if isinstance(parameters, ParameterSet):
        needed |= set(parameters.elements)
    if missing := sorted(needed - found.keys()):
        raise InputError(
            f"expected an isolated atom ({CONFIG_TYPE}=isolated_atom) of each element, got none of "
            f"{', '.join(missing)}"
        )
    return {element: found[element].energy or 0.0 for element in sorted(needed)}


def with_reference_energies(project: Project, energies: dict[str, float]) -> ParameterSet | Draft:
    """Write reference energies to `params.json`, and nothing else; the parameters then.

    Raises:
        InputError: there are others.
    """
    file = project.parameters_file
    document = load(file)
    given = document.get("reference_energies")
    if given not in (None, energies):
        reason = 'expected no "reference_energies" beside those of isolated atoms, got others: remove them'
        raise InputError(reason, file=str(file))
    document["reference_energies"] = energies
    with atomic_write(file) as handle:
        handle.write(format_json(document))
    return project.parameters_or_draft()
