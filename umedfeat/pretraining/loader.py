"""Batches, made in a thread beside the training: a few ahead, whatever the number of tasks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from umedfeat.policy import Policy
from umedfeat.pretraining.augment import MARGIN, Sample, plain, varied
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.pictures import Pictures
from umedfeat.pretraining.sampler import Draw, Sampler

__all__ = ["Loader", "Ready"]

_AHEAD = 3  # batches that wait for the trainer


class Ready(NamedTuple):
    """One batch: ``task`` by its place, ``size`` of its images."""

    round: int
    task: int
    size: int
    batch: Batch


class Loader:
    """Reads and augments in one thread of its own.

    Args:
        tasks: in the order of a round.
        batch: images of a task that does not say.
        policy: of the readers.
        cache_bytes: how much of what was read is kept.
        own: places of the tasks whose batches are made; None: all of them.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        batch: int,
        policy: Policy,
        *,
        seed: int,
        cache_bytes: int,
        device: str,
        own: Sequence[int] | None = None,
    ) -> None:
        self._tasks, self._device = tasks, device
        self._own = range(len(tasks)) if own is None else own
        self._samplers = [Sampler(task, task.batch(batch), seed) for task in tasks]
        self._pictures = Pictures(policy, cache_bytes)
        self._thread = ThreadPoolExecutor(1, "loader", initializer=torch.set_num_threads, initargs=(1,))
        self.waited = 0.0  # seconds that the trainer stood still for a batch

    def batches(self, first: int, size_of: Callable[[int], int]) -> Iterator[Ready]:
        """The own tasks' batches of round ``first``, of the next, and so on without end.

        Args:
            size_of: side of the images of a round; asked once, when its first batch is begun.
        """
        waiting: deque[Future[Ready]] = deque()
        wanted = self._wanted(first, size_of)
        try:
            while True:
                while len(waiting) < _AHEAD:
                    waiting.append(self._thread.submit(self._ready, *next(wanted)))
                begin = time.perf_counter()
                ready = waiting.popleft().result()
                self.waited += time.perf_counter() - begin
                yield ready
        finally:
            for future in waiting:
                future.cancel()

    def plain(self, task: Task, draws: Sequence[Draw], size: int) -> Batch:
        """Regions as they are; ``seed`` of the draws is not used."""
        return self._thread.submit(self._plain, task, draws, size).result()

    def close(self) -> None:
        """End the thread and close what it reads."""
        self._thread.shutdown(cancel_futures=True)
        self._pictures.close()

    def _wanted(self, first: int, size_of: Callable[[int], int]) -> Iterator[tuple[int, int, int]]:
        number = first
        while True:
            size = size_of(number)
            yield from ((number, task, size) for task in self._own)
            number += 1

    def _ready(self, number: int, place: int, size: int) -> Ready:
        task = self._tasks[place]
        draws = self._samplers[place].batch(number)
        samples = [self._varied(task, draw, size) for draw in draws]
        return Ready(number, place, size, _batch(task, samples, [d.example for d in draws], self._device))

    def _varied(self, task: Task, draw: Draw, size: int) -> Sample:
        picture = self._pictures.read(task, draw.example, draw.place, round(MARGIN * size))
        return varied(picture, size, np.random.default_rng(draw.seed), flip=task.spec.flip)

    def _plain(self, task: Task, draws: Sequence[Draw], size: int) -> Batch:
        samples = [plain(self._pictures.read(task, draw.example, draw.place, size)) for draw in draws]
        return _batch(task, samples, [draw.example for draw in draws], self._device)


def _batch(task: Task, samples: list[Sample], examples: Sequence[Example], device: str) -> Batch:
    if examples[0].label is None:
        return Batch(samples, None, device)
    labels = torch.from_numpy(np.stack([np.asarray(example.label) for example in examples[:: task.bag]]))
    if task.type == "classification":
        return Batch(samples, labels.long(), device)
    if task.type == "regression":
        return Batch(samples, (labels - task.scale[0]) / task.scale[1], device)
    return Batch(samples, labels, device)
