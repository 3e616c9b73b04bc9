"""From the deepest map to one vector, in float64: what ``squeezer`` and ``imagenet`` do with torch, without it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.config import Checkpoint, PoolOrder

__all__ = ["Pooling", "pooling_of"]

Numbers = npt.NDArray[np.float64]
#: (tokens, C) float32 of one image → (D,).
Pooling = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]

_EPS = 1e-5


def pooling_of(checkpoint: Checkpoint, order: PoolOrder | None) -> Pooling:
    """The squeezer in one of its orders; with order None the final norm and the mean over the map."""
    if order == "pool_last":
        return _by_torch(checkpoint)
    exact = {
        name: values.astype(np.float64)
        for name, values in checkpoint.arrays.items()
        if name.startswith(("squeezer.", "encoder.norm."))
    }
    return lambda tokens: (_pooled if order is None else _squeezed)(tokens.astype(np.float64), exact)


def _by_torch(checkpoint: Checkpoint) -> Pooling:
    """It convolves every position: torch does that with one thread, numpy with many that fight for the same cores."""
    import torch

    from umedfeat.encoders.networks.squeezer import Squeezer

    squeezer = Squeezer(checkpoint.config, checkpoint.tensors, "pool_last")

    def pool(tokens: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        torch.set_num_threads(1)  # of the calling thread
        with torch.inference_mode():
            vectors: npt.NDArray[np.floating] = squeezer(torch.tensor(tokens).t()[None, :, :, None])[0].numpy()
        return vectors

    return pool


def _pooled(tokens: Numbers, exact: dict[str, Numbers]) -> Numbers:
    centred = tokens - tokens.mean(1, keepdims=True)
    normed = centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + _EPS)
    vector: Numbers = (normed * exact["encoder.norm.weight"] + exact["encoder.norm.bias"]).mean(0)
    return vector


def _squeezed(tokens: Numbers, exact: dict[str, Numbers]) -> Numbers:
    """Mean, 1×1 convolution (where there is one), GroupNorm(1), exact GELU. No BLAS: see ``_by_torch``."""
    vector: Numbers = tokens.mean(0)
    weight = exact.get("squeezer.conv.weight")
    if weight is not None:
        vector = (weight.reshape(len(weight), -1) * vector).sum(1) + exact["squeezer.conv.bias"]
    centred = vector - vector.mean()
    normed = centred / np.sqrt(np.square(centred).mean() + _EPS)
    changed = normed * exact["squeezer.norm.weight"] + exact["squeezer.norm.bias"]
    activated: Numbers = changed * (1 + np.array([math.erf(value / math.sqrt(2)) for value in changed])) / 2
    return activated
