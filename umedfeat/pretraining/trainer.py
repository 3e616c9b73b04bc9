"""The training itself: rounds of one batch of every task, one task's graph alive at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from umedfeat.pretraining.crew import ALONE, Crew
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.guards import FaultCounter
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.loader import Loader, Ready
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.schedule import image_size, learning_rate, progress
from umedfeat.pretraining.settings import TrainSettings

__all__ = ["Round", "Trainer", "accumulate"]

_STEP = "the step"


@dataclass(frozen=True)
class Round:
    """What happened in a round: ``losses`` by task (NaN where it was not finite), ``rate`` of the encoder."""

    number: int
    losses: dict[str, float]
    rate: float
    size: int
    seconds: float
    waited: float


def accumulate(model: Model, task: Task, batch: Batch, share: float, precision: str = "fp32") -> float:
    """Add the gradient of ``share`` times a task's loss; the graph is gone when this returns.

    Returns:
        The loss; not finite: nothing was added.
    """
    kind = batch.images.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = model.loss(task.name, batch)
    value = float(loss.detach())
    if torch.isfinite(loss):
        (loss * share).backward()  # type: ignore[no-untyped-call]
    return value


@dataclass
class Trainer:
    """A training that can be stopped and continued between any two rounds.

    Attributes:
        model: learns.
        tasks: in the order of a round.
        loader: the batches of the own tasks.
        crew: the processes that share the work. own: places of the tasks that this one takes; None: all.
        done: rounds so far; ``seconds``: of training so far, over all sittings.
        average: running average of the parameters, which is what is evaluated and exported.
    """

    model: Model
    tasks: Sequence[Task]
    settings: TrainSettings
    loader: Loader
    done: int = 0
    seconds: float = 0.0
    faults: FaultCounter = field(default_factory=FaultCounter)
    crew: Crew = ALONE
    own: Sequence[int] | None = None

    def __post_init__(self) -> None:
        self._weights: list[torch.Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        self.average = [parameter.detach().clone() for parameter in self._weights]
        self.optimizer = torch.optim.AdamW(_groups(self.model, self.settings), lr=self.settings.lr)
        self._shares = _shares(self.tasks)
        self._own = range(len(self.tasks)) if self.own is None else self.own

    @property
    def share(self) -> float:
        """How far the run is, 0 to 1."""
        return progress(self.settings, self.done, self.seconds)

    def rounds(self) -> Iterator[Round]:
        """Train until the end; yields after every round, between which the state is whole."""
        ready = self.loader.batches(self.done, self._size_of)
        try:
            while self.share < 1:
                yield self._round(ready)
        finally:
            ready.close()  # type: ignore[attr-defined]

    def _size_of(self, number: int) -> int:
        return image_size(self.settings, progress(self.settings, number, self.seconds))

    def _round(self, ready: Iterator[Ready]) -> Round:
        begin, waited = time.monotonic(), self.loader.waited
        rate = learning_rate(self.settings, self.done, self.share)
        own, size = {}, 0
        for place in self._own:
            found, task = next(ready), self.tasks[place]
            size = found.size
            own[task.name] = accumulate(self.model, task, found.batch, self._shares[place], self.settings.precision)
        self._step(rate)
        told = self.crew.gather((own, time.monotonic() - begin, self.loader.waited - waited))
        losses = self._checked({name: loss for part, _, _ in told for name, loss in part.items()})
        self.done += 1
        taken = max(seconds for _, seconds, _ in told)  # the same for all, whose schedules may follow the clock
        self.seconds += taken
        return Round(self.done, losses, rate, size, taken, max(stood for _, _, stood in told))

    def _checked(self, losses: Mapping[str, float]) -> dict[str, float]:
        """The losses in the order of the tasks; those that are not finite are counted."""
        for task in self.tasks:
            self.faults.seen(task.name, finite=losses[task.name] - losses[task.name] == 0)
        return {task.name: losses[task.name] for task in self.tasks}

    def _step(self, rate: float) -> None:
        self.crew.add_gradients(self._weights)
        norm = nn.utils.clip_grad_norm_(self._weights, self.settings.clip)
        finite = bool(torch.isfinite(norm))
        self.faults.seen(_STEP, finite=finite)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["times"]
            self.optimizer.step()
            torch._foreach_lerp_(self.average, self._weights, 1 - self._kept())
        self.optimizer.zero_grad(set_to_none=True)

    def _kept(self) -> float:
        """Of the average: less in the beginning, so that the start does not linger."""
        return min(self.settings.ema, (1 + self.done) / (10 + self.done))

    def averaged(self, work: Callable[[], Any]) -> Any:
        """Do something with the averaged weights in the model's place."""
        trained = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.average)
            try:
                return work()
            finally:
                torch._foreach_copy_(self._weights, trained)

    def state(self) -> dict[str, Any]:
        """Everything that the next round depends on, as tensors and plain values."""
        return {
            "done": self.done,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "faults": dict(self.faults.total),
            "faults_in_a_row": dict(self.faults.in_a_row),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.done, self.seconds = int(state["done"]), float(state["seconds"])
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            torch._foreach_copy_(self.average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.faults = FaultCounter(state["faults"], state["faults_in_a_row"])


def _groups(model: Model, settings: TrainSettings) -> list[dict[str, Any]]:
    """Encoder, and decoders with heads; of each the weights, which decay, and the biases and norms, which do not."""
    groups = []
    for parameters, times in ((model.backbone.parameters(), 1.0), (model.own(), settings.head_lr)):
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        for decays in (True, False):
            kept = [parameter for parameter in learning if (parameter.ndim > 1) == decays]
            decay = settings.decay if decays else 0.0
            groups.append({"params": kept, "times": times, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def _shares(tasks: Sequence[Task]) -> list[float]:
    total = sum(task.spec.weight for task in tasks)
    return [task.spec.weight / total for task in tasks]
