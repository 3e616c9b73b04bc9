"""Heads: what a task has of its own, a linear layer or a 3 × 3 convolution; loss and prediction of its label type."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from umedfeat.pretraining.augment import Sample
from umedfeat.pretraining.decoders import MaskDecoder
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.losses import (
    classification_loss,
    multilabel_loss,
    regression_loss,
    segmentation_loss,
)

__all__ = ["Batch", "Head", "MaskHead", "VectorHead", "at_least_float"]


def at_least_float(tensor: torch.Tensor) -> torch.Tensor:
    """What heads compute in: float32, also where the encoder computes in bfloat16."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Batch:
    """Images of one task with their targets.

    Attributes:
        images: (n, 3, S, S) float32 in [0, 1].
        labels: (n,) int64 or float32, or (n, L) float32; None for masks and boxes.
        masks: (n, S, S) int64 or None.
        boxes: per image {"boxes": (k, 4) float32, "labels": (k,) int64}, or None.
    """

    def __init__(self, samples: list[Sample], labels: torch.Tensor | None, device: str = "cpu") -> None:
        images = torch.stack([sample.image for sample in samples])
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.labels = None if labels is None else labels.to(device)
        masks = [sample.mask for sample in samples if sample.mask is not None]
        self.masks = torch.stack(masks).to(device) if masks else None
        self.boxes = None
        if samples[0].boxes is not None:
            self.boxes = [
                {"boxes": sample.boxes.to(device), "labels": sample.kinds.to(device)}
                for sample in samples
                if sample.boxes is not None and sample.kinds is not None
            ]


class Head(Protocol):
    """``read`` is what the decoder of the label type gives: vectors, a map, or pairs of maps."""

    def loss(self, read: Any, batch: Batch) -> torch.Tensor:
        """A scalar; about 1 for a guess."""
        ...

    def predict(self, read: Any, size: int) -> Any:
        """What the label type predicts for images of ``size`` pixels."""
        ...


class VectorHead(nn.Module):
    """Classification, several labels or a value from the vector: one linear layer."""

    def __init__(self, task: Task, dim: int) -> None:
        super().__init__()
        self.task_type = task.type
        self.linear = nn.Linear(dim, len(task.classes))
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def loss(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See Head."""
        outputs, labels = self.linear(at_least_float(read)), batch.labels
        assert labels is not None
        if self.task_type == "classification":
            return classification_loss(outputs, labels)
        if self.task_type == "multilabel":
            return multilabel_loss(outputs, labels)
        return regression_loss(outputs[:, 0], labels)

    def predict(self, read: torch.Tensor, size: int) -> torch.Tensor:
        """(n, K) probabilities of classes or labels, or (n,) standardised values."""
        outputs: torch.Tensor = self.linear(at_least_float(read))
        if self.task_type == "classification":
            return outputs.softmax(1)
        return outputs.sigmoid() if self.task_type == "multilabel" else outputs[:, 0]


class MaskHead(nn.Module):
    """Segmentation from the finest map: one 3 × 3 convolution, enlarged to the image."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(MaskDecoder.width, len(task.classes), 3, padding=1)

    def loss(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See Head."""
        assert batch.masks is not None
        return segmentation_loss(self._logits(read, batch.masks.shape[-1]), batch.masks)

    def predict(self, read: torch.Tensor, size: int) -> torch.Tensor:
        """(n, S, S) class numbers."""
        return self._logits(read, size).argmax(1)

    def _logits(self, read: torch.Tensor, size: int) -> torch.Tensor:
        logits = at_least_float(self.convolution(read))
        return functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
