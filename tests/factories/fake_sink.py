"""What the engine's tests compare: everything it hands over, and what that should be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from fake_encoder import corner_means
from fake_reader import pixels_of

from umedfeat.contract import Dropped, Failure, Plan, Source


@dataclass
class Collected:
    """A sink that keeps everything."""

    features: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    dropped: dict[str, tuple[Dropped, ...]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    def embedded(
        self, source: Source, plan: Plan, features: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        assert source.id not in self.features
        self.features[source.id] = np.array(features)
        self.plans[source.id] = plan
        self.dropped[source.id] = dropped

    def failed(self, source: Source, failure: Failure) -> None:
        assert source.id not in self.failures
        self.failures[source.id] = failure


def expected(source_id: str, rows: int, dtype: str = "uint8") -> npt.NDArray[np.float32]:
    images = np.stack([pixels_of(source_id, row, dtype) for row in range(rows)])
    return corner_means(images / np.float32(255) if dtype == "uint8" else images)
