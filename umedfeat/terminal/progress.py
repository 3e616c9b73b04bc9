"""What a person watches while a run goes on, and what a machine reads. Everything here goes to stderr."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any, Protocol, TextIO

from umedfeat.naming import printable
from umedfeat.terminal.bar import Bar, in_notebook, write_line

__all__ = ["BarProgress", "JsonProgress", "LineProgress", "Progress", "SilentProgress", "make_progress", "own_progress"]

#: Columns below which the bar itself makes room for the numbers.
_NARROW = 80


class Progress(Protocol):
    """Receives what happens, in order: notes, begin, then any mixture, close; then packed, close."""

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

    def cluster(self, nodes: int, lost: int) -> None:
        """So many nodes of a cluster work; so many sources were given out again because whoever had them died."""

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

    def cluster(self, nodes: int, lost: int) -> None:
        """Nothing."""

    def packed(self, rows: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Counting(SilentProgress):
    """The numbers behind the picture; the total is a projection until every source is planned."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._begin = time.monotonic()
        self.sources = self.planned_sources = self.regions = self.done = self.packed_rows = 0
        self.ended = {"embedded": 0, "failed": 0}
        self.nodes = self.lost = 0

    def begin(self, sources: int) -> None:
        self._begin = time.monotonic()
        self.sources = sources

    def planned(self, regions: int) -> None:
        self.planned_sources += 1
        self.regions += regions

    def encoded(self, regions: int) -> None:
        self.done += regions

    def finished(self, name: str, status: str) -> None:
        self.ended[status] += 1

    def cluster(self, nodes: int, lost: int) -> None:
        self.nodes, self.lost = nodes, lost

    def packed(self, rows: int) -> None:
        self.packed_rows += rows

    @property
    def expected(self) -> int:
        """Regions planned so far, scaled up for the sources that are not planned yet."""
        if not self.planned_sources:
            return 0
        return max(self.done, round(self.regions * max(1.0, self.sources / self.planned_sources)))

    @property
    def inputs(self) -> str:
        """ "12/40 inputs, 1 failed"; before the first is embedded, how many are planned."""
        if not self.done and not sum(self.ended.values()):
            return f"planned {self.planned_sources}/{self.sources} inputs{self._machines}"
        failed = f", {self.ended['failed']} failed" if self.ended["failed"] else ""
        return f"{sum(self.ended.values())}/{self.sources} inputs{failed}{self._machines}"

    @property
    def _machines(self) -> str:
        """Of a cluster: ", 3 nodes, 4 given out again"."""
        nodes = f", {self.nodes} node{'s' * (self.nodes != 1)}" if self.nodes else ""
        return nodes + (f", {self.lost} given out again" if self.lost else "")

    @property
    def per_second(self) -> float:
        elapsed = time.monotonic() - self._begin
        return self.done / elapsed if elapsed > 0 else 0.0

    @property
    def eta_seconds(self) -> int | None:
        return round((self.expected - self.done) / self.per_second) if self.done else None


class BarProgress(_Counting):
    """For a terminal: inputs done, then a tqdm bar over regions with rate and time left; another while packing."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._bar: Bar | None = None
        self._packing: Bar | None = None

    def begin(self, sources: int) -> None:
        super().begin(sources)
        numbers = "{percentage:3.0f}%{bar}{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
        narrow = shutil.get_terminal_size().columns < _NARROW
        layout = "{desc} " + numbers.replace("{bar}", " " if narrow else "|{bar}| ")
        usual: dict[str, Any] = {"bar_format": layout, "leave": True, "delay": 0, "smoothing": 0.1, "mininterval": 0.2}
        self._bar = Bar("", unit="img", shown=True, stream=self._stream, **usual)
        self._show()
        self._bar.refresh()

    def note(self, text: str) -> None:
        write_line(printable(text), self._stream)

    def planned(self, regions: int) -> None:
        super().planned(regions)
        self._show()

    def encoded(self, regions: int) -> None:
        super().encoded(regions)
        if self._bar is not None:
            self._bar.update(regions)

    def finished(self, name: str, status: str) -> None:
        super().finished(name, status)
        self._show()

    def packed(self, rows: int) -> None:
        if self._packing is None:
            self._packing = Bar("packing", shown=True, stream=self._stream)
        self._packing.update(rows)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close(self.done)
        if self._packing is not None:
            self._packing.close()
        self._bar = self._packing = None

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.describe(self.inputs, self.expected)


class _Paced(_Counting):
    """Tells now and then: at most once in ``every`` seconds, besides the last word."""

    every = 1.0

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._last = self._begin  # a file may be packed anew without a run that begins

    def begin(self, sources: int) -> None:
        super().begin(sources)
        self._last = time.monotonic()

    def encoded(self, regions: int) -> None:
        super().encoded(regions)
        self._tell_in_time()

    def planned(self, regions: int) -> None:
        super().planned(regions)
        self._tell_in_time()

    def packed(self, rows: int) -> None:
        super().packed(rows)
        self._tell_in_time()

    def close(self) -> None:
        if not self.packed_rows:
            self._tell()

    def _tell_in_time(self) -> None:
        if time.monotonic() - self._last >= self.every:
            self._tell()

    def _tell(self) -> None:
        self._last = time.monotonic()
        self._stream.write(self._text() + "\n")
        self._stream.flush()

    def _text(self) -> str:
        raise NotImplementedError


class LineProgress(_Paced):
    """For a log file: one plain line every half minute."""

    every = 30.0

    def note(self, text: str) -> None:
        self._stream.write(printable(text) + "\n")
        self._stream.flush()

    def _text(self) -> str:
        if self.packed_rows:
            return f"packing: {self.packed_rows:,} rows"
        left = "" if self.eta_seconds is None else f", {_clock(self.eta_seconds)} left"
        return f"{self.inputs}: {self.done:,} of {self.expected:,} images, {self.per_second:.1f}/s{left}"


class JsonProgress(_Paced):
    """One JSON object a line, at most one a second besides the first and the last."""

    def begin(self, sources: int) -> None:
        super().begin(sources)
        self._tell()

    def note(self, text: str) -> None:
        self._stream.write(json.dumps({"event": "note", "message": text}) + "\n")
        self._stream.flush()

    def _text(self) -> str:
        if self.packed_rows:
            return json.dumps({"event": "packing", "rows_done": self.packed_rows})
        event = {
            "event": "progress",
            "inputs": self.sources,
            **self.ended,
            "regions_done": self.done,
            "regions_expected": self.expected,
            "per_second": round(self.per_second, 2),
            "eta_seconds": self.eta_seconds,
            **({"nodes": self.nodes, "leases_lost": self.lost} if self.nodes or self.lost else {}),
        }
        return json.dumps(event)


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def make_progress(kind: str) -> Progress:
    """ "bar" (plain lines where stderr is no terminal), "json" or "none"."""
    if kind == "bar":
        return BarProgress() if sys.stderr.isatty() else LineProgress()
    return JsonProgress() if kind == "json" else SilentProgress()


def own_progress() -> Progress:
    """What a function shows that was given none: a widget in a notebook, nothing elsewhere."""
    return BarProgress() if in_notebook() else SilentProgress()
