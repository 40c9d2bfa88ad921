"""Light-SERNet is the published network, and each option is what it says."""

import numpy as np
from keras import ops
from references import clips, inside, randomise

from lib.models.light_sernet import build_light_sernet

SMALL = {"width": 0.1}


def weights(model, name):
    return [np.asarray(weight) for weight in model.get_layer(name).weights]


def convolved(model, name, picture):
    kernel, *bias = weights(model, name)
    return ops.conv(picture, kernel, padding="same") + sum(bias)


def normalised(model, name, picture):
    gamma, beta, mean, variance = weights(model, name)
    return gamma * (picture - mean) / np.sqrt(variance + 1e-3) + beta


def plain_answer(model, batch, options):
    """Return embeddings and probabilities of clips by the published equations."""

    def activated(picture, name):
        slope = 0.0
        if options.get("activation") == "prelu":
            slope = weights(model, f"{name}_activation")[0].item()
        return ops.where(picture > 0, picture, slope * picture)

    picture, paths = batch[..., None], []
    for name in ("time", "coefficients", "both"):
        path = convolved(model, f"{name}_convolution", picture)
        path = normalised(model, f"{name}_normalisation", path)
        if options.get("residual") == "add":
            path = path + picture
        if options.get("residual") == "projection":
            path = path + convolved(model, f"{name}_projection", picture)
        paths.append(ops.average_pool(activated(path, name), 2, 2, "same"))
    signal = ops.concatenate(paths, axis=-1)
    for number, pool in enumerate([(2, 2), (2, 2), (2, 1), (2, 1), None], start=1):
        signal = convolved(model, f"block_{number}_convolution", signal)
        signal = normalised(model, f"block_{number}_normalisation", signal)
        signal = activated(signal, f"block_{number}")
        signal = ops.average_pool(signal, pool, pool, "same") if pool else signal
    embedding = ops.mean(signal, axis=(1, 2))
    kernel, bias = weights(model, "probabilities")
    return embedding, ops.softmax(embedding @ kernel + bias)


def test_probabilities_follow_the_published_equations():
    both = {"activation": "prelu", "residual": "projection"}
    for options in ({}, {"residual": "add"}, both):
        model = build_light_sernet((13, 7), 3, **SMALL, **options)
        randomise(model)
        expected = plain_answer(model, clips(13, 7), options)
        found = inside(model, clips(13, 7), "embedding", "probabilities")
        for ours, plain in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_slopes_start_at_a_quarter_and_width_scales_both_bodies():
    model = build_light_sernet((None, 40), 7, activation="prelu", width=1.5)
    np.testing.assert_array_equal(weights(model, "block_5_activation")[0], [[[0.25]]])
    names = ("time", "coefficients", "both", *(f"block_{n}" for n in range(1, 6)))
    channels = [model.get_layer(f"{name}_convolution").filters for name in names]
    assert channels == [48, 48, 48, 96, 144, 192, 240, 480]


def test_the_penalty_is_on_the_kernels_of_the_blocks_alone():
    model = build_light_sernet((20, 7), 3, l2=0.01, **SMALL)
    randomise(model)
    kernels = [weights(model, f"block_{n}_convolution")[0] for n in range(1, 6)]
    penalty = 0.01 * sum((kernel.astype(float) ** 2).sum() for kernel in kernels)
    np.testing.assert_allclose(float(sum(model.losses)), penalty, rtol=1e-5)
    assert build_light_sernet((20, 7), 3, l2=0, **SMALL).losses == []
