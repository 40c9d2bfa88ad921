"""TIM-Net (Ye et al., ICASSP 2023, arXiv 2211.08233).

A clip and its reversal pass through temporal-aware blocks whose dilation doubles; the
time averages of all blocks are summed with learned weights and classified.
"""

from typing import Literal

import keras
from keras import layers, ops

from lib.models import Count, Share, Taps, Width

Activation = Literal["relu", "elu", "gelu", "leaky_relu", "selu", "silu", "tanh"]


def build_timnet(
    input_shape: tuple,
    num_classes: int,
    *,
    filters: Width = 39,
    kernel_size: Taps = 2,
    dilations: Count = 8,
    stacks: Count = 1,
    dropout: Share = 0.1,
    activation: Activation = "relu",
    backward: bool = True,
    fusion: Literal["weights", "mean", "last"] = "weights",
    block: Literal["gated", "residual"] = "gated",
    causal: bool = True,
) -> keras.Model:
    """Build TIM-Net as published, or one of its ablations (table 3).

    They are `backward=False` (without bi-direction), `fusion="last"` (without
    multi-scale), `fusion="mean"` (without dynamic fusion) and, as we read it, the plain
    temporal convolutional network: "residual" blocks, not backward, the last level.
    The dilations of n blocks are 1, 2, ... 2^(n-1); `stacks` repeats their chain.
    Without `causal`, a block sees the future of its direction too.

    Layers: "embedding" (batch, filters), fused from "levels" (batch, levels, filters);
    "block_3_backward", what the third block makes of the reversed clip, and
    "block_3_backward_gate", what it multiplies by.
    """
    clip = keras.Input(input_shape, name="features")
    signals = {"forward": clip}
    if backward:
        signals["backward"] = ops.flip(clip, axis=1)
    how = {"kernel_size": kernel_size, "activation": activation, "causal": causal}
    how |= {"gated": block == "gated", "stacks": stacks}
    levels = multi_scale(signals, filters, [dropout] * dilations, **how)
    if fusion == "weights":
        embedding = weighted_sum(levels, name="embedding")
    elif fusion == "mean":
        embedding = layers.GlobalAveragePooling1D(name="embedding")(levels)
    else:
        embedding = layers.Identity(name="embedding")(levels[:, -1])
    classifier = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, classifier(embedding), name="timnet")


def multi_scale(signals: dict, filters: int, dropouts: list, *, stacks: int, **block):
    """Return what each block has seen of the clip in all directions of `signals`.

    g_j = mean over frames of the sum over directions of F_j (equation 3), (batch,
    levels, filters). A block has a dropout of its own and what `block` says.
    """
    current = {
        direction: layers.Conv1D(filters, 1, name=f"input_{direction}")(signal)
        for direction, signal in signals.items()
    }
    levels = []
    for number, dropout in enumerate(dropouts * stacks):
        block |= {"dilation": 2 ** (number % len(dropouts)), "dropout": dropout}
        for direction, signal in current.items():
            name = f"block_{number + 1}_{direction}"
            current[direction] = temporal_aware_block(signal, name, **block)
        pool = layers.GlobalAveragePooling1D(keepdims=True)
        levels.append(sum(map(pool, current.values())))
    return layers.Concatenate(axis=1, name="levels")(levels)


def temporal_aware_block(
    signal, name, *, kernel_size, dilation, dropout, activation, gated=True, causal=True
):
    """Return F_(j+1) = F_j * sigmoid(sub-block(sub-block(F_j))) (equations 1 and 2).

    A sub-block is convolution, batch normalisation, activation and spatial dropout.
    As the sigmoid follows a ReLU, the gate lies in [0.5, 1). Not `gated`, F_j is added
    and the sum activated.
    """
    hidden = signal
    for part in (f"{name}_1", f"{name}_2"):
        hidden = ConvolutionBatchNorm(
            signal.shape[-1], kernel_size, dilation, causal, name=part
        )(hidden)
        hidden = layers.Activation(activation)(hidden)
        hidden = ChannelDropout(dropout)(hidden)
    if not gated:
        return layers.Activation(activation, name=name)(signal + hidden)
    gate = layers.Activation("sigmoid", name=f"{name}_gate")(hidden)
    return layers.Multiply(name=name)([signal, gate])


def weighted_sum(levels: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return sum_j w_j g_j (equation 4), the same weights for all clips."""
    start = keras.initializers.RandomUniform(-0.05, 0.05)
    fusion = layers.Dense(1, use_bias=False, kernel_initializer=start, name="fusion")
    by_channel = layers.Permute((2, 1))(levels)  # (batch, filters, levels)
    return layers.Flatten(name=name)(fusion(by_channel))


@keras.saving.register_keras_serializable("ser_workbook")
class ConvolutionBatchNorm(layers.Layer):
    """Dilated convolution along time, then batch normalisation.

    What TensorFlow derives by itself passes over the signal twice as often as need be,
    so the gradient of both is written out; other backends, and clips of unknown length,
    use the two sublayers. Not `causal`, a frame looks both ways, half as far.
    """

    def __init__(self, filters, kernel_size, dilation=1, causal=True, **kwargs):
        super().__init__(**kwargs)
        how = {"padding": "causal" if causal else "same", "dilation_rate": dilation}
        how["name"] = "convolution"
        self.convolution = layers.Conv1D(filters, kernel_size, **how)
        self.normalisation = layers.BatchNormalization(name="normalisation")
        past = (kernel_size - 1) * dilation // (1 if causal else 2)
        self.delays = [past - tap * dilation for tap in range(kernel_size)]

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.normalisation.build(self.convolution.compute_output_shape(input_shape))

    def call(self, inputs, training=False):
        norm = self.normalisation
        fused = keras.backend.backend() == "tensorflow" and inputs.shape[1]
        if not (training and norm.trainable and fused):
            return norm(self.convolution(inputs), training=training)
        weights = (*self.convolution.weights, norm.gamma, norm.beta)
        outputs, mean, variance = _operation(self.delays, norm.epsilon)(
            inputs, *(weight.value + 0.0 for weight in weights)
        )
        moving = (norm.moving_mean, norm.moving_variance)
        for variable, value in zip(moving, (mean, variance), strict=True):
            change = ops.stop_gradient(value) - variable
            variable.assign(variable + change * (1.0 - norm.momentum))
        return outputs

    def compute_output_shape(self, input_shape):
        # Without it, Keras draws a graph to find the shape.
        return self.convolution.compute_output_shape(input_shape)


def _operation(delays: list[int], epsilon: float):
    """Return convolution and batch normalisation with their gradient, for TensorFlow.

    y[t] = bias + sum_k inputs[t - delays[k]] · kernel[k], m and v are its mean and
    variance over batch and time; the operation returns gamma * (y - m) /
    sqrt(v + epsilon) + beta, m and v. The gradient of the bias, without effect, is 0.
    """
    import tensorflow as tf

    def delayed(signal, delay: int):
        """Move the frames of each clip to the future; zeros come in."""
        frames = signal.shape[1]
        lost = min(abs(delay), frames)
        if delay > 0:
            return tf.pad(signal[:, : frames - lost], [[0, 0], [lost, 0], [0, 0]])
        return tf.pad(signal[:, lost:], [[0, 0], [0, lost], [0, 0]]) if lost else signal

    def average(rows):
        """Return the mean (channels,); a matrix product is faster than a sum."""
        count = tf.shape(rows)[0]
        return tf.matmul(tf.fill((1, count), 1.0 / tf.cast(count, rows.dtype)), rows)[0]

    @tf.custom_gradient
    def operation(inputs, kernel, bias, gamma, beta):
        (frames, size), filters = inputs.shape[1:], kernel.shape[-1]
        wide = tf.reshape(kernel, (-1, filters))  # (taps * size, filters)
        seen = tf.concat([delayed(inputs, delay) for delay in delays], axis=-1)
        seen = tf.reshape(seen, (-1, len(delays) * size))  # one row per frame
        mean = tf.linalg.matvec(wide, average(seen), transpose_a=True)
        # Centred as it is made, and without the bias, which leaves with the mean.
        y = tf.nn.bias_add(tf.matmul(seen, wide), -mean)
        variance = average(tf.square(y))
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse

        def gradient(upstream, *_of_moments):
            upstream = tf.reshape(upstream, (-1, filters))
            count = tf.cast(tf.shape(y)[0], y.dtype)
            level = average(upstream)
            slope = average(upstream * y) * inverse
            # Every value moves the mean and the variance of all the others, too.
            of_y = upstream - (y * (inverse * slope) + level)
            of_inputs = []  # `scale` is left to the kernel: it is smaller than of_y
            for tap, delay in zip(tf.unstack(kernel * scale), delays, strict=True):
                part = tf.matmul(of_y, tap, transpose_b=True)
                part = tf.reshape(part, (-1, frames, size))
                of_inputs.append(delayed(part, -delay))
            of_kernel = tf.matmul(seen, of_y, transpose_a=True) * scale
            return (
                tf.add_n(of_inputs),
                tf.reshape(of_kernel, kernel.shape),
                tf.zeros_like(bias),
                slope * count,
                level * count,
            )

        outputs = tf.reshape(y * scale + beta, (-1, frames, filters))
        return (outputs, mean + bias, variance), gradient

    return operation


@keras.saving.register_keras_serializable("ser_workbook")
class ChannelDropout(layers.SpatialDropout1D):
    """SpatialDropout1D that draws one number per channel and multiplies once."""

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        ones = ops.ones((ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return inputs * keras.random.dropout(ones, self.rate, seed=self.seed_generator)
