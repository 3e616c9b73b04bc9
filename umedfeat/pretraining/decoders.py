"""Decoders that all tasks of a label type share: from the pyramid to what their heads look at.

GroupNorm everywhere: a batch holds one task only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["BoxDecoder", "MaskDecoder", "block"]

_GROUP = 16  # channels that are normalised together


def block(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, GroupNorm, GELU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(channels_out // _GROUP, channels_out),
        nn.GELU(),
    )


class MaskDecoder(nn.Module):
    """U-Net (Ronneberger et al. 2015): (n, C, h, w) of strides 4 … 32 → (n, ``width``, H / 4, W / 4)."""

    width = 48

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = (128, 96, 64, self.width)
        self.deepest = block(channels[3], widths[0], 1)
        steps = zip(widths, reversed(channels[:3]), widths[1:], strict=False)
        self.steps = nn.ModuleList(block(above + skip, below) for above, skip, below in steps)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """The finest map."""
        found: torch.Tensor = self.deepest(levels[3])
        for step, skip in zip(self.steps, reversed(levels[:3]), strict=True):
            raised = functional.interpolate(found, skip.shape[-2:], mode="bilinear", align_corners=False)
            found = step(torch.cat([raised, skip], dim=1))
        return found


class BoxDecoder(nn.Module):
    """Feature pyramid (Lin et al. 2017) of strides 8, 16, 32 with FCOS towers (Tian et al. 2019), 128 channels.

    Gives two maps a level: what classes and what boxes are read from.
    """

    width = 128
    depth = 1

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, self.width, 1) for count in channels[1:])
        self.smooth = nn.ModuleList(block(self.width, self.width) for _ in channels[1:])
        self.kinds = nn.Sequential(*(block(self.width, self.width) for _ in range(self.depth)))
        self.sides = nn.Sequential(*(block(self.width, self.width) for _ in range(self.depth)))

    def forward(self, levels: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(for classes, for boxes) of strides 8, 16, 32, each (n, 128, h, w)."""
        found: list[torch.Tensor] = [lateral(level) for lateral, level in zip(self.lateral, levels[1:], strict=True)]
        for number in (1, 0):
            above = functional.interpolate(found[number + 1], found[number].shape[-2:], mode="nearest")
            found[number] = found[number] + above
        smooth = [layer(level) for layer, level in zip(self.smooth, found, strict=True)]
        return [(self.kinds(level), self.sides(level)) for level in smooth]
