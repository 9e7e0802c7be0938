"""The network in Keras: a subnet for each element, with energies summed over the atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tio2nn.errors import UsageError
from tio2nn.parameters.fit_parameters import ACTIVATIONS, NetworkParameters
from tio2nn.potential.whitening import Whitening
from tio2nn.training.dataset import FitData

SHARED = "*"
"""Name of a subnet shared by all elements."""

# The last layer starts with small weights, so that the first predictions are the reference energies, not noise.
_LAST_LAYER_SCALE = 0.01


@keras.saving.register_keras_serializable(package="tio2nn")
class Subnet(keras.Sequential):
    """The network of one atom: features in, energy out.

    *Input shape*: (n_atoms, n_features), whitened. *Output shape*: (n_atoms, 1), eV.

    Args:
        layers: Dense, Activation and Dropout layers; the last one is Dense with one unit.
    """

    @classmethod
    def from_parameters(cls, parameters: NetworkParameters) -> Subnet:
        """Dense layers, each followed by dropout if requested, and one linear unit."""
        layers: list[keras.layers.Layer] = []
        for units in parameters.hidden_layers:
            layers.append(keras.layers.Dense(units, activation=parameters.activation))
            if parameters.dropout > 0:
                layers.append(keras.layers.Dropout(parameters.dropout))
        small = keras.initializers.VarianceScaling(_LAST_LAYER_SCALE, "fan_in")
        layers.append(keras.layers.Dense(1, kernel_initializer=small))
        return cls(layers)


@keras.saving.register_keras_serializable(package="tio2nn")
class WhiteningLayer(keras.layers.Layer):
    """x ↦ (x - mean) @ matrix in float64, returned as float32.

    *Input shape*: (..., n_features), float64. *Output shape*: the same, float32.
    """

    def __init__(self, n_features: int, **kwargs: Any) -> None:
        super().__init__(dtype="float64", trainable=False, **kwargs)
        self.n_features = n_features
        self.mean = self.add_weight(shape=(n_features,), initializer="zeros", name="mean")
        self.matrix = self.add_weight(shape=(n_features, n_features), initializer="identity", name="matrix")

    def call(self, features: Any) -> Any:
        return ops.cast(ops.matmul(features - self.mean, self.matrix), "float32")

    def set(self, whitening: Whitening) -> None:
        """Set the weights from a fitted whitening."""
        self.mean.assign(whitening.mean)
        self.matrix.assign(whitening.matrix)

    def get_config(self) -> dict[str, Any]:
        return {"n_features": self.n_features, "name": self.name}


@keras.saving.register_keras_serializable(package="tio2nn")
class BPNN(keras.Model):
    """Energy of structures as the sum of the energies of their atoms (Behler and Parrinello 2007).

    *Input*, tensors in one of two layouts, features not whitened, float64:

    - flat: `{"features": [...], "segments": [...], "n_structures": n}` with, for each subnet, the features of
      its atoms (n_atoms of it, n_features) and the index of each atom's structure (n_atoms of it,), and the
      number of structures ();
    - padded: `{"features": (n_structures, n_atoms, n_features), "subnets": (n_structures, n_atoms)}` with the
      index of each atom's subnet, negative for padding. The features of padded rows have no effect.

    *Output shape*: (n_structures,), total energy minus reference energies, eV, float32.

    Args:
        subnets: one for each element, or a single one named `SHARED`.
        n_features: columns of the features.
    """

    def __init__(self, subnets: Mapping[str, Subnet], n_features: int, **kwargs: Any) -> None:
        # features must reach the whitening in float64
        super().__init__(autocast=False, **kwargs)
        self.subnets = dict(subnets)
        self.n_features = n_features
        self.whitenings = [WhiteningLayer(n_features, name=f"whitening_{k}") for k in range(len(subnets))]
        for subnet in self.subnets.values():
            subnet.build((None, n_features))
        self.built = True

    @classmethod
    def from_parameters(cls, parameters: NetworkParameters, elements: Sequence[str], n_features: int) -> BPNN:
        """A new network with random weights for these elements."""
        names = [SHARED] if parameters.shared_subnet else list(elements)
        return cls({name: Subnet.from_parameters(parameters) for name in names}, n_features)

    def set_whitenings(self, whitenings: Sequence[Whitening]) -> None:
        """Set the whitening of each subnet."""
        for layer, whitening in zip(self.whitenings, whitenings, strict=True):
            layer.set(whitening)

    def set_mean_energy(self, energy: float) -> None:
        """Set the bias of the last layers, eV, from which every atom starts."""
        for subnet in self.subnets.values():
            subnet.layers[-1].bias.assign([energy])

    def whitened_energies(
        self, features: Sequence[Any], segments: Sequence[Any], n_structures: Any, training: bool = False
    ) -> Any:
        """Energies from whitened features in the flat layout; called by the fit.

        Returns:
            (n_structures,) eV, float32.
        """
        total = 0.0
        for subnet, part, segment in zip(self.subnets.values(), features, segments, strict=True):
            energies = subnet(part, training=training)[:, 0]
            total += ops.segment_sum(energies, segment, num_segments=n_structures)
        return total

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        if "subnets" in inputs:
            features, segments = self._flatten(inputs["features"], inputs["subnets"])
            n_structures = ops.shape(inputs["features"])[0]
        else:
            features, segments = inputs["features"], inputs["segments"]
            n_structures = inputs["n_structures"]
        whitened = [layer(part) for layer, part in zip(self.whitenings, features, strict=True)]
        return self.whitened_energies(whitened, segments, n_structures, training)

    def _flatten(self, features: Any, subnets: Any) -> tuple[list[Any], list[Any]]:
        parts, segments = [], []
        for k in range(len(self.subnets)):
            structures, atoms = ops.nonzero(ops.equal(subnets, k))
            flat = structures * ops.shape(features)[1] + atoms
            parts.append(ops.take(ops.reshape(features, (-1, self.n_features)), flat, axis=0))
            segments.append(ops.cast(structures, "int32"))
        return parts, segments

    def get_config(self) -> dict[str, Any]:
        subnets = {name: keras.saving.serialize_keras_object(s) for name, s in self.subnets.items()}
        return {"subnets": subnets, "n_features": self.n_features, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BPNN:
        subnets = {
            name: keras.saving.deserialize_keras_object(subnet)
            for name, subnet in config.pop("subnets").items()
        }
        return cls(subnets, **config)


def initial_network(
    parameters: NetworkParameters, elements: Sequence[str], n_features: int, data: FitData, seed: int
) -> BPNN:
    """A network with initial weights drawn from the seed, and atoms that start from the mean energy."""
    keras.utils.set_random_seed(seed)
    network = BPNN.from_parameters(parameters, elements, n_features)
    network.set_mean_energy(data.mean_energy)
    return network


def dense_layers(subnet: Subnet) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Kernel, bias and activation of each dense layer, for a potential that needs no Keras.

    Returns:
        For each layer: kernel (n_in, n_out), bias (n_out,), both float64, and the name of the activation.

    Raises:
        UsageError: a layer that a potential cannot store.
    """
    layers: list[tuple[np.ndarray, np.ndarray, str]] = []
    for layer in subnet.layers:
        if isinstance(layer, keras.layers.Dense) and layer.use_bias:
            kernel, bias = (np.asarray(weight, dtype=np.float64) for weight in layer.get_weights())
            layers.append((kernel, bias, _activation_name(layer.activation)))
        elif isinstance(layer, keras.layers.Activation) and layers and layers[-1][2] == "linear":
            layers[-1] = (*layers[-1][:2], _activation_name(layer.activation))
        elif not isinstance(layer, (keras.layers.Dropout, keras.layers.InputLayer)):
            got = type(layer).__name__
            raise UsageError(f"subnet: expected Dense (with bias), Activation or Dropout layers, got {got}")
    return layers


def _activation_name(activation: Any) -> str:
    name = getattr(activation, "__name__", str(activation))
    if name not in ACTIVATIONS:
        raise UsageError(f"subnet: expected an activation among {', '.join(ACTIVATIONS)}, got {name}")
    return str(name)
