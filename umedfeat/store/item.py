"""One embedded input on its way into a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Plan, Source
from umedfeat.errors import OutputError
from umedfeat.store.schema import Grid

__all__ = ["Item", "item_row", "mean_embedding", "refuse_unstorable"]

_BLOCK = 8192


@dataclass(frozen=True)
class Item:
    """A source, its plan (kept regions only), its (n, D) features, and what was dropped.

    ``tokens``: (n, rows, columns, C) where the file holds such grids.
    """

    source: Source
    plan: Plan
    features: npt.NDArray[np.floating[Any]]
    dropped: tuple[Dropped, ...] = ()
    tokens: npt.NDArray[np.floating[Any]] | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        plan: Plan,
        given: npt.NDArray[np.floating[Any]],
        dropped: tuple[Dropped, ...],
        dim: int,
        grid: Grid | None,
    ) -> Item:
        """Of what an encoder gave: (n, D) features, behind which each region's tokens stand where there is a grid."""
        if grid is None:
            return cls(source, plan, given, dropped)
        return cls(source, plan, given[:, :dim], dropped, given[:, dim:].reshape(len(given), *grid))

    @property
    def nbytes(self) -> int:
        """Of its rows."""
        grids = 0 if self.tokens is None else self.tokens.nbytes
        return self.features.nbytes + self.plan.regions.nbytes + grids


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
        "series": source.series,
        "accession": source.accession,
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
        "files_sha256": plan.files_sha256,
        "files_stat": plan.files_stat,
        "rows_sha256": checksum,
        "detail": json.dumps(plan.detail, sort_keys=True, default=str),
    }


def mean_embedding(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(D,) mean over rows, summed in float64; zeros for an item without rows."""
    total = np.zeros(features.shape[1], dtype=np.float64)
    for first in range(0, len(features), _BLOCK):
        total += np.asarray(features[first : first + _BLOCK], dtype=np.float64).sum(axis=0)
    return (total / max(1, len(features))).astype(np.float32)


def refuse_unstorable(item: Item, dim: int, dtype: str, grid: Grid | None = None) -> None:
    """Features must be (n, D), finite, and within the range of the file's dtype; tokens there where the file has them.

    Raises:
        OutputError: they are not.
    """
    name, rows = item.source.name, len(item.plan.regions)
    if item.features.shape != (rows, dim):
        raise OutputError(f"{name}: features {item.features.shape} do not fit {rows} rows × {dim} values")
    tokens = None if item.tokens is None else item.tokens.shape
    if tokens != (None if grid is None else (rows, *grid)):
        raise OutputError(f"{name}: tokens {tokens} do not fit {rows} rows of {grid}")
    limit = float(np.finfo(dtype).max)
    for first in range(0, rows, _BLOCK):
        block = item.features[first : first + _BLOCK]
        if not (np.abs(block) <= limit).all():  # False for NaN too
            fault = f"values beyond {limit:g}, the largest {dtype}" if np.isfinite(block).all() else "NaN or infinity"
            remedy = "use --dtype float32" if np.isfinite(block).all() else "try --precision fp32"
            raise OutputError(f"{name}: features with {fault} are not written", remedy=remedy)
