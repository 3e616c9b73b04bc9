"""Parts of a run for several machines: which inputs are this one's, decided by the listing alone."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import NamedTuple

from umedfeat.contract import Source
from umedfeat.discovery import Discovery
from umedfeat.engine.sizes import bytes_of, largest_first
from umedfeat.store.shard import Shard

__all__ = ["Portion", "balanced", "portion_of"]


class Portion(NamedTuple):
    """What of the inputs is this run's.

    Attributes:
        found: everything that was found.
        sources: those to embed, in the order of ``found``.
        shard: which part that is; None for all.
    """

    found: Discovery
    sources: Sequence[Source]
    shard: Shard | None = None


def portion_of(found: Discovery, shard: tuple[int, int] | None) -> Portion:
    """The i-th of n parts of nearly the same number of bytes; the same on every machine that sees the same files."""
    if shard is None:
        return Portion(found, found.sources)
    number, total = shard
    sizes = bytes_of(found.sources)
    parts = balanced(sizes, total)
    mine = tuple(source for source, part in zip(found.sources, parts, strict=True) if part == number - 1)
    return Portion(found, mine, Shard(number, total, _listing(found.sources, sizes)))


def balanced(sizes: Sequence[int], total: int) -> list[int]:
    """The part, 0 ≤ part < total, of every size: the largest first, each to the part that has least so far.

    No part gets more than 4/3 of what the best division would give the fullest one (Graham 1969, longest first).
    """
    parts = [0] * len(sizes)
    loads = [(0, part) for part in range(total)]
    for place in largest_first(sizes):
        load, part = heapq.heappop(loads)
        parts[place] = part
        heapq.heappush(loads, (load + max(1, sizes[place]), part))  # empty files are spread too
    return parts


def _listing(sources: Sequence[Source], sizes: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for source, size in zip(sources, sizes, strict=True):
        digest.update(f"{source.id}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
