"""An encoder of a few convolutions that trains in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from umedfeat.contract import Source
from umedfeat.pretraining.augment import Sample
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.spec import TaskSpec

__all__ = ["TinyBackbone", "batch_of", "task_of"]


class TinyBackbone(nn.Module):
    """Strides 4, 8, 16, 32."""

    channels = (8, 8, 16, 24)
    dim = 24
    fixed_size: int | None = None

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            steps = zip((3, *self.channels), (4, 2, 2, 2), self.channels, strict=False)
            self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, stride, 1) for a, stride, b in steps)

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for stage in self.stages:
            images = nn.functional.gelu(stage(images))
            levels.append(images)
        return levels

    def squeezed(self, deepest: torch.Tensor) -> torch.Tensor:
        return deepest

    def vector(self, deepest: torch.Tensor) -> torch.Tensor:
        return deepest.mean((2, 3))

    def blocks(self) -> list[list[nn.Parameter]]:
        return [list(stage.parameters()) for stage in self.stages]

    def exported(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(state)


def task_of(kind: str, name: str = "", *, images: int = 6, classes: tuple[str, ...] = ("a", "b"), **spec: Any) -> Task:
    """A task whose examples have no files."""
    path = {"coco" if kind == "detection" else "labels": __file__}
    written = TaskSpec(name or kind, kind, classes=classes, **path, **spec)  # type: ignore[arg-type]
    examples = []
    for k in range(images):
        source = Source(f"{k}", "raster", None, (), f"{k}.png")  # type: ignore[arg-type]
        label = np.asarray(k % len(classes), np.float32)
        examples.append(Example(source, f"patient {k // 2}", classes[k % len(classes)], False, label=label))
    return Task(written, classes, tuple(examples), ())


def batch_of(task: Task, count: int = 3, side: int = 64, seed: int = 0) -> Batch:
    """Noise with a plausible target."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, side, side, generator=generator)
    samples = [Sample(image) for image in images]
    labels = None
    if task.type == "segmentation":
        masks = torch.randint(0, len(task.classes), (count, side, side), generator=generator)
        samples = [Sample(image, mask) for image, mask in zip(images, masks, strict=True)]
    elif task.type == "detection":
        boxes = torch.tensor([[8.0, 8, 40, 40], [20, 24, 60, 62]])
        samples = [Sample(image, None, boxes, torch.tensor([0, 1])) for image in images]
    elif task.type == "classification":
        labels = torch.arange(count) % len(task.classes)
    elif task.type == "multilabel":
        labels = torch.randint(0, 2, (count, len(task.classes)), generator=generator).float()
    else:
        labels = torch.randn(count, generator=generator)
    return Batch(samples, labels)
