"""What an actor has done and the driver does not know yet: the sink of its engine, and its progress."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Failure, Plan, Source
from umedfeat.engine.messages import Broken
from umedfeat.engine.ray.messages import Ended, Lease, Report
from umedfeat.engine.seconds import StageSeconds
from umedfeat.store.segment import SegmentWriter
from umedfeat.terminal.progress import SilentProgress

__all__ = ["Outbox"]

#: After the first thing to tell, a report waits so long for more: small images end by the dozen.
_LINGER_SECONDS = 0.1
#: Features that one report carries, if there is more than one source.
_REPORT_BYTES = 64 << 20
#: What is embedded waits no longer than this for its segment to fill.
_UNSAFE_SECONDS = 20.0


class Outbox(SilentProgress):
    """Takes what the engine finishes and tells it in reports; threads may differ.

    Args:
        writer: writes segments beside the output; None where features travel with the reports. Only what is safe on
            disk is told as ended.
    """

    def __init__(self, writer: SegmentWriter | None = None) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._numbers: dict[str, int] = {}
        self._ended: deque[Ended] = deque()
        self._unsafe: list[Ended] = []
        self._unsafe_since = 0.0
        self._computed: list[int] = []
        self._planned: list[int] = []
        self._encoded = 0
        self._broken: Broken | None = None

    def expect(self, leases: Iterable[Lease]) -> None:
        """The engine gets these sources now."""
        with self._changed:
            self._numbers.update({lease.source.id: lease.number for lease in leases})

    def embedded(
        self, source: Source, plan: Plan, features: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        if self._writer is not None:
            self._writer.add(self._writer.item_of(source, plan, features, dropped))
        with self._changed:
            number = self._numbers.pop(source.id)
            if self._writer is None:
                self._ended.append(Ended(number, plan, np.asarray(features), dropped))
            else:
                self._unsafe_since = self._unsafe_since if self._unsafe else time.monotonic()
                self._unsafe.append(Ended(number, plan, None, dropped))
            self._computed.append(number)
            self._changed.notify_all()

    def stored(self, source: Source, plan: Plan) -> None:
        raise NotImplementedError("an engine hands over what it embeds")

    def failed(self, source: Source, failure: Failure) -> None:
        with self._changed:
            number = self._numbers.pop(source.id)
            self._ended.append(Ended(number, failure=failure))
            self._computed.append(number)
            self._changed.notify_all()

    def planned(self, regions: int) -> None:
        with self._changed:
            self._planned.append(regions)

    def encoded(self, regions: int) -> None:
        with self._changed:
            self._encoded += regions

    def broke(self, reason: Broken) -> None:
        """The engine cannot go on."""
        with self._changed:
            self._broken = reason
            self._changed.notify_all()

    def report(self, patience: float, seconds: StageSeconds) -> Report:
        """What is new; waits up to ``patience`` seconds for something that ended.

        Raises:
            OutputError: a segment could not be written.
        """
        with self._changed:
            news = self._changed.wait_for(lambda: self._computed or self._ended or self._broken, patience)
            if news and self._numbers and not self._broken:
                self._changed.wait_for(lambda: not self._numbers or self._broken, _LINGER_SECONDS)
            idle = not self._numbers
            overdue = time.monotonic() - self._unsafe_since > _UNSAFE_SECONDS
        if self._unsafe and (idle or overdue):
            self.make_safe()
        with self._changed:
            return self._taken(seconds)

    def make_safe(self) -> None:
        """Write what waits for its segment to fill.

        Raises:
            OutputError: it cannot be written.
        """
        with self._changed:
            unsafe, self._unsafe = self._unsafe, []
        if self._writer is not None:
            self._writer.flush()
        with self._changed:
            self._ended.extend(unsafe)

    def _taken(self, seconds: StageSeconds) -> Report:
        ended: list[Ended] = []
        size = 0
        while self._ended and (not ended or size < _REPORT_BYTES):
            ended.append(self._ended.popleft())
            size += 0 if (features := ended[-1].features) is None else features.nbytes
        report = Report(tuple(ended), tuple(self._computed), tuple(self._planned), self._encoded, seconds, self._broken)
        self._computed, self._planned, self._encoded = [], [], 0
        return report
