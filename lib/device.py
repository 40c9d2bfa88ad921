"""Where to compute, with which seeds, and whether the accelerator can be trusted.

Some versions of Apple's Metal plug-in compute wrong numbers without an error.
"""

import contextlib
import os
import platform
from typing import NamedTuple

import keras
import numpy as np


class Device(NamedTuple):
    """The device in force."""

    name: str  # "cpu" or "gpu"
    description: str
    check: str  # what the self-check said


def select(wanted: str = "auto", *, threads: int = 0) -> Device:
    """Choose the device for all that follows in this process.

    "auto" is the GPU if there is one, else the CPU, on which TensorFlow takes so many
    `threads` (0 for all) unless it has begun to compute. A GPU's products are of
    float32 too, not of the shorter TF32, so that it repeats what a CPU finds.
    RuntimeError if the GPU fails the self-check: what has used it cannot leave it.
    """
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "float32")
        jax.config.update("jax_default_device", None)  # which an earlier call set
        found = [one.device_kind for one in jax.devices() if one.platform != "cpu"]
    else:
        from tensorflow import config

        config.experimental.enable_tensor_float_32_execution(False)
        details = config.experimental.get_device_details
        gpus = config.get_visible_devices("GPU")
        found = [details(one).get("device_name", one.name) for one in gpus]
    check = "not needed on the CPU"
    if wanted == "gpu" and not found:
        raise ValueError("device 'gpu': there is none here; use device='cpu' or 'auto'")
    if wanted != "cpu" and found:
        difference = self_check()
        check = f"{found[0]} differs from the CPU by {difference:.1e}"
        if difference <= 1e-3:  # rounding is about 1e-6
            return Device("gpu", found[0], check)
        way_out = "restart with device='cpu'"
        raise RuntimeError(f"device '{wanted}': {check}, too much; {way_out}")
    if keras.backend.backend() == "jax":
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    else:
        config.set_visible_devices([], "GPU")
        # The graph optimiser takes seconds for each network and makes no step faster.
        config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        with contextlib.suppress(RuntimeError):  # it has begun to compute
            config.threading.set_intra_op_parallelism_threads(threads)
            config.threading.set_inter_op_parallelism_threads(threads)
    return Device("cpu", f"CPU, {os.cpu_count()} cores, {platform.machine()}", check)


def self_check() -> float:
    """Return how far a step on the GPU is from the CPU's, by the largest value."""
    from lib import models

    found = []  # of a TAB and a dense layer with a fused ReLU, which Metal got wrong
    for place in ("cpu:0", "gpu:0"):
        rng = np.random.default_rng(0)
        clips = rng.normal(size=(16, 32, 13)).astype(np.float32)
        labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)]
        with keras.device(place):
            options = {"filters": 13, "dilations": 2, "dropout": 0.0}
            network = models.build_model("timnet", (32, 13), 4, **options)
            top = keras.layers.Dense(32, "relu")(network.get_layer("embedding").output)
            model = keras.Model(network.input, keras.layers.Dense(4, "softmax")(top))
            # Positive variances, and too small to saturate the gates.
            model.set_weights([rng.uniform(0.01, 0.2, w.shape) for w in model.weights])
            model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
            model.train_on_batch(clips, labels)
            arrays = [np.asarray(model(clips)), *model.get_weights()]
            found.append(np.concatenate([array.ravel() for array in arrays]))
    return float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())


def has_xla() -> bool:
    """Tell whether TensorFlow can compile by XLA here; Apple's Metal plug-in cannot."""
    from tensorflow import config

    return platform.system() != "Darwin" or not config.get_visible_devices("GPU")
