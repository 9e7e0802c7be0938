"""What is said of a fit before it begins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tio2nn.cli.plans import constant_line, cost_line, labels_line
from tio2nn.parameters.presets import preset
from tio2nn.parameters.recipes import resolve
from tio2nn.parameters.training_size import Facts

FACTS = Facts(
    n_structures=300,
    n_atoms=6_000,
    n_structures_with_forces=300,
    n_force_components=18_000,
    n_derivatives=300 * 20 * 20 * 210,
    n_features=70,
    n_elements=2,
)
MIXED = replace(FACTS, n_structures_with_forces=120)
NEW = preset("artrith-urban-2016")


@pytest.mark.parametrize(
    ("recipe", "forces", "facts", "expected"),
    [
        (
            "auto",
            "auto",
            FACTS,
            "training on energies and forces of all 300 structures; --energies-only leaves the forces out",
        ),
        (
            "auto",
            "auto",
            MIXED,
            (
                "training on the energies of all 300 structures and the forces of the 120 that have them; "
                "--energies-only leaves the forces out"
            ),
        ),
        (
            "auto",
            "auto",
            replace(FACTS, n_structures_with_forces=1),
            (
                "training on the energies of all 300 structures and the forces of the one that has them; "
                "--energies-only leaves the forces out"
            ),
        ),
        (
            "auto",
            "auto",
            FACTS.without_forces,
            "training on the energies of all 300 structures: none has forces",
        ),
        ("auto", True, FACTS, "training on energies and forces of all 300 structures, as requested"),
        (
            "auto",
            False,
            FACTS,
            "training on energies alone, as requested; --forces adds the forces of 300 structures",
        ),
        (
            "rili-2024",
            "auto",
            FACTS,
            "training on energies alone, as set by the recipe rili-2024; --forces adds the forces of 300 structures",
        ),
        (
            "record",
            "auto",
            FACTS,
            (
                "training on energies and forces of all 300 structures, as set by the recipe record; "
                "--energies-only leaves the forces out"
            ),
        ),
    ],
)
def test_labels_and_the_reason_are_told(recipe: str, forces: bool | str, facts: Facts, expected: str) -> None:
    assert labels_line(NEW.with_overrides(recipe=recipe, training={"forces": forces}), facts) == expected


def test_networks_epochs_and_time_are_told() -> None:
    record = resolve(NEW.with_overrides(recipe="record"), FACTS)
    assert cost_line(record, FACTS).startswith(
        "4 networks of 128-128 nodes, 400 epochs, recipe record: about "
    )
    assert cost_line(record, FACTS).endswith(" min of CPU time")
    one = record.with_overrides(training={"members": 1, "epochs": 1}, network={"hidden_layers": []})
    assert (
        cost_line(one, FACTS) == "1 network of no hidden layer, 1 epoch, recipe record: about 6 s of CPU time"
    )
    slow = record.with_overrides(training={"epochs": 100_000})
    assert " h " in cost_line(slow, FACTS)


def test_functions_that_training_cannot_use_are_told_in_one_line() -> None:
    line = constant_line({"Cu": ("radial 1 Ag", "radial 2 Ag"), "Ag": ("radial 1 Cu",)})
    assert "2 for Cu, 1 for Ag; for example radial 1 Ag" in line
