"""What this process may use of the machine: cores and memory, as scheduler and container allow them. No torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CORES_VARIABLE", "has_bfloat16", "may_have_gpu", "processor", "usable_cores", "usable_memory"]

#: Fewer cores than there are, for this process and the ones it starts.
CORES_VARIABLE = "UMEDFEAT_CORES"
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")
_PROCESSOR = Path("/proc/cpuinfo")
#: Nodes through which processes reach GPUs: NVIDIA's cards and boards, AMD's, and those of a Windows host.
_DEVICES, _GPUS = Path("/dev"), ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
#: Instructions that multiply bfloat16: Intel's and AMD's, Intel's tiles, ARM's.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def usable_cores() -> int:
    """Cores that this process may use: its CPU affinity, its container's quota and ``UMEDFEAT_CORES``; at least 1."""
    quotas = [_quota(group) for group in _groups("cpu")]
    return max(1, min(limit for limit in [_affinity(), _asked_for(), *quotas] if limit is not None))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that bind this process: its own (a scheduler's job) and all above it.

    Inside a container the outermost folder is the container's own; on a cluster node the job's lies below it.
    """
    try:
        lines = [line.split(":", 2) for line in _OWN_GROUPS.read_text().splitlines()]
    except OSError:
        lines = []
    roots = {"0": _CGROUP, controller: _CGROUP / controller}  # version 2, version 1
    yield from roots.values()
    for number, controllers, path in (line for line in lines if len(line) == 3):
        root = _CGROUP if number == "0" else _CGROUP / controller if controller in controllers.split(",") else None
        if root is not None:
            place = root / path.strip("/")
            above = max(0, len(place.relative_to(root).parts) - 1)
            yield from (place, *place.parents[:above])


def _quota(cgroup: Path) -> int | None:
    """Whole cores of a control group's CPU quota (version 2, then 1), rounded up; None without one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period)):  # "max" or "-1": no quota
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def _asked_for() -> int | None:
    text = os.environ.get(CORES_VARIABLE, "")
    return int(text) if text.isdigit() and int(text) else None


def may_have_gpu() -> bool:
    """False only where this machine surely shows no GPU to its processes: torch knows better, but takes long to ask."""
    return sys.platform != "linux" or any(any(_DEVICES.glob(name)) for name in _GPUS)


def processor() -> tuple[str, frozenset[str]]:
    """Name of the processor and its instruction sets as Linux calls them; ("", nothing) where it does not tell."""
    try:
        lines = [line.split(":", 1) for line in _PROCESSOR.read_text().splitlines() if ":" in line]
    except OSError:
        return "", frozenset()
    facts: dict[str, str] = {}
    for key, value in lines:
        facts.setdefault(key.strip().lower(), value.strip())
    return facts.get("model name", ""), frozenset(facts.get("flags", facts.get("features", "")).split())


def has_bfloat16() -> bool:
    """Does the processor multiply bfloat16 by itself? Elsewhere it is emulated, slower than float32."""
    return bool(_BFLOAT16 & processor()[1])


def usable_memory() -> int | None:
    """Bytes that this process may take: what the machine has left, within its groups' limits; None if unknown."""
    limits = [_memory_left(_MEMORY), *(_memory_limit(group) for group in _groups("memory"))]
    return min((limit for limit in limits if limit is not None), default=None)


def _memory_left(meminfo: Path) -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _memory_limit(cgroup: Path) -> int | None:
    """A control group's limit (version 2, then 1); None without one."""
    for path in (cgroup / "memory.max", cgroup / "memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None
