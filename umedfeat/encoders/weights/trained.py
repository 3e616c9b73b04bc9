"""Files of encoders trained with ``umedfeat pretrain``: one safetensors whose single metadata key says everything.

The card (JSON) holds the architecture, mean and std, the size of the images, the tasks with their licences and
attributions, the parent and its hash, the seed and the version: enough to load and to cite the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from umedfeat.encoders.choice import EncoderChoice, refuse_weights
from umedfeat.encoders.config import Arrays, Checkpoint, EncoderConfig, refuse_not_finite
from umedfeat.encoders.lite0 import lite0_on_openvino
from umedfeat.encoders.networks.lite0_layout import lite0_shapes
from umedfeat.encoders.runtimes.choosing import uses_openvino
from umedfeat.encoders.weights.card import CARD_KEY, read_card
from umedfeat.encoders.weights.checkpoint import file_sha256
from umedfeat.errors import CheckpointRefused

if TYPE_CHECKING:
    import torch
    from torch import nn

    from umedfeat.contract import Encoder
    from umedfeat.encoders.baseline import Baseline
    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

__all__ = ["build_trained", "load_shipped", "load_weights", "write_trained"]

_LARGEST = 1024
#: The network of timm that is computed without timm, and by OpenVINO without torch.
_LITE0 = "tf_efficientnet_lite0"
_REMEDY = "train it again, or copy the file again"


def write_trained(path: Path, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and card: the same content gives the same bytes. Whole or not at all."""
    from safetensors.torch import save

    temporary = path.with_name(f".{path.name}.new")
    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    temporary.write_bytes(save(ordered, metadata={CARD_KEY: json.dumps(card, sort_keys=True, ensure_ascii=False)}))
    temporary.replace(path)


def load_weights(choice: EncoderChoice) -> Encoder:
    """The encoder of ``choice.weights``, under the name of its card.

    Raises:
        CheckpointRefused: damaged, or of an architecture that is not known here. SetupError: see ``as_encoder``.
    """
    path = choice.weights
    assert path is not None
    card = read_card(path)
    if card is None:
        raise CheckpointRefused(f"{path.name}: not written by `umedfeat pretrain`", remedy=_REMEDY)
    name, size, architecture = _facts(card, path)
    arrays = _arrays(path)
    settings = {"name": name, "weights_sha256": file_sha256(path), "architecture": architecture}

    def on_torch(choice: EncoderChoice) -> TorchEncoder:
        import torch

        from umedfeat.encoders.baseline import as_encoder

        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return as_encoder(build_trained(architecture, tensors, path.name), size, settings, choice)

    choice = replace(choice, name=name)
    if not uses_openvino(choice, computed=_is_lite0(architecture)):
        return on_torch(choice)
    scale = _scale_of_lite0(architecture, arrays, path)
    return lite0_on_openvino(arrays, scale, size, settings, choice, on_torch)


def load_shipped(choice: EncoderChoice) -> Encoder:
    """The encoder that is installed with this package, by its name.

    Raises:
        SetupError: see ``as_encoder``; or ``choice.weights`` is another file.
    """
    refuse_weights(choice)
    return load_weights(replace(choice, weights=Path(__file__).with_name(f"{choice.name}.safetensors")))


def _facts(card: Mapping[str, Any], path: Path) -> tuple[str, int, dict[str, Any]]:
    """(name, image size, architecture) of a trained encoder.

    Raises:
        CheckpointRefused: the card does not tell them, or nonsense.
    """
    try:
        name, size, architecture = str(card["name"]), int(card["image_size"]), dict(card["architecture"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"{path.name}: damaged ({type(error).__name__})", remedy=_REMEDY) from error
    if not 32 <= size <= _LARGEST:
        raise CheckpointRefused(f"{path.name}: image size {size} is absurd", remedy=_REMEDY)
    return name, size, architecture


def _arrays(path: Path) -> Arrays:
    """The tensors of a file; floating types as float32.

    Raises:
        CheckpointRefused: damaged, or with NaN or infinity in it.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointRefused(f"{path.name}: damaged ({type(error).__name__})", remedy=_REMEDY) from error
    refuse_not_finite({name: bool(np.isfinite(array).all()) for name, array in stored.items()})
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in stored.items()}


def _is_lite0(architecture: Mapping[str, Any]) -> bool:
    """EfficientNet-Lite0 of images of any size."""
    own = architecture.get("family") == "timm" and architecture.get("name") == _LITE0
    return own and architecture.get("fixed_size") is None


def _scale_of_lite0(
    architecture: Mapping[str, Any], arrays: Arrays, path: Path
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of three channels, of a file that holds what an EfficientNet-Lite0 is made of.

    Raises:
        CheckpointRefused: it does not.
    """
    try:
        mean, std = (tuple(float(value) for value in architecture[key]) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointRefused(f"{path.name}: damaged ({type(error).__name__})", remedy=_REMEDY) from error
    fits = {name: array.shape for name, array in arrays.items()} == lite0_shapes()
    if not fits or (len(mean), len(std)) != (3, 3):
        raise CheckpointRefused(f"{path.name}: the tensors do not fit the architecture", remedy=_REMEDY)
    return mean, std


def build_trained(architecture: Mapping[str, Any], tensors: dict[str, torch.Tensor], name: str) -> nn.Module:
    """The frozen network of an architecture and its tensors: (n, 3, H, W) RGB in [0, 1] → (n, D).

    Raises:
        CheckpointRefused: the tensors do not fit, or the architecture is not known here.
    """
    from umedfeat.encoders.umedpt import build_network

    try:
        if architecture["family"] == "timm":
            return _timm(architecture, tensors)
        if architecture["family"] == "umedpt":
            facts = dict(architecture["config"])
            facts |= {key: tuple(facts[key]) for key in ("depths", "num_heads")}
            return build_network(Checkpoint.of_tensors(EncoderConfig(**facts), tensors, ""), architecture["pool_order"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointRefused(f"{name}: the tensors do not fit the architecture: {fault}", remedy=_REMEDY) from error
    message = f"{name}: unknown architecture {architecture['family']!r}"
    raise CheckpointRefused(message, remedy="upgrade umedfeat")


def _timm(architecture: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> Baseline:
    from umedfeat.encoders.baseline import Baseline

    network = _network_of_timm(str(architecture["name"]))
    network.load_state_dict(tensors, strict=True)
    size = architecture.get("fixed_size")
    return Baseline(network, architecture["mean"], architecture["std"], None if size is None else int(size))


def _network_of_timm(name: str) -> nn.Module:
    if name == _LITE0:  # the same without timm, which takes seconds to import
        from umedfeat.encoders.networks.lite0 import Lite0

        return Lite0()
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network
