"""ConvNeXt encoders of official files: timm's and torchvision's modules, with the original's changes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from umedfeat.encoders.config import EncoderConfig
from umedfeat.errors import CheckpointRefused

__all__ = ["timm_convnext", "torchvision_convnext"]


def timm_convnext(config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """timm's ConvNeXt as a feature pyramid; its LayerNorm2d are GroupNorm(1, C), eps 1e-5, as the original has them."""
    import timm
    from timm.layers.norm import LayerNorm2d

    if not timm.is_model(config.variant):
        raise CheckpointRefused(f"timm knows no {config.variant!r}", remedy="upgrade timm")
    model: nn.Module = timm.create_model(config.variant, pretrained=False, features_only=True)
    for name, module in list(model.named_modules()):
        if isinstance(module, LayerNorm2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.GroupNorm(1, module.weight.numel(), eps=1e-5))
    _load(model, tensors)
    return model


class _Pyramid(nn.Module):
    """torchvision's ConvNeXt features; every second module ends a stage."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for number, module in enumerate(self.features):
            images = module(images)
            if number % 2 == 1:
                levels.append(images)
        return levels


def torchvision_convnext(config: EncoderConfig, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """torchvision's ConvNeXt as a feature pyramid."""
    from torchvision import models

    builder = getattr(models, config.variant, None) if config.variant.startswith("convnext_") else None
    if builder is None:
        raise CheckpointRefused(f"torchvision knows no {config.variant!r}", remedy="upgrade torchvision")
    features = builder(weights=None).features
    _load(features, tensors)
    return _Pyramid(features)


def _load(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    own = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    try:
        model.load_state_dict(own, strict=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()[:160]
        raise CheckpointRefused(f"the tensors do not fit the architecture: {detail}") from error
