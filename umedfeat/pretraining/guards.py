"""What the losses do not tell: a training can kill the features while every loss falls.

Dead dimensions (the same for every image) and the direction against the start are looked at on held-out images.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

import torch
from torch.nn import functional

from umedfeat.errors import SetupError

__all__ = ["FaultCounter", "Health", "health_of"]

log = logging.getLogger("umedfeat")

_DEAD = 1e-3  # of the usual spread of a dimension at the start
_RESPONDS = 0.5  # of the images, for a dimension to count: rare responses come and go by chance
_WARN, _STOP = 0.10, 0.40
_IN_A_ROW = 5
_REMEDY = "a lower --lr (1e-4 is tried), or --trainable last-N"


class Health(NamedTuple):
    """State of the features on the guards' images.

    Attributes:
        dead: share of the dimensions that told images apart at the start and are the same for all of them now.
        cosine: mean cosine between an image's feature now and at the start.
    """

    dead: float
    cosine: float

    def checked(self) -> Health:
        """Warn above 10 % of dead dimensions.

        Raises:
            SetupError: more than 40 % are dead, or the features are not finite.
        """
        said = f"{self.dead:.0%} of the feature dimensions are dead (cosine to the start {self.cosine:.2f})"
        if not self.dead <= _STOP:
            raise SetupError(f"training stopped: {said}", remedy=_REMEDY)
        if self.dead > _WARN:
            log.warning("%s: %s", said, _REMEDY)
        return self


def health_of(now: torch.Tensor, start: torch.Tensor) -> Health:
    """Compare the (n, D) features of the same n ≥ 2 images; not finite counts as all dead."""
    if not now.isfinite().all():
        return Health(1.0, float("nan"))
    usual = start.std(0).mean()
    responses = (start - start.min(0).values) > _DEAD * usual
    alive = responses.float().mean(0) >= _RESPONDS
    dead = (now.std(0) <= _DEAD * usual) & alive
    cosine = functional.cosine_similarity(now, start, dim=1).mean()
    return Health(float(dead.sum()) / max(1, int(alive.sum())), float(cosine))


class FaultCounter:
    """Counts losses that are not finite; their gradient is left out.

    Attributes:
        total: per task, over the whole run.
        in_a_row: per task, up to now.
    """

    def __init__(self, total: dict[str, int] | None = None, in_a_row: dict[str, int] | None = None) -> None:
        self.total = Counter(total or {})
        self.in_a_row = Counter(in_a_row or {})

    def seen(self, task: str, *, finite: bool) -> None:
        """Note one round of a task.

        Raises:
            SetupError: the fifth fault in a row.
        """
        if finite:
            self.in_a_row[task] = 0
            return
        self.total[task] += 1
        self.in_a_row[task] += 1
        if self.in_a_row[task] >= _IN_A_ROW:
            message = f"training stopped: the loss of task {task} is not finite, {_IN_A_ROW} rounds in a row"
            raise SetupError(message, remedy=_REMEDY)
