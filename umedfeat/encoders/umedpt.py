"""UMedPT and its relatives: from a weights file to an Encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from umedfeat.encoders.config import Checkpoint, PoolOrder
from umedfeat.encoders.networks.squeezer import Embedder, Squeezer
from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.models import IMAGENET_SWIN, MODELS
from umedfeat.errors import CheckpointRefused, SetupError

if TYPE_CHECKING:
    from umedfeat.encoders.base import Encoder

__all__ = ["build_network", "load_umedpt"]

log = logging.getLogger("umedfeat")


def load_umedpt(
    name: str,
    weights: Path | None,
    device: str,
    precision: str,
    runtime: str,
    pool_order: str | None,
    compiled: bool,
    offline: bool,
) -> Encoder:
    """Load an official model (from ``weights``, the cache, or its publisher) or own weights of the same kind.

    Raises:
        WeightsUnavailable, CheckpointRefused, SetupError: see ``umedfeat.load_encoder``.
    """
    if name == IMAGENET_SWIN:
        from umedfeat.encoders.imagenet import imagenet_swin

        checkpoint = imagenet_swin(weights, offline=offline)
        network = build_network(checkpoint, None)
        settings = _settings(name, checkpoint, None)
        return _encoder(network, checkpoint, name, settings, device, precision, runtime, compiled)
    model = MODELS[name]
    if weights is None:
        from umedfeat.encoders.weights.download import ensure_weights

        weights = ensure_weights(model, offline=offline)
    checkpoint = read_checkpoint(weights)
    order = _order(pool_order, checkpoint, model.pool_order)
    settings = _settings(name, checkpoint, order)
    return _encoder(build_network(checkpoint, order), checkpoint, name, settings, device, precision, runtime, compiled)


def build_network(checkpoint: Checkpoint, order: PoolOrder | None) -> Embedder:
    """The network of a checkpoint: (n, 3, H, W) → (n, D). ``order`` None: global pooling without a squeezer.

    Raises:
        CheckpointRefused: tensors are missing or do not fit each other.
    """
    from umedfeat.encoders.imagenet import GlobalPool
    from umedfeat.encoders.networks.convnext import timm_convnext, torchvision_convnext
    from umedfeat.encoders.networks.swin import SwinV2

    families = {"swin": SwinV2, "convnext-timm": timm_convnext, "convnext-tv": torchvision_convnext}
    try:
        encoder = families[checkpoint.config.family](checkpoint.config, checkpoint.tensors)
        pool = GlobalPool(checkpoint) if order is None else Squeezer(checkpoint.config, checkpoint.tensors, order)
        network = Embedder(encoder, pool).eval()
        with torch.inference_mode():
            network(torch.zeros(1, 3, 32, 32))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        fault = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointRefused(f"the tensors do not make a {checkpoint.config.family} network: {fault}") from error
    return network


def _encoder(
    network: Embedder,
    checkpoint: Checkpoint,
    name: str,
    settings: dict[str, Any],
    device: str,
    precision: str,
    runtime: str,
    compiled: bool,
) -> Encoder:
    if _uses_openvino(runtime, checkpoint, device, precision, compiled):
        from umedfeat.encoders.runtimes.openvino_runtime import OpenVinoEncoder

        return OpenVinoEncoder(network, name=name, dim=checkpoint.config.dim, image_size=224, settings=settings)
    return TorchEncoder(
        network,
        name=name,
        dim=checkpoint.config.dim,
        image_size=224,
        settings=settings,
        device=device,
        precision=precision,
        compiled=compiled,
    )


def _uses_openvino(runtime: str, checkpoint: Checkpoint, device: str, precision: str, compiled: bool) -> bool:
    """Asked for, or "auto" where it is installed and faster: a Swin on a CPU in fp32.

    Raises:
        SetupError: asked for where it cannot be.
    """
    from umedfeat.encoders.runtimes.openvino_runtime import openvino_is_installed

    fits = device == "cpu" and precision == "fp32" and checkpoint.config.family == "swin"
    if runtime == "openvino":
        if not fits:
            raise SetupError("--runtime openvino computes Swin encoders on a CPU in fp32", remedy="--runtime torch")
        if not openvino_is_installed():
            raise SetupError("--runtime openvino needs the extra", remedy="pip install 'umedfeat[openvino]'")
        return True
    return runtime == "auto" and fits and not compiled and openvino_is_installed()


def _order(asked: str | None, checkpoint: Checkpoint, registered: PoolOrder) -> PoolOrder:
    """The user's word, else the file's, else the registry's."""
    if asked not in (None, "pool_first", "pool_last"):
        raise SetupError(f"pool_order {asked!r} is unknown", remedy="pool_first or pool_last")
    return cast("PoolOrder", asked) if asked else checkpoint.config.pool_order or registered


def _settings(name: str, checkpoint: Checkpoint, order: PoolOrder | None) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "name": name,
        "weights_sha256": checkpoint.sha256,
        "family": config.family,
        "variant": config.variant,
        "pool_order": order or "global pool",
    }
