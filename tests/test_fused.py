"""The fused sub-blocks train as the plain layers do."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest
from keras import layers

from lib import models
from lib.losses import cross_entropy
from lib.models import fused, timnet
from lib.models.layers import StackedConv1D, with_lanes
from lib.training.step import batches, make_step

FRAMES, CLASSES = 20, 3


def data(clips, coefficients):
    rng = np.random.default_rng(0)
    # Far from zero and of all sizes, as cepstral coefficients are.
    x = rng.normal(size=(clips, FRAMES, coefficients)) + 5 * rng.normal(
        size=coefficients
    )
    return x.astype(np.float32), np.eye(CLASSES, dtype="f")[np.arange(clips) % CLASSES]


def trained(network, epochs, clips, labels, batch, rate=0.05):
    """Return the loss of every epoch of plain gradient descent."""
    optimizer = keras.optimizers.SGD(rate)
    optimizer.build(network.trainable_variables)
    step = make_step(network, optimizer, cross_entropy(), CLASSES, fused=False)
    order = np.arange(len(clips))
    return [step.epoch(batches(clips, labels, order, batch))[0] for _ in range(epochs)]


def stock(channels, kernel_size, causal, activation):
    """Return the same network as `ours`, of Keras's own layers."""
    clip = keras.Input((FRAMES, channels))
    signal = layers.Conv1D(channels, 1)(clip)
    for dilation in (1, 2):
        hidden = signal
        for _ in (1, 2):
            hidden = layers.Conv1D(
                channels,
                kernel_size,
                dilation_rate=dilation,
                padding="causal" if causal else "same",
            )(hidden)
            hidden = layers.BatchNormalization()(hidden)
            hidden = layers.Activation(activation)(hidden)
        signal = layers.Multiply()([signal, layers.Activation("sigmoid")(hidden)])
    mean = layers.GlobalAveragePooling1D()(signal)
    return keras.Model(clip, layers.Dense(CLASSES, "softmax")(mean))


def ours(channels, kernel_size, causal, activation):
    return models.build_model(
        "timnet",
        (FRAMES, channels),
        CLASSES,
        filters=channels,
        dilations=2,
        kernel_size=kernel_size,
        dropout=0.0,
        activation=activation,
        backward=False,
        fusion="last",
        causal=causal,
    )


@pytest.mark.parametrize(
    ("channels", "kernel_size", "causal", "activation"),
    [(15, 2, True, "relu"), (6, 3, False, "relu"), (6, 2, True, "elu")],
)
def test_training_is_that_of_stock_layers(channels, kernel_size, causal, activation):
    clips, labels = data(8, channels)
    reference = stock(channels, kernel_size, causal, activation)
    network = ours(channels, kernel_size, causal, activation)
    for weight, value in zip(network.weights, in_our_order(reference), strict=True):
        weight.assign(np.reshape(value, weight.shape))
    reference.compile(
        keras.optimizers.SGD(0.05), "categorical_crossentropy", jit_compile=False
    )
    wanted = [reference.train_on_batch(clips, labels) for _ in range(5)]
    # Eight clips in a batch of eleven: three rows fill up and count for nothing.
    found = trained(network, 5, clips, labels, batch=11)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert wanted[0] - wanted[-1] > 0.01
    for weight, value in zip(network.weights, in_our_order(reference), strict=True):
        np.testing.assert_allclose(
            np.ravel(weight), np.ravel(value), atol=2e-3, err_msg=weight.path
        )


def in_our_order(network):
    """Return the stock weights, a block's convolutions before its normalisations."""
    kept = [layer for layer in network.layers if layer.weights]
    first, *inside, last = kept
    order = [first]
    for start in range(0, len(inside), 4):
        block = inside[start : start + 4]
        order += [*block[::2], *block[1::2]]
    return [weight for layer in [*order, last] for weight in layer.get_weights()]


@pytest.mark.parametrize("model", ["timnet", "modified_timnet"])
def test_the_loss_curve_is_that_of_the_plain_layers(monkeypatch, model):
    clips, labels = data(22, 39)

    def curve():
        keras.utils.set_random_seed(46)
        network = models.build_model(model, (FRAMES, 39), CLASSES, dilations=3)
        return trained(network, 20, clips, labels, batch=11, rate=0.01)

    fused = curve()
    used = []
    monkeypatch.setattr(timnet, "can_fuse", lambda *_: used.append(1))
    np.testing.assert_allclose(fused, curve(), atol=1e-3)
    assert used


def test_channels_that_fill_up_change_nothing(monkeypatch):
    clips, _ = data(4, 15)
    wide = models.build_model("timnet", (None, 15), CLASSES, filters=15, dilations=3)
    assert wide.get_layer("block_1_dilation_4").output.shape[-1] == 16
    monkeypatch.setattr(timnet, "with_lanes", lambda channels: channels)
    narrow = models.build_model("timnet", (None, 15), CLASSES, filters=15, dilations=3)
    narrow.set_weights(wide.get_weights())
    np.testing.assert_allclose(wide(clips), narrow(clips), atol=1e-6)


@pytest.mark.parametrize(("channels", "lanes"), [(39, 40), (40, 40), (13, 13), (5, 5)])
def test_channels_are_filled_up_where_it_costs_little(channels, lanes):
    assert with_lanes(channels) == lanes


def test_a_delay_longer_than_the_clip_leaves_the_last_tap():
    clips, labels = data(4, 6)
    network = models.build_model(
        "timnet", (FRAMES, 6), CLASSES, filters=6, dilations=7, backward=False
    )
    layer = network.get_layer("block_1_dilation_64").convolutions[0]
    assert isinstance(layer, StackedConv1D)
    before = np.array(layer.kernel)
    assert np.isfinite(trained(network, 2, clips, labels, batch=4)).all()
    moved = np.abs(np.array(layer.kernel) - before).max(axis=(0, 2, 3))
    assert moved[0] == 0 and moved[1] > 0


def drawn_anew(weights=None):
    """Return a small network of which TensorFlow has drawn nothing."""
    fused._operation.cache_clear()
    keras.utils.set_random_seed(0)
    network = ours(6, 2, True, "relu")
    if weights is not None:
        network.set_weights(weights)
    return network


def test_an_operation_is_traced_once_for_all_branches_and_sub_blocks():
    network = drawn_anew()
    trained(network, 2, *data(8, 6), batch=8)
    for dilation in (1, 2):
        operation = fused._operation((dilation, 0), 1e-3)
        assert operation.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("turn", range(3))  # it is a matter of chance
def test_networks_that_are_drawn_at_once_train_as_one_alone(turn):
    clips, labels = data(8, 6)
    network = drawn_anew()
    weights = network.get_weights()
    expected = trained(network, 3, clips, labels, batch=8)
    networks = [drawn_anew(weights) for _ in range(3)]
    start = threading.Barrier(len(networks))

    def train(network):
        start.wait()
        return trained(network, 3, clips, labels, batch=8)

    with concurrent.futures.ThreadPoolExecutor(len(networks)) as pool:
        for losses in pool.map(train, networks):
            np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for other in networks:
        for one, two in zip(other.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
