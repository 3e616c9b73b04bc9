"""Inside an actor: the engine of one machine, with a share of the node, fed with leases until the driver is done.

Ray calls one method at a time; the engine has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from umedfeat._version import __version__
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.local.here import Here
from umedfeat.engine.messages import Broken, Ready
from umedfeat.engine.ray.messages import Assignment, Lease, Report
from umedfeat.engine.ray.outbox import Outbox
from umedfeat.engine.seconds import StageSeconds
from umedfeat.engine.supply import Fed
from umedfeat.errors import SetupError, UmedfeatError
from umedfeat.machine import CORES_VARIABLE
from umedfeat.store.segment import SegmentWriter

__all__ = ["Station"]

log = logging.getLogger("umedfeat")

#: A report is due at least so often, whether or not something has ended.
_REPORT_SECONDS = 1.0
_CLOSE_SECONDS = 5.0


class Station:
    """One actor.

    Args:
        cores: of the node, for its encoder and its reading processes.
    """

    def __init__(self, cores: int) -> None:
        os.environ[CORES_VARIABLE] = str(cores)
        # Reading processes would import what runs this one, which is Ray: a second and 100 MB each, for nothing.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._here: Here | None = None
        self._supply, self._stop = Fed(), threading.Event()
        self._outbox = Outbox()
        self._writer: SegmentWriter | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine")

    def version(self) -> str:
        """Of this package on this node; asked before anything is sent that another version may not understand."""
        return __version__

    def load(self, choice: EncoderChoice, formats: Iterable[str]) -> Ready | Broken:
        """Load the encoder."""
        try:
            self._here = Here(choice, formats)
            return self._here.facts
        except UmedfeatError as error:
            return Broken(error)
        except (RuntimeError, OSError, MemoryError) as error:  # CUDA faults are RuntimeErrors; a library may name paths
            log.debug("%s", choice.name, exc_info=error)
            return Broken(SetupError(f"{choice.device}: failed ({type(error).__name__})", remedy="see the node's log"))

    def begin(self, assignment: Assignment) -> Broken | None:
        """Start the engine; None if it is on its way."""
        missing = next((path for path in assignment.needed if not _is_there(path)), None)
        if missing is not None:
            return Broken(SetupError(f"{missing}: not there", remedy="mount the same folders on every node"))
        if self._here is None:
            return Broken(SetupError("no encoder is loaded"))
        if assignment.wishes.segments is not None:
            self._writer = SegmentWriter(*assignment.wishes.segments)
            self._outbox = Outbox(self._writer)
        self._here.prepare(assignment.policy, assignment.wishes)
        self._thread.start()
        return None

    def exchange(self, leases: Sequence[Lease]) -> Report:
        """Take some more sources; what has ended meanwhile, after at most a second."""
        self._outbox.expect(leases)
        self._supply.feed(lease.source for lease in leases)
        return self._report(_REPORT_SECONDS)

    def close(self) -> Report:
        """Stop, and tell what has ended; what is under way is forgotten."""
        self._stop.set()
        self._supply.end()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)
        try:
            self._outbox.make_safe()
            report = self._report(0)
        except UmedfeatError as error:
            report = self._nothing_but(error)
        if self._writer is not None:
            self._writer.close()
        if self._here is not None:
            self._here.close()
        return report

    def _report(self, patience: float) -> Report:
        try:
            return self._outbox.report(patience, self._seconds)
        except UmedfeatError as error:
            return self._nothing_but(error)

    def _nothing_but(self, error: UmedfeatError) -> Report:
        return Report((), (), (), 0, self._seconds, Broken(error))

    @property
    def _seconds(self) -> StageSeconds:
        return StageSeconds() if self._here is None else self._here.seconds

    def _run(self) -> None:
        assert self._here is not None
        try:
            self._here.work_off(self._supply, self._outbox, self._outbox, self._stop)
        except UmedfeatError as error:
            self._outbox.broke(Broken(error))
        except Exception as error:
            log.exception("the engine failed")
            self._outbox.broke(Broken(SetupError(f"unforeseen {type(error).__name__}", remedy="see the node's log")))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
