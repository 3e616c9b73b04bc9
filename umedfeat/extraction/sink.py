"""Where finished sources go: into the store, and where asked for, onto the list of pictures."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Failure, Plan, Skipped, Source
from umedfeat.extraction.oddities import window_setting
from umedfeat.extraction.pictures import Pictures
from umedfeat.store import FeatureStore
from umedfeat.terminal.log import Hints

__all__ = ["StoreSink"]

log = logging.getLogger("umedfeat")


@dataclass
class StoreSink:
    """Hands finished sources to the store and remembers what happened."""

    store: FeatureStore
    stop: threading.Event | None
    pictures: Pictures | None
    count: int = 0
    failures: list[Failure] = field(default_factory=list)
    items: Counter[str] = field(default_factory=Counter)
    regions: Counter[str] = field(default_factory=Counter)
    hints: Hints = field(default_factory=Hints)
    windows: set[str] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)
    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    intents: Counter[str] = field(default_factory=Counter)

    @property
    def stopped_by_failure(self) -> bool:
        """Did a failure end the run (``--on-error stop``)?"""
        return self.stop is not None and bool(self.failures)

    @property
    def by_modality(self) -> dict[str, tuple[int, int]]:
        """Modality → (inputs, regions) that were embedded."""
        return {name: (self.items[name], self.regions[name]) for name in sorted(self.items)}

    @property
    def identical(self) -> tuple[tuple[str, ...], ...]:
        """Names of inputs whose content is the same, byte by byte or block by block."""
        return tuple(tuple(names) for names in self.names.values() if len(names) > 1)

    def note(self, failures: Sequence[Failure], skipped: Sequence[Skipped]) -> None:
        """What discovery found besides sources."""
        for failure in failures:
            self._take(failure)
        for skip in skipped:
            self.store.skip(skip)
            if self.pictures is not None:
                self.pictures.skip(skip)

    def embedded(
        self, source: Source, plan: Plan, features: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        self.store.add_given(source, plan, features, dropped)
        self._count(source, plan)

    def stored(self, source: Source, plan: Plan) -> None:
        self.store.added_by_others(source)
        self._count(source, plan)

    def _count(self, source: Source, plan: Plan) -> None:
        if plan.content_sha256:
            self.names.setdefault((plan.content_sha256, source.selector), []).append(source.name)
        if len(plan.regions):
            self.count += 1
            self.items[plan.modality] += 1
        else:
            self.empty.append(source.name)
        self.regions[plan.modality] += len(plan.regions)
        self.windows.add(window_setting(plan.detail))
        self.intents[str(plan.detail.get("presentation_intent", ""))] += 1
        if self.pictures is not None:
            self.pictures.keep(source, plan)
        log.info("%s: %d %s embedded", source.name, len(plan.regions), plan.modality)
        self.hints.tell(source.name, plan.hint)

    def failed(self, source: Source, failure: Failure) -> None:
        self._take(failure)

    def _take(self, failure: Failure) -> None:
        log.warning("%s", failure.message)
        self.failures.append(failure)
        self.store.fail(failure)
        if self.stop is not None:
            self.stop.set()
        if self.pictures is not None:
            self.pictures.fail(failure)
