"""Vision transformers that the transformers library describes (ViT, DINOv2), built with timm; nothing of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from umedfeat.errors import CheckpointRefused

__all__ = ["transformers_model"]

_KINDS = ("vit", "dinov2")
#: Defaults of transformers' configurations where a file leaves them out.
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "image_size": 224,
    "patch_size": {"vit": 16, "dinov2": 14},
    "layer_norm_eps": {"vit": 1e-12, "dinov2": 1e-6},
}


def transformers_model(
    config: Mapping[str, Any], processor: Mapping[str, Any], name: str
) -> tuple[Any, dict[str, Any]]:
    """The empty network of a ``config.json`` of transformers, with what timm calls its pretrained_cfg.

    Args:
        config, processor: ``config.json`` and ``preprocessor_config.json``.
        name: for messages.

    Raises:
        CheckpointRefused: another kind of model, or a configuration that is not understood.
    """
    kind = config.get("model_type")
    if kind not in _KINDS or config.get("use_swiglu_ffn") or config.get("hidden_act", "gelu") != "gelu":
        message = f"{name}: neither a model of timm nor a plain ViT or DINOv2 of transformers, but {kind!r}"
        raise CheckpointRefused(message, remedy="a package that registers it (entry point umedfeat.encoders)")
    try:
        facts = {
            key: config.get(key, value[kind] if isinstance(value, dict) else value) for key, value in _DEFAULTS.items()
        }
        model = _vision_transformer(kind, facts, _mlp_ratio(config, int(facts["hidden_size"])))
        side = int(facts["image_size"])
        cfg = {"input_size": (3, side, side), "fixed_input_size": True}
        return model, {**cfg, "mean": processor["image_mean"], "std": processor["image_std"]}
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointRefused(f"{name}: its configuration is not understood ({error})") from error


def _mlp_ratio(config: Mapping[str, Any], width: int) -> float:
    if "mlp_ratio" in config:
        return float(config["mlp_ratio"])
    return int(config.get("intermediate_size", 4 * width)) / width


def _vision_transformer(kind: str, facts: Mapping[str, Any], mlp_ratio: float) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    model: nn.Module = VisionTransformer(
        img_size=int(facts["image_size"]),
        patch_size=int(facts["patch_size"]),
        embed_dim=int(facts["hidden_size"]),
        depth=int(facts["num_hidden_layers"]),
        num_heads=int(facts["num_attention_heads"]),
        mlp_ratio=mlp_ratio,
        qkv_bias=bool(facts["qkv_bias"]),
        init_values=1.0 if kind == "dinov2" else None,
        norm_layer=partial(nn.LayerNorm, eps=float(facts["layer_norm_eps"])),
        num_classes=0,
    )
    return model
