"""The recipe `auto`: epochs, batch, width, members and optimizer by what the training set holds."""

from __future__ import annotations

from typing import Any, NamedTuple

from tio2nn.parameters.fit_cost import epoch_seconds, n_batches
from tio2nn.parameters.fit_parameters import NetworkParameters, Optimizer, TrainingParameters
from tio2nn.parameters.targets import Target
from tio2nn.parameters.training_size import Facts

Overrides = dict[str, dict[str, Any]]


class Asked(NamedTuple):
    """What a recipe leaves as it is, and fits other settings to; None for what it decides."""

    members: int | None = None
    optimizer: Optimizer | None = None
    target: Target | None = None
    """The program that the potential is for."""


NOTHING_ASKED = Asked()


# Steps of the optimizer that a fit to energies and forces needs on a small set: with 160 structures each of Si and
# Mo, 3,300 (300 epochs of 11) gave 3.2 and 2.9 meV/atom on a held-out fifth, 12,000 to 17,000 gave 2.7 and 2.0,
# 43,000 no less.
_STEPS_WITH_FORCES = 10_000
_STEPS_AN_EPOCH = 20
_SMALLEST_BATCH = 4
# Force components up to which a network of two layers of 60 has smaller errors of held-out forces than three of 80, by
# 3 to 6 % on Si and Mo (30,000 components). TiO2 (300,000) is better off with three of 80, and with two of 128 better
# yet: see `FitLength`. On an oxide of five elements (90,000 components; a random fifth held out) four
# networks of 128-128 have 0.97 of the errors of energies of 80-80-80 and 0.99 of those of forces, in 1.15 times the
# time.
_MOST_COMPONENTS_FOR_SMALL = 60_000
# For energies alone. 800 epochs of batches of 64, with a decay of the weights of 0.03, are right for 5,000 structures
# (65,000 steps; 0.046: 0.91 instead of 0.87 meV/atom), and ten times as many need no more steps. Few structures need
# more steps than these epochs have, smaller batches, and more decay. Energy errors (MAE, meV/atom) on others:
#   batch, epochs, decay   64, 800, 0.03   n/20, 800, 0.03   n/20, 800, 0.3   16, 1600, 0.2   32, 2000, 0.3
#   Si, 170 structures     7.8             4.3               5.2              4.6             4.9
#   Mo, 155                8.5             8.2               5.3              6.3             6.0
#   Cu and Au, 50          20.7            19.1              17.5             16.1            15.5
#   Cu and Au, 200         12.7            13.2              9.3              8.1             8.0
#   TiO2, 200              12.3            12.2              9.0              9.7             9.2
#   acetylacetone, 100     3.5             4.3               4.9              4.1             3.7
# docs/results/materials.md has the other sets.
_FEWEST_FOR_LARGE_BATCH, _BATCH_OF_FEW = 1_000, 32
_MOST_EPOCHS_ALONE, _STEPS_ALONE, _MOST_STEPS_ALONE = 2_000, 16_000, 75_000
# From 10,000 steps on the decay falls by a power, to 0.03 at 65,000. TiO2, MAE / RMSE: 800 structures, 16,000 steps
# 0.03 7.6 / 100, 0.2 3.9 / 12.4, 19,200 steps 0.3 5.1 / 31; 2,200 structures, 28,000 steps 0.03 2.4 / 14.4, 0.1
# 2.3 / 13.2
_MOST_DECAY, _STEPS_OF_MOST_DECAY, _DECAY_POWER = 0.3, 10_000, 1.25
# CPU time of a fit: of one network, which a large set may exceed for the sake of `_FEWEST_EPOCHS`, and of a committee.
# Its networks tell by their spread how well they know a structure, and are more accurate together: see `_MOST_MEMBERS`
_MOST_SECONDS, _MOST_SECONDS_TOGETHER = 20 * 60.0, 12 * 60.0
_FEWEST_EPOCHS = 60


class FitLength(NamedTuple):
    """How long a fit to energies and forces is, by the optimizer.

    Where there is no time for all epochs of four networks, four with fewer epochs, but at least so many, are better
    than fewer networks. TiO2, 5,157 structures, 70 functions, 600 others for the test; MAE and RMSE of energies,
    meV/atom, and of forces, eV/Å; CPU time of the training, that of Muon beside other work:

    ===================================  ====  ====  ======  ======  ==========
    two of 80-80-80, 300 epochs          0.62  1.15  0.0481  0.0893  7 to 9 min
    four of 80-80-80, 190 epochs         0.61  1.25  0.0464  0.0855  7.9 min
    four of 128-128, 205 epochs          0.62  1.21  0.0457  0.0837
    four of 128-128, 190 epochs          0.61  1.13  0.0459  0.0837  9.8 min
    four of 128-128, 170 epochs          0.64  1.21  0.0465  0.0850  8.9 min
    four of 128-128, 100 epochs          0.74  1.40  0.0500  0.0901  5.2 min
    Muon, four, 100 epochs, batch of 16  0.48  0.88  0.0409  0.0782  10 min
    Muon, four, 195 epochs, batch of 64  0.42  0.81  0.0391  0.0759  13 min
    ===================================  ====  ====  ======  ======  ==========
    """

    largest_batch: int
    fewest_epochs: int  # with time
    fewest_epochs_of_four: int


# Of Adam as the recipe `forces` has them for 5,000 structures; the batch of Muon is chosen in `training/muon.py`
LENGTHS: dict[Optimizer, FitLength] = {"adam": FitLength(16, 300, 190), "muon": FitLength(64, 200, 100)}
# MAE of energies and forces over those of Adam: TiO2 5,157 structures 0.68, 0.86; 2,200 0.84, 0.91; 800 1.03, 1.02; an
# oxide of five elements, 560 1.04, 1.10; Mo, 155 1.08, 1.07; all rows in docs/results/accuracy.md
_FEWEST_STRUCTURES_FOR_MUON = 2_000
# Mean errors over those of two networks on held-out fifths of Ge, Li and Mo, 4 or 5 each (MAE of energies; of forces):
# one network 1.00, 0.99, 1.05; 1.04, 1.01, 1.04; four 0.99, 0.98, 0.98; 0.99, 0.99, 0.98; eight 0.98, 0.99, 0.98; 0.98,
# 0.98, 0.97. An epoch of four takes 1.3 to 1.6 times as long as of two, and they know better how far they may be off.
_MOST_MEMBERS = 4
# other programs compute all symmetry functions again for each network
_MOST_MEMBERS_FOR_OTHERS = 2


def optimizer_for(facts: Facts, asked: Asked) -> Optimizer:
    """The one that is asked for, or Muon where many structures have forces."""
    has_many = facts.n_structures_with_forces >= _FEWEST_STRUCTURES_FOR_MUON
    return asked.optimizer or ("muon" if has_many else "adam")


def auto_settings(facts: Facts, asked: Asked = NOTHING_ASKED) -> Overrides:
    """The recipe `auto`: its changes to the recipe `default` for this training set.

    Args:
        facts: of the training set, without forces where they are not used.
        asked: what is not for the recipe to decide.
    """
    optimizer = optimizer_for(facts, asked)
    with_forces = facts.n_structures_with_forces > 0
    settings = _with_forces(facts, optimizer) if with_forces else _with_energies(facts)
    settings["training"] |= _within_time(settings, facts, optimizer, asked)
    return settings


def epochs_with_forces(facts: Facts, batch_size: int, optimizer: Optimizer) -> int:
    """As many as give a fit to energies and forces enough steps, if time does not matter."""
    return max(LENGTHS[optimizer].fewest_epochs, _STEPS_WITH_FORCES // n_batches(facts, batch_size))


def falling(n: int, most: float, until: int, power: float, least: float) -> float:
    """A setting that has its most until some n, then falls with a power of it, to its least."""
    return min(most, max(least, float(most * (until / max(n, 1)) ** power)))


def _with_forces(facts: Facts, optimizer: Optimizer) -> Overrides:
    """The settings for energies and forces, if time did not matter, of one network."""
    is_small = facts.n_force_components <= _MOST_COMPONENTS_FOR_SMALL
    batch = max(_SMALLEST_BATCH, facts.n_structures // _STEPS_AN_EPOCH)
    batch = min(LENGTHS[optimizer].largest_batch, batch, facts.n_structures)
    training = {
        "forces": "auto",
        "optimizer": optimizer,
        "batch_size": batch,
        "epochs": epochs_with_forces(facts, batch, optimizer),
        # a weight of forces that falls to 0.5 during the fit: over five random fifths each, errors of energies on
        # Li, Mo, Si and Ge changed by -10, -1, +2 and +4 %, those of forces by +9, +1, +3 and +4 %
        "force_weight": 4.0,
        "weight_decay": 0.0,
        "weight_averaging": 0.995,
    }
    return {"network": {"hidden_layers": [60, 60] if is_small else [128, 128]}, "training": training}


def _with_energies(facts: Facts) -> Overrides:
    """The settings for energies alone, if time did not matter, of one network."""
    of_many = TrainingParameters()
    batch = _BATCH_OF_FEW if facts.n_structures < _FEWEST_FOR_LARGE_BATCH else of_many.batch_size
    steps = n_batches(facts, batch)
    epochs = min(max(_STEPS_ALONE // steps, of_many.epochs), _MOST_EPOCHS_ALONE)
    epochs = max(1, min(epochs, _MOST_STEPS_ALONE // steps))
    decay = falling(epochs * steps, _MOST_DECAY, _STEPS_OF_MOST_DECAY, _DECAY_POWER, of_many.weight_decay)
    training = {
        "forces": "auto",
        "batch_size": min(batch, facts.n_structures),
        "epochs": epochs,
        "weight_decay": round(decay, 3),
    }
    return {"network": {}, "training": training}


def _within_time(settings: Overrides, facts: Facts, optimizer: Optimizer, asked: Asked) -> dict[str, int]:
    """Epochs and members for which there is time."""
    training = settings["training"]
    epochs, steps = training["epochs"], n_batches(facts, training["batch_size"])
    hidden_layers = settings["network"].get("hidden_layers", NetworkParameters().hidden_layers)
    most = _MOST_MEMBERS if asked.target is None else _MOST_MEMBERS_FOR_OTHERS
    seconds = [epoch_seconds(facts, hidden_layers, steps, n, optimizer) for n in range(1, most + 1)]
    epochs = min(epochs, max(_FEWEST_EPOCHS, int(_MOST_SECONDS / seconds[0])))
    together = max(1, sum(epochs * own <= _MOST_SECONDS_TOGETHER for own in seconds))
    of_all = int(_MOST_SECONDS_TOGETHER / seconds[-1])
    may_give_up_epochs = asked.members is None and asked.target is None and facts.n_structures_with_forces > 0
    if may_give_up_epochs and LENGTHS[optimizer].fewest_epochs_of_four <= of_all < epochs:
        epochs, together = of_all, most
    return {"epochs": epochs, "members": together}
