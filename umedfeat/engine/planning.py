"""Work on sources without an encoder, in worker processes: planning (a dry run) and visiting (pictures)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from umedfeat.contract import Plan, Source
from umedfeat.engine.local.pool import WorkerPool
from umedfeat.engine.messages import Died, Job, Planned, Visit, Visited, Visitor
from umedfeat.errors import InputError, WorkerDied
from umedfeat.policy import Policy

__all__ = ["plan_all", "visit_all"]

#: No pixels pass through the shared memory here.
_SLOT_BYTES = 4096


def plan_all(
    sources: Sequence[Source], policy: Policy, *, workers: int, timeout: float = 600.0
) -> Iterator[tuple[Source, Plan | InputError]]:
    """Plan every source in worker processes; yields them as they are done, each with its plan or its fault."""
    jobs = (Job(number, source) for number, source in enumerate(sources))
    with WorkerPool(
        policy, workers=min(workers, max(1, len(sources))), slot_bytes=_SLOT_BYTES, timeout=timeout
    ) as pool:
        for answer in _work_off(pool, jobs):
            source = sources[answer.number]
            yield source, _died(source, answer) if isinstance(answer, Died) else _outcome(source, answer)


def visit_all(
    pairs: Iterable[tuple[Source, Plan | None]],
    visitor: Visitor,
    policy: Policy,
    *,
    workers: int,
    timeout: float = 600.0,
) -> Generator[tuple[Source, Visited], None, None]:
    """Show every source to ``visitor`` in worker processes; yields them as they are done, with what it returned.

    Args:
        pairs: sources and their plans; those without one are planned first. Taken as there is room.
        visitor: called in the workers, where a decoder that crashes costs one source.
        policy: how pixels are read.
        workers: processes.
        timeout: seconds that one source may take.
    """
    out: dict[int, Source] = {}

    def visits() -> Iterator[Visit]:
        for number, (source, plan) in enumerate(pairs):
            out[number] = source
            yield Visit(number, source, plan, visitor)

    with WorkerPool(policy, workers=workers, slot_bytes=_SLOT_BYTES, timeout=timeout) as pool:
        for answer in _work_off(pool, visits()):
            source = out.pop(answer.number)
            if isinstance(answer, Died):
                answer = Visited(answer.number, None, _died(source, answer))
            if isinstance(answer, Visited):
                yield source, answer


def _work_off(pool: WorkerPool, messages: Iterator[Job | Visit]) -> Iterator[Planned | Visited | Died]:
    """One answer to every message, as they come."""
    waiting, more = 0, True
    while waiting or more:
        while more and pool.room > 0:
            message = next(messages, None)
            if message is None:
                more = False
            else:
                pool.submit(message)
                waiting += 1
        for answer in pool.wait(1.0) if waiting else ():
            if isinstance(answer, Planned | Visited | Died):
                waiting -= 1
                yield answer


def _died(source: Source, answer: Died) -> InputError:
    return WorkerDied(f"{source.name}: {answer.reason}", remedy="the file may be damaged, or memory too small")


def _outcome(source: Source, answer: Planned | Visited) -> Plan | InputError:
    plan = answer.plan if isinstance(answer, Planned) else None
    if plan is not None:
        return plan
    return answer.error if isinstance(answer.error, InputError) else InputError(f"{source.name}: no plan")
