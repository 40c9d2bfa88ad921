"""What all systems promise: sizes, options, files, backends, and how to add one."""

import os
import re
import textwrap

import keras
import numpy as np
import other_backend
import pytest
from conftest import elsewhere
from references import clips, randomise

from lib import models
from lib.files import REPOSITORY
from lib.models import SYSTEMS

# Small enough to be quick, large enough that every layer is there. By its published
# gain, CkTIM's random weights make values whose rounding opens or closes a gate.
TIMNET = {"filters": 6, "dilations": 2}
CKTIM = {"blocks": 1, "filters": 4, "hidden_scale": 0.2, "kernel_gain": "mean"}
SPLINES = {"generator": "convKan", "activation": "relu", "normalise_generator": False}
CASES = [
    ("timnet", TIMNET),
    ("modified_timnet", TIMNET),
    ("cktim", CKTIM),
    ("cktim", CKTIM | {"continuous": False}),
    ("cktim", CKTIM | SPLINES | {"convolution": "direct", "output_bias": True}),
    ("light_sernet", {"width": 0.1, "activation": "prelu", "residual": "projection"}),
    ("gm_tcnet", {"filters": 4, "blocks": 2, "pairs": 2}),
    ("cpac", {"filters": 4, "primary_capsules": 3, "capsules": 3, "capsule_size": 5}),
    ("cnn", {"filters": 6}),
    ("gru", {"units": 6}),
]
BASELINES = [name for name, system in SYSTEMS.items() if system.fit]
CASES += [(name, {}) for name in SYSTEMS if name not in [*dict(CASES), *BASELINES]]
# A normalisation takes away what a bias adds before it, and the length of weights.
TAKEN_AWAY = {"cktim": ("/gain", "/bias"), "light_sernet": "_convolution/bias"}
# TensorFlow's own kernels start sooner; JAX would compile every operation alone.
COMPILED = keras.backend.backend() == "jax"
FRAMES, COEFFICIENTS, CLASSES = 44, 39, 4
LABELS = np.array([0, 1, 2, 3, 0])
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
CLIPS = clips(FRAMES, COEFFICIENTS, 5)
# Of float32 two backends add up in different orders: 44 * 39 roundings of values up
# to 50 in a convolution, of which the softmax passes on a quarter at most.
ROUNDING = np.finfo(np.float32).eps * np.sqrt(FRAMES * COEFFICIENTS) * 50 / 4


@pytest.fixture(scope="module")
def networks():
    """Return a random network of every case."""
    made = []
    for name, options in CASES:
        made.append(models.build_model(name, (None, COEFFICIENTS), CLASSES, **options))
        randomise(made[-1])
    return made


EVERY_CASE = pytest.mark.parametrize("number", range(len(CASES)), ids=map(str, CASES))


@EVERY_CASE
def test_a_file_and_clips_of_any_length_answer_alike(networks, number, tmp_path):
    (name, options), network = CASES[number], networks[number]
    models.save(network, tmp_path / "network.keras")
    again = models.load(tmp_path / "network.keras")
    assert again.to_json() == network.to_json()
    kernel, bias = network.get_layer("probabilities").get_weights()
    for frames in (38, 71) if name == "cpac" else (1, 71):
        batch = clips(frames, COEFFICIENTS, 5)
        found, embedding = models.predict(network, batch, batch=2)
        assert found.dtype == embedding.dtype == np.float32
        scores = np.exp(embedding.astype(float) @ kernel + bias)
        expected = scores / scores.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        fixed = models.build_model(name, (frames, COEFFICIENTS), CLASSES, **options)
        fixed.set_weights(network.get_weights())
        np.testing.assert_allclose(fixed(batch), found, atol=ROUNDING)
        # In a graph the length is a number that the compiler does not know.
        again.jit_compile = COMPILED
        traced = again.predict_on_batch(batch)
        np.testing.assert_allclose(traced, found, atol=ROUNDING)


@EVERY_CASE
def test_a_training_step_is_finite_and_reaches_every_weight(number):
    name, options = CASES[number]
    keras.utils.set_random_seed(1)  # units of a ReLU may start without a gradient
    network = models.build_model(name, (FRAMES, COEFFICIENTS), CLASSES, **options)
    before = [np.array(weight) for weight in network.trainable_weights]
    # Adam moves whatever has a gradient, however small.
    adam = keras.optimizers.Adam(1e-3, epsilon=1e-15)
    # That these train in a graph as well is shown in their own files and below.
    how = {"run_eagerly": name in ("timnet", "cktim", "cpac") and not COMPILED}
    how["jit_compile"] = COMPILED
    network.compile(adam, "categorical_crossentropy", **how)
    network.train_on_batch(CLIPS, ONE_HOT)
    for weight, old in zip(network.trainable_weights, before, strict=True):
        left_out = weight.path.endswith(TAKEN_AWAY.get(name, "/convolution/bias"))
        # A direction of one number has a length and nothing else.
        left_out |= weight.path.endswith("/direction") and weight.shape[1] == 1
        moved = np.abs(np.array(weight) - old).max() > 1e-4
        assert left_out or moved, weight.path
    network.train_on_batch(0 * CLIPS, ONE_HOT)  # silence
    assert all(np.isfinite(weight).all() for weight in network.get_weights())


def test_what_is_wrong_in_a_request_is_named():
    for name, options, message in (
        ("timnett", {}, "unknown model 'timnett'; there are: timnet, .*, gru"),
        ("timnet", {"filtres": 3}, "timnet option 'filtres': 3; Unexpected"),
        ("timnet", {"dropout": float("nan")}, "'dropout': nan"),
        ("timnet", {"fusion": "sum"}, "timnet option 'fusion': 'sum'.*'weights'"),
        ("modified_timnet", {"dropout_rise": 0.5}, "last of 8 blocks would drop 3.55"),
        ("svm", {"kernel": "poly"}, "svm option 'kernel': 'poly'.*'rbf' or 'linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            models.build_model(name, (None, COEFFICIENTS), CLASSES, **options)
    with pytest.raises(ValueError, match="num_classes is 1; give 2 or more"):
        models.build_model("cnn", (None, 5), 1)
    models.build_model("timnet", (None, 5), 2, dilations=1, dropout=0)


@pytest.mark.slow
def test_both_backends_answer_and_train_alike_from_the_same_files(networks, tmp_path):
    made = {f"case_{number}.keras": one for number, one in enumerate(networks)}
    for name in BASELINES:
        system = models.build_model(name, CLIPS.shape[1:], CLASSES)
        made[f"{name}.skops"] = system.fit(CLIPS, LABELS)
    # Without dropout, whose random numbers are the backend's own.
    shape = (FRAMES, COEFFICIENTS)
    trained = models.build_model("timnet", shape, CLASSES, **TIMNET, dropout=0.0)
    for file, system in {**made, "train_timnet.keras": trained}.items():
        models.save(system, tmp_path / file)
    np.savez(tmp_path / "clips.npz", clips=CLIPS, labels=ONE_HOT)
    # Compiled in half the time, to slower code.
    there = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "KERAS_BACKEND": "jax"}
    said = elsewhere("tests/other_backend.py", tmp_path, **there)
    assert said.split()[-1] == "jax"
    ours = {name: models.predict(one, CLIPS)[0] for name, one in made.items()}
    ours["train_timnet.keras"] = other_backend.trained(trained, CLIPS, ONE_HOT)
    theirs = np.load(tmp_path / "answers.npz")
    for name, answers in ours.items():
        found = theirs[name.split(".")[0]]
        np.testing.assert_allclose(found, answers, atol=ROUNDING, err_msg=name)


def test_a_baseline_of_foreign_content_is_not_loaded(tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.getcwd), tmp_path / "fold_01.skops")
    with pytest.raises(Exception, match="getcwd"):
        models.load(tmp_path / "fold_01.skops")


def test_the_how_to_adds_a_system_by_one_file_and_one_line(tmp_path, monkeypatch):
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    source, line = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:2]
    name, title, builder = re.findall(r'"(.*?)"', line)
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    entry = {name: models.System(title, builder)}
    monkeypatch.setattr(models, "SYSTEMS", SYSTEMS | entry)
    network = models.build_model(name, (None, COEFFICIENTS), 2, units=3)
    assert models.predict(network, CLIPS)[1].shape == (5, 3)
