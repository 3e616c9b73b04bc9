"""Contact sheets: regions exactly as the encoder gets them, read by the same reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from umedfeat.contract import RegionUnreadable
from umedfeat.report.preview.drawing import INK, MUTED, ORANGE, PAPER, SHEET, as_image, draw_text, to_rgb8

__all__ = ["Letters", "evenly", "sheet"]

_GAP = 6
_CAPTION = 22

Region = npt.NDArray[np.generic] | RegionUnreadable


class Letters(NamedTuple):
    """Where the patient is, at the four sides of a slice: R/L, A/P, H(ead)/F(eet)."""

    left: str
    right: str
    top: str
    bottom: str


def evenly(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """At most ``wanted`` of ``count`` indices, evenly spread, first and last among them (the middle of one)."""
    if wanted >= count:
        return np.arange(count)
    if wanted == 1:
        return np.array([count // 2])
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64))


def sheet(
    regions: Sequence[Region], captions: Sequence[str], *, columns: int = 6, letters: Letters | None = None
) -> Image.Image:
    """Regions side by side in their own size, captions below.

    Args:
        regions: (H, W, 3) arrays of one shape, uint8 or float32 in [0, 1], or why there is none.
        captions: one per region; all empty for none.
        columns: at most so many in a row.
        letters: of the patient's sides, drawn into every slice.
    """
    height, width = next((r.shape[:2] for r in regions if not isinstance(r, RegionUnreadable)), (224, 224))
    columns = min(columns, len(regions)) or 1
    caption = _CAPTION if any(captions) else 0
    rows = -(-len(regions) // columns)
    page = Image.new(
        "RGB", (columns * (width + _GAP) - _GAP, rows * (height + caption + _GAP) - _GAP), SHEET
    )  # fmt: skip
    draw = ImageDraw.Draw(page)
    for k, (region, text) in enumerate(zip(regions, captions, strict=True)):
        x, y = k % columns * (width + _GAP), k // columns * (height + caption + _GAP)
        if isinstance(region, RegionUnreadable):
            _draw_missing(draw, (x, y, x + width - 1, y + height - 1))
        else:
            page.paste(as_image(to_rgb8(region)), (x, y))
            if letters is not None:
                _draw_letters(draw, (x, y, width, height), letters)
        if caption:
            draw_text(draw, (x + 1, y + height + caption / 2), text, size=13, colour=INK)
    return page


def _draw_missing(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    """A crossed frame: this region cannot be read and has no pixels."""
    x0, y0, x1, y1 = box
    draw.rectangle(box, fill=PAPER, outline=ORANGE, width=2)
    draw.line((x0, y0, x1, y1), fill=ORANGE)
    draw.line((x0, y1, x1, y0), fill=ORANGE)
    inset, middle = (x1 - x0) / 6, (y0 + y1) / 2
    draw.rectangle((x0 + inset, middle - 10, x1 - inset, middle + 10), fill=PAPER)
    draw_text(draw, ((x0 + x1) / 2, middle), "unreadable", size=13, colour=MUTED, anchor="mm")


def _draw_letters(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], letters: Letters) -> None:
    x, y, width, height = box
    places = (
        (letters.left, (x + 5, y + height / 2), "lm"),
        (letters.right, (x + width - 5, y + height / 2), "rm"),
        (letters.top, (x + width / 2, y + 5), "mt"),
        (letters.bottom, (x + width / 2, y + height - 5), "mb"),
    )
    for letter, at, anchor in places:
        for shift in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            moved = (at[0] + shift[0], at[1] + shift[1])
            draw_text(draw, moved, letter, size=13, colour=(0, 0, 0), anchor=anchor)
        draw_text(draw, at, letter, size=13, colour=(240, 228, 66), anchor=anchor)
