"""One loader for the whole run: worker processes plan sources ahead and read batches that cross them.

::

    submit(Job | Visit | Batch) ─→ worker processes ─→ wait() → Planned | Visited | Read | Died

Why not torch's DataLoader: a worker that dies takes the whole DataLoader down and does not say what it was reading.
Here a death costs one source: the pool names it, starts a new worker and hands the rest of the work out again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Any

from umedfeat.engine.local.child import Child, kill_at_exit, unguarded
from umedfeat.engine.local.slots import Slots, SlotView
from umedfeat.engine.local.worker import Awake, Started, serve
from umedfeat.engine.messages import Answer, Batch, Died, Message
from umedfeat.errors import SetupError
from umedfeat.policy import Policy

__all__ = ["Worker", "WorkerPool", "memory_for", "slot_bytes_for"]

#: Messages in a worker's hands: the one it works on and the next, so that it never waits for the parent.
_DEPTH = 2
_MAX_FAILED_STARTS = 3
#: Seconds that idle processes get to end by themselves.
_FAREWELL = 0.5
#: A process that has not come so far as its first message by then hangs in its imports (a dead network disk).
_START_SECONDS = 600.0


class Worker(Child):
    """A worker and what is in its hands. One may be started before it is known what it will do: imports take time.

    Args:
        formats: keys of ``umedfeat.readers.READERS`` that it will meet, as far as that is known.

    Attributes:
        tasks: handed to it and not answered.
        awake: it has imported what it needs and said so.
        number: the source that it works on, None between two.
        since: when it last said something (or was started).
    """

    def __init__(self, formats: Iterable[str] = ()) -> None:
        super().__init__(serve, tuple(formats))
        self.tasks: deque[Message] = deque()
        self.awake = False
        self.number: int | None = None
        self.since = time.monotonic()

    def introduce(self, policy: Policy, slots: SlotView) -> Worker:
        """Tell it how pixels are read, and where they go; before its first task."""
        self.send((policy, slots))
        self.since = time.monotonic()
        return self

    def answers(self) -> list[Answer]:
        """What it has done since it was last asked."""
        done: list[Answer] = []
        for message in self.said():
            self.since, self.awake = time.monotonic(), True
            if isinstance(message, Started):
                self.number = message.number
            elif not isinstance(message, Awake):
                self.tasks.popleft()
                self.number = None
                done.append(message)
        return done

    def overdue(self, timeout: float) -> bool:
        """Does it hang? Only the time on a source counts, not what a busy machine needs to start a process."""
        limit = timeout if self.number is not None else None if self.awake else _START_SECONDS
        return limit is not None and time.monotonic() - self.since > limit


def slot_bytes_for(policy: Policy, batch_size: int) -> int:
    """Bytes that one batch can need at most under a policy: uint8 tiles or float32 whole images."""
    policy = policy.sized()
    side = max(policy.slide.tile_size, policy.image.size)
    return batch_size * 4 * 3 * side**2


def memory_for(policy: Policy, batch_size: int, workers: int, encoding: int) -> int:
    """Bytes of shared memory that a pool can need at most."""
    return slot_bytes_for(policy, batch_size) * (_DEPTH * workers + encoding)


class WorkerPool:
    """At most ``workers`` processes that plan and read, and the shared memory they read into.

    A process is started when all others have something to do: one radiograph needs one.

    Args:
        policy: how pixels are read; sent to every worker once.
        workers: most processes, at least 1.
        slot_bytes: room for one batch (``slot_bytes_for``).
        timeout: seconds a worker may spend on one source within one message before it is stopped as hung.
        encoding: batches that devices hold while the workers read the next ones.
        first: a worker that was started before; the pool's from here on.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        workers: int,
        slot_bytes: int,
        timeout: float,
        encoding: int = 2,
        first: Worker | None = None,
    ) -> None:
        self.slots = Slots(_DEPTH * workers + encoding, slot_bytes)
        self._policy = policy
        self._timeout = timeout
        self._failed_starts = 0
        self._again: deque[Message] = deque()
        self._most = workers
        self._workers: list[Worker] = [] if first is None else [first.introduce(policy, self.slots.view())]
        kill_at_exit(self, self._workers)

    def _start(self) -> Worker:
        self._workers.append(Worker().introduce(self._policy, self.slots.view()))
        return self._workers[-1]

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers and free the memory."""
        self._dismiss_idle()
        for worker in self._workers:
            worker.process.kill()  # all at once, then each is waited for
        for worker in self._workers:
            worker.end()
        self.slots.close()

    def _dismiss_idle(self) -> None:
        """Let those that have nothing to do end by themselves: libraries clear up then (semaphores of numcodecs)."""
        idle = [worker for worker in self._workers if not worker.tasks]
        for worker in idle:
            worker.link.close()
        end = time.monotonic() + _FAREWELL
        for worker in idle:
            worker.process.join(max(0.0, end - time.monotonic()))

    @property
    def room(self) -> int:
        """How many messages the workers can take now without queueing deeper than one ahead."""
        return _DEPTH * self._most - sum(len(worker.tasks) for worker in self._workers) - len(self._again)

    @property
    def batches_out(self) -> int:
        """Batches that are with the workers or wait to be handed out again."""
        tasks = [task for worker in self._workers for task in worker.tasks]
        return sum(isinstance(task, Batch) for task in [*tasks, *self._again])

    @property
    def lane(self) -> int:
        return len(self._workers) if (worker := self._least_busy()) is None else self._workers.index(worker)

    def _least_busy(self) -> Worker | None:
        """Whom the next message goes to; None: to a new one, since all are busy."""
        worker = min(self._workers, key=lambda w: len(w.tasks), default=None)
        return None if worker is None or (worker.tasks and len(self._workers) < self._most) else worker

    def submit(self, message: Message) -> None:
        """Hand a message to the least busy worker, or to a new one if all are busy."""
        worker = self._least_busy() or self._start()
        worker.tasks.append(message)
        worker.send(message)

    def wait(self, timeout: float, also: Sequence[Any] = ()) -> list[Answer]:
        """Answers that came in, after at most ``timeout`` seconds; ``also``: objects whose readiness ends the wait."""
        while self._again:
            self.submit(self._again.popleft())
        ready = wait([*(thing for worker in self._workers for thing in worker.waitables), *also], timeout)
        answers: list[Answer] = []
        for worker in list(self._workers):
            answers += worker.answers()
            if worker.process.sentinel in ready:
                answers += self._bury(worker, "its reading process crashed or was killed")
            elif worker.overdue(self._timeout):
                answers += self._bury(worker, f"reading it took longer than {self._timeout:.0f} s")
        if any(not isinstance(answer, Died) for answer in answers):
            self._failed_starts = 0
        return answers

    def _bury(self, worker: Worker, reason: str) -> list[Answer]:
        """Part with a dead or hung worker: its source is lost, everything else it had is handed out again."""
        worker.process.kill()
        answers = worker.answers()  # what it said before it ended
        code = worker.end()
        if worker.number is None:
            self._count_failed_start(code)
        else:
            answers.append(Died(worker.number, f"{reason} (exit code {code})"))
        self._again.extend(rest for task in worker.tasks if (rest := self._without(task, worker.number)))
        self._workers.remove(worker)
        return answers

    def _count_failed_start(self, code: int | None) -> None:
        if (fault := unguarded(code)) is not None:
            raise fault
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise SetupError(
                f"the reading processes do not start (exit code {code})",
                remedy="check the limits of memory and processes; --debug tells more",
            )

    def _without(self, task: Message, culprit: int | None) -> Message | None:
        if not isinstance(task, Batch):
            return None if task.number == culprit else task
        rest = tuple(segment for segment in task.segments if segment.number != culprit)
        if not rest:
            self.slots.give_back(task.slot)
            return None
        return replace(task, segments=rest)
