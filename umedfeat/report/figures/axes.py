"""The least that a figure needs: a frame with ticks, and numbers to places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

__all__ = ["Axes", "linear_ticks", "series_class"]

#: Colours of the page for series (CSS classes s0 … s6).
_SERIES = 7
#: Height of a line of text, width of a digit, and what stands beside the ticks of the y axis.
_ROW = 15
_LETTER = 7.5
_BESIDE = 32


def series_class(number: int) -> str:
    """CSS class of the n-th series."""
    return f"s{number % _SERIES}"


@dataclass
class Axes:
    """A frame of ``width`` × ``height`` user units with linear scales; log scales are the caller's logarithms.

    Attributes:
        x, y: (low, high) of the data shown, low < high.
        x_ticks, y_ticks: (place, text, which may have several lines).
        left: at least so much beside the frame, more where the ticks need it.
        bottom: height below the frame; 0 leaves room for the ticks and the label.
        title: what a screen reader says.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_label: str
    y_label: str
    title: str
    width: float = 640
    height: float = 380
    left: float = 64
    bottom: float = 0
    _parts: list[str] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = max((text.count("\n") + 1 for _, text in self.x_ticks), default=0)
        self.bottom = self.bottom or 34 + _ROW * rows
        longest = max((len(text) for _, text in self.y_ticks), default=0)
        self.left = max(self.left, _BESIDE + _LETTER * longest)

    def px(self, value: float) -> float:
        """Place of an x value."""
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - 16)

    def py(self, value: float) -> float:
        """Place of a y value."""
        return 14 + (self.y[1] - value) / (self.y[1] - self.y[0]) * (self.height - 14 - self.bottom)

    def line(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A polyline through data points."""
        self._parts.append(f'<polyline class="line {kind}" points="{self._places(points)}"/>')

    def area(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A filled polygon."""
        self._parts.append(f'<polygon class="area {kind}" points="{self._places(points)}"/>')

    def dot(self, x: float, y: float, kind: str, *, radius: float = 3, tip: str = "") -> None:
        """A point, with a text that is shown when the pointer rests on it."""
        shown = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<circle class="dot {kind}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius:g}">{shown}</circle>'
        )

    def note(self, x: float, y: float, text: str) -> None:
        """A word that ends just above a place."""
        place = f'x="{self.px(x):.1f}" y="{self.py(y) - 5:.1f}"'
        self._notes.append(f'<text class="over" {place} text-anchor="end">{escape(text)}</text>')

    def svg(self) -> Markup:
        """The figure."""
        content = [*self._frame(), *self._parts, *self._notes]
        head = f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.title)}">'
        return Markup(head + "".join(content) + "</svg>")  # every text in it is escaped

    def _places(self, points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)

    def _frame(self) -> list[str]:
        right, floor = self.width - 16, self.height - self.bottom
        parts = []
        for place, text in self.y_ticks:
            y = self.py(place)
            parts.append(f'<line class="grid" x1="{self.left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{self.left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        for place, text in self.x_ticks:
            x = self.px(place)
            parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{floor:g}" y2="{floor + 5:g}"/>')
            for row, part in enumerate(text.split("\n")):
                parts.append(_centred("", x, floor + 19 + _ROW * row, part))
        parts.append(f'<line class="axis" x1="{self.left:g}" x2="{right:g}" y1="{floor:g}" y2="{floor:g}"/>')
        parts.append(_centred("name", (self.left + right) / 2, self.height - 6, self.x_label))
        height = (14 + floor) / 2
        parts.append(
            f'<text class="name" transform="translate(14 {height:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        return parts


def _centred(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:g}" text-anchor="middle">{escape(text)}</text>'


def linear_ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Round places between two values, at most ``most`` or one more."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:.10g}") for k in range(first, last + 1)]
