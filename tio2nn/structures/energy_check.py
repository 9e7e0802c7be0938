"""Checks of energies by themselves: are they total energies, by one method, in eV?

Nothing but overlapping nuclei moves structures of one method apart by more than some 20 eV/atom, once each element has
its reference energy. Energies per atom, and a constant in each total energy, do, where sizes of structures differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray
from tio2nn.structures.absolute_energies import message_of_unit
from tio2nn.structures.audit import Audit
from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.outliers import GROSS_ENERGY
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.wording import counted

# eV/atom; the numerical noise of a method, such as that of another sampling of the Brillouin zone, is smaller
_LARGEST_NOISE = 0.01
# Between energies of one method, eV/atom. Twice as far as single atoms are from the crystal, either way
_LARGEST_SPREAD = 2.0 * GROSS_ENERGY
# Sums of covalent radii; nuclei that are closer repel each other with any energy
_OVERLAP = 0.6
# An explanation leaves at most this part of the spread
_EXPLAINED = 0.1
# eV/Å; smaller forces may leave energies the same to all digits of a file
_SMALL_FORCE = 0.1
_FEWEST = 3  # geometries that have the same energy by no chance


class EnergyFindings(NamedTuple):
    """What is strange about energies.

    Attributes:
        messages: a line for each finding, with what to do.
        are_wrong: whether a potential cannot have these energies.
    """

    messages: tuple[str, ...] = ()
    are_wrong: bool = False


NOTHING_STRANGE = EnergyFindings()


def check_energies(
    findings: Audit, compositions: NDArray[np.integer], energies: FloatArray
) -> EnergyFindings:
    """Look for other units, energies per atom, constants, different methods and several energies of one geometry.

    Args:
        findings: the audit of the structures.
        compositions: (n_structures, n_elements) number of atoms of each element.
        energies: (n_structures,) total energies, eV.
    """
    elements = findings.reference.elements
    messages = []
    if (line := message_of_unit(elements, compositions, energies)) is not None:
        messages.append(line)
    if (line := _of_duplicates(findings)) is not None:
        messages.append(line)
    if (line := _of_equals(findings, energies)) is not None:
        return EnergyFindings((*messages, line), are_wrong=True)
    usual = ~findings.gross & ~_overlap(findings)
    # those that are given may be of another method, or zero
    reference = ReferenceEnergies.fit(elements, compositions, energies)
    cohesive = reference.cohesive(compositions, energies)[usual]
    if len(cohesive) < 2 or (spread := float(np.ptp(cohesive))) <= _LARGEST_SPREAD:
        return EnergyFindings(tuple(messages))
    cause = _cause(np.asarray(compositions, dtype=np.float64)[usual], energies[usual], spread)
    messages.append(
        f"energies of {counted(len(cohesive), 'structure')} differ by {spread:,.0f} eV/atom, more than bonds can "
        f"explain: {cause}"
    )
    return EnergyFindings(tuple(messages), are_wrong=True)


def _of_duplicates(findings: Audit) -> str | None:
    per_atom = np.abs(findings.duplicate_energies) / findings.n_atoms
    differ = per_atom > _LARGEST_NOISE  # NaN, of other structures, is not
    if not differ.any():
        return None
    n, largest = int(np.count_nonzero(differ)), 1000.0 * float(np.nanmax(per_atom))
    have = counted(n, "structure has", "structures have")
    return (
        f"{have} the geometry of another but a different energy, by up to {largest:.3g} meV/atom: fits learn the mean; "
        "keep energies of one method, charge and spin (duplicate_of in energies.csv)"
    )


def _of_equals(findings: Audit, energies: FloatArray) -> str | None:
    """All energies are the same, but atoms feel forces: the energies are placeholders."""
    n_geometries = len(energies) - int(np.count_nonzero(findings.groups.duplicate_of >= 0))
    moved = findings.max_forces > _SMALL_FORCE  # NaN, of structures without forces, is not
    if n_geometries < _FEWEST or np.ptp(energies) > 0.0 or not moved.any():
        return None
    return (
        f"all energies are {energies[0]:g} eV, but forces reach {np.nanmax(findings.max_forces):.3g} eV/Å: give the "
        "energies of these structures"
    )


def _overlap(findings: Audit) -> BoolArray:
    """(n_structures,) whether two atoms are as close as nuclei are in collisions."""
    bonds = np.array(
        [sum(COVALENT_RADII[element] for element in pair.split("-")) for pair in findings.closest_elements]
    )
    return np.asarray(findings.closest.distances < _OVERLAP * bonds)


def _cause(compositions: FloatArray, energies: FloatArray, spread: float) -> str:
    n_atoms = compositions.sum(axis=1)
    fractions = compositions / n_atoms[:, None]
    with_constant = np.column_stack([fractions, 1.0 / n_atoms])
    left, cause = min(
        (_left(fractions, energies), "they seem to be energies per atom; give total energies"),
        (
            _left(with_constant, energies / n_atoms),
            "each total energy seems to contain the same constant; subtract it",
        ),
    )
    if left < _EXPLAINED * spread:
        return cause
    return "check units, and that all are total energies by one method"


def _left(design: FloatArray, values: FloatArray) -> float:
    """Spread of what least squares leave, eV/atom; inf if there are too few values to tell."""
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(np.ptp(values - design @ solution)) if len(values) > int(rank) + 1 else np.inf
