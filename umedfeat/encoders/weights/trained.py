"""Files of encoders trained with ``umedfeat pretrain``: one safetensors whose single metadata key says everything.

The card (JSON) holds the architecture, mean and std, the size of the images, the tasks with their licences and
attributions, the parent and its hash, the seed and the version: enough to load and to cite the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from umedfeat.contract import Encoder
from umedfeat.encoders.baseline import Baseline, as_encoder
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.config import Checkpoint, EncoderConfig
from umedfeat.encoders.networks.lite0 import Lite0
from umedfeat.encoders.umedpt import build_network
from umedfeat.encoders.weights.card import CARD_KEY, read_card
from umedfeat.encoders.weights.checkpoint import file_sha256
from umedfeat.errors import CheckpointRefused, SetupError

__all__ = ["build_trained", "load_shipped", "load_trained", "load_weights", "write_trained"]

_LARGEST = 1024
_REMEDY = "train it again, or copy the file again"


def write_trained(path: Path, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and card: the same content gives the same bytes. Whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    temporary.write_bytes(save(ordered, metadata={CARD_KEY: json.dumps(card, sort_keys=True, ensure_ascii=False)}))
    temporary.replace(path)


def load_weights(choice: EncoderChoice) -> Encoder:
    """The encoder of ``choice.weights``, under the name of its card.

    Raises:
        CheckpointRefused: see ``load_trained``. SetupError: see ``as_encoder``.
    """
    assert choice.weights is not None
    card = read_card(choice.weights)
    if card is None:
        raise CheckpointRefused(f"{choice.weights.name}: not written by `umedfeat pretrain`", remedy=_REMEDY)
    network, size, settings = load_trained(choice.weights, card)
    return as_encoder(network, size, settings, replace(choice, name=str(settings["name"])))


def load_shipped(choice: EncoderChoice) -> Encoder:
    """The encoder that is installed with this package, by its name.

    Raises:
        SetupError: see ``as_encoder``; or ``choice.weights`` is another file.
    """
    if choice.weights is not None:
        message = f"{choice.weights.name}: {choice.name} brings its own weights"
        raise SetupError(message, remedy="leave out --weights, or leave out --encoder")
    return load_weights(replace(choice, weights=Path(__file__).with_name(f"{choice.name}.safetensors")))


def load_trained(path: Path, card: Mapping[str, Any]) -> tuple[nn.Module, int, dict[str, Any]]:
    """(network, image size, settings) of a trained encoder.

    Raises:
        CheckpointRefused: damaged, or of an architecture that is not known here.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
        name, size = str(card["name"]), int(card["image_size"])
        architecture = dict(card["architecture"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"{path.name}: damaged ({type(error).__name__})", remedy=_REMEDY) from error
    if not 32 <= size <= _LARGEST:
        raise CheckpointRefused(f"{path.name}: image size {size} is absurd", remedy=_REMEDY)
    network = build_trained(architecture, tensors, path.name)
    settings = {"name": name, "weights_sha256": file_sha256(path), "architecture": architecture}
    return network, size, settings


def build_trained(architecture: Mapping[str, Any], tensors: dict[str, torch.Tensor], name: str) -> nn.Module:
    """The frozen network of an architecture and its tensors: (n, 3, H, W) RGB in [0, 1] → (n, D).

    Raises:
        CheckpointRefused: the tensors do not fit, or the architecture is not known here.
    """
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
    network = _network_of_timm(str(architecture["name"]))
    network.load_state_dict(tensors, strict=True)
    size = architecture.get("fixed_size")
    return Baseline(network, architecture["mean"], architecture["std"], None if size is None else int(size))


def _network_of_timm(name: str) -> nn.Module:
    if name == "tf_efficientnet_lite0":  # the same without timm, which takes seconds to import
        return Lite0()
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network
