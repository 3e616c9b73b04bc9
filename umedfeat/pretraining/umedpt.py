"""UMedPT and its relatives in trainable form: torchvision's own modules under the names of the weights.

The frozen form (``encoders.networks.swin``) keeps constants that a training changes; this one recomputes them. Both
give the same vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from umedfeat.encoders.config import Checkpoint, EncoderConfig, PoolOrder
from umedfeat.encoders.networks.convnext import timm_convnext, torchvision_convnext
from umedfeat.errors import CheckpointRefused

__all__ = ["UmedptBackbone"]

_EPS = 1e-5
#: Buffers that follow from the window's size alone.
_CONSTANTS = ("relative_position_index", "relative_coords_table")


class UmedptBackbone(nn.Module):
    """An official checkpoint as a Backbone (see ``pretraining.backbones``).

    Args:
        checkpoint: configuration and tensors.
        order: of the squeezer's parts. The decoders see the squeezer's map in either order.
    """

    fixed_size: int | None = None

    def __init__(self, checkpoint: Checkpoint, order: PoolOrder) -> None:
        super().__init__()
        config, tensors = checkpoint.config, checkpoint.tensors
        self.order = order
        self.encoder: Any = _encoder(config, tensors)
        self.squeezer = _Squeezer(config, tensors)
        self.dim = config.dim
        with torch.inference_mode():
            maps = self.encoder(torch.zeros(1, 3, 64, 64))
        self.channels = (maps[0].shape[1], maps[1].shape[1], maps[2].shape[1], config.dim)

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        """See Backbone."""
        levels: list[torch.Tensor] = self.encoder(images)
        return levels

    def vector(self, deepest: torch.Tensor) -> torch.Tensor:
        """See Backbone."""
        if self.order == "pool_first":
            deepest = deepest.mean((2, 3), keepdim=True)
        vectors: torch.Tensor = self.squeezer(deepest).mean((2, 3))
        return vectors

    def squeezed(self, deepest: torch.Tensor) -> torch.Tensor:
        """See Backbone."""
        maps: torch.Tensor = self.squeezer(deepest)
        return maps

    def blocks(self) -> list[list[nn.Parameter]]:
        """See Backbone: the encoder's layers in their order, then the squeezer."""
        layers: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.encoder.named_parameters():
            layers.setdefault(".".join(name.split(".")[:2]), []).append(parameter)
        return [*layers.values(), list(self.squeezer.parameters())]

    def exported(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """See Backbone: the names of a Checkpoint."""
        return {name: tensor for name, tensor in state.items() if not name.endswith(_CONSTANTS)}


def _encoder(config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    if config.family == "convnext-timm":
        return timm_convnext(config, tensors)
    return torchvision_convnext(config, tensors) if config.family == "convnext-tv" else _Swin(config, tensors)


class _Swin(nn.Module):
    """torchvision's Swin V2 without its final norm and head; a map a stage, nothing dropped at random."""

    def __init__(self, config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        whole = SwinTransformer(
            [4, 4],
            config.embed_dim,
            list(config.depths),
            list(config.num_heads),
            [config.window, config.window],
            stochastic_depth_prob=0.0,
            num_classes=1,  # its head is not used
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        )
        self.features = whole.features
        own = {name.removeprefix("encoder."): v for name, v in tensors.items() if name.startswith("encoder.features.")}
        missing, unknown = self.load_state_dict(own, strict=False)
        left = [name for name in (*missing, *unknown) if not name.endswith(_CONSTANTS)]
        if left:
            raise CheckpointRefused(f"the tensors do not fit the architecture: {left[0]}")

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, C, h, w) of strides 4, 8, 16, 32."""
        levels = []
        for number, layer in enumerate(self.features):
            images = layer(images)
            if number % 2:
                levels.append(images.permute(0, 3, 1, 2))
        return levels


class _Squeezer(nn.Module):
    """1×1 convolution (where there is one), GroupNorm(1), GELU; not pooled."""

    def __init__(self, config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        weight = tensors.get("squeezer.conv.weight")
        self.conv = None if weight is None else nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        self.norm = nn.GroupNorm(1, config.dim, eps=_EPS)
        own = {name.removeprefix("squeezer."): v for name, v in tensors.items() if name.startswith("squeezer.")}
        self.load_state_dict(own)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.norm(maps if self.conv is None else self.conv(maps)))
