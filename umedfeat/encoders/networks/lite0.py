"""EfficientNet-Lite0 in plain torch: bit for bit what timm computes, without importing timm.

timm brings torchvision and torch's compiler, which cost a command on one image more time than its embedding. Names of
tensors are timm's (``tf_efficientnet_lite0``), so that its weights load by name.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.networks.lite0_layout import DIM, EPSILON, STAGES, STEM, same_padding

__all__ = ["Lite0"]


class _SameConv(nn.Conv2d):
    """A strided convolution with TensorFlow's padding: as many outputs as ⌈side / stride⌉, the odd pixel at the end."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name for it
        sides = zip(input.shape[-2:], self.kernel_size, self.stride, strict=True)
        rows, columns = (same_padding(*side) for side in sides)
        return super().forward(functional.pad(input, (*columns, *rows)))


class _Norm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the training, then ReLU6 where ``active``."""

    def __init__(self, channels: int, *, active: bool) -> None:
        super().__init__(channels, eps=EPSILON)
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
        self.conv_stem = _SameConv(3, STEM, 3, 2, bias=False)
        self.bn1 = _Norm(STEM, active=True)
        stages, inputs = [], STEM
        for stage in STAGES:
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
        self.conv_head = nn.Conv2d(inputs, DIM, 1, bias=False)
        self.bn2 = _Norm(DIM, active=True)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map (n, 1280, h, w)."""
        maps: torch.Tensor = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(images)))))
        return maps

    def forward_head(self, maps: torch.Tensor) -> torch.Tensor:
        """The mean of the last map."""
        return functional.adaptive_avg_pool2d(maps, 1).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))
