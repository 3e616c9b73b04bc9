"""From the deepest map to one vector, on plain arrays in float64: what ``squeezer`` and ``imagenet`` do with torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.config import Checkpoint, PoolOrder

__all__ = ["Pooling", "pooling_of", "wants_float64"]

Tokens = npt.NDArray[np.float64]
#: (tokens, C) of one image → (D,).
Pooling = Callable[[Tokens], Tokens]

_EPS = 1e-5
#: Deepest maps of fewer positions are computed in float64: too few to average the rounding of fp32 away, so that it
#: would be as large as the original's. Such images (up to 96 × 96 pixels) cost little.
_FEW_POSITIONS = 10
_DEEPEST_STRIDE = 32
#: GELU of so many values and more is worth the import of scipy.
_MANY = 4096


def wants_float64(height: int, width: int) -> bool:
    """Are images of this size so small that only float64 keeps the error below that of the original?"""
    return -(-height // _DEEPEST_STRIDE) * -(-width // _DEEPEST_STRIDE) < _FEW_POSITIONS


def pooling_of(checkpoint: Checkpoint, order: PoolOrder | None) -> Pooling:
    """The squeezer in one of its orders; with order None the final norm and the mean over the map."""
    exact = {name: values.astype(np.float64) for name, values in checkpoint.arrays.items() if _is_part(name)}
    if order is None:
        return lambda tokens: _pooled(tokens, exact["encoder.norm.weight"], exact["encoder.norm.bias"])
    return lambda tokens: _squeezed(tokens.mean(0, keepdims=True) if order == "pool_first" else tokens, exact)


def _is_part(name: str) -> bool:
    return name.startswith(("squeezer.", "encoder.norm."))


def _pooled(tokens: Tokens, weight: Tokens, bias: Tokens) -> Tokens:
    centred = tokens - tokens.mean(1, keepdims=True)
    normed = centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + _EPS)
    return (normed * weight + bias).mean(0)  # type: ignore[no-any-return]


def _squeezed(tokens: Tokens, exact: dict[str, Tokens]) -> Tokens:
    """1×1 convolution (where there is one), GroupNorm(1), exact GELU, mean."""
    weight = exact.get("squeezer.conv.weight")
    if weight is not None:
        tokens = _product(tokens, weight.reshape(len(weight), -1)) + exact["squeezer.conv.bias"]
    centred = tokens - tokens.mean()
    normed = centred / np.sqrt(np.square(centred).mean() + _EPS)
    changed = _gelu(normed * exact["squeezer.norm.weight"] + exact["squeezer.norm.bias"])
    return changed.mean(0)  # type: ignore[no-any-return]


def _product(tokens: Tokens, weight: Tokens) -> Tokens:
    """tokens · weightᵀ. For one token without BLAS, whose threads would wait for cores that the encoder uses."""
    if len(tokens) == 1:
        return (weight * tokens).sum(1)[None]  # type: ignore[no-any-return]
    product: Tokens = tokens @ weight.T
    return product


def _gelu(values: Tokens) -> Tokens:
    changed: Tokens = values * (1 + _erf(values / math.sqrt(2))) / 2
    return changed


def _erf(values: Tokens) -> Any:
    if values.size < _MANY:
        return np.array([math.erf(value) for value in values.ravel()]).reshape(values.shape)
    from scipy.special import erf

    return erf(values)
