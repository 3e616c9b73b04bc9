"""The model on held-out images: the heads' scores, and the features of the guards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.loader import Loader
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.sampler import Draw, even_draws, middle_draws
from umedfeat.pretraining.scores import average_precision, balanced_accuracy, dice, explained, label_accuracy

__all__ = ["cases_of", "features_of", "guard_examples", "heldout_scores", "spread"]

_AT_ONCE = 8
_SCORED, _GUARDED, _FEWEST_CASES = 32, 96, 8
_T = TypeVar("_T")


def spread(examples: Sequence[_T], count: int) -> list[_T]:
    """At most ``count`` of a list, evenly over it."""
    if len(examples) <= count:
        return list(examples)
    return [examples[int(place)] for place in np.linspace(0, len(examples) - 1, count).round()]


def guard_examples(tasks: Sequence[Task]) -> list[tuple[Task, list[Example]]]:
    """Held-out images, filled up with training images where a task holds out few; the same number of every task."""
    each = max(2, _GUARDED // len(tasks))
    return [(task, (spread(task.heldout, each) + spread(task.train, each))[:each]) for task in tasks]


def features_of(
    model: Model, loader: Loader, wanted: Sequence[tuple[Task, Sequence[Example]]], size: int
) -> torch.Tensor:
    """(n, D) features of examples, on the CPU."""
    with torch.inference_mode():
        rows = [
            model.features(batch.images).cpu()
            for task, examples in wanted
            for batch in _batches(loader, task, middle_draws(examples), size)
        ]
    return torch.cat(rows)


def heldout_scores(model: Model, loader: Loader, tasks: Sequence[Task], size: int) -> dict[str, float]:
    """Score of every task that holds images out, on at most 32 of them (of cases: the images of at least 8)."""
    found = {}
    with torch.inference_mode():
        for task in tasks:
            if task.heldout:
                batches = list(_batches(loader, task, _scored_draws(task), size))
                found[task.name] = _score(task, [model.predict(task.name, b.images) for b in batches], batches)
    return found


def cases_of(examples: Sequence[Example]) -> list[list[Example]]:
    """The images of each case, in the order of their first ones."""
    cases: dict[str, list[Example]] = {}
    for example in examples:
        cases.setdefault(example.case, []).append(example)
    return list(cases.values())


def _scored_draws(task: Task) -> list[Draw]:
    if task.bag == 1:
        return middle_draws(spread(task.heldout, _SCORED))
    cases = spread(cases_of(task.heldout), max(_FEWEST_CASES, _SCORED // task.bag))
    return [draw for case in cases for draw in even_draws(case, task.bag)]


def _batches(loader: Loader, task: Task, draws: Sequence[Draw], size: int) -> Iterator[Batch]:
    at_once = max(1, _AT_ONCE // task.bag) * task.bag
    for start in range(0, len(draws), at_once):
        yield loader.plain(task, draws[start : start + at_once], size)


def _score(task: Task, predicted: list[Any], batches: Sequence[Batch]) -> float:
    if task.type == "detection":
        found = [_on_cpu(image) for batch in predicted for image in batch]
        truth = [_on_cpu(image) for batch in batches for image in batch.boxes or []]
        return average_precision(found, truth, len(task.classes))
    joined = torch.cat(predicted).cpu()
    if task.type == "segmentation":
        masks = torch.cat([batch.masks for batch in batches if batch.masks is not None]).cpu()
        return dice(joined, masks, len(task.classes))
    labels = torch.cat([batch.labels for batch in batches if batch.labels is not None]).cpu()
    if task.type == "classification":
        return balanced_accuracy(joined, labels)
    return label_accuracy(joined, labels) if task.type == "multilabel" else explained(joined, labels)


def _on_cpu(image: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu() for name, tensor in image.items()}
