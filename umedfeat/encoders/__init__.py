"""The encoders: one call loads any of them; all take RGB in [0, 1] and give one vector per image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import ENCODERS, EncoderEntry, list_encoders, load_chosen

if TYPE_CHECKING:
    from umedfeat.contract import Encoder

__all__ = ["ENCODERS", "EncoderChoice", "EncoderEntry", "list_encoders", "load_encoder"]


def load_encoder(
    name: str = "umedpt",
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    pool_order: str | None = None,
    compiled: bool = False,
    offline: bool | None = None,
) -> Encoder:
    """Load a frozen encoder.

    Args:
        name: one of ``umedfeat.list_encoders()``, "timm:<name>", or "hf-hub:<owner>/<name>".
        weights: a file instead of the cache or a download: ``.pt.zip`` (read without executing it), ``.safetensors``,
            or for networks of timm and the hub a torch file that holds nothing but tensors.
            A file of ``umedfeat pretrain`` knows its own name and network; ``name`` is not asked then.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto" (fp32 on a CPU, bf16 on a GPU that has it), "fp32", "bf16" or "fp16".
        runtime: "auto", "torch" or "openvino" (CPU only, extra ``umedfeat[openvino]``).
        pool_order: "pool_first" or "pool_last", overriding the registry (UMedPT family).
        compiled: compile the network (torch runtime); falls back by itself.
        offline: never use the network; None: as the environment variable UMEDFEAT_OFFLINE says.

    Returns:
        A callable (N, 3, H, W) float32 in [0, 1] → (N, D) float32 on the CPU; see ``umedfeat.contract.Encoder``. With
        ``return_tokens=True`` it gives (N, rows, columns, C), one vector per patch, where the network has a map;
        ``image_size`` is the side that it was made for, and ``transform`` makes such an input of a picture (encoders
        of other packages may lack these two).

    Raises:
        SetupError: unknown name, device or precision.
        WeightsUnavailable: the weights cannot be had; the message tells three ways out.
        CheckpointRefused: a weights file is unsafe, damaged, or does not fit.
    """
    path = None if weights is None else Path(weights)
    network = {} if offline is None else {"offline": offline}
    return load_chosen(EncoderChoice(name, path, device, precision, runtime, pool_order, compiled, **network))
