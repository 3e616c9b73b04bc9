"""Where the sources of a run come from: listed before it begins, or handed in while it goes on."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from umedfeat.contract import Source

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


class Fed:
    """Those that other threads hand in, until they say that no more will come."""

    def __init__(self) -> None:
        self._queue: deque[Source] = deque()
        self._guard = threading.Lock()
        self._over = self._fresh = False
        self._wake, self._wake_writer = multiprocessing.Pipe(duplex=False)

    def feed(self, sources: Iterable[Source]) -> None:
        """Hand in some more."""
        with self._guard:
            self._queue.extend(sources)
            self._ring()

    def end(self) -> None:
        """No more will come."""
        with self._guard:
            self._over = True
            self._ring()

    @property
    def ended(self) -> bool:
        with self._guard:
            return self._over and not self._queue

    @property
    def waitables(self) -> Sequence[Any]:
        return [self._wake]

    def take(self) -> Source | None:
        with self._guard:
            if self._fresh:
                self._wake.recv_bytes()
                self._fresh = False
            return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        """Free the pipe; after the run."""
        self._wake.close()
        self._wake_writer.close()

    def _ring(self) -> None:
        if not self._fresh:
            self._wake_writer.send_bytes(b".")
            self._fresh = True
