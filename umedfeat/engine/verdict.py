"""Is a fully read and embedded source good enough to be stored?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umedfeat.engine.batching import Pending
from umedfeat.engine.buffers import rows_at_once
from umedfeat.errors import InputError, NotFinite, UnreadableInput

__all__ = ["fault_of"]


def fault_of(pending: Pending, max_unreadable: float, dtype: str) -> InputError | None:
    """Why a fully read source is not good enough, if so."""
    total, lost = len(pending.plan.regions), len(pending.dropped)
    name = pending.source.name
    if lost > max_unreadable * total:
        example = next(iter(pending.dropped.values())).reason
        return UnreadableInput(
            f"{name}: {lost} of {total} regions are unreadable ({example})",
            remedy="copy the file again from its origin; --max-unreadable raises the limit",
        )
    return _beyond_range(name, pending.features, dtype)


def _beyond_range(name: str, features: npt.NDArray[np.float32], dtype: str) -> NotFinite | None:
    """NaN, infinity, or values that the file's dtype cannot hold."""
    limit = float(np.finfo(dtype).max)
    largest, size = 0.0, rows_at_once(features)
    for first in range(0, len(features), size):
        block = features[first : first + size]
        if not np.isfinite(block).all():
            return NotFinite(f"{name}: the encoder gave NaN or infinity", remedy="try --precision fp32, or look at it")
        largest = max(largest, float(np.abs(block).max(initial=0.0)))
    if largest > limit:
        return NotFinite(f"{name}: a feature of {largest:g} does not fit {dtype}", remedy="use --dtype float32")
    return None
