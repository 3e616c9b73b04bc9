"""What a person watches while a run goes on, and what a machine reads. Everything here goes to stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from typing import Any, Protocol, TextIO

from tqdm import tqdm

__all__ = ["BarProgress", "Hints", "JsonProgress", "Progress", "SilentProgress", "configure_logging", "make_progress"]

log = logging.getLogger("umedfeat")


class Progress(Protocol):
    """Receives what happens, in order: notes, begin, then any mixture, then close."""

    def begin(self, sources: int) -> None:
        """The run will look at so many sources."""

    def note(self, text: str) -> None:
        """One line that a person may want to know, such as the settings that were chosen."""

    def planned(self, regions: int) -> None:
        """One source was planned: so many regions more."""

    def encoded(self, regions: int) -> None:
        """So many regions were embedded."""

    def finished(self, name: str, status: str) -> None:
        """A source ended: "embedded" or "failed"."""

    def packed(self, rows: int) -> None:
        """After everything is embedded: so many rows more stand in the packed file."""

    def close(self) -> None:
        """What was begun is over; packing may follow."""


class SilentProgress:
    """Says nothing."""

    def begin(self, sources: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def planned(self, regions: int) -> None:
        """Nothing."""

    def encoded(self, regions: int) -> None:
        """Nothing."""

    def finished(self, name: str, status: str) -> None:
        """Nothing."""

    def packed(self, rows: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Counts:
    """The numbers behind the picture; the total is a projection until every source is planned."""

    def __init__(self) -> None:
        self.sources = 0
        self.planned_sources = 0
        self.ended = {"embedded": 0, "failed": 0}
        self.regions = 0
        self.encoded = 0

    @property
    def expected_regions(self) -> int:
        """Regions planned so far, scaled up for the sources that are not planned yet."""
        if not self.planned_sources:
            return 0
        return round(self.regions * max(1.0, self.sources / self.planned_sources))


class BarProgress(SilentProgress):
    """A tqdm bar over regions with rate and ETA, and the inputs done behind it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._counts = _Counts()
        self._stream = stream or sys.stderr
        self._bar: Any = None

    def begin(self, sources: int) -> None:
        self._counts.sources = sources
        self._bar = tqdm(
            total=0,
            unit="img",
            desc="embedding",
            file=self._stream,
            dynamic_ncols=True,
            smoothing=0.1,
            mininterval=0.2 if self._stream.isatty() else 10.0,
        )
        self._show()

    def note(self, text: str) -> None:
        tqdm.write(text, file=self._stream)

    def planned(self, regions: int) -> None:
        self._counts.planned_sources += 1
        self._counts.regions += regions
        self._show()

    def encoded(self, regions: int) -> None:
        self._counts.encoded += regions
        self._bar.update(regions)

    def finished(self, name: str, status: str) -> None:
        self._counts.ended[status] += 1
        self._show()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.total = self._counts.encoded
            self._bar.close()

    def _show(self) -> None:
        counts = self._counts
        self._bar.total = max(counts.expected_regions, counts.encoded)
        failed = f", {counts.ended['failed']} failed" if counts.ended["failed"] else ""
        self._bar.set_postfix_str(f"{sum(counts.ended.values())}/{counts.sources} inputs{failed}", refresh=False)


class JsonProgress(SilentProgress):
    """One JSON object a line, at most one a second besides the first and the last."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._counts = _Counts()
        self._stream = stream or sys.stderr
        self._begin = self._last = 0.0

    def begin(self, sources: int) -> None:
        self._counts.sources = sources
        self._begin = time.monotonic()
        self._write()

    def note(self, text: str) -> None:
        self._stream.write(json.dumps({"event": "note", "message": text}) + "\n")
        self._stream.flush()

    def planned(self, regions: int) -> None:
        self._counts.planned_sources += 1
        self._counts.regions += regions

    def encoded(self, regions: int) -> None:
        self._counts.encoded += regions
        if time.monotonic() - self._last >= 1.0:
            self._write()

    def finished(self, name: str, status: str) -> None:
        self._counts.ended[status] += 1

    def close(self) -> None:
        self._write()

    def _write(self) -> None:
        self._last = time.monotonic()
        counts = self._counts
        elapsed = self._last - self._begin
        rate = counts.encoded / elapsed if elapsed > 0 else 0.0
        left = max(0, counts.expected_regions - counts.encoded)
        event = {
            "event": "progress",
            "inputs": counts.sources,
            **counts.ended,
            "regions_done": counts.encoded,
            "regions_expected": counts.expected_regions,
            "per_second": round(rate, 2),
            "eta_seconds": round(left / rate) if rate > 0 else None,
        }
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


def make_progress(kind: str) -> Progress:
    """ "bar", "json" or "none"."""
    return {"bar": BarProgress, "json": JsonProgress, "none": SilentProgress}[kind]()


class _BarAwareHandler(logging.StreamHandler[Any]):
    """Writes log lines above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level, when = record.levelname.lower(), round(record.created, 3)
        return json.dumps({"event": "log", "level": level, "time": when, "message": record.getMessage()})


class Hints(Counter[str]):
    """Counts what readers would rather be told; the first of a kind is a warning at once, the others need ``-v``."""

    def tell(self, name: str, hint: str) -> None:
        """A hint about one source; nothing where it is empty."""
        if hint:
            log.log(logging.INFO if hint in self else logging.WARNING, "%s: %s", name, hint)
            self[hint] += 1


def configure_logging(verbosity: int, *, as_json: bool) -> None:
    """Send the program's log to stderr: warnings by default, ``-v`` info, ``-vv`` debug, ``-q`` errors only."""
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    handler = _BarAwareHandler()
    handler.setFormatter(_JsonFormatter() if as_json else logging.Formatter("%(levelname)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(levels.get(max(-1, verbosity), logging.DEBUG))
    log.propagate = False
