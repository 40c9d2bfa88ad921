"""Light-SERNet is the published network, and each option is what it says."""

import keras
import numpy as np
import pytest
from references import randomise
from scipy.signal import correlate2d

from lib.models.light_sernet import build_light_sernet

# Channels of width 0.1: small enough to convolve in plain Python.
SMALL = {"width": 0.1}
VARIANTS = [
    {},
    {"activation": "prelu"},
    {"residual": "add"},
    {"activation": "prelu", "residual": "projection"},
]


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def clips(frames, coefficients=7, number=2):
    shape = (number, frames, coefficients)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def weights(model, name):
    return [np.asarray(weight) for weight in model.get_layer(name).weights]


def convolved(picture, kernel, bias=0.0):
    """Convolve (frames, coefficients, in) with an odd kernel, zeros around it."""
    columns = [
        sum(
            correlate2d(picture[..., i], kernel[..., i, o], mode="same")
            for i in range(picture.shape[-1])
        )
        for o in range(kernel.shape[-1])
    ]
    return np.stack(columns, axis=-1) + bias


def normalised(picture, gamma, beta, mean, variance):
    return gamma * (picture - mean) / np.sqrt(variance + 1e-3) + beta


def pooled(picture, frames, coefficients):
    """Average over tiles; those at the far edges are averaged over what is there."""
    return np.array(
        [
            [
                picture[t : t + frames, c : c + coefficients].mean((0, 1))
                for c in range(0, picture.shape[1], coefficients)
            ]
            for t in range(0, picture.shape[0], frames)
        ]
    )


def plain_answer(model, clip, options):
    """Return embedding and probabilities of one clip by the published equations."""

    def activated(picture, name):
        slope = 0.0
        if options.get("activation") == "prelu":
            slope = weights(model, f"{name}_activation")[0].item()
        return np.where(picture > 0, picture, slope * picture)

    picture, paths = clip[..., None], []
    for name in ("time", "coefficients", "both"):
        kernel, bias = weights(model, f"{name}_convolution")
        path = convolved(picture, kernel, bias)
        path = normalised(path, *weights(model, f"{name}_normalisation"))
        if options.get("residual") == "add":
            path = path + picture
        if options.get("residual") == "projection":
            kernel, bias = weights(model, f"{name}_projection")
            path = path + picture * kernel[0, 0, 0] + bias
        paths.append(pooled(activated(path, name), 2, 2))
    signal = np.concatenate(paths, axis=-1)
    for number, pool in enumerate([(2, 2), (2, 2), (2, 1), (2, 1), None], start=1):
        name = f"block_{number}"
        (kernel,) = weights(model, f"{name}_convolution")
        signal = convolved(signal, kernel)
        signal = normalised(signal, *weights(model, f"{name}_normalisation"))
        signal = activated(signal, name)
        signal = pooled(signal, *pool) if pool else signal
    embedding = signal.mean((0, 1))
    kernel, bias = weights(model, "probabilities")
    scores = np.exp(embedding @ kernel + bias)
    return embedding, scores / scores.sum()


@pytest.mark.parametrize(("classes", "trainable"), [(7, 461_703), (4, 460_740)])
def test_parameter_counts(classes, trainable):
    model = build_light_sernet((None, 40), classes)
    assert count(model.trainable_weights) == trainable
    assert count(model.non_trainable_weights) == 1_728


def test_pictures_shrink_as_published():
    model = build_light_sernet((184, 40), 7)
    shapes = [
        model.get_layer(name).output.shape[1:]
        for name in ["paths", *(f"block_{number}_pooling" for number in range(1, 5))]
    ]
    assert shapes == [
        (92, 20, 96),
        (46, 10, 64),
        (23, 5, 96),
        (12, 5, 128),
        (6, 5, 160),
    ]
    assert model.get_layer("embedding").output.shape == (None, 320)


def test_the_first_path_looks_along_time_and_the_second_along_coefficients():
    model = build_light_sernet((30, 20), 3)
    clip = clips(30, 20, 1)
    changed = clip.copy()
    changed[0, 15, 10] += 1.0
    for name, height, breadth in (("time", 11, 1), ("coefficients", 1, 9)):
        output = model.get_layer(f"{name}_convolution").output
        inside = keras.Model(model.input, output)
        touched = np.abs(np.asarray(inside(changed) - inside(clip)))[0].max(-1) > 0
        frames, coefficients = np.nonzero(touched)
        assert sorted({*frames}) == [*range(15 - height // 2, 16 + height // 2)]
        assert sorted({*coefficients}) == [*range(10 - breadth // 2, 11 + breadth // 2)]


@pytest.mark.parametrize("options", VARIANTS)
def test_probabilities_follow_the_published_equations(options):
    model = build_light_sernet((13, 7), 3, **SMALL, **options)
    randomise(model)
    batch = clips(13)
    expected = [plain_answer(model, clip, options) for clip in batch]
    inside = keras.Model(
        model.input, [model.get_layer("embedding").output, model.output]
    )
    for ours, plain in zip(inside(batch), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"activation": "prelu"}, 8),  # three paths and five blocks
        ({"residual": "add"}, 0),
        ({"residual": "projection"}, 3 * (32 + 32)),
    ],
)
def test_options_add_as_many_parameters_as_they_say(options, more):
    model = build_light_sernet((None, 40), 7, **options)
    assert count(model.trainable_weights) == 461_703 + more


def test_slopes_start_at_a_quarter():
    model = build_light_sernet((20, 7), 3, activation="prelu", **SMALL)
    np.testing.assert_array_equal(weights(model, "block_5_activation")[0], [[[0.25]]])


def test_width_scales_both_bodies():
    model = build_light_sernet((None, 40), 7, width=1.5)
    names = [f"{path}_convolution" for path in ("time", "coefficients", "both")]
    names += [f"block_{number}_convolution" for number in range(1, 6)]
    channels = [model.get_layer(name).filters for name in names]
    assert channels == [48, 48, 48, 96, 144, 192, 240, 480]


def test_the_penalty_is_on_the_kernels_of_the_blocks_alone():
    model = build_light_sernet((20, 7), 3, l2=0.01, **SMALL)
    randomise(model)
    kernels = [weights(model, f"block_{n}_convolution")[0] for n in range(1, 6)]
    penalty = 0.01 * sum((kernel.astype(float) ** 2).sum() for kernel in kernels)
    np.testing.assert_allclose(float(sum(model.losses)), penalty, rtol=1e-5)
    assert build_light_sernet((20, 7), 3, l2=0, **SMALL).losses == []


def test_clips_of_any_length_have_the_answer_of_a_network_of_that_length():
    model = build_light_sernet((None, 7), 3, **SMALL)
    randomise(model)
    model.jit_compile = False  # one program whose frames are unknown
    for frames in (1, 2, 20, 61):
        fixed = build_light_sernet((frames, 7), 3, **SMALL)
        fixed.set_weights(model.get_weights())
        np.testing.assert_allclose(
            model.predict_on_batch(clips(frames)), fixed(clips(frames)), atol=1e-6
        )


@pytest.mark.parametrize("options", VARIANTS[1:])
def test_keras_files_reload(options, tmp_path):
    model = build_light_sernet((None, 7), 3, **SMALL, **options)
    randomise(model)
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(clips(20)), model(clips(20)))


@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[-1]])
def test_a_training_step_reaches_every_weight(options):
    model = build_light_sernet((20, 7), 3, **SMALL, **options)
    randomise(model)
    before = [np.array(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    model.jit_compile = False
    model.train_on_batch(clips(20, number=6), np.eye(3)[[0, 1, 2, 0, 1, 2]])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        # A normalisation takes away what a bias adds before it.
        if not weight.path.endswith("_convolution/bias"):
            assert np.abs(np.array(weight) - old).max() > 1e-6, weight.path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "gelu"}, "'activation': 'gelu'; give one of 'relu', 'prelu'"),
        ({"residual": "mul"}, "'residual': 'mul'; give one of None, 'add', 'proj"),
        ({"width": 0}, "'width': 0; give a number from 0.1 to 8"),
        ({"l2": -1.0}, "'l2': -1.0; give a number from 0 to 1"),
        ({"dropout": 1}, "'dropout': 1; give 0 to below 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"light_sernet option {message}"):
        build_light_sernet((20, 7), 3, **options)
