"""What the columns of the items must tell for anything to be done with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from umedfeat.store.table import Table

__all__ = ["item_faults"]

_NOT_NEGATIVE = ("width", "height", "depth", "n_dropped", "tile_extent")


def item_faults(items: Table, n_rows: int) -> Iterator[str]:
    """Faults of /items, one line each: ids sorted and unique, rows consecutive and all owned, sizes possible."""
    ids, counts = items["id"], items["count"]
    if any(a >= b for a, b in itertools.pairwise(ids)):
        yield "items/id: not sorted, or an id stands twice"
    if (counts < 0).any() or (counts > n_rows).any() or not np.array_equal(items["start"], np.cumsum(counts) - counts):
        yield "items/start, items/count: the items' rows are not consecutive"
    elif counts.sum() != n_rows:
        yield f"items/count: the items own {counts.sum()} rows of {n_rows}"
    wrong = {f"{name}: negative": items[name] < 0 for name in _NOT_NEGATIVE}
    wrong |= {f"{name}: not positive": items[name] <= 0 for name in ("mpp_x", "mpp_y")}
    wrong |= {f"{name}: infinite": np.isinf(items[name]) for name in ("mpp_x", "mpp_y", "tile_extent")}
    wrong |= {"tile_extent: not a number": np.isnan(items["tile_extent"])}
    for fault, where in wrong.items():
        yield from (f"{ids[number]}: items/{fault}" for number in np.flatnonzero(where))
