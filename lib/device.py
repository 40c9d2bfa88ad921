"""Where to compute, with which seeds, and whether the accelerator can be trusted.

Some versions of Apple's Metal plug-in compute wrong numbers without saying so.
Before an accelerator is used, the same small network is trained for one step on
it and on the processor, and the two must agree.
"""

from __future__ import annotations

import contextlib
import dataclasses

import keras
import numpy as np

TOLERANCE = 1e-3  # relative to the largest value; float32 differs by about 1e-6


@dataclasses.dataclass(frozen=True)
class Device:
    """The device in force.

    Attributes:
        name: "cpu" or "gpu".
        description: What it is, for people.
        check: Outcome of the self-check, for the manifest.
    """

    name: str
    description: str
    check: str


def select(wanted: str = "auto", *, side_by_side: bool = False) -> Device:
    """Choose the device for all that follows in this process.

    Args:
        wanted: "cpu"; "gpu"; or "auto" for a GPU that passes the self-check, else
            the CPU.
        side_by_side: Whether several networks will be trained at once. On a CPU
            each operation then keeps to one core, and leaves the others to other
            operations. Without effect once TensorFlow has begun to compute.

    Returns:
        The device in force.

    Raises:
        ValueError: If a GPU is asked for and there is none.
        RuntimeError: If a GPU is asked for and fails the self-check.
    """
    accelerators = _accelerators()
    if wanted == "gpu" and not accelerators:
        raise ValueError("device 'gpu': there is none here; use device='cpu' or 'auto'")
    if wanted == "cpu" or not accelerators:
        _hide_accelerators()
        if side_by_side:
            _one_core_per_operation()
        return Device("cpu", _processor(), "not needed on the CPU")
    difference = self_check()
    if difference <= TOLERANCE:
        return Device(
            "gpu", accelerators[0], f"agrees with the CPU to {difference:.1e}"
        )
    verdict = f"differs from the CPU by {difference:.1e}, more than {TOLERANCE:.0e}"
    if wanted == "gpu":
        raise RuntimeError(
            f"device 'gpu': {accelerators[0]} {verdict}; its results would be wrong. "
            "Use device='cpu', or another version of the plug-in."
        )
    _hide_accelerators()
    return Device("cpu", _processor(), f"{accelerators[0]} {verdict}: not used")


def self_check() -> float:
    """Return how far one training step on the GPU is from the same on the CPU.

    The probe holds a dense layer with a fused ReLU, which Metal got wrong, and a
    temporal-aware block.

    Returns:
        Largest difference of the weights and outputs after the step, relative
        to the largest magnitude.
    """
    return _difference(_probe("cpu:0"), _probe("gpu:0"))


def _difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return the largest difference of two lists of arrays, relative."""
    scale = max(float(np.abs(array).max()) for array in one)
    pairs = zip(one, other, strict=True)
    worst = max(float(np.abs(left - right).max()) for left, right in pairs)
    return worst / scale if np.isfinite(worst) else float("inf")


def _probe(place: str) -> list[np.ndarray]:
    """Return outputs and weights of a small network after one step at `place`."""
    from lib.models.timnet import build_timnet

    rng = np.random.default_rng(0)
    clips = rng.normal(size=(16, 32, 13)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)]
    with keras.device(place):
        network = build_timnet((32, 13), 4, filters=13, dilations=2, dropout=0.0)
        hidden = keras.layers.Dense(32, "relu")(network.get_layer("embedding").output)
        model = keras.Model(network.input, keras.layers.Dense(4, "softmax")(hidden))
        model.set_weights(
            [
                # Positive, so that moving variances stay valid; small, so that the
                # gates do not saturate.
                rng.uniform(0.01, 0.2, weight.shape).astype(np.float32)
                for weight in model.get_weights()
            ]
        )
        model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
        model.train_on_batch(clips, labels)
        return [np.asarray(model(clips)), *model.get_weights()]


def _accelerators() -> list[str]:
    """Return descriptions of the accelerators that the backend sees."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return [
            tensorflow.config.experimental.get_device_details(device).get(
                "device_name", device.name
            )
            for device in tensorflow.config.get_visible_devices("GPU")
        ]
    if keras.backend.backend() == "jax":
        import jax

        return [
            str(item.device_kind) for item in jax.devices() if item.platform != "cpu"
        ]
    return []


def _hide_accelerators() -> None:
    """Make the backend compute on the processor."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
    elif keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_device", jax.devices("cpu")[0])


def _one_core_per_operation() -> None:
    """Let TensorFlow spread operations over the cores, not the parts of each."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow

    # Too late after the first computation, for instance when a cell is run again.
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)


def _processor() -> str:
    import os
    import platform

    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def derived_seed(*parts: int) -> int:
    """Return a seed made from several numbers, e.g. (seed, fold).

    >>> derived_seed(46, 1) == derived_seed(46, 1) != derived_seed(46, 2)
    True
    """
    return int(np.random.SeedSequence(parts).generate_state(1)[0]) % (2**31)
