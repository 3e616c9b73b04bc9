"""What a weights file says about its network: the contract between the file reader and the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Checkpoint", "EncoderConfig", "PoolOrder"]

PoolOrder = Literal["pool_first", "pool_last"]


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture of an encoder with its squeezer.

    Attributes:
        family: "swin" (torchvision Swin V2), "convnext-timm" (timm, LayerNorm2d → GroupNorm(1, C)) or
            "convnext-tv" (torchvision ConvNeXt).
        variant: name in that library ("swin_v2_t", "convnextv2_large", "convnext_large") or "" where only sizes tell.
        embed_dim, depths, num_heads, window: the Swin's sizes (heads and window empty/0 for ConvNeXt).
        out_channels: channels of the squeezer's 1×1 convolution; -1 where it has none.
        pool_order: where the file or the registry knows it, else None.
        generation: "1.0.3", "1.0.4" or "1.6" as far as the file tells; "" for our own safetensors.
    """

    family: Literal["swin", "convnext-timm", "convnext-tv"]
    variant: str
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...] = ()
    window: int = 0
    out_channels: int = -1
    pool_order: PoolOrder | None = None
    generation: str = ""

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return self.out_channels if self.out_channels > 0 else self.embed_dim * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and configuration read from a file, nothing executed.

    ``tensors``: float32 on the CPU. Names: ``encoder.<path in the torchvision or timm model>`` and
    ``squeezer.conv.{weight,bias}`` (absent without convolution), ``squeezer.norm.{weight,bias}``.
    ``sha256``: of the file's bytes.
    """

    config: EncoderConfig
    tensors: dict[str, torch.Tensor]
    sha256: str
