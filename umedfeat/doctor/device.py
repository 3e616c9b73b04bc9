"""What computes: the driver, every device, and its precision."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from umedfeat.doctor.finding import Finding, Wish, failed
from umedfeat.encoders.choice import device_names
from umedfeat.errors import SetupError
from umedfeat.terminal.tables import human_bytes

__all__ = ["devices", "driver", "torch_build"]

_DRIVER = Path("/proc/driver/nvidia/version")
_CPUS = Path("/proc/cpuinfo")


def torch_build(wish: Wish) -> Iterator[Finding]:
    """For what torch was built."""
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    yield Finding("torch", "ok", f"{torch.__version__}, built for {built}")


def driver(wish: Wish) -> Iterator[Finding]:
    """The NVIDIA driver, and whether torch can use it."""
    import torch

    version = driver_version()
    if torch.cuda.is_available():
        yield Finding("driver", "ok", f"NVIDIA {version or 'of unknown version'}, {torch.cuda.device_count()} visible")
    elif not version:
        yield Finding("driver", "ok", "no NVIDIA driver: the CPU computes")
    elif torch.version.cuda is None:
        remedy = "install the wheel of torch for CUDA (pytorch.org tells which)"
        yield Finding("driver", "note", f"NVIDIA {version}, but this torch is for the CPU only", remedy)
    else:
        remedy = "look at CUDA_VISIBLE_DEVICES, give the container its GPUs (--gpus all, --nv), or update the driver"
        yield Finding("driver", "note", f"NVIDIA {version}, but torch for CUDA {torch.version.cuda} sees none", remedy)


def driver_version() -> str:
    """The version of the NVIDIA kernel driver; "" without one."""
    try:
        found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", _DRIVER.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def devices(wish: Wish) -> Iterator[Finding]:
    """Every device that the job would use: model, memory, precision."""
    from umedfeat.encoders.runtimes.choosing import choose_device, choose_precision

    try:
        for name in device_names(wish.choice.device):
            chosen = replace(wish.choice, device=choose_device(name))
            precision = choose_precision(chosen.precision, chosen.device)
            yield Finding(chosen.device, "ok", f"{_described(chosen.device)}; computes in {precision}")
    except SetupError as error:
        yield failed("device", error)


def _described(device: str) -> str:
    import torch

    if not device.startswith("cuda"):
        return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device
    facts = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(torch.device(device))
    memory = f"{human_bytes(free)} of {human_bytes(total)} free"
    return f"{facts.name}, compute capability {facts.major}.{facts.minor}, {memory}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _CPUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
