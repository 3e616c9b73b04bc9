"""The network of a training: one encoder, one decoder a label type, one small head a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from umedfeat.pretraining.backbones import Backbone
from umedfeat.pretraining.boxes import BoxHead
from umedfeat.pretraining.cases import CaseHead
from umedfeat.pretraining.decoders import BoxDecoder, MaskDecoder
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.heads import Batch, MaskHead, VectorHead
from umedfeat.pretraining.sampler import generator_of

__all__ = ["Model"]


class Model(nn.Module):
    """Everything that learns.

    Args:
        backbone: trained from here on.
        tasks: those that are trained.
        seed: of the new weights; those of a task depend on its name alone.
    """

    def __init__(self, backbone: Backbone, tasks: Sequence[Task], seed: int) -> None:
        super().__init__()
        self.backbone: Any = backbone
        types = {task.type for task in tasks}
        self.masks = _seeded(seed, "masks", MaskDecoder, backbone.channels) if "segmentation" in types else None
        self.boxes = _seeded(seed, "boxes", BoxDecoder, backbone.channels) if "detection" in types else None
        self.heads = nn.ModuleDict({task.name: _head(task, backbone.dim, seed) for task in tasks})
        self._types = {task.name: task.type for task in tasks}

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D): what the exported encoder gives."""
        vectors: torch.Tensor = self.backbone.vector(self.backbone.pyramid(images)[-1])
        return vectors

    def loss(self, name: str, batch: Batch) -> torch.Tensor:
        """The loss of one task's batch."""
        found: torch.Tensor = self.heads[name].loss(self._read(name, batch.images), batch)  # type: ignore[operator]
        return found

    def predict(self, name: str, images: torch.Tensor) -> Any:
        """What the head of a task says about images; see the heads."""
        return self.heads[name].predict(self._read(name, images), images.shape[-1])  # type: ignore[operator]

    def _read(self, name: str, images: torch.Tensor) -> Any:
        maps = self.backbone.pyramid(images)
        decoder = {"segmentation": self.masks, "detection": self.boxes}.get(self._types[name])
        if decoder is None:
            return self.backbone.vector(maps[-1])
        return decoder([*maps[:-1], self.backbone.squeezed(maps[-1])])

    def own(self) -> list[nn.Parameter]:
        """Parameters of decoders and heads."""
        encoder = {id(parameter) for parameter in self.backbone.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in encoder]


def _seeded(seed: int, name: str, make: Any, *arguments: Any) -> Any:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(int(generator_of(seed, "weights", name).integers(2**31)))
        return make(*arguments)


def _head(task: Task, dim: int, seed: int) -> nn.Module:
    name = f"head/{task.name}"
    if task.type == "segmentation":
        return _seeded(seed, name, MaskHead, task)  # type: ignore[no-any-return]
    if task.type == "detection":
        return _seeded(seed, name, BoxHead, task)  # type: ignore[no-any-return]
    kind = CaseHead if task.spec.group == "case" else VectorHead
    return _seeded(seed, name, kind, task, dim)  # type: ignore[no-any-return]
