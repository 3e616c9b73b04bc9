"""What scheduler and container allow: cores, memory, the job; and Ray."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from umedfeat.doctor.finding import Finding, Wish
from umedfeat.machine import CORES_VARIABLE, usable_cores, usable_memory
from umedfeat.terminal.tables import human_bytes

__all__ = ["cores", "memory", "ray", "slurm"]

#: An encoder, a reading process and their libraries.
_LITTLE_MEMORY = 4 << 30


def cores(wish: Wish) -> Iterator[Finding]:
    """Cores that this process may use, of those that there are."""
    present, usable = os.cpu_count() or 1, usable_cores()
    asked = os.environ.get(CORES_VARIABLE, "")
    if asked and not (asked.isdigit() and int(asked)):
        message = f"{usable} of {present} usable; {CORES_VARIABLE} is no number of cores, and not heeded"
        yield Finding("cores", "note", message, f"export {CORES_VARIABLE}={usable}, or unset it")
        return
    why = f" ({CORES_VARIABLE}={asked})" if asked else ""
    limits = "affinity, control groups" if usable < present else "no limit"
    yield Finding("cores", "ok", f"{usable} of {present} usable: {limits}{why}")


def memory(wish: Wish) -> Iterator[Finding]:
    """Memory that this process may take."""
    usable = usable_memory()
    if usable is None:
        yield Finding("memory", "ok", "unknown here")
    elif usable < _LITTLE_MEMORY:
        remedy = "ask for more, or use --workers 1 and a small --batch-size"
        yield Finding("memory", "note", f"{human_bytes(usable)} usable", remedy)
    else:
        yield Finding("memory", "ok", f"{human_bytes(usable)} usable")


def slurm(wish: Wish) -> Iterator[Finding]:
    """The job of a SLURM cluster, where this runs in one."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        yield Finding("slurm", "ok", "not within a job")
        return
    names = ("SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_JOB_GPUS", "SLURM_ARRAY_TASK_ID")
    told = ", ".join(f"{name} {os.environ[name]}" for name in names if os.environ.get(name))
    granted = _number(os.environ.get("SLURM_CPUS_PER_TASK", ""))
    if granted and usable_cores() > granted:
        remedy = f"export {CORES_VARIABLE}=$SLURM_CPUS_PER_TASK"
        yield Finding("slurm", "note", f"{told}; but {usable_cores()} cores are within reach", remedy)
    else:
        yield Finding("slurm", "ok", f"within a job{': ' if told else ''}{told}")


def ray(wish: Wish) -> Iterator[Finding]:
    """Ray, which carries a run over many nodes (``--engine ray``)."""
    try:
        seen = f"{version('ray')}{', a cluster is named in RAY_ADDRESS' if os.environ.get('RAY_ADDRESS') else ''}"
    except PackageNotFoundError:
        seen = "not installed; for --engine ray alone (umedfeat[ray])"
    yield Finding("ray", "ok", seen)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0
