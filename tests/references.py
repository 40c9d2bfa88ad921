"""Independent references: plain Keras layers, and files in the authors' layout."""

from __future__ import annotations

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
    fused = layers.Flatten()(
        layers.Dense(1, use_bias=False)(layers.Permute((2, 1))(stacked))
    )
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


def write_official_file(path, model, *, shift=(0, 0, 0)):
    """Write a model's weights as the authors' files hold them.

    Args:
        path: File to write.
        model: What `plain_timnet` returned.
        shift: What is added to the numbers of convolutions, normalisations and
            the last two layers, as later folds of one session have them.
    """
    convolutions = [item for item in model.layers if isinstance(item, layers.Conv1D)]
    norms = [
        item for item in model.layers if isinstance(item, layers.BatchNormalization)
    ]
    dense = [item for item in model.layers if isinstance(item, layers.Dense)]
    # Keras lists layers by depth in the graph; creation order is in the name.
    for group in (convolutions, norms, dense):
        group.sort(
            key=lambda item: (
                int((item.name.rsplit("_", 1) + ["0"])[1])
                if item.name[-1].isdigit()
                and "_" in item.name
                and item.name.rsplit("_", 1)[1].isdigit()
                else 0
            )
        )
    sources = {}
    for index, item in enumerate(convolutions):
        sources[_named("conv1d", index + shift[0])] = item
    for index, item in enumerate(norms):
        sources[_named("batch_normalization", index + shift[1])] = item
    sources[_named("weight_layer", shift[2])] = dense[0]
    sources[_named("dense", shift[2])] = dense[1]
    with h5py.File(path, "w") as file:
        file.create_group(_named("input", shift[2] + 1))  # a layer without weights
        file.attrs["layer_names"] = np.array(
            [name.encode() for name in [*file, *sources]]
        )
        file[list(file)[0]].attrs["weight_names"] = []
        for name, item in sources.items():
            names = [f"{name}/{variable.name}:0" for variable in item.weights]
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array(
                [weight.encode() for weight in names]
            )
            for weight, variable in zip(names, item.weights, strict=True):
                group[weight] = variable.numpy()


def _named(kind, number):
    return kind if number == 0 else f"{kind}_{number}"
