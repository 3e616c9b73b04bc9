"""The same work on many files with a limit for each: a disk that hangs at one of them holds up nothing else.

Threads, because a file that hangs cannot be told from a slow one but by waiting, and what hangs is the operating
system, which lets the other threads run. A thread that is overdue is left behind (it is a daemon, so that it does not
keep the process alive either) and another one takes its place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Overdue", "each_in_time", "in_time"]

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_THREADS = 8
_MOST_AT_ONCE = 64
_SHORTEST = 5.0


@dataclass(frozen=True)
class Overdue:
    """In place of a result: there was none after so many seconds."""

    seconds: float


def in_time(function: Callable[[Thing], Result], thing: Thing, seconds: float) -> Result | Overdue:
    """One call with a limit."""
    return each_in_time(function, [thing], seconds)[0]


def each_in_time(
    function: Callable[[Thing], Result], things: Sequence[Thing], seconds: float
) -> list[Result | Overdue]:
    """``[function(thing) for thing in things]``, several at once, each with a limit of ``seconds``.

    The more have hung, the shorter the others may take (not below 5 s, or ``seconds`` where that is less), so that a
    disk that answers nothing at all ends, too. What ``function`` raises is raised here.
    """
    return _Lanes(function, things, seconds).run() if things else []


@dataclass(eq=False)
class _Lane:
    """What a thread works at: number ``at`` of ``numbers``, begun at ``since`` on the clock of the lanes."""

    numbers: range
    since: float
    at: int = 0
    ended: bool = False
    left_behind: bool = False


class _Lanes(Generic[Thing, Result]):
    def __init__(self, function: Callable[[Thing], Result], things: Sequence[Thing], seconds: float) -> None:
        self._function, self._things, self._seconds = function, things, seconds
        at_once = max(1, min(_MOST_AT_ONCE, len(things) // (4 * _THREADS)))
        numbers = range(len(things))
        self._todo = deque(numbers[first : first + at_once] for first in range(0, len(things), at_once))
        self._open = len(self._todo)
        self._results: list[Any] = [None] * len(things)
        self._ended: queue.SimpleQueue[tuple[_Lane, BaseException | None]] = queue.SimpleQueue()
        self._running: list[_Lane] = []
        self._overdue = 0
        self._awake, self._looked = 0.0, time.monotonic()

    def run(self) -> list[Result | Overdue]:
        while self._open:
            while self._todo and len(self._running) < _THREADS:
                self._start(self._todo.popleft())
            self._take_one_that_ended(min(0.5, self._limit / 4))
            self._pass_time()
            self._leave_behind_the_overdue()
        return self._results

    def _take_one_that_ended(self, wait: float) -> None:
        try:
            lane, error = self._ended.get(timeout=wait)
        except queue.Empty:
            return
        if lane.left_behind:
            return
        self._running.remove(lane)
        self._open -= 1
        if error is not None:
            raise error

    def _pass_time(self) -> None:
        """Seconds during which this process could run: one that was stopped for an hour has not waited for an hour."""
        now = time.monotonic()
        self._awake += min(now - self._looked, 1.0)
        self._looked = now

    @property
    def _limit(self) -> float:
        return max(min(_SHORTEST, self._seconds), self._seconds / (1 + self._overdue))

    def _start(self, numbers: range) -> None:
        lane = _Lane(numbers, self._awake)
        self._running.append(lane)
        threading.Thread(target=self._work, args=(lane,), daemon=True, name="discovery").start()

    def _work(self, lane: _Lane) -> None:
        error = None
        try:
            for number in lane.numbers:
                lane.since, lane.at = self._awake, number
                self._results[number] = self._function(self._things[number])
                if lane.left_behind:
                    return
        except BaseException as raised:  # noqa: BLE001 - handed to the caller's thread
            error = raised
        lane.ended = True
        self._ended.put((lane, error))

    def _leave_behind_the_overdue(self) -> None:
        limit = self._limit
        for lane in list(self._running):
            if lane.ended or self._awake - lane.since <= limit:
                continue
            lane.left_behind = True
            self._running.remove(lane)
            self._results[lane.at] = Overdue(limit)
            self._overdue += 1
            rest = range(lane.at + 1, lane.numbers.stop)
            if rest:
                self._todo.appendleft(rest)
            else:
                self._open -= 1
