"""Networks of timm: by timm's own names, from the Hugging Face hub, and the encoders that are known by name."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from umedfeat.encoders.baseline import Baseline, as_encoder
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.known import KNOWN, KnownEncoder
from umedfeat.encoders.networks.pooled_vits import AttentionPooled, ClassAndMean, Projected
from umedfeat.encoders.weights.checkpoint import file_sha256
from umedfeat.encoders.weights.hub import Repository, fetch_first
from umedfeat.encoders.weights.state import fill, of_network, read_state, renamed
from umedfeat.errors import CheckpointRefused, SetupError, WeightsUnavailable

if TYPE_CHECKING:
    from umedfeat.contract import Encoder

__all__ = [
    "filled_network",
    "hub_network",
    "known_network",
    "load_hub",
    "load_known",
    "load_timm",
    "timm_network",
]

_OFFLINE_REMEDY = "fetch them where there is a network and give --weights FILE, or use --encoder umedfeat-open"
_NOT_OF_THE_NETWORK = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
_NOT_OF_THE_NETWORK |= {"num_classes", "features_only", "out_indices"}
_STATE_FILES = ("model.safetensors", "pytorch_model.bin")

#: (network, image size, settings)
Found = tuple[nn.Module, int, dict[str, Any]]


def timm_network(name: str, weights: Path | None, *, offline: bool) -> Found:
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
    _refuse_unknown(name)
    if weights is None:
        model = _fetched(name, offline=offline)
        digest = _digest_of(model)
    else:
        model = _filled(_built(name), weights)
        digest = file_sha256(weights)
    return _with_preprocessing(f"timm:{name}", model, model.pretrained_cfg, digest)


def hub_network(name: str, weights: Path | None, *, offline: bool) -> Found:
    """A model of the Hugging Face hub without its head: (network, image size, settings). No code of it is run.

    Args:
        name: "owner/name" or "owner/name@revision"; its ``config.json`` names an architecture of timm, or a ViT or
            DINOv2 of transformers (whose normalisation stands in ``preprocessor_config.json``).
        weights: the weights file, or None for the repository's (safetensors first).
        offline: look into the client's cache only.

    Raises:
        SetupError: no name of a model. WeightsUnavailable: not to be had.
        CheckpointRefused: of another kind, or weights and configuration do not fit each other.
    """
    from umedfeat.encoders.transformers_models import transformers_model

    repository = Repository.of(name)
    config = _json_of(repository, "config.json", offline=offline)
    path = weights or fetch_first(repository, _STATE_FILES, offline=offline, notice=f"Licence: see {repository.url}")
    if "architecture" in config:
        cfg = {**config, **config.get("pretrained_cfg", {})}
        _refuse_unknown(str(config["architecture"]))
        model = _filled(_built(str(config["architecture"]), **_architecture_arguments(config)), path)
        return _with_preprocessing(f"hf-hub:{name}", model, {**model.pretrained_cfg, **cfg}, file_sha256(path))
    processor = _json_of(repository, "preprocessor_config.json", offline=offline)
    model, cfg = transformers_model(config, processor, name)
    fill(model, renamed(read_state(path), "dinov2"), path.name)
    return _with_preprocessing(f"hf-hub:{name}", model, cfg, file_sha256(path))


def known_network(known: KnownEncoder, weights: Path | None, *, offline: bool) -> Found:
    """The network of a known encoder: (network, image size, settings).

    Raises:
        WeightsUnavailable: they cannot be had; the message tells how to be granted access.
        CheckpointRefused: ``weights`` are not those of this encoder.
    """
    notice = f"Licence of the weights: {known.licence}. Cite: {known.citation}"
    path = weights or fetch_first(Repository(known.repository), known.files, offline=offline, notice=notice)
    network = filled_network(known, read_state(path), path.name)
    mean, std = known.normalisation
    settings = {"name": known.name, "weights_sha256": file_sha256(path), "mean": list(mean), "std": list(std)}
    settings["pooling"] = known.pool
    return Baseline(network, mean, std, known.image_size), known.image_size, settings


def filled_network(known: KnownEncoder, state: dict[str, torch.Tensor], file: str) -> nn.Module:
    """A known encoder's network with its tensors: (n, 3, side, side) normalised → (n, dim).

    Raises:
        CheckpointRefused: the tensors are another network's.
    """
    arguments: dict[str, Any] = dict(known.arguments)
    if known.swiglu:
        from timm.layers.mlp import SwiGLUPacked

        arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    vit = _built(known.architecture, **({"img_size": known.image_size} | arguments))
    tensors = renamed(state, known.names)
    fill(vit, tensors, file)
    if known.pool == "attention":
        network = AttentionPooled(vit, known.dim)
        fill(network, tensors | {f"vit.{key}": value for key, value in vit.state_dict().items()}, file)
        return network
    if known.names == "open-clip":
        return Projected(vit, tensors["projection.weight"])
    return ClassAndMean(vit) if known.pool == "class+mean" else vit


def load_timm(choice: EncoderChoice) -> Encoder:
    """``timm_network`` as an Encoder; the choice's name is "timm:<name>"."""
    name = choice.name.partition(":")[2]
    return as_encoder(*timm_network(name, choice.weights, offline=choice.offline), choice)


def load_hub(choice: EncoderChoice) -> Encoder:
    """``hub_network`` as an Encoder; the choice's name is "hf-hub:<owner>/<name>"."""
    name = choice.name.partition(":")[2]
    return as_encoder(*hub_network(name, choice.weights, offline=choice.offline), choice)


def load_known(choice: EncoderChoice) -> Encoder:
    """``known_network`` as an Encoder, by its name."""
    return as_encoder(*known_network(KNOWN[choice.name], choice.weights, offline=choice.offline), choice)


def _refuse_unknown(name: str) -> None:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise SetupError(f"timm knows no model {name!r}", remedy=remedy)


def _built(name: str, **arguments: Any) -> Any:
    """An empty network of timm without a head.

    Raises:
        CheckpointRefused: timm cannot build it so.
    """
    import timm

    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        message = f"timm cannot build {name} with {', '.join(sorted(arguments)) or 'its defaults'}"
        raise CheckpointRefused(message, remedy="a newer timm, or the model under its timm name") from error


def _architecture_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of the network, without what would make timm read files of its own choice."""
    arguments = config.get("model_args") or {}
    return {key: value for key, value in arguments.items() if key not in _NOT_OF_THE_NETWORK}


def _filled(model: Any, path: Path) -> Any:
    fill(model, of_network(model, read_state(path), path.name), path.name)
    return model


def _with_preprocessing(name: str, model: Any, cfg: Any, digest: str) -> Found:
    size = int(cfg["input_size"][-1])
    fixed = size if cfg.get("fixed_input_size") else None
    mean, std = list(cfg["mean"]), list(cfg["std"])
    return Baseline(model, mean, std, fixed), size, {"name": name, "weights_sha256": digest, "mean": mean, "std": std}


def _json_of(repository: Repository, name: str, *, offline: bool) -> dict[str, Any]:
    path = fetch_first(repository, [name], offline=offline)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{repository.name}: {name} is damaged", remedy="remove it from the cache") from error
    if not isinstance(found, dict):
        raise CheckpointRefused(f"{repository.name}: {name} is no configuration", remedy=f"see {repository.url}")
    return found


def _fetched(name: str, *, offline: bool) -> Any:
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
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:
        message = f"timm:{name}: the weights cannot be fetched from {place} ({type(error).__name__})"
        raise WeightsUnavailable(message, remedy=_OFFLINE_REMEDY) from error


def _digest_of(model: nn.Module) -> str:
    """Identity of weights that came without a file of their own."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
