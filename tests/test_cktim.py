"""CkTIM-net is the published network; its kernels follow their equations."""

import keras
import numpy as np
import pytest
from keras import layers
from references import clips, inside, randomise
from scipy.interpolate import BSpline

from lib.models.cktim import (
    NormedDense,
    SplineDense,
    build_cktim,
    convolve_by_fft,
    convolve_directly,
)

TINY = {"blocks": 2, "filters": 4, "hidden_scale": 0.2}
BATCH = clips(12, 3, number=2)


def own(layers_, kind):
    return [layer for layer in layers_ if isinstance(layer, kind)]


def plain_dense(layer, x, direction):
    w = {item.name: np.array(item, float)[direction] for item in layer.weights}
    if "direction" in w:
        length = np.sqrt((w["direction"] ** 2).sum(axis=0))
        return x @ (w["direction"] / length * w["gain"]) + w["bias"]
    out = (x / (1 + np.exp(-x))) @ w["base"]
    knots = np.linspace(-2.2, 2.2, 12)
    for number in range(8):
        basis = BSpline.basis_element(knots[number : number + 5], False)
        out += np.nan_to_num(basis(x)) @ (w["scale"] * w["coefficients"][:, number])
    return out


def plain_normalisation(layer, x, direction):
    weights = np.array(layer.get_weights(), float)
    gamma, beta, mean, variance = np.split(weights, 2, axis=1)[direction]
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def plain_kernel(generator, frames, direction, omega, activation):
    """Return the kernel's values, (frames, outputs), newest first."""
    dense = own(generator.layers, NormedDense)  # splines too
    norms = own(generator.layers, layers.BatchNormalization)
    x = np.linspace(1, -1, frames)[:, None]
    for number in (0, 1):
        x = plain_dense(dense[number], x, direction)
        x = x * omega if activation == "sin" else x
        x = plain_normalisation(norms[number], x, direction) if norms else x
        x = np.sin(x) if activation == "sin" else np.maximum(x, 0)
    return plain_dense(dense[2], x, direction)


def plain_embedding(model, clip, options):
    """Return the fused vector of one clip, (filters,)."""
    frames, blocks = len(clip), options["blocks"]
    normalisations = own(model.layers, layers.BatchNormalization)
    dilated = own(model.layers, layers.Conv1D)

    def convolved(x, name, number, direction, omega, dilation):
        if not options.get("continuous", True):
            kernel, bias = dilated[2 * number + direction].get_weights()
            past = np.pad(x, ((dilation * (len(kernel) - 1), 0), (0, 0)))
            delays = [past[k * dilation :][:frames] for k in range(len(kernel))]
            return sum(map(np.matmul, delays, kernel)) + bias
        generator, activation = f"{name}_generator", options.get("activation", "sin")
        generator = model.get_layer(generator)
        values = plain_kernel(generator, frames, direction, omega, activation)
        kernel = values.reshape(frames, x.shape[1], -1)
        if options.get("kernel_gain") == "mean":
            kernel = kernel / frames
        out = [sum(x[t - s] @ kernel[s] for s in range(t + 1)) for t in range(frames)]
        bias = [np.array(item) for item in model.get_layer(name).weights]
        return np.array(out) + (np.split(bias[0], 2)[direction] if bias else 0)

    omega = options.get("omega_0", 25.0)
    first = omega if options.get("omega_0_at_input") else 1.0
    levels = np.zeros((blocks, options["filters"]))
    for direction, x in enumerate((clip.astype(float), clip[::-1].astype(float))):
        x = convolved(x, "input_convolution", 0, direction, first, 1)
        for block in range(blocks):
            hidden = x
            for part in (0, 1):
                number = 2 * block + part
                name = f"block_{block + 1}_{part + 1}"
                hidden = convolved(hidden, name, number + 1, direction, omega, 2**block)
                norm = normalisations[number]
                hidden = np.maximum(plain_normalisation(norm, hidden, direction), 0)
            x = x / (1 + np.exp(-hidden))
            levels[block] += x.mean(axis=0)
    return model.get_layer("fusion").get_weights()[0][:, 0] @ levels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"omega_0": 3.0, "omega_0_at_input": True, "normalise_generator": False},
        {"activation": "relu", "convolution": "direct", "output_bias": True},
        {"generator": "convKan", "kernel_gain": "mean"},
        {"generator": "convKan", "activation": "relu", "normalise_generator": False},
        {"continuous": False, "kernel_size": 3},
    ],
)
def test_the_embedding_follows_the_equations(options):
    options = TINY | options
    model = build_cktim((None, 3), 2, **options)
    randomise(model)
    (found,) = inside(model, BATCH, "embedding")
    wanted = np.array([plain_embedding(model, clip, options) for clip in BATCH])
    # In float32 a sum over 12 frames and three convolutions loses some digits.
    tolerance = 2e-4 * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=tolerance)


def test_fourier_and_direct_convolution_agree():
    for frames in (1, 2, 33, 188):
        rng = np.random.default_rng(frames)
        signal = rng.normal(size=(3, frames, 2, 4)).astype(np.float32)
        kernels = rng.normal(size=(frames, 2, 4, 5)).astype(np.float32)
        direct = convolve_directly(signal, kernels)
        np.testing.assert_allclose(convolve_by_fft(signal, kernels), direct, atol=1e-4)


def after_a_step(compiled=False, **chosen):
    """Return the weights of a small network after a step of gradient descent."""
    options = {"kernel_gain": "mean", "kernel_dropout": 0.0, "dropout": 0.0}
    model = build_cktim((11, 3), 2, **(TINY | {"blocks": 1} | options | chosen))
    randomise(model)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled)
    model.train_on_batch(BATCH[:, :11], np.eye(2))
    moved = [n - o for n, o in zip(model.get_weights(), before, strict=True)]
    assert max(np.abs(part).max() for part in moved) > 1e-3
    return moved


def test_neither_the_way_of_convolution_nor_a_compiler_changes_a_step():
    direct = after_a_step(convolution="direct")
    compiled = after_a_step(convolution="fft", compiled=True)
    for one, moved in zip(direct, compiled, strict=True):
        np.testing.assert_allclose(moved, one, atol=1e-4)


def test_kernel_dropout_drops_single_values_in_training_only():
    chosen = {"normalise_generator": False, "kernel_dropout": 0.3, "filters": 30}
    generator = build_cktim((None, 3), 2, blocks=1, **chosen)
    generator = generator.get_layer("block_1_1_generator")
    places = np.linspace(1, -1, 60)[None, :, None].repeat(2, axis=2)
    kept, dropped = (np.asarray(generator(places, training=t)) for t in (False, True))
    gone = dropped == 0
    # Of 108,000 values, three standard deviations are 0.004.
    assert 0.29 < gone.mean() < 0.31 and not gone.all(axis=1).any()
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.7, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("siren", [True, False])
def test_weights_start_as_sirens_do_or_as_published(siren):
    model = build_cktim((None, 3), 2, blocks=1, siren_initialisation=siren)
    deep = np.sqrt(6 / 32) / 25 if siren else 1 / np.sqrt(32)
    dense = own(model.get_layer("block_1_1_generator").layers, NormedDense)
    for layer, limit in zip(dense, (1.0, deep, deep), strict=True):
        direction, gain, bias = (np.array(weight) for weight in layer.weights)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        np.testing.assert_allclose(gain, length, rtol=1e-5)
        assert np.abs(direction).max() <= limit * (1 + 1e-5)
        near = pytest.approx(limit / np.sqrt(3), rel=4 / np.sqrt(direction.size))
        assert direction.std() == near  # as of a uniform distribution
        assert 0.05 < np.abs(bias).max() <= 0.1
    fusion = build_cktim((None, 3), 2, blocks=16, continuous=False).get_layer("fusion")
    assert 0 <= np.min(fusion.kernel) and 0.5 < np.max(fusion.kernel) <= 1


def test_splines_start_small_and_through_noise_at_the_knots():
    layer = SplineDense(200, limit=1.0)
    layer.build((1, None, 4))
    curve = BSpline(np.linspace(-2.2, 2.2, 12), np.array(layer.coefficients)[0, 1], 3)
    values = curve(np.linspace(-1, 1, 6))
    assert 0.0095 < np.abs(values).max() < 0.01001
    assert values.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.1)
    for weight in (layer.base, layer.scale):
        assert 0.67 < np.abs(np.array(weight)).max() <= 2**-0.5
