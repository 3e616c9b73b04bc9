"""One step ahead: what comes next is made in a thread while the present is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


def ahead(things: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same things in the same order, at most ``depth`` of them made in advance.

    An error of the maker is raised in its place. Closing the iterator early ends the thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    over = threading.Event()

    def put(thing: T | None, error: BaseException | None) -> None:
        while not over.is_set():
            try:
                ready.put((thing, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def make() -> None:
        fault: BaseException | None = None
        try:
            for thing in things:
                put(thing, None)
                if over.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the things are asked for
            fault = error
        put(None, fault or StopIteration())

    thread = threading.Thread(target=make, daemon=True, name="ahead")
    thread.start()
    try:
        while True:
            thing, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield thing  # type: ignore[misc]
    finally:
        over.set()
        thread.join()
