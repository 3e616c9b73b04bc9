"""A child process and its pipe: how it starts, what it says, how it ends. The parent decides; no child outlives it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any

from umedfeat.errors import SetupError

__all__ = ["Child", "kill_at_exit", "live_with_parent", "serving", "unguarded"]

#: Seconds that a killed process may take to vanish (one that waits for a dead disk cannot be killed).
_GRACE = 5
#: Exit code of a child whose script has no main guard.
_UNGUARDED = 86


class Child:
    """A spawned process and our end of its pipe.

    Args:
        target: called in the process with its end of the pipe, then ``arguments``.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        _end_if_unguarded()
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self.process: Any = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def waitables(self) -> Sequence[Any]:
        """What becomes ready (``multiprocessing.connection.wait``) when it has said something, or died."""
        return [self.link, self.process.sentinel]

    def send(self, message: Any) -> None:
        """Hand it a message; one that died just now gets none, which whoever waits for it notices."""
        with contextlib.suppress(OSError):
            self.link.send(message)

    def said(self) -> Iterator[Any]:
        """The messages that lie in the pipe; never waits."""
        with contextlib.suppress(EOFError, OSError):
            while self.link.poll():
                yield self.link.recv()

    def end(self) -> int | None:
        """Kill it, if it still lives, and return its exit code (negative: the signal that ended it)."""
        self.process.kill()
        self.process.join(_GRACE)
        self.link.close()
        code: int | None = self.process.exitcode
        return code

    def close(self) -> None:
        """End it, once or again."""
        self.end()


def unguarded(code: int | None) -> SetupError | None:
    """What to tell where a child ended because the script that started it starts processes again in every child."""
    if code != _UNGUARDED:
        return None
    message = "this script starts its work again in every process that it starts"
    remedy = "put what it does under `if __name__ == '__main__':` (spawned processes import the script anew)"
    return SetupError(message, remedy=remedy)


def _end_if_unguarded() -> None:
    """A process that still imports the main script must not start others: its parent is told by the exit code."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_UNGUARDED)


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Around a child's main loop: it lives with its parent, and a parent that is gone is no error."""
    live_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        yield


def live_with_parent() -> None:
    """Ignore signals that reach the whole group, and end when the parent does, however it ended.

    A child that waits for messages notices by itself that nobody sends any more; one that hangs in a decoder does not.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True, name="parent watch").start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def kill_at_exit(owner: object, children: Iterable[Child]) -> None:
    """Kill what an owner that nobody closed has started, before Python waits for it.

    Python ends forgotten children with SIGTERM, which they ignore, and then waits for them.
    """
    Finalize(owner, _kill, args=(children,), exitpriority=10)


def _kill(children: Iterable[Child]) -> None:
    for child in children:
        child.process.kill()
