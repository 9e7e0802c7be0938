"""Compares the stresses of the parts of a data set: a source or a kind may have other units or signs than the rest.

Energies and forces judge each part by itself, as they judge the whole. Where they show nothing, sizes do: a factor of
100 between two sources is more than most data have, and less than that between units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.structures.parts import by_kind, by_source
from tio2nn.structures.slab_check import SlabCheck, compare_slabs
from tio2nn.structures.stress import GPA
from tio2nn.structures.stress_check import StressCheck, compare_stress
from tio2nn.structures.structure import Structure
from tio2nn.wording import listed

_OTHER_SIZE = 100.0  # GPa, kbar, Ha/Bohr³ and virials of usual cells are farther from eV/Å³
_MOST_SHOWN = 3  # names in a line


class StressParts(NamedTuple):
    """What is to be said of parts of a data set.

    Attributes:
        messages: one line for each part whose stresses are wrong, or unlike those of the others.
        instead_of_energies: whether they say more than the comparison of all stresses with energies.
        instead_of_slabs: as for energies, of the shears of all slabs.
        doubts: of the parts that are wrong, as `StressCheck.doubt`.
    """

    messages: tuple[str, ...] = ()
    instead_of_energies: bool = False
    instead_of_slabs: bool = False
    doubts: tuple[str, ...] = ()

    def fact_of(self, whole: StressCheck) -> str:
        """Messages about all stresses, of which these are parts."""
        if self.instead_of_energies:
            return f"{whole.range_fact()}; parts do not match energies, see below"
        return whole.fact()


class _Verdict(NamedTuple):
    """What was found of a part: "" for right stresses; None if nothing was."""

    cause: str | None = None
    message: Callable[[str, str], str] | None = None
    doubt: str = ""


def compare_parts(
    structures: Sequence[Structure],
    whole: StressCheck,
    slabs: SlabCheck | None,
    *,
    forces_agree: bool = True,
) -> StressParts:
    """Compare the stresses of each source and each kind with its energies and forces, and sources with each other.

    Args:
        structures: in natural order.
        whole: what was found of all of them.
        slabs: what was found of all slabs, if anything.
        forces_agree: whether forces are known not to disagree with the energies.
    """
    labeled = [s for s in structures if s.stress is not None and all(s.periodic)]
    of_energies: list[str] = []
    of_slabs: list[str] = []
    doubts: list[str] = []
    sizes: list[str] = []
    sources, kinds = by_source(labeled), by_kind(labeled)
    of_sources = {name: _by_energies(own) for name, own in sources.items()} if len(sources) > 1 else {}
    of_kinds = {name: _by_energies(own) for name, own in kinds.items()} if len(kinds) > 1 else {}
    for parts, by_energy in ((sources, of_sources), (kinds, of_kinds)):
        if not by_energy or not forces_agree:
            continue
        by_force = {
            name: _Verdict() if by_energy[name].cause else _by_slabs(own) for name, own in parts.items()
        }
        of_energies = of_energies or _different(by_energy, whole.cause if whole.disagrees else "")
        of_slabs = of_slabs or _different(by_force, "" if slabs is None else slabs.cause)
        doubts += [verdict.doubt for verdict in (*by_energy.values(), *by_force.values()) if verdict.doubt]
    if not of_energies and not of_slabs:
        doubts = []  # that of the whole says it
    if len(sources) > 1 and not of_energies and not whole.disagrees:
        are_right = {name for name, verdict in of_sources.items() if verdict.cause == ""}
        sizes = _of_other_size(sources, are_right)
    return StressParts(
        (*of_energies, *of_slabs, *sizes), bool(of_energies), bool(of_slabs), tuple(sorted(set(doubts)))
    )


def _by_energies(structures: Sequence[Structure]) -> _Verdict:
    found = compare_stress(structures)
    if found.slope is None:
        return _Verdict()
    return _Verdict(found.cause or "by a factor" if found.disagrees else "", found.message, found.doubt)


def _by_slabs(structures: Sequence[Structure]) -> _Verdict:
    found = compare_slabs(structures)
    return _Verdict() if found is None else _Verdict(found.cause, found.message, found.doubt)


def _different(verdicts: Mapping[str, _Verdict], of_whole: str) -> list[str]:
    """A line for each part that is wrong; none if what was found of the whole says it all."""
    wrong = {name: verdict for name, verdict in verdicts.items() if verdict.cause}
    right = [name for name, verdict in verdicts.items() if verdict.cause == ""]
    if not right and {verdict.cause for verdict in wrong.values()} <= {of_whole}:
        return []
    shown = [*right[:_MOST_SHOWN], *(["others"] if len(right) > _MOST_SHOWN else [])]
    agree = f"those of {listed(shown)} agree; " if shown else ""
    return [
        verdict.message(f" of {name}", agree)
        for name, verdict in wrong.items()
        if verdict.message is not None
    ]


def _of_other_size(parts: Mapping[str, Sequence[Structure]], are_right: set[str]) -> list[str]:
    """A line if the stresses of a part are far larger than those of another, and energies do not confirm both."""
    sizes = {
        name: float(np.median([np.abs(s.stress).max() for s in own if s.stress is not None]))
        for name, own in parts.items()
    }
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if not 0.0 < _OTHER_SIZE * sizes[least] <= sizes[most] or {least, most} <= are_right:
        return []
    ratio = sizes[most] / sizes[least]
    large, small = (f"{GPA * sizes[name]:.3g} GPa" for name in (most, least))
    found = f"stresses of {most} are typically {large}, those of {least} {small}, {ratio:.3g} times less"
    return [f"{found}; check that both are in eV/Å³"]
