"""Official weights files (and our own safetensors) to a Checkpoint: tensors and architecture, nothing executed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from umedfeat.disk.regular import open_regular
from umedfeat.encoders.config import Arrays, Checkpoint, EncoderConfig
from umedfeat.encoders.weights.archive import TorchArchive, open_module, opened_archive
from umedfeat.encoders.weights.inert_reader import Node, TensorView
from umedfeat.errors import CheckpointRefused

__all__ = ["file_sha256", "read_checkpoint"]

_OFFICIAL = "see `umedfeat weights list` for the official files"
_MAX_DEPTH = 40
_MAX_MODULES = 20_000
_MAX_KEY = 200
_SWIN = "torchvision.models.swin_transformer.SwinTransformer"
_TIMM = "timm.models._features.FeatureListNet"
_TORCHVISION_CNN = "torchvision.models._utils.IntermediateLayerGetter"
#: Buffers that a network computes from its sizes.
_COMPUTED = ("relative_coords_table", "relative_position_index")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file of any supported kind; its content decides, not its suffix.

    Args:
        path: an official ``.pt.zip`` of any generation, or a ``.safetensors`` written by ``umedfeat weights convert``.

    Raises:
        CheckpointRefused: unsafe, damaged, or of an unknown architecture; the message names the reason.
    """
    try:
        with open_regular(path) as stream:
            magic = stream.read(9)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise CheckpointRefused(message, remedy="give the path of a weights file") from error
    try:
        if magic.startswith(b"PK"):
            return _read_official(path)
        if len(magic) == 9 and magic[8:9] == b"{":
            from umedfeat.encoders.weights.safetensors_io import read_safetensors

            return read_safetensors(path, file_sha256(path))
    except CheckpointRefused as error:
        if path.name in error.message:
            raise
        raise CheckpointRefused(f"{path.name}: {error.message}", remedy=error.remedy or _OFFICIAL) from error
    raise CheckpointRefused(
        f"{path.name}: neither an official .pt.zip nor a safetensors file", remedy="see `umedfeat weights list`"
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_official(path: Path) -> Checkpoint:
    name = path.name
    try:
        with opened_archive(path, name) as archive:
            with open_module(archive, "squeezer.pt", name) as module:
                squeezer, squeezer_facts = _read_squeezer(module, name)
            with open_module(archive, "encoder.pt", name) as module:
                encoder, encoder_facts = _read_encoder(module, name)
        config = EncoderConfig(**encoder_facts, **squeezer_facts)
        _check_channels(config, squeezer, name)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        message = f"{name}: its modules are not laid out as an official encoder's ({type(error).__name__})"
        raise CheckpointRefused(message, remedy=_OFFICIAL) from error
    return Checkpoint(config, {**encoder, **squeezer}, file_sha256(path))


# ---- the squeezer -----------------------------------------------------------------------------------------------


def _read_squeezer(module: TorchArchive, name: str) -> tuple[Arrays, dict[str, Any]]:
    tree = _node(module.tree(), "mmm.mtl_modules.shared_blocks.Squeezer", name)
    parts = _children(tree)
    norm, activation = parts.get("norm"), parts.get("activation")
    if norm is None or not norm.kind.endswith(".GroupNorm") or norm.attributes.get("num_groups") != 1:
        raise _unknown(name, "a squeezer without GroupNorm(1)")
    if norm.attributes.get("eps") != 1e-5:
        raise _unknown(name, "a squeezer norm with another eps than 1e-5")
    if (
        activation is None
        or not activation.kind.endswith(".GELU")
        or activation.attributes.get("approximate", "none") != "none"
    ):
        raise _unknown(name, "a squeezer whose activation is not the exact GELU")
    pool = parts.get("pool") or parts.get("avg")
    if pool is None or not pool.kind.endswith(".AdaptiveAvgPool2d"):
        raise _unknown(name, "a squeezer without average pooling")
    known = {"norm", "activation", "pool", "avg", "conv"}
    for other in parts.keys() - known:
        if any(True for _ in _tensors(parts[other])):
            raise _unknown(name, f"a squeezer with a further part {other!r}")
    if _config_of(tree).get("connect_latent_and_feature"):
        raise _unknown(name, "a squeezer that joins latent and feature maps")
    tensors = {
        f"squeezer.{part}.{path}": module.array(view, f"{part}.{path}")
        for part in ("norm", "conv")
        if part in parts
        for path, view in _tensors(parts[part])
    }
    conv = tensors.get("squeezer.conv.weight")
    if conv is not None and (conv.ndim != 4 or tuple(conv.shape[2:]) != (1, 1)):
        raise _unknown(name, f"a squeezer convolution of shape {tuple(conv.shape)}")
    generation = "1.0.4 or later" if "pool" in parts else "1.0.3 or earlier"
    return tensors, {"out_channels": -1 if conv is None else int(conv.shape[0]), "generation": generation}


def _check_channels(config: EncoderConfig, squeezer: Arrays, name: str) -> None:
    deepest = config.embed_dim * 2 ** (len(config.depths) - 1)
    conv = squeezer.get("squeezer.conv.weight")
    fits = conv is None or int(conv.shape[1]) == deepest
    if not fits or squeezer["squeezer.norm.weight"].size != config.dim:
        raise CheckpointRefused(f"{name}: encoder ({deepest} channels) and squeezer do not fit")


# ---- the encoder ------------------------------------------------------------------------------------------------


def _read_encoder(module: TorchArchive, name: str) -> tuple[Arrays, dict[str, Any]]:
    tree = _node(module.tree(), "mmm.mtl_modules.shared_blocks.PyramidEncoder", name)
    if _config_of(tree).get("pyramid_channels"):
        raise _unknown(name, "an encoder with extra pyramid channels")
    prefix, network = _network_of(tree, name)
    views = dict(_tensors(network))
    tensors = {
        f"encoder.{path}": module.array(view, path)
        for path, view in views.items()
        if not path.endswith(_COMPUTED) and not path.startswith("head.")
    }
    if network.kind == _SWIN:
        return tensors, _swin_facts(network, views, name)
    if network.kind == _TIMM:
        return tensors, _timm_facts(tree, tensors)
    return tensors, _torchvision_facts(tensors, prefix)


def _network_of(tree: Node, name: str) -> tuple[str, Node]:
    """The network inside the wrappers, and its attribute path."""
    path, node = "", tree
    for _ in range(6):
        if node.kind in (_SWIN, _TIMM, _TORCHVISION_CNN):
            return path, node
        parts = {key: part for key, part in _children(node).items() if any(True for _ in _tensors(part))}
        wrapped = [key for key in ("model", "wrapped_model", "timm_model", "backbone", "body") if key in parts]
        if len(wrapped) != 1 or len(parts) != 1:
            break
        path, node = f"{path}{wrapped[0]}.", parts[wrapped[0]]
    raise _unknown(name, f"an encoder of {node.kind.rpartition('.')[2]}")


def _swin_facts(network: Node, views: Mapping[str, TensorView], name: str) -> dict[str, Any]:
    """Sizes from the tensors; window and shift cross-checked with the modules' own attributes."""
    blocks = sorted({tuple(map(int, found.groups())) for path in views if (found := _BLOCK.match(path))})
    stages = sorted({stage for stage, _ in blocks})
    if stages != list(range(1, 2 * len(stages), 2)):
        raise _unknown(name, "a Swin whose stages are not where torchvision has them")
    depths = tuple(sum(1 for stage, _ in blocks if stage == wanted) for wanted in stages)
    heads = tuple(views[f"features.{stage}.0.attn.logit_scale"].size[0] for stage in stages)
    embed = int(views["features.0.0.weight"].size[0])
    window = _window(network, name)
    return {
        "family": "swin",
        "variant": _SWIN_VARIANTS.get((embed, depths), ""),
        "embed_dim": embed,
        "depths": depths,
        "num_heads": heads,
        "window": window,
    }


_BLOCK = re.compile(r"features\.(\d+)\.(\d+)\.attn\.logit_scale$")
_SWIN_VARIANTS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin_v2_t",
    (96, (2, 2, 18, 2)): "swin_v2_s",
    (128, (2, 2, 18, 2)): "swin_v2_b",
    (192, (2, 2, 18, 2)): "swin_v2_l",
}


def _window(network: Node, name: str) -> int:
    sizes = set()
    for number, stage in _children(_children(network)["features"]).items():
        if int(number) % 2 == 0:
            continue
        for place, block in _children(stage).items():
            attention = _children(block)["attn"].attributes
            window, shift = _pair(attention["window_size"], name), _pair(attention["shift_size"], name)
            if shift != ((0, 0) if int(place) % 2 == 0 else (window[0] // 2, window[1] // 2)):
                raise _unknown(name, f"a Swin block with shift {shift}")
            sizes.add(window)
    if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
        raise _unknown(name, f"Swin windows of {sorted(sizes)}")
    return next(iter(sizes))[0]


def _pair(sides: Any, name: str) -> tuple[int, int]:
    """Two whole numbers: nothing else of a file is compared, hashed or told."""
    if isinstance(sides, (list, tuple)) and len(sides) == 2 and all(type(side) is int for side in sides):
        return sides[0], sides[1]
    raise _unknown(name, "a Swin window that is not two whole numbers")


def _timm_facts(tree: Node, tensors: Arrays) -> dict[str, Any]:
    depths = _depths(tensors, re.compile(r"encoder\.stages_(\d+)\.blocks\.(\d+)\."))
    embed = int(tensors["encoder.stem_0.weight"].shape[0])
    grn = any(".grn." in path for path in tensors)
    return {
        "family": "convnext-timm",
        "variant": _stated_variant(tree) or _convnext_name("convnextv2" if grn else "convnext", embed, depths),
        "embed_dim": embed,
        "depths": depths,
    }


def _torchvision_facts(tensors: Arrays, prefix: str) -> dict[str, Any]:
    depths = _depths(tensors, re.compile(r"encoder\.(\d+)\.(\d+)\.layer_scale$"))
    embed = int(tensors["encoder.0.0.weight"].shape[0])
    return {
        "family": "convnext-tv",
        "variant": _convnext_name("convnext", embed, depths),
        "embed_dim": embed,
        "depths": depths,
    }


def _depths(tensors: Arrays, pattern: re.Pattern[str]) -> tuple[int, ...]:
    places = {tuple(map(int, found.groups())) for path in tensors if (found := pattern.match(path))}
    stages = sorted({stage for stage, _ in places})
    return tuple(sum(1 for stage, _ in places if stage == wanted) for wanted in stages)


def _convnext_name(prefix: str, embed: int, depths: tuple[int, ...]) -> str:
    sizes = {(96, 9): "tiny", (96, 27): "small", (128, 27): "base", (192, 27): "large", (256, 27): "xlarge"}
    return f"{prefix}_{sizes.get((embed, depths[2] if len(depths) > 2 else 0), 'unknown')}"


def _stated_variant(tree: Node) -> str:
    model = _config_of(tree).get("model")
    variant = model.attributes.get("variant") if isinstance(model, Node) else None
    return variant.partition(".")[0] if isinstance(variant, str) and re.fullmatch(r"[\w.]{1,80}", variant) else ""


# ---- trees ------------------------------------------------------------------------------------------------------


def _node(tree: Any, kind: str, name: str) -> Node:
    if not isinstance(tree, Node) or not tree.kind.startswith(kind):
        found = tree.kind if isinstance(tree, Node) else type(tree).__name__
        raise _unknown(name, f"{found[:80]} where {kind.rpartition('.')[2]} belongs")
    return tree


def _config_of(node: Node) -> Mapping[str, Any]:
    args = node.attributes.get("args")
    return cast("Mapping[str, Any]", args.attributes) if isinstance(args, Node) else {}


def _children(node: Node) -> dict[str, Node]:
    modules = node.attributes.get("_modules")
    if not isinstance(modules, dict):
        return {}
    return {_key(key): part for key, part in modules.items() if isinstance(part, Node)}


def _key(key: Any) -> str:
    if isinstance(key, str) and len(key) <= _MAX_KEY:
        return key
    raise CheckpointRefused("refused: a module or tensor with a strange name")


def _tensors(network: Node) -> Iterator[tuple[str, TensorView]]:
    """(attribute path, tensor) of every parameter and buffer below a module.

    Raises:
        CheckpointRefused: too many modules, or too deep: modules that hold one another grow without end.
    """
    waiting = [("", network, 0)]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return
        prefix, node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise CheckpointRefused("refused: modules nested too deeply")
        for table in ("_parameters", "_buffers"):
            held = node.attributes.get(table)
            for key, view in held.items() if isinstance(held, dict) else ():
                if isinstance(view, TensorView):
                    yield f"{prefix}{_key(key)}", view
        parts = reversed(_children(node).items())
        waiting += [(f"{prefix}{key}.", part, depth + 1) for key, part in parts]
    raise CheckpointRefused("refused: more modules than any known encoder has")


def _unknown(name: str, what: str) -> CheckpointRefused:
    return CheckpointRefused(f"{name}: {what} is not known here", remedy=_OFFICIAL)
