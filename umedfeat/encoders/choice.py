"""Which encoder a run uses: what a user chooses, as one value that crosses processes (no torch here)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umedfeat.encoders.base import Encoder

__all__ = ["EncoderChoice"]


@dataclass(frozen=True)
class EncoderChoice:
    """Arguments of ``umedfeat.load_encoder``."""

    name: str = "umedpt"
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    pool_order: str | None = None
    compile: bool = False
    offline: bool = False

    def load(self) -> Encoder:
        """Load it.

        Raises:
            WeightsUnavailable, CheckpointRefused, SetupError: see ``umedfeat.load_encoder``.
        """
        from umedfeat.encoders import load_encoder

        return load_encoder(
            self.name,
            weights=self.weights,
            device=self.device,
            precision=self.precision,
            runtime=self.runtime,
            pool_order=self.pool_order,
            compile=self.compile,
            offline=self.offline,
        )
