"""Which encoder a run uses: what a user chooses, as one value that crosses processes (no torch here)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from umedfeat.errors import SetupError
from umedfeat.machine import may_have_gpu
from umedfeat.rules import OneOf, Ruled, setting

__all__ = ["OFFLINE_VARIABLE", "EncoderChoice", "device_names", "refuse_weights"]


#: Set to 1 to never use the network.
OFFLINE_VARIABLE = "UMEDFEAT_OFFLINE"


def _offline() -> bool:
    """As the environment says; who means "never" and mistypes it must not be taken for "always".

    Raises:
        SetupError: it says neither yes nor no.
    """
    said = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    if said not in {*_YES, *_NO}:
        raise SetupError(
            f"{OFFLINE_VARIABLE}={said[:40]!r} is neither yes nor no", remedy=f"{OFFLINE_VARIABLE}=1, or 0"
        )
    return said in _YES


_YES = {"1", "true", "t", "yes", "y", "on"}
_NO = {"", "0", "false", "f", "no", "n", "off"}


@dataclass(frozen=True)
class EncoderChoice(Ruled):
    """Which encoder, where and how.

    Attributes:
        name: one of ``umedfeat.list_encoders()``, "timm:<name>", or "hf-hub:<owner>/<name>".
        weights: a file instead of the cache or a download: ``.pt.zip`` (read without executing it), ``.safetensors``.
        device: "auto", "cpu", "cuda", "cuda:N", or several devices (see ``device_names``).
        precision: "auto" (fp32 on a CPU, bf16 on a GPU that has it), "fp32", "bf16" or "fp16".
        runtime: "auto", "torch" or "openvino" (CPU only, extra ``umedfeat[openvino]``).
        pool_order: "pool_first" or "pool_last", overriding the registry (UMedPT family); None: the registry's.
        compile: compile the network (torch runtime); falls back by itself.
        offline: never use the network; default: as the environment variable UMEDFEAT_OFFLINE says.
        tokens: give the grid of patches behind each vector too (torch runtime).
        side: with ``tokens``, of the images that it will be given, which the grid depends on; 0: the encoder's own.
    """

    name: str = "umedpt"
    weights: Path | None = None
    device: str = "auto"
    precision: str = setting("auto", OneOf(("auto", "fp32", "bf16", "fp16")))
    runtime: str = setting("auto", OneOf(("auto", "torch", "openvino")))
    pool_order: str | None = setting(None, OneOf(("pool_first", "pool_last")), unset=None)
    compile: bool = False
    offline: bool = field(default_factory=_offline)
    tokens: bool = False
    side: int = 0

    def each(self) -> tuple[EncoderChoice, ...]:
        """The same encoder on each of its devices, one choice per device.

        Raises:
            SetupError: see ``device_names``.
        """
        return tuple(replace(self, device=name) for name in device_names(self.device))


def refuse_weights(choice: EncoderChoice) -> None:
    """For encoders that have weights of their own: a file that is given would be ignored.

    Raises:
        SetupError: one is given.
    """
    if choice.weights is not None:
        message = f"{choice.weights.name}: {choice.name} brings its own weights"
        raise SetupError(message, remedy="leave out --weights, or name the encoder whose weights these are")


def device_names(text: str) -> tuple[str, ...]:
    """The devices that ``--device`` names.

    "auto", "all", "cuda:all": every visible GPU ("auto" without one: the CPU). "cuda:0,1" and "cuda:0,cuda:1": those.
    "cpu,cpu": the CPU in two halves. What is visible is the scheduler's decision (``CUDA_VISIBLE_DEVICES``).

    Raises:
        SetupError: an empty name, a GPU named twice, or "all" without a GPU.
    """
    if text == "auto" and not may_have_gpu():
        return ("cpu",)
    if text in {"auto", "all", "cuda:all"}:
        return _all_gpus(text)
    names: list[str] = []
    for part in text.replace(" ", "").split(","):
        bare_index = part.isdigit() and names and names[-1].startswith("cuda:")
        names.append(f"cuda:{part}" if bare_index else "cuda:0" if part == "cuda" else part)
    gpus = [name for name in names if name != "cpu"]
    if not all(names) or len(set(gpus)) < len(gpus):
        raise SetupError(f"--device {text}: every device once, none empty", remedy="e.g. cuda:0,1 or all")
    return tuple(names)


def _all_gpus(text: str) -> tuple[str, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count and text != "auto":
        raise SetupError(f"--device {text}: no CUDA device is visible", remedy="--device auto or cpu")
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)
