"""From utterances to the clips a network sees, and back.

A row is an utterance. Its features may be one clip, or several pieces of one
length; who trains and who tests is decided for whole utterances, so that no
piece of a tested one is ever trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lib import augment, config, features
from lib.corpora.base import Corpus
from lib.features import FeatureSet

Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How the training clips are altered.

    Attributes:
        copies: Altered copies of every utterance, (utterances, copies, frames,
            coefficients), or None.
        cepstrum: Options of `augment.augment_cepstra`, applied anew in every
            epoch, or None.
    """

    copies: np.ndarray | None = None
    cepstrum: Mapping[str, Any] | None = None

    def training_clips(
        self, x: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the clips of the rows that train, copies included.

        Args:
            x: Features of the whole corpus.
            rows: Rows of the training side.

        Returns:
            Clips (n, frames, coefficients) and the row of each, (n,).
        """
        clips, owner = features.pieces(x[rows])
        if self.copies is not None:
            more, of = features.pieces(self.copies[rows])
            clips = np.concatenate([clips, more])
            owner = np.concatenate([owner, of])
        return clips, rows[owner]

    def altered(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the training clips as one epoch sees them."""
        if self.cepstrum is None:
            return clips
        return augment.augment_cepstra(clips, rng, **self.cepstrum)


def predict_utterances(predict: Predict, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the answers for utterances: the mean over the pieces of each.

    Args:
        predict: From clips (n, frames, coefficients) to their probabilities
            and embeddings.
        x: Features of utterances, in pieces or not.

    Returns:
        Probabilities (utterances, classes), embeddings (utterances, width).
    """
    clips, owner = features.pieces(x)
    answers = predict(clips)
    if len(clips) == len(x):
        return answers
    counts = np.bincount(owner, minlength=len(x))[:, None]
    means = []
    for answer in answers:
        total = np.zeros((len(x), answer.shape[1]), np.float64)
        np.add.at(total, owner, answer)
        means.append((total / counts).astype(answer.dtype))
    return tuple(means)


def resolve_augmentation(params: config.Parameters) -> dict[str, Any]:
    """Return the options of the augmentation, the defaults filled in.

    Raises:
        ValueError: For an unknown option, a wrong value, or options without an
            augmentation.
    """
    function, known = {
        "cepstrum": (_cepstrum, augment.CEPSTRUM),
        "waveform": (_waveform, augment.WAVEFORM),
        "none": (_none, {}),
    }[params.augmentation]
    what = f"augmentation '{params.augmentation}'"
    options = config.with_defaults(what, function, params.augmentation_options)
    if "transforms" in options:
        augment.require_known(options["transforms"], known)
    probability = options.get("probability", 1)
    number = isinstance(probability, int | float) and type(probability) is not bool
    if not number or not 0 < probability <= 1:
        raise ValueError(
            f"{what}: probability is {probability!r}; give a number above 0, up to 1"
        )
    return options


def _none() -> None: ...


def _waveform(transforms=tuple(augment.WAVEFORM)) -> None: ...


def _cepstrum(transforms=tuple(augment.CEPSTRUM), probability=0.5) -> None: ...


def prepare_augmentation(
    params: config.Parameters, corpus: Corpus, data: FeatureSet
) -> Augmentation:
    """Return how the training clips are altered, computing what can be known before.

    Args:
        params: The notebook's parameters.
        corpus: The corpus.
        data: Its features.

    Raises:
        FileNotFoundError: If waveforms are to be altered and there is no audio.
        ValueError: For an unknown option or transform.
    """
    options = resolve_augmentation(params)
    if params.augmentation == "cepstrum":
        return Augmentation(cepstrum=options)
    if params.augmentation == "waveform":
        copies = features.augmented_copies(
            corpus,
            data,
            features.audio_paths(params, corpus),
            params.folders.features,
            params.feature_preset,
            params.feature_options,
            transforms=options["transforms"],
            seed=params.seed,
            verbose=params.verbose,
        )
        return Augmentation(copies=copies)
    return Augmentation()
