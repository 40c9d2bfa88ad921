"""What is written out for TensorFlow equals stock Keras to float32 rounding."""

import keras
import numpy as np
import pytest
from keras import layers

from lib.models.timnet import ChannelDropout, ConvolutionBatchNorm

EPSILON = np.finfo(np.float32).eps


def pair(filters, taps, dilation, causal, frames=None):
    """Return our layer and the stock ones as networks with the same weights."""
    how = {"dilation_rate": dilation, "padding": "causal" if causal else "same"}
    stock = [layers.Conv1D(filters, taps, **how), layers.BatchNormalization()]
    ours = ConvolutionBatchNorm(filters, taps, dilation, causal)
    networks = []
    for layer in (ours, keras.Sequential(stock)):
        clip = keras.Input((frames, 5))
        networks.append(keras.Model(clip, layer(clip)))
    rng = np.random.default_rng(0)
    shapes = [weight.shape for weight in networks[0].weights]
    weights = [rng.uniform(0.2, 1.0, s) * rng.choice([-1, 1]) for s in shapes]
    weights[-1] = np.abs(weights[-1])  # the moving variance
    for network in networks:
        network.set_weights(weights)
    return networks


def learnt(network, clips, wanted):
    """Return output, gradients of clips and weights, and moving statistics."""
    import tensorflow

    def step(clips):
        with tensorflow.GradientTape() as tape:
            tape.watch(clips)
            output = network(clips, training=True)
            loss = tensorflow.reduce_sum(output * wanted)
        variables = [weight.value for weight in network.trainable_weights]
        return output, *tape.gradient(loss, [clips, *variables])

    known = [tensorflow.TensorSpec(network.input_shape)]  # not the size of a batch
    found = tensorflow.function(step, known)(clips)
    return [np.asarray(one) for one in (*found, *network.non_trainable_weights)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="stock elsewhere")
@pytest.mark.parametrize(
    ("shape", "frames"),
    [  # filters, taps, dilation, causal
        ((6, 2, 1, True), None),  # a clip of any length
        ((5, 2, 8, True), 20),
        ((6, 3, 2, False), 20),
        ((6, 4, 5, False), 20),
        ((6, 2, 64, True), 20),  # a delay longer than the clip
        ((6, 1, 1, True), 20),
    ],
)
def test_outputs_gradients_and_statistics_are_those_of_stock_layers(shape, frames):
    ours, theirs = pair(*shape, frames)
    rng = np.random.default_rng(1)
    # Far from zero and of all sizes, as cepstral coefficients are.
    clips = (rng.normal(size=(8, 20, 5)) + 5 * rng.normal(size=5)).astype(np.float32)
    wanted = rng.normal(size=(8, 20, shape[0])).astype(np.float32)
    answers = (learnt(network, clips, wanted) for network in (ours, theirs))
    for one, other in zip(*answers, strict=True):
        # Sums of 8 * 20 values, whose roundings grow as the root of their number.
        scale = np.abs(clips).max() * max(1.0, np.abs(other).max())
        scale = max(scale, np.sqrt(8 * 20)) * np.sqrt(8 * 20)
        np.testing.assert_allclose(one, other, atol=EPSILON * scale)
    one, other = ours.predict_on_batch(clips), theirs.predict_on_batch(clips)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_dropout_drops_whole_channels_of_single_clips_in_training_only():
    layer = ChannelDropout(0.5)
    ones = np.ones((50, 30, 6), np.float32)
    dropped = np.asarray(layer(ones, training=True))
    np.testing.assert_array_equal(dropped, dropped[:, :1].repeat(30, axis=1))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    kept = dropped[:, 0] > 0
    # 300 coins: four standard deviations of their mean are 0.12.
    assert 0.38 < kept.mean() < 0.62
    assert len(np.unique(kept, axis=0)) > 20
    np.testing.assert_array_equal(layer(ones), ones)
    assert not np.array_equal(layer(ones, training=True), dropped)
