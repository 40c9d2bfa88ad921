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
