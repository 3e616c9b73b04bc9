"""Where the tokens of a map lie in a Swin's windows, and what is constant there: plain arrays, whatever computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "Geometry",
    "Key",
    "logit_scale",
    "position_bias",
    "reordering",
    "wants_float64",
    "window_geometry",
]

_MASKED = -100.0
_MAX_LOGIT_SCALE = math.log(100.0)
#: Deepest maps of fewer positions are computed in float64: too few to average the rounding of fp32 away, so that it
#: would be as large as the original's. Such images (up to 96 × 96 pixels) cost little.
_FEW_POSITIONS = 10
_DEEPEST_STRIDE = 32
#: (height, width, window, shifted): see ``Geometry``.
Key = tuple[int, int, int, bool]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the tokens of a (height, width) map lie in its windows.

    Attributes:
        key: (height, width, window, shifted); equal keys, equal geometry.
        order: (height · width,) row-major token at each place of the window order; padding left out.
        slots: (height · width,) place of each of those tokens among the padded windows' slots.
        windows: number of windows; each has ``window²`` slots.
        mask: (windows, window², window²) additive, or None without a shift.
    """

    key: Key
    order: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    windows: int
    mask: npt.NDArray[np.float32] | None

    @property
    def padded(self) -> bool:
        """Are there slots without a token?"""
        return self.windows * self.key[2] ** 2 != len(self.order)


@lru_cache(maxsize=256)
def window_geometry(height: int, width: int, window: int, shifted: bool) -> Geometry:
    """The geometry of one kind of block on one size of map."""
    padded = (-(-height // window) * window, -(-width // window) * window)
    shift = tuple(window // 2 if shifted and window < side else 0 for side in padded)
    tokens = np.full(padded, -1, dtype=np.int64)
    tokens[:height, :width] = np.arange(height * width).reshape(height, width)
    tokens = np.roll(tokens, (-shift[0], -shift[1]), axis=(0, 1))
    slots = _partition(tokens, window).reshape(-1)
    places = np.flatnonzero(slots >= 0)
    mask = _shift_mask(padded, window, shift) if any(shift) else None
    key = (height, width, window, shifted)
    return Geometry(key, slots[places], places, slots.size // window**2, mask)


def _partition(values: npt.NDArray[np.int64], window: int) -> npt.NDArray[np.int64]:
    rows, columns = values.shape[0] // window, values.shape[1] // window
    parts: npt.NDArray[np.int64] = values.reshape(rows, window, columns, window).swapaxes(1, 2)
    return parts.reshape(rows * columns, window**2)


def _shift_mask(padded: Sequence[int], window: int, shift: Sequence[int]) -> npt.NDArray[np.float32]:
    """-100 between tokens that a cyclic shift has brought together from different sides of the map."""
    regions = np.zeros(tuple(padded), dtype=np.int64)
    count = 0
    edges = [
        ((0, side - window), (side - window, side - step), (side - step, side))
        for side, step in zip(padded, shift, strict=True)
    ]
    for top, bottom in edges[0]:
        for left, right in edges[1]:
            regions[top:bottom, left:right] = count
            count += 1
    parts = _partition(regions, window)
    mask: npt.NDArray[np.float32] = np.where(parts[:, None, :] != parts[:, :, None], _MASKED, 0.0).astype(np.float32)
    return mask


def wants_float64(height: int, width: int) -> bool:
    """Are images of this size so small that only float64 keeps the error below that of the original?"""
    return -(-height // _DEEPEST_STRIDE) * -(-width // _DEEPEST_STRIDE) < _FEW_POSITIONS


@lru_cache(maxsize=512)
def reordering(before: Key | None, after: Key | None) -> npt.NDArray[np.int64] | None:
    """For every place of the new order, the place of its token in the old one; a None is the row-major order.

    None where both orders are the same.
    """
    sides = before or after
    row_major = np.arange(sides[0] * sides[1]) if sides else np.arange(0)
    old = window_geometry(*before).order if before else row_major
    new = window_geometry(*after).order if after else row_major
    if np.array_equal(old, new):
        return None
    place = np.empty_like(old)
    place[old] = np.arange(len(old))
    return place[new]


def logit_scale(own: Mapping[str, npt.NDArray[np.float32]], name: str) -> npt.NDArray[np.float64]:
    """(heads, 1, 1): by what the cosine of query and key is multiplied; float64."""
    scale: npt.NDArray[np.float64] = np.exp(np.minimum(own[f"{name}.logit_scale"].astype(np.float64), _MAX_LOGIT_SCALE))
    return scale.reshape(-1, 1, 1)


def position_bias(
    own: Mapping[str, npt.NDArray[np.float32]], name: str, window: int, heads: int
) -> npt.NDArray[np.float64]:
    """(1, heads, window², window²): 16 · sigmoid of the small network over log-spaced offsets; float64."""
    up, down = (own[f"{name}.cpb_mlp.{layer}.weight"].astype(np.float64) for layer in (0, 2))
    steps = np.arange(-(window - 1), window, dtype=np.float64)
    table = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1) / (window - 1) * 8
    table = np.sign(table) * np.log2(np.abs(table) + 1.0) / 3.0
    hidden = np.maximum(table @ up.T + own[f"{name}.cpb_mlp.0.bias"].astype(np.float64), 0)
    values = (hidden @ down.T).reshape(-1, heads)
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    offset = places[:, :, None] - places[:, None, :] + window - 1
    index = offset[0] * (2 * window - 1) + offset[1]
    bias = 16 / (1 + np.exp(-values[index.reshape(-1)]))
    whole: npt.NDArray[np.float64] = bias.reshape(window**2, window**2, heads).transpose(2, 0, 1)[None]
    return whole
