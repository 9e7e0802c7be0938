"""The preset auto: cutoff and symmetry functions for a set of structures, chosen from its interatomic distances.

The functions are those published for TiO2 (N. Artrith and A. Urban, Comput. Mater. Sci. 114 (2016) 135), with lengths
scaled by the distance between neighbors if atoms are closer than in TiO2. Widths in geometric steps up to the cutoff
need no fit to the material (G. Imbalzano et al., J. Chem. Phys. 148 (2018) 241730). Of several elements, angular
functions weight neighbors by atomic number, since their columns would otherwise grow with the square of the number of
elements (M. Gastegger et al., J. Chem. Phys. 148 (2018) 241709).

Measurements (energy MAE in meV/atom and force MAE in eV/Å on held-out structures, one seed):

- Mo, a random fifth held out: functions of TiO2 2.0 and 0.100; η larger by 1.7 2.1 and 0.102; η smaller by 1.6 with a
  cutoff of 5 Å or of 7 Å 2.3 and 0.108. So lengths are never scaled up.
- Acetylacetone, trained on the half of lowest energies, tested on the tenth of highest: functions of TiO2 0.54 and
  0.040; η larger by 3 with a cutoff of 5 Å 0.69 and 0.045, with ten more evenly spaced radial functions 0.67 and 0.049,
  with weighted angular functions 0.86 and 0.050. So lengths are scaled down only for atoms closer than these.
- Cutoffs other than 6.5 Å, random fifths held out, errors over those at 6.5 Å: Si 8 Å 0.90 and 0.99 (three fifths),
  7.3 Å 1.01 and 0.99 (one); Ge 8 Å 0.89 and 0.94 (five), 7.3 Å 1.01 and 0.94 (two), 10 Å 0.97 and 0.96 (three); Mo
  7.2 Å 1.28 and 1.03 (two), 8 Å 1.40 and 1.04 (one); seven metals 7.3 Å 1.05 and 1.07 (one); TiO2 8 Å 1.03 and 1.06.
  An oxide of five elements 6.3 instead of 5.7 Å 1.06 and 1.00 (one). 30 structures in training, all others held out,
  8 Å, two draws: Si 0.93 and 1.25, forces 0.98 and 1.01; Ge 0.72 and 0.70, 0.95 and 0.89. So the cutoff of open
  crystals is longer.
- Two elements, MAE with the angular functions of TiO2, a column for each pair; with weighted ones; with those of
  `extended`. Copper and gold (EMT: crystals, slabs, melts and clusters of 6 to 20 atoms), 50 structures: 2.8, 2.4, 11.7
  meV/atom, 0.021, 0.026, 0.091 eV/Å (two draws); 200: 1.1, 1.0, 2.0, 0.012, 0.012, 0.027. SiO2 (GFN1-xTB, the same
  kinds), 50: 49, 50, 87, 0.68, 0.73, 0.81. MgO, 50, first and last: 38 and 44, 0.155 and 0.170 (two); 200: 29.5 and
  28.8, 0.119 and 0.125. Hydrocarbons (GFN2-xTB), 50: 8.9, 12.6, 8.6, 0.21, 0.23, 0.20; 200: 3.0, 4.6, 3.6, 0.100,
  0.131, 0.108. TiO2: docs/results/accuracy.md. Germanium, 30, first and last: 5.6 and 3.7, 0.070 and 0.059. So one
  element has those of `extended`.
- More elements, a column for each pair and weighted: copper, gold and aluminum, 50 structures 9.7 and 7.1, 0.046 and
  0.038 (two draws), 200 5.6 and 3.4, 0.031 and 0.028; acetylacetone, 30 1.07 and 1.89, 0.071 and 0.111, 100 0.42 and
  0.84, 0.029 and 0.050 (two); acetamide (GFN2-xTB, 500 K), 100 0.86 and 1.31, 0.038 and 0.060, 400 0.27 and 0.59,
  0.017 and 0.028; 61 molecules of C, H, N and O, 100 96 and 53, 0.46 and 0.44, 400 9.4 and 7.7, 0.21 and 0.19. So
  dense crystals have weighted ones from three elements on, one molecule from five, others from four.
- Seven metals in 60 small cells, two random fifths: a column for each pair 22 and 38 meV/atom, weighted angular
  functions 9.5 and 7.6, weighted radial functions as well 10 and 14.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.parameters.presets import PRESETS, TIO2_PRESET, are_published, functions_of
from tio2nn.parameters.schema import to_json
from tio2nn.wording import counted

STEP = 0.1
"""Å; cutoffs are whole multiples, neighbors are counted at them."""


Matter = Literal["molecules", "open crystals", "dense crystals"]
"""Molecules or clusters, or crystals whose atoms have few near neighbors or many."""


class Rule(NamedTuple):
    """The numbers of the rule; a spacing is the distance between neighbors, as `Statistics` has it."""

    # Å, in the set of TiO2 for which the functions were made that are scaled here
    reference_spacing: float = 1.70
    # Å; in no crystal are neighbors farther apart (cesium: 5.3 Å), so these atoms are just apart
    longest_spacing: float = 5.5
    # spacings, and neighbors within them: a close-packed or bcc metal has 11 to 13, silicon and TiO2 have 4 or 5
    close: float = 1.5
    most_close_if_open: float = 8.0
    # within the cutoff of a dense crystal: five shells; of an open one: as many as in TiO2
    neighbors: float = 75.0
    neighbors_if_open: float = 100.0
    # spacings; an open crystal has no second shell within less
    shortest_cutoff: float = 2.2
    # Å; where atoms are far apart, `shortest_cutoff` may lead beyond it
    longest_cutoff: float = 6.5
    longest_cutoff_if_open: float = 8.0
    # Å; molecules are small, so that all of their atoms may see each other for little
    shortest_for_molecules: float = 5.0
    longest_for_molecules: float = 6.5
    # elements with the larger set of angular functions
    most_for_extended: int = 1
    # elements with a column for each pair of them: ten would have 990 columns of angular functions
    most_for_pairs: Mapping[Matter, int] = MappingProxyType(
        {"molecules": 3, "open crystals": 3, "dense crystals": 2}
    )
    most_for_pairs_if_one_molecule: int = 4


RULE = Rule()


@dataclass(frozen=True)
class Statistics:
    """The facts that the choice depends on.

    Attributes:
        elements: of the parameter set, in its order.
        spacing: Å, the 5th percentile of the distances between an atom and its nearest neighbor, so that neither a
            few overlapping atoms nor those of the less dense structures decide; None if no atom has a neighbor.
        nearest: Å, for each pair of elements that are neighbors (in the order of `elements`) the 5th percentile and
            the median of the distances between an atom of one and the nearest atom of the other.
        is_finite: whether most atoms belong to molecules or clusters: nothing repeats within reach.
        extent: Å, the largest distance in a molecule or cluster (the 95th percentile of them); inf beyond reach.
        neighbors_within: (n,) mean number of neighbors within `STEP`, 2 `STEP`, ... of those atoms, or else of those
            that do not belong to molecules. Counted, for the vacuum above a surface spoils a density.
        is_one_molecule: whether the molecules or clusters have one composition, but for a tenth of them.
    """

    elements: tuple[str, ...]
    spacing: float | None
    nearest: Mapping[tuple[str, str], tuple[float, float]]
    is_finite: bool
    extent: float
    neighbors_within: tuple[float, ...]
    is_one_molecule: bool = False

    @property
    def reach(self) -> float:
        """Radius up to which neighbors were counted, Å."""
        return STEP * len(self.neighbors_within)

    def neighbors(self, radius: float) -> float:
        """Mean number of neighbors within `radius`, a multiple of `STEP` within reach, Å."""
        return self.neighbors_within[round(radius / STEP) - 1]

    def radius_of(self, neighbors: float) -> float:
        """Radius within which an atom has this many neighbors on average, Å; inf if out of range."""
        place = bisect_left(self.neighbors_within, neighbors)
        return STEP * (place + 1) if place < len(self.neighbors_within) else math.inf


@dataclass(frozen=True)
class Choice:
    """The chosen functions, with reasons.

    Attributes:
        elements: those of the statistics.
        cutoff: Å.
        radial: functions.
        angular: functions.
        angular_elements: "pairs": a column for each pair of neighbor elements; "weighted": these would be too many.
        reasons: of the cutoff and of the functions, a line each.
    """

    elements: tuple[str, ...]
    cutoff: float
    radial: tuple[RadialFunction, ...]
    angular: tuple[AngularFunction, ...]
    angular_elements: Literal["pairs", "weighted"]
    reasons: tuple[str, str]

    def applied_to(self, settings: ParameterSet) -> ParameterSet:
        """`settings` with these elements, cutoff and functions."""
        return settings.with_overrides(
            elements=self.elements,
            cutoff=self.cutoff,
            radial=to_json(self.radial),
            angular=to_json(self.angular),
            angular_elements=self.angular_elements,
        )


def choose_functions(statistics: Statistics, rule: Rule = RULE) -> Choice:
    """Cutoff and functions for these structures.

    Ti and O get the published functions. For other elements that are closer to each other, the published widths η are
    scaled by the square of the ratio of spacings, except for the widest, which is little more than the cutoff function.
    """
    elements = statistics.elements
    if are_published(elements):
        published = PRESETS[TIO2_PRESET]
        radial, angular = functions_of(published)
        reasons = ("as published for Ti and O", f"those of {TIO2_PRESET}")
        return Choice(elements, published.cutoff, radial, angular, "pairs", reasons)
    are_apart = statistics.spacing is None or statistics.spacing > rule.longest_spacing
    spacing = rule.reference_spacing if are_apart else statistics.spacing or rule.reference_spacing
    matter = _matter(statistics, spacing, rule)
    cutoff, why = _cutoff(statistics, spacing, matter, rule)
    if are_apart:
        why = "no atom has a neighbor to choose by"
    model = PRESETS["extended" if len(elements) <= rule.most_for_extended else TIO2_PRESET]
    length = min(spacing / rule.reference_spacing, 1.0)
    radial, angular = functions_of(
        replace(
            model,
            radial_etas=_scaled(model.radial_etas, length**-2),
            angular_etas=_scaled(model.angular_etas, length**-2),
        )
    )
    reason = (
        "as for TiO2" if length == 1.0 else f"lengths {length:.2f} times those for TiO2, for closer atoms"
    )
    most_for_pairs = rule.most_for_pairs[matter]
    if matter == "molecules" and statistics.is_one_molecule:
        most_for_pairs = rule.most_for_pairs_if_one_molecule
    kind: Literal["pairs", "weighted"] = "pairs" if len(elements) <= most_for_pairs else "weighted"
    if kind == "weighted":
        reason += "; with this many elements, angular ones weight neighbors by atomic number"
    return Choice(elements, cutoff, radial, angular, kind, (why, reason))


def explained(statistics: Statistics, choice: Choice, parameters: ParameterSet) -> list[tuple[str, str]]:
    """A summary for the user: what was found, what was chosen, and why.

    Args:
        statistics: what the choice was made from.
        choice: the choice.
        parameters: the set that it was applied to.
    """
    why_cutoff, why_functions = choice.reasons
    shown = f"{len(choice.radial)} radial, {len(choice.angular)} angular"
    n_neighbors = ""
    if choice.cutoff <= statistics.reach and statistics.spacing is not None:
        n = round(statistics.neighbors(choice.cutoff))
        n_neighbors = f", about {counted(n, 'neighbor')}"
    return [
        ("neighbors", _nearest_fact(statistics)),
        ("cutoff", f"{choice.cutoff:g} Å{n_neighbors}: {why_cutoff}"),
        (
            "functions",
            f"{parameters.n_features} for {', '.join(parameters.elements)}: {shown}, {why_functions}",
        ),
    ]


def _matter(statistics: Statistics, spacing: float, rule: Rule) -> Matter:
    if statistics.is_finite:
        return "molecules"
    n_close = statistics.neighbors(min(_whole_steps(rule.close * spacing), statistics.reach))
    return "open crystals" if 0.0 < n_close < rule.most_close_if_open else "dense crystals"


def _cutoff(statistics: Statistics, spacing: float, matter: Matter, rule: Rule) -> tuple[float, str]:
    """Cutoff, Å, and the reason for it."""
    by_spacing = rule.shortest_cutoff * spacing
    if matter == "molecules":
        shortest, longest = max(rule.shortest_for_molecules, by_spacing), rule.longest_for_molecules
        wanted, why = statistics.extent, "wide enough to span most molecules"
    else:
        is_open = matter == "open crystals"
        shortest, longest = by_spacing, rule.longest_cutoff_if_open if is_open else rule.longest_cutoff
        neighbors = rule.neighbors_if_open if is_open else rule.neighbors
        wanted, why = (
            statistics.radius_of(neighbors),
            f"wide enough for {neighbors:g} neighbors on average",
        )
    if wanted < shortest:
        wanted, why = shortest, f"the shortest for {matter} with neighbors {spacing:.2f} Å apart"
    elif wanted > max(longest, shortest):
        wanted, why = max(longest, shortest), f"the longest for {matter} with neighbors {spacing:.2f} Å apart"
    return _whole_steps(wanted), why


def _whole_steps(length: float) -> float:
    """A length rounded up to a multiple of `STEP`, but not for the last bit of one."""
    return round(math.ceil(round(length / STEP, 6)) * STEP, 1)


def _scaled(etas: tuple[float, ...], scale: float) -> tuple[float, ...]:
    """The widths η, 1/Å², scaled except for the widest, and rounded so that they are easy to edit."""
    widest, *others = etas
    return (widest, *(float(f"{eta * scale:.4g}") for eta in others))


def _nearest_fact(statistics: Statistics) -> str:
    n_shown = 6
    if statistics.spacing is None:
        return "none: no two atoms are close to each other"
    pairs = sorted(statistics.nearest.items(), key=lambda item: item[1][1])
    shown = ", ".join(f"{first}-{second} {median:.2f} Å" for (first, second), (_, median) in pairs[:n_shown])
    more = f" and {len(pairs) - n_shown} more" if len(pairs) > n_shown else ""
    within = f"{statistics.spacing:.2f} Å"
    return f"{shown}{more} (median nearest distances); 5 % of the atoms have a neighbor within {within}"
