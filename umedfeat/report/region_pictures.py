"""Pictures of stored regions, read again from the images: what the encoder saw, pixel by pixel."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from umedfeat.contract import Reader, RegionUnreadable, Source
from umedfeat.discovery import discover
from umedfeat.errors import InputError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import open_reader
from umedfeat.report.preview.drawing import as_image, to_rgb8

__all__ = ["Place", "pictures_of", "region_pictures"]


class Place(NamedTuple):
    """A stored region: its item, top-left corner in pixels of the source image, and slice."""

    item: str
    x: int
    y: int
    slice: int


def region_pictures(
    images: Path, places: Iterable[Place], policy: Policy, pseudonyms: Pseudonyms
) -> Mapping[Place, bytes]:
    """PNG bytes of the regions that can still be found under ``images``; the others are left out.

    Args:
        images: the input that the features were made of.
        policy: of the feature file, so that the same pixels are read.
        pseudonyms: with the key of the feature file; names of series depend on it.
    """
    sources = {source.id: source for source in discover([images], policy, pseudonyms).sources}
    wanted: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        wanted[place.item].append(place)
    found: dict[Place, bytes] = {}
    for item, inside in wanted.items():
        if item in sources:
            found |= pictures_of(sources[item], inside, policy)
    return found


def pictures_of(source: Source, places: Iterable[Place], policy: Policy) -> dict[Place, bytes]:
    """PNG bytes of some regions of one input; those that cannot be read are left out."""
    with contextlib.suppress(InputError):
        return _read(source, places, policy)
    return {}


def _read(source: Source, places: Iterable[Place], policy: Policy) -> dict[Place, bytes]:
    with contextlib.closing(open_reader(source, policy)) as reader:
        regions = reader.plan().regions
        rows = {Place(source.id, int(r["x"]), int(r["y"]), int(r["slice"])): number for number, r in enumerate(regions)}
        there = sorted((rows[place], place) for place in places if place in rows)
        return {place: picture for row, place in there if (picture := _picture(reader, regions[row : row + 1]))}


def _picture(reader: Reader, region: object) -> bytes:
    pixels = reader.read(region)[0]  # type: ignore[arg-type]
    if isinstance(pixels, RegionUnreadable):
        return b""
    stream = io.BytesIO()
    image: Image.Image = as_image(to_rgb8(pixels))
    image.save(stream, format="PNG")
    return stream.getvalue()
