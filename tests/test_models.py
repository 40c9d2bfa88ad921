"""All systems behind one door: sizes, options, files, backends, and how to add one."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import other_backend
import pytest
from references import randomise

from lib import corpora, models
from lib.files import REPOSITORY
from lib.models import SYSTEMS

# Trainable parameters as the publications, their code or their saved results have
# them; those of the other networks stand in their own tests. System, options,
# coefficients, classes, count.
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
]
# And what batch normalisation keeps beside them.
MOVING = [
    ("timnet", {}, 39, 7, 2_496),
    ("timnet", {"dilations": 10}, 39, 4, 3_120),
    ("modified_timnet", {}, 39, 7, 3_744),
]
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
    "modified_timnet": {
        "filters": 6,
        "dilations": 2,
        "shuffle": False,
        "temporal_dropout": 0.0,
        "dropout": 0.0,
        "dropout_rise": 0.0,
    },
}
FRAMES, COEFFICIENTS, CLASSES = 44, 39, 4
LABELS = np.array([0, 1, 2, 3, 0])
# Of float32 two backends add up in different orders: 44 * 39 roundings of values up
# to 50 in a convolution, of which the softmax passes on a quarter at most.
ROUNDING = np.finfo(np.float32).eps * np.sqrt(FRAMES * COEFFICIENTS) * 50 / 4


def clips(frames=FRAMES):
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, frames, COEFFICIENTS)).astype(np.float32)


@pytest.fixture(scope="module")
def systems():
    """Return every system, small: networks of random weights, fitted baselines."""
    made = {}
    for name, system in SYSTEMS.items():
        if system.fit:
            made[name] = models.fit(name, clips(), LABELS, CLASSES)
        else:
            shape = (None, COEFFICIENTS)
            options = SMALL.get(name, {})
            made[name] = models.build_model(name, shape, CLASSES, **options)
            randomise(made[name])
    return made


@pytest.mark.parametrize(("name", "options", "width", "classes", "wanted"), PUBLISHED)
def test_trainable_parameters_are_the_published_ones(
    name, options, width, classes, wanted
):
    model = models.build_model(name, (None, width), classes, **options)
    assert models.trainable_parameters(model) == wanted
    moving = [row[4] for row in MOVING if row[:4] == (name, options, width, classes)]
    if moving:
        assert [model.count_params() - wanted] == moving


def test_timnet_has_as_many_blocks_as_published_on_every_corpus():
    published = ("CASIA", "EMODB", "EMOVO", "IEMOCAP", "RAVDESS", "SAVEE")
    found = {name: corpora.get(name).dilations for name in published}
    assert found == dict.fromkeys(published, 8) | {"IEMOCAP": 10}


@EVERY_SYSTEM
def test_it_answers_clips_of_any_length_with_probabilities_and_an_embedding(
    systems, name
):
    for frames in (FRAMES, 71):
        probabilities, embedding = models.predict(systems[name], clips(frames))
        assert probabilities.shape == (5, CLASSES)
        assert probabilities.dtype == embedding.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
        assert embedding.ndim == 2 and len(embedding) == 5
        # Batches change nothing but the rounding.
        parts = models.predict(systems[name], clips(frames), batch=2)
        np.testing.assert_allclose(parts[0], probabilities, atol=ROUNDING)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timnett", {}, "unknown model 'timnett' – did you mean 'timnet'.*majority"),
        ("timnet", {"filtres": 3}, "no option 'filtres' – did you mean 'filters'"),
        ("svm", {"colour": "red"}, "svm has no option 'colour'"),
        ("timnet", {"dilations": 0}, "'dilations': 0; .*integer, minimum 1, maximum"),
        ("timnet", {"dropout": 1.0}, "'dropout': 1.0; .*minimum 0, exclusiveMaximum 1"),
        ("timnet", {"dropout": float("nan")}, "'dropout': nan"),
        ("timnet", {"filters": "39"}, "'filters': '39'; give type integer"),
        ("timnet", {"filters": True}, "'filters': True; give type integer"),
        ("timnet", {"activation": "rellu"}, "'activation': 'rellu'.*leaky_relu"),
        ("timnet", {"fusion": "sum"}, "timnet option 'fusion': 'sum'.*'weights'"),
        ("timnet", {"block": "tab"}, "'block': 'tab'.*'gated', 'residual'"),
        ("timnet", {"causal": 1}, "'causal': 1; give type boolean"),
        ("modified_timnet", {"temporal_dropout_mode": "time"}, "'coefficients'"),
        ("modified_timnet", {"dropout_rise": 0.5}, "the last one would drop 3.55"),
        ("modified_timnet", {"classifier_units": -1}, "'classifier_units': -1"),
        ("svm", {"kernel": "poly"}, "svm option 'kernel': 'poly'.*'rbf', 'linear'"),
        ("svm", {"regularisation": 0}, "'regularisation': 0; .*minimum 1e-09"),
        ("logistic", {"regularisation": "x"}, "'regularisation': 'x'"),
    ],
)
def test_what_is_wrong_in_a_request_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build_model(name, (None, COEFFICIENTS), CLASSES, **options)


def test_one_class_is_refused_and_a_whole_number_does_for_a_share():
    with pytest.raises(ValueError, match="num_classes is 1; give 2 or more"):
        models.build_model("cnn", (None, 5), 1)
    models.build_model("timnet", (None, 5), 2, dilations=1, dropout=0)


def test_the_registry_is_read_without_a_network_library():
    code = """
import sys
from lib import models
assert models.SYSTEMS["svm"].fit and models.SYSTEMS["timnet"].title == "TIM-Net"
heavy = {"keras", "tensorflow", "jax", "sklearn", "librosa"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


# --- files and the other backend ------------------------------------------------------


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
def other_answers(systems, tmp_path_factory):
    """Return what TensorFlow and what a fresh process of JAX make of the same files."""
    folder = tmp_path_factory.mktemp("systems")
    labels = np.eye(CLASSES, dtype=np.float32)[LABELS]
    np.savez(folder / "clips.npz", clips=clips(), labels=labels)
    ours = {}
    for name, system in systems.items():
        ending = "skops" if SYSTEMS[name].fit else "keras"
        models.save(system, folder / f"{name}.{ending}")
        ours[name] = models.predict(system, clips())[0]
        again = models.predict(models.load(folder / f"{name}.{ending}"), clips())[0]
        np.testing.assert_allclose(again, ours[name], atol=1e-6)
    for name, options in STEADY.items():
        model = models.build_model(name, (FRAMES, COEFFICIENTS), CLASSES, **options)
        models.save(model, folder / f"train_{name}.keras")
        ours[f"train_{name}"] = other_backend.trained(model, clips(), labels)
    script = str(REPOSITORY / "tests" / "other_backend.py")
    assert in_backend("jax", script, str(folder)).split()[-1] == "jax"
    theirs = {}
    for kind in ("answers", "trained"):
        with np.load(folder / f"{kind}.npz") as file:
            theirs |= dict(file)
    return ours, theirs


@pytest.mark.parametrize("name", [*SYSTEMS, *(f"train_{name}" for name in STEADY)])
def test_both_backends_answer_and_train_alike_from_the_same_files(other_answers, name):
    ours, theirs = other_answers
    np.testing.assert_allclose(theirs[name], ours[name], atol=ROUNDING)


def test_a_baseline_of_foreign_content_is_not_loaded(tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.getcwd), tmp_path / "fold_01.skops")
    with pytest.raises(Exception, match="getcwd"):
        models.load(tmp_path / "fold_01.skops")


# --- adding a system ------------------------------------------------------------------


def test_the_how_to_adds_a_system_by_one_file_and_one_line(tmp_path):
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    source, line = (textwrap.dedent(block.rstrip(" ")) for block in blocks[:2])
    file_name, line_file = "lib/models/mean_pooling.py", "lib/models/__init__.py"
    shutil.copytree(
        REPOSITORY / "lib",
        tmp_path / "lib",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    assert not (tmp_path / file_name).exists()
    (tmp_path / file_name).write_text(source)
    registry = tmp_path / line_file
    head, table, rest = re.split(
        r"(SYSTEMS\b.*?\n)}\n", registry.read_text(), maxsplit=1, flags=re.DOTALL
    )
    assert len(line.strip().splitlines()) == 1
    registry.write_text(f"{head}{table}    {line.strip()}\n}}\n{rest}")
    name = re.match(r'"(\w+)"', line.strip())[1]
    code = f"""
import keras, numpy
from lib import models
x = numpy.random.normal(size=(8, 20, 5)).astype("float32")
network = models.build_model("{name}", (None, 5), 2)
network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
network.fit(x, numpy.arange(8) % 2, verbose=0)
models.save(network, "new.keras")
again = models.predict(models.load("new.keras"), x)
numpy.testing.assert_allclose(again[0], models.predict(network, x)[0], atol=1e-6)
print(models.options("{name}"))
"""
    assert "{" in in_backend("tensorflow", "-c", code, cwd=tmp_path)
