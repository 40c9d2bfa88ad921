"""Filters that change over time: the resonances of a moving vocal tract."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

SAMPLE_RATE = 16_000
# Targets are given once a millisecond.
CONTROL_RATE = 1_000
STEP = SAMPLE_RATE // CONTROL_RATE

# The blocks overlap by half and leave 48 ms for the tract to ring in.
_HOP, _BLOCK, _FFT = 128, 256, 1024
_HIGHER_FORMANTS = np.array([3500.0, 4500.0, 5500.0, 6500.0, 7500.0])


def tract_filter(
    formants: np.ndarray, scale: float, tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a cascade of formant resonators behind a first-order low-pass.

    Args:
        formants: First three formants in Hz, (milliseconds, 3).
        scale: Factor on the higher formants, which stand still.
        tilt: Corner frequency of the low-pass in Hz.

    Returns:
        Numerators (blocks, 1) and denominators (blocks, order + 1) in powers of
        z^-1, for `filter_blocks`; the gain at 0 Hz is 1.
    """
    rows = formants[_block_centres(len(formants))]
    higher = _HIGHER_FORMANTS * scale
    higher = higher[higher < 0.95 * SAMPLE_RATE / 2]
    rows = np.hstack([rows, np.broadcast_to(higher, (len(rows), len(higher)))])
    pole = np.exp(-2 * np.pi * tilt / SAMPLE_RATE)
    numerator = np.full((len(rows), 1), 1 - pole)
    denominator = np.tile([1.0, -pole], (len(rows), 1))
    for frequency in rows.T:
        section = _resonator(frequency, 50 + 0.04 * frequency)
        numerator = numerator * section.sum(axis=1, keepdims=True)
        denominator = _multiply(denominator, section)
    return numerator, denominator


def constriction_filter(centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the filter that shapes white noise into frication.

    Args:
        centre: Spectral peak in Hz, (milliseconds,).

    Returns:
        Numerators and denominators like those of `tract_filter`, with unit power
        gain, so that an amplitude means the same for every fricative.
    """
    frequency = centre[_block_centres(len(centre))]
    section = _resonator(frequency, 0.3 * frequency)
    numerator = np.tile([1.0, -1.0], (len(section), 1))
    response = fft.rfft(numerator, 256) / fft.rfft(section, 256)
    power = np.mean(np.abs(response) ** 2, axis=1, keepdims=True)
    return numerator / np.sqrt(power), section


def filter_blocks(
    samples: np.ndarray, numerator: np.ndarray, denominator: np.ndarray
) -> np.ndarray:
    """Filter with coefficients that change from block to block.

    Every windowed block goes through its own filter and rings out over the
    following ones (overlap-add), so the sound has no steps where targets change.

    Args:
        samples: Sound at 16 kHz, (samples,).
        numerator: One row of coefficients for every 128 samples, from sample 0 on
            to the first block centre at or past the end.
        denominator: The same for the poles.

    Returns:
        The filtered sound, (samples,).
    """
    blocks = len(numerator)
    padded = np.zeros((blocks + 1) * _HOP)
    padded[_HOP : _HOP + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, _BLOCK)[::_HOP]
    heard = frames.any(axis=1)
    spectra = fft.rfft(frames[heard] * signal.windows.hann(_BLOCK, sym=False), _FFT)
    spectra *= fft.rfft(numerator[heard], _FFT) / fft.rfft(denominator[heard], _FFT)
    filtered = np.zeros((blocks, _FFT))
    filtered[heard] = fft.irfft(spectra, _FFT)
    result = np.zeros((blocks + _FFT // _HOP) * _HOP)
    for part in range(_FFT // _HOP):
        piece = filtered[:, part * _HOP : (part + 1) * _HOP].reshape(-1)
        result[part * _HOP : part * _HOP + len(piece)] += piece
    return result[_HOP : _HOP + len(samples)]


def _block_centres(milliseconds: int) -> np.ndarray:
    """Return the millisecond at the centre of every block."""
    count = -(-milliseconds * STEP // _HOP) + 1
    return np.minimum(np.arange(count) * _HOP // STEP, milliseconds - 1)


def _resonator(frequency: np.ndarray, bandwidth: np.ndarray) -> np.ndarray:
    """Return the denominators 1 - 2 r cos(w) z^-1 + r^2 z^-2 of a resonance."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    middle = -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE)
    return np.stack([np.ones_like(radius), middle, radius**2], axis=1)


def _multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the row-wise product of two polynomials."""
    product = np.zeros((len(left), left.shape[1] + right.shape[1] - 1))
    for power, column in enumerate(right.T):
        product[:, power : power + left.shape[1]] += left * column[:, None]
    return product
