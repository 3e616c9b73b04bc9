"""How a child process lives and dies: the parent decides, and no child outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any

__all__ = ["kill_at_exit", "live_with_parent"]


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


def kill_at_exit(owner: object, children: Iterable[Any]) -> None:
    """Kill what an owner that nobody closed has started (objects with a ``process``), before Python waits for it.

    Python ends forgotten children with SIGTERM, which they ignore, and then waits for them.
    """
    Finalize(owner, _kill, args=(children,), exitpriority=10)


def _kill(children: Iterable[Any]) -> None:
    for child in children:
        child.process.kill()
