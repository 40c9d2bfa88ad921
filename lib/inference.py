"""From one recording to class probabilities, by a network that is compiled once."""

import typing
from pathlib import Path

import keras
import numpy as np

from lib import features, models


class Recogniser:
    """Names the emotion of recordings, one at a time and quickly.

    `model` is a trained network or a fitted baseline, `settings` the front end that it
    was trained with, `length` that of a clip in samples; see `features.clip_length`.
    `normalisation` is that of its run; "speaker" is none for one recording.
    Weights that are trained or loaded later count.
    """

    def __init__(
        self,
        model,
        settings: features.FrontEnd,
        length: int,
        normalisation: str = "none",
    ) -> None:
        self.settings, self.length = settings, length
        self.normalisation = normalisation
        if normalisation == "speaker":
            fault = "normalisation 'speaker' needs many clips of a speaker"
            raise ValueError(f"{fault}; take a run with another normalisation")
        frames = features.num_frames(settings, length) * settings.channels
        self._shape = (frames, settings.coefficients)
        taken = getattr(model, "input_shape", (None, None, None))[1:]
        pairs = zip(taken, self._shape, strict=True)
        if any(want not in (None, have) for want, have in pairs):
            fault = f"the network takes clips of {taken} frames and coefficients, the "
            fault += f"front end gives {self._shape}"
            raise ValueError(f"{fault}; give those of the network's run")
        self._answer = _compiled(model, (1, *self._shape))
        self.of_clip(np.zeros(self._shape, np.float32))  # compiles

    def probabilities(self, source: Path | typing.BinaryIO) -> np.ndarray:
        """Return the class probabilities (classes,) of a WAV or FLAC file, open or not.

        A recording that the front end cuts into pieces has the mean of theirs.
        """
        clips = features.extract(source, self.settings, self.length)
        clips = clips.reshape(-1, *self._shape)
        return np.mean([self.of_clip(clip) for clip in clips], axis=0)

    def of_clip(self, clip: np.ndarray) -> np.ndarray:
        """Return the class probabilities (classes,) of (frames, coefficients)."""
        if self.normalisation == "clip":
            clip = features.without_mean(clip)
        return np.asarray(self._answer(clip[np.newaxis]))[0]


def _compiled(model, shape: tuple[int, ...]):
    """Return the network as one compiled function of an array of this shape."""
    if not isinstance(model, keras.Model):
        return lambda clip: models.predict(model, clip)[0]
    if keras.backend.backend() == "jax":
        import jax

        answer = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
        groups = model.trainable_variables, model.non_trainable_variables
        return lambda clip: answer(*([one.value for one in g] for g in groups), clip)
    import tensorflow as tf

    # TensorFlow's own kernels: XLA takes longer for one clip, and to compile.
    given = [tf.TensorSpec(shape, tf.float32)]
    return tf.function(lambda clip: model(clip, training=False), input_signature=given)
