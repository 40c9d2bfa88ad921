"""One clip: its waveform, its features, and what a system makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.plots.look import BLUE, INK, axes, emotion_colours, finish, percent, written


def waveform(
    samples: np.ndarray, sample_rate: int, *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw the samples of a clip over time.

    Args:
        samples: Mono samples, (n,), full scale ±1.
        sample_rate: In Hz.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, height=2.2)
    seconds = np.arange(len(samples)) / sample_rate
    ax.plot(seconds, samples, color=BLUE, linewidth=0.6)
    ax.axhline(0, color=INK, linewidth=0.5)
    ax.set_xlim(0, len(samples) / sample_rate)
    return finish(ax, title, "time (s)", "amplitude\n(full scale = 1)")


def mel_spectrogram(
    samples: np.ndarray,
    sample_rate: int,
    *,
    frame_samples: int = 2048,
    hop_samples: int = 512,
    bands: int = 128,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the mel spectrogram of a clip, in dB below its loudest spot.

    Args:
        samples: Mono samples, (n,).
        sample_rate: In Hz.
        frame_samples: Length of the Hann window.
        hop_samples: Distance of frames.
        bands: Number of mel bands.
        ax: Axis to draw on.
        title: Title.
    """
    import librosa  # slow to import, and needed by this figure alone

    ax = axes(ax)
    power = librosa.feature.melspectrogram(
        y=np.asarray(samples, np.float32),
        sr=sample_rate,
        n_fft=frame_samples,
        hop_length=hop_samples,
        n_mels=bands,
    )
    level = librosa.power_to_db(power, ref=np.max)
    image = librosa.display.specshow(
        level,
        sr=sample_rate,
        hop_length=hop_samples,
        x_axis="time",
        y_axis="mel",
        cmap="magma",
        vmin=-80,
        vmax=0,
        ax=ax,
    )
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label("level (dB, loudest = 0)")
    return finish(ax, title, "time (s)", "frequency (Hz, mel scale)")


def mfcc(
    coefficients: np.ndarray,
    hop_seconds: float,
    *,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the MFCC of a clip as an image.

    c0 and c1 outweigh the others many times over, so the colours end where
    98 % of the values of c2 and above end.

    Args:
        coefficients: (frames, coefficients).
        hop_seconds: Distance of frames in seconds.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax)
    frames, count = coefficients.shape
    rest = coefficients[:, 2:] if count > 2 else coefficients
    limit = float(np.quantile(np.abs(rest), 0.98)) or 1.0
    image = ax.imshow(
        coefficients.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        extent=(0, frames * hop_seconds, -0.5, count - 0.5),
    )
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, extend="both")
    bar.set_label("value (no unit)")
    return finish(ax, title, "time (s)", "coefficient")


def probabilities(
    label_names: Sequence[str],
    p: np.ndarray,
    *,
    true_label: str = "",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw what a system thinks of one clip.

    Args:
        label_names: Emotions in index order.
        p: Probability of each, (classes,).
        true_label: The emotion that was meant, to be marked; "" if unknown.
        ax: Axis to draw on.
        title: Title.
    """
    ax = axes(ax, width=6, height=0.9 + 0.26 * len(label_names))
    colours = emotion_colours(label_names)
    p = np.asarray(p, float)
    colour = [colours[str(name)] for name in label_names]
    bars = ax.barh(range(len(p)), p, color=colour, height=0.75)
    ax.bar_label(bars, [written(value) for value in p], padding=3)
    names = [f"{name} (true)" if name == true_label else name for name in label_names]
    ax.set_yticks(range(len(p)), names)
    for tick, name in zip(ax.get_yticklabels(), label_names, strict=True):
        tick.set_fontweight("bold" if name == true_label else "normal")
    ax.invert_yaxis()
    ax.set_xlim(0, 1.08)
    percent(ax.xaxis)
    return finish(ax, title, "probability")
