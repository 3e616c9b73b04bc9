"""Pictures of what was embedded: remembered while the run goes on, drawn in worker processes when the file is packed.

No picture delays a feature, and none can end the run: what crashes a decoder costs one picture.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from umedfeat.contract import Failure, Plan, Skipped, Source
from umedfeat.engine.planning import visit_all
from umedfeat.errors import OutputError
from umedfeat.policy import Policy

__all__ = ["Pictures", "pictures_in"]

log = logging.getLogger("umedfeat")

#: Regions of slides whose plans are remembered, 64 MB of them; what comes later is planned anew for its picture.
_MOST_REGIONS = 2_000_000


class Pictures:
    """What goes onto the page of pictures. Plans of slides wait in memory, up to a bound; others are cheap to repeat.

    Args:
        folder: for the page; made if missing.
        policy: what the sources were read with.
        geojson: also tissue and grid of every slide for QuPath.

    Raises:
        SetupError: the folder cannot be made.
    """

    def __init__(self, folder: Path, policy: Policy, *, geojson: bool) -> None:
        from umedfeat.report.preview import Drawing, PreviewWriter

        self._policy = policy
        self._writer = PreviewWriter(folder, policy)
        self._drawing = Drawing(folder, geojson=geojson)
        self._kept: list[tuple[Source, Plan | None]] = []
        self._regions = 0

    def keep(self, source: Source, plan: Plan) -> None:
        """A source that was embedded: its picture is drawn later."""
        remembered = bool(plan.tile_extent) and self._regions + len(plan.regions) <= _MOST_REGIONS
        self._regions += len(plan.regions) * remembered
        self._kept.append((source, plan if remembered else None))

    def fail(self, failure: Failure) -> None:
        """An input that failed."""
        self._writer.fail(failure)

    def skip(self, skipped: Skipped) -> None:
        """A file that is no input."""
        self._writer.skip(skipped)

    def draw(self, workers: int, timeout: float, stop: threading.Event) -> None:
        """Draw everything and write the page; with less on it when ``stop`` is set meanwhile."""
        drawn = visit_all(self._kept, self._drawing, self._policy, workers=workers, timeout=timeout)
        with contextlib.closing(drawn):
            for _, visited in drawn:
                if visited.error is None:
                    self._writer.add(visited.value)
                elif isinstance(visited.error, OutputError):
                    log.warning("no further pictures: %s", visited.error.message)
                    break
                else:
                    log.warning("no picture: %s", visited.error.message)
                if stop.is_set():
                    break
        try:
            self._writer.close()
        except OutputError as error:
            log.warning("no page of pictures: %s", error.message)


def pictures_in(folder: Path | None, policy: Policy, *, geojson: bool) -> Pictures | None:
    """Pictures in a folder; None without one."""
    return None if folder is None else Pictures(folder, policy, geojson=geojson)
