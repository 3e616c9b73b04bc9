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

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.config import EncoderConfig
from umedfeat.encoders.networks.windows import Geometry, Key, logit_scale, position_bias, reordering, window_geometry

__all__ = ["SwinV2"]

_EPS = 1e-5
#: Shorter vectors are not normalised (``functional.normalize``).
_SHORTEST = 1e-12
#: Sums of so many terms and more are made of pieces of so many.
_LONG, _PIECE = 384, 96
#: Tokens whose block fits a core's second-level cache.
_CACHED_TOKENS = 1024
#: Sizes of images (and batches) whose constants are kept.
_KEPT_SIZES = 8


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
            slots = torch.from_numpy(geometry.slots).to(device) if geometry.padded else None
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
        arrays = {key: value.numpy() for key, value in own.items() if key.startswith(f"{name}.attn.")}
        self.scale = _frozen(torch.from_numpy(logit_scale(arrays, f"{name}.attn")))
        self.position = _frozen(torch.from_numpy(position_bias(arrays, f"{name}.attn", self.window, self.heads)))

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


def _reordered(tokens: torch.Tensor, gather: torch.Tensor | None) -> torch.Tensor:
    return tokens if gather is None else tokens.index_select(1, gather)


@lru_cache(maxsize=512)
def _gather(before: Key | None, after: Key | None, device: torch.device) -> torch.Tensor | None:
    """``windows.reordering`` on a device."""
    places = reordering(before, after)
    return None if places is None else torch.from_numpy(places).to(device)


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
