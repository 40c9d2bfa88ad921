"""Where a network looks: gates, weights of the levels, and what a frame changes."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from lib.models.layers import StaticAttention, WeightedFusion
from lib.models.timnet import TemporalAwareBlock

BATCH = 64


def blocks(model: keras.Model) -> list[TemporalAwareBlock]:
    """Return the temporal-aware blocks of a network, in order."""
    return [layer for layer in model.layers if isinstance(layer, TemporalAwareBlock)]


def gates(model: keras.Model, clips: np.ndarray) -> list[np.ndarray]:
    """Return what every temporal-aware block multiplies its input by.

    Args:
        model: TIM-Net or a system made of its blocks.
        clips: float32, (clips, frames, coefficients).

    Returns:
        For each block an array (branches, clips, frames, channels).
    """
    found = blocks(model)
    inputs = answers(keras.Model(model.input, [block.input for block in found]), clips)
    return [
        ops.convert_to_numpy(block.gate(value)).swapaxes(1, 2)[
            ..., : block.settings["filters"]
        ]
        for block, value in zip(found, inputs, strict=True)
    ]


def fusion(model: keras.Model) -> np.ndarray:
    """Return the learned weights of the levels, (levels,)."""
    layer = _only(model, WeightedFusion)
    return ops.convert_to_numpy(layer.kernel)[:, 0]


def attention(model: keras.Model, clips: np.ndarray) -> np.ndarray:
    """Return how the static attention weighs the levels of each clip.

    Args:
        model: A network with one such layer.
        clips: float32, (clips, frames, coefficients).

    Returns:
        Weights (clips, levels); rows sum to 1.
    """
    layer = _only(model, StaticAttention)
    (levels,) = answers(keras.Model(model.input, [layer.input]), clips)
    return ops.convert_to_numpy(layer.attention(levels))


def kernel(model: keras.Model, frames: int, block: int = 1) -> np.ndarray:
    """Return the first generated kernel of a block of CkTIM-net, reading forwards.

    Args:
        model: CkTIM-net with continuous kernels.
        frames: Length of the clip, and so of the kernel.
        block: Number of the block.

    Returns:
        (frames, in, out) from the oldest frame to the present one, normalised by its
        own statistics, as in training.
    """
    layer = model.get_layer(f"block_{block}").convolutions[0]
    generated = ops.convert_to_numpy(layer.kernel(frames, training=True))
    return generated[0, ::-1]


def footprint(
    model: keras.Model, clip: np.ndarray, *, at: int | None = None
) -> np.ndarray:
    """Return which frames of a clip each block's output at one frame depends on.

    Args:
        model: TIM-Net or a system made of its blocks.
        clip: float32, (frames, coefficients).
        at: The frame looked at; None for the middle one.

    Returns:
        Mean change over the channels when a frame is replaced by the clip's mean
        frame, (branches, blocks, frames); exactly 0 where nothing changes. The
        branch that reads backwards is looked at where it has come to the same
        frame; a shuffled one is left out.
    """
    frames = len(clip)
    at = frames // 2 if at is None else at
    # Read backwards, the frame lies as far from the other end.
    places = (at, frames - 1 - at)
    # As often as the altered ones, so that rounding is the same in both.
    before = _blocks_at(model, np.repeat(clip[None], frames, axis=0), places)
    after = _blocks_at(model, _altered(clip), places)
    return np.abs(after - before).mean(axis=-1)


def _blocks_at(
    model: keras.Model, clips: np.ndarray, places: tuple[int, int]
) -> np.ndarray:
    """Return the blocks' outputs at a frame, (branches, blocks, clips, channels)."""
    inside = keras.Model(model.input, [block.output for block in blocks(model)])
    parts = []
    for start in range(0, len(clips), BATCH):  # of all frames, one is kept
        outputs = answers(inside, clips[start : start + BATCH])
        kept = range(min(len(places), len(outputs[0])))
        parts.append([[out[b, places[b]] for out in outputs] for b in kept])
    return np.concatenate(parts, axis=2)


def sensitivity(
    model: keras.Model,
    clip: np.ndarray,
    *,
    width: int = 5,
    size: float = 0.5,
    patterns: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Return how far a disturbance of each frame moves the embedding of a clip.

    The same disturbance everywhere, so that a quiet frame has no advantage over a
    loud one.

    Args:
        model: Any system.
        clip: float32, (frames, coefficients).
        width: Neighbouring frames that are disturbed together, an odd number.
        size: Of the disturbance, in standard deviations of each coefficient over
            the clip.
        patterns: Number of random disturbances that are averaged.
        seed: Seed of them.

    Returns:
        Mean distance that the embedding moves, as a share of its length,
        (frames,).
    """
    frames = np.arange(len(clip))
    near = np.abs(np.subtract.outer(frames, frames)) <= width // 2
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.float32([-1, 1]), (patterns, 1, 1, clip.shape[1]))
    added = signs * near[..., None] * np.float32(size * clip.std(axis=0))
    altered = (clip + added).reshape(-1, *clip.shape)
    inside = keras.Model(model.input, [model.get_layer("embedding").output])
    (before,), (after,) = answers(inside, clip[None]), answers(inside, altered)
    moved = np.linalg.norm(after - before, axis=-1).reshape(patterns, -1)
    return moved.mean(axis=0) / max(float(np.linalg.norm(before)), 1e-12)


def _altered(clip: np.ndarray) -> np.ndarray:
    """Return the clip without each of its frames in turn, (frames, frames, c)."""
    out = np.eye(len(clip), dtype=bool)[..., None]
    return np.where(out, clip.mean(axis=0), clip).astype(np.float32)


def answers(model: keras.Model, clips: np.ndarray) -> list[np.ndarray]:
    """Return all outputs of a network for clips, computed in batches.

    Args:
        model: A network with a list of outputs.
        clips: float32, (clips, frames, coefficients).

    Returns:
        One array per output. The clips are its first axis or, inside a network
        of several branches, its third.
    """
    parts = []
    for start in range(0, len(clips), BATCH):
        given = model(clips[start : start + BATCH], training=False)
        given = given if isinstance(given, list | tuple) else [given]
        parts.append([ops.convert_to_numpy(out) for out in given])
    return [
        np.concatenate(pieces, axis=2 if pieces[0].ndim == 4 else 0)
        for pieces in zip(*parts, strict=True)
    ]


def _only(model: keras.Model, kind: type[layers.Layer]) -> layers.Layer:
    found = [layer for layer in model.layers if isinstance(layer, kind)]
    if len(found) != 1:
        raise ValueError(f"{model.name} has {len(found)} layers {kind.__name__}")
    return found[0]
