"""From one recording to class probabilities, by a network that is compiled once."""

from __future__ import annotations

import typing
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from lib import features


class Recogniser:
    """Names the emotion of recordings, one at a time.

    `models.predict` answers many clips at once and compiles nothing on TensorFlow,
    which suits the tested part of a fold. Here one clip has to be answered quickly and
    often: the network becomes one compiled function of one clip. Weights that are
    trained or loaded later count.

    Args:
        model: A trained network of `models.build_model`, or a fitted baseline.
        settings: The front end that it was trained with.
        length: Length of a clip, or of a piece, in samples at the front end's rate;
            see `features.clip_length`.

    Raises:
        ValueError: If the network does not take what the front end gives.
    """

    def __init__(self, model, settings: features.FrontEnd, length: int) -> None:
        self.settings = settings
        self.length = length
        frames = features.num_frames(settings, length) * settings.channels
        self._shape = (frames, settings.coefficients)
        taken = getattr(model, "input_shape", (None, None, None))[1:]
        pairs = zip(taken, self._shape, strict=True)
        if any(want not in (None, have) for want, have in pairs):
            raise ValueError(
                f"the network takes clips of {taken} frames and coefficients, the "
                f"front end gives {self._shape}"
            )
        self._answer = _compiled(model, (1, *self._shape))
        self._answer(np.zeros((1, *self._shape), np.float32))

    def probabilities(self, source: Path | typing.BinaryIO) -> np.ndarray:
        """Return the class probabilities of a recording, float32, (classes,).

        A recording that the front end cuts into pieces has the mean of theirs.

        Args:
            source: A WAV or FLAC file, or an open binary file.

        Raises:
            ValueError: If the file is no audio or holds no samples.
        """
        clips = features.extract(source, self.settings, self.length)
        clips = clips.reshape(-1, *self._shape)
        return np.mean([self.of_clip(clip) for clip in clips], axis=0)

    def of_clip(self, clip: np.ndarray) -> np.ndarray:
        """Return the class probabilities (classes,) of (frames, coefficients).

        Raises:
            ValueError: If the clip has another shape.
        """
        if clip.shape != self._shape:
            raise ValueError(
                f"the clip has {clip.shape} frames and coefficients; give {self._shape}"
            )
        return np.asarray(self._answer(clip[np.newaxis]))[0]


def _compiled(model, shape: tuple[int, ...]) -> Callable:
    """Return the network as one compiled function of an array of this shape."""
    if not isinstance(model, keras.Model):
        return model.predict_proba
    if keras.backend.backend() == "jax":
        import jax

        answer = jax.jit(
            lambda weights, state, clip: model.stateless_call(
                weights, state, clip, training=False
            )[0]
        )
        return lambda clip: answer(
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
            clip,
        )
    import tensorflow as tf

    # TensorFlow's own kernels: XLA takes longer for one clip, and to compile.
    return tf.function(
        lambda clip: model(clip, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
    )
