"""Where to compute, with which seeds, and whether the accelerator can be trusted.

Some versions of Apple's Metal plug-in compute wrong numbers without an error. So one
step of training must agree with the CPU's before an accelerator is used.
"""

from __future__ import annotations

import contextlib
import os
import platform
from typing import NamedTuple

import keras
import numpy as np

TOLERANCE = 1e-3  # relative to the largest value; float32 differs by about 1e-6


class Device(NamedTuple):
    """The device in force."""

    name: str  # "cpu" or "gpu"
    description: str
    check: str  # what the self-check said


def select(wanted: str = "auto", *, threads: int = 0) -> Device:
    """Choose the device for all that follows in this process.

    Args:
        wanted: "cpu"; "gpu"; or "auto" for a GPU that passes the self-check, else
            the CPU.
        threads: CPU threads for each TensorFlow operation, and for operations at once;
            0 for all. Without effect once TensorFlow has begun to compute.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    found, check = _accelerators(), "not needed on the CPU"
    if wanted == "gpu" and not found:
        raise ValueError("device 'gpu': there is none here; use device='cpu' or 'auto'")
    if wanted != "cpu" and found:
        difference = self_check()
        if difference <= TOLERANCE:
            check = f"agrees with the CPU to {difference:.1e}"
            return Device("gpu", found[0], check)
        check = f"{found[0]} differs from the CPU by {difference:.1e}: not used"
        if wanted == "gpu":
            raise RuntimeError(
                f"device 'gpu': {check}, as its results would be wrong. Use "
                "device='cpu', or another version of the plug-in."
            )
    if on_tensorflow:
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
        # Too late after the first computation.
        with contextlib.suppress(RuntimeError):
            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    else:
        import jax

        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    cores = f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    return Device("cpu", cores, check)


def self_check() -> float:
    """Return how far a step on the GPU is from the CPU's, by the largest value.

    The network has a dense layer with a fused ReLU, which Metal got wrong, and a TAB.
    """
    from lib import models

    rng, found = np.random.default_rng(0), []
    clips = rng.normal(size=(16, 32, 13)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)]
    weights = None
    for place in ("cpu:0", "gpu:0"):
        with keras.device(place):
            options = {"filters": 13, "dilations": 2, "dropout": 0.0}
            network = models.build_model("timnet", (32, 13), 4, **options)
            top = keras.layers.Dense(32, "relu")(network.get_layer("embedding").output)
            model = keras.Model(network.input, keras.layers.Dense(4, "softmax")(top))
            # Positive, so that moving variances stay valid; small, so that the gates
            # do not saturate.
            shapes = [weight.shape for weight in model.get_weights()]
            weights = weights or [rng.uniform(0.01, 0.2, shape) for shape in shapes]
            model.set_weights(weights)
            model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
            model.train_on_batch(clips, labels)
            arrays = [np.asarray(model(clips)), *model.get_weights()]
            found.append(np.concatenate([array.ravel() for array in arrays]))
    worst = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
    return float(worst) if np.isfinite(worst) else float("inf")


def _accelerators() -> list[str]:
    if keras.backend.backend() == "jax":
        import jax

        return [item.device_kind for item in jax.devices() if item.platform != "cpu"]
    import tensorflow

    details = tensorflow.config.experimental.get_device_details
    devices = tensorflow.config.get_visible_devices("GPU")
    return [details(item).get("device_name", item.name) for item in devices]


def has_xla() -> bool:
    """Tell whether TensorFlow can compile by XLA here; Apple's Metal plug-in cannot."""
    import tensorflow

    gpus = tensorflow.config.get_visible_devices("GPU")
    return not (platform.system() == "Darwin" and gpus)


def derived_seed(*parts: int) -> int:
    """Return a seed made from several numbers, e.g. (seed, fold)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0]) % (2**31)
