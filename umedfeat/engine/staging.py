"""Objects at URLs are brought to this machine before the loop takes them, the next ones while the encoder works."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from umedfeat.contract import Source
from umedfeat.engine.bell import Bell
from umedfeat.engine.messages import Unavailable
from umedfeat.engine.protocols import Supply
from umedfeat.errors import InputError, TooLarge
from umedfeat.remote.fetch import fetch
from umedfeat.terminal.tables import human_bytes

__all__ = ["Staged"]

#: Files that are fetched at once, and sources that are fetched ahead.
_THREADS, _AHEAD = 8, 32


class Staged:
    """A supply whose sources are all on this machine when they are taken; local ones pass through.

    Args:
        supply: where they come from.
        room: bytes on disk that may lie here at once, those that are being read included.
    """

    def __init__(self, supply: Supply, room: int) -> None:
        self._supply, self._room = supply, room
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._stop = threading.Event()
        self._bell = Bell()
        self._next: Source | None = None
        self._coming: deque[Source] = deque()
        self._fetched: dict[Path, Future[None]] = {}
        self._users: Counter[Path] = Counter()
        self._used = 0

    @property
    def ended(self) -> bool:
        return self._supply.ended and self._next is None and not self._coming

    @property
    def waitables(self) -> Sequence[Any]:
        return [*self._supply.waitables, self._bell.waitable]

    def take(self) -> Source | Unavailable | None:
        """A source whose files are all there: the first that is, not the first that was asked for."""
        self._bell.hush()
        refused = self._fetch_ahead()
        if refused is not None:
            return refused
        for source in self._coming:
            if all(self._fetched[file.place].done() for file in source.remote):
                self._coming.remove(source)
                return self._arrived(source)
        return None

    def release(self, source: Source) -> None:
        """The source was read, or will not be: what nobody else needs of its files is removed."""
        self._supply.release(source)
        for file in source.remote:
            self._users[file.place] -= 1
            if self._users[file.place] == 0:
                del self._users[file.place], self._fetched[file.place]
                self._used -= file.size
                file.place.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop fetching."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._bell.close()

    def _fetch_ahead(self) -> Unavailable | None:
        while len(self._coming) < _AHEAD:
            if self._next is None:
                taken = self._supply.take()
                if not isinstance(taken, Source):
                    return taken
                self._next = taken
            size = sum(file.size for file in self._next.remote if file.place not in self._fetched)
            if size > self._room:
                source, self._next = self._next, None
                return Unavailable(source, self._too_large(source, size))
            if self._used + size > self._room:
                return None  # until something is released
            self._coming.append(self._next)
            self._fetch(self._next)
            self._next = None
        return None

    def _fetch(self, source: Source) -> None:
        for file in source.remote:
            self._users[file.place] += 1
            if file.place not in self._fetched:
                self._used += file.size
                self._fetched[file.place] = self._threads.submit(fetch, file, self._stop)
                self._fetched[file.place].add_done_callback(lambda _: self._bell.ring())

    def _arrived(self, source: Source) -> Source | Unavailable:
        faults = [fault for file in source.remote if (fault := self._fetched[file.place].exception()) is not None]
        for fault in faults:
            if not isinstance(fault, InputError):
                raise fault
        if not faults:
            return source
        self.release(source)
        return Unavailable(source, faults[0])  # type: ignore[arg-type]  # looked at above

    def _too_large(self, source: Source, size: int) -> TooLarge:
        message = f"{source.name}: {human_bytes(size)}, more than the scratch space ({human_bytes(self._room)})"
        return TooLarge(message, remedy="raise --scratch-size, with --scratch on a larger disk")
