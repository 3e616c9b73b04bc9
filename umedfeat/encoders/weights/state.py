"""State dicts of others' networks: read without executing anything, named as timm names them, fitted strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from umedfeat.encoders.config import refuse_not_finite
from umedfeat.encoders.known import Names
from umedfeat.errors import CheckpointRefused

__all__ = ["fill", "from_coca", "from_open_clip", "from_transformers", "of_network", "read_state", "renamed"]

Tensors = dict[str, torch.Tensor]

_SAFER = "give a safetensors file"


def read_state(path: Path) -> Tensors:
    """The tensors of a safetensors file, or of a torch file that holds nothing but tensors and numbers.

    A training's checkpoint is taken too: the one state dict in it, without the "module." of parallel training.

    Raises:
        CheckpointRefused: unsafe (it would run code), damaged, no state dict or several, or NaN or infinity in it.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise CheckpointRefused(f"{path.name}: damaged, or no weights file", remedy=_SAFER) from error
    except Exception as error:  # torch's restricted reader raises whatever hostile bytes lead to
        raise CheckpointRefused(f"{path.name}: unsafe or damaged", remedy=_SAFER) from error
    state = _unwrapped(state, path.name)
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise CheckpointRefused(f"{path.name}: no state dict (names and tensors)", remedy=_SAFER)
    floating = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    refuse_not_finite({name: bool(torch.isfinite(tensor).all()) for name, tensor in floating.items()})
    return state


def _unwrapped(state: Any, file: str) -> Any:
    inner = state.get("state_dict", state) if isinstance(state, dict) else state
    if inner is state and isinstance(state, dict):
        dicts = [str(name) for name, value in state.items() if _is_state(value)]
        if len(dicts) > 1:
            message = f"{file}: holds several state dicts: {', '.join(map(repr, dicts))}"
            raise CheckpointRefused(message, remedy="save the one that is meant as a file of its own")
        inner = state[dicts[0]] if dicts else state
    if isinstance(inner, dict) and inner and all(str(name).startswith("module.") for name in inner):
        return {str(name).removeprefix("module."): tensor for name, tensor in inner.items()}
    return inner


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(one, torch.Tensor) for one in value.values())


def of_network(model: nn.Module, state: Tensors, file: str) -> Tensors:
    """The tensors of a network that stands in a larger one ("backbone.", "model."), under its own names.

    Raises:
        CheckpointRefused: it stands there several times, under other names only.
    """
    wanted = list(model.state_dict())
    ends = {key.removesuffix(wanted[0]) for key in state if key.endswith(wanted[0])} if wanted else set()
    places = sorted(place for place in ends if all(place + name in state for name in wanted))
    if not places or "" in places:
        return state
    if len(places) > 1:
        message = f"{file}: holds this network several times, under {', '.join(places)}"
        raise CheckpointRefused(message, remedy="save the one that is meant as a file of its own")
    return _under(state, places[0])


def fill(model: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Give a network its tensors; what it has no place for (a head) is left out.

    Args:
        name: of the file, for the message.

    Raises:
        CheckpointRefused: a tensor is missing, of another shape, or of whole or complex numbers where it should not.
    """
    own = model.state_dict()
    odd = [key for key, tensor in state.items() if key in own and _is_odd(tensor, own[key])]
    if odd:
        message = f"{name}: {odd[0]} holds {state[odd[0]].dtype}, not the weights themselves ({len(odd)} such tensors)"
        raise CheckpointRefused(message, remedy="give the weights as they were before they were quantised")
    try:
        missing, _ = model.load_state_dict(dict(state), strict=False)
    except (RuntimeError, AttributeError, TypeError) as error:
        message = f"{name}: not a state dict of this model"
        raise CheckpointRefused(message, remedy="give the model's own weights") from error
    if missing:
        message = f"{name}: not a state dict of this model: it lacks {len(missing)} tensors, e.g. {missing[0]}"
        raise CheckpointRefused(message, remedy="give the model's own weights")


def _is_odd(tensor: torch.Tensor, own: torch.Tensor) -> bool:
    return own.is_floating_point() and not tensor.is_floating_point()


def renamed(state: Tensors, names: Names) -> Tensors:
    """The tensors under timm's names.

    Raises:
        CheckpointRefused: the file is named otherwise.
    """
    if names == "timm":
        return state
    try:
        return _RENAMED.get(names, from_transformers)(state)
    except KeyError as error:
        message = f"not a state dict of this model: it lacks {error.args[0]}"
        raise CheckpointRefused(message, remedy="give the model's own weights") from error


def from_open_clip(state: Tensors) -> Tensors:
    """The image tower of an OpenCLIP model with a timm trunk; its projection is "projection.weight"."""
    return {**_under(state, "visual.trunk."), "projection.weight": state["visual.head.proj.weight"]}


#: Modules of the image tower's pooler in CONCH, and in ``AttentionPooled``.
_POOLER = {
    "visual.attn_pool_contrast.attn.": "attention.",
    "visual.attn_pool_contrast.ln_q.": "query_norm.",
    "visual.attn_pool_contrast.ln_k.": "token_norm.",
    "visual.ln_contrast.": "vector_norm.",
}


def from_coca(state: Tensors) -> Tensors:
    """The image tower of a CoCa with a timm trunk, as CONCH names it, up to its projection into the space of texts."""
    pooler = {new + rest: value for old, new in _POOLER.items() for rest, value in _under(state, old).items()}
    return {**_under(state, "visual.trunk."), **pooler, "query": state["visual.attn_pool_contrast.query"]}


def _under(state: Tensors, prefix: str) -> Tensors:
    """What stands under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


#: Names of a block's parts in transformers (ViT and DINOv2) and in timm.
_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
_OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_QUERY = "attention.attention.query"


def from_transformers(state: Tensors) -> Tensors:
    """A ViT or DINOv2 of the transformers library; its query, key and value are one matrix in timm."""
    plain = {re.sub(r"^(vit|dinov2)\.", "", key): value for key, value in state.items()}
    found = {new: plain[old] for old, new in _OUTSIDE.items()}
    for key in plain:
        match = _BLOCK.fullmatch(key)
        if match is None:
            continue
        block, rest = f"blocks.{match[1]}", match[2]
        part, _, kind = rest.rpartition(".")
        if rest in _PARTS:
            found[f"{block}.{_PARTS[rest]}"] = plain[key]
        elif part in _PARTS:
            found[f"{block}.{_PARTS[part]}.{kind}"] = plain[key]
        elif part == _QUERY:
            three = [plain[key.replace("attention.query", f"attention.{one}")] for one in ("query", "key", "value")]
            found[f"{block}.attn.qkv.{kind}"] = torch.cat(three)
    return found


_RENAMED: Mapping[Names, Callable[[Tensors], Tensors]] = {"open-clip": from_open_clip, "coca": from_coca}
