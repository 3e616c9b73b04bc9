"""Detection: torchvision's FCOS losses and matching behind outputs of our own.

FCOS (Tian et al. 2019): every place of a map says whether it lies in a box of some class, how far its four sides are,
and how central it lies.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import fcos
from torchvision.models.detection._utils import BoxLinearCoder

from umedfeat.pretraining.backbones import STRIDES
from umedfeat.pretraining.decoders import BoxDecoder
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.heads import Batch, at_least_float

__all__ = ["BoxHead", "anchors_of"]

#: Side of the square that stands for a place of a map, per pixel of its stride. Half: images are small, and boxes of
#: twice eight times this size belong to the next level.
_ANCHOR = 0.5
_CENTERNESS = 0.2
_PRIOR = 0.01
_SCORE, _OVERLAP, _CANDIDATES, _MOST = 0.05, 0.5, 400, 100


class _Matching(fcos.FCOS):  # type: ignore[misc]
    """torchvision's matching, losses and selection of boxes, without its network and resizing."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.head = _Losses()
        self.box_coder = self.head.box_coder
        self.center_sampling_radius = 1.5
        self.score_thresh, self.nms_thresh = _SCORE, _OVERLAP
        self.topk_candidates, self.detections_per_img = _CANDIDATES, _MOST


class _Losses(fcos.FCOSHead):  # type: ignore[misc]
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.box_coder = BoxLinearCoder(normalize_by_size=True)


class BoxHead(nn.Module):
    """Boxes from pairs of maps: three 3 × 3 convolutions."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.kinds = nn.Conv2d(BoxDecoder.width, len(task.classes), 3, padding=1)
        self.sides = nn.Conv2d(BoxDecoder.width, 4, 3, padding=1)
        self.centre = nn.Conv2d(BoxDecoder.width, 1, 3, padding=1)
        for layer in (self.kinds, self.sides, self.centre):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.kinds.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
        self._matching = [_Matching()]  # in a list: it holds no weights, and must not appear among the modules

    def loss(self, read: list[tuple[torch.Tensor, torch.Tensor]], batch: Batch) -> torch.Tensor:
        """Focal loss / ln K, generalised IoU and 0.2 of the centerness; 0.5 of their sum."""
        assert batch.boxes is not None
        outputs = self._outputs(read)
        joined = {name: torch.cat(levels, 1) for name, levels in outputs.items()}
        anchors = anchors_of(read)
        parts = self._matching[0].compute_loss(
            batch.boxes, joined, [torch.cat(anchors)] * len(batch.boxes), [len(level) for level in anchors]
        )
        kinds = parts["classification"] / math.log(max(2, outputs["cls_logits"][0].shape[-1]))
        total: torch.Tensor = kinds + parts["bbox_regression"] + _CENTERNESS * parts["bbox_ctrness"]
        return total / 2

    def predict(self, read: list[tuple[torch.Tensor, torch.Tensor]], size: int) -> list[dict[str, torch.Tensor]]:
        """Per image boxes (k, 4), scores (k,) and labels (k,), best first."""
        outputs = self._outputs(read)
        count = len(read[0][0])
        found: list[dict[str, torch.Tensor]] = self._matching[0].postprocess_detections(
            outputs, [anchors_of(read)] * count, [(size, size)] * count
        )
        return found

    def _outputs(self, read: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, list[torch.Tensor]]:
        found: dict[str, list[Any]] = {"cls_logits": [], "bbox_regression": [], "bbox_ctrness": []}
        for for_kinds, for_sides in read:
            found["cls_logits"].append(_rows(self.kinds(for_kinds)))
            found["bbox_regression"].append(nn.functional.softplus(_rows(self.sides(for_sides))))
            found["bbox_ctrness"].append(_rows(self.centre(for_sides)))
        return found


def anchors_of(read: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Per level the (h · w, 4) squares around the centres of its places, row-major."""
    found = []
    for (level, _), stride in zip(read, STRIDES[1:], strict=True):
        rows, columns = (torch.arange(side, device=level.device) for side in level.shape[-2:])
        y, x = torch.meshgrid((rows + 0.5) * stride, (columns + 0.5) * stride, indexing="ij")
        centres, half = torch.stack([x, y], -1).view(-1, 2), _ANCHOR * stride / 2
        found.append(torch.cat([centres - half, centres + half], 1))
    return found


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """(n, C, h, w) → (n, h · w, C)."""
    return at_least_float(maps).flatten(2).transpose(1, 2)
