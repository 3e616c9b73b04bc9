"""What a weights file says about its network: the contract between the file reader and the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from umedfeat.errors import CheckpointRefused
from umedfeat.naming import printable

if TYPE_CHECKING:
    import torch

__all__ = ["Arrays", "Checkpoint", "EncoderConfig", "PoolOrder", "refuse_not_finite"]

#: Weights by name: no torch, which takes longer to import than some runs take.
Arrays = Mapping[str, npt.NDArray[Any]]

_MAX_SIZE, _MAX_STAGES, _MAX_WINDOW = 1 << 16, 8, 64

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

    def __post_init__(self) -> None:
        """Refuse sizes that no network has.

        Raises:
            CheckpointRefused: the file says so.
        """
        sizes = (self.embed_dim, *self.depths, *self.num_heads)
        sound = (
            self.family in ("swin", "convnext-timm", "convnext-tv")
            and isinstance(self.variant, str)
            and all(type(size) is int and 0 < size <= _MAX_SIZE for size in sizes)
            and 0 < len(self.depths) <= _MAX_STAGES
            and len(self.num_heads) == (len(self.depths) if self.family == "swin" else 0)
            and type(self.window) is int
            and (1 < self.window <= _MAX_WINDOW if self.family == "swin" else self.window == 0)
            and type(self.out_channels) is int
            and -1 <= self.out_channels <= _MAX_SIZE
            and self.pool_order in (None, "pool_first", "pool_last")
        )
        if not sound:
            raise CheckpointRefused("refused: the file describes a network of impossible sizes")

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return self.out_channels if self.out_channels > 0 else self.embed_dim * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True)
class Checkpoint:
    """Weights and configuration read from a file, nothing executed.

    ``arrays``: float32. Names: ``encoder.<path in the torchvision or timm model>`` and
    ``squeezer.conv.{weight,bias}`` (absent without convolution), ``squeezer.norm.{weight,bias}``.
    ``sha256``: of the file's bytes.
    """

    config: EncoderConfig
    arrays: Arrays
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what cannot give features.

        Raises:
            CheckpointRefused: an array holds NaN or infinity.
        """
        refuse_not_finite({name: bool(np.isfinite(array).all()) for name, array in self.arrays.items()})

    @classmethod
    def of_tensors(cls, config: EncoderConfig, tensors: Mapping[str, torch.Tensor], sha256: str) -> Checkpoint:
        """The same from torch's tensors, which lie on the CPU."""
        return cls(config, {name: tensor.detach().numpy() for name, tensor in tensors.items()}, sha256)

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The arrays as torch's tensors; they share their memory."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


def refuse_not_finite(finite: Mapping[str, bool]) -> None:
    """A network with NaN in its weights would fail every input, one by one, hours later.

    Args:
        finite: name of a tensor → are all its values numbers?

    Raises:
        CheckpointRefused: a tensor holds NaN or infinity.
    """
    for name, sound in finite.items():
        if not sound:
            message = f"refused: NaN or infinity in {printable(name)}"
            raise CheckpointRefused(message, remedy="the training diverged or the file is damaged: get it again")
