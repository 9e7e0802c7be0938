from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tio2nn.parameters.choose_functions import RULE, STEP, Rule, Statistics, choose_functions, explained
from tio2nn.parameters.presets import preset

PACKED = tuple(0.25 * (STEP * k) ** 3 for k in range(1, 81))
"""Neighbors within each step to 8 Å where 0.06 atoms are in a cubic angstrom."""

CRYSTAL = Statistics(("Cu",), 2.5, {("Cu", "Cu"): (2.5, 2.6)}, False, math.inf, PACKED)
MOLECULE = Statistics(("C", "H"), 1.0, {("C", "H"): (1.0, 1.1)}, True, 5.43, (0.0,) * 10 + (8.0,) * 70)


def test_ti_and_o_get_the_functions_that_were_published_for_them() -> None:
    choice = choose_functions(replace(CRYSTAL, elements=("Ti", "O")))
    published = preset("artrith-urban-2016", ("Ti", "O"))
    assert choice.applied_to(preset("extended", ("Cu",))).fingerprint == published.fingerprint
    assert choice.angular_elements == "pairs"
    other_order = choose_functions(replace(CRYSTAL, elements=("O", "Ti")))
    assert other_order.elements == ("O", "Ti")
    assert (other_order.radial, other_order.angular) == (published.radial, published.angular)


@pytest.mark.parametrize("factor", [0.8, 0.6])
def test_lengths_follow_those_of_close_atoms(factor: float) -> None:
    rule, start = Rule(longest_cutoff=20.0, longest_cutoff_if_open=20.0), RULE.reference_spacing
    larger = tuple(0.25 * (STEP * k / factor) ** 3 for k in range(1, 161))
    one = choose_functions(replace(CRYSTAL, spacing=start), rule)
    other = choose_functions(replace(CRYSTAL, spacing=start * factor, neighbors_within=larger), rule)
    assert other.cutoff == pytest.approx(one.cutoff * factor, abs=STEP)
    for mine, scaled in ((one.radial, other.radial), (one.angular, other.angular)):
        # the widest are as wide as any
        widest = min(f.eta for f in mine)
        etas = [(f.eta, g.eta) for f, g in zip(mine, scaled, strict=True) if f.eta > widest]
        assert etas
        assert [g for _, g in etas] == pytest.approx([f / factor**2 for f, _ in etas], rel=1e-3)
        assert min(g.eta for g in scaled) == widest


@pytest.mark.parametrize("spacing", [1.0, 1.4, 2.5])
def test_where_neighbors_are_no_closer_than_in_tio2_functions_are_those_for_tio2(spacing: float) -> None:
    choice = choose_functions(replace(CRYSTAL, spacing=spacing * RULE.reference_spacing))
    extended = preset("extended", ("Cu",))
    assert [f.eta for f in choice.radial] == pytest.approx([f.eta for f in extended.radial], rel=1e-3)
    assert [f.eta for f in choice.angular] == pytest.approx([f.eta for f in extended.angular], rel=1e-3)
    assert [(f.lambda_, f.zeta) for f in choice.angular] == [(f.lambda_, f.zeta) for f in extended.angular]


def test_a_crystal_has_so_many_neighbors_within_the_cutoff() -> None:
    dense = replace(CRYSTAL, neighbors_within=tuple(0.4 * (STEP * k) ** 3 for k in range(1, 81)))
    choice = choose_functions(dense)
    within = dense.neighbors(choice.cutoff)
    assert dense.neighbors(choice.cutoff - STEP) < RULE.neighbors <= within
    assert (
        f", about {within:.0f} neighbors: wide enough for {RULE.neighbors:g} neighbors on average"
        in dict(explained(dense, choice, choice.applied_to(preset("extended", ("Cu",)))))["cutoff"]
    )


def test_an_open_crystal_has_as_many_neighbors_as_titania() -> None:
    # four neighbors within 1.5 spacings, 12 more a little farther away
    silicon = tuple((4.0 if STEP * k < 3.6 else 0.2 * (STEP * k) ** 3) for k in range(1, 81))
    choice = choose_functions(replace(CRYSTAL, spacing=2.3, neighbors_within=silicon))
    assert choice.cutoff == 8.0
    assert choice.reasons[0] == "wide enough for 100 neighbors on average"


@pytest.mark.parametrize(
    ("spacing", "density", "expected"),
    [
        # 2.2 spacings, 6.5 Å, and where both contradict each other the spacings
        (2.5, 10.0, 5.5),
        (2.5, 0.2, 6.5),
        # open ones
        (2.5, 0.01, 8.0),
        (4.0, 0.01, 8.8),
    ],
)
def test_the_cutoff_of_a_crystal_has_bounds(spacing: float, density: float, expected: float) -> None:
    counts = tuple(density * (STEP * k) ** 3 for k in range(1, 81))
    choice = choose_functions(replace(CRYSTAL, spacing=spacing, neighbors_within=counts))
    assert choice.cutoff == expected
    assert f"neighbors {spacing:.2f} Å apart" in choice.reasons[0]


@pytest.mark.parametrize(("extent", "expected"), [(5.43, 5.5), (2.0, 5.0), (7.5, 6.5), (math.inf, 6.5)])
def test_the_cutoff_of_molecules_spans_them_where_they_are_small(extent: float, expected: float) -> None:
    assert choose_functions(replace(MOLECULE, extent=extent)).cutoff == expected


@pytest.mark.parametrize(
    ("elements", "columns", "kind"),
    [
        (("Si",), 48, "pairs"),
        (("Cu", "Au"), 70, "pairs"),
        (("Al", "Cu", "Au"), 8 * 3 + 18, "weighted"),
        (("Li", "Ni", "Mn", "O"), 8 * 4 + 18, "weighted"),
        (("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"), 8 * 7 + 18, "weighted"),
    ],
)
def test_columns_do_not_explode_with_elements(elements: tuple[str, ...], columns: int, kind: str) -> None:
    choice = choose_functions(replace(CRYSTAL, elements=elements))
    assert choice.angular_elements == kind
    parameters = choice.applied_to(preset("extended", ("Si",)))
    assert parameters.elements == elements
    assert parameters.n_features == columns
    assert (parameters.radial_elements, parameters.angular_elements) == ("each", kind)


def test_molecules_and_open_crystals_have_more_columns_than_metals_of_as_many_elements() -> None:
    silicon_like = tuple((4.0 if STEP * k < 3.6 else 0.2 * (STEP * k) ** 3) for k in range(1, 81))
    open_crystal = replace(CRYSTAL, spacing=2.3, neighbors_within=silicon_like)
    columns = []
    for elements in (("C", "H"), ("C", "H", "O"), ("C", "H", "N", "O"), ("C", "H", "N", "O", "S")):
        kinds = (CRYSTAL, open_crystal, MOLECULE, replace(MOLECULE, is_one_molecule=True))
        choices = [choose_functions(replace(kind, elements=elements)) for kind in kinds]
        sets = [choice.applied_to(preset("extended", ("Si",))) for choice in choices]
        columns.append([parameters.n_features for parameters in sets])
    assert columns == [[70] * 4, [42, 132, 132, 132], [50, 50, 50, 212], [58] * 4]


def test_the_settings_are_kept() -> None:
    settings = preset("extended", ("Si",)).with_overrides(training={"epochs": 7})
    assert choose_functions(CRYSTAL).applied_to(settings).training == settings.training


def test_where_no_atom_has_a_neighbor_something_is_chosen_and_said() -> None:
    for finite in (True, False):
        lonely = Statistics(("He",), None, {}, finite, 0.0 if finite else math.inf, (0.0,) * 80)
        assert choose_functions(lonely).cutoff == (5.0 if finite else 6.5)
        choice = choose_functions(lonely)
        shown = dict(explained(lonely, choice, choice.applied_to(preset("extended", ("He",)))))
        assert shown["neighbors"] == "none: no two atoms are close to each other"


def test_the_facts_name_what_was_seen_and_chosen() -> None:
    choice = choose_functions(MOLECULE)
    shown = dict(explained(MOLECULE, choice, choice.applied_to(preset("extended", ("Si",)))))
    assert shown == {
        "neighbors": "C-H 1.10 Å (median nearest distances); 5 % of the atoms have a neighbor within 1.00 Å",
        "cutoff": "5.5 Å, about 8 neighbors: wide enough to span most molecules",
        "functions": (
            "70 for C, H: 8 radial, 18 angular, lengths 0.59 times those for TiO2, for closer atoms"
        ),
    }


def test_atoms_without_any_neighbor_are_no_reason_to_speak_of_neighbors() -> None:
    alone = replace(
        CRYSTAL, spacing=None, nearest={}, is_finite=True, extent=0.0, neighbors_within=(0.0,) * 80
    )
    choice = choose_functions(alone)
    shown = dict(explained(alone, choice, choice.applied_to(preset("extended", ("Cu",)))))
    assert shown["neighbors"] == "none: no two atoms are close to each other"
    assert shown["cutoff"] == "5 Å: no atom has a neighbor to choose by"


def test_atoms_that_are_far_apart_in_periodic_cells_have_no_neighbors_to_choose_by() -> None:
    apart = replace(CRYSTAL, spacing=15.0, neighbors_within=(0.0,) * 80)
    choice = choose_functions(apart)
    assert choice.cutoff == 6.5
    assert choice.reasons[0] == "no atom has a neighbor to choose by"
