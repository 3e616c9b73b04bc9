"""Losses, each scaled so that a guess without knowledge costs about 1: no weights are needed between label types."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from umedfeat.pretraining.masks import IGNORED

__all__ = ["classification_loss", "multilabel_loss", "regression_loss", "segmentation_loss"]

_FOCUS = 2.0  # exponent of the focal loss (Lin et al. 2017)
_SMOOTH = 1.0  # pixels that keep the Dice of an absent class finite


def classification_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of (n, K) logits and (n,) classes, divided by ln K."""
    return functional.cross_entropy(logits, labels) / math.log(max(2, logits.shape[1]))


def multilabel_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of (n, L) logits and labels 0, 1 or NaN (not counted), divided by ln 2; 0 if none counts."""
    known = labels.isfinite()
    each = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1) / math.log(2)


def regression_loss(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Huber loss of (n,) standardised values, doubled: like the squared error up to one standard deviation."""
    return 2 * functional.huber_loss(values, labels)


def segmentation_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the soft Dice loss and the focal loss, the latter divided by what a uniform guess costs.

    Args:
        logits: (n, K, H, W). mask: (n, H, W) class numbers; IGNORED pixels are not counted.

    Dice is taken over the whole batch, over the classes that are in it; 0 where every pixel is ignored.
    """
    kinds = logits.shape[1]
    known = mask != IGNORED
    target = functional.one_hot(mask.where(known, 0), kinds).movedim(-1, 1).to(logits.dtype) * known[:, None]
    logs = functional.log_softmax(logits, dim=1)
    share = logs.exp() * known[:, None]
    overlap, sizes = (share * target).sum((0, 2, 3)), target.sum((0, 2, 3))
    dice = (2 * overlap + _SMOOTH) / (share.sum((0, 2, 3)) + sizes + _SMOOTH)
    present = (sizes > 0).to(dice.dtype)
    dice_loss = ((1 - dice) * present).sum() / present.sum().clamp_min(1)
    true_logs = (logs * target).sum(1)
    focal = -((1 - true_logs.exp()) ** _FOCUS) * true_logs * known
    guess = (1 - 1 / kinds) ** _FOCUS * math.log(kinds)
    total: torch.Tensor = (dice_loss + focal.sum() / known.sum().clamp_min(1) / guess) / 2
    return total
