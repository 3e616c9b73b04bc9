"""Where finished sources go: into the store, and where asked for, onto a page of pictures."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Failure, Plan, Skipped, Source
from umedfeat.engine.local.worker import named_faults
from umedfeat.errors import InputError
from umedfeat.policy import Policy
from umedfeat.readers import open_reader
from umedfeat.store import FeatureStore, Item
from umedfeat.terminal.log import Hints

__all__ = ["Pictures", "StoreSink", "drawn"]

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

    @property
    def stopped_by_failure(self) -> bool:
        return self.stop is not None and bool(self.failures)

    @property
    def by_modality(self) -> dict[str, tuple[int, int]]:
        return {name: (self.items[name], self.regions[name]) for name in sorted(self.items)}

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
        self.store.add(Item(source, plan, features, dropped))
        self.count += 1
        self.items[plan.modality] += 1
        self.regions[plan.modality] += len(plan.regions)
        if self.pictures is not None:
            self.pictures.draw(source, plan)
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


class Pictures:
    """Draws what was embedded, in a thread: no device waits for it, and a picture that fails costs no features."""

    def __init__(self, folder: Path, policy: Policy, *, geojson: bool) -> None:
        from umedfeat.report.preview import PreviewWriter

        self._policy = policy
        self._writer = PreviewWriter(folder, policy, geojson=geojson)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def draw(self, source: Source, plan: Plan) -> None:
        """Draw a source before long."""
        self._thread.submit(self._draw, source, plan)

    def fail(self, failure: Failure) -> None:
        """An input that failed."""
        self._thread.submit(self._writer.fail, failure)

    def skip(self, skipped: Skipped) -> None:
        """A file that is no input."""
        self._thread.submit(self._writer.skip, skipped)

    def _draw(self, source: Source, plan: Plan) -> None:
        try:
            with named_faults(source), contextlib.closing(open_reader(source, self._policy, plan.prepared)) as reader:
                self._writer.add(source, reader, plan)
        except InputError as error:
            log.warning("no picture: %s", error.message)

    def finish(self) -> None:
        """Wait for the last picture and write the page."""
        self._thread.shutdown()
        try:
            self._writer.close()
        except OSError as error:
            log.warning("no page of pictures: %s", error.strerror)

    def close(self) -> None:
        """Draw nothing more."""
        self._thread.shutdown(cancel_futures=True)


@contextlib.contextmanager
def drawn(folder: Path | None, policy: Policy, *, geojson: bool) -> Iterator[Pictures | None]:
    """Pictures in a folder; None without one."""
    if folder is None:
        yield None
        return
    with contextlib.closing(Pictures(folder, policy, geojson=geojson)) as pictures:
        yield pictures
