"""One input becomes one card: what is known about it and pictures of what the encoder gets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.arrays import RGB
from umedfeat.contract import Failure, Plan, Reader, RegionUnreadable, Source
from umedfeat.readers.stacks.volume import VolumeReader
from umedfeat.report.preview.contact import Region, evenly, sheet
from umedfeat.report.preview.drawing import to_rgb8
from umedfeat.report.preview.facts import LETTERS, facts, flags, headline
from umedfeat.report.preview.folder import writing
from umedfeat.report.preview.overlay import draw_overlay, grid_of, rejected_tiles, with_legend
from umedfeat.report.preview.regions import REGION_CAPTION, region_sheet

__all__ = ["Card", "Picture", "draw_card", "failed_card", "picture_name", "slug"]

_SMALL = 320
_THUMBNAIL = 1280
#: Beyond this many tiles on the grid, rejected ones are too small to be told apart in the picture.
_MOST_TILES = 400_000


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page. ``file``: relative to the page; ``caption``: what it shows."""

    file: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """One input on the page.

    Attributes:
        id, name: of the source (relative, never a path of this machine).
        status: "ready", "look" (flagged), "empty" (a slide without tiles) or "failed".
        modality: as planned, "" for failures.
        headline: the line under the picture. ``facts``: (label, value). ``flags``: what deserves a look.
        small: the picture of the overview; ``pictures``: the large ones, the most telling first.
        reason, remedy: of a failure. ``alike``: further inputs that failed for the same reason.
    """

    id: str
    name: str
    status: str
    modality: str = ""
    headline: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    small: Picture | None = None
    pictures: tuple[Picture, ...] = ()
    reason: str = ""
    remedy: str = ""
    regions: int = 0
    alike: tuple[str, ...] = ()


class _Overlay(NamedTuple):
    """The overlay of a slide: at full size with its legend, and small without; whether its mask holds tissue."""

    picture: Image.Image
    overview: Image.Image
    tissue: bool


def slug(source_id: str) -> str:
    """A file name for an id: readable, safe everywhere, unique."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", source_id).strip("._")[-60:]
    return f"{readable}-{hashlib.sha256(source_id.encode()).hexdigest()[:8]}"


def picture_name(source_id: str) -> str:
    """Where the small picture of a source lies in a preview folder."""
    return f"pictures/{slug(source_id)}.small.png"


def failed_card(failure: Failure) -> Card:
    """The card of an input that cannot be embedded."""
    return Card(
        id=failure.source,
        name=failure.source,
        status="failed",
        headline=f"failed while {_DOING.get(failure.stage, failure.stage)}",
        reason=failure.message.removeprefix(f"{failure.source}: "),
        remedy=failure.remedy,
    )


_DOING = {"discover": "looking for inputs", "plan": "planning", "read": "reading", "encode": "encoding"}


def draw_card(source: Source, reader: Reader, plan: Plan, out: Path, regions: int = 12) -> Card:
    """Draw the pictures of one source into ``out`` and describe it.

    Raises:
        InputError: the source cannot be read.
    """
    chosen = plan.regions[evenly(len(plan.regions), regions)]
    shown = list(reader.read(chosen)) if len(chosen) else []
    stem = slug(source.id)
    main = _overlay(reader, plan) if plan.tile_extent else None
    pictures: list[Picture] = []
    if main is not None:
        pictures.append(_save(main.picture, out, f"{stem}.overlay.png", "What goes to the encoder is in full colour."))
    if "region" in plan.detail and isinstance(reader, VolumeReader):
        around = region_sheet(reader, [int(row["slice"]) for row in chosen])
        pictures.append(_save(around, out, f"{stem}.overlay.png", REGION_CAPTION))
    if shown:
        page = _contact(plan, shown, chosen)
        pictures.append(_save(page, out, f"{stem}.regions.png", _caption(plan, len(shown))))
    small = main.overview if main is not None else _overview(shown)
    unreadable = sum(isinstance(region, RegionUnreadable) for region in shown)
    raised = flags(plan, unreadable, tissue=main is not None and main.tissue)
    return Card(
        id=source.id,
        name=source.name,
        status="empty" if not len(plan.regions) else "look" if raised else "ready",
        modality=plan.modality,
        headline=headline(plan),
        facts=tuple(facts(plan)),
        flags=tuple(raised),
        small=_save(small, out, Path(picture_name(source.id)).name, headline(plan)) if small is not None else None,
        pictures=tuple(pictures),
        regions=len(plan.regions),
    )


def _save(image: Image.Image, out: Path, name: str, caption: str) -> Picture:
    folder = out / "pictures"
    with writing(out):
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, compress_level=4)
    return Picture(f"pictures/{name}", caption, image.width, image.height)


def thumbnail_of(reader: Reader, max_side: int = _THUMBNAIL) -> tuple[RGB, float] | None:
    """The reader's own thumbnail and its downsample, if it offers one."""
    thumbnail = getattr(reader, "thumbnail", None)
    return cast("Callable[[int], tuple[RGB, float]]", thumbnail)(max_side) if callable(thumbnail) else None


def mask_of(reader: Reader) -> tuple[npt.NDArray[np.bool_], float] | None:
    """The tissue mask that the plan used and its downsample, if there is one."""
    mask = getattr(reader, "mask", None)
    return cast("Callable[[], tuple[npt.NDArray[np.bool_], float] | None]", mask)() if callable(mask) else None


def _overlay(reader: Reader, plan: Plan) -> _Overlay | None:
    thumbnail = thumbnail_of(reader)
    if thumbnail is None:
        return None
    pixels, downsample = thumbnail
    kept = corners_of(plan)
    mask, mask_downsample = mask_of(reader) or (None, 1.0)
    grid = grid_of(plan)
    rejected = None
    if mask is not None and grid is not None and grid.columns * grid.rows <= _MOST_TILES:
        rejected = rejected_tiles(grid, kept, mask, mask_downsample)
    aspect = plan.pixel_aspect
    picture = draw_overlay(pixels, downsample, kept, plan.tile_extent, aspect=aspect, mask=mask, rejected=rejected)
    factor = min(1.0, _SMALL / max(picture.size))
    small = Image.fromarray(pixels).resize(
        [max(1, round(side * factor)) for side in picture.size], Image.Resampling.BOX
    )
    overview = draw_overlay(np.asarray(small), downsample / factor, kept, plan.tile_extent, aspect=aspect, mask=mask)
    mpp = plan.mpp[0] * downsample if plan.mpp else None
    legend = with_legend(picture, mpp, tissue=mask is not None, rejected=rejected is not None and len(rejected) > 0)
    return _Overlay(legend, overview, tissue=mask is not None and bool(mask.any()))


def corners_of(plan: Plan) -> npt.NDArray[np.float64]:
    """(n, 2) x, y of the planned tiles in level-0 pixels."""
    return np.column_stack([plan.regions["x"], plan.regions["y"]]).astype(np.float64)


def _contact(plan: Plan, shown: list[Region], rows: npt.NDArray[np.void]) -> Image.Image:
    if plan.tile_extent:
        return sheet(shown, [""] * len(shown))
    letters = LETTERS.get(str(plan.detail.get("plane", "")))
    captions = [_slice_caption(plan, row) for row in rows] if plan.depth > 1 else [""] * len(shown)
    return sheet(shown, captions, letters=letters)


def _slice_caption(plan: Plan, row: np.void) -> str:
    place = f"{int(row['slice']) + 1} of {plan.depth}"
    position = float(row["position"])
    return place if np.isnan(position) else f"{place}, {position:.1f} mm"


def _caption(plan: Plan, count: int) -> str:
    eyes = "" if plan.dtype == "uint8" else " (shown in 8 bits; the encoder gets float32)"
    if plan.tile_extent:
        return f"{count} tiles exactly as the encoder gets them, evenly spread over the slide{eyes}"
    if plan.depth > 1:
        return f"{count} slices exactly as the encoder gets them{eyes}"
    return f"The image exactly as the encoder gets it{eyes}"


def _overview(shown: list[Region]) -> Image.Image | None:
    """The small picture where there is no overlay: four regions from the middle of the plan, or the only one."""
    readable = [region for region in shown if not isinstance(region, RegionUnreadable)]
    if not readable:
        return None
    middle = [readable[k] for k in evenly(len(readable), 6)[1:-1]] if len(readable) >= 6 else readable[:1]
    picture = sheet([to_rgb8(region) for region in middle], [""] * len(middle), columns=2)
    picture.thumbnail((_SMALL, _SMALL), Image.Resampling.LANCZOS)
    return picture
