"""What a batch costs: the bytes that its graph holds for the backward pass, exactly, and the seconds it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.trainer import accumulate

__all__ = ["Cost", "cost_of", "held_bytes"]


class Cost(NamedTuple):
    """Of one batch forwards and backwards: ``held`` bytes at the most, and ``seconds``."""

    held: int
    seconds: float


@contextmanager
def held_bytes() -> Iterator[Callable[[], int]]:
    """Counts what graphs made inside hold: call what is given for the bytes so far, shared storages once."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(storages.values())


def cost_of(model: Model, task: Task, batch: Batch, precision: str = "fp32") -> Cost:
    """Measure one batch; the gradient is thrown away."""
    with held_bytes() as count:
        begin = time.perf_counter()
        accumulate(model, task, batch, 1.0, precision)
        seconds = time.perf_counter() - begin
        held = count()
    model.zero_grad(set_to_none=True)
    return Cost(held, seconds)
