"""Several processes at one training, as ``torchrun`` starts them: each takes some of the tasks of every round.

Gradients are added up once a round, over all processes; then all take the same step and hold the same weights. Nothing
else is shared: each reads, draws and evaluates by itself, and the first alone writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from umedfeat.encoders.runtimes.choosing import choose_device
from umedfeat.errors import SetupError
from umedfeat.pretraining.examples import Task

__all__ = ["ALONE", "Crew", "assembled", "deal", "is_first", "leave"]

_T = TypeVar("_T")

_PATIENCE = timedelta(hours=2)  # for a process that looks at held-out images or chooses α
_MOMENT = 0.2  # seconds
_DENSE = 1.5  # masks and boxes cost about so much more than labels, per image


@dataclass(frozen=True)
class Crew:
    """The processes of a training.

    Attributes:
        rank, size: which of how many. local: how many of them run on this machine.
        place: which of those on this machine; on it stands its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 1
    place: int = 0

    @property
    def writes(self) -> bool:
        """Is this the one that writes files?"""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """The device of this process: with "auto" a GPU of its own."""
        if self.size > 1 and wanted == "auto" and torch.cuda.is_available():
            return f"cuda:{self.place}"
        return choose_device(wanted)

    def gather(self, value: _T) -> list[_T]:
        """The value of every process, in their order; waits for all."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return cast("list[_T]", found)

    def add_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by the sum over all processes; where none has one, none is left."""
        if self.size == 1:
            return
        present = torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device)
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        flat = torch.cat([present.to(parts[0].dtype), *(part.flatten() for part in parts)])
        distributed.all_reduce(flat)
        sums = torch.split(flat[len(weights) :], [weight.numel() for weight in weights])
        for weight, known, total in zip(weights, flat[: len(weights)].tolist(), sums, strict=True):
            weight.grad = total.view_as(weight) if known else None


ALONE = Crew()


def is_first() -> bool:
    """Does this process speak for all that torchrun started? True for one alone."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def assembled() -> Iterator[Crew]:
    """The processes that torchrun started, or this one alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    local, place = int(os.environ.get("LOCAL_WORLD_SIZE", size)), int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield Crew(distributed.get_rank(), size, local, place)
    finally:
        leave()


def leave() -> None:
    """Leave the other processes. Torch 2.4 waits here for gloo's thread with Python's lock in its hands, and for ever
    where that thread still has to let go of a tensor of Python's: it gets a moment first."""
    time.sleep(_MOMENT)
    distributed.destroy_process_group()


def deal(tasks: Sequence[Task], batch: int, size: int) -> list[list[int]]:
    """Places of the tasks that each of ``size`` processes takes: the dearest first, to whom has least so far.

    Raises:
        SetupError: there are fewer tasks than processes.
    """
    if size > len(tasks):
        message = f"{size} processes for {len(tasks)} tasks"
        raise SetupError(message, remedy=f"at most {len(tasks)}: a process takes whole tasks")
    costs = [_cost(task, batch) for task in tasks]
    dealt: list[list[int]] = [[] for _ in range(size)]
    for place in sorted(range(len(tasks)), key=lambda place: -costs[place]):
        least = min(dealt, key=lambda own: sum(costs[other] for other in own))
        least.append(place)
    return [sorted(own) for own in dealt]


def _cost(task: Task, batch: int) -> float:
    return task.batch(batch) * (_DENSE if task.type in {"segmentation", "detection"} else 1.0)
