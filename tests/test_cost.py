"""Costs are counted from the operations, and equal formulas by hand."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from lib import models
from lib.files import REPOSITORY
from lib.models import cost, operations


def network(frames, coefficients, *stack):
    clip = keras.Input((frames, coefficients))
    signal = clip
    for layer in stack:
        signal = layer(signal)
    return keras.Model(clip, signal)


def multiply_adds(model, frames):
    return operations.count(model, frames)[0]


# --- multiply-adds --------------------------------------------------------------------


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("frames", [50, 188])
def test_timnet_costs_what_its_convolutions_multiply(backward, frames):
    model = models.build_model("timnet", (None, 39), 7, dilations=8, backward=backward)
    # A one-tap convolution, then two two-tap convolutions in each of 8 blocks. What
    # the machine multiplies is counted: 39 channels are filled up to 40.
    a_direction = frames * (39 * 40 + 8 * 2 * 2 * 40 * 40)
    assert multiply_adds(model, frames) == (1 + backward) * a_direction + 39 * 7


def test_light_sernet_costs_159_million_for_three_seconds():
    model = models.build_model("light_sernet", (None, 40), 7)
    paths = 184 * 40 * 32 * (11 * 1 + 1 * 9 + 3 * 3)
    body = 92 * 20 * 96 * 9 * 64 + 46 * 10 * 64 * 9 * 96
    body += 23 * 5 * 96 * 9 * 128 + 12 * 5 * 128 * 9 * 160 + 6 * 5 * 160 * 320
    assert multiply_adds(model, 184) == paths + body + 320 * 7
    assert round((paths + body) / 1e6, 1) == 159.3  # as published


def test_a_loop_counts_once_for_every_frame():
    model = models.build_model("gru", (None, 39), 7, units=64)
    step = 3 * 64 * (39 + 64)
    assert multiply_adds(model, 188) == 2 * 188 * step + 2 * 64 * 7


def test_a_loop_of_unknown_rounds_is_refused():
    class UntilSmall(layers.Layer):
        def call(self, inputs):
            return ops.while_loop(
                lambda x: ops.max(x) > 1.0, lambda x: (x / 2.0,), (inputs,)
            )[0]

    with pytest.raises(NotImplementedError, match="rounds are not known"):
        operations.count(network(8, 3, UntilSmall()), 8)


def test_grouped_depthwise_and_strided_convolutions_count_what_they_multiply():
    grouped = layers.Conv1D(6, 3, strides=2, groups=2, padding="same")
    assert multiply_adds(network(10, 4, grouped), 10) == 5 * 6 * 3 * 2
    picture = network(
        10, 4, layers.Reshape((10, 4, 1)), layers.DepthwiseConv2D(3, depth_multiplier=2)
    )
    assert multiply_adds(picture, 10) == 8 * 2 * 2 * 9


def test_matrix_products_count_whichever_way_they_are_written():
    class Products(layers.Layer):
        def call(self, x):  # (1, 10, 4)
            turned = ops.transpose(x, (0, 2, 1))
            return (
                ops.sum(ops.matmul(turned, x))  # 4 · 10 · 4
                + ops.sum(ops.einsum("btc,bsc->bts", x, x))  # 10 · 10 · 4
                + ops.sum(ops.tensordot(x[0], x[0], [[0], [0]]))  # 4 · 10 · 4
            )[None]

    expected = 4 * 10 * 4 + 10 * 10 * 4 + 4 * 10 * 4
    assert multiply_adds(network(10, 4, Products()), 10) == expected


def test_a_fourier_transform_counts_by_its_length():
    class Spectrum(layers.Layer):
        def call(self, x):
            real, imaginary = ops.rfft(ops.transpose(x, (0, 2, 1)), fft_length=16)
            return ops.sum(real + imaginary, axis=-1)

    # Four rows of 16 real points: 5/2 n log2(n) operations, two to a multiply-add.
    assert multiply_adds(network(10, 4, Spectrum()), 10) == 4 * (5 * 16 * 4) // 4


def test_element_wise_work_is_free():
    free = network(
        8, 3, layers.ReLU(), layers.BatchNormalization(), layers.GlobalMaxPooling1D()
    )
    assert multiply_adds(free, 8) == 0


COUNTED_ON_BOTH = (("timnet", {"dilations": 2}), ("gru", {"units": 4}), ("cnn", {}))


def counts():
    built = [models.build_model(n, (None, 13), 3, **o) for n, o in COUNTED_ON_BOTH]
    return [operations.count(model, 20)[0] for model in built]


@pytest.mark.slow
def test_jax_counts_what_tensorflow_counts():
    pytest.importorskip("jax")
    here = keras.backend.backend()
    there = {"tensorflow": "jax", "jax": "tensorflow"}[here]
    code = f"""
import json
from lib import models
from lib.models import operations
pairs = json.loads({json.dumps(json.dumps(COUNTED_ON_BOTH))})
built = [models.build_model(n, (None, 13), 3, **o) for n, o in pairs]
print(json.dumps([operations.count(model, 20)[0] for model in built]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": there},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == counts()


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotImplementedError, match="torch"):
        operations.count(network(8, 3, layers.Flatten()), 8)


# --- memory and parameters ------------------------------------------------------------


def test_memory_is_that_of_all_weights_and_of_the_largest_array():
    model = network(
        10, 4, layers.Dense(6), layers.BatchNormalization(), layers.Dense(2)
    )
    found = cost.measure(model, 10)
    assert found.parameters == (4 * 6 + 6) + 2 * 6 + (6 * 2 + 2)
    assert found.weight_bytes == 4 * (found.parameters + 2 * 6)  # moving averages
    assert found.activation_bytes == 4 * 10 * 6
    assert found.multiply_adds == 10 * (4 * 6 + 6 * 2)


def test_a_reshaped_kernel_is_no_activation():
    # Its 15 weights in another shape are more numbers than any activation.
    wide = network(4, 1, layers.Conv1D(1, 15, padding="same"))
    assert cost.measure(wide, 4).activation_bytes < 4 * 15


def test_the_length_of_the_clip_changes_the_work_and_not_the_weights():
    model = models.build_model("cnn", (None, 13), 3)
    short, long = cost.measure(model, 40), cost.measure(model, 80)
    assert long.parameters == short.parameters
    assert 1.9 < long.multiply_adds / short.multiply_adds < 2.1


# --- time -----------------------------------------------------------------------------


def test_every_call_is_timed_and_the_network_left_as_it_was():
    model = network(8, 3, layers.Flatten(), layers.Dense(2))
    model.compile("sgd", "mse", jit_compile=False)
    before = model.optimizer
    seconds = cost.latency(model, 8, repeats=5, warm_up=1, fused=False)
    assert seconds.shape == (5,) and np.all(seconds > 0)
    assert model.optimizer is before and not model.jit_compile
