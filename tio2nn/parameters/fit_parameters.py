"""The sections network, training and tuning of `params.json`.

Their defaults are those of the recipe `default`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from tio2nn.parameters.fields import (
    LIST,
    NUMBER,
    SECTION,
    UNIQUE,
    About,
    Affects,
    Boolean,
    Count,
    NonNegative,
    OneOf,
    Positive,
)
from tio2nn.parameters.validation import Section, broken_rule

# Far beyond any potential: the weights between two such layers take 0.8 GB, and Keras builds layers recursively.
_MOST_NODES = 10_000
_MOST_LAYERS = 100

Activation = Literal["silu", "softplus", "tanh", "sigmoid", "relu", "linear"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

Optimizer = Literal["adam", "muon"]

RecipeName = Literal["auto", "default", "quick", "forces", "record", "rili-2024"]
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)

_Width = Annotated[int, Field(ge=1, le=_MOST_NODES), NUMBER]
_Depth = Annotated[int, Field(ge=1, le=_MOST_LAYERS), NUMBER]
_FromZero = Annotated[int, Field(ge=0), NUMBER]
_BelowOne = Annotated[float, Field(ge=0, lt=1), NUMBER]
# Seeds of NumPy and TensorFlow are 32 bits wide; half of them leave room for the members of a committee.
_Seed = Annotated[int, Field(ge=0, le=2**31 - 1), NUMBER]


@dataclass(frozen=True, config=SECTION)
class NetworkParameters(Section):
    """The subnet that turns the features of one atom into its energy."""

    hidden_layers: Annotated[
        tuple[_Width, ...],
        Field(max_length=_MOST_LAYERS),
        LIST,
        About(
            "Number of nodes in each hidden layer; none makes the energy linear in the features",
            Affects.FIT,
            by_recipe=True,
            searched=True,
        ),
    ] = (48, 48)
    activation: Annotated[
        Activation, About("Activation function of the hidden layers", Affects.FIT, by_recipe=True)
    ] = "silu"
    dropout: Annotated[
        _BelowOne,
        About(
            "Fraction of nodes left out at random in training, after each hidden layer",
            Affects.FIT,
            by_recipe=True,
            searched=True,
        ),
    ] = 0.0
    shared_subnet: Annotated[
        Boolean,
        About(
            "One subnet for the atoms of all elements, instead of one per element",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = False
    whitening: Annotated[
        Boolean,
        About(
            "Rotate and scale the features of each element by a PCA fitted on the training atoms",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = True
    whitening_floor: Annotated[
        Positive | None,
        About(
            "Variance of standardized features below which a principal component counts as noise and is damped; null "
            "to derive it from the numbers of atoms and structures in training",
            Affects.FIT,
        ),
    ] = None
    repulsion: Annotated[
        Boolean,
        About(
            "Repel atoms that are closer than any in training by a screened nuclear repulsion (ZBL)",
            Affects.POTENTIAL,  # it is added to the energies of the networks
        ),
    ] = True


@dataclass(frozen=True, config=SECTION)
class TrainingParameters(Section):
    """How the structures are split and the weights fitted."""

    epochs: Annotated[
        Count,
        About("Number of passes over the training set", Affects.FIT, by_recipe=True, searched=True),
    ] = 800
    batch_size: Annotated[
        Count,
        About("Number of structures in a batch", Affects.FIT, unit="structures", by_recipe=True),
    ] = 64
    optimizer: Annotated[
        Optimizer,
        About("Adam, or Muon for the hidden layers: better on large sets", Affects.FIT, by_recipe=True),
    ] = "adam"
    learning_rate: Annotated[
        Positive,
        About("Largest learning rate", Affects.FIT, by_recipe=True, searched=True),
    ] = 0.002
    schedule: Annotated[
        Literal["cosine", "constant"],
        About(
            "Learning rate after the warm-up: falling to zero as half a cosine, or constant",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = "cosine"
    warmup_epochs: Annotated[
        _FromZero,
        About("Epochs in which the learning rate rises linearly", Affects.FIT, unit="epochs", by_recipe=True),
    ] = 5
    gradient_clip: Annotated[
        Positive | None,
        About("Largest norm of the gradient, longer ones are shortened; null for no limit", Affects.FIT),
    ] = 1.0
    loss: Annotated[
        Literal["pseudo-huber", "mae", "mse"],
        About(
            "Loss of the energies; pseudo-huber is quadratic below huber_scale and linear above",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = "pseudo-huber"
    huber_scale: Annotated[
        Positive,
        About("Error at which pseudo-huber turns linear", Affects.FIT, unit="meV/atom", by_recipe=True),
    ] = 2.0
    loss_target: Annotated[
        Literal["per-atom", "total"],
        About("The loss sees energies per atom, or total energies", Affects.FIT, by_recipe=True),
    ] = "per-atom"
    forces: Annotated[
        bool | str,
        OneOf(("auto", True, False)),
        About(
            "Also train on forces; auto leaves it to the recipe, which uses them where structures have them, unless "
            "they contradict the energies",
            Affects.FIT,
            left_out="auto",
        ),
    ] = False
    force_weight: Annotated[
        Positive,
        About(
            "Weight of the mean loss of an atom's force relative to that of a structure's energy",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 1.0
    final_force_weight: Annotated[
        Positive | None,
        About(
            "What force_weight becomes by the last epoch, changing by the same factor in each; null for no change",
            Affects.FIT,
        ),
    ] = None
    force_huber_scale: Annotated[
        Positive,
        About("Error of a force at which its loss turns linear", Affects.FIT, unit="eV/Å", by_recipe=True),
    ] = 0.05
    force_fraction: Annotated[
        float,
        Field(gt=0, le=1),
        NUMBER,
        About(
            "Fraction of the structures whose forces count in an epoch, a different part in each",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 1.0
    stress: Annotated[
        bool | str,
        OneOf(("auto", True, False, "diagonal")),
        About(
            "Also train on the stress, or on its diagonal alone; auto does so where structures have it, unless forces "
            "are false or it contradicts energies or forces, and on the diagonal if only its shears do",
            Affects.FIT,
            left_out="auto",
        ),
    ] = False
    stress_weight: Annotated[
        Positive,
        About(
            "Weight of the mean loss of a structure's stress relative to that of its energy",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 0.25
    stress_huber_scale: Annotated[
        Positive,
        About(
            "Error of volume times stress at which its loss turns linear",
            Affects.FIT,
            unit="meV/atom",
            by_recipe=True,
        ),
    ] = 50.0
    stress_whitening_strain: Annotated[
        NonNegative,
        About(
            "Strain, along each axis, by which features of structures with a stress are taken to vary where they are "
            "whitened; 0 to take them as they are",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 0.015
    derivatives_limit: Annotated[
        Positive | None,
        About(
            "Largest size of the derivatives on disk, those of further structures are left out; null for 90 % of the "
            "free disk",
            Affects.DATA,
            unit="GB",
        ),
    ] = None
    weight_decay: Annotated[
        NonNegative,
        About(
            "Decay of the weights of dense layers, in units of the learning rate (AdamW)",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 0.03
    weight_averaging: Annotated[
        _BelowOne,
        About(
            "Decay per step of the exponential average of the weights; 0 for the last weights",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 0.99
    early_stopping: Annotated[
        _FromZero,
        About(
            "Epochs without a smaller validation loss after which training ends and the best weights are taken; "
            "0 for never, and the last weights",
            Affects.FIT,
            unit="epochs",
            by_recipe=True,
        ),
    ] = 0
    validation_fraction: Annotated[
        float,
        Field(gt=0, lt=1),
        NUMBER,
        About("Fraction of the structures in the validation set", Affects.DATA),
    ] = 0.05
    test_fraction: Annotated[_BelowOne, About("Fraction of the structures in the test set", Affects.DATA)] = (
        0.1
    )
    split: Annotated[
        Literal["random", "grouped"],
        About("Split structure by structure, or keep groups of related structures in one set", Affects.DATA),
    ] = "random"
    max_energy: Annotated[
        Annotated[float, NUMBER] | None,
        About(
            "Cohesive energy above which structures are left out of training; null for no limit",
            Affects.DATA,
            unit="eV/atom",
        ),
    ] = None
    outliers: Annotated[
        Literal["leave-out", "keep"],
        About(
            "Structures whose energy or forces are beyond any physical scale of the others: left out of all parts, "
            "or kept",
            Affects.DATA,
        ),
    ] = "leave-out"
    density_weighting: Annotated[
        float,
        Field(ge=0, le=1),
        NUMBER,
        About(
            "Weight of structures at rare energies: 0 as any other, 1 the inverse of the density of energies",
            Affects.FIT,
            by_recipe=True,
        ),
    ] = 0.0
    members: Annotated[
        Count, About("Number of networks in the committee", Affects.POTENTIAL, by_recipe=True)
    ] = 1
    seed: Annotated[
        _Seed,
        About("Seed of the split, the first weights and the batches", Affects.DATA | Affects.FIT),
    ] = 0

    @field_validator("test_fraction")
    @classmethod
    def _leaves_a_rest(cls, test: float, others: ValidationInfo) -> float:
        if others.data.get("validation_fraction", 0.0) + test < 1:
            return test
        raise broken_rule(
            "test_fraction", f"expected less than 1 - validation_fraction, to leave a rest, got {test}"
        )


def with_effect(training: Mapping[str, Any], uses_stress: bool) -> dict[str, Any]:
    """Settings of the training that change a fit: without stresses, none of theirs does."""
    return {key: value for key, value in training.items() if uses_stress or not key.startswith("stress")}


@dataclass(frozen=True, config=SECTION)
class TuningParameters(Section):
    """What `tio2nn tune` varies, and how it searches."""

    strategy: Annotated[
        Literal["grid", "random", "bayesian", "hyperband"],
        About("How the search chooses its trials", Affects.SEARCH),
    ] = "grid"
    layers: Annotated[
        tuple[_Depth, ...],
        Field(min_length=1),
        UNIQUE,
        About("Numbers of hidden layers to try", Affects.SEARCH, by_recipe=True),
    ] = (4, 5, 6)
    nodes: Annotated[
        tuple[_Width, ...],
        Field(min_length=1),
        UNIQUE,
        About("Numbers of nodes per hidden layer to try", Affects.SEARCH, by_recipe=True),
    ] = (16, 32, 64)
    learning_rate: Annotated[
        tuple[Positive, ...],
        Field(min_length=1),
        UNIQUE,
        About("Learning rates to try", Affects.SEARCH, by_recipe=True),
    ] = (5e-4, 1e-4, 5e-5)
    dropout: Annotated[
        tuple[_BelowOne, ...],
        Field(min_length=1),
        UNIQUE,
        About("Dropout rates to try", Affects.SEARCH, by_recipe=True),
    ] = (0.0, 0.2)
    max_trials: Annotated[
        Count | None, About("Largest number of trials; null for all of the grid", Affects.SEARCH)
    ] = None
    patience: Annotated[
        Count | None,
        About(
            "Number of trials in a row, none better than the best before by 1 %, after which the search ends; null for "
            "30, and for all of a grid",
            Affects.SEARCH,
            unit="trials",
        ),
    ] = None
    epochs: Annotated[
        Count,
        About("Number of passes over the training set in each trial", Affects.SEARCH, by_recipe=True),
    ] = 20
    structures: Annotated[
        Annotated[int, Field(ge=2), NUMBER] | None,
        About(
            "Number of structures, drawn at random, for the search; null for all",
            Affects.SEARCH,
            unit="structures",
        ),
    ] = None
    batch_size: Annotated[
        Count | None,
        About(
            "Number of structures in a batch; null for training.batch_size", Affects.TRIAL, unit="structures"
        ),
    ] = None
    seed: Annotated[
        _Seed,
        About("Seed of the search: its order, its subset, its first weights", Affects.SEARCH | Affects.TRIAL),
    ] = 0
