"""How a run uses a Ray cluster: what a user chooses (no Ray here)."""

from __future__ import annotations

from dataclasses import dataclass

from umedfeat.rules import OneOf, Ruled, Within, setting

__all__ = ["ClusterSettings"]


@dataclass(frozen=True)
class ClusterSettings(Ruled):
    """How a run uses a Ray cluster; nothing here changes a number in the output.

    Attributes:
        address: "auto" (RAY_ADDRESS, or the cluster that runs on this machine), HOST:PORT or ray://HOST:PORT.
        workers: actors (None: as many as the nodes have room for, also those that join later).
        cpus_per_worker: cores of each (None: 4, or all that a smaller node has).
        gpus_per_worker: GPUs of each (None: 1 where the cluster has any and the device is not "cpu").
        results: "driver" (features travel to the driver, which writes) or "shared" (actors write segments beside the
            output, in a folder that all nodes mount).
    """

    address: str = "auto"
    workers: int | None = setting(None, Within(1, whole=True), unset=None)
    cpus_per_worker: int | None = setting(None, Within(1, whole=True), unset=None)
    gpus_per_worker: int | None = setting(None, Within(0, whole=True), unset=None)
    results: str = setting("driver", OneOf(("driver", "shared")))
