"""EfficientNet-Lite0 in plain torch: bit for bit what timm computes, without importing timm.

timm brings torchvision and torch's compiler, which cost a command on one image more time than its embedding. Names of
tensors are timm's (``tf_efficientnet_lite0``), so that its weights load by name.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Lite0"]

#: TensorFlow's; torch's own default is 1e-5.
_EPSILON = 1e-3
_STEM, _HEAD = 32, 1280


class _Stage(NamedTuple):
    """Blocks of one resolution; the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _SameConv(nn.Conv2d):
    """A strided convolution with TensorFlow's padding: as many outputs as ⌈side / stride⌉, the odd pixel at the end."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name for it
        rows, columns = (self._missing(side) for side in input.shape[-2:])
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(input, padding))

    def _missing(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max(0, (-(-side // stride) - 1) * stride + kernel - side)


class _Norm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the training, then ReLU6 where ``active``."""

    def __init__(self, channels: int, *, active: bool) -> None:
        super().__init__(channels, eps=_EPSILON)
        self.active = active

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name for it
        output = super().forward(input)
        return functional.relu6(output, inplace=True) if self.active else output


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    return _SameConv(channels, channels, kernel, stride, groups=channels, bias=False)


class _Separable(nn.Module):
    """Depthwise, then 1 × 1; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(inputs, kernel, stride)
        self.bn1 = _Norm(inputs, active=True)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = _Norm(outputs, active=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return y + x if self.adds else y


class _Inverted(nn.Module):
    """1 × 1 to more channels, depthwise, 1 × 1 back; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = _Norm(inner, active=True)
        self.conv_dw = _depthwise(inner, kernel, stride)
        self.bn2 = _Norm(inner, active=True)
        self.conv_pwl = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = _Norm(outputs, active=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return y + x if self.adds else y


class Lite0(nn.Module):
    """(n, 3, H, W) normalised → (n, 1280): the mean of the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _SameConv(3, _STEM, 3, 2, bias=False)
        self.bn1 = _Norm(_STEM, active=True)
        stages, inputs = [], _STEM
        for stage in _STAGES:
            blocks: list[nn.Module] = []
            for number in range(stage.blocks):
                stride = 1 if number else stage.stride
                if stage.expansion == 1:
                    blocks.append(_Separable(inputs, stage.channels, stage.kernel, stride))
                else:
                    blocks.append(_Inverted(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(inputs, _HEAD, 1, bias=False)
        self.bn2 = _Norm(_HEAD, active=True)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map (n, 1280, h, w)."""
        maps: torch.Tensor = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(images)))))
        return maps

    def forward_head(self, maps: torch.Tensor) -> torch.Tensor:
        """The mean of the last map."""
        return functional.adaptive_avg_pool2d(maps, 1).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))
