"""Independent pieces of work on several cores, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["in_order"]

Work = TypeVar("Work")
Done = TypeVar("Done")


def in_order(function: Callable[[Work], Done], pieces: Iterable[Work], jobs: int) -> Iterator[Done]:
    """Apply a function to every piece on ``jobs`` threads; results come in the order of the pieces.

    The work is linear algebra, which releases the interpreter; each thread gets one core of it, so that the numbers do
    not depend on ``jobs``.
    """
    with _libraries().limit(limits=1):
        if jobs == 1:
            yield from map(function, pieces)
        else:
            with ThreadPoolExecutor(jobs) as pool:
                yield from pool.map(function, pieces)


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of linear algebra, looked up once: it takes longer than a small study."""
    return ThreadpoolController()
