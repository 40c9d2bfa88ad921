"""Independent references, random weights and clips, and the authors' files."""

import h5py
import keras
import numpy as np
from keras import layers, ops


def plain_timnet(frames, coefficients, classes, *, blocks, filters, kernel_size=2):
    """TIM-Net of stock Keras layers, created in the order of the authors' code."""

    def part(x, dilation):
        x = layers.Conv1D(
            filters, kernel_size, dilation_rate=dilation, padding="causal"
        )(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        return layers.SpatialDropout1D(0.1)(x)

    clip = keras.Input((frames, coefficients))
    directions = [clip, layers.Lambda(lambda x: ops.flip(x, 1))(clip)]
    signals = [layers.Conv1D(filters, 1, padding="causal")(x) for x in directions]
    levels = []
    for block in range(blocks):
        for index, signal in enumerate(signals):
            inner = part(part(signal, 2**block), 2**block)
            gate = layers.Activation("sigmoid")(inner)
            signals[index] = layers.Multiply()([signal, gate])
        pooled = layers.GlobalAveragePooling1D()(layers.Add()(signals))
        levels.append(layers.Reshape((1, filters))(pooled))
    stacked = layers.Concatenate(axis=1)(levels)
    weighted = layers.Dense(1, use_bias=False)(layers.Permute((2, 1))(stacked))
    fused = layers.Flatten()(weighted)
    return keras.Model(clip, layers.Dense(classes, "softmax")(fused))


def randomise(model, seed=0):
    """Give every weight of a model a random value; variances stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = rng.normal(0, 0.3, variable.shape)
        if "variance" in variable.name:
            value = np.abs(value) + 0.5
        if "gamma" in variable.name:
            value = value + 1.0
        variable.assign(value.astype(np.float32))


def clips(frames, coefficients, number=4):
    """Return random clips, (number, frames, coefficients)."""
    shape = (number, frames, coefficients)
    return np.random.default_rng(frames).normal(size=shape).astype(np.float32)


def inside(model, batch, *names):
    """Return what the layers of a network make of clips, an array for each name."""
    outputs = [model.get_layer(name).output for name in names]
    found = keras.tree.flatten(keras.Model(model.input, outputs)(batch))
    return [np.asarray(values) for values in found]


def reach(model, name, frames):
    """Return how much a frame of a clip (row) changes a frame (column) of a layer."""
    # A clip a frame, each with that frame changed, so that all are rounded alike.
    same = np.repeat(clips(frames, 4, 1), frames, axis=0)
    changed = same + 3.0 * np.eye(frames, dtype="float32")[..., None]
    (before,), (after,) = (inside(model, x, name) for x in (same, changed))
    return np.abs(after - before).max(axis=-1)


def in_order(model, kind):
    """Return a network's layers of a kind in the order of their creation."""
    found = {}
    for layer in model.layers:
        if type(layer) is kind:
            number = layer.name.rpartition("_")[2]
            found[int(number) if number.isdigit() else 0] = layer
    return [found[number] for number in sorted(found)]


def write_official_file(path, model, *, shift=(0, 0, 0)):
    """Write what `plain_timnet` returned as the authors' files hold it.

    The numbers of convolutions, normalisations and the last two layers are shifted, as
    those of later folds of one session are.
    """
    sources = {}
    kinds = {"conv1d": layers.Conv1D, "batch_normalization": layers.BatchNormalization}
    for (name, kind), start in zip(kinds.items(), shift[:2], strict=True):
        for number, layer in enumerate(in_order(model, kind), start):
            sources[_named(name, number)] = layer
    fusion, classifier = in_order(model, layers.Dense)
    sources[_named("weight_layer", shift[2])] = fusion
    sources[_named("dense", shift[2])] = classifier
    empty = _named("input", shift[2] + 1)  # a layer without weights
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([empty, *sources], "S")
        file.create_group(empty).attrs["weight_names"] = []
        for name, layer in sources.items():
            group = file.create_group(name)
            weights = {f"{name}/{item.name}:0": item.numpy() for item in layer.weights}
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, values in weights.items():
                group[weight] = values


def _named(kind, number):
    return kind if number == 0 else f"{kind}_{number}"
