"""Settings of network, training and search: three sections of `params.json`.

The defaults are those of the recipe `default`, which a file has that names no recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tio2nn.parameters.schema import About, to_json
from tio2nn.parameters.validation import Checked, Rule

# Far beyond any potential; a kernel between two such layers has 0.8 GB, and Keras builds layers by recursion.
_MOST_NODES = 10_000
_MOST_LAYERS = 100

ACTIVATIONS = ("silu", "softplus", "tanh", "sigmoid", "relu", "linear")

RECIPE_NAMES = ("auto", "default", "quick", "forces", "record", "rili-2024")

# Seeds of NumPy and TensorFlow are 32 bits wide; half of them leave room for the members of a committee.
_LARGEST_SEED = 2**31 - 1


def _check_layers(hidden_layers: tuple[int, ...] | None) -> str | None:
    n_layers = len(hidden_layers or ())
    return (
        f"hidden_layers: expected at most {_MOST_LAYERS}, got {n_layers}" if n_layers > _MOST_LAYERS else None
    )


@dataclass(frozen=True)
class NetworkParameters(Checked):
    """The subnet that turns the features of one atom into its energy."""

    hidden_layers: Annotated[
        tuple[int, ...],
        About(
            "Number of nodes in each hidden layer; none makes the energy linear in the features",
            minimum=1,
            maximum=_MOST_NODES,
            by_recipe=True,
        ),
    ] = (48, 48)
    activation: Annotated[
        str, About("Activation function of the hidden layers", choices=ACTIVATIONS, by_recipe=True)
    ] = "silu"
    dropout: Annotated[
        float,
        About(
            "Fraction of nodes left out at random in training, after each hidden layer",
            minimum=0,
            exclusive_maximum=1,
            by_recipe=True,
        ),
    ] = 0.0
    shared_subnet: Annotated[
        bool, About("One subnet for the atoms of all elements, instead of one per element", by_recipe=True)
    ] = False
    whitening: Annotated[
        bool,
        About(
            "Rotate and scale the features of each element by a PCA fitted on the training atoms",
            by_recipe=True,
        ),
    ] = True
    whitening_floor: Annotated[
        float | None,
        About(
            "Variance, of standardized features, below which a component counts for noise and is turned down; null for "
            "what the numbers of atoms and structures in training say",
            exclusive_minimum=0,
        ),
    ] = None
    repulsion: Annotated[
        bool, About("Let atoms closer than any in training repel each other as screened nuclei do (ZBL)")
    ] = True

    rules: ClassVar[tuple[Rule, ...]] = (Rule(("hidden_layers",), _check_layers),)

    def of_the_fit(self) -> dict[str, Any]:
        """As JSON, what the weights depend on: the repulsion is added to what the networks say."""
        settings: dict[str, Any] = to_json(self)
        del settings["repulsion"]
        return settings


def _check_fractions(validation: float, test: float) -> str | None:
    if validation + test < 1:
        return None
    return f"test_fraction: expected less than 1 - validation_fraction, to leave a rest, got {test}"


@dataclass(frozen=True)
class TrainingParameters(Checked):
    """How the structures are divided and the weights are fitted."""

    epochs: Annotated[int, About("Number of passes over the training part", minimum=1, by_recipe=True)] = 800
    batch_size: Annotated[
        int, About("Number of structures in a batch", unit="structures", minimum=1, by_recipe=True)
    ] = 64
    learning_rate: Annotated[
        float, About("Largest learning rate of the Adam optimizer", exclusive_minimum=0, by_recipe=True)
    ] = 0.002
    schedule: Annotated[
        str,
        About(
            "Learning rate after the warm-up: falling to zero as half a cosine, or constant",
            choices=("cosine", "constant"),
            by_recipe=True,
        ),
    ] = "cosine"
    warmup_epochs: Annotated[
        int,
        About("Epochs in which the learning rate rises linearly", unit="epochs", minimum=0, by_recipe=True),
    ] = 5
    gradient_clip: Annotated[
        float | None,
        About(
            "Largest norm of the gradient, longer ones are shortened; null for no limit", exclusive_minimum=0
        ),
    ] = 1.0
    loss: Annotated[
        str,
        About(
            "Loss of the energies; pseudo-huber is quadratic below huber_scale and linear above",
            choices=("pseudo-huber", "mae", "mse"),
            by_recipe=True,
        ),
    ] = "pseudo-huber"
    huber_scale: Annotated[
        float,
        About(
            "Error at which pseudo-huber turns linear", unit="meV/atom", exclusive_minimum=0, by_recipe=True
        ),
    ] = 2.0
    loss_target: Annotated[
        str,
        About(
            "The loss sees energies per atom, or total energies",
            choices=("per-atom", "total"),
            by_recipe=True,
        ),
    ] = "per-atom"
    forces: Annotated[
        bool | str,
        About(
            "Train on forces, too; auto leaves it to the recipe, which uses them where structures have them",
            choices=("auto", True, False),
            left_out="auto",
        ),
    ] = False
    force_weight: Annotated[
        float,
        About(
            "Weight of the mean loss of an atom's force beside that of a structure's energy",
            exclusive_minimum=0,
            by_recipe=True,
        ),
    ] = 1.0
    final_force_weight: Annotated[
        float | None,
        About(
            "What force_weight becomes by the last epoch, by the same factor in each; null for no change",
            exclusive_minimum=0,
        ),
    ] = None
    force_huber_scale: Annotated[
        float,
        About(
            "Error of a force at which its loss turns linear",
            unit="eV/Å",
            exclusive_minimum=0,
            by_recipe=True,
        ),
    ] = 0.05
    force_fraction: Annotated[
        float,
        About(
            "Fraction of the structures whose forces count in an epoch, others in each",
            exclusive_minimum=0,
            maximum=1,
            by_recipe=True,
        ),
    ] = 1.0
    derivatives_limit: Annotated[
        float | None,
        About(
            "Largest size of the derivatives on disk, those of further structures are left out; null for half of the "
            "memory or 90 % of the free disk, whichever is less",
            unit="GB",
            exclusive_minimum=0,
        ),
    ] = None
    weight_decay: Annotated[
        float,
        About(
            "Decay of the weights of dense layers, in units of the learning rate (AdamW)",
            minimum=0,
            by_recipe=True,
        ),
    ] = 0.03
    weight_averaging: Annotated[
        float,
        About(
            "Decay per step of the exponential average of the weights; 0 for the last weights",
            minimum=0,
            exclusive_maximum=1,
            by_recipe=True,
        ),
    ] = 0.99
    early_stopping: Annotated[
        int,
        About(
            "Epochs without a smaller validation loss after which training ends and the best weights are taken; "
            "0 for never, and the last weights",
            unit="epochs",
            minimum=0,
            by_recipe=True,
        ),
    ] = 0
    validation_fraction: Annotated[
        float,
        About("Fraction of the structures in the validation part", exclusive_minimum=0, exclusive_maximum=1),
    ] = 0.05
    test_fraction: Annotated[
        float, About("Fraction of the structures in the test part", minimum=0, exclusive_maximum=1)
    ] = 0.1
    split: Annotated[
        str,
        About(
            "Divide structure by structure, or keep groups of related structures in one part",
            choices=("random", "grouped"),
        ),
    ] = "random"
    max_energy: Annotated[
        float | None,
        About(
            "Cohesive energy above which structures are left out of training; null for no limit",
            unit="eV/atom",
        ),
    ] = None
    outliers: Annotated[
        str,
        About(
            "Structures whose energy or forces are beyond any physical scale of the others: left out of all parts, "
            "or kept",
            choices=("leave-out", "keep"),
        ),
    ] = "leave-out"
    density_weighting: Annotated[
        float,
        About(
            "Weight of structures at rare energies: 0 as any other, 1 the inverse of the density of energies",
            minimum=0,
            maximum=1,
            by_recipe=True,
        ),
    ] = 0.0
    members: Annotated[int, About("Number of networks in the committee", minimum=1, by_recipe=True)] = 1
    seed: Annotated[
        int,
        About("Seed of the split, the first weights and the batches", minimum=0, maximum=_LARGEST_SEED),
    ] = 0

    rules: ClassVar[tuple[Rule, ...]] = (Rule(("validation_fraction", "test_fraction"), _check_fractions),)


@dataclass(frozen=True)
class TuningParameters(Checked):
    """The settings among which `tio2nn tune` looks for the best."""

    strategy: Annotated[
        str, About("How the search chooses its trials", choices=("grid", "random", "bayesian", "hyperband"))
    ] = "grid"
    layers: Annotated[
        tuple[int, ...],
        About(
            "Numbers of hidden layers to try",
            minimum=1,
            maximum=_MOST_LAYERS,
            non_empty=True,
            unique=True,
            by_recipe=True,
        ),
    ] = (4, 5, 6)
    nodes: Annotated[
        tuple[int, ...],
        About(
            "Numbers of nodes per hidden layer to try",
            minimum=1,
            maximum=_MOST_NODES,
            non_empty=True,
            unique=True,
            by_recipe=True,
        ),
    ] = (16, 32, 64)
    learning_rate: Annotated[
        tuple[float, ...],
        About("Learning rates to try", exclusive_minimum=0, non_empty=True, unique=True, by_recipe=True),
    ] = (5e-4, 1e-4, 5e-5)
    dropout: Annotated[
        tuple[float, ...],
        About(
            "Dropout rates to try",
            minimum=0,
            exclusive_maximum=1,
            non_empty=True,
            unique=True,
            by_recipe=True,
        ),
    ] = (0.0, 0.2)
    max_trials: Annotated[
        int | None, About("Largest number of trials; null for all of the grid", minimum=1)
    ] = None
    epochs: Annotated[
        int, About("Number of passes over the training part in each trial", minimum=1, by_recipe=True)
    ] = 20
    structures: Annotated[
        int | None,
        About(
            "Number of structures, drawn at random, for the search; null for all",
            unit="structures",
            minimum=2,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        About("Number of structures in a batch; null for training.batch_size", unit="structures", minimum=1),
    ] = None
    seed: Annotated[
        int,
        About(
            "Seed of the search: its order, its subset, its first weights", minimum=0, maximum=_LARGEST_SEED
        ),
    ] = 0
