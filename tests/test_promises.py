"""What a result promises, each proven by other means than those that made it.

Training is watched from inside the network: `Witness` is a system of one layer that
writes down what it is trained on, and answers what a table says.
"""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import small_plan, small_run, tiny_features
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib import models

EPOCHS, CLASSES = 3, 2
NAMES = ("zeal", "calm")  # not in the order of the alphabet


def features_of(y, x):
    """Return features whose file names tell label and row."""
    rows = np.arange(len(y))
    return dataclasses.replace(
        tiny_features(clips=len(y), classes=CLASSES),
        x=x.astype(np.float32),
        y=y,
        label_names=np.array(NAMES),
        file=np.array([f"{NAMES[y[row]]}/{row:03d}.wav" for row in rows]),
        speaker=np.array([f"s{row % 6}" for row in rows]),
        sex=np.array([("female", "male")[row % 2] for row in rows]),
    )


@keras.saving.register_keras_serializable("tests")
class Witness(keras.layers.Layer):
    """Write down training clips and weights; answer by row and epoch from a table.

    Coefficient 0 of a clip is its row. In training the probabilities are the softmax
    of the kernel times the mean of coefficient 1.
    """

    seen: list = []  # (clips, kernel) of every step; here an epoch is one step
    answers = np.zeros((EPOCHS + 1, 1, CLASSES), np.float32)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(1, CLASSES), initializer="random_normal")
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        if training:
            import tensorflow

            values = [inputs, self.kernel.value]
            tensorflow.py_function(lambda *pair: self.seen.append(pair), values, [])
            self.steps.assign_add(1.0)
            logits = keras.ops.mean(inputs[..., 1:], axis=1) @ self.kernel
            return keras.ops.softmax(logits)
        epoch = keras.ops.cast(self.steps.value, "int32")
        row = keras.ops.cast(inputs[:, 0, 0], "int32")
        answers = keras.ops.convert_to_tensor(self.answers)
        return keras.ops.take(keras.ops.take(answers, epoch, 0), row, 0)


def build_witness(input_shape, num_classes):
    clip = keras.Input(input_shape)
    answer = Witness(name="embedding")(clip)
    return keras.Model(clip, keras.layers.Activation("linear")(answer))


def rows_and_answers(rows=60):
    """Return features that tell their row, and a table of answers per epoch.

    The first epoch always answers the frequent class (more accurate), the second one
    has most of both classes (higher UAR), the third one answers the rare class.
    """
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat([0, 1], [rows * 4 // 5, rows // 5]))
    number = np.broadcast_to(np.arange(rows)[:, None], (rows, 10))
    x = np.stack([number, rng.normal(1, 1, (rows, 10))], axis=2)
    mixed = np.where((y == 0) & (np.arange(rows) % 5 < 3), 1, y)
    said = np.stack([y, np.zeros(rows, int), mixed, np.ones(rows, int)])
    sure = rng.uniform(0.7, 0.9, said.shape)[..., None]
    answers = np.where(np.arange(CLASSES) == said[..., None], sure, 1 - sure)
    return features_of(y, x), answers.astype(np.float32)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Return a function that trains `Witness`.

    It returns data, answers, folds, folders and for each fold and epoch what was seen.
    """
    data, answers = rows_and_answers()
    monkeypatch.setattr(models, "_builder", lambda name: build_witness)
    monkeypatch.setattr(Witness, "answers", answers)
    monkeypatch.setattr(Witness, "seen", [])

    def train(**given):
        given |= {"epochs": EPOCHS, "batch_size": 64, "model_options": {}}
        folds = small_plan(tmp_path, data, **given)[0].folds
        folders = small_run(tmp_path, data, fold_parallel="off", **given)
        steps = [[value.numpy() for value in pair] for pair in Witness.seen]
        seen = [steps[at : at + EPOCHS] for at in range(0, len(steps), EPOCHS)]
        return data, answers, folds, folders, seen

    return train


def test_cepstra_are_altered_anew_in_every_epoch_and_from_the_original(watched):
    options = {"transforms": ["noise"], "probability": 1.0}
    given = {"augmentation": "cepstrum", "augmentation_options": options}
    data, _, folds, _, seen = watched(**given)
    for fold, epochs in zip(folds, seen, strict=True):
        changes = []
        for clips, _ in epochs:
            rows = clips[:, 0, 0].round().astype(int)
            np.testing.assert_array_equal(np.sort(rows), fold.train)
            original = data.x[fold.train][..., 1]
            changes.append(clips[np.argsort(rows), :, 1] - original)
            # Noise of 0.005 standard deviations, not that of earlier epochs besides.
            # 360 values or more of ten frames each: their spread is within a tenth.
            relative = changes[-1] / original.std(axis=1, keepdims=True)
            assert relative.std() == pytest.approx(0.005, rel=0.15)
        for one, other in itertools.combinations(changes, 2):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("protocol", "choice", "chosen_on"),
    [("speaker", 2, "validation"), ("paper_best", 1, "test")],
)
def test_the_epoch_is_chosen_by_uar_and_only_on_the_test_fold_by_accuracy(
    watched, protocol, choice, chosen_on
):
    data, answers, folds, folders, _ = watched(protocol=protocol)
    for entry in json.loads(folders.manifest.read_text())["folds"]:
        assert (entry["epoch_chosen"], entry["chosen_on"]) == (choice, chosen_on)
        assert entry["validation_is_test"] == (chosen_on == "test")
    said = answers.argmax(axis=2)
    for fold in folds:
        curves, rows = pd.read_csv(folders.curves(fold.number)), fold.validation
        y = data.y[rows]
        for epoch, row in enumerate(curves.itertuples(), start=1):
            recalls = [(said[epoch, rows][y == k] == k).mean() for k in range(CLASSES)]
            assert row.val_uar == pytest.approx(np.mean(recalls))
            assert row.val_accuracy == pytest.approx((said[epoch, rows] == y).mean())
            # The loss of validation is that of the true labels: nothing is smoothed.
            truth = answers[epoch, rows, y].astype(float)
            assert row.val_loss == pytest.approx(-np.log(truth).mean(), rel=1e-6)
        assert curves["val_accuracy"].idxmax() == 0 and curves["val_uar"].idxmax() == 1
    # The network of that epoch is tested, and every row tells the truth of its file.
    table = pd.read_csv(folders.predictions)
    assert sorted(table["file"]) == sorted(data.file)
    fold_of = {file: f.number for f in folds for file in data.file[f.test]}
    for row in table.itertuples():
        label, name = row.file.removesuffix(".wav").split("/")
        number = int(name)
        sex = ("female", "male")[number % 2]
        assert (row.speaker, row.sex) == (f"s{number % 6}", sex)
        assert (NAMES[row.y_true], row.fold) == (label, fold_of[row.file])
        assert row.y_pred == said[choice, number]
        wanted = pytest.approx(answers[choice, number], rel=1e-6)
        assert (row.p_zeal, row.p_calm) == wanted


@pytest.mark.parametrize(("share", "choice"), [(0.1, 3), (0.0, 1)])
def test_of_equal_scores_the_lower_loss_then_the_earlier_wins(watched, share, choice):
    truth = np.eye(CLASSES, dtype=np.float32)[rows_and_answers()[0].y]
    Witness.answers[1:] = Witness.answers[2]
    Witness.answers[3] += share * (truth - Witness.answers[3])  # surer of the truth
    folders = watched()[3]
    for entry in json.loads(folders.manifest.read_text())["folds"]:
        assert entry["epoch_chosen"] == choice


def test_answers_that_are_not_finite_are_an_error(watched):
    Witness.answers[EPOCHS] = np.nan
    with pytest.raises(FloatingPointError, match="answers that are not finite"):
        watched(protocol="paper")


def focal(q, p, gamma=2.0, alpha=0.25):
    """Lin et al. 2017 with soft labels; the report of the modified TIM-Net."""
    return alpha * (1 - (q * p).sum(axis=1)) ** gamma * -(q * np.log(p)).sum(axis=1)


def margin(q, p, present=0.9, absent=0.1, weight=0.5):
    """Sabour et al. 2017, equation 4."""
    missing, surplus = np.maximum(present - p, 0) ** 2, np.maximum(p - absent, 0) ** 2
    return (q * missing + weight * (1 - q) * surplus).sum(axis=1)


OPTIONS = {"smooth_twice": True, "gamma": 3.5, "alpha": 0.7}
TWICE = {"loss": "focal", "loss_options": OPTIONS}


@pytest.mark.parametrize(
    ("given", "formula", "smoothing"),
    [
        ({}, lambda q, p: focal(q, p, 0.0, 1.0), 0.1),
        ({"loss": "focal"}, focal, 0.1),
        # (1 - 0.1) of (1 - 0.1) of a label stay where they were.
        (TWICE, lambda q, p: focal(q, p, 3.5, 0.7), 0.19),
        ({"loss": "margin", "label_smoothing": 0.0}, margin, 0.0),
    ],
)
def test_training_minimises_the_published_formula(watched, given, formula, smoothing):
    data, _, folds, folders, seen = watched(**given)
    for fold, epochs in zip(folds, seen, strict=True):
        found = pd.read_csv(folders.curves(fold.number))["loss"]
        for (clips, kernel), loss in zip(epochs, found, strict=True):
            y = data.y[clips[:, 0, 0].astype(int)]
            labels = np.eye(CLASSES)[y] * (1 - smoothing) + smoothing / CLASSES
            p = softmax(clips[..., 1].mean(axis=1)[:, None] * kernel, axis=1)
            assert loss == pytest.approx(formula(labels, p).mean(), rel=1e-5)


def logistic(x, y):
    """Return the answers of the fitted reference of `logistic`."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=5000))
    return fitted.fit(x, y).predict_proba


def test_a_classical_system_is_scikit_learns_fit_on_the_training_rows_alone(tmp_path):
    # Labels are noise that can be memorised: a row that trains is answered rightly.
    rng = np.random.default_rng(5)
    y = (rng.random(60) < 0.4).astype(int)
    data = features_of(y, rng.normal(size=(60, 1, 12)))
    vectors = data.x[:, 0].astype(float)
    given = {"model": "logistic", "model_options": {"regularisation": 0.3}}
    folders = small_run(tmp_path, data, **given)
    table = pd.read_csv(folders.predictions).set_index("file")
    for fold in small_plan(tmp_path, data, **given)[0].folds:
        found = table.loc[data.file[fold.test], ["p_zeal", "p_calm"]].to_numpy()
        wanted = logistic(vectors[fold.train], y[fold.train])(vectors[fold.test])
        # float32 and the solver's tolerance; other training rows change far more.
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        for part in (fold.validation, fold.test):
            more = np.union1d(fold.train, part)
            other = logistic(vectors[more], y[more])(vectors[fold.test])
            assert np.abs(other - wanted).max() > 0.05
