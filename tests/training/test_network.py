from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tio2nn.errors import UsageError
from tio2nn.parameters.fit_parameters import ACTIVATIONS, NetworkParameters
from tio2nn.potential.whitening import Whitening
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.devices import configure_threads
from tio2nn.training.network import BPNN, SHARED, Subnet, dense_layers

configure_threads()

ELEMENTS = ("Ti", "O")
N_FEATURES = 3
# number of atoms of Ti and of O; one structure lacks Ti, one lacks O, one is a single atom
COUNTS = np.array([[2, 3], [0, 4], [5, 0], [1, 0], [1, 1]])
PADDING = -1


def make_network(**changes: Any) -> BPNN:
    """Random weights everywhere, the last layers not small, each subnet with a whitening of its own."""
    keras.utils.set_random_seed(7)
    parameters = NetworkParameters(**{"hidden_layers": (6, 5), "activation": "tanh", **changes})
    network = BPNN.from_parameters(parameters, ELEMENTS, N_FEATURES)
    rng = np.random.default_rng(8)
    for weight in network.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    network.set_whitenings(
        [Whitening.fit(rng.normal(k, 1.0 + k, size=(50, N_FEATURES))) for k in range(len(network.subnets))]
    )
    return network


def flat(features: list[np.ndarray], counts: np.ndarray = COUNTS) -> dict[str, Any]:
    """Flat layout of structures, the atoms of each sorted by element."""
    subnets = [np.repeat(np.arange(2), own) for own in counts]
    table = AtomTable.from_rows(np.concatenate(features), np.concatenate(subnets), counts.sum(axis=1), 2)
    return {
        "features": [tf.constant(part, tf.float64) for part in table.features],
        "segments": [tf.constant(table.segments(k)) for k in range(2)],
        "n_structures": tf.constant(len(counts)),
    }


def padded(features: list[np.ndarray], filling: float, before: int = 0) -> dict[str, Any]:
    """Padded layout, with so many padding rows before the atoms and at least two behind them."""
    n_rows = before + 2 + max(map(len, features))
    rows = np.full((len(features), n_rows, N_FEATURES), filling)
    subnets = np.full((len(features), n_rows), PADDING)
    for own, indices, part, counts in zip(rows, subnets, features, COUNTS, strict=True):
        own[before : before + len(part)] = part
        indices[before : before + len(part)] = np.repeat(np.arange(2), counts)
    return {"features": tf.constant(rows, tf.float64), "subnets": tf.constant(subnets)}


def energies(network: BPNN, inputs: dict[str, Any]) -> np.ndarray:
    return np.asarray(network(inputs))


@pytest.fixture(scope="module")
def network() -> BPNN:
    return make_network()


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    """(n_atoms, n_features) of each structure."""
    rng = np.random.default_rng(9)
    return [rng.normal(1.0, 2.0, size=(n, N_FEATURES)) for n in COUNTS.sum(axis=1)]


def test_the_energy_is_the_sum_of_what_the_equations_give_each_atom(
    network: BPNN, features: list[np.ndarray]
) -> None:
    expected = np.zeros(len(COUNTS))
    for s, counts in enumerate(COUNTS):
        for atom, k in zip(features[s], np.repeat(np.arange(2), counts), strict=True):
            subnet, whitening = network.subnets[ELEMENTS[k]], network.whitenings[k]
            x = (atom - np.asarray(whitening.mean)) @ np.asarray(whitening.matrix)
            *hidden, last = [layer.get_weights() for layer in subnet.layers]
            for kernel, bias in hidden:
                x = np.tanh(x @ kernel + bias)
            expected[s] += (x @ last[0] + last[1]).item()
    found = energies(network, flat(features))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_structures_of_any_size_in_one_batch_are_as_each_alone(
    network: BPNN, features: list[np.ndarray]
) -> None:
    alone = [energies(network, flat([f], COUNTS[[s]]))[0] for s, f in enumerate(features)]
    np.testing.assert_allclose(energies(network, flat(features)), alone, rtol=1e-6)
    order = [3, 0, 4, 2, 1]
    shuffled = energies(network, flat([features[s] for s in order], COUNTS[order]))
    np.testing.assert_allclose(shuffled, np.array(alone)[order], rtol=1e-6)


def test_a_structure_of_nothing_has_no_energy(network: BPNN, features: list[np.ndarray]) -> None:
    counts = np.vstack([COUNTS[0], [0, 0]])
    nothing = np.empty((0, N_FEATURES))
    assert energies(network, flat([features[0], nothing], counts))[1] == 0.0


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("filling", [0.0, np.nan, np.inf])
def test_the_padded_layout_gives_the_energies_of_the_flat_one(
    network: BPNN, features: list[np.ndarray], filling: float, before: int
) -> None:
    found = energies(network, padded(features, filling, before))
    np.testing.assert_allclose(found, energies(network, flat(features)), rtol=1e-6)


def test_padding_leaks_into_no_gradient(network: BPNN, features: list[np.ndarray]) -> None:
    def gradients(filling: float) -> list[np.ndarray]:
        inputs = padded(features, filling)
        with tf.GradientTape() as tape:
            tape.watch(inputs["features"])
            loss = tf.reduce_sum(network(inputs) ** 2)
        found = tape.gradient(loss, [inputs["features"], *network.trainable_variables])
        return [np.asarray(tf.convert_to_tensor(gradient)) for gradient in found]

    clean, dirty = gradients(0.0), gradients(np.nan)
    for expected, gradient in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(gradient, expected)
    padding = np.asarray(padded(features, 0.0)["subnets"]) == PADDING
    assert (dirty[0][padding] == 0.0).all()
    assert (dirty[0][~padding] != 0.0).all()


def test_each_element_has_a_subnet_of_its_own(network: BPNN, features: list[np.ndarray]) -> None:
    exchanged = energies(network, flat(features, COUNTS[:, ::-1]))
    assert tuple(network.subnets) == ELEMENTS
    # exchanging the elements changes all but the structure of one atom of each
    assert np.abs(exchanged - energies(network, flat(features)))[:4].min() > 1e-3


def test_a_shared_subnet_serves_all_elements(features: list[np.ndarray]) -> None:
    network = make_network(shared_subnet=True)
    assert tuple(network.subnets) == (SHARED,)
    assert len(network.trainable_variables) == 6
    n_atoms = COUNTS.sum(axis=1)
    table = AtomTable.from_rows(np.concatenate(features), np.zeros(n_atoms.sum(), np.int64), n_atoms, 1)
    inputs = {
        "features": [tf.constant(table.features[0])],
        "segments": [tf.constant(table.segments(0))],
        "n_structures": tf.constant(len(n_atoms)),
    }
    rows = padded(features, np.nan)
    rows["subnets"] = tf.minimum(rows["subnets"], 0)
    np.testing.assert_allclose(energies(network, rows), energies(network, inputs), rtol=1e-6)


def test_the_whitening_keeps_the_digits_of_float64(features: list[np.ndarray]) -> None:
    # whitening of a column that varies in its tenth digit: in float32 nothing of it would be left
    network = make_network()
    rng = np.random.default_rng(2)
    varied = rng.normal(size=(40, N_FEATURES))
    near = [Whitening.fit(varied), Whitening.fit(1e3 + 1e-6 * varied)]
    own = [features[0][:0], varied[:4]]
    expected, found = [], []
    for whitening, scale, offset, into in (
        (near[0], 1.0, 0.0, expected),
        (near[1], 1e-6, 1e3, found),
    ):
        network.set_whitenings([whitening, whitening])
        into.append(energies(network, flat([offset + scale * own[1]], np.array([[0, 4]]))))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3)


def test_every_atom_starts_from_the_mean_energy(features: list[np.ndarray]) -> None:
    keras.utils.set_random_seed(1)
    network = BPNN.from_parameters(NetworkParameters(hidden_layers=(16, 16)), ELEMENTS, N_FEATURES)
    network.set_mean_energy(-2.5)
    per_atom = energies(network, flat(features)) / COUNTS.sum(axis=1)
    # new networks differ from it by what their small last layers give
    assert 0.0 < np.abs(per_atom + 2.5).max() < 0.5


def test_dropout_acts_in_training_alone(features: list[np.ndarray]) -> None:
    network, inputs = make_network(dropout=0.5), flat(features)
    np.testing.assert_array_equal(energies(network, inputs), energies(make_network(), inputs))
    assert (np.asarray(network(inputs, training=True)) != np.asarray(network(inputs, training=True))).any()


@pytest.mark.parametrize("shared", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_saved_network_predicts_the_same_in_a_new_process(
    tmp_path: Path, features: list[np.ndarray], shared: bool
) -> None:
    network = make_network(shared_subnet=shared, dropout=0.1)
    inputs = padded(features, np.nan)
    if shared:
        inputs["subnets"] = tf.minimum(inputs["subnets"], 0)
    network.save(tmp_path / "network.keras")
    if shared:  # one new process is enough to tell that nothing of this one is needed
        loaded = keras.saving.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(energies(loaded, inputs), energies(network, inputs))
        return
    np.savez(tmp_path / "inputs.npz", **{name: np.asarray(value) for name, value in inputs.items()})
    script = (
        "import keras, numpy, tio2nn.training.network\n"
        "network = keras.saving.load_model('network.keras')\n"
        "inputs = dict(numpy.load('inputs.npz'))\n"
        "numpy.save('energies.npy', numpy.asarray(network(inputs)))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "energies.npy"), energies(network, inputs))


# --- what the potential can carry ---------------------------------------------------------------------------


def _built(*layers: keras.layers.Layer) -> Subnet:
    subnet = Subnet(layers)
    subnet.build((None, N_FEATURES))
    return subnet


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_come_with_the_names_of_their_activations(activation: str) -> None:
    parameters = NetworkParameters(hidden_layers=(4, 2), activation=activation, dropout=0.2)
    subnet = Subnet.from_parameters(parameters)
    subnet.build((None, N_FEATURES))
    layers = dense_layers(subnet)
    assert [kernel.shape for kernel, _, _ in layers] == [(N_FEATURES, 4), (4, 2), (2, 1)]
    assert [bias.shape for _, bias, _ in layers] == [(4,), (2,), (1,)]
    assert [name for _, _, name in layers] == [activation, activation, "linear"]
    assert all(array.dtype == np.float64 for kernel, bias, _ in layers for array in (kernel, bias))


def test_an_activation_layer_belongs_to_the_dense_layer_before_it() -> None:
    subnet = _built(keras.layers.Dense(4), keras.layers.Activation("tanh"), keras.layers.Dense(1))
    assert [name for _, _, name in dense_layers(subnet)] == ["tanh", "linear"]


@pytest.mark.parametrize(
    ("layers", "got"),
    [
        ([keras.layers.Dense(4), keras.layers.LayerNormalization()], "LayerNormalization"),
        ([keras.layers.BatchNormalization()], "BatchNormalization"),
        ([keras.layers.Dense(4, use_bias=False)], "Dense"),
        ([keras.layers.Activation("tanh")], "Activation"),
        ([keras.layers.Dense(4, activation="relu"), keras.layers.Activation("tanh")], "Activation"),
        ([keras.layers.Dense(4, activation="elu")], "elu"),
        ([keras.layers.Dense(4), keras.layers.Activation("selu")], "selu"),
        ([keras.layers.Dense(4, activation=lambda x: 2.0 * x)], "<lambda>"),
    ],
    ids=["normalization", "first", "no bias", "first activation", "two activations", "elu", "selu", "lambda"],
)
def test_a_layer_that_the_potential_cannot_carry_is_refused(
    layers: list[keras.layers.Layer], got: str
) -> None:
    with pytest.raises(UsageError, match=rf"^subnet: expected .*, got {got}$"):
        dense_layers(_built(*layers, keras.layers.Dense(1)))
