"""eGeMAPS functionals, by the optional package opensmile.

Eyben et al., "The Geneva minimalistic acoustic parameter set (GeMAPS) for voice
research and affective computing", IEEE Transactions on Affective Computing 2016.
"""

from __future__ import annotations

import functools
import threading

import numpy as np

# All threads share one extractor, and opensmile does not promise that two may
# be in it at once.
_ONE_AT_A_TIME = threading.Lock()


def functionals(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the 88 functionals of eGeMAPSv02 of one channel.

    Args:
        samples: Shape (samples,).
        rate: Samples per second.

    Returns:
        float32, shape (1, 88): one row for the whole clip. What is not defined,
        as the pitch of a clip without voice, is 0.

    Raises:
        ModuleNotFoundError: If opensmile is not installed; with the command.
        ValueError: If the clip is shorter than one frame of opensmile (60 ms).
    """
    with _ONE_AT_A_TIME:
        row = _extractor().process_signal(samples, rate).to_numpy(np.float32)
    if np.isnan(row).all():
        raise ValueError(f"{len(samples)} samples are too short for eGeMAPS")
    return np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0)


@functools.cache
def _extractor():
    try:
        import opensmile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "features 'egemaps' need the package opensmile (free for research): "
            "install it with `.venv/bin/python -m pip install opensmile`"
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
