"""From a training to the file that ``extract`` takes: tensors under the names of the library, and the card."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from umedfeat._version import __version__
from umedfeat.encoders.weights.trained import build_trained
from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.start import Start

__all__ = ["card_of", "half_tensors", "whole_tensors"]

log = logging.getLogger("umedfeat")

_HALF_COSINE = 0.9999


def card_of(
    name: str, start: Start, tasks: Sequence[Task], settings: TrainSettings, policy: Policy, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What the file says of itself.

    Args:
        facts: what the training found: rounds, alpha, held-out scores.
    """
    return {
        "version": 1,
        "name": name,
        "architecture": start.architecture,
        "dim": start.backbone.dim,
        "image_size": settings.image_sizes[-1],
        "policy": json.loads(policy.to_json()),
        "parent": {"name": start.name, "weights_sha256": start.sha256, "licence": start.licence},
        "tasks": [_task_card(task) for task in tasks],
        "settings": settings.to_dict(),
        "umedfeat": __version__,
        **facts,
    }


def _task_card(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "type": task.type,
        "role": task.spec.role,
        "group": task.spec.group,
        "classes": list(task.classes),
        "train_images": len(task.train) if task.spec.role == "train" else 0,
        "train_patients": task.patients(task.train) if task.spec.role == "train" else 0,
        "heldout_images": len(task.heldout),
        "licence": task.spec.licence,
        "attribution": task.spec.attribution,
    }


def whole_tensors(start: Start, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The exported tensors of a state of the encoder: what was trained, bit for bit."""
    return {name: tensor.cpu() for name, tensor in start.backbone.exported(state).items()}


def half_tensors(start: Start, state: Mapping[str, torch.Tensor], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same in float16 where features of ``images`` keep a cosine of 0.9999 to float32's, else in float32.

    Args:
        images: (n, 3, S, S) in [0, 1] that decide.
    """
    whole = whole_tensors(start, state)
    half = {name: _halved(tensor) for name, tensor in whole.items()}
    exact, rounded = (
        _features(start.architecture, {name: _widened(tensor) for name, tensor in tensors.items()}, images)
        for tensors in (whole, half)
    )
    cosine = torch.nn.functional.cosine_similarity(exact, rounded, dim=1).min()
    if float(cosine) >= _HALF_COSINE:
        return half
    log.warning("stored as float32: float16 would turn features by a cosine of %.6f", float(cosine))
    return whole


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    """Float16 where every value fits (statistics of batches may exceed it); counters as they are."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if bool(half.isfinite().all()) else tensor


def _features(architecture: Mapping[str, Any], tensors: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    network = build_trained(architecture, tensors, "the trained encoder").eval()
    with torch.inference_mode():
        found: torch.Tensor = network(images.contiguous().cpu())
    return found
