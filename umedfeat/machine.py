"""What this process may use of the machine: cores, as the scheduler and the container allow them. No torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["CORES_VARIABLE", "usable_cores"]

#: Fewer cores than there are, for this process and the ones it starts.
CORES_VARIABLE = "UMEDFEAT_CORES"
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: its CPU affinity, its container's quota and ``UMEDFEAT_CORES``; at least 1."""
    limits = [_affinity(), _quota(_CGROUP), _asked_for()]
    return max(1, min(limit for limit in limits if limit is not None))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _quota(cgroup: Path) -> int | None:
    """Whole cores of a container's CPU quota (cgroup v2, then v1), rounded up; None without one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period)):  # "max" or "-1": no quota
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def _asked_for() -> int | None:
    text = os.environ.get(CORES_VARIABLE, "")
    return int(text) if text.isdigit() and int(text) else None
