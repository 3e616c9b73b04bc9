"""Held-out images with what was drawn and what was predicted, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from umedfeat.pretraining.evaluation import spread
from umedfeat.pretraining.examples import Boxes, Task
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.loader import Loader
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.sampler import middle_draws

__all__ = ["Shown", "gallery_of"]

_EACH = 4  # images of a task
_SURE = 0.3  # score from which a box is shown


class Shown(NamedTuple):
    """One image: ``pixels`` (S, S, 3) uint8; masks (S, S) class numbers, or boxes, as drawn and as predicted."""

    task: str
    pixels: npt.NDArray[np.uint8]
    true_mask: npt.NDArray[np.int64] | None = None
    found_mask: npt.NDArray[np.int64] | None = None
    true_boxes: Boxes | None = None
    found_boxes: Boxes | None = None


def gallery_of(model: Model, loader: Loader, tasks: Sequence[Task], size: int) -> list[Shown]:
    """A few held-out images of every segmentation and detection."""
    shown: list[Shown] = []
    with torch.inference_mode():
        for task in tasks:
            if task.type in {"segmentation", "detection"} and task.heldout:
                batch = loader.plain(task, middle_draws(spread(task.heldout, _EACH)), size)
                shown += _of_batch(task, batch, model.predict(task.name, batch.images))
    return shown


def _of_batch(task: Task, batch: Batch, found: torch.Tensor | list[dict[str, torch.Tensor]]) -> list[Shown]:
    pixels = (batch.images.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
    if isinstance(found, torch.Tensor):
        assert batch.masks is not None
        pairs = zip(pixels, batch.masks.cpu().numpy(), found.cpu().numpy(), strict=True)
        return [Shown(task.name, image, truth, guess) for image, truth, guess in pairs]
    assert batch.boxes is not None
    return [
        Shown(task.name, image, true_boxes=_boxes(truth), found_boxes=_boxes(guess))
        for image, truth, guess in zip(pixels, batch.boxes, found, strict=True)
    ]


def _boxes(image: dict[str, torch.Tensor]) -> Boxes:
    sure = image["scores"] >= _SURE if "scores" in image else torch.ones(len(image["boxes"]), dtype=torch.bool)
    return Boxes(image["boxes"][sure].cpu().numpy(), image["labels"][sure].cpu().numpy())
