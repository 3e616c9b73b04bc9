"""Where the sources of a run come from: listed before it begins, or handed in while it goes on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from umedfeat.contract import Source
from umedfeat.engine.bell import Bell

__all__ = ["Fed", "Listed"]


class Listed:
    """All of them, in order."""

    waitables: Sequence[Any] = ()

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._taken = 0

    @property
    def ended(self) -> bool:
        return self._taken == len(self._sources)

    def take(self) -> Source | None:
        if self.ended:
            return None
        self._taken += 1
        return self._sources[self._taken - 1]

    def release(self, source: Source) -> None:
        return None


class Fed:
    """Those that other threads hand in, until they say that no more will come."""

    def __init__(self) -> None:
        self._queue: deque[Source] = deque()
        self._guard = threading.Lock()
        self._over = False
        self._bell = Bell()

    def feed(self, sources: Iterable[Source]) -> None:
        """Hand in some more."""
        with self._guard:
            self._queue.extend(sources)
        self._bell.ring()

    def end(self) -> None:
        """No more will come."""
        with self._guard:
            self._over = True
        self._bell.ring()

    @property
    def ended(self) -> bool:
        with self._guard:
            return self._over and not self._queue

    @property
    def waitables(self) -> Sequence[Any]:
        return [self._bell.waitable]

    def take(self) -> Source | None:
        self._bell.hush()
        with self._guard:
            return self._queue.popleft() if self._queue else None

    def release(self, source: Source) -> None:
        return None

    def close(self) -> None:
        """Free the pipe; after the run."""
        self._bell.close()
