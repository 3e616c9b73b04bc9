"""A Ray cluster of several nodes on this machine, and ``umedfeat extract --engine ray`` on it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["a_cluster", "actors"]

#: Of the shared memory of each node: what a test needs, and no more.
_STORE_BYTES = 100 << 20


@contextlib.contextmanager
def a_cluster(cpus: int = 1, **options: Any) -> Iterator[Any]:
    """``ray.cluster_utils.Cluster`` with one node, its head; ``add_node`` adds others.

    Its processes find the package and the factories of the tests where this process finds them.
    """
    pytest.importorskip("ray", reason="needs umedfeat[ray]")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *_path()]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_MEMORY_MONITOR": "1",
        "RAY_worker_niceness": "0",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "5",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    from ray.cluster_utils import Cluster

    former = signal.getsignal(signal.SIGTERM)
    cluster = Cluster()
    try:
        add_node(cluster, cpus, include_dashboard=False, **options)
        yield cluster
    finally:
        cluster.shutdown()
        signal.signal(signal.SIGTERM, former)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def add_node(cluster: Any, cpus: int = 1, **options: Any) -> Any:
    """One more node."""
    return cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES, **options)


def actors() -> list[int]:
    """Process ids of the actors that work on this machine."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if b"ray::Station" in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended just now
        return b""


def _path() -> list[str]:
    return [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
