"""How much there is to read of each source, as far as a listing tells."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from umedfeat.contract import Source

__all__ = ["bytes_of", "largest_first"]

#: Asking for sizes waits for the disk more than for a core.
_THREADS = 8
#: Sources that a thread asks about in one go: a million tasks of their own would weigh more than the answers.
_AT_ONCE = 1000


def bytes_of(sources: Sequence[Source]) -> list[int]:
    """Bytes of the files of every source; 0 for a file that cannot be asked: reading it will tell why."""
    parts = [sources[first : first + _AT_ONCE] for first in range(0, len(sources), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sizes") as threads:
        return [size for sizes in threads.map(_sizes, parts) for size in sizes]


def largest_first(sizes: Sequence[int]) -> list[int]:
    """Places of the sizes, the largest first; of equal ones in their order."""
    return sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))


def _sizes(sources: Sequence[Source]) -> list[int]:
    return [sum(map(_size, source.files)) for source in sources]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
