"""All systems behind one interface: sizes, files, backends, and how to add one."""

import json
import os
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import other_backend
import pytest
from references import randomise

from lib import corpora, models
from lib.files import REPOSITORY
from lib.systems import SYSTEMS

# Trainable parameters as the publications, their code or their saved results have
# them: system, options, coefficients, classes, count.
PUBLISHED = [
    ("timnet", {}, 39, 6, 104_456),
    ("timnet", {}, 39, 7, 104_496),
    ("timnet", {}, 39, 8, 104_536),
    ("timnet", {"dilations": 10}, 39, 4, 129_650),
    ("timnet", {"backward": False}, 39, 7, 52_392),
    ("modified_timnet", {}, 39, 7, 162_374),
    ("modified_timnet", {}, 39, 6, 162_245),
    ("modified_timnet", {}, 39, 8, 162_503),
    ("modified_timnet", {"dilations": 10}, 39, 4, 199_895),
    ("modified_timnet", {"shuffle": False, "classifier_units": 0}, 39, 7, 104_527),
    ("modified_timnet", {"shuffle": False, "attention": False}, 39, 7, 110_239),
    ("modified_timnet", {"shuffle": False}, 39, 7, 110_270),
    ("modified_timnet", {"attention": False, "classifier_units": 0}, 39, 7, 156_600),
    ("cktim", {"blocks": 1}, 39, 7, 318_749),
    ("cktim", {"blocks": 3}, 39, 7, 743_583),
    ("cktim", {"blocks": 6}, 39, 7, 1_380_834),
    ("cktim", {"hidden_scale": 0.1}, 39, 7, 200_824),
    ("cktim", {"hidden_scale": 0.2}, 39, 7, 320_866),
    ("cktim", {"hidden_scale": 0.5}, 39, 7, 724_386),
    ("cktim", {"continuous": False, "blocks": 1}, 39, 7, 16_037),
    ("cktim", {"continuous": False, "blocks": 3}, 39, 7, 41_311),
    ("cktim", {"continuous": False, "blocks": 6}, 39, 7, 79_222),
    ("light_sernet", {}, 40, 7, 461_703),
    ("light_sernet", {}, 40, 4, 460_740),
    ("gm_tcnet", {}, 39, 7, 260_644),
]
# And what batch normalisation keeps beside them.
MOVING = [
    ("timnet", {}, 39, 7, 2_496),
    ("timnet", {"dilations": 10}, 39, 4, 3_120),
    ("modified_timnet", {}, 39, 7, 3_744),
    ("light_sernet", {}, 40, 7, 1_728),
]
# Classes and the trainable parameters of TIM-Net on every corpus it was published on.
TIMNET_ON = {
    "CASIA": 104_456,
    "EMODB": 104_496,
    "EMOVO": 104_496,
    "IEMOCAP": 129_650,
    "RAVDESS": 104_536,
    "SAVEE": 104_496,
}
EVERY_SYSTEM = pytest.mark.parametrize("name", list(SYSTEMS))
# Small enough to be quick, large enough that every layer is there.
SMALL = {
    "timnet": {"filters": 6, "dilations": 3},
    "modified_timnet": {"filters": 6, "dilations": 3, "classifier_units": 8},
    # By its published gain, random weights make values of 100,000, and a rounding of
    # them opens or closes a gate.
    "cktim": {"blocks": 2, "hidden_scale": 0.25, "kernel_gain": "mean"},
    "light_sernet": {"width": 0.25},
    "gm_tcnet": {"filters": 6, "blocks": 2},
    "cpac": {"filters": 8, "capsule_size": 8},
}
# Without dropout, whose random numbers are the backend's own.
STEADY = {
    "timnet": {"filters": 6, "dilations": 3, "dropout": 0.0},
    # Its published gain leaves the softmax saturated, where the two backends' losses
    # differ: TensorFlow's is taken from the logits, JAX's from clipped probabilities.
    "cktim": {
        "blocks": 1,
        "hidden_scale": 0.25,
        "dropout": 0.0,
        "kernel_dropout": 0.0,
        "kernel_gain": "mean",
    },
    "light_sernet": {"width": 0.25, "dropout": 0.0},
    "gm_tcnet": {"filters": 6, "blocks": 2},
    "gru": {"units": 4, "dropout": 0.0},
}
FRAMES, COEFFICIENTS, CLASSES = 44, 39, 4
# Of float32 two backends add up in different orders: 44 * 39 roundings of values up
# to 50 in a convolution, of which the softmax passes on a quarter at most.
ROUNDING = np.finfo(np.float32).eps * np.sqrt(FRAMES * COEFFICIENTS) * 50 / 4


def small(name, frames=FRAMES):
    return models.build_model(
        name, (frames, COEFFICIENTS), CLASSES, **SMALL.get(name, {})
    )


def clips(frames=FRAMES):
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, frames, COEFFICIENTS)).astype(np.float32)


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize(("name", "options", "width", "classes", "wanted"), PUBLISHED)
def test_trainable_parameters_are_the_published_ones(
    name, options, width, classes, wanted
):
    model = models.build_model(name, (None, width), classes, **options)
    assert models.trainable_parameters(model) == wanted


@pytest.mark.parametrize(("name", "options", "width", "classes", "wanted"), MOVING)
def test_moving_statistics_are_the_published_ones(
    name, options, width, classes, wanted
):
    model = models.build_model(name, (None, width), classes, **options)
    variables = [v for v in model.non_trainable_weights if "seed" not in v.path]
    assert count(variables) == wanted


@pytest.mark.parametrize("name", TIMNET_ON)
def test_timnet_has_its_published_size_on_every_corpus(name):
    corpus = corpora.get(name)
    model = models.build_model(
        "timnet", (None, 39), len(corpus.labels), dilations=corpus.dilations
    )
    assert models.trainable_parameters(model) == TIMNET_ON[name]


def test_every_published_system_has_a_size_here():
    assert {row[0] for row in PUBLISHED} >= {"timnet", "modified_timnet", "cktim"}
    named = {row[0] for row in PUBLISHED} | {"cpac"}
    baselines = {"majority", "logistic", "svm", "cnn", "gru"}
    assert named | baselines == set(SYSTEMS)


@EVERY_SYSTEM
def test_it_answers_with_probabilities_and_an_embedding(name):
    probabilities, embedding = models.predict(small(name), clips())
    assert probabilities.shape == (5, CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert embedding.ndim == 2 and len(embedding) == 5


@EVERY_SYSTEM
def test_any_length_is_accepted(name):
    model = small(name, frames=None)
    for frames in (FRAMES, 71):
        assert model(clips(frames)).shape == (5, CLASSES)


@EVERY_SYSTEM
def test_it_reloads_without_custom_objects_in_a_fresh_process(name, tmp_path):
    model = small(name)
    randomise(model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "clips.npy", clips())
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded(clips()), model(clips()), atol=1e-6)


@EVERY_SYSTEM
def test_an_unknown_option_is_named(name):
    with pytest.raises(ValueError, match=f"{name} has no option 'colour'"):
        models.build_model(name, (None, COEFFICIENTS), CLASSES, colour="red")


# --- the other backend ----------------------------------------------------------------


def in_backend(backend, *arguments, cwd=REPOSITORY):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(cwd),
        # Compiled in half the time, to slower code.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def other_answers(tmp_path_factory):
    """Return what JAX makes of the same files, and what TensorFlow does."""
    folder = tmp_path_factory.mktemp("networks")
    labels = np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 3, 0]]
    np.savez(folder / "clips.npz", clips=clips(), labels=labels)
    answers, trained = {}, {}
    for name in SYSTEMS:
        model = small(name)
        randomise(model)
        model.save(folder / f"{name}.keras")
        answers[name] = np.asarray(model(clips()))
    for name, options in STEADY.items():
        model = models.build_model(name, (FRAMES, COEFFICIENTS), CLASSES, **options)
        model.save(folder / f"train_{name}.keras")
        trained[f"train_{name}"] = other_backend.trained(model, clips(), labels)
    script = str(REPOSITORY / "tests" / "other_backend.py")
    assert in_backend("jax", script, str(folder)).split()[-1] == "jax"
    with np.load(folder / "answers.npz") as file:
        theirs = {name: file[name] for name in answers}
    with np.load(folder / "trained.npz") as file:
        theirs |= {name: file[name] for name in trained}
    return answers | trained, theirs


@EVERY_SYSTEM
def test_both_backends_give_the_same_answers_on_the_same_weights(other_answers, name):
    ours, theirs = other_answers
    np.testing.assert_allclose(theirs[name], ours[name], atol=ROUNDING)


@pytest.mark.parametrize("name", list(STEADY))
def test_both_backends_train_the_same_network(other_answers, name):
    ours, theirs = (pair[f"train_{name}"] for pair in other_answers)
    np.testing.assert_allclose(theirs, ours, atol=ROUNDING)


@pytest.mark.slow
def test_a_run_trains_on_the_other_backend(tmp_path):
    tiny = str(REPOSITORY / "tests" / "run_tiny.py")
    run_id = in_backend("jax", tiny, str(tmp_path), "2").split()[-1]
    document = json.loads((tmp_path / "Results" / run_id / "run.json").read_text())
    assert document["status"] == "done"
    assert document["environment"]["backend"] == "jax"
    losses = [
        float(line.split(",")[1])
        for line in (tmp_path / "logs" / run_id / "fold_01.csv").read_text().split()[1:]
    ]
    assert losses[1] < losses[0]


# --- adding a system ------------------------------------------------------------------


def test_the_how_to_adds_a_system_by_one_file_and_one_line(tmp_path):
    text = (REPOSITORY / "README.md").read_text("utf-8")
    section = text.split("### Adding a system")[1].split("\n## ")[0]
    file_name, line_file = re.findall(r"`(lib/\S+\.py)`", section)[:2]
    source, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    for folder in ("lib", "tests"):
        shutil.copytree(
            REPOSITORY / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    assert not (tmp_path / file_name).exists()
    (tmp_path / file_name).write_text(source)
    registry = tmp_path / line_file
    head, end = registry.read_text().rstrip().rsplit("}", 1)
    assert len(line.strip().splitlines()) == 1 and not end
    registry.write_text(f"{head}    {line.strip()}\n}}\n")
    name = re.match(r'"(\w+)"', line.strip())[1]
    tiny = tmp_path / "tests" / "run_tiny.py"
    script = tiny.read_text().replace(
        "epochs=epochs)", f'epochs=epochs, model="{name}", model_options={{}})'
    )
    assert script != tiny.read_text()
    tiny.write_text(script)
    run_id = in_backend(
        "tensorflow", str(tiny), str(tmp_path / "work"), "2", cwd=tmp_path
    ).split()[-1]
    assert f"-{name}-" in run_id
    predictions = tmp_path / "work" / "Results" / run_id / "predictions.csv"
    assert len(predictions.read_text().splitlines()) == 1 + 48
