"""``--dry-run``: what would be trained, and what it costs, measured on one batch of every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from umedfeat.encoders.runtimes.choosing import choose_device
from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.footprint import Cost, cost_of
from umedfeat.pretraining.reading import refuse_unreadable
from umedfeat.pretraining.run import Prepared
from umedfeat.pretraining.schedule import image_size
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.training import Training
from umedfeat.terminal.tables import human_bytes, human_seconds, render_facts, render_table

__all__ = ["Forecast", "forecast"]

_STATES = 5  # weights, gradient, average and AdamW's two moments


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a dry run tells.

    Attributes:
        tasks: all of the file; ``costs``: of one batch of those that are trained, at the first size of images.
        weights: bytes of encoder, decoders and heads.
    """

    tasks: tuple[Task, ...]
    costs: dict[str, Cost]
    weights: int
    settings: TrainSettings

    @property
    def round_seconds(self) -> float:
        """Of a round: the sum of its tasks."""
        return sum(cost.seconds for cost in self.costs.values())

    @property
    def memory(self) -> int:
        """Bytes of a round: the largest task's graph, and what is kept of every weight."""
        return max(cost.held for cost in self.costs.values()) + _STATES * self.weights

    @property
    def rounds(self) -> int:
        """Asked for, or what fits into the minutes."""
        return self.settings.rounds or max(1, round(60 * self.settings.minutes / self.round_seconds))

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        tasks = [
            {
                "name": task.name,
                "type": task.type,
                "role": task.spec.role,
                "classes": list(task.classes),
                "train_images": len(task.train),
                "train_patients": task.patients(task.train),
                "heldout_images": len(task.heldout),
                "heldout_patients": task.patients(task.heldout),
                "seconds": round(self.costs[task.name].seconds, 4) if task.name in self.costs else None,
                "held_bytes": self.costs[task.name].held if task.name in self.costs else None,
            }
            for task in self.tasks
        ]
        return {
            "tasks": tasks,
            "leaks": 0,
            "rounds": self.rounds,
            "round_seconds": round(self.round_seconds, 4),
            "memory_bytes": self.memory,
        }

    def to_text(self) -> str:
        """For people."""
        rows: list[list[object]] = []
        for task in self.tasks:
            trained = [f"{len(task.train):,} / {task.patients(task.train):,}", f"{len(task.heldout):,}"]
            cost = self.costs.get(task.name)
            spent = ["not trained on", ""] if cost is None else [f"{cost.seconds:.2f} s", human_bytes(cost.held)]
            rows.append([task.name, task.type, len(task.classes), *trained, *spent])
        head = ["task", "type", "classes", "train images / patients", "held out", "a batch", "its graph"]
        size = image_size(self.settings, 0.0)
        facts: list[tuple[str, object]] = [
            ("leaks", "none: no patient and no image on both sides, over all tasks"),
            ("a round", f"{human_seconds(self.round_seconds)} with images of {size} pixels"),
            ("rounds", f"{self.rounds:,} ({human_seconds(self.rounds * self.round_seconds)})"),
            ("memory", f"{human_bytes(self.memory)} and the images that are kept; it does not grow with the tasks"),
        ]
        return f"{render_table(head, rows)}\n\n{render_facts(facts)}"


def forecast(ready: Prepared, settings: TrainSettings, policy: Policy, device: str = "auto") -> Forecast:
    """Measure one batch of every task that is trained; nothing is written.

    Raises:
        SetupError: a mask, an image with boxes, or an image of these batches cannot be read.
    """
    refuse_unreadable(ready.tasks, policy)
    training = Training(ready.tasks, ready.start, settings, policy, None, ready.fingerprint, choose_device(device))
    try:
        batches = training.loader.batches(0, lambda number: image_size(settings, 0.0))
        costs = {
            task.name: cost_of(training.model, task, next(batches).batch, settings.precision) for task in training.tasks
        }
        batches.close()  # type: ignore[attr-defined]
    finally:
        training.close()
    weights = sum(_bytes(parameter) for parameter in training.model.parameters())
    return Forecast(ready.tasks, costs, weights, settings)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
