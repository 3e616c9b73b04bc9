"""Which actor has which source: everything about a run's progress that must not be lost; knows nothing of Ray."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from umedfeat.engine.sizes import largest_first

__all__ = ["Holder", "Leases"]

#: Sources that an actor may hold unfinished, whatever their size.
_LEAST = 4
#: Of small ones as many as fill some batches, if they have no more bytes than this; else it would wait between leases.
_SMALL, _SMALL_BYTES = 256, 64 << 20
#: Of any as many as it lately did in so many seconds.
_MOST, _SECONDS = 1024, 10.0
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

    def pace(self, now: float | None = None) -> int:
        """How many sources it lately did."""
        now = time.monotonic() if now is None else now
        while self._paces and self._paces[0][0] < now - _SECONDS:
            self._paces.popleft()
        return sum(count for _, count in self._paces)


class Leases:
    """Every source is waiting, in one holder's hands, or done.

    Args:
        sizes: bytes of every source; the largest are given out first.

    Attributes:
        lost: leases that dead holders had.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = array("q", sizes)
        self._waiting = iter(largest_first(sizes))
        self._next: int | None = next(self._waiting, None)
        self._fresh = len(sizes)
        self._again: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self._out = 0
        self.lost = 0

    @property
    def finished(self) -> bool:
        """Is every source done?"""
        return self._next is None and not self._again and not self._out

    def grant(self, holder: Holder, actors: int = 1) -> list[int]:
        """Give a holder as many sources as it may have; what dead holders had comes first.

        Args:
            actors: of how many none shall have more than its share of what is left.
        """
        granted: list[int] = []
        pace, fair = holder.pace(), -(-(self._fresh + len(self._again) + self._out) // actors)
        held = sum(self._sizes[number] for number in holder.busy)
        while (number := self._next_for(holder)) is not None:
            held += self._sizes[number]
            may = max(pace, _SMALL) if held <= _SMALL_BYTES else pace
            if len(holder.busy) >= max(_LEAST, min(may, fair, _MOST)):
                break
            self._take(number)
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

    def _next_for(self, holder: Holder) -> int | None:
        for number in self._again:
            if not (self._last_chance(number) and any(map(self._last_chance, holder.open))):
                return number
        return self._next

    def _take(self, number: int) -> None:
        if number == self._next:
            self._next = next(self._waiting, None)
            self._fresh -= 1
        else:
            self._again.remove(number)

    def _last_chance(self, number: int) -> bool:
        """Two of these are never in one actor's hands, so that the third death has one culprit."""
        return self._deaths.get(number, 0) == _DEATHS - 1
