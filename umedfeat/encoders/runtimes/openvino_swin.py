"""Swin V2 as an OpenVINO graph of one size, made from plain arrays: the network of ``networks.swin``, without torch.

Tracing the torch network gives the same graph, but costs the import of torch, the network and seconds. Semantics and
constants are those of ``networks.swin``: tokens in window order, padding tokens filled in and never projected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Model, Type
from openvino import opset13 as ops

from umedfeat.encoders.config import Arrays, EncoderConfig
from umedfeat.encoders.networks.windows import Geometry, logit_scale, position_bias, reordering, window_geometry

__all__ = ["swin_graph"]

_EPS = 1e-5
#: Shorter vectors are not normalised (as in ``networks.swin``).
_SHORTEST = 1e-12
_PATCH = 4


def swin_graph(config: EncoderConfig, arrays: Arrays, height: int, width: int) -> Any:
    """(1, 3, height, width) RGB in [0, 1] → (1, tokens, channels): the deepest map, row-major.

    Args:
        config: sizes (``family == "swin"``).
        arrays: named as torchvision names them, prefix ``encoder.``; the graph shares their memory.

    Returns:
        An ``openvino.Model``.
    """
    own = {name.removeprefix("encoder."): values for name, values in arrays.items() if name.startswith("encoder.")}
    pixels = ops.parameter([1, 3, height, width], Type.f32)
    tokens = _patches(pixels, own, height, width)
    height, width = height // _PATCH, width // _PATCH
    for number, depth in enumerate(config.depths):
        tokens = _stage(tokens, own, config, number, depth, height, width)
        if number + 1 < len(config.depths):
            tokens = _merged(tokens, own, f"features.{2 * number + 2}", height, width)
            height, width = (height + 1) // 2, (width + 1) // 2
    return Model([tokens], [pixels])


def _patches(pixels: Any, own: Arrays, height: int, width: int) -> Any:
    weight = own["features.0.0.weight"]
    steps, nothing = [_PATCH, _PATCH], [0, 0]
    maps = ops.convolution(pixels, _constant(weight), steps, nothing, nothing, [1, 1])
    grid = ops.reshape(maps, _shape(1, len(weight), (height // _PATCH) * (width // _PATCH)), False)
    tokens = ops.add(ops.transpose(grid, _shape(0, 2, 1)), _constant(own["features.0.0.bias"]))
    return _norm(tokens, own, "features.0.2")


def _stage(tokens: Any, own: Arrays, config: EncoderConfig, number: int, depth: int, height: int, width: int) -> Any:
    """Blocks of one resolution, row-major at both ends; between two blocks one gather changes the order."""
    before = None
    for k in range(depth):
        geometry = window_geometry(height, width, config.window, k % 2 == 1)
        tokens = _gathered(tokens, reordering(before, geometry.key))
        tokens = _block(tokens, own, f"features.{2 * number + 1}.{k}", geometry, config.num_heads[number])
        before = geometry.key
    return _gathered(tokens, reordering(before, None))


def _block(tokens: Any, own: Arrays, name: str, geometry: Geometry, heads: int) -> Any:
    """Attention within windows, then an MLP, each with a norm behind it and a residual around it."""
    attended = _attended(tokens, own, f"{name}.attn", geometry, heads)
    tokens = ops.add(tokens, _norm(attended, own, f"{name}.norm1"))
    hidden = ops.gelu(_linear(tokens, own, f"{name}.mlp.0"), "erf")
    return ops.add(tokens, _norm(_linear(hidden, own, f"{name}.mlp.3"), own, f"{name}.norm2"))


def _attended(tokens: Any, own: Arrays, name: str, geometry: Geometry, heads: int) -> Any:
    weights, biases = (np.split(own[f"{name}.qkv.{kind}"], 3) for kind in ("weight", "bias"))
    biases[1] = np.zeros_like(biases[1])  # V2 has no key bias
    query, key, value = (
        _headed(tokens, weight, bias, geometry, heads) for weight, bias in zip(weights, biases, strict=True)
    )
    bias = position_bias(own, name, geometry.key[2], heads)
    if geometry.mask is not None:
        bias = bias + geometry.mask[:, None]
    query = ops.multiply(query, ops.divide(_constant(logit_scale(own, name)), _length(query)))
    key = ops.divide(key, _length(key))
    logits = ops.add(ops.matmul(query, key, False, True), _constant(bias))
    mixed = ops.matmul(ops.softmax(logits, -1), value, False, False)
    joined = ops.reshape(_transposed(mixed, heads), _shape(1, _slots(geometry), len(weights[0])), False)
    if geometry.padded:
        joined = _gathered(joined, geometry.slots)
    return _linear(joined, own, f"{name}.proj")


def _headed(tokens: Any, weight: npt.NDArray[Any], bias: npt.NDArray[Any], geometry: Geometry, heads: int) -> Any:
    """Queries, keys or values (windows, heads, window², channels of a head); a padding token's is the bias."""
    channels, area = len(weight), geometry.key[2] ** 2
    found = ops.matmul(tokens, _constant(weight), False, True)
    if bias.any():
        found = ops.add(found, _constant(bias))
    if geometry.padded:
        found = _gathered(ops.concat([found, _constant(bias.reshape(1, 1, channels))], 1), _filling(geometry))
    found = ops.reshape(found, _shape(geometry.windows, area, heads, channels // heads), False)
    return _transposed(found, heads)


def _transposed(parts: Any, heads: int) -> Any:
    """Heads before tokens, or back; with one head OpenVINO 2026.4 drops a transposition and its shape with it."""
    if heads > 1:
        return ops.transpose(parts, _shape(0, 2, 1, 3))
    windows, first, second, channels = parts.get_output_shape(0)
    return ops.reshape(parts, _shape(windows, second, first, channels), False)


def _merged(tokens: Any, own: Arrays, name: str, height: int, width: int) -> Any:
    """Four neighbours become one token: (1, h · w, C) → (1, ⌈h/2⌉ · ⌈w/2⌉, 2C)."""
    channels = tokens.get_output_shape(0)[2]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    grid = ops.reshape(tokens, _shape(1, height, width, channels), False)
    if height % 2 or width % 2:
        grid = ops.pad(grid, _shape(0, 0, 0, 0), _shape(0, height % 2, width % 2, 0), "constant")
    grid = ops.reshape(grid, _shape(1, rows, 2, columns, 2, channels), False)
    joined = ops.transpose(grid, _shape(0, 1, 3, 4, 2, 5))  # (0, 0), (1, 0), (0, 1), (1, 1)
    joined = ops.reshape(joined, _shape(1, rows * columns, 4 * channels), False)
    return _norm(ops.matmul(joined, _constant(own[f"{name}.reduction.weight"]), False, True), own, f"{name}.norm")


def _linear(tokens: Any, own: Arrays, name: str) -> Any:
    product = ops.matmul(tokens, _constant(own[f"{name}.weight"]), False, True)
    return ops.add(product, _constant(own[f"{name}.bias"]))


def _norm(tokens: Any, own: Arrays, name: str) -> Any:
    even = ops.mvn(tokens, _shape(-1), True, _EPS, "inside_sqrt")
    return ops.add(ops.multiply(even, _constant(own[f"{name}.weight"])), _constant(own[f"{name}.bias"]))


def _length(vectors: Any) -> Any:
    return ops.maximum(ops.reduce_l2(vectors, _shape(-1), True), _constant(np.array([_SHORTEST])))


def _gathered(tokens: Any, places: npt.NDArray[np.int64] | None) -> Any:
    return tokens if places is None else ops.gather(tokens, _places(places), _shape(1))


def _filling(geometry: Geometry) -> npt.NDArray[np.int64]:
    """For every slot the place of its token; for those without one the place behind the last token."""
    places = np.full(_slots(geometry), len(geometry.slots))
    places[geometry.slots] = np.arange(len(geometry.slots))
    return places


def _slots(geometry: Geometry) -> int:
    return geometry.windows * geometry.key[2] ** 2


def _constant(values: npt.NDArray[Any]) -> Any:
    return ops.constant(np.ascontiguousarray(values, dtype=np.float32), shared_memory=True)


def _places(values: npt.NDArray[np.int64]) -> Any:
    return ops.constant(values.astype(np.int32))


def _shape(*numbers: int) -> Any:
    return ops.constant(np.array(numbers, dtype=np.int64))
