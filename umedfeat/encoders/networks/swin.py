"""Swin Transformer V2 with a squeezer, in our own formulation: identical results, constants computed once.

What a frozen network recomputes needlessly in the usual formulation is a constant here: the relative position bias
(16 · sigmoid of a small network), the shift masks, the clamped logit scales, the key bias (zero). Tokens are kept in
window order, so that a shift is one gather instead of roll, pad, partition, merge, crop and roll; padding tokens, whose
query, key and value are their biases, are filled in and never projected.

Semantics are torchvision's (``torchvision.models.swin_transformer``, V2): zero padding after the last row and column,
windows that keep their size on small maps, no shift along a side that one window covers, LayerNorm eps 1e-5, exact
GELU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.config import EncoderConfig

__all__ = ["Geometry", "SwinV2", "window_geometry"]

_MASKED = -100.0
_MAX_LOGIT_SCALE = math.log(100.0)
_EPS = 1e-5
#: Shorter vectors are not normalised (``functional.normalize``).
_SHORTEST = 1e-12
#: Sums of so many terms and more are made of pieces of so many.
_LONG, _PIECE = 384, 96
#: Tokens whose block fits a core's second-level cache.
_CACHED_TOKENS = 1024
#: Sizes of images (and batches) whose constants are kept.
_KEPT_SIZES = 8


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the tokens of a (height, width) map lie in its windows.

    Attributes:
        key: (height, width, window, shifted); equal keys, equal geometry.
        order: (height · width,) row-major token at each place of the window order; padding left out.
        slots: (height · width,) place of each of those tokens among the padded windows' slots.
        windows: number of windows; each has ``window²`` slots.
        mask: (windows, window², window²) additive, or None without a shift.
    """

    key: tuple[int, int, int, bool]
    order: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    windows: int
    mask: npt.NDArray[np.float32] | None


@lru_cache(maxsize=256)
def window_geometry(height: int, width: int, window: int, shifted: bool) -> Geometry:
    """The geometry of one kind of block on one size of map."""
    padded = (-(-height // window) * window, -(-width // window) * window)
    shift = tuple(window // 2 if shifted and window < side else 0 for side in padded)
    tokens = np.full(padded, -1, dtype=np.int64)
    tokens[:height, :width] = np.arange(height * width).reshape(height, width)
    tokens = np.roll(tokens, (-shift[0], -shift[1]), axis=(0, 1))
    slots = _partition(tokens, window).reshape(-1)
    places = np.flatnonzero(slots >= 0)
    mask = _shift_mask(padded, window, shift) if any(shift) else None
    key = (height, width, window, shifted)
    return Geometry(key, slots[places], places, slots.size // window**2, mask)


def _partition(values: npt.NDArray[np.int64], window: int) -> npt.NDArray[np.int64]:
    rows, columns = values.shape[0] // window, values.shape[1] // window
    parts: npt.NDArray[np.int64] = values.reshape(rows, window, columns, window).swapaxes(1, 2)
    return parts.reshape(rows * columns, window**2)


def _shift_mask(padded: Sequence[int], window: int, shift: Sequence[int]) -> npt.NDArray[np.float32]:
    """-100 between tokens that a cyclic shift has brought together from different sides of the map."""
    regions = np.zeros(tuple(padded), dtype=np.int64)
    count = 0
    edges = [
        ((0, side - window), (side - window, side - step), (side - step, side))
        for side, step in zip(padded, shift, strict=True)
    ]
    for top, bottom in edges[0]:
        for left, right in edges[1]:
            regions[top:bottom, left:right] = count
            count += 1
    parts = _partition(regions, window)
    mask: npt.NDArray[np.float32] = np.where(parts[:, None, :] != parts[:, :, None], _MASKED, 0.0).astype(np.float32)
    return mask


class Place(NamedTuple):
    """The constants of one block for one size of map and batch.

    Attributes:
        gather: place of every token in the order before, or None where the order stays.
        slots: places of the tokens among their windows' slots where there is padding, else None.
        windows: of one image.
        bias: (1, windows or n · windows; heads, window², window²), added to the attention.
        masked: each window has a bias of its own.
    """

    gather: torch.Tensor | None
    slots: torch.Tensor | None
    windows: int
    bias: torch.Tensor
    masked: bool


class StagePlaces(NamedTuple):
    """Those of one resolution; ``back`` leads from the last block's order to row-major."""

    blocks: list[Place]
    back: torch.Tensor | None


class SwinV2(nn.Module):
    """(n, 3, H, W) RGB in [0, 1] → the feature maps of every stage; no final norm, no head.

    Args:
        config: sizes (``family == "swin"``).
        tensors: named as torchvision names them, prefix ``encoder.``.
    """

    def __init__(self, config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        own = {name.removeprefix("encoder."): value for name, value in tensors.items()}
        self.window = config.window
        self.patch_weight = _frozen(own["features.0.0.weight"])
        self.patch_bias = _frozen(own["features.0.0.bias"])
        self.patch_norm = _Norm(own, "features.0.2")
        stages = []
        for number, depth in enumerate(config.depths):
            place = 2 * number + 1
            blocks = [_Block(own, f"features.{place}.{k}", config, number, shifted=k % 2 == 1) for k in range(depth)]
            merge = _Merge(own, f"features.{place + 1}") if number + 1 < len(config.depths) else None
            stages.append(_Stage(blocks, merge))
        self.stages: Sequence[_Stage] = nn.ModuleList(stages)  # type: ignore[assignment]
        self._places: dict[tuple[Any, ...], list[StagePlaces]] = {}

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps (n, C, h, w), strides 4, 8, 16, 32."""
        places = self._places_of(images)
        maps = functional.conv2d(images, self.patch_weight, self.patch_bias, stride=4)
        height, width = maps.shape[2:]
        tokens = self.patch_norm(maps.flatten(2).transpose(1, 2))
        levels = []
        for stage, place in zip(self.stages, places, strict=True):
            tokens = stage.blocks_on(tokens, place)
            levels.append(tokens.view(-1, height, width, tokens.shape[2]).permute(0, 3, 1, 2))
            if stage.merge is not None:
                tokens = stage.merge(tokens, height, width)
                height, width = (height + 1) // 2, (width + 1) // 2
        return levels

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _places_of(self, images: torch.Tensor) -> list[StagePlaces]:
        """What depends on the size alone; made once, and never by a compiler, which would make it anew each time."""
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
        key = (images.shape, images.device, dtype, torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
        found = self._places.get(key)
        if found is None:
            height, width = (side // 4 for side in images.shape[2:])
            found = []
            for stage in self.stages:
                found.append(stage.places(height, width, len(images), dtype, images.device))
                height, width = (height + 1) // 2, (width + 1) // 2
            if len(self._places) >= _KEPT_SIZES:  # other threads keep what they have in hand
                self._places.clear()
            self._places[key] = found
        return found


class _Norm(nn.Module):
    def __init__(self, own: Mapping[str, torch.Tensor], name: str) -> None:
        super().__init__()
        self.weight = _frozen(own[f"{name}.weight"])
        self.bias = _frozen(own[f"{name}.bias"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(_at_least_float(tokens), self.weight.shape, self.weight, self.bias, _EPS)


class _Stage(nn.Module):
    """Blocks of one resolution; tokens are (n, h · w, C), row-major at both ends."""

    def __init__(self, blocks: list[_Block], merge: _Merge | None) -> None:
        super().__init__()
        self.blocks: Sequence[_Block] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.merge = merge

    def places(self, height: int, width: int, n: int, dtype: torch.dtype, device: torch.device) -> StagePlaces:
        """The constants of every block on n maps of one size."""
        before: Geometry | None = None
        found = []
        for block in self.blocks:
            geometry = window_geometry(height, width, block.window, block.shifted)
            gather = _gather(before.key if before else None, geometry.key, device)
            padded = geometry.windows * block.window**2 != height * width
            slots = torch.from_numpy(geometry.slots).to(device) if padded else None
            bias = block.bias(geometry, 1 if block.in_parts(height * width, slots, device) else n, dtype, device)
            found.append(Place(gather, slots, geometry.windows, bias, geometry.mask is not None))
            before = geometry
        return StagePlaces(found, _gather(before.key if before else None, None, device))

    def blocks_on(self, tokens: torch.Tensor, places: StagePlaces) -> torch.Tensor:
        """Each block works in its own window order; between two blocks one gather changes the order."""
        for block, place in zip(self.blocks, places.blocks, strict=True):
            tokens = block(_reordered(tokens, place.gather), place)
        return _reordered(tokens, places.back)


class _Linear(nn.Module):
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = _frozen(weight)
        self.bias = None if bias is None else _frozen(bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """On a CPU in float32 a long sum is made of short ones: its rounding grows with the root of their length."""
        terms = self.weight.shape[1]
        plain = tokens.dtype != torch.float32 or not tokens.is_cpu or torch.is_autocast_enabled("cpu")
        if terms < _LONG or plain or _is_traced():
            return functional.linear(tokens, self.weight, self.bias)
        rows, weight = tokens.reshape(-1, terms), self.weight.t()
        first = slice(0, _PIECE)
        out = rows[:, first] @ weight[first] if self.bias is None else self.bias.addmm(rows[:, first], weight[first])
        for start in range(_PIECE, terms, _PIECE):
            piece = slice(start, start + _PIECE)
            out.addmm_(rows[:, piece], weight[piece])
        return out.view(*tokens.shape[:-1], len(self.weight))


class _Block(nn.Module):
    """Attention within windows, then an MLP, each with a norm behind it and a residual around it."""

    def __init__(
        self, own: Mapping[str, torch.Tensor], name: str, config: EncoderConfig, stage: int, *, shifted: bool
    ) -> None:
        super().__init__()
        self.window, self.shifted, self.heads = config.window, shifted, config.num_heads[stage]
        weights, biases = (own[f"{name}.attn.qkv.{kind}"].chunk(3) for kind in ("weight", "bias"))
        self.query, self.value = _Linear(weights[0], biases[0]), _Linear(weights[2], biases[2])
        self.key = _Linear(weights[1], None)  # V2 has no key bias
        self.proj, self.up, self.down = (
            _Linear(own[f"{name}.{part}.weight"], own[f"{name}.{part}.bias"])
            for part in ("attn.proj", "mlp.0", "mlp.3")
        )
        self.norm1, self.norm2 = _Norm(own, f"{name}.norm1"), _Norm(own, f"{name}.norm2")
        scale = own[f"{name}.attn.logit_scale"].double().clamp(max=_MAX_LOGIT_SCALE).exp()
        self.scale = _frozen(scale.reshape(self.heads, 1, 1))
        self.position = _frozen(_position_bias(own, f"{name}.attn", self.window, self.heads))

    def forward(self, tokens: torch.Tensor, place: Place) -> torch.Tensor:
        """(n, h · w, C) in window order."""
        n, length, _ = tokens.shape
        if self.in_parts(length, place.slots, tokens.device):
            return self._in_parts(tokens, place)
        whole = not place.masked or len(place.bias) == n * place.windows
        bias = place.bias if whole else place.bias.repeat(n, 1, 1, 1)
        return self._changed(tokens, place.windows, bias, place.slots)

    def in_parts(self, length: int, slots: torch.Tensor | None, device: torch.device) -> bool:
        """On a CPU a few windows at a time: what they need stays in the core's cache."""
        return length > _CACHED_TOKENS and slots is None and device.type == "cpu" and not _is_traced()

    def bias(self, geometry: Geometry, n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Relative position bias, plus the shift mask of each window of n images where there is one."""
        if geometry.mask is None:
            return self.position.to(dtype)
        mask = torch.from_numpy(geometry.mask).to(device)[:, None]
        return (self.position + mask).repeat(n, 1, 1, 1).to(dtype)

    def _in_parts(self, tokens: torch.Tensor, place: Place) -> torch.Tensor:
        n, length, _ = tokens.shape
        area = self.window**2
        out = torch.empty_like(tokens)
        step = -(-place.windows // -(-length // _CACHED_TOKENS))
        for image in range(n):
            for first in range(0, place.windows, step):
                last = min(first + step, place.windows)
                part = (slice(image, image + 1), slice(first * area, last * area))
                bias = place.bias[first:last] if place.masked else place.bias
                self._changed(tokens[part], last - first, bias, None, out[part])
        return out

    def _changed(
        self,
        tokens: torch.Tensor,
        windows: int,
        bias: torch.Tensor,
        slots: torch.Tensor | None,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The block on some windows of every image; ``slots`` where tokens lie in them, None where they fill them."""
        tokens = tokens + self.norm1(self._attended(tokens, windows, bias, slots))
        changed = self.norm2(self.down(functional.gelu(self.up(tokens))))
        return torch.add(tokens, changed) if out is None else torch.add(tokens, changed, out=out)

    def _attended(
        self, tokens: torch.Tensor, windows: int, bias: torch.Tensor, slots: torch.Tensor | None
    ) -> torch.Tensor:
        n, _, channels = tokens.shape
        value = self._headed(self.value, tokens, windows, slots)
        query, key = (_at_least_float(self._headed(to, tokens, windows, slots)) for to in (self.query, self.key))
        query, key = query * (self.scale / _length(query)), key / _length(key)
        mixed = functional.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, attn_mask=bias, scale=1.0
        )
        mixed = mixed.transpose(1, 2).reshape(n, windows * self.window**2, channels)
        projected: torch.Tensor = self.proj(mixed if slots is None else mixed.index_select(1, slots))
        return projected

    def _headed(self, to: _Linear, tokens: torch.Tensor, windows: int, slots: torch.Tensor | None) -> torch.Tensor:
        """Queries, keys or values (n · windows, heads, window², channels of a head); a padding token's is the bias."""
        n, _, channels = tokens.shape
        found: torch.Tensor = to(tokens)
        if slots is not None:
            padding = torch.zeros(channels, device=tokens.device) if to.bias is None else to.bias
            filled = padding.to(found.dtype).repeat(n, windows * self.window**2, 1)
            found = filled.index_copy_(1, slots, found)
        if self.heads == 1:  # nothing to transpose; OpenVINO 2026.4 drops that transposition and its shape with it
            return found.view(n * windows, 1, self.window**2, channels)
        return found.view(n * windows, self.window**2, self.heads, channels // self.heads).transpose(1, 2)


class _Merge(nn.Module):
    """Four neighbours become one token: (n, h · w, C) → (n, ⌈h/2⌉ · ⌈w/2⌉, 2C)."""

    def __init__(self, own: Mapping[str, torch.Tensor], name: str) -> None:
        super().__init__()
        self.reduction = _Linear(own[f"{name}.reduction.weight"], None)
        self.norm = _Norm(own, f"{name}.norm")

    def forward(self, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
        n, _, channels = tokens.shape
        grid = tokens.view(n, height, width, channels)
        if height % 2 or width % 2:
            grid = functional.pad(grid, (0, 0, 0, width % 2, 0, height % 2))
        four = [grid[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        joined = torch.cat(four, dim=-1).flatten(1, 2)
        merged: torch.Tensor = self.norm(self.reduction(joined))
        return merged


def _position_bias(own: Mapping[str, torch.Tensor], name: str, window: int, heads: int) -> torch.Tensor:
    """(1, heads, window², window²): 16 · sigmoid of the small network over log-spaced offsets; float64."""
    up, down = own[f"{name}.cpb_mlp.0.weight"].double(), own[f"{name}.cpb_mlp.2.weight"].double()
    steps = torch.arange(-(window - 1), window, dtype=torch.float64)
    table = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1) / (window - 1) * 8
    table = torch.sign(table) * torch.log2(table.abs() + 1.0) / 3.0
    hidden = functional.relu(functional.linear(table, up, own[f"{name}.cpb_mlp.0.bias"].double()))
    values = functional.linear(hidden, down).reshape(-1, heads)
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    offset = places[:, :, None] - places[:, None, :] + window - 1
    index = torch.from_numpy(offset[0] * (2 * window - 1) + offset[1])
    return 16 * torch.sigmoid(values[index.reshape(-1)]).reshape(window**2, window**2, heads).permute(2, 0, 1)[None]


def _reordered(tokens: torch.Tensor, gather: torch.Tensor | None) -> torch.Tensor:
    return tokens if gather is None else tokens.index_select(1, gather)


@lru_cache(maxsize=512)
def _gather(
    before: tuple[int, int, int, bool] | None, after: tuple[int, int, int, bool] | None, device: torch.device
) -> torch.Tensor | None:
    """For every place of the new order, the place of its token in the old one; None is row-major.

    None where both orders are the same.
    """
    if before == after:
        return None
    sides = before or after
    row_major = np.arange(sides[0] * sides[1]) if sides else np.arange(0)
    old = window_geometry(*before).order if before else row_major
    new = window_geometry(*after).order if after else row_major
    if np.array_equal(old, new):
        return None
    place = np.empty_like(old)
    place[old] = np.arange(len(old))
    return torch.from_numpy(place[new]).to(device)


def _is_traced() -> bool:
    """Is a graph being made of this, for OpenVINO or by ``torch.compile``? It gets the plain operations."""
    traced: bool = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    return traced


def _at_least_float(tensor: torch.Tensor) -> torch.Tensor:
    """Tokens and directions are normalised in float32 also where the products are bfloat16 or float16."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _length(vectors: torch.Tensor) -> torch.Tensor:
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return lengths.clamp_min(_SHORTEST)


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().to(torch.float32).contiguous(), requires_grad=False)
