"""Where in an item the evidence lies: heatmaps of slides, a curve over the slices of a volume.

Of a single image nothing is invented: it is shown as the encoder saw it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from umedfeat.arrays import RGB, Floats, Ints
from umedfeat.contract import Source
from umedfeat.discovery import discover
from umedfeat.errors import InputError, SetupError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.prediction.apply import Predicted, region_attention, region_scores
from umedfeat.readers import open_reader
from umedfeat.report.figures.axes import Axes, linear_ticks
from umedfeat.report.heatmap import ScoredTiles, paint, write_geojson, write_ome_tiff
from umedfeat.report.preview.cards import slug
from umedfeat.report.region_pictures import Place, pictures_of
from umedfeat.store import FeatureFile

__all__ = ["MOST_CARDS", "NO_EVIDENCE", "Evidence", "Images", "draw_all", "slice_curve"]

log = logging.getLogger("umedfeat")

#: Items on the page; the table has them all.
MOST_CARDS = 400
_SIDE = 1600
_TOP_SLICES = 4
#: Single images that are read again for the page, the least certain first.
_MOST_SEEN = 100


class SlicePicture(NamedTuple):
    """A slice of a volume: its number, its score as text, its picture beside the page ("" for none)."""

    number: int
    score: str
    picture: str


class Evidence(NamedTuple):
    """Of one item: caption of a heatmap → its place beside the page; curves over slices; the highest slices; a single
    image as the encoder saw it ("" for none)."""

    heatmaps: Mapping[str, str]
    curves: tuple[Markup, ...] = ()
    slices: tuple[SlicePicture, ...] = ()
    seen: str = ""


NO_EVIDENCE = Evidence({})


@dataclass(frozen=True)
class Images:
    """The images that features were made of, by item id, and how they were read; nothing without images."""

    sources: Mapping[str, Source]
    policy: Policy | None = None

    @classmethod
    def of(cls, images: Path | None, found: Predicted, pseudonyms: Pseudonyms) -> Images:
        """What lies under ``images``, or nothing for None."""
        if images is None:
            return cls({})
        try:
            policy = Policy.from_json(json.dumps(dict(found.probe.header.policy)))
        except SetupError as error:
            log.warning("no images behind the scores: this version reads them otherwise (%s)", error.message)
            return cls({})
        return cls({source.id: source for source in discover([images], policy, pseudonyms).sources}, policy)

    def thumbnail(self, name: str) -> tuple[RGB, float] | None:
        """A slide as (h, w, 3) uint8 with its downsample, or None where it is not there or cannot be read."""
        source = self.sources.get(name)
        if source is None or self.policy is None:
            return None
        with contextlib.suppress(InputError), contextlib.closing(open_reader(source, self.policy)) as reader:
            draw = getattr(reader, "thumbnail", None)
            if draw is not None:
                pixels, downsample = draw(_SIDE)
                return pixels, float(downsample)
        return None

    def pictures(self, name: str, numbers: Sequence[int], folder: Path) -> dict[int, str]:
        """Slices of a volume, or slice 0 of a single image, as the encoder saw them: number → place beside the page, in
        ``folder/pictures``; those that cannot be read again are left out."""
        source = self.sources.get(name)
        if source is None or self.policy is None:
            return {}
        places = [Place(name, 0, 0, number) for number in numbers]
        found = {}
        for place, content in pictures_of(source, places, self.policy).items():
            path = folder / "pictures" / f"{slug(name)}-{place.slice}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            found[place.slice] = f"pictures/{path.name}"
        return found


def draw_all(
    found: Predicted, class_name: str, folder: Path, images: Path | None, pseudonyms: Pseudonyms
) -> dict[int, Evidence]:
    """Evidence of every item on the page: item of the table → pictures.

    Args:
        class_name: class that is shown; "" shows the predicted one of each item.
        folder: of the page. images: what the features were made of, for slides behind the heatmaps, or None.
    """
    if found.probe.unit == "patient" or found.probe.pool == "mean+std" or found.probe.header.of_tiles is not None:
        return {}
    behind = Images.of(images, found, pseudonyms)
    fixed = found.probe.classes.index(class_name) if class_name else -1
    counts, shown = found.table.count, found.order[:MOST_CARDS].tolist()
    single = [item for item in shown if counts[item] == 1][:_MOST_SEEN]
    shown = [item for item in shown if counts[item] > 1] + single
    with FeatureFile(found.table.path) as file:
        span = _span(found, file, shown)
        return {
            item: _drawn(found, file, item, fixed if fixed >= 0 else int(found.best[item]), folder, behind, span)
            for item in shown
        }


def _span(found: Predicted, file: FeatureFile, shown: Sequence[int]) -> tuple[float, float]:
    """What the ends of the colours stand for: 0 and 1, or of values the least and the largest of all tiles."""
    tiled = np.asarray(file.items["tile_extent"])[found.table.number] > 0
    slides = [item for item in shown if tiled[item]]
    if found.probe.classes or not slides:
        return 0.0, 1.0
    scores = [region_scores(found.probe, file, str(found.table.ids[item]), 0) for item in slides]
    return min(float(each.min()) for each in scores), max(float(each.max()) for each in scores)


def _drawn(
    found: Predicted,
    file: FeatureFile,
    item: int,
    column: int,
    folder: Path,
    behind: Images,
    span: tuple[float, float],
) -> Evidence:
    """Scores of one item's regions for one class: pictures and files for slides, a curve for volumes.

    Args:
        item: of the table. column: of the class.
        folder: of the page; heatmaps go to ``folder/heatmaps``: PNG, GeoJSON and OME-TIFF.
        behind: the images; a slide that is not among them gets its heatmap on white.
        span: scores at the ends of the colours; attention goes from 0 to 1.
    """
    name, number = str(found.table.ids[item]), int(found.table.number[item])
    facts = {key: values[number] for key, values in file.items.items()}
    scores = {_score_name(found, column): region_scores(found.probe, file, name, column)}
    attention = region_attention(found.probe, file, name)
    if attention is not None:
        scores["attention"] = attention
    if float(facts["tile_extent"]) > 0:
        corners = file.coords(name)
        tiles = [
            _tiles(corners, each, facts, what, (0.0, 1.0) if what == "attention" else span)
            for what, each in scores.items()
        ]
        return Evidence({_caption(each.name): _heatmap(each, name, folder, behind) for each in tiles})
    slices = np.asarray(file.tiles("slice", name), dtype=np.intp)
    if len(slices) < 2:
        return Evidence({}, seen=next(iter(behind.pictures(name, slices.tolist(), folder).values()), ""))
    curves = tuple(slice_curve(slices, each, what) for what, each in scores.items())
    first = next(iter(scores.values()))
    top = np.argsort(-first, kind="stable")[:_TOP_SLICES]
    pictures = behind.pictures(name, slices[top].tolist(), folder)
    shown = [SlicePicture(int(slices[k]), f"{first[k]:.3f}", pictures.get(int(slices[k]), "")) for k in top]
    return Evidence({}, curves, tuple(shown))


def _caption(what: str) -> str:
    return f"{what} of each tile" + ", relative to the tile that counts most" * (what == "attention")


def _score_name(found: Predicted, column: int) -> str:
    return f"P({found.probe.classes[column]})" if found.probe.classes else "value"


def _tiles(corners: Any, scores: Floats, facts: Mapping[str, Any], name: str, span: tuple[float, float]) -> ScoredTiles:
    across, down = float(facts["mpp_x"]), float(facts["mpp_y"])
    known = across > 0 and down > 0
    return ScoredTiles(
        corners,
        scores,
        float(facts["tile_extent"]),
        (int(facts["width"]), int(facts["height"])),
        across if known else None,
        name,
        span,
        aspect=down / across if known else 1.0,
    )


def _heatmap(tiles: ScoredTiles, name: str, folder: Path, behind: Images) -> str:
    suffix = "-attention" if tiles.name == "attention" else ""
    place = folder / "heatmaps" / f"{slug(name)}{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    thumbnail, downsample = behind.thumbnail(name) or _paper(tiles)
    paint(tiles, thumbnail, downsample).save(place.with_name(f"{place.name}.png"))
    write_geojson(tiles, place.with_name(f"{place.name}.geojson"))
    write_ome_tiff(tiles, place.with_name(f"{place.name}.ome.tif"))
    return f"heatmaps/{place.name}.png"


def _paper(tiles: ScoredTiles) -> tuple[RGB, float]:
    downsample = max(1.0, max(tiles.size) / _SIDE)
    shape = (max(1, round(tiles.size[1] / downsample)), max(1, round(tiles.size[0] / downsample)), 3)
    return np.full(shape, 255, np.uint8), downsample


def slice_curve(slices: Ints, scores: Floats, name: str) -> Markup:
    """The score over the slices of a volume."""
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    axes = Axes(
        x=(float(slices.min()), float(max(slices.max(), slices.min() + 1))),
        y=(low, high),
        x_ticks=linear_ticks(float(slices.min()), float(max(slices.max(), slices.min() + 1))),
        y_ticks=linear_ticks(low, high),
        x_label="slice",
        y_label=name,
        title=f"{name} over the slices",
        height=220,
    )
    order = np.argsort(slices, kind="stable")
    axes.line([(float(slices[k]), float(scores[k])) for k in order], "s0")
    for k in order:
        axes.dot(float(slices[k]), float(scores[k]), "s0", radius=2, tip=f"slice {slices[k]}: {scores[k]:.3f}")
    return axes.svg()
