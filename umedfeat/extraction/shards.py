"""Parts of a run for several machines: which inputs are this one's, decided by the listing alone."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from umedfeat.contract import Source
from umedfeat.discovery import Discovery
from umedfeat.store.shard import Shard

__all__ = ["Portion", "balanced", "portion_of"]

#: Asking for sizes waits for the disk more than for a core.
_THREADS = 8


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
    sizes = _sizes(found.sources)
    parts = balanced(sizes, total)
    mine = tuple(source for source, part in zip(found.sources, parts, strict=True) if part == number - 1)
    return Portion(found, mine, Shard(number, total, _listing(found.sources, sizes)))


def balanced(sizes: Sequence[int], total: int) -> list[int]:
    """The part, 0 ≤ part < total, of every size: the largest first, each to the part that has least so far.

    No part gets more than 4/3 of what the best division would give the fullest one (Graham 1969, longest first).
    """
    parts = [0] * len(sizes)
    loads = [(0, part) for part in range(total)]
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        load, part = heapq.heappop(loads)
        parts[place] = part
        heapq.heappush(loads, (load + max(1, sizes[place]), part))  # empty files are spread too
    return parts


def _sizes(sources: Sequence[Source]) -> list[int]:
    """Bytes of the files of every source."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sizes") as threads:
        return list(threads.map(lambda source: sum(map(_size, source.files)), sources))


def _size(path: Path) -> int:
    """0 for a file that cannot be asked: reading it will tell why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _listing(sources: Sequence[Source], sizes: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for source, size in zip(sources, sizes, strict=True):
        digest.update(f"{source.id}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
