"""Light-SERNet (Aftab et al., ICASSP 2022, arXiv 2110.03435): small, all convolutions.

Body 1 looks along time, along the coefficients and at both, side by side; body 2 is a
chain of five local feature learning blocks.
"""

from typing import Annotated, Literal

import keras
from keras import layers
from pydantic import Field

from lib.models import Share

# Of each path the kernel, (frames, coefficients).
PATHS = {"time": (11, 1), "coefficients": (1, 9), "both": (3, 3)}
# Of each block the channels and what its pooling covers.
BLOCKS = ((64, (2, 2)), (96, (2, 2)), (128, (2, 1)), (160, (2, 1)), (320, None))


def build_light_sernet(
    input_shape: tuple,
    num_classes: int,
    *,
    activation: Literal["relu", "prelu"] = "relu",
    residual: Literal["add", "projection"] | None = None,
    width: Annotated[float, Field(ge=0.1, le=8)] = 1.0,
    l2: Annotated[float, Field(ge=0, le=1)] = 1e-6,
    dropout: Share = 0.3,
) -> keras.Model:
    """Build Light-SERNet; the defaults are the published network.

    The variant of a report (Scardino, Distefano and Cadoli) has `activation="prelu"`
    with one slope a layer, as in PyTorch, a `residual` before each path's activation
    (one channel is added to all 32, or a learned projection: it does not say).
    `width` is a factor of all channels; `l2` weighs the squared kernels of body 2.
    """

    def activate(signal, name: str):
        if activation == "relu":
            return layers.ReLU(name=name)(signal)
        start = keras.initializers.Constant(0.25)
        # One slope for all positions, so that any clip length fits.
        return layers.PReLU(start, shared_axes=(1, 2, 3), name=name)(signal)

    clip = keras.Input(input_shape, name="features")
    picture = layers.Reshape((-1, input_shape[1], 1), name="picture")(clip)
    paths = []
    for name, kernel_size in PATHS.items():
        channels = max(1, round(32 * width))
        path = layers.Conv2D(
            channels, kernel_size, padding="same", name=f"{name}_convolution"
        )(picture)
        path = layers.BatchNormalization(name=f"{name}_normalisation")(path)
        if residual == "add":
            path = layers.Add()([path, picture])
        if residual == "projection":
            projection = layers.Conv2D(channels, 1, name=f"{name}_projection")
            path = layers.Add()([path, projection(picture)])
        path = activate(path, f"{name}_activation")
        paths.append(layers.AveragePooling2D(2, padding="same")(path))
    # (batch, frames / 2, coefficients / 2, 96 width)
    signal = layers.Concatenate(name="paths")(paths)
    how = {"padding": "same", "use_bias": False}
    how["kernel_regularizer"] = keras.regularizers.L2(l2) if l2 else None
    for number, (channels, pool) in enumerate(BLOCKS, start=1):
        how["name"], size = f"block_{number}_convolution", 3 if pool else 1
        signal = layers.Conv2D(max(1, round(channels * width)), size, **how)(signal)
        signal = layers.BatchNormalization(name=f"block_{number}_normalisation")(signal)
        signal = activate(signal, f"block_{number}_activation")
        if pool:
            name = f"block_{number}_pooling"
            signal = layers.AveragePooling2D(pool, padding="same", name=name)(signal)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(signal)
    kept = layers.Dropout(dropout, name="dropout")(embedding)
    probabilities = layers.Dense(num_classes, "softmax", name="probabilities")
    return keras.Model(clip, probabilities(kept), name="light_sernet")
