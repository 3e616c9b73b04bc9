"""A network with its preprocessing as an Encoder of torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.choice import EncoderChoice, refuse_weights
from umedfeat.encoders.config import Arrays
from umedfeat.encoders.networks.grids import WithTokens, grid_of, vector_and_grid
from umedfeat.encoders.runtimes.choosing import uses_openvino
from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder, trial
from umedfeat.encoders.weights.wheel import LITE0_MEAN, LITE0_STD, lite0_arrays, lite0_settings
from umedfeat.errors import SetupError
from umedfeat.policy import DEFAULT_SIDE

if TYPE_CHECKING:
    from umedfeat.contract import Encoder

__all__ = [
    "Baseline",
    "as_encoder",
    "efficientnet_lite0",
    "lite0_baseline",
    "load_random",
    "random_network",
    "with_tokens",
]


class Baseline(nn.Module):
    """A network with the preprocessing that it was trained with, so that it takes RGB in [0, 1] as every encoder does.

    Args:
        network: (n, 3, H, W) normalised → (n, D).
        mean, std: per channel.
        fixed_size: side to which images are resized (antialiased bicubic) where the network takes no other, else None.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: Any, std: Any, fixed_size: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.fixed_size = fixed_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(self._prepared(images))
        return features

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """The last feature map (n, rows, columns, C); class and register tokens left out."""
        return grid_of(self.network, self._prepared(images))

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (n, D) and ``tokens``."""
        return vector_and_grid(self.network, self._prepared(images))

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        if self.fixed_size is not None and images.shape[-2:] != (self.fixed_size, self.fixed_size):
            side = (self.fixed_size, self.fixed_size)
            images = functional.interpolate(images, side, mode="bicubic", antialias=True).clamp(0, 1)
        return (images - self.mean) / self.std


def efficientnet_lite0() -> tuple[nn.Module, int, dict[str, Any]]:
    """EfficientNet-Lite0 with ImageNet weights as timm's model, which can be trained: (network, image size, settings).

    Needs no network. What ``load_efficientnet_lite0`` computes with torch is the same bit for bit, without timm.
    """
    import timm

    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return lite0_baseline(model, lite0_arrays()), DEFAULT_SIDE, lite0_settings()


def lite0_baseline(model: nn.Module, arrays: Arrays) -> Baseline:
    """A model of timm's ``tf_efficientnet_lite0``, or its like, with the weights of the wheel."""
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return Baseline(model, LITE0_MEAN, LITE0_STD)


def random_network(dim: int = 64) -> tuple[nn.Module, int, dict[str, Any]]:
    """A tiny untrained network for tests of the pipeline; it says so."""
    warnings.warn("--encoder random is untrained: for tests of the pipeline only", UserWarning, stacklevel=2)
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(3, dim, kernel_size=16, stride=16)
    with torch.no_grad():
        conv.weight.normal_(0, 0.05, generator=generator)
        conv.bias.zero_()  # type: ignore[union-attr]
    network = nn.Sequential(conv, nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return network, 224, {"name": "random", "note": "untrained, for tests only", "dim": dim}


def load_random(choice: EncoderChoice) -> Encoder:
    """``random_network`` as an Encoder."""
    refuse_weights(choice)
    return as_encoder(*random_network(), choice)


def as_encoder(network: nn.Module, size: int, settings: dict[str, Any], choice: EncoderChoice) -> TorchEncoder:
    """A network as an Encoder under the choice's name.

    Raises:
        SetupError: the choice asks for a runtime that does not compute it.
    """
    uses_openvino(choice, computed=False)
    if choice.tokens:
        network, settings = with_tokens(network, choice.side or size, settings)
    return TorchEncoder(
        network,
        name=choice.name,
        dim=dim_of(network, choice.side or size if choice.tokens else size),
        image_size=size,
        settings=settings,
        device=choice.device,
        precision=choice.precision,
        compiled=choice.compile,
    )


def with_tokens(network: nn.Module, side: int, settings: dict[str, Any]) -> tuple[WithTokens, dict[str, Any]]:
    """A network that gives its tokens too, and the settings that tell their grid for images of one size.

    Raises:
        SetupError: it gives none.
    """
    if not hasattr(network, "dense"):
        raise SetupError(f"{settings['name']} gives no tokens", remedy="a ViT, a Swin or a CNN; or leave out --tokens")
    with trial():
        _, grids = network.eval().dense(torch.zeros(1, 3, side, side))  # type: ignore[operator]
    return WithTokens(network).eval(), {**settings, "tokens": list(grids.shape[1:])}


def dim_of(network: nn.Module, size: int) -> int:
    """Length of the vectors that a network gives."""
    with trial():
        return int(network.eval()(torch.zeros(1, 3, size, size)).shape[1])
