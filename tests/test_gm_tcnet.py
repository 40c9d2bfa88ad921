"""GM-TCNet is the published network."""

import keras
import numpy as np
import pytest
from keras import layers
from references import clips, randomise, reach

from lib.models.gm_tcnet import build_gm_tcnet


def plain_gm_tcnet(frames, coefficients, classes, *, filters, kernel_size, blocks):
    """GM-TCNet of stock layers, one convolution each; and those, level by level."""
    levels = []

    def level(x, dilation):
        how = {"padding": "causal", "dilation_rate": dilation, "activation": "relu"}
        pairs = [
            [layers.Conv1D(filters, kernel_size, **how) for _ in ("signal", "gate")]
            for _ in range(3)
        ]
        levels.append(pairs)
        gated = [
            layers.Multiply()([signal(x), layers.Activation("sigmoid")(gate(x))])
            for signal, gate in pairs
        ]
        return layers.Average()(gated)

    clip = keras.Input((frames, coefficients))
    x = layers.Conv1D(filters, 1, padding="causal", name="first")(clip)
    skips = []
    for block in range(blocks):
        skips.append(level(level(x, 2**block), 2 ** (block + 1)))
        x = layers.Add()([x, skips[-1]])
    x = layers.LeakyReLU(negative_slope=0.05)(layers.Add()(skips))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(clip, layers.Dense(classes, "softmax", name="last")(x)), levels


def copy_weights(ours, plain, levels):
    """Give the stock network the weights of ours."""
    kernel, bias = ours.get_layer("input_convolution").get_weights()
    plain.get_layer("first").set_weights([kernel[None], bias])
    plain.get_layer("last").set_weights(ours.get_layer("probabilities").get_weights())
    for index, pairs in enumerate(levels):
        name = f"block_{index // 2 + 1}_level_{index % 2 + 1}"
        for part, which in enumerate(("signal", "gate")):
            kernel, bias = ours.get_layer(f"{name}_{which}").get_weights()
            kernels, biases = np.split(kernel, 3, axis=-1), np.split(bias, 3)
            for pair, weights in enumerate(zip(kernels, biases, strict=True)):
                pairs[pair][part].set_weights(weights)


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_outputs_equal_those_of_stock_layers(kernel_size):
    options = {"filters": 4, "kernel_size": kernel_size, "blocks": 2}
    ours = build_gm_tcnet((None, 5), 3, **options)
    randomise(ours)
    plain, levels = plain_gm_tcnet(30, 5, 3, **options)
    copy_weights(ours, plain, levels)
    batch = clips(30, 5)
    assert np.ptp(np.asarray(plain(batch)), axis=0).max() > 1e-4
    np.testing.assert_allclose(ours(batch), plain(batch), atol=1e-6)


def test_each_convolution_starts_as_one_of_its_own_would():
    model = build_gm_tcnet((None, 39), 3, blocks=1)
    limit = np.sqrt(6 / (2 * (39 + 39)))  # Glorot and Bengio: 39 in, 39 out, 2 taps
    for part in ("signal", "gate"):
        kernel = np.array(model.get_layer(f"block_1_level_1_{part}").kernel)
        largest = np.abs(kernel.reshape(2, 39, 3, 39)).max(axis=(0, 1, 3))
        np.testing.assert_allclose(largest, limit, rtol=0.01)


@pytest.mark.parametrize(("blocks", "kernel_size"), [(2, 2), (3, 3)])
def test_the_receptive_field_is_what_a_perturbation_reaches(blocks, kernel_size):
    frames, options = 70, {"filters": 4, "kernel_size": kernel_size}
    model = build_gm_tcnet((frames, 4), 2, blocks=blocks, **options)
    randomise(model)
    found = reach(model, "activated", frames) > 1e-6  # rounding is below
    reached = np.flatnonzero(found[:, -1])
    field = 1 + 3 * (kernel_size - 1) * (2**blocks - 1)  # three a block
    assert frames - reached.min() == field
    assert not np.tril(found, -1).any()  # what is later has no effect
