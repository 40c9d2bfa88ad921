"""What holds on JAX alone; `test_train` runs it in a process of its own."""

import dataclasses
import types

import jax
import keras
import numpy as np
import pandas as pd
import pytest
from conftest import small_plan, small_run, tiny_features
from keras import layers

from benchmarks import gpu
from lib import fold, losses, runs, together, train
from lib.device import select

# Speakers of unequal number, so that folds have unequal numbers of steps.
DATA = tiny_features(clips=51, speakers=7, signal=0.3)
GIVEN = {"epochs": 24, "learning_rate": 0.05, "weight_average": 0.6}
GIVEN |= {"schedule": "plateau", "schedule_options": {"patience": 2}}
GIVEN |= {"early_stopping": 4}


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Use one network for all runs, which differ in nothing that it knows of."""
    network = fold.Network(small_plan("", DATA, **GIVEN)[0].settings, DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "Network", lambda *_: network)
        yield


def answers(folders):
    return runs.read_predictions(folders.predictions).filter(like="p_").to_numpy(float)


def trained(folder, how="auto"):
    """Return id, probabilities, metrics of every epoch, and folds of a run."""
    folders = small_run(folder, DATA, fold_parallel=how, **GIVEN)
    curves = pd.concat([pd.read_csv(folders.curves(number)) for number in (1, 2, 3)])
    entries = runs.read_manifest(folders.manifest)["folds"]
    folds = [(entry["epoch_chosen"], entry["epochs_run"]) for entry in entries]
    return folders.run_id, answers(folders), curves.drop(columns="seconds"), folds


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), "off")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("together"))


def test_together_and_one_by_one_agree(alone, whole):
    """With EMA, a schedule that watches the loss, and early stopping by each fold."""
    assert (alone[0], alone[3]) == (whole[0], whole[3])
    # Float32 after a hundred steps or so; the answers do differ from clip to clip.
    for one, other in zip(alone[1:3], whole[1:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)
    assert np.ptp(alone[1]) > 1e-3
    chosen, lengths = zip(*alone[3], strict=True)
    assert len(set(chosen)) > 1 and min(lengths) < 24


def test_a_cut_between_two_folds_changes_nothing(tmp_path, monkeypatch, whole):
    save, calls = fold.FoldTraining.save, []

    def cut(self, state):
        calls.append(self.epoch)
        if len(calls) == 8:  # of three folds in the third epoch, the second
            raise KeyboardInterrupt
        save(self, state)

    monkeypatch.setattr(fold, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(fold.FoldTraining, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    assert calls == [1, 1, 1, 2, 2, 2, 3, 3]
    for one, other in zip(trained(tmp_path), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_are_one_program(tmp_path, monkeypatch, alone):
    inside, sizes = train.train_folds, []

    def counted(network, trainings, report):
        sizes.append(len(trainings))
        return inside(network, trainings, report)

    monkeypatch.setattr(train, "train_folds", counted)
    pairs = [small_plan(tmp_path, DATA, seed=seed, **GIVEN) for seed in (46, 7)]
    plans, params = zip(*pairs, strict=True)
    given = {"device": select("cpu"), "verbose": 0}
    made = train.train(plans, DATA, params[0].folders, **given)
    assert jax.config.jax_default_matmul_precision == "float32"
    one, other = map(answers, made)
    assert sizes == [6]
    np.testing.assert_allclose(one, alone[1], rtol=0, atol=1e-3)
    assert np.abs(one - other).max() > 1e-3


def test_what_fills_up_a_batch_changes_nothing():
    """A padded step is Keras's own on the real rows, weighted, also in statistics."""
    clip, optimizer = keras.Input((12, 6)), keras.optimizers.SGD(0.05)
    # As in CkTIM, a kernel is normalised over its own rows, not over the batch.
    first = keras.ops.take(clip, [0], axis=0)
    kernel = layers.BatchNormalization()(layers.Dense(6)(first))
    signal = layers.BatchNormalization()(layers.Dense(6)(clip) * kernel)
    mean = layers.GlobalAveragePooling1D()(signal)
    model = keras.Model(clip, layers.Dense(3, "softmax")(mean))
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables + model.non_trainable_variables
    state = [v.value for v in variables + optimizer.variables]
    clips = np.random.default_rng(0).normal(size=(8, 12, 6)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    weights, made = np.array([1, 3, 0.5, 1, 2] + [0] * 3, np.float32), []
    parts = {"model": model, "optimizer": optimizer, "loss": losses.cross_entropy()}
    step = jax.jit(together.step_function(types.SimpleNamespace(**parts)))
    for filler in (0.0, 1e3):
        clips[5:] = filler
        after, loss, _ = step(state, clips, np.arange(8), labels, weights)
        made.append(after)
    model.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
    trained = float(model.train_on_batch(clips[:5], labels[:5], weights[:5]))
    assert abs(trained - float(loss)) < 1e-5
    for own, one, other in zip(variables, *made, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        # Keras adds 1e-7 to a count of masked rows; moments differ by a millionth.
        np.testing.assert_allclose(own.numpy(), one, rtol=0, atol=1e-5)


def test_a_saturated_network_learns(tmp_path, monkeypatch):
    """Its answers are 0 and 1, and it is wrong by more than -log(1e-7) = 16.1."""
    monkeypatch.setattr(train, "Network", fold.Network)
    data = dataclasses.replace(DATA, x=1000 * DATA.x)
    given = {"model": "gm_tcnet", "model_options": {"blocks": 2, "filters": 8}}
    folders = small_run(tmp_path, data, epochs=6, learning_rate=0.05, **given)
    loss = pd.read_csv(folders.curves(1))["loss"]
    assert loss[0] > 20 and loss.iloc[-1] < 0.8 * loss[0]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (layers.Conv1D, {"kernel_size": 2, "padding": "causal", "dilation_rate": 4}),
        (layers.Conv1D, {"kernel_size": 2, "padding": "causal", "dilation_rate": 64}),
        (layers.Conv1D, {"kernel_size": 5, "padding": "same", "strides": 2}),
        (layers.Conv1D, {"kernel_size": 4, "strides": 3, "use_bias": False}),
        (layers.Conv2D, {"kernel_size": (3, 2), "padding": "same", "strides": (2, 1)}),
        (layers.Conv2D, {"kernel_size": 3, "dilation_rate": 2, "activation": "relu"}),
    ],
)
def test_a_product_with_copies_is_a_convolution(kind, given):
    random, layer = np.random.default_rng(0), kind(7, **given)
    clips = random.normal(size=(4, 21, *[10] * (layer.rank - 1), 5)).astype("f4")
    layer.build(clips.shape)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape))
    # Sums of at most 45 products of about 1, in another order.
    found = together._convolved(layer, clips)
    np.testing.assert_allclose(found, layer(clips), rtol=0, atol=1e-4)


def test_the_gpu_benchmark_runs_on_a_cpu_and_counts_operations(monkeypatch):
    monkeypatch.setattr(train, "Network", fold.Network)
    case = {"corpus": "EMOVO", "folds": 1, "precision": "float32", "epochs": 1}
    figures = gpu.measure(**case, clips=80, model_options={"dilations": 2})
    # Two directions of two blocks of two convolutions with two taps; a product and a
    # sum; forwards, and backwards to the inputs and to the kernels.
    products = 64 * 188 * 39 * 39 * (2 * 2 * 2 * 2) * 2 * 3
    assert products < figures["operations_a_step"] < 1.3 * products
    assert min(figures[name] for name in ("run_s", "step_ms", "of_500_epochs_s")) > 0
