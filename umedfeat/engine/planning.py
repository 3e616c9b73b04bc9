"""Planning without reading: what a dry run and a preview need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from umedfeat.contract import Plan, Source
from umedfeat.engine.local.pool import Died, WorkerPool
from umedfeat.engine.local.worker import Job, Planned
from umedfeat.errors import InputError, WorkerDied
from umedfeat.policy import Policy

__all__ = ["plan_all"]


def plan_all(
    sources: Sequence[Source], policy: Policy, *, workers: int, timeout: float = 600.0
) -> Iterator[tuple[Source, Plan | InputError]]:
    """Plan every source in worker processes; yields them as they are done, each with its plan or its fault."""
    waiting = deque(range(len(sources)))
    left = len(sources)
    with WorkerPool(policy, workers=min(workers, max(1, left)), slot_bytes=4096, timeout=timeout) as pool:
        while left:
            while waiting and pool.room > 0:
                number = waiting.popleft()
                pool.submit(Job(number, sources[number]))
            for answer in pool.wait(1.0):
                if isinstance(answer, Planned | Died):
                    left -= 1
                    yield sources[answer.number], _outcome(sources[answer.number], answer)


def _outcome(source: Source, answer: Planned | Died) -> Plan | InputError:
    if isinstance(answer, Died):
        return WorkerDied(f"{source.name}: {answer.reason}", remedy="the file may be damaged, or memory too small")
    return answer.plan if answer.plan is not None else answer.error or InputError(f"{source.name}: no plan")
