"""How far a training is, and what follows from it: the rate and the size of the images."""

from __future__ import annotations

import math

from umedfeat.pretraining.settings import TrainSettings

__all__ = ["image_size", "learning_rate", "progress"]

_SHARE = 0.75  # of what is left, for every size of image but the last


def progress(settings: TrainSettings, done: int, seconds: float) -> float:
    """0 at the start, 1 at the end: by rounds where their number is given, else by the clock."""
    if settings.rounds is not None:
        return min(1.0, done / settings.rounds)
    return min(1.0, seconds / (60 * settings.minutes))


def learning_rate(settings: TrainSettings, done: int, share: float) -> float:
    """Of the encoder: a linear warm-up over rounds, times a cosine that falls to zero over the whole run."""
    warm = min(1.0, (done + 1) / max(1, settings.warmup))
    return settings.lr * warm * 0.5 * (1 + math.cos(math.pi * share))


def image_size(settings: TrainSettings, share: float) -> int:
    """Small images first, larger ones at the end."""
    left = 1.0
    for size in settings.image_sizes[:-1]:
        left *= 1 - _SHARE
        if share < 1 - left:
            return size
    return settings.image_sizes[-1]
