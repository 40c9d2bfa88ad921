"""GM-TCNet is the published network."""

import keras
import numpy as np
import pytest
from keras import layers
from references import randomise

from lib.models.gm_tcnet import GatedLevel, build_gm_tcnet, receptive_field


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def plain_gm_tcnet(frames, coefficients, classes, *, filters, kernel_size, blocks):
    """GM-TCNet of stock layers, one convolution each; and those, level by level."""
    levels = []

    def level(x, dilation):
        pairs = [
            [
                layers.Conv1D(
                    filters,
                    kernel_size,
                    padding="causal",
                    dilation_rate=dilation,
                    activation="relu",
                )
                for _ in ("signal", "gate")
            ]
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
        held = {item.name: np.array(item) for item in ours.get_layer(name).weights}
        for pair, convolutions in enumerate(pairs):
            for part, layer in zip(("signal", "gate"), convolutions, strict=True):
                layer.set_weights(
                    [held[f"{part}_kernel"][:, :, pair], held[f"{part}_bias"][pair]]
                )


@pytest.fixture(scope="module", params=[2, 3])
def pair(request):
    """Return our network, and one of stock layers with the same weights."""
    options = {"filters": 4, "kernel_size": request.param}
    ours = build_gm_tcnet((None, 5), 3, blocks=2, **options)
    randomise(ours)
    plain, levels = plain_gm_tcnet(30, 5, 3, blocks=2, **options)
    copy_weights(ours, plain, levels)
    return ours, plain, levels


@pytest.fixture
def clips():
    return np.random.default_rng(1).normal(size=(6, 30, 5)).astype(np.float32)


def test_parameter_counts():
    assert count(build_gm_tcnet((None, 39), 7).trainable_weights) == 260_644
    assert build_gm_tcnet((None, 39), 7).non_trainable_weights == []


def test_outputs_equal_those_of_stock_layers(pair, clips):
    ours, plain, _ = pair
    assert np.ptp(np.asarray(plain(clips)), axis=0).max() > 1e-3
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-6)


def test_gradients_equal_those_of_stock_layers(pair, clips):
    ours, plain, levels = pair
    before = ours.get_weights()
    # Plain gradient descent: a weight moves by its gradient.
    for model in (ours, plain):
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        model.jit_compile = False
        model.train_on_batch(clips, np.eye(3)[[0, 1, 2, 0, 1, 2]])
    for weight, old in zip(ours.weights, before, strict=True):
        assert np.abs(np.array(weight) - old).max() > 1e-7, weight.path
    stepped = plain.get_weights()
    copy_weights(ours, plain, levels)
    for ours_now, plain_now in zip(plain.get_weights(), stepped, strict=True):
        np.testing.assert_allclose(ours_now, plain_now, atol=1e-6)
    ours.set_weights(before)
    copy_weights(ours, plain, levels)


def test_a_step_compiled_by_xla_is_the_same_step(clips):
    after = []
    for fused in (True, False):
        model = build_gm_tcnet((30, 5), 3, filters=4, blocks=2)
        randomise(model)
        model.compile(
            keras.optimizers.SGD(0.1), "categorical_crossentropy", jit_compile=fused
        )
        model.train_on_batch(clips, np.eye(3)[[0, 1, 2, 0, 1, 2]])
        after.append(model.get_weights())
    for fused, plain in zip(*after, strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-6)


def test_each_convolution_starts_as_one_of_its_own_would():
    layer = GatedLevel(39)
    layer.build((None, None, 39))
    limit = np.abs(keras.initializers.GlorotUniform(seed=0)((2, 39, 39))).max()
    for kernel in layer.kernels:
        largest = np.abs(np.array(kernel)).max(axis=(0, 1, 3))
        np.testing.assert_allclose(largest, limit, rtol=0.01)
    assert not np.allclose(*map(np.array, layer.kernels))


def test_clips_of_any_length_have_the_answer_of_stock_layers(pair):
    ours, _, _ = pair
    kernel_size = ours.get_layer("block_1_level_1").kernel_size
    ours.jit_compile = False  # one program whose frames are unknown
    for frames in (1, 3, 50):
        clip = np.random.default_rng(frames).normal(size=(2, frames, 5))
        plain, levels = plain_gm_tcnet(
            frames, 5, 3, filters=4, kernel_size=kernel_size, blocks=2
        )
        copy_weights(ours, plain, levels)
        np.testing.assert_allclose(ours.predict_on_batch(clip), plain(clip), atol=1e-6)


@pytest.mark.parametrize(("blocks", "kernel_size"), [(2, 2), (3, 3)])
def test_the_receptive_field_is_what_a_perturbation_reaches(blocks, kernel_size):
    frames, options = 70, {"filters": 4, "kernel_size": kernel_size}
    model = build_gm_tcnet((frames, 4), 2, blocks=blocks, **options)
    randomise(model)
    inside = keras.Model(model.input, model.get_layer("activation").output)
    clip = np.random.default_rng(0).normal(size=(1, frames, 4)).astype(np.float32)
    # A clip a frame, each with that frame changed.
    changed = np.repeat(clip, frames, axis=0)
    changed[range(frames), range(frames)] += 3.0
    difference = np.abs(np.asarray(inside(changed) - inside(clip))).max(axis=-1)
    reached = np.flatnonzero(difference[:, -1] > 0)
    assert frames - reached.min() == receptive_field(blocks, kernel_size)
    assert not np.tril(difference, -1).any()  # what is later has no effect


def test_keras_files_reload_without_custom_objects(clips, tmp_path):
    model = build_gm_tcnet((None, 5), 3, filters=4, kernel_size=3, blocks=2, pairs=2)
    randomise(model)
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(clips), model(clips))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "'filters': 0; give a whole number from 1"),
        ({"kernel_size": 2.0}, "'kernel_size': 2.0; give a whole number from 1"),
        ({"blocks": 17}, "'blocks': 17; give a whole number from 1 to 16"),
        ({"pairs": None}, "'pairs': None; give a whole number from 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"gm_tcnet option {message}"):
        build_gm_tcnet((20, 7), 3, **options)
