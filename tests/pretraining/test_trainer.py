"""Gradients, memory and steps of a round."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_backbone import TinyBackbone, batch_of, task_of

from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.footprint import held_bytes
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.schedule import image_size, learning_rate, progress
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.trainer import accumulate

KINDS = ("classification", "segmentation", "detection", "regression", "multilabel")


def tasks_of(count: int) -> list[Task]:
    kinds = ("segmentation", "detection", "classification")
    return [task_of(kinds[k % 3], f"task{k}") for k in range(count)]


def test_accumulated_gradients_are_the_joint_gradient() -> None:
    tasks = [task_of(kind) for kind in KINDS]
    model = Model(TinyBackbone(), tasks, 0).double()
    batches = [in_float64(task) for task in tasks]
    for task, batch in zip(tasks, batches, strict=True):
        accumulate(model, task, batch, 1 / len(tasks))
    accumulated = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    sum(model.loss(t.name, b) / len(tasks) for t, b in zip(tasks, batches, strict=True)).backward()  # type: ignore[union-attr]
    assert accumulated.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, accumulated[name], rtol=1e-12, atol=1e-14)


def in_float64(task: Task) -> Batch:
    batch = batch_of(task)
    batch.images = batch.images.double()
    for image in batch.boxes or []:
        image["boxes"] = image["boxes"].double()
    if batch.labels is not None and batch.labels.is_floating_point():
        batch.labels = batch.labels.double()
    return batch


def held(model: Model, tasks: list[Task], *, jointly: bool) -> int:
    """The most that is held for the backward pass at one moment."""
    if jointly:
        with held_bytes() as count:
            losses = [model.loss(task.name, batch_of(task)) for task in tasks]
            total = count()
        del losses
        return total
    most = 0
    for task in tasks:
        with held_bytes() as count:
            accumulate(model, task, batch_of(task), 1.0)
            most = max(most, count())
    return most


def test_memory_is_that_of_the_largest_task() -> None:
    """2, 8 and 32 tasks within 5 %; the joint graph grows with their number, so that this test could fail."""
    models = {count: (Model(TinyBackbone(), tasks_of(count), 0), tasks_of(count)) for count in (2, 8, 32)}
    ours = [held(model, tasks, jointly=False) for model, tasks in models.values()]
    assert max(ours) <= 1.05 * min(ours)
    joint = [held(model, tasks, jointly=True) for model, tasks in models.values()]
    assert joint[2] > 2.5 * joint[1] and joint[1] > 1.5 * joint[0]


def test_a_loss_that_is_not_finite_adds_nothing() -> None:
    task = task_of("classification")
    model = Model(TinyBackbone(), [task], 0)
    batch = batch_of(task)
    batch.images[0, 0, 0, 0] = float("nan")
    value = accumulate(model, task, batch, 1.0)
    assert value != value
    assert all(parameter.grad is None for parameter in model.parameters())


def test_new_weights_of_a_task_do_not_depend_on_the_others() -> None:
    one, both = [task_of("classification", "a")], [task_of("segmentation", "b"), task_of("classification", "a")]
    alone, together = (Model(TinyBackbone(), tasks, 3) for tasks in (one, both))
    assert torch.equal(alone.heads["a"].linear.weight, together.heads["a"].linear.weight)  # type: ignore[union-attr,arg-type]


def test_features_are_what_the_vector_head_reads() -> None:
    task = task_of("classification")
    model = Model(TinyBackbone(), [task], 0)
    images = batch_of(task).images
    read = copy.deepcopy(model.heads["classification"])
    assert torch.equal(read.predict(model.features(images), 64), model.predict("classification", images))  # type: ignore[operator]


def test_schedule() -> None:
    settings = TrainSettings(rounds=100, warmup=10, image_sizes=(64, 96, 128), lr=1.0)
    assert [progress(settings, done, 1e9) for done in (0, 50, 100, 200)] == [0, 0.5, 1, 1]
    assert progress(TrainSettings(minutes=2), 5, 60) == 0.5
    assert learning_rate(settings, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(settings, 50, 0.5) == pytest.approx(0.5)
    assert learning_rate(settings, 100, 1.0) == 0
    assert [image_size(settings, share) for share in (0, 0.74, 0.76, 0.93, 0.94, 1)] == [64, 64, 96, 96, 128, 128]


@pytest.mark.parametrize("kind", KINDS)
def test_forwards_in_bfloat16_are_nearly_those_in_float32(kind: str) -> None:
    """Losses and sums stay in float32; the gradient points the same way."""
    task = task_of(kind)
    found = []
    for precision in ("fp32", "bf16"):
        model = Model(TinyBackbone(), [task], 0)
        value = accumulate(model, task, batch_of(task), 1.0, precision)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        assert gradient.dtype == torch.float32 and bool(gradient.isfinite().all())
        found.append((value, gradient))
    (exact, wanted), (rounded, gradient) = found
    assert rounded == pytest.approx(exact, rel=0.02)
    assert float(torch.nn.functional.cosine_similarity(wanted, gradient, dim=0)) > 0.99
