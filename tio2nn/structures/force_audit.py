"""What energies show about the forces of a data set: all of them, and those of single sources, kinds and runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tio2nn.structures.contradictions import Contradiction
from tio2nn.structures.force_check import Disagreement, ForceCheck, check_forces
from tio2nn.structures.force_pairs import to_compare
from tio2nn.structures.groups import Groups
from tio2nn.structures.parts import by_kind, by_source, largest
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted, listed

_SHOWN = 3  # names in a line, and lines
# Part of the structures whose wrong forces a fit bears, as the loss of large errors is linear. Si, one network, 150
# epochs, a fifth held out: energies (MAE, meV/atom) and forces (RMSE, eV/Å) 3.41 and 0.117, on energies alone 9.14 and
# 0.554; with the forces of a twentieth of the structures turned around 3.59 and 0.128, in Ha/Å 3.46 and 0.127, of other
# atoms 3.57 and 0.124; of a tenth 3.54 and 0.185, 4.23 and 0.373, 3.47 and 0.135.
_FEW = 0.1

_CHECK_ENERGIES = "check that energies are converged, and free energies where levels are smeared"


class ForceAudit(NamedTuple):
    """What was found of the forces.

    Attributes:
        messages: one line for each disagreement with the energies.
        per_atom: whether they would agree if the energies were total energies.
        are_few: whether they are those of a few structures, too few to spoil a fit.
        draw_back: whether forces draw atoms back all the same, so that the energies are more likely wrong.
    """

    messages: tuple[str, ...] = ()
    per_atom: bool = False
    are_few: bool = False
    draw_back: bool = False

    @property
    def are_wrong(self) -> bool:
        """Whether a fit is better off without the forces."""
        return not self.agree and not self.per_atom

    @property
    def agree(self) -> bool:
        """Whether nothing is known against the forces, but for a few."""
        return not self.messages or self.are_few or self.draw_back

    @classmethod
    def of(cls, structures: Sequence[Structure], groups: Groups) -> ForceAudit:
        """Compare forces with energy differences, of all structures and of parts of the data set.

        Args:
            structures: in natural order.
            groups: their groups; duplicates are skipped.
        """
        usable = to_compare(structures, groups)
        whole = check_forces(usable)
        partitions = (by_source(usable), by_kind(usable), _by_run(structures, groups, usable))
        found = [{name: _of_part(own) for name, own in parts.items()} for parts in partitions]
        most = _FEW * len(usable)
        for parts, checks in zip(partitions, found, strict=True):
            # single structures are told of the whole, where that can be
            of_all = {name: check for name, check in checks.items() if not _is_of_single(check)}
            if lines := _different(of_all):
                n_wrong = sum(len(parts[name]) for name, check in of_all.items() if check.finding is not None)
                return cls(lines, are_few=n_wrong <= most, draw_back=_all_draw_back(of_all))
        if whole.finding is None:
            for checks in found:
                if lines := _different(checks):
                    return cls(lines, draw_back=_all_draw_back(checks))
            return cls()
        per_atom = isinstance(whole.finding, Disagreement) and whole.finding.per_atom
        names = whole.finding.names if isinstance(whole.finding, Contradiction) else ()
        are_few = 0 < len(names) <= most
        return cls((_message(whole.finding),), per_atom, are_few, _draws_back(whole))


NOTHING_WRONG = ForceAudit()


def _different(found: Mapping[str, ForceCheck]) -> tuple[str, ...]:
    """A line for each part that is wrong; none unless another is right, or wrong in another way."""
    right = [name for name, check in found.items() if check.are_right]
    wrong = {name: check.finding for name, check in found.items() if check.finding is not None}
    causes = {finding.cause if isinstance(finding, Disagreement) else None for finding in wrong.values()}
    if not wrong or (not right and (len(causes) < 2 or None in causes)):
        return ()
    shown = [*right[:_SHOWN], *(["others"] if len(right) > _SHOWN else [])]
    agree = f"those of {listed(shown)} agree; " if shown else ""
    lines = [_message(finding, f" of {name}", agree) for name, finding in wrong.items()]
    if (more := len(lines) - _SHOWN) > 0:
        lines[_SHOWN:] = [f"nor do forces of {counted(more, 'other part')} of the data set"]
    return tuple(lines)


def _of_part(structures: Sequence[Structure]) -> ForceCheck:
    """As of the whole, but only what is sure enough for so many parts."""
    check = check_forces(structures, in_one_cell=True)
    return ForceCheck() if isinstance(check.finding, Disagreement) and not check.finding.cause else check


def _draws_back(check: ForceCheck) -> bool:
    return isinstance(check.finding, Contradiction) and check.finding.draw_back


def _all_draw_back(found: Mapping[str, ForceCheck]) -> bool:
    return all(check.finding is None or _draws_back(check) for check in found.values())


def _is_of_single(check: ForceCheck) -> bool:
    return isinstance(check.finding, Contradiction) and bool(check.finding.names)


def _by_run(
    structures: Sequence[Structure], groups: Groups, usable: Sequence[Structure]
) -> dict[str, list[Structure]]:
    """Structures of each run of consecutive frames with one cell, by the names of the first and the last."""
    members: dict[int, list[str]] = defaultdict(list)
    for structure, run in zip(structures, groups.run.tolist(), strict=True):
        if run >= 0:
            members[run].append(structure.name)
    run_of = {name: f"{names[0]} to {names[-1]}" for names in members.values() for name in names}
    in_runs = [structure for structure in usable if structure.name in run_of]
    return largest([run_of[structure.name] for structure in in_runs], in_runs)


def _message(finding: Disagreement | Contradiction, of_part: str = "", others: str = "") -> str:
    if isinstance(finding, Disagreement):
        return finding.message(of_part, others)
    n, names = finding.n_pairs, finding.names
    if names and finding.factor is not None:
        cause = Disagreement(finding.factor, n, "pairs", per_atom=False, from_xsf=False).cause
    else:
        cause = finding.order
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        found = f"forces of {counted(len(names), 'structure')}{of_part} ({shown}) do not match energies"
        others = "those of the others agree; "
    elif not n:
        found = (
            f"forces do not match energies: in {finding.n_compared} structures that differ by displacements, they "
            "neither explain the energies nor draw atoms back"
        )
    else:
        found = (
            f"forces{of_part} do not match energies: over {n} of {finding.n_compared} pairs, energies change otherwise "
            "than the forces of either structure predict"
        )
    if finding.draw_back:
        return f"{found}, though they draw atoms back as right forces do; {others}{_CHECK_ENERGIES}"
    if cause:
        return f"{found}, {cause}; {others}correct the files"
    return f"{found}; {others}check that forces belong to these structures and atoms, in this order"
