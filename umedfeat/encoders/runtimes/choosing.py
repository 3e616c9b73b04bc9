"""Which device, precision and runtime: settled before a network is loaded, with torch only where a GPU may be."""

from __future__ import annotations

from importlib.util import find_spec

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.machine import has_bfloat16

__all__ = ["choose_device", "choose_precision", "openvino_is_installed", "uses_openvino"]

_PRECISIONS = ("fp32", "bf16", "fp16")


def choose_device(device: str) -> str:
    """ "auto" → a GPU if there is one.

    Raises:
        SetupError: the device does not exist here.
    """
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SetupError(f"--device {device!r} is not a device", remedy="auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SetupError(f"--device {device}: this machine has {count} CUDA devices", remedy="--device auto or cpu")
    return f"cuda:{chosen.index or 0}" if chosen.type == "cuda" else str(chosen)


def choose_precision(precision: str, device: str) -> str:
    """ "auto" → bf16 on a GPU that has it, else fp32.

    Raises:
        SetupError: a half precision that the device does not compute well.
    """
    on_gpu = device.startswith("cuda")
    if precision == "auto":
        return "bf16" if on_gpu and _gpu_has_bf16() else "fp32"
    if precision == "fp16" and not on_gpu:
        raise SetupError("--precision fp16 needs a GPU", remedy="--precision fp32, or auto")
    if precision not in _PRECISIONS:
        raise SetupError(f"precision {precision!r} is unknown", remedy=f"auto, {', '.join(_PRECISIONS)}")
    if precision == "bf16" and not on_gpu and not has_bfloat16():
        message = "--precision bf16: this processor would emulate it (it has neither AVX512-BF16 nor AMX)"
        raise SetupError(message, remedy="--precision fp32, which is faster here, or auto")
    return precision


def openvino_is_installed() -> bool:
    """Is the extra there?"""
    return find_spec("openvino") is not None


def uses_openvino(choice: EncoderChoice, *, computed: bool) -> bool:
    """Asked for, or "auto" where it is installed: never by the number of images, since features tell their runtime.

    Args:
        choice: with a settled device and precision.
        computed: is the network one that OpenVINO computes here (on a CPU, in fp32 or the processor's own bf16)?

    Raises:
        SetupError: asked for where it cannot be.
    """
    fits = computed and choice.device == "cpu" and choice.precision != "fp16"
    if choice.runtime != "openvino":
        plain = not choice.tokens and not choice.compile
        return choice.runtime == "auto" and fits and plain and openvino_is_installed()
    if choice.tokens:
        raise SetupError("--tokens are computed by torch", remedy="leave out --runtime openvino, or --tokens")
    if not fits:
        message = f"--runtime openvino computes Swin encoders and EfficientNet-Lite0 on a CPU, not {choice.name}"
        raise SetupError(message, remedy="--runtime torch")
    if not openvino_is_installed():
        raise SetupError("--runtime openvino needs the extra", remedy="pip install 'umedfeat[openvino]'")
    return True


def _gpu_has_bf16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported())
