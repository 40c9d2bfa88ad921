"""TIM-Net is the published network."""

import keras
import numpy as np
import pytest
from references import plain_timnet, randomise, write_official_file

from lib import models
from lib.models.layers import StackedConv1D
from lib.models.official import fold_files, load_official, read_groups
from lib.models.timnet import receptive_field


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize(
    ("classes", "blocks", "trainable", "moving"),
    [
        (6, 8, 104_456, 2_496),
        (7, 8, 104_496, 2_496),
        (8, 8, 104_536, 2_496),
        (4, 10, 129_650, 3_120),
    ],
)
def test_parameter_counts(classes, blocks, trainable, moving):
    model = models.build_model("timnet", (None, 39), classes, dilations=blocks)
    assert count(model.trainable_weights) == trainable
    assert count(model.non_trainable_weights) == moving


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return stock layers and ours with the same weights, by way of a file."""
    keras.utils.clear_session()
    plain = plain_timnet(40, 5, 3, blocks=4, filters=5)
    randomise(plain)
    path = tmp_path_factory.mktemp("weights") / "1-fold_weights_best_1.hdf5"
    write_official_file(path, plain)
    return plain, load_official(path, (None, 5), 3)


@pytest.fixture
def clips():
    return np.random.default_rng(1).normal(size=(6, 40, 5)).astype(np.float32)


def test_outputs_equal_those_of_stock_layers(pair, clips):
    plain, ours = pair
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-5)


def test_gradients_and_moving_statistics_equal_those_of_stock_layers(pair, clips):
    plain, ours = pair
    for model in pair:
        for layer in model.layers:
            if isinstance(layer, keras.layers.SpatialDropout1D):
                layer.rate = 0.0
    labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    before = [model.get_weights() for model in pair]
    # Plain gradient descent: a weight moves by its gradient.
    for model in pair:
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        model.train_on_batch(clips, labels)
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-4)
    moved = ours.get_layer("input_convolution").get_weights()[0]
    assert np.abs(moved - before[1][0]).max() > 1e-4
    for model, weights in zip(pair, before, strict=True):
        model.set_weights(weights)


def test_any_length_is_accepted_and_length_matters_not_to_the_weights(pair):
    plain, ours = pair
    for frames in (1, 7, 300):
        clip = np.random.default_rng(frames).normal(size=(2, frames, 5))
        wide = plain_timnet(frames, 5, 3, blocks=4, filters=5)
        wide.set_weights(plain.get_weights())
        np.testing.assert_allclose(ours(clip), wide(clip), atol=1e-5)


@pytest.mark.parametrize("branch", [0, 1])
def test_blocks_are_causal_in_each_direction(pair, clips, branch):
    _, ours = pair
    inside = keras.Model(ours.input, ours.get_layer("block_1_dilation_8").output)
    changed = clips.copy()
    changed[:, 25] += 1.0
    difference = np.abs(np.asarray(inside(changed) - inside(clips)))[branch]
    touched = difference.max(axis=(1, 2)) > 0
    # The backward branch runs from the last frame to the first.
    first = 25 if branch == 0 else 40 - 1 - 25
    assert not touched[:first].any()
    assert touched[first]


def test_the_gate_never_closes(pair, clips):
    _, ours = pair
    block = ours.get_layer("block_1_dilation_1")
    before = keras.Model(ours.input, ours.get_layer("input_convolution").output)
    gate = np.asarray(block.gate(before(clips)))
    assert gate.min() >= 0.5
    assert gate.max() < 1.0


@pytest.mark.parametrize(("blocks", "kernel_size"), [(2, 2), (3, 3)])
def test_receptive_field_is_what_a_perturbation_reaches(blocks, kernel_size):
    frames = 80
    model = models.build_model(
        "timnet", (frames, 4), 2, dilations=blocks, kernel_size=kernel_size, filters=4
    )
    randomise(model)
    last = model.get_layer(f"block_1_dilation_{2 ** (blocks - 1)}").output
    inside = keras.Model(model.input, last)
    clip = np.random.default_rng(0).normal(size=(1, frames, 4)).astype(np.float32)
    reached = []
    for frame in range(frames):
        changed = clip.copy()
        changed[0, frame] += 3.0
        difference = np.asarray(inside(changed) - inside(clip))[0, -1, 0]
        if np.abs(difference).max() > 0:
            reached.append(frame)
    assert frames - min(reached) == receptive_field(blocks, kernel_size)


def test_dropout_drops_whole_channels_of_single_clips_in_training_only():
    model = models.build_model("timnet", (30, 6), 2, filters=6, dropout=0.5)
    block = model.get_layer("block_1_dilation_1")
    last = block.normalisations[1]
    last.gamma.assign(np.zeros(last.gamma.shape))
    last.beta.assign(np.ones(last.beta.shape))  # one everywhere, before dropout
    signal = np.ones((2, 30, 50, 6), np.float32)  # of ones: what comes is the gate
    hidden = np.log(1 / (1 / np.asarray(block(signal, training=True)) - 1))
    np.testing.assert_allclose(hidden, hidden[:, :1].repeat(30, axis=1), atol=1e-5)
    kept = hidden[:, 0] > 1
    np.testing.assert_allclose(hidden[:, 0], 2.0 * kept, atol=1e-4)
    assert 0.4 < kept.mean() < 0.6
    assert len(np.unique(kept.reshape(100, 6), axis=0)) > 20
    np.testing.assert_allclose(block.gate(signal), 1 / (1 + np.exp(-1)), atol=1e-5)


def test_keras_files_reload_without_custom_objects(pair, clips, tmp_path):
    _, ours = pair
    ours.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(clips), ours(clips))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timnett", {}, "unknown model 'timnett' – did you mean 'timnet'"),
        ("timnet", {"filtres": 3}, "no option 'filtres' – did you mean 'filters'"),
        ("timnet", {"dilations": 0}, "'dilations': 0; give a whole number from 1"),
        ("timnet", {"dropout": 1.0}, "'dropout': 1.0; give 0 to below 1"),
        ("timnet", {"activation": "rellu"}, "'activation': 'rellu'"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build_model(name, (None, 39), 7, **options)


def test_names_in_weight_files_may_start_anywhere(pair, clips, tmp_path):
    plain, _ = pair
    path = tmp_path / "5-fold_weights_best_2.hdf5"
    write_official_file(path, plain, shift=(18, 16, 1))
    ours = load_official(path, (None, 5), 3)
    np.testing.assert_allclose(ours(clips), plain(clips), atol=1e-5)


def test_weights_of_another_corpus_or_network_are_refused(pair, tmp_path):
    plain, _ = pair
    path = tmp_path / "5-fold_weights_best_1.hdf5"
    write_official_file(path, plain)
    with pytest.raises(ValueError, match="5 coefficients and 3 classes.*39 and 7"):
        load_official(path, (None, 39), 7)
    with pytest.raises(FileNotFoundError, match="0 files match.*best_2"):
        fold_files(tmp_path, 2)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fold_files(tmp_path / "nowhere", 2)
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="not an official weight file"):
        read_groups(path)


# --- ablations ------------------------------------------------------------------------


def small(**chosen):
    model = models.build_model(
        "timnet", (None, 5), 3, filters=4, dilations=3, dropout=0.0, **chosen
    )
    randomise(model)
    return model


def inside(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


def test_without_the_backward_branch_it_is_the_sum_without_it(clips):
    both, forward = small(), small(backward=False)
    for layer in both.layers:
        if layer.weights and layer.name not in ("embedding", "probabilities"):
            weights = [value[:1] for value in layer.get_weights()]
            forward.get_layer(layer.name).set_weights(weights)
    block = "block_1_dilation_4"
    np.testing.assert_allclose(
        inside(forward, block)(clips)[0], inside(both, block)(clips)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("fusion", "combine"),
    [
        ("mean", lambda levels: levels.mean(axis=1)),
        ("last", lambda levels: levels[:, 2]),
    ],
)
def test_fusion_without_weights_is_mean_or_last_level(clips, fusion, combine):
    model = small(fusion=fusion)
    blocks = [inside(model, f"block_1_dilation_{d}")(clips) for d in (1, 2, 4)]
    levels = np.stack([np.asarray(b).sum(axis=0).mean(axis=0) for b in blocks], axis=1)
    got = inside(model, "embedding")(clips)
    np.testing.assert_allclose(got, combine(levels), rtol=1e-5)


def test_a_plain_block_adds_and_activates(clips):
    model = small(block="residual", backward=False)
    block = model.get_layer("block_1_dilation_1")
    before = inside(model, "input_convolution")(clips)
    wanted = np.maximum(np.asarray(before + block.sub_blocks(before)), 0.0)
    np.testing.assert_allclose(inside(model, block.name)(clips), wanted, atol=1e-6)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(2, 1), (2, 4), (3, 2), (5, 3)])
def test_convolution_without_causality_is_keras_padding_same(
    clips, kernel_size, dilation
):
    ours = StackedConv1D(4, kernel_size, dilation, causal=False)
    stock = keras.layers.Conv1D(4, kernel_size, dilation_rate=dilation, padding="same")
    wanted = np.asarray(stock(clips))
    ours.build((1, None, None, 5))
    kernel, bias = stock.get_weights()
    ours.set_weights([kernel[None], bias[None, None]])
    given = clips.swapaxes(0, 1)[None]  # (branches, frames, batch, channels)
    found = np.asarray(ours(given))[0].swapaxes(0, 1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_the_future_matters_only_without_causality(clips, causal):
    model = small(causal=causal, backward=False)
    changed = clips.copy()
    changed[:, 25:] += 1.0
    block = inside(model, "block_1_dilation_4")
    difference = np.abs(np.asarray(block(changed) - block(clips)))[0, :25]
    assert (difference.max() == 0) == causal


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("fusion", "sum", "timnet option 'fusion': 'sum'; give one of 'weights'"),
        ("block", "tab", "'block': 'tab'; give one of 'gated', 'residual'"),
        ("causal", 1, "'causal': 1; give True or False"),
        ("backward", "no", "'backward': 'no'; give True or False"),
    ],
)
def test_a_bad_ablation_is_named(option, value, message):
    with pytest.raises(ValueError, match=message):
        models.build_model("timnet", (None, 39), 7, **{option: value})
