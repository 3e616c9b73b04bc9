"""The encoders: one call loads any of them; all take RGB in [0, 1] and give one vector per image."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from umedfeat.errors import SetupError

if TYPE_CHECKING:
    from umedfeat.encoders.base import Encoder

__all__ = ["ENCODERS", "load_encoder"]

#: What ``--encoder`` takes besides ``timm:<name>``.
ENCODERS: dict[str, str] = {
    "umedpt": "UMedPT, the biomedical multi-task encoder (official weights, research licence)",
    "tissue-concepts": "Tissue Concepts, UMedPT's sibling for histology (official weights, research licence)",
    "unicorn": "the UNICORN challenge encoder (official weights, research licence)",
    "wsc-tiny": "Whole Slide Concepts, tiny (official weights, research licence)",
    "efficientnet-lite0": "ImageNet EfficientNet-Lite0, installed with this package: needs no network",
    "imagenet-swinv2-t": "ImageNet Swin V2 tiny, the architecture of UMedPT: the paper's baseline",
    "random": "untrained, for tests of the pipeline only",
}


def load_encoder(
    name: str = "umedpt",
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    pool_order: str | None = None,
    compile: bool = False,
    offline: bool = False,
) -> Encoder:
    """Load a frozen encoder.

    Args:
        name: a key of ENCODERS or "timm:<name>".
        weights: a file instead of the cache or a download: ``.pt.zip`` (read without executing it), ``.safetensors``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto" (fp32 on a CPU, bf16 on a GPU that has it), "fp32", "bf16" or "fp16".
        runtime: "auto", "torch" or "openvino" (CPU only, extra ``umedfeat[openvino]``).
        pool_order: "pool_first" or "pool_last", overriding the registry (UMedPT family).
        compile: compile the network (torch runtime); falls back by itself.
        offline: never use the network.

    Returns:
        A callable (N, 3, H, W) float32 in [0, 1] → (N, D) float32 on the CPU; see ``umedfeat.encoders.base.Encoder``.

    Raises:
        SetupError: unknown name, device or precision.
        WeightsUnavailable: the weights cannot be had; the message tells three ways out.
        CheckpointRefused: a weights file is unsafe, damaged, or does not fit.
    """
    from umedfeat.encoders.runtimes.torch_runtime import choose_device, choose_precision

    path = None if weights is None else Path(weights)
    device = choose_device(device)
    precision = choose_precision(precision, device)
    if name in {"efficientnet-lite0", "random"} or name.startswith("timm:"):
        return _baseline(name, path, device, precision, runtime, compile, offline)
    if name not in ENCODERS:
        near = difflib.get_close_matches(name, ENCODERS, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise SetupError(f"unknown encoder {name!r}", remedy=f"{hint}known: {', '.join(ENCODERS)}, timm:<name>")
    from umedfeat.encoders.umedpt import load_umedpt

    return load_umedpt(name, path, device, precision, runtime, pool_order, compile, offline)


def _baseline(
    name: str, weights: Path | None, device: str, precision: str, runtime: str, compiled: bool, offline: bool
) -> Encoder:
    from umedfeat.encoders import baseline
    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

    if runtime == "openvino":
        raise SetupError(f"--runtime openvino computes UMedPT's Swin only, not {name}", remedy="--runtime auto")
    if name == "random":
        network, size, settings = baseline.random_network()
    elif name == "efficientnet-lite0":
        network, size, settings = baseline.efficientnet_lite0()
    else:
        network, size, settings = baseline.timm_network(name.partition(":")[2], weights, offline=offline)
    return TorchEncoder(
        network,
        name=name,
        dim=baseline.dim_of(network, size),
        image_size=size,
        settings=settings,
        device=device,
        precision=precision,
        compiled=compiled,
    )
