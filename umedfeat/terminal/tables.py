"""Tables for the terminal: aligned, plain text, no colours, safe to pipe; no cell reaches beyond its place."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from umedfeat.naming import printable

__all__ = ["human_bytes", "human_seconds", "render_facts", "render_table"]


def render_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a rule under the header. Columns of numbers are right-aligned.

    >>> print(render_table(["modality", "inputs"], [["CT", 3], ["WSI", 12]]))
    modality  inputs
    ────────  ──────
    CT             3
    WSI           12
    """
    header = [printable(name) for name in header]
    texts = [[_text(cell) for cell in row] for row in rows]
    numeric = [
        all(isinstance(row[k], (int, float)) or row[k] in ("", None) for row in rows) for k in range(len(header))
    ]
    widths = [max(_width(header[k]), *(_width(row[k]) for row in texts), 0) for k in range(len(header))]
    lines = [_line(header, widths, numeric), _line(["─" * width for width in widths], widths, numeric)]
    return "\n".join(line.rstrip() for line in [*lines, *(_line(row, widths, numeric) for row in texts)])


def render_facts(facts: Sequence[tuple[str, object]]) -> str:
    """Name and value a line, values aligned.

    >>> print(render_facts([("encoder", "umedpt"), ("dim", 512)]))
    encoder  umedpt
    dim      512
    """
    width = max((_width(name) for name, _ in facts), default=0)
    return "\n".join(f"{name}{' ' * (width - _width(name))}  {_text(value)}".rstrip() for name, value in facts)


def human_bytes(count: float) -> str:
    """1536 → "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """95 → "1 min 35 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return printable(str(cell))
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.3f}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        gap = " " * (width - _width(cell))
        padded.append(gap + cell if to_right else cell + gap)
    return "  ".join(padded)
