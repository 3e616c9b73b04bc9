"""One loader for the whole run: worker processes plan sources ahead and read batches that cross them.

::

    submit(Job | Batch) ─→ worker processes ─→ wait() → Planned | Read | Died

Why not torch's DataLoader: a worker that dies takes the whole DataLoader down and does not say what it was reading.
Here a death costs one source: the pool names it, starts a new worker and hands the rest of the work out again.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from umedfeat.engine.local.child import kill_at_exit
from umedfeat.engine.local.slots import Slots
from umedfeat.engine.local.worker import Batch, Job, Planned, Read, Started, serve
from umedfeat.errors import SetupError
from umedfeat.policy import Policy

__all__ = ["Answer", "Died", "WorkerPool", "memory_for", "slot_bytes_for"]

#: Messages in a worker's hands: the one it works on and the next, so that it never waits for the parent.
_DEPTH = 2
_MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class Died:
    """A worker died (or was stopped for taking too long) while it worked on source ``number``."""

    number: int
    reason: str


Answer = Planned | Read | Died


@dataclass(eq=False)
class _Worker:
    process: Any
    link: Connection
    tasks: deque[Job | Batch] = field(default_factory=deque)
    number: int | None = None
    since: float = field(default_factory=time.monotonic)


def slot_bytes_for(policy: Policy, batch_size: int) -> int:
    """Bytes that one batch can need at most under a policy: uint8 tiles or float32 whole images."""
    policy = policy.sized()
    side = max(policy.slide.tile_size, policy.image.size)
    return batch_size * 4 * 3 * side**2


def memory_for(policy: Policy, batch_size: int, workers: int, encoding: int) -> int:
    """Bytes of shared memory that a pool can need at most."""
    return slot_bytes_for(policy, batch_size) * (_DEPTH * workers + encoding)


class WorkerPool:
    """``workers`` processes that plan and read, and the shared memory they read into.

    Args:
        policy: how pixels are read; sent to every worker once.
        workers: number of processes, at least 1.
        slot_bytes: room for one batch (``slot_bytes_for``).
        timeout: seconds a worker may spend on one source within one message before it is stopped as hung.
        encoding: batches that devices hold while the workers read the next ones.
    """

    def __init__(self, policy: Policy, *, workers: int, slot_bytes: int, timeout: float, encoding: int = 2) -> None:
        self.slots = Slots(_DEPTH * workers + encoding, slot_bytes)
        self._policy = policy
        self._timeout = timeout
        self._context = multiprocessing.get_context("spawn")
        self._failed_starts = 0
        self._again: deque[Job | Batch] = deque()
        self._workers = [self._start() for _ in range(workers)]
        kill_at_exit(self, self._workers)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers and free the memory."""
        for worker in self._workers:
            worker.process.kill()
            worker.link.close()
        for worker in self._workers:
            worker.process.join(timeout=5)
        self.slots.close()

    @property
    def room(self) -> int:
        """How many messages the workers can take now without queueing deeper than one ahead."""
        return sum(max(0, _DEPTH - len(worker.tasks)) for worker in self._workers) - len(self._again)

    @property
    def batches_out(self) -> int:
        """Batches that are with the workers or wait to be handed out again."""
        tasks = [task for worker in self._workers for task in worker.tasks]
        return sum(isinstance(task, Batch) for task in [*tasks, *self._again])

    def submit(self, message: Job | Batch) -> None:
        """Hand a message to the least busy worker."""
        worker = min(self._workers, key=lambda w: len(w.tasks))
        if not worker.tasks:
            worker.since = time.monotonic()
        worker.tasks.append(message)
        try:
            worker.link.send(message)
        except OSError:  # it died just now; wait() notices and hands its tasks out again
            return

    def wait(self, timeout: float, also: Sequence[Any] = ()) -> list[Answer]:
        """Answers that came in, after at most ``timeout`` seconds; ``also``: objects whose readiness ends the wait."""
        while self._again:
            self.submit(self._again.popleft())
        links = {worker.link: worker for worker in self._workers}
        sentinels = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*links, *sentinels, *also], timeout)
        answers: list[Answer] = []
        for link in (thing for thing in ready if thing in links):
            answers += self._receive(links[link])
        for sentinel in (thing for thing in ready if thing in sentinels):
            answers += self._bury(sentinels[sentinel], "its reading process crashed or was killed")
        return answers + self._stop_the_hung()

    def _stop_the_hung(self) -> list[Answer]:
        answers: list[Answer] = []
        for worker in list(self._workers):
            if worker.tasks and time.monotonic() - worker.since > self._timeout:
                worker.process.kill()
                worker.process.join()
                answers += self._bury(worker, f"reading it took longer than {self._timeout:.0f} s")
        return answers

    def _receive(self, worker: _Worker) -> list[Answer]:
        answers: list[Answer] = []
        try:
            while worker.link.poll():
                message = worker.link.recv()
                worker.since = time.monotonic()
                self._failed_starts = 0
                if isinstance(message, Started):
                    worker.number = message.number
                    continue
                worker.tasks.popleft()
                worker.number = None
                answers.append(message)
        except (EOFError, OSError):  # the sentinel tells the rest
            return answers
        return answers

    def _bury(self, worker: _Worker, reason: str) -> list[Answer]:
        """Replace a dead worker: the source it worked on is lost, everything else it had is handed out again."""
        answers = self._receive(worker)
        worker.link.close()
        worker.process.join()
        if worker.number is None:
            self._count_failed_start(worker)
        else:
            answers.append(Died(worker.number, f"{reason} (exit code {worker.process.exitcode})"))
        self._again.extend(rest for task in worker.tasks if (rest := self._without(task, worker.number)))
        self._workers[self._workers.index(worker)] = self._start()
        return answers

    def _count_failed_start(self, worker: _Worker) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise SetupError(
                f"the reading processes do not start (exit code {worker.process.exitcode})",
                remedy="in a script, call extract() under `if __name__ == '__main__':`; else check the memory limits",
            )

    def _without(self, task: Job | Batch, culprit: int | None) -> Job | Batch | None:
        if isinstance(task, Job):
            return None if task.number == culprit else task
        rest = tuple(segment for segment in task.segments if segment.number != culprit)
        if not rest:
            self.slots.give_back(task.slot)
            return None
        return replace(task, segments=rest)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        view = self.slots.view()
        process = self._context.Process(target=serve, args=(theirs, self._policy, view), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)
