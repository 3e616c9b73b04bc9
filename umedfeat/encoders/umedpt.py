"""UMedPT and its relatives: from a weights file to an Encoder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.config import Checkpoint, PoolOrder
from umedfeat.encoders.runtimes.choosing import uses_openvino
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.models import MODELS
from umedfeat.errors import CheckpointRefused
from umedfeat.policy import DEFAULT_SIDE

if TYPE_CHECKING:
    from umedfeat.contract import Encoder
    from umedfeat.encoders.networks.squeezer import Embedder
    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

__all__ = ["build_network", "load_imagenet", "load_official"]

log = logging.getLogger("umedfeat")

#: Side of the image on which weights are tried when they are loaded.
_TRIAL_SIDE = 32


def load_official(choice: EncoderChoice) -> Encoder:
    """Load an official model (from ``choice.weights``, the cache, or its publisher) or own weights of the same kind.

    Raises:
        WeightsUnavailable, CheckpointRefused, SetupError: see ``umedfeat.load_encoder``.
    """
    model = MODELS[choice.name]
    weights = choice.weights
    from umedfeat.encoders.weights.download import ensure_weights, verify_site_pin

    if weights is None:
        weights = ensure_weights(model, offline=choice.offline)
    else:
        verify_site_pin(model, weights)
    checkpoint = read_checkpoint(weights)
    order = _order(choice.pool_order, checkpoint, model.pool_order)
    return _encoder(checkpoint, order, choice)


def load_imagenet(choice: EncoderChoice) -> Encoder:
    """Load torchvision's ImageNet weights of a Swin V2 tiny, with global pooling.

    Raises:
        WeightsUnavailable, CheckpointRefused, SetupError: see ``umedfeat.load_encoder``.
    """
    from umedfeat.encoders.imagenet import imagenet_swin

    return _encoder(imagenet_swin(choice.weights, offline=choice.offline), None, choice)


def build_network(checkpoint: Checkpoint, order: PoolOrder | None) -> Embedder:
    """The network of a checkpoint: (n, 3, H, W) → (n, D). ``order`` None: global pooling without a squeezer.

    Raises:
        CheckpointRefused: tensors are missing or do not fit each other.
    """
    import torch

    from umedfeat.encoders.imagenet import GlobalPool
    from umedfeat.encoders.networks.convnext import timm_convnext, torchvision_convnext
    from umedfeat.encoders.networks.squeezer import Embedder, Squeezer
    from umedfeat.encoders.networks.swin import SwinV2
    from umedfeat.encoders.runtimes.torch_runtime import trial

    families = {"swin": SwinV2, "convnext-timm": timm_convnext, "convnext-tv": torchvision_convnext}
    with _fitting(checkpoint):
        encoder = families[checkpoint.config.family](checkpoint.config, checkpoint.tensors)
        pool = GlobalPool(checkpoint) if order is None else Squeezer(checkpoint.config, checkpoint.tensors, order)
        network = Embedder(encoder, pool).eval()
        with trial():
            network(torch.zeros(1, 3, _TRIAL_SIDE, _TRIAL_SIDE))
    return network


@contextlib.contextmanager
def _fitting(checkpoint: Checkpoint) -> Iterator[None]:
    """Tensors that are missing or do not fit are told as such, whoever makes a network of them.

    Raises:
        CheckpointRefused: that is so.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        fault = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointRefused(f"the tensors do not make a {checkpoint.config.family} network: {fault}") from error


def _encoder(checkpoint: Checkpoint, order: PoolOrder | None, choice: EncoderChoice) -> Encoder:
    settings = _settings(choice.name, checkpoint, order)
    on_openvino = uses_openvino(choice, computed=checkpoint.config.family == "swin")
    if choice.tokens:
        from umedfeat.encoders.baseline import as_encoder

        return as_encoder(build_network(checkpoint, order), DEFAULT_SIDE, settings, choice)

    def with_torch() -> TorchEncoder:
        from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

        return TorchEncoder(
            build_network(checkpoint, order),
            name=choice.name,
            dim=checkpoint.config.dim,
            image_size=DEFAULT_SIDE,
            settings=settings,
            device=choice.device,
            precision=choice.precision,
            compiled=choice.compile,
        )

    if not on_openvino:
        return with_torch()
    from umedfeat.encoders.runtimes.openvino_networks import SwinNetwork
    from umedfeat.encoders.runtimes.openvino_runtime import OpenVinoEncoder

    with _fitting(checkpoint):
        network = SwinNetwork(checkpoint, order)
        network.try_out(_TRIAL_SIDE)
    return OpenVinoEncoder(
        network,
        name=choice.name,
        image_size=DEFAULT_SIDE,
        settings=settings,
        precision=choice.precision,
        with_torch=with_torch,
    )


def _order(asked: str | None, checkpoint: Checkpoint, registered: PoolOrder) -> PoolOrder:
    """The user's word, else the file's, else the registry's."""
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
