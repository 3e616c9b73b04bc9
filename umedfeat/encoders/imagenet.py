"""The paper's baseline: the same Swin V2 with ImageNet weights and global pooling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.config import Checkpoint, EncoderConfig
from umedfeat.encoders.weights.checkpoint import file_sha256
from umedfeat.errors import CheckpointRefused, WeightsUnavailable

__all__ = ["GlobalPool", "imagenet_swin"]

_CONFIG = EncoderConfig("swin", "swin_v2_t", 96, (2, 2, 6, 2), (3, 6, 12, 24), 8)
_FILE = "swin_v2_t-b137f0e2.pth"
_URL = f"https://download.pytorch.org/models/{_FILE}"
#: ImageNet's statistics, with which the weights were trained.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GlobalPool(nn.Module):
    """(n, C, h, w) → (n, C): the network's final norm, then the mean over the map, as in torchvision."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.weight = nn.Parameter(checkpoint.tensors["encoder.norm.weight"].double(), requires_grad=False)
        self.bias = nn.Parameter(checkpoint.tensors["encoder.norm.bias"].double(), requires_grad=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        tokens = maps.double().flatten(2).transpose(1, 2)
        return functional.layer_norm(tokens, self.weight.shape, self.weight, self.bias, 1e-5).mean(1).float()


def imagenet_swin(weights: Path | None, *, offline: bool) -> Checkpoint:
    """torchvision's ImageNet weights of swin_v2_t, with mean and std folded into the first convolution.

    Args:
        weights: the state dict file, or None for the torch hub cache, then a download.

    Raises:
        WeightsUnavailable: not there and not to be fetched.
        CheckpointRefused: not the state dict of a swin_v2_t.
    """
    path = weights or Path(torch.hub.get_dir(), "checkpoints", _FILE)
    if not path.is_file():
        _fetch(path, offline=offline)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        tensors = {f"encoder.{name}": value for name, value in state.items() if not name.startswith("head.")}
        _fold_normalisation(tensors)
    except Exception as error:  # the safe loader's own error type has moved between versions
        raise CheckpointRefused(
            f"{path.name}: not the state dict of a swin_v2_t", remedy=f"get it from {_URL}"
        ) from error
    return Checkpoint.of_tensors(_CONFIG, tensors, file_sha256(path))


def _fetch(path: Path, *, offline: bool) -> None:
    remedy = f"fetch {_URL} by hand and give --weights FILE, or use --encoder umedfeat-open"
    if offline:
        raise WeightsUnavailable("imagenet-swinv2-t: --offline, and no weights in the cache", remedy=remedy)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(_URL, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except Exception as error:  # urllib's, ssl's and the hub's own errors
        message = f"imagenet-swinv2-t: the weights cannot be fetched ({type(error).__name__})"
        raise WeightsUnavailable(message, remedy=remedy) from error


def _fold_normalisation(tensors: dict[str, torch.Tensor]) -> None:
    """(x - mean) / std before a convolution without padding is another convolution: exact up to rounding."""
    weight, bias = tensors["encoder.features.0.0.weight"].double(), tensors["encoder.features.0.0.bias"].double()
    mean, std = torch.tensor(_MEAN, dtype=torch.float64), torch.tensor(_STD, dtype=torch.float64)
    scaled = weight / std.view(1, 3, 1, 1)
    tensors["encoder.features.0.0.weight"] = scaled.float()
    tensors["encoder.features.0.0.bias"] = (bias - (scaled * mean.view(1, 3, 1, 1)).sum((1, 2, 3))).float()
