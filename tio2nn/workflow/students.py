"""The networks of a student: how wide, for how long, and where they begin."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tio2nn.parameters.fit_parameters import NetworkParameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.merged import are_alike, side_by_side
from tio2nn.potential.potential import Potential
from tio2nn.project.facts import resolved
from tio2nn.project.jacobian_store import Selection
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import Split
from tio2nn.training.origin import Origin
from tio2nn.workflow.distill import Teacher
from tio2nn.workflow.fine_tune import is_open, network_of

# Epochs times structures, in those of a fit without copies, from random weights.
_EPOCHS = 2.0
# The same, and the learning rate in that of the recipe, for networks that begin as some of the committee's: what these
# know should not be lost first. RMSE on test structures, in those of a committee of four; copies displaced by 0.05 Å:
#
#                 networks  copies  rate  epochs  energies  forces
#   sample_data   3         1       0.1   0.25    1.044     1.001
#                 3         1       0.1   0.5     1.034     0.992
#                 3         1       0.2   0.5     1.037     0.975
#                 3         1       0.1   2       1.018     0.967
#                 2         1       0.1   2       1.038     0.936
#                 2         1       1     2       1.149     0.917
#   Si            3         1       0.1   0.25    0.990     1.004
#                 3         1       0.1   2       1.010     0.998
#                 2         1       1     2       1.094     1.009
#   TiO2,         3         -       -     0       1.124     1.041
#   `record`      3         1       0.1   0.25    1.038     1.032
#                 3         0       1     0.25    1.13      1.058
#                 3         0       1     0.5     1.22      1.094
#                 2         2       0.1   0.5     1.076     1.069
#                 2         0       0.1   0.25    1.11      1.089
#                 2         0       1     0.5     0.93      1.077
#                 2         0       1     1       0.98      1.106
#   the same, of a committee by Muon, with another seed, too
#     Adam        3         1       0.1   0.25    1.02      1.020
#                                                 1.12      1.014
#     Muon        3         1       0.1   0.25    0.98      1.006
#                                                 1.04      1.019
_EPOCHS_BEGUN, _LEARNING_RATE_BEGUN = 0.25, 0.1
# Networks of a committee whose nodes a student has: forces of two of four networks are worse than those of all by 8 to
# 11 %, of three by 2 to 4 % (TiO2, `record`, any of them on test structures).
_MOST_TAKEN = 3
# One network alone is no better a beginning than random weights: RMSE of forces on sample_data, in that of the
# committee, with 3 copies and layers of one width 1.117 and 1.055; two networks and layers of twice the width 1.01
# (two pairs) and 1.075, with one copy 1.00 and 1.13, without 0.92 and 1.04.
_FEWEST_TAKEN = 2
_OF_WHITENING = ("whitening", "whitening_floor")


def resolved_student(
    teacher: Teacher,
    parameters: ParameterSet,
    store: StructureStore,
    split: Split,
    selection: Selection | None,
) -> ParameterSet:
    """As `tio2nn.project.facts.resolved`, for one network, with wider layers than those of a committee that teaches.

    What is asked for stays. The strength of the whitening, which may depend on the number of structures, is that of the
    teacher, so that a network can begin with some of its networks.
    """
    own = network_of(teacher.potential)
    then = teacher.potential.parameters.network
    own |= {name: value for name in _OF_WHITENING if (value := getattr(then, name)) is not None}
    n = len(teacher.potential.members)
    width = min(n, max(_FEWEST_TAKEN, min(_MOST_TAKEN, n - 1)))
    own["hidden_layers"] = tuple([width * nodes for nodes in own["hidden_layers"]])
    network = {name: value for name, value in own.items() if is_open(parameters, "network", name)}
    members = {"members": 1} if is_open(parameters, "training", "members") else {}
    found = resolved(parameters.with_overrides(network=network, training=members), store, split, selection)
    begins = _n_taken(teacher, found) > 0
    schedule: dict[str, Any] = {}
    if is_open(parameters, "training", "epochs"):
        passes = _EPOCHS_BEGUN if begins else _EPOCHS
        schedule["epochs"] = max(1, round(passes * found.training.epochs / (1 + teacher.lesson.copies)))
    if begins and is_open(parameters, "training", "learning_rate"):
        schedule["learning_rate"] = _LEARNING_RATE_BEGUN * found.training.learning_rate
    if begins and is_open(parameters, "training", "weight_decay"):
        schedule["weight_decay"] = 0.0  # to decay the weights would be to forget what the networks know
    return found.with_overrides(training=schedule)


def beginning(teacher: Teacher, parameters: ParameterSet) -> Origin | None:
    """Where students begin: each as some networks of the committee side by side; None for random weights.

    Networks mean something to the whitening and the reference energies that they were fitted with, so nothing begins
    with them where a fit has others, or where it learns true labels, too, to which reference energies are fitted.

    Args:
        teacher: what they learn from.
        parameters: of the fit, with nothing left to a recipe.
    """
    n, networks = _n_taken(teacher, parameters), teacher.potential.members
    if not n:
        return None
    members = tuple(
        side_by_side([networks[(student + k) % len(networks)] for k in range(n)])
        for student in range(parameters.training.members)
    )
    potential = replace(teacher.potential, members=members)
    return Origin(potential, os.fspath(teacher.lesson.teacher), teacher.digest, keeps_reference=True)


def _n_taken(teacher: Teacher, parameters: ParameterSet) -> int:
    """How many networks of the committee each student begins as; 0 for random weights."""
    n_networks, n = len(teacher.potential.members), _n_held(teacher.potential, parameters.network)
    n_different = 1 if n == n_networks else n_networks
    if parameters.training.members > n_different:
        return 0
    return 0 if teacher.lesson.truth > 0.0 or parameters.reference_energies is not None else n


def _n_held(committee: Potential, wanted: NetworkParameters) -> int:
    """How many networks of a committee make one of these parameters side by side; 0 if none or a single one."""
    widths = {tuple(len(layer.bias) for layer in net) for member in committee.members for net in member}
    if len(widths) > 1 or not are_alike(committee.members):
        return 0
    own = network_of(committee)
    own |= {name: getattr(committee.parameters.network, name) for name in _OF_WHITENING}
    for n in range(_FEWEST_TAKEN, len(committee.members) + 1):
        wide = {**own, "hidden_layers": tuple([n * nodes for nodes in own["hidden_layers"]])}
        if all(getattr(wanted, name) == value for name, value in wide.items()):
            return n
    return 0
