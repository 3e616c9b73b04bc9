"""What a head is worth on held-out images: one figure per task, higher is better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import box_iou

from umedfeat.pretraining.masks import IGNORED

__all__ = ["METRICS", "average_precision", "balanced_accuracy", "dice", "explained", "label_accuracy"]

#: Type of a task → name of its figure.
METRICS = {
    "classification": "balanced accuracy",
    "multilabel": "balanced accuracy",
    "regression": "R²",
    "segmentation": "Dice",
    "detection": "AP50",
}
_OVERLAP = 0.5


def balanced_accuracy(shares: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over the classes that occur of the share that is found; (n, K) probabilities, (n,) classes."""
    right = shares.argmax(1) == labels
    return float(torch.stack([right[labels == kind].float().mean() for kind in torch.unique(labels)]).mean())


def label_accuracy(shares: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over labels of the balanced accuracy at one half; (n, L) of 0, 1, NaN. NaN where nothing can be said."""
    found = []
    for share, label in zip(shares.T, labels.T, strict=True):
        known = label.isfinite()
        if known.any():
            found.append(balanced_accuracy(torch.stack([1 - share, share], 1)[known], label[known].long()))
    return sum(found) / len(found) if found else float("nan")


def explained(values: torch.Tensor, labels: torch.Tensor) -> float:
    """R²: the share of the variance that is explained; NaN where there is none."""
    total = float((labels - labels.mean()).square().sum())
    return 1 - float((labels - values).square().sum()) / total if total > 0 else float("nan")


def dice(found: torch.Tensor, masks: torch.Tensor, classes: int) -> float:
    """Mean Dice of the classes behind the first (the background) that are in the masks, over all images together.

    (n, H, W) class numbers each; IGNORED pixels are not counted. NaN where there is nothing but background.
    """
    known = masks != IGNORED
    values = []
    for kind in range(1, classes):
        ours, theirs = (found == kind) & known, masks == kind
        if theirs.any():
            values.append(2 * float((ours & theirs).sum()) / float(ours.sum() + theirs.sum()))
    return sum(values) / len(values) if values else float("nan")


def average_precision(
    found: Sequence[dict[str, torch.Tensor]], truth: Sequence[dict[str, torch.Tensor]], classes: int
) -> float:
    """AP50, mean over the classes that occur: area under the precision envelope (Everingham et al. 2010, all points).

    Args:
        found: per image boxes (k, 4), scores (k,), labels (k,). truth: boxes, labels.
    """
    values = [
        _precision_of(found, truth, kind)
        for kind in range(classes)
        if any(bool((image["labels"] == kind).any()) for image in truth)
    ]
    return sum(values) / len(values) if values else float("nan")


def _precision_of(
    found: Sequence[dict[str, torch.Tensor]], truth: Sequence[dict[str, torch.Tensor]], kind: int
) -> float:
    scores, hits, total = [], [], 0
    for ours, theirs in zip(found, truth, strict=True):
        wanted = theirs["boxes"][theirs["labels"] == kind]
        total += len(wanted)
        own = ours["labels"] == kind
        order = ours["scores"][own].argsort(descending=True, stable=True)
        scores.append(ours["scores"][own][order])
        hits.append(_hits(ours["boxes"][own][order], wanted))
    order = torch.cat(scores).argsort(descending=True, stable=True)
    right = torch.cat(hits)[order].double().cumsum(0)
    precision = right / torch.arange(1, len(right) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
    recall = right / total
    steps = recall - torch.cat([torch.zeros(1, dtype=torch.double), recall[:-1]]) if len(right) else recall
    return float((envelope * steps).sum())


def _hits(boxes: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Best first: does a box overlap its best box of the truth by half, and is that one not taken?"""
    taken = torch.zeros(len(wanted), dtype=torch.bool)
    hits = torch.zeros(len(boxes), dtype=torch.bool)
    if not len(wanted):
        return hits
    overlaps = box_iou(boxes, wanted)
    for number, row in enumerate(overlaps):
        best = int(row.argmax())
        if row[best] >= _OVERLAP and not taken[best]:
            taken[best] = hits[number] = True
    return hits
