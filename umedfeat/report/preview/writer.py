"""A folder of pictures that fills up source by source; ``close`` writes the page.

``Drawing`` draws one source, in whichever process has it open; ``PreviewWriter`` gathers the cards and writes the page.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from umedfeat.contract import Failure, Plan, Reader, Skipped, Source
from umedfeat.errors import SetupError
from umedfeat.policy import Policy
from umedfeat.readers.slides.annotations import grid_geojson
from umedfeat.report.preview.cards import Card, corners_of, draw_card, failed_card, mask_of, slug
from umedfeat.report.preview.folder import writing
from umedfeat.report.preview.page import render_page

__all__ = ["Drawing", "PreviewWriter"]

_SAFE_ID = re.compile(r"(?!.*\.\.)[^/\\:*?\"<>|\x00-\x1f][^\\:*?\"<>|\x00-\x1f]*")


@dataclass(frozen=True)
class Drawing:
    """Draws sources into a folder; crosses processes.

    Attributes:
        out_dir: of the page; pictures of earlier runs with the same ids are replaced.
        regions: tiles or slices on a contact sheet.
        geojson: write tissue and grid of every slide for QuPath, ``out_dir/geojson/<id>.geojson``.
    """

    out_dir: Path
    regions: int = 12
    geojson: bool = False

    def __call__(self, source: Source, reader: Reader, plan: Plan) -> Card:
        """Draw one source. ``reader``: open, of this source; it stays the caller's.

        Raises:
            InputError: the source cannot be read.
            OutputError: the folder cannot be written, which is no fault of the source.
        """
        card = draw_card(source, reader, plan, self.out_dir, self.regions)
        if self.geojson and plan.tile_extent:
            self._write_geojson(source, reader, plan)
        return card

    def _write_geojson(self, source: Source, reader: Reader, plan: Plan) -> None:
        mask, downsample = mask_of(reader) or (None, 1.0)
        tissue = plan.regions["tissue"]
        grid = grid_geojson(corners_of(plan), plan.tile_extent, tissue, mask, downsample, plan.pixel_aspect)
        name = source.id if _SAFE_ID.fullmatch(source.id) else slug(source.id)
        path = self.out_dir / "geojson" / f"{name}.geojson"
        with writing(self.out_dir):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(grid, separators=(",", ":")), encoding="utf-8")


class PreviewWriter:
    """Collects what happens to every input and writes ``out_dir/index.html``.

    Args:
        out_dir: made if missing.
        policy: what the readers were opened with.

    Raises:
        SetupError: the folder cannot be made.
    """

    def __init__(self, out_dir: Path | str, policy: Policy) -> None:
        self.out_dir = Path(out_dir)
        self.policy = policy
        self.cards: list[Card] = []
        self.skipped: list[Skipped] = []
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.out_dir}: the folder for pictures cannot be made ({error.strerror})"
            raise SetupError(message, remedy="choose another one, or change its permissions") from error

    def add(self, card: Card) -> None:
        """A source that was drawn."""
        self.cards.append(card)

    def fail(self, failure: Failure) -> None:
        """An input that cannot be embedded."""
        self.cards.append(failed_card(failure))

    def skip(self, skipped: Skipped) -> None:
        """A file that is no input."""
        self.skipped.append(skipped)

    def close(self) -> Path:
        """Write the page and return its path.

        Raises:
            OutputError: it cannot be written.
        """
        page = self.out_dir / "index.html"
        with writing(self.out_dir):
            page.write_text(render_page(self.cards, self.skipped, self.policy), encoding="utf-8")
        return page
