"""Two layers that stock Keras computes slowly in TensorFlow, with the same results."""

import keras
from keras import layers, ops

register = keras.saving.register_keras_serializable(package="ser_workbook")


@register
class ConvolutionBatchNorm(layers.Layer):
    """Dilated convolution along time, then batch normalisation.

    What TensorFlow derives by itself passes over the signal twice as often as need
    be, so the gradient of both is written out; other backends use the two sublayers.
    Not `causal`, a frame sees as much of the future as of the past.
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
        if not (training and norm.trainable) or keras.backend.backend() != "tensorflow":
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
    sqrt(v + epsilon) + beta, m and v. The bias leaves with the mean, so its gradient
    is zero, where rounding would give it a random one.
    """
    import tensorflow as tf

    def delayed(signal, delay: int):
        """Move the frames of each clip to the future; zeros come in."""
        if delay == 0:
            return signal
        frames = tf.shape(signal)[1]
        lost = tf.minimum(abs(delay), frames)
        if delay > 0:
            return tf.pad(signal[:, : frames - lost], [[0, 0], [lost, 0], [0, 0]])
        return tf.pad(signal[:, lost:], [[0, 0], [0, lost], [0, 0]])

    def average(rows):
        """Return the mean (channels,); a matrix product is faster than a sum."""
        count = tf.shape(rows)[0]
        return tf.matmul(tf.fill((1, count), 1.0 / tf.cast(count, rows.dtype)), rows)[0]

    @tf.custom_gradient
    def operation(inputs, kernel, bias, gamma, beta):
        size, filters = kernel.shape[1:]
        wide = tf.reshape(kernel, (-1, filters))  # (taps * size, filters)
        seen = tf.concat([delayed(inputs, delay) for delay in delays], axis=-1)
        seen = tf.reshape(seen, (-1, len(delays) * size))  # one row per frame
        y = tf.matmul(seen, wide)  # without the bias
        mean = average(y)
        variance = average(tf.square(y - mean))
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        batch, frames = tf.unstack(tf.shape(inputs)[:-1])

        def gradient(upstream, *_of_moments):
            upstream = tf.reshape(upstream, (-1, filters))
            count = tf.cast(tf.shape(y)[0], y.dtype)
            level = average(upstream)
            slope = (average(upstream * y) - mean * level) * inverse
            # Every value moves the mean and the variance of all the others, too.
            along = -scale * inverse * slope
            of_y = upstream * scale + (y * along - (scale * level + along * mean))
            of_seen = tf.matmul(of_y, wide, transpose_b=True)
            of_seen = tf.reshape(of_seen, (batch, frames, len(delays) * size))
            parts = zip(tf.split(of_seen, len(delays), axis=-1), delays, strict=True)
            return (
                tf.add_n([delayed(part, -delay) for part, delay in parts]),
                tf.reshape(tf.matmul(seen, of_y, transpose_a=True), kernel.shape),
                tf.zeros_like(bias),
                slope * count,
                level * count,
            )

        outputs = y * scale + (beta - mean * scale)
        outputs = tf.reshape(outputs, (batch, frames, filters))
        return (outputs, mean + bias, variance), gradient

    return operation


@register
class ChannelDropout(layers.SpatialDropout1D):
    """SpatialDropout1D that draws one number per channel and multiplies once."""

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        ones = ops.ones((ops.shape(inputs)[0], 1, inputs.shape[-1]))
        factors = keras.random.dropout(ones, self.rate, seed=self.seed_generator)
        return inputs * factors
