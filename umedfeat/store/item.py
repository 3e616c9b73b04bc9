"""One embedded input on its way into a file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError
from umedfeat.items import Dropped, Plan, Source

__all__ = ["Item", "item_row", "mean_embedding", "rows_sha256"]

_BLOCK = 65536


@dataclass(frozen=True)
class Item:
    """A source, its plan (kept regions only), its (n, D) features, and what was dropped."""

    source: Source
    plan: Plan
    features: npt.NDArray[np.floating[Any]]
    dropped: tuple[Dropped, ...] = ()


def item_row(item: Item, checksum: str) -> dict[str, Any]:
    """The item's values for /items, without ``start``."""
    plan, source = item.plan, item.source
    mpp = plan.mpp or (np.nan, np.nan)
    return {
        "id": source.id,
        "source": source.name,
        "format": plan.format,
        "modality": plan.modality,
        "patient": source.patient,
        "study": source.study,
        "start": 0,
        "count": len(item.features),
        "width": plan.width,
        "height": plan.height,
        "depth": plan.depth,
        "mpp_x": mpp[0],
        "mpp_y": mpp[1],
        "mpp_source": plan.mpp_source,
        "spacing": plan.spacing,
        "tile_extent": plan.tile_extent,
        "n_dropped": len(item.dropped),
        "content_sha256": plan.content_sha256,
        "rows_sha256": checksum,
        "detail": json.dumps(plan.detail, sort_keys=True, default=str),
    }


def rows_sha256(features: npt.NDArray[Any], coords: npt.NDArray[Any], slices: npt.NDArray[Any]) -> str:
    """Checksum of an item's rows as stored (little endian, row by row)."""
    digest = hashlib.sha256()
    for first in range(0, len(features), _BLOCK):
        block = slice(first, first + _BLOCK)
        digest.update(np.ascontiguousarray(features[block]).tobytes())
        digest.update(np.ascontiguousarray(coords[block], dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(slices[block], dtype="<i4").tobytes())
    return digest.hexdigest()


def mean_embedding(features: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """(D,) mean over rows, summed in float64; zeros for an item without rows.

    Raises:
        OutputError: a value is not finite.
    """
    total = np.zeros(features.shape[1], dtype=np.float64)
    for first in range(0, len(features), _BLOCK):
        total += np.asarray(features[first : first + _BLOCK], dtype=np.float64).sum(axis=0)
    if not np.isfinite(total).all():
        raise OutputError(f"{name}: features that are not finite are not written", remedy="use --dtype float32")
    return (total / max(1, len(features))).astype(np.float32)
