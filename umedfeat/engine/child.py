"""How a child process lives and dies: the parent decides, and no child outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

__all__ = ["live_with_parent"]


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
