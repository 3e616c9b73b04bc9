"""Pictures of what was embedded: remembered while the run goes on, drawn in worker processes when the file is packed.

No picture delays a feature, and none can end the run: what crashes a decoder costs one picture.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from umedfeat.contract import Failure, Plan, Skipped, Source
from umedfeat.engine.planning import visit_all
from umedfeat.errors import OutputError
from umedfeat.policy import Policy

__all__ = ["Pictures", "pictures_in"]

log = logging.getLogger("umedfeat")


class Pictures:
    """What goes onto the page of pictures. Plans wait on disk: those of many slides would fill the memory.

    Args:
        folder: for the page; made if missing.
        policy: what the sources were read with.
        geojson: also tissue and grid of every slide for QuPath.
        plans: an empty file for them.

    Raises:
        SetupError: the folder cannot be made.
    """

    def __init__(self, folder: Path, policy: Policy, plans: IO[bytes], *, geojson: bool) -> None:
        from umedfeat.report.preview import Drawing, PreviewWriter

        self._policy = policy
        self._writer = PreviewWriter(folder, policy)
        self._drawing = Drawing(folder, geojson=geojson)
        self._plans = plans
        self._count = 0
        self._full = False

    def keep(self, source: Source, plan: Plan) -> None:
        """A source that was embedded: its picture is drawn later."""
        if self._full:
            return
        try:
            pickle.dump((source, plan), self._plans)
            self._plans.flush()
        except OSError as error:  # the temporary folder is full: features go on
            self._full = True
            log.warning("no pictures of further inputs: their plans cannot be kept (%s)", error.strerror)
        else:
            self._count += 1

    def fail(self, failure: Failure) -> None:
        """An input that failed."""
        self._writer.fail(failure)

    def skip(self, skipped: Skipped) -> None:
        """A file that is no input."""
        self._writer.skip(skipped)

    def draw(self, workers: int, timeout: float, stop: threading.Event) -> None:
        """Draw everything and write the page; with less on it when ``stop`` is set meanwhile."""
        drawn = visit_all(self._kept(), self._drawing, self._policy, workers=workers, timeout=timeout)
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

    def _kept(self) -> Iterator[tuple[Source, Plan | None]]:
        self._plans.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._plans)


@contextlib.contextmanager
def pictures_in(folder: Path | None, policy: Policy, *, geojson: bool) -> Iterator[Pictures | None]:
    """Pictures in a folder; None without one."""
    if folder is None:
        yield None
        return
    with tempfile.TemporaryFile() as plans:
        yield Pictures(folder, policy, plans, geojson=geojson)
