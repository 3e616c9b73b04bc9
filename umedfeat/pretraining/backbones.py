"""Encoders in trainable form: a pyramid of feature maps whose deepest becomes the vector.

The deepest map is the one that is pooled into the feature (after the last layer of the network, or the squeezer), so
that every label type trains the feature itself. Batch statistics stay those of the start: a batch holds one task only,
and its statistics are not the network's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from umedfeat.encoders.baseline import Baseline
from umedfeat.errors import SetupError

__all__ = ["STRIDES", "Backbone", "TimmBackbone", "freeze_first"]

#: Pixels of the image per step of each map.
STRIDES = (4, 8, 16, 32)
_ANY_SIDE = 64


class Backbone(Protocol):
    """What the trainer asks of an encoder. It is an ``nn.Module``.

    Attributes:
        channels: of the four maps that the decoders see.
        dim: length of the vector.
        fixed_size: the only side of images in pixels that the network takes; None: any multiple of 32.
    """

    channels: tuple[int, int, int, int]
    dim: int
    fixed_size: int | None

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(n, 3, H, W) RGB in [0, 1] → maps (n, C, H / stride, W / stride) of STRIDES; ``vector`` takes the deepest."""
        ...

    def squeezed(self, deepest: torch.Tensor) -> torch.Tensor:
        """The deepest map as the decoders see it: after the layers that the vector goes through too."""
        ...

    def vector(self, deepest: torch.Tensor) -> torch.Tensor:
        """The deepest map → (n, D): the feature."""
        ...

    def blocks(self) -> list[list[nn.Parameter]]:
        """Parameters from the first block to the last."""
        ...

    def exported(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of a state dict of this encoder under the names that its frozen form is built from."""
        ...


class TimmBackbone(nn.Module):
    """A timm network (CNN or Swin) with its own mean and std.

    Args:
        start: the frozen form, whose weights are trained from here on.

    Raises:
        SetupError: the network has no pyramid of strides 4, 8, 16 and 32.
    """

    def __init__(self, start: Baseline, name: str) -> None:
        super().__init__()
        network: Any = start.network
        self.network = network
        self.register_buffer("mean", start.mean, persistent=False)
        self.register_buffer("std", start.std, persistent=False)
        self._last = getattr(network, "output_fmt", "NCHW")
        self._indices = _indices(network, name)
        self.fixed_size = start.fixed_size
        side = start.fixed_size or _ANY_SIDE
        with torch.inference_mode():
            maps = self.eval().pyramid(torch.zeros(1, 3, side, side))
            self.dim = int(self.vector(maps[-1]).shape[1])
        sides = tuple(side // part.shape[-1] for part in maps)
        if sides != STRIDES:
            raise SetupError(f"{name} gives maps of strides {sides}", remedy="a CNN or Swin with strides 4, 8, 16, 32")
        self.channels = (maps[0].shape[1], maps[1].shape[1], maps[2].shape[1], maps[3].shape[1])

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        """See Backbone."""
        normalised = (images - self.mean) / self.std  # type: ignore[operator]
        deepest, levels = self.network.forward_intermediates(normalised, indices=self._indices)
        return [*levels, deepest.permute(0, 3, 1, 2) if self._last == "NHWC" else deepest]

    def vector(self, deepest: torch.Tensor) -> torch.Tensor:
        """See Backbone."""
        last = deepest.permute(0, 2, 3, 1) if self._last == "NHWC" else deepest
        vectors: torch.Tensor = self.network.forward_head(last, pre_logits=True)
        return vectors

    def squeezed(self, deepest: torch.Tensor) -> torch.Tensor:
        """See Backbone: the last map is behind every layer."""
        return deepest

    def blocks(self) -> list[list[nn.Parameter]]:
        """See Backbone: timm's own coarse groups."""
        from timm.models import group_parameters

        groups: dict[Any, list[str]] = group_parameters(self.network, self.network.group_matcher(coarse=True))
        named = dict(self.network.named_parameters())
        return [[named[name] for name in groups[key]] for key in sorted(groups)]

    def exported(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """See Backbone: timm's names."""
        return {name.removeprefix("network."): tensor for name, tensor in state.items()}

    def train(self, mode: bool = True) -> TimmBackbone:
        """Statistics stay frozen, and nothing is dropped at random."""
        super().train(False)
        return self


def _indices(network: Any, name: str) -> list[int]:
    """Which of the network's maps have the strides of the pyramid's first three levels: the last of each stride."""
    if not hasattr(network, "forward_intermediates") or not hasattr(network, "feature_info"):
        raise SetupError(f"{name} gives no maps", remedy="a CNN or Swin of timm, e.g. timm:resnet50")
    facts = network.feature_info if isinstance(network.feature_info, list) else network.feature_info.info
    by_stride = {int(fact["reduction"]): index for index, fact in enumerate(facts)}
    missing = [stride for stride in STRIDES[:3] if stride not in by_stride]
    if missing:
        raise SetupError(f"{name} has no map of stride {missing[0]}", remedy="a CNN or Swin of timm")
    return [by_stride[stride] for stride in STRIDES[:3]]


def freeze_first(blocks: Sequence[Sequence[nn.Parameter]], trainable: str) -> None:
    """Freeze all but the last N blocks ("last-N"), or nothing ("all").

    Raises:
        SetupError: there are not so many blocks.
    """
    kept = len(blocks) if trainable == "all" else int(trainable.removeprefix("last-"))
    if kept > len(blocks):
        raise SetupError(f"--trainable {trainable}: the encoder has {len(blocks)} blocks", remedy="all, or fewer")
    for number, block in enumerate(blocks):
        for parameter in block:
            parameter.requires_grad_(number >= len(blocks) - kept)
