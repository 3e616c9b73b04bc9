"""A child process that does one dangerous thing after another, and a parent that outlives its crashes and hangs."""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: The first task of a process waits for its imports, too.
_IMPORT_SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a thing ended. ``what``: class of the error, or its traceback."""

    kind: str
    what: str = ""
    seconds: float = 0.0
    peak_mib: int = 0


def judged(action: Callable[[], Outcome]) -> Outcome:
    """Do it; whatever escapes is a finding. Adds seconds, and the peak memory of this process so far."""
    begin = time.perf_counter()
    try:
        outcome = action()
    except MemoryError:
        outcome = Outcome("memory", traceback.format_exc())
    except Exception:  # noqa: BLE001 - every exception that is not named is a finding
        outcome = Outcome("unnamed", traceback.format_exc())
    return replace(outcome, seconds=time.perf_counter() - begin, peak_mib=_peak_mib())


def _peak_mib() -> int:
    """Peak memory of this process in MiB; ru_maxrss would still hold that of the process it was forked from."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024


def _limited(serve: Callable[..., None], link: Connection, limit_bytes: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    serve(link, seed)


class Child:
    """One child process under an address-space limit, started again after a crash or a hang.

    Args:
        serve: runs in the child, called with a connection and ``seed``: receives tasks until None comes, and sends an
            (answer, Outcome) for each.
        seconds: a task that takes longer is a hang.
    """

    def __init__(self, serve: Callable[..., None], seed: int, *, limit_bytes: int, seconds: float) -> None:
        self._arguments, self._seconds = (serve, limit_bytes, seed), seconds
        self._start()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        serve, limit_bytes, seed = self._arguments
        self._process = context.Process(target=_limited, args=(serve, theirs, limit_bytes, seed), daemon=True)
        self._process.start()
        theirs.close()
        self._patience = _IMPORT_SECONDS

    def run(self, task: Any) -> tuple[str, Outcome]:
        """(answer, outcome) of one task; crash and hang are told by the parent, with "?" for the answer."""
        self._link.send(task)
        kind = "hang"
        try:
            if self._link.poll(self._seconds + self._patience):
                self._patience = 0.0
                answer: tuple[str, Outcome] = self._link.recv()
                return answer
        except (EOFError, ConnectionResetError):
            kind = "crash"
            self._process.join(5)
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._start()
        return "?", Outcome(kind, f"exit code {code}", self._seconds)

    def close(self) -> None:
        """Stop it."""
        self._link.send(None)
        self._process.join()
