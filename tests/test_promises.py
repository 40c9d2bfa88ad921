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
from conftest import tiny_features
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lib import config, models, train
from lib.device import select

EPOCHS = 3
SHARES = np.array([0.8, 0.2])  # of the classes: accuracy and UAR part
CLASSES = len(SHARES)
NAMES = ("zeal", "calm")  # not in the order of the alphabet


def features_of(y, x):
    """Return features whose file names tell label and row."""
    rows = np.arange(len(y))
    data = tiny_features(clips=len(y), classes=CLASSES, speakers=6)
    return dataclasses.replace(
        data,
        x=x.astype(np.float32),
        y=y,
        label_names=np.array(NAMES),
        file=np.array([f"{NAMES[y[row]]}/{row:03d}.wav" for row in rows]),
        speaker=np.array([f"s{row % 6}" for row in rows]),
        sex=np.array([("female", "male")[row % 2] for row in rows]),
        about=data.about | {"labels": [*NAMES]},
    )


def trained(workspace, data, **given):
    """Return the parameters' folds, and the folders of the run that they ask for."""
    values = {"workspace": str(workspace), "folds": 3, "fold_parallel": "off"}
    params = config.validated(values | given)
    folds = train.make_folds(params, data)
    folders = train.train(
        train.resolve(params, data),
        data,
        folds,
        params.folders,
        device=select("cpu"),
        augmentation=train.prepare_augmentation(params, None, data),
        fold_parallel=params.fold_parallel,
        verbose=0,
    )
    return folds, folders


# --- what trains a network ------------------------------------------------------------


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

            tensorflow.py_function(self.write_down, [inputs, self.kernel.value], [])
            self.steps.assign_add(1.0)
            logits = keras.ops.mean(inputs[..., 1:], axis=1) @ self.kernel
            return keras.ops.softmax(logits)
        epoch = keras.ops.cast(self.steps.value, "int32")
        row = keras.ops.cast(inputs[:, 0, 0], "int32")
        answers = keras.ops.convert_to_tensor(self.answers)
        return keras.ops.take(keras.ops.take(answers, epoch, 0), row, 0)

    @classmethod
    def write_down(cls, clips, kernel):
        cls.seen.append((clips.numpy(), kernel.numpy()))


def build_witness(input_shape, num_classes):
    clip = keras.Input(input_shape)
    answer = Witness(name="embedding")(clip)
    return keras.Model(clip, keras.layers.Activation("linear")(answer))


def rows_and_labels(rows=60):
    """Return features that tell their row, and a table of answers per epoch.

    The first epoch always answers the frequent class (more accurate), the second one
    has most of both classes (higher UAR), the third one answers the rare class.
    """
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat(np.arange(CLASSES), (SHARES * rows).astype(int)))
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
    data, answers = rows_and_labels()
    builder = models._builder
    monkeypatch.setattr(
        models, "_builder", lambda name: {"cnn": build_witness}.get(name, builder(name))
    )
    monkeypatch.setattr(Witness, "answers", answers)

    def train(**given):
        seen = []
        monkeypatch.setattr(Witness, "seen", seen)
        values = {"model": "cnn", "epochs": EPOCHS, "batch_size": 64}
        seed = given.get("seed", 46)
        folds, folders = trained(tmp_path / str(seed), data, **values | given)
        steps = iter(seen)
        by_fold = [
            [(clips[: len(fold.train)], kernel) for clips, kernel in pair]
            for fold in folds
            for pair in [list(itertools.islice(steps, EPOCHS))]
        ]
        return data, answers, folds, folders, by_fold

    return train


def test_order_and_first_weights_are_new_in_every_fold_and_epoch_and_seed(watched):
    orders, weights = [], []
    for seed in (46, 47):
        data, _, folds, _, seen = watched(protocol="stratified", seed=seed)
        for fold, epochs in zip(folds, seen, strict=True):
            for clips, _ in epochs:
                places = np.searchsorted(fold.train, clips[:, 0, 0])
                np.testing.assert_array_equal(np.sort(places), np.arange(len(places)))
                orders.append(tuple(places))
            weights.append(tuple(epochs[0][1].ravel()))
    assert len({len(order) for order in orders}) == 1
    assert len(set(orders)) == 2 * 3 * EPOCHS and len(set(weights)) == 2 * 3


def test_cepstra_are_altered_anew_in_every_epoch_and_from_the_original(watched):
    options = {"transforms": ["noise"], "probability": 1.0}
    data, _, folds, _, seen = watched(
        augmentation="cepstrum", augmentation_options=options
    )
    for fold, epochs in zip(folds, seen, strict=True):
        changes = []
        for clips, _ in epochs:
            rows = clips[:, 0, 0].round().astype(int)
            np.testing.assert_array_equal(np.sort(rows), fold.train)
            original = data.x[fold.train]
            changes.append(clips[np.argsort(rows), :, 1] - original[..., 1])
            # Noise of 0.005 standard deviations, not that of earlier epochs besides.
            # 360 values or more of ten frames each: their spread is within a tenth.
            relative = changes[-1] / original[..., 1].std(axis=1, keepdims=True)
            assert relative.std() == pytest.approx(0.005, rel=0.15)
        for one, other in itertools.combinations(changes, 2):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("protocol", "choice", "chosen_on"),
    [
        ("speaker", 2, "validation"),
        ("paper_best", 1, "test"),
        ("paper", EPOCHS, "last"),
    ],
)
def test_the_epoch_is_chosen_by_uar_and_only_on_the_test_fold_by_accuracy(
    watched, protocol, choice, chosen_on
):
    # Validation, and the answers of the table, are not altered.
    data, answers, folds, folders, _ = watched(protocol=protocol)
    entries = json.loads(folders.manifest.read_text())["folds"]
    assert [entry["epoch_chosen"] for entry in entries] == [choice] * 3
    assert {entry["chosen_on"] for entry in entries} == {chosen_on}
    leaks = {entry["validation_is_test"] for entry in entries}
    assert leaks == {chosen_on == "test"}
    said = answers.argmax(axis=2)
    for fold in folds:
        curves = pd.read_csv(folders.curves(fold.number))
        assert ("val_loss" in curves) == (protocol != "paper")
        if protocol == "paper":
            continue
        y, rows = data.y[fold.validation], fold.validation
        for epoch, row in enumerate(curves.itertuples(), start=1):
            recalls = [(said[epoch, rows][y == k] == k).mean() for k in range(CLASSES)]
            assert row.val_uar == pytest.approx(np.mean(recalls))
            assert row.val_accuracy == pytest.approx((said[epoch, rows] == y).mean())
            # The loss of validation is that of the true labels: nothing is smoothed.
            truth = answers[epoch, rows, y].astype(float)
            assert row.val_loss == pytest.approx(-np.log(truth).mean(), rel=1e-6)
        assert curves["val_accuracy"].idxmax() == 0 and curves["val_uar"].idxmax() == 1
    # The network of that epoch is the one that is tested.
    table = pd.read_csv(folders.predictions)
    rows = [int(name[-7:-4]) for name in table["file"]]
    found = table[["p_zeal", "p_calm"]].to_numpy()
    np.testing.assert_allclose(found, answers[choice, rows], rtol=1e-6)


def focal(q, p, gamma=2.0, alpha=0.25):
    """Lin et al. 2017 with soft labels; the report of the modified TIM-Net."""
    return alpha * (1 - (q * p).sum(axis=1)) ** gamma * -(q * np.log(p)).sum(axis=1)


def margin(q, p, present=0.9, absent=0.1, weight=0.5):
    """Sabour et al. 2017, equation 4."""
    missing, surplus = np.maximum(present - p, 0) ** 2, np.maximum(p - absent, 0) ** 2
    return (q * missing + weight * (1 - q) * surplus).sum(axis=1)


TWICE = {"smooth_twice": True, "gamma": 3.5, "alpha": 0.7}


@pytest.mark.parametrize(
    ("given", "formula", "smoothing"),
    [
        ({}, lambda q, p: focal(q, p, 0.0, 1.0), 0.1),
        ({"loss": "focal"}, focal, 0.1),
        # (1 - 0.1) of (1 - 0.1) of a label stay where they were.
        (
            {"loss": "focal", "loss_options": TWICE},
            lambda q, p: focal(q, p, 3.5, 0.7),
            0.19,
        ),
        ({"loss": "margin", "label_smoothing": 0.0}, margin, 0.0),
    ],
)
def test_training_minimises_the_formula_with_its_published_values(
    watched, given, formula, smoothing
):
    data, _, folds, folders, seen = watched(**given)
    for fold, epochs in zip(folds, seen, strict=True):
        found = pd.read_csv(folders.curves(fold.number))["loss"]
        for (clips, kernel), loss in zip(epochs, found, strict=True):
            y = data.y[clips[:, 0, 0].astype(int)]
            labels = np.eye(CLASSES)[y] * (1 - smoothing) + smoothing / CLASSES
            p = softmax(clips[..., 1].mean(axis=1)[:, None] * kernel, axis=1)
            assert loss == pytest.approx(formula(labels, p).mean(), rel=1e-5)


# --- what trains a classical system, and whose answers are written down --------------


def logistic(x, y):
    """Return the fitted reference of `logistic`."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
    return fitted.fit(x, y).predict_proba


def svm(x, y):
    """Return the fitted reference of `svm`: the softmax of one machine per class."""
    machine = make_pipeline(StandardScaler(), SVC(gamma="scale")).fit(x, y)

    def answer(clips):
        margins = machine.decision_function(clips)
        return softmax(np.stack([-margins, margins], axis=1), axis=1)

    return answer


@pytest.mark.parametrize(
    ("reference", "protocol"), [(logistic, "speaker"), (svm, "paper")]
)
def test_classical_systems_are_scikit_learns_fit_on_the_training_rows_alone(
    tmp_path, reference, protocol
):
    # Labels are noise that can be memorised: a row that trains is answered rightly.
    rng = np.random.default_rng(5)
    y = (rng.random(60) < 0.4).astype(int)
    data = features_of(y, rng.normal(size=(60, 1, 12)))
    vectors = data.x[:, 0].astype(float)
    given = {"model": reference.__name__, "protocol": protocol}
    folds, folders = trained(tmp_path, data, **given)
    table = pd.read_csv(folders.predictions).set_index("file")
    for fold in folds:
        found = table.loc[data.file[fold.test], ["p_zeal", "p_calm"]].to_numpy()
        wanted = reference(vectors[fold.train], y[fold.train])(vectors[fold.test])
        # float32 and the solver's tolerance; other training rows change far more.
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        for part in (fold.validation, fold.test):
            more = np.union1d(fold.train, part)
            other = reference(vectors[more], y[more])(vectors[fold.test])
            assert len(part) == 0 or np.abs(other - wanted).max() > 0.05


@pytest.mark.parametrize("model", ["cnn", "majority"])
def test_every_row_of_the_predictions_tells_the_truth_of_its_file(watched, model):
    once = {"epochs": 1} if model == "cnn" else {"epochs": 0, "batch_size": 0}
    data, answers, folds, folders, _ = watched(model=model, **once)
    table = pd.read_csv(folders.predictions)
    assert sorted(table["file"]) == sorted(data.file)
    fold_of = {file: f.number for f in folds for file in data.file[f.test]}
    with np.load(folders.embeddings) as embeddings:
        assert embeddings["file"].tolist() == table["file"].tolist()
    for row in table.itertuples():
        label, number = row.file.removesuffix(".wav").split("/")
        assert NAMES[row.y_true] == label
        assert row.speaker == f"s{int(number) % 6}"
        assert row.sex == ("female", "male")[int(number) % 2]
        assert row.fold == fold_of[row.file]
        if model == "cnn":
            said = answers[1, int(number)]
            assert (row.p_zeal, row.p_calm) == pytest.approx(said, rel=1e-6)
            assert row.y_pred == said.argmax()
