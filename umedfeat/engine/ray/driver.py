"""The driver of a run: gives sources out, takes what is finished, and gives what dead actors had to others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from umedfeat.contract import Failure, Source
from umedfeat.engine.messages import Broken
from umedfeat.engine.protocols import Sink
from umedfeat.engine.ray.cluster import Gone
from umedfeat.engine.ray.leases import Leases
from umedfeat.engine.ray.members import Member, Members
from umedfeat.engine.ray.messages import Assignment, Ended, Lease, Report
from umedfeat.engine.seconds import StageSeconds, summed
from umedfeat.engine.sizes import bytes_of
from umedfeat.errors import OutputError, WorkerDied
from umedfeat.terminal.progress import Progress

__all__ = ["Driver"]

_WAIT_SECONDS = 0.5
#: Seconds that actors have to tell what they have done when the run ends early.
_FAREWELL_SECONDS = 15.0


class Driver:
    """One run.

    Args:
        members: who computes. assignment: what they are told.
        sources: what is to be embedded. sink, progress: see ``umedfeat.engine.protocols.Place``.

    Attributes:
        embedded: node → sources that were embedded there.
    """

    def __init__(
        self, members: Members, assignment: Assignment, sources: Sequence[Source], sink: Sink, progress: Progress
    ) -> None:
        self._members, self._assignment = members, assignment
        self._sources, self._sink, self._progress = sources, sink, progress
        self._leases = Leases(bytes_of(sources))
        self._worked: dict[Member, StageSeconds] = {}
        self._writing = 0.0
        self._shown = (-1, -1)
        self.embedded: Counter[str] = Counter()

    @property
    def lost(self) -> int:
        """Leases that dead actors had."""
        return self._leases.lost

    def run(self, stop: threading.Event) -> StageSeconds:
        """Until every source is handed to the sink, or ``stop`` is set.

        Raises:
            SetupError: nobody is left who computes. OutputError: the output cannot be written.
        """
        begin = time.perf_counter()
        for member in self._members.working:
            self._members.ask(member, "begin", self._assignment)
        while not (self._leases.finished or stop.is_set()):
            for member in self._members.recruit():
                self._bury(member)
            for member, answer in self._members.answers(_WAIT_SECONDS):
                self._receive(member, answer)
            self._show()
        if stop.is_set():
            self._farewell()
        return summed(list(self._worked.values()), time.perf_counter() - begin, self._writing)

    def _receive(self, member: Member, answer: Any) -> None:
        if isinstance(answer, Gone):
            self._bury(member)
        elif isinstance(answer, Report):
            self._take(member, answer)
            if answer.broken is None:
                self._give(member)
            else:
                self._part(member, answer.broken)
        elif member.asked == "begin":
            if isinstance(answer, Broken):
                self._members.refuse(member, answer.error)
            else:
                self._give(member)
        elif self._members.introduced(member, answer):
            self._members.ask(member, "begin", self._assignment)

    def _give(self, member: Member) -> None:
        granted = self._leases.grant(member.holder, len(self._members.living))
        leases = [Lease(number, self._sources[number]) for number in granted]
        self._members.ask(member, "exchange", leases)

    def _take(self, member: Member, report: Report) -> None:
        for regions in report.planned:
            self._progress.planned(regions)
        self._progress.encoded(report.encoded)
        self._worked[member] = report.seconds
        member.holder.computed(report.computed)
        for ended in report.ended:
            if self._leases.close(member.holder, ended.number):
                self._hand_over(member, ended)

    def _hand_over(self, member: Member, ended: Ended) -> None:
        source = self._sources[ended.number]
        if ended.plan is None:
            failure = ended.failure or Failure(source.name, "read", "UnreadableInput", f"{source.name}: no plan")
            self._fail(source, failure)
            return
        begin = time.perf_counter()
        if ended.features is None:
            self._sink.stored(source, ended.plan)
        else:
            self._sink.embedded(source, ended.plan, ended.features, ended.dropped)
        self._writing += time.perf_counter() - begin
        self.embedded[member.node.name] += 1
        self._progress.finished(source.name, "embedded")

    def _fail(self, source: Source, failure: Failure) -> None:
        self._sink.failed(source, failure)
        self._progress.finished(source.name, "failed")

    def _bury(self, member: Member) -> None:
        """What a dead member had goes to others; what several have died with has failed."""
        for number in self._leases.bury(member.holder):
            source = self._sources[number]
            remedy = "the file may be damaged, or the nodes' memory too small: try fewer --workers"
            error = WorkerDied(f"{source.name}: every actor that had it died", remedy=remedy)
            self._fail(source, Failure(source.name, "read", type(error).__name__, error.message, error.remedy))

    def _part(self, member: Member, broken: Broken) -> None:
        """It cannot go on, through no fault of its sources."""
        if isinstance(broken.error, OutputError):
            raise broken.error
        self._leases.bury(member.holder, blame=False)
        self._members.broke(member, broken.error)

    def _farewell(self) -> None:
        """Take what actors have done, so that little is done again; they have some seconds for it."""
        end = time.monotonic() + _FAREWELL_SECONDS
        while time.monotonic() < end and any(member.question is not None for member in self._members.working):
            for member, answer in self._members.answers(_WAIT_SECONDS):
                if isinstance(answer, Report):
                    self._take(member, answer)
                    if member.asked == "exchange":
                        self._members.ask(member, "close")

    def _show(self) -> None:
        shown = len({member.node.id for member in self._members.working}), self._leases.lost
        if shown != self._shown:
            self._shown = shown
            self._progress.cluster(*shown)
