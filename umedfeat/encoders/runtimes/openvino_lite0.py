"""EfficientNet-Lite0 as an OpenVINO graph of one size, made from plain arrays: ``networks.lite0`` without torch.

Batch norms are folded into the convolutions before them, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Model, Type
from openvino import opset13 as ops

from umedfeat.encoders.config import Arrays
from umedfeat.encoders.networks.lite0_layout import EPSILON, Layer, lite0_blocks, same_padding

__all__ = ["lite0_graph"]

_MOST = 6.0


def lite0_graph(arrays: Arrays, mean: Sequence[float], std: Sequence[float], height: int, width: int) -> Any:
    """(1, 3, height, width) RGB in [0, 1] → (1, 1280): the mean of the last map.

    Args:
        arrays: named as timm names them (``lite0_shapes``).
        mean, std: per channel.

    Returns:
        An ``openvino.Model``.
    """
    pixels = ops.parameter([1, 3, height, width], Type.f32)
    maps = ops.divide(ops.subtract(pixels, _by_channel(mean)), _by_channel(std))
    for block in lite0_blocks():
        before = maps
        for layer in block.layers:
            maps = _layer(maps, arrays, layer)
        if block.adds:
            maps = ops.add(maps, before)
    return Model([ops.reduce_mean(maps, ops.constant(np.array([2, 3])), False)], [pixels])


def _layer(maps: Any, arrays: Arrays, layer: Layer) -> Any:
    weight, bias = _folded(arrays, layer)
    kernel, sides = layer.shape[2], maps.get_output_shape(0)[2:]
    rows, columns = (same_padding(side, kernel, layer.stride) for side in sides)
    steps, begin, end = [layer.stride] * 2, [rows[0], columns[0]], [rows[1], columns[1]]
    if layer.depthwise:
        found = ops.group_convolution(maps, ops.constant(weight[:, None]), steps, begin, end, [1, 1])
    else:
        found = ops.convolution(maps, ops.constant(weight), steps, begin, end, [1, 1])
    found = ops.add(found, _by_channel(bias))
    return ops.clamp(found, 0.0, _MOST) if layer.active else found


def _folded(arrays: Arrays, layer: Layer) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Weights and bias of a convolution that does what convolution and norm do."""
    scale, shift, mean, variance = (
        arrays[f"{layer.norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / np.sqrt(variance + EPSILON)
    weight = arrays[f"{layer.convolution}.weight"] * scale[:, None, None, None]
    return weight.astype(np.float32), shift - mean * scale


def _by_channel(values: npt.ArrayLike) -> Any:
    return ops.constant(np.asarray(values, dtype=np.float32).reshape(1, -1, 1, 1))
