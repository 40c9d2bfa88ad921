"""What CkTIM-net, Light-SERNet, GM-TCNet, CPAC and the small networks promise alike."""

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from references import randomise

from lib.models.cktim import build_cktim
from lib.models.cpac import LEAST, build_cpac
from lib.models.gm_tcnet import build_gm_tcnet
from lib.models.light_sernet import build_light_sernet
from lib.models.small import build_cnn, build_gru

HERE = Path(__file__).resolve().parent
BUILDERS = {
    "cktim": build_cktim,
    "light_sernet": build_light_sernet,
    "gm_tcnet": build_gm_tcnet,
    "cpac": build_cpac,
    "cnn": build_cnn,
    "gru": build_gru,
}
# A normalisation takes away what a bias adds before it, and the length of weights.
TAKEN_AWAY = {"cktim": ("/gain", "/bias"), "light_sernet": ("_convolution/bias",)}
# TensorFlow's own kernels start sooner; JAX would compile every operation alone.
COMPILED = keras.backend.backend() == "jax"
CKTIM = {"blocks": 1, "filters": 4, "hidden_scale": 0.2}
CPAC = {"filters": 4, "primary_capsules": 3, "capsules": 3, "capsule_size": 5}
SMALL = [
    ("cktim", CKTIM),
    ("cktim", CKTIM | {"continuous": False, "blocks": 2}),
    (
        "cktim",
        CKTIM
        | {
            "generator": "convKan",
            "activation": "relu",
            "normalise_generator": False,
            "kernel_gain": "mean",
            "convolution": "direct",
            "output_bias": True,
        },
    ),
    ("light_sernet", {"width": 0.1}),
    ("light_sernet", {"width": 0.1, "activation": "prelu", "residual": "add"}),
    ("light_sernet", {"width": 0.1, "residual": "projection"}),
    ("gm_tcnet", {"filters": 4, "blocks": 2, "pairs": 2}),
    ("cpac", CPAC),
    ("cpac", CPAC | {"accumulate": True, "frozen_normalisation": False}),
    ("cnn", {"filters": 6}),
    ("gru", {"units": 6}),
    ("gru", {"units": 6, "bidirectional": False}),
]


def clips(frames, number=4):
    shape = (number, frames, 39)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.fixture(scope="module", params=SMALL, ids=str)
def case(request):
    """Return a name, a builder for any number of frames, and a random network."""
    name, options = request.param

    def build(frames):
        return BUILDERS[name]((frames, 39), 3, **options)

    network = build(None)
    randomise(network)
    network.jit_compile = COMPILED
    return name, build, network


@pytest.mark.parametrize(
    ("name", "options", "coefficients", "classes", "trainable"),
    [
        ("cktim", {"blocks": 1}, 39, 7, 318_749),
        ("cktim", {"blocks": 3}, 39, 7, 743_583),
        ("cktim", {}, 39, 7, 1_380_834),
        ("cktim", {"hidden_scale": 0.1}, 39, 7, 200_824),
        ("cktim", {"hidden_scale": 0.2}, 39, 7, 320_866),
        ("cktim", {"hidden_scale": 0.5}, 39, 7, 724_386),
        ("cktim", {"output_bias": True, "blocks": 1}, 39, 7, 318_749 + 6 * 39),
        ("cktim", {"continuous": False, "blocks": 1}, 39, 7, 16_037),
        ("cktim", {"continuous": False, "blocks": 3}, 39, 7, 41_311),
        ("cktim", {"continuous": False}, 39, 7, 79_222),
        ("light_sernet", {}, 40, 7, 461_703),
        ("light_sernet", {}, 40, 4, 460_740),
        ("light_sernet", {"activation": "prelu"}, 40, 7, 461_703 + 8),
        ("light_sernet", {"residual": "add"}, 40, 7, 461_703),
        ("light_sernet", {"residual": "projection"}, 40, 7, 461_703 + 3 * 64),
        ("gm_tcnet", {}, 39, 7, 260_644),
        ("cpac", {}, 39, 7, 321_480),
        ("cnn", {}, 39, 7, 54_279),
        ("gru", {}, 39, 7, 41_223),
    ],
)
def test_trainable_parameters(name, options, coefficients, classes, trainable):
    network = BUILDERS[name]((None, coefficients), classes, **options)
    assert count(network.trainable_weights) == trainable


@pytest.mark.parametrize(
    ("recipe", "differing"),
    [
        ("cktim/emovo", {"siren_initialisation"}),
        ("light_sernet/emodb", set()),
        ("gm_tcnet/casia", set()),
        ("cpac/casia", set()),
    ],
)
def test_defaults_are_the_published_network(recipe, differing):
    file = HERE.parent / "notebooks" / "recipes" / f"{recipe}.yaml"
    options = yaml.safe_load(file.read_text())["model_options"]
    parameters = inspect.signature(BUILDERS[recipe.split("/")[0]]).parameters
    defaults = {
        name: item.default
        for name, item in parameters.items()
        if item.kind is item.KEYWORD_ONLY
    }
    assert options.keys() == defaults.keys()
    assert {name for name in options if options[name] != defaults[name]} == differing


def test_a_length_known_only_when_it_runs_changes_nothing(case):
    name, build, network = case
    for frames in (LEAST, 61) if name == "cpac" else (1, 20):
        fixed = build(frames)
        fixed.set_weights(network.get_weights())
        # In a graph the length is a number that the compiler does not know.
        traced = network.predict_on_batch(clips(frames))
        np.testing.assert_allclose(traced, fixed(clips(frames)), atol=2e-5)


def test_the_classifier_reads_the_embedding(case):
    network = case[2]
    kernel, bias = network.get_layer("probabilities").get_weights()
    inner = keras.Model(network.input, network.get_layer("embedding").output)
    scores = np.asarray(inner(clips(40))) @ kernel + bias
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network(clips(40)), expected, atol=1e-5)


def test_keras_files_reload(case, tmp_path):
    network = case[2]
    network.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(clips(40)), network(clips(40)))
    assert again.to_json() == network.to_json()  # all settings of all layers


def test_a_training_step_is_finite_and_reaches_every_weight(case):
    name, build, _ = case
    keras.utils.set_random_seed(1)  # units of a ReLU may start without a gradient
    network = build(40)
    before = [np.array(weight) for weight in network.trainable_weights]
    # Adam moves whatever has a gradient, however small.
    adam = keras.optimizers.Adam(1e-3, epsilon=1e-15)
    network.compile(adam, "categorical_crossentropy", jit_compile=COMPILED)
    network.train_on_batch(clips(40), np.eye(3)[[0, 1, 2, 0]])
    for weight, old in zip(network.trainable_weights, before, strict=True):
        left_out = weight.path.endswith(TAKEN_AWAY.get(name, "nothing"))
        # A direction of one number has a length and nothing else.
        left_out |= weight.path.endswith("/direction") and weight.shape[1] == 1
        moved = np.abs(np.array(weight) - old).max() > 1e-4
        assert left_out or moved, weight.path
    network.train_on_batch(0 * clips(40), np.eye(3)[[0, 1, 2, 0]])  # silence
    assert all(np.isfinite(weight).all() for weight in network.get_weights())


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("cktim", "blocks", 17, "less than or equal to 16"),
        ("cktim", "filters", 0, "greater than or equal to 1"),
        ("cktim", "generator", "mlp", "'conv' or 'convKan'"),
        ("cktim", "activation", "kaf", "'sin' or 'relu'"),
        ("cktim", "convolution", "slow", "'auto', 'direct' or 'fft'"),
        ("cktim", "kernel_gain", "max", "'sum' or 'mean'"),
        ("cktim", "omega_0", float("nan"), "less than or equal to 10000"),
        ("cktim", "hidden_scale", 0.03, "greater than or equal to 0.03125"),
        ("cktim", "kernel_dropout", -0.1, "greater than or equal to 0"),
        ("cktim", "continuous", 1, "valid boolean"),
        ("light_sernet", "residual", "mul", "'add' or 'projection'"),
        ("light_sernet", "width", 0, "greater than or equal to 0.1"),
        ("light_sernet", "l2", -1.0, "greater than or equal to 0"),
        ("gm_tcnet", "kernel_size", 2.0, "valid integer"),
        ("gm_tcnet", "pairs", None, "valid integer"),
        ("cpac", "capsules", True, "valid integer"),
        ("cpac", "capsule_size", "8", "valid integer"),
        ("cpac", "routings", 0, "greater than or equal to 1"),
        ("cpac", "first_dropout", 1, "less than 1"),
        ("cpac", "dropout", "no", "valid number"),
        ("cnn", "kernel_size", 65, "less than or equal to 64"),
        ("cnn", "dropout", 1.0, "less than 1"),
        ("gru", "bidirectional", "yes", "valid boolean"),
        ("gru", "cells", 4, "Unexpected keyword argument"),
    ],
)
def test_a_bad_option_is_named(name, option, value, message):
    with pytest.raises(ValueError, match=f"build_{name}\n{option}\n.*{message}"):
        BUILDERS[name]((60, 39), 3, **{option: value})
