"""Where the time of a run went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["StageSeconds", "summed"]


@dataclass
class StageSeconds:
    """Where the time went, in seconds.

    ``plan`` and ``read`` are summed over reading processes and ``encode`` over devices. ``waited`` and ``write`` are of
    the run's own thread: what it waited for ("plan" or "read" while a device had nothing to do, "encode" while all
    had work), and the writing that it does itself.
    ``images_at_once``: what a device's memory held where a batch did not fit; None where all did.
    """

    plan: float = 0.0
    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    wall: float = 0.0
    waited: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("plan", "read", "encode"), 0.0))
    encode_span: float = 0.0
    devices: int = 1
    regions: int = 0
    images_at_once: int | None = None

    @property
    def device_busy(self) -> float:
        """Share of the time between the first and the last batch in which the devices computed, 0..1."""
        span = self.encode_span * self.devices
        return min(1.0, self.encode / span) if span > 0 else 0.0

    @property
    def waits(self) -> dict[str, float]:
        """Stage → share of the wall time that the run waited for it, 0..1 each."""
        parts = {**self.waited, "write": self.write}
        return {stage: min(1.0, seconds / self.wall) if self.wall > 0 else 0.0 for stage, seconds in parts.items()}


def summed(parts: Sequence[StageSeconds], wall: float, write: float) -> StageSeconds:
    """Of a run whose parts were done by several, each with devices of its own.

    ``waited`` is the mean over the parts. ``devices`` is such that ``device_busy`` counts each part's own span.

    Args:
        wall, write: of the run's own thread.
    """
    spans = [part.encode_span * part.devices for part in parts]
    fits = [part.images_at_once for part in parts if part.images_at_once is not None]
    devices = max(1, sum(part.devices for part in parts))
    stages = StageSeconds().waited
    return StageSeconds(
        plan=sum(part.plan for part in parts),
        read=sum(part.read for part in parts),
        encode=sum(part.encode for part in parts),
        write=write,
        wall=wall,
        waited={stage: sum(part.waited[stage] for part in parts) / max(1, len(parts)) for stage in stages},
        encode_span=sum(spans) / devices,
        devices=devices,
        regions=sum(part.regions for part in parts),
        images_at_once=min(fits, default=None),
    )
