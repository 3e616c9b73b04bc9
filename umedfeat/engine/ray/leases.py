"""Which actor has which source: everything about a run's progress that must not be lost; knows nothing of Ray."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Holder", "Leases"]

#: Sources that an actor may hold unfinished; of small ones as many as it lately did in so many seconds.
_LEAST, _MOST, _SECONDS = 4, 1024, 10.0
#: The death of so many actors with one source is that source's failure.
_DEATHS = 3


@dataclass(eq=False)
class Holder:
    """What an actor has in its hands.

    Attributes:
        open: given to it and not safe yet.
        busy: those of them that it has not computed yet.
    """

    open: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    _paces: deque[tuple[float, int]] = field(default_factory=deque)

    def computed(self, numbers: Iterable[int], now: float | None = None) -> None:
        """It needs no more time for these."""
        done = self.busy.intersection(numbers)
        self.busy -= done
        self._paces.append((time.monotonic() if now is None else now, len(done)))

    def room(self, now: float | None = None) -> int:
        """How many sources more it may get."""
        now = time.monotonic() if now is None else now
        while self._paces and self._paces[0][0] < now - _SECONDS:
            self._paces.popleft()
        pace = sum(count for _, count in self._paces)
        return max(_LEAST, min(_MOST, pace)) - len(self.busy)


class Leases:
    """Every source is waiting, in one holder's hands, or done.

    Args:
        order: the numbers of all sources, in the order in which they are given out.
    """

    def __init__(self, order: Iterable[int]) -> None:
        self._waiting = iter(order)
        self._next: int | None = next(self._waiting, None)
        self._again: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self._out = 0
        self.lost = 0

    @property
    def finished(self) -> bool:
        """Is every source done?"""
        return self._next is None and not self._again and not self._out

    def grant(self, holder: Holder) -> list[int]:
        """Give a holder as many sources as it has room for; what dead holders had comes first."""
        granted: list[int] = []
        room = holder.room()
        while len(granted) < room and (number := self._take(holder)) is not None:
            granted.append(number)
            holder.open.add(number)
            holder.busy.add(number)
            self._out += 1
        return granted

    def close(self, holder: Holder, number: int) -> bool:
        """A source is done; False if this holder does not have it."""
        if number not in holder.open:
            return False
        holder.open.discard(number)
        holder.computed((number,))
        self._deaths.pop(number, None)
        self._out -= 1
        return True

    def bury(self, holder: Holder, *, blame: bool = True) -> list[int]:
        """A holder is gone: what it had is given out again, but for those that this was one death too many for.

        Args:
            blame: may one of its sources be the reason?
        """
        failed: list[int] = []
        for number in sorted(holder.open):
            self._deaths[number] = self._deaths.get(number, 0) + blame
            if self._deaths[number] < _DEATHS:
                self._again.append(number)
            else:
                failed.append(number)
                del self._deaths[number]
        self.lost += len(holder.open)
        self._out -= len(holder.open)
        holder.open.clear()
        holder.busy.clear()
        return failed

    def _take(self, holder: Holder) -> int | None:
        for number in self._again:
            if not (self._last_chance(number) and any(map(self._last_chance, holder.open))):
                self._again.remove(number)
                return number
        fresh, self._next = self._next, next(self._waiting, None)
        return fresh

    def _last_chance(self, number: int) -> bool:
        """Two of these are never in one actor's hands, so that the third death has one culprit."""
        return self._deaths.get(number, 0) == _DEATHS - 1
