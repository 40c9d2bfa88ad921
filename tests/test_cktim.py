"""CkTIM-net is the published network; its kernels follow their equations."""

import itertools

import keras
import numpy as np
import pytest
from references import randomise
from scipy.interpolate import BSpline

from lib import models
from lib.models.cktim import build_cktim
from lib.models.continuous import (
    ACTIVATIONS,
    GENERATORS,
    ContinuousConvolution,
    KernelGenerator,
    StackedNormedDense,
    convolve_by_fft,
    convolve_directly,
    positions,
)
from lib.models.kan import KernelActivation, StackedKanDense
from lib.models.layers import LevelPooling, StackDirections

TINY = {"blocks": 2, "filters": 4, "hidden_scale": 0.2}
GENERATOR = {"hidden": 6, "omega_0": 7.0, "dropout": 0.0}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def clips(frames=12, coefficients=3, number=5):
    shape = (number, frames, coefficients)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def stacked(frames=12, channels=3, number=5):
    """Return different random clips for two branches."""
    shape = (2, frames, number, channels)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def inside(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


def generated(frames=12, training=False, seed=0, **chosen):
    """Return the values of a generator with random weights, (2, frames, 5)."""
    layer = KernelGenerator(**(GENERATOR | {"outputs": 5} | chosen))
    layer.build((2, 1, None, 1))
    randomise(layer, seed)
    return np.asarray(layer(positions(frames), training=training))[:, 0]


# --- size -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"blocks": 1}, 318_749),
        ({"blocks": 3}, 743_583),
        ({}, 1_380_834),
        ({"hidden_scale": 0.1}, 200_824),
        ({"hidden_scale": 0.2}, 320_866),
        ({"hidden_scale": 0.5}, 724_386),
        ({"output_bias": True, "blocks": 1}, 318_749 + 6 * 39),
        ({"continuous": False, "blocks": 1}, 16_037),
        ({"continuous": False, "blocks": 3}, 41_311),
        ({"continuous": False}, 79_222),
    ],
)
def test_trainable_parameters_are_the_published_ones(options, wanted):
    model = models.build_model("cktim", (None, 39), 7, **options)
    assert count(model.trainable_weights) == wanted


@pytest.mark.parametrize(("channels", "filters", "hidden"), [(39, 39, 32), (5, 3, 6)])
def test_one_convolution_has_as_many_parameters_as_the_formula(
    channels, filters, hidden
):
    layer = ContinuousConvolution(filters, GENERATOR | {"hidden": hidden})
    layer.build((1, None, None, channels))
    wanted = hidden**2 + 9 * hidden + channels * filters * (hidden + 2)
    assert count(layer.trainable_weights) == wanted


# --- the convolution ------------------------------------------------------------------


def plain_generator(layer, branch, frames):
    """Return a generator's values outside training, in NumPy, (frames, outputs)."""
    weights = {
        f"{part.name}/{weight.name}": np.array(weight)[branch]
        for part in layer.linear + layer.normalisations
        for weight in part.weights
    }
    # The oldest position first, as in the publication.
    values = np.linspace(-1, 1, frames)[:, None]
    for number in (1, 2, 3):
        direction = weights[f"linear_{number}/direction"][0]
        unit = direction / np.sqrt((direction**2).sum(axis=0))
        values = values @ (unit * weights[f"linear_{number}/gain"][0])
        values = values + weights[f"linear_{number}/bias"][0]
        if number == 3:
            return values
        values = values * 7.0
        mean, variance, gamma, beta = (
            weights[f"normalisation_{number}/{name}"][0, 0]
            for name in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        values = (values - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        values = np.sin(values)


@pytest.mark.parametrize("gain", ["sum", "mean"])
@pytest.mark.parametrize("convolution", ["direct", "fft"])
def test_a_convolution_is_what_a_loop_over_its_taps_gives(convolution, gain):
    frames, channels, filters = 9, 2, 3
    layer = ContinuousConvolution(filters, GENERATOR, convolution, gain, bias=True)
    layer.build((2, None, None, channels))
    randomise(layer)
    signal = stacked(frames, channels, number=2)
    outputs = np.asarray(layer(signal))
    bias = np.array(layer.bias)
    for branch, clip in itertools.product((0, 1), (0, 1)):
        taps = plain_generator(layer.generator, branch, frames)
        taps = taps.reshape(frames, channels, filters)
        for now in range(frames):
            wanted = bias[branch, 0, 0].astype(float)
            for tap in range(frames):
                # The last tap, at position 1, multiplies the present frame.
                then = now - (frames - 1) + tap
                if then >= 0:
                    part = signal[branch, then, clip] @ taps[tap]
                    wanted = wanted + part / (frames if gain == "mean" else 1)
            np.testing.assert_allclose(outputs[branch, now, clip], wanted, atol=2e-4)


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 33, 188])
def test_fourier_and_direct_convolution_agree(frames):
    rng = np.random.default_rng(frames)
    signal = rng.normal(size=(2, frames, 3, 4)).astype(np.float32)
    kernel = rng.normal(size=(2, frames, 4, 5)).astype(np.float32)
    direct = np.asarray(convolve_directly(signal, kernel))
    np.testing.assert_allclose(convolve_by_fft(signal, kernel), direct, atol=1e-4)
    newest = np.einsum("nbc,nco->nbo", signal[:, 0], kernel[:, 0])
    np.testing.assert_allclose(direct[:, 0], newest, atol=1e-4)


def one_step(compiled=False, **chosen):
    """Return the weights of one convolution before and after a training step."""
    keras.utils.set_random_seed(1)
    clip = keras.Input((11, 3))
    signal = StackDirections()(clip)
    layer = ContinuousConvolution(2, **chosen)
    model = keras.Model(clip, LevelPooling()(layer(signal)))
    # Plain gradient descent: a weight moves by its gradient.
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled)
    before = layer.get_weights()
    model.train_on_batch(clips(11), np.eye(2)[[0, 1, 1, 0, 1]])
    return before, layer.get_weights()


def test_fourier_and_direct_convolution_have_the_same_gradients():
    before, direct = one_step(generator=GENERATOR, convolution="direct")
    _, fourier = one_step(generator=GENERATOR, convolution="fft")
    for old, one, other in zip(before, direct, fourier, strict=True):
        np.testing.assert_allclose(other - old, one - old, atol=1e-4)
    assert np.abs(direct[-1] - before[-1]).max() > 1e-3


@pytest.mark.parametrize("chosen", [{}, {"generator": "convKan", "activation": "kaf"}])
def test_a_compiler_changes_nothing(chosen):
    _, plain = one_step(False, generator=GENERATOR | chosen)
    _, compiled = one_step(True, generator=GENERATOR | chosen)
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)


@pytest.mark.parametrize("convolution", ["direct", "fft"])
def test_a_length_known_only_when_it_runs_changes_nothing(convolution):
    chosen = TINY | {"convolution": convolution}
    any_length = build_cktim((None, 3), 2, **chosen)
    randomise(any_length)
    for frames in (1, 7, 20):
        fixed = build_cktim((frames, 3), 2, **chosen)
        fixed.set_weights(any_length.get_weights())
        # In a graph the length is a number that the compiler does not know.
        traced = any_length.predict(clips(frames), verbose=0)
        np.testing.assert_allclose(traced, fixed(clips(frames)), atol=1e-4)


def test_positions_span_every_clip_from_present_to_oldest():
    for frames in (2, 5, 12):
        wanted = np.linspace(1, -1, frames)
        np.testing.assert_allclose(np.ravel(positions(frames)), wanted, atol=1e-6)
    assert np.ravel(positions(1)) == [1.0]


@pytest.mark.parametrize("convolution", ["direct", "fft"])
@pytest.mark.parametrize("branch", [0, 1])
def test_what_comes_later_leaves_what_was_unchanged(branch, convolution):
    model = build_cktim((30, 3), 2, **TINY, convolution=convolution)
    randomise(model)
    changed = clips(30)
    changed[:, 20] += 1.0
    block = inside(model, "block_2")
    difference = np.abs(np.asarray(block(changed) - block(clips(30))))[branch]
    difference = difference.max(axis=(1, 2))
    # The backward branch runs from the last frame to the first.
    first = 20 if branch == 0 else 30 - 1 - 20
    assert difference[:first].max() < 1e-4
    # It reaches all frames that follow.
    assert difference[first:].min() > 1e-3


# --- the generators -------------------------------------------------------------------


def test_with_normalisation_omega_makes_no_difference_to_the_same_weights():
    slow, fast = (generated(training=True, omega_0=value) for value in (24.0, 26.0))
    assert np.abs(slow).max() > 0.1
    np.testing.assert_allclose(fast, slow, atol=1e-4)


def test_without_normalisation_omega_makes_the_kernel_rougher():
    def roughness(omega_0):
        values = generated(200, omega_0=omega_0, normalise=False)
        return np.abs(np.diff(values, axis=1)).mean()

    assert roughness(26.0) > 1.05 * roughness(24.0) > 0
    assert roughness(25.0) > 5 * roughness(1.0)


@pytest.mark.parametrize("normalise", [True, False])
def test_with_normalisation_first_units_start_equal_up_to_their_sign(normalise):
    layer = KernelGenerator(16, 5, normalise=normalise, dropout=0.0)
    layer.build((1, 1, None, 1))
    values = layer._activated(layer.linear[0](positions(50)), 0, True)
    values = np.abs(np.asarray(values)[0, 0].T)
    assert np.allclose(values, values[0], atol=1e-2) == normalise


@pytest.mark.parametrize("omega_0", [1.0, 25.0])
def test_weights_start_as_sirens_do(omega_0):
    layer = KernelGenerator(32, 400, omega_0=omega_0)
    layer.build((2, 1, None, 1))
    deep = np.sqrt(6 / 32) / omega_0
    for linear, limit in zip(layer.linear, (1.0, deep, deep), strict=True):
        weights = np.array(linear.weights_in_use())
        np.testing.assert_allclose(weights, linear.direction, rtol=1e-5)
        assert 0.9 * limit < np.abs(weights).max() <= limit * (1 + 1e-5)
        # A uniform distribution's deviation.
        wanted = limit / np.sqrt(3)
        assert weights.std() == pytest.approx(wanted, rel=4 / np.sqrt(weights.size))
        assert np.abs(np.array(linear.bias)).max() <= 0.1


def test_weights_start_as_published_where_that_is_asked_for():
    layer = KernelGenerator(32, 400, siren_initialisation=False)
    layer.build((2, 1, None, 1))
    for linear, limit in zip(layer.linear, (1, 32**-0.5, 32**-0.5), strict=True):
        weights = np.abs(linear.weights_in_use())
        assert 0.9 * limit < weights.max() <= limit * (1 + 1e-5)


def test_normed_weights_have_the_length_of_their_gain():
    layer = StackedNormedDense(4)
    layer.build((2, 1, None, 3))
    randomise(layer)
    lengths = np.linalg.norm(layer.weights_in_use(), axis=-2)
    np.testing.assert_allclose(lengths, np.abs(layer.gain[:, :, 0]), rtol=1e-5)
    points = stacked(7, 3, number=1)
    wanted = np.einsum("nbti,nbio->nbto", points, layer.weights_in_use())
    np.testing.assert_allclose(layer(points), wanted + layer.bias, atol=1e-5)


def test_kernel_dropout_drops_single_values_in_training_only():
    layer = KernelGenerator(6, 50, normalise=False, dropout=0.3)
    layer.build((2, 1, None, 1))
    kept = np.asarray(layer(positions(60)))
    dropped = np.asarray(layer(positions(60), training=True))
    gone = dropped == 0
    assert 0.28 < gone.mean() < 0.32
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.7, rtol=1e-4)
    assert not gone.all(axis=2).any() and not gone.all(axis=3).any()
    assert (np.asarray(layer(positions(60), training=True)) == 0).sum() > 0
    again = np.asarray(layer(positions(60), training=True)) == 0
    assert (again != gone).any()


def test_a_spline_layer_is_base_and_b_splines_on_every_connection():
    layer = StackedKanDense(3)
    layer.build((2, 1, None, 4))
    randomise(layer)
    # Inside, at and beyond the interval of the splines, and beyond their knots.
    points = np.linspace(-2.6, 2.6, 4 * 40, dtype=np.float32)
    points = np.stack([points, points[::-1]]).reshape(2, 1, 40, 4)
    outputs = np.asarray(layer(points))
    knots = np.linspace(-2.2, 2.2, 12)
    base, scale, coefficients = (np.array(w, float) for w in layer.weights)
    for branch, unit in itertools.product(range(2), range(3)):
        wanted = np.zeros(40)
        for source in range(4):
            x = points[branch, 0, :, source].astype(float)
            wanted += base[branch, 0, source, unit] * x / (1 + np.exp(-x))
            for number in range(8):
                basis = BSpline.basis_element(knots[number : number + 5], False)
                curve = np.nan_to_num(basis(x))
                factor = scale[branch, 0, source, unit]
                wanted += factor * coefficients[branch, 0, source, number, unit] * curve
        np.testing.assert_allclose(outputs[branch, 0, :, unit], wanted, atol=1e-4)


def test_splines_start_small_and_through_noise_at_the_knots():
    layer = StackedKanDense(200)
    layer.build((1, 1, None, 2))
    coefficients = np.array(layer.coefficients, float)[0, 0]
    curve = BSpline(np.linspace(-2.2, 2.2, 12), coefficients[1], 3)
    values = curve(np.linspace(-1, 1, 6))
    assert 0.0095 < np.abs(values).max() < 0.01001
    assert values.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.1)
    for weight in (layer.base, layer.scale):
        assert 0.67 < np.abs(np.array(weight)).max() <= 2**-0.5


def test_a_kernel_activation_is_a_sum_of_gaussian_kernels():
    layer = KernelActivation()
    layer.build((2, 1, None, 3))
    mixing = np.array(layer.mixing, float)
    assert mixing.std() == pytest.approx(0.8, rel=0.25)
    points = 3 * stacked(15, 3, number=1)
    wanted = np.zeros(points.shape)
    step = 8 / 19
    for number in range(20):
        kernel = np.exp(-((points - (-4 + number * step)) ** 2) / (8 * step**2))
        wanted += mixing[..., number] * kernel
    np.testing.assert_allclose(layer(points), wanted, atol=1e-4)


def test_a_kernel_activation_may_start_as_the_sine():
    layer = KernelActivation("sin")
    points = np.linspace(-3.5, 3.5, 50, dtype=np.float32)[None, None, :, None]
    np.testing.assert_allclose(layer(points), np.sin(points), atol=0.01)
    with pytest.raises(ValueError, match="start is 'cos'; give 'random' or 'sin'"):
        KernelActivation("cos")


# --- the network ----------------------------------------------------------------------


def test_without_continuous_kernels_it_is_timnet_with_other_starts():
    keras.utils.clear_session()
    timnet = models.build_model("timnet", (None, 3), 2, dilations=3, filters=4)
    randomise(timnet)
    plain = build_cktim((None, 3), 2, continuous=False, blocks=3, filters=4)
    weights = timnet.get_weights()
    for place, variable in enumerate(timnet.weights):
        if variable.name == "moving_variance":
            weights[place] += 1e-3 - 1e-5  # the epsilons of both
    plain.set_weights(weights)
    np.testing.assert_allclose(plain(clips(20)), timnet(clips(20)), atol=1e-5)


def test_the_embedding_is_the_weighted_sum_of_time_averages():
    model = build_cktim((None, 3), 2, **TINY)
    randomise(model)
    levels = [
        np.asarray(inside(model, f"block_{number}")(clips())).sum(axis=0).mean(axis=0)
        for number in (1, 2)
    ]
    weights = np.array(model.get_layer("embedding").kernel)
    wanted = weights[0] * levels[0] + weights[1] * levels[1]
    np.testing.assert_allclose(inside(model, "embedding")(clips()), wanted, atol=1e-4)


def test_fusion_weights_start_between_0_and_1():
    model = build_cktim((None, 3), 2, **(TINY | {"blocks": 16, "continuous": False}))
    weights = np.array(model.get_layer("embedding").kernel)
    assert weights.min() >= 0 and 0.5 < weights.max() <= 1


def test_dropout_drops_whole_channels_of_single_clips_in_training_only():
    model = build_cktim((None, 6), 2, filters=6, blocks=1, dropout=0.5)
    block = model.get_layer("block_1")
    last = block.normalisations[1]
    last.gamma.assign(np.zeros(last.gamma.shape))
    last.beta.assign(np.ones(last.beta.shape))  # one everywhere, before dropout
    signal = np.ones((2, 8, 50, 6), np.float32)  # of ones: what comes is the gate
    gate = np.asarray(block(signal, training=True))
    np.testing.assert_array_equal(gate, gate[:, :1].repeat(8, axis=1))
    kept = gate[:, 0] > 0.6
    np.testing.assert_allclose(gate[:, 0][kept], 1 / (1 + np.exp(-2)), atol=1e-5)
    np.testing.assert_allclose(gate[:, 0][~kept], 0.5, atol=1e-5)
    assert 0.4 < kept.mean() < 0.6
    assert len(np.unique(kept.reshape(100, 6), axis=0)) > 20
    np.testing.assert_allclose(block.gate(signal), 1 / (1 + np.exp(-1)), atol=1e-5)


@pytest.mark.parametrize(("given", "wanted"), [(False, 1.0), (True, 9.0)])
def test_omega_reaches_the_first_convolutions_only_if_asked(given, wanted):
    model = build_cktim((None, 3), 2, **TINY, omega_0=9.0, omega_0_at_input=given)
    first = model.get_layer("input_convolution").generator
    assert first.settings["omega_0"] == wanted
    for convolution in model.get_layer("block_2").convolutions:
        assert convolution.generator.settings["omega_0"] == 9.0


@pytest.mark.parametrize(
    ("generator", "activation", "normalise"),
    list(itertools.product(GENERATORS, ACTIVATIONS, (True, False))),
)
def test_every_generator_takes_a_training_step(generator, activation, normalise):
    model = build_cktim(
        (None, 3),
        2,
        **(TINY | {"blocks": 1}),
        generator=generator,
        activation=activation,
        normalise_generator=normalise,
        kernel_gain="mean",
        output_bias=True,
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(clips(), np.eye(2)[[0, 1, 1, 0, 1]])
    moved = [
        np.abs(new - old).max()
        for new, old in zip(model.get_weights(), before, strict=True)
    ]
    assert np.isfinite(moved).all()
    paths = [variable.path for variable in model.weights]
    last = model.get_layer("block_1").convolutions[1].generator.linear[2]
    for variable in last.weights:
        assert moved[paths.index(variable.path)] > 0


def test_keras_files_reload_with_all_options(tmp_path):
    model = build_cktim(
        (None, 3),
        2,
        **TINY,
        generator="convKan",
        activation="kafsin",
        omega_0=3.0,
        kernel_gain="mean",
        output_bias=True,
        convolution="direct",
    )
    randomise(model)
    for number, network in enumerate((model, build_cktim((None, 3), 2, **TINY))):
        path = tmp_path / f"{number}.keras"
        network.save(path)
        again = keras.saving.load_model(path)
        np.testing.assert_array_equal(again(clips()), network(clips()))
        for layer in network.layers:
            assert again.get_layer(layer.name).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("blocks", 17, "give a whole number from 1 to 16"),
        ("filters", 0, "give a whole number from 1"),
        ("generator", "mlp", "give one of 'conv', 'convKan'"),
        ("activation", "ReLu", "give one of 'sin', 'relu', 'kaf', 'kafsin'"),
        ("convolution", "slow", "give one of 'auto', 'direct', 'fft'"),
        ("kernel_gain", "max", "give one of 'sum', 'mean'"),
        ("omega_0", 0, "give a number from 0.001"),
        ("hidden_scale", 0.03, "give a number from 0.03125 to 16"),
        ("dropout", 1, "give 0 to below 1"),
        ("kernel_dropout", -0.1, "give 0 to below 1"),
        ("continuous", 1, "give True or False"),
        ("output_bias", "no", "give True or False"),
        ("normalise_generator", None, "give True or False"),
        ("siren_initialisation", 0, "give True or False"),
        ("omega_0_at_input", 1.0, "give True or False"),
    ],
)
def test_a_bad_option_is_named(option, value, message):
    message = f"cktim option '{option}': {value!r}; {message}"
    with pytest.raises(ValueError, match=message):
        models.build_model("cktim", (None, 39), 7, **{option: value})
