"""Random layouts of TIFF and OME-TIFF slides, written with tifffile, whose pixel values tell their place.

Red rises from left to right, green from top to bottom, blue tells the plane: a tile from elsewhere, of another scale or
of another plane has other means.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile
from slide_factory import halved

from umedfeat.contract import RegionUnreadable
from umedfeat.discovery import discover
from umedfeat.errors import InputError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader

Array = npt.NDArray[Any]

MPP, TILE = 0.5, 64
#: Grey values: rounding and one or two pixels of the ramps.
TOLERANCE = 0.6

#: With little effort to be small: reading is what is tried.
_ENCODED: dict[str | None, dict[str, Any]] = {
    "jpeg": {"level": 98},
    "webp": {"lossless": True, "level": 0, "method": 0},
    "jpegxl": {"effort": 1},
}


class Layout(NamedTuple):
    """What is written."""

    ome: bool
    axis: str
    planes: int
    series: int
    label: bool
    levels: int
    in_pages: bool
    padded: bool
    photometric: str
    compression: str | None
    tiled: bool
    planar: str
    bits: int
    size: tuple[int, int]
    big_endian: bool


def drawn(generator: random.Random) -> Layout:
    """A layout; some of them cannot be read, and must be refused."""
    pick = generator.choice
    ome = generator.random() < 0.6
    photometric = pick(["rgb"] * 5 + ["minisblack"] * 2 + ["miniswhite", "palette", "separated", "cielab"])
    planes = pick([1, 1, 1, 3, 2]) if photometric in ("rgb", "minisblack", "miniswhite") else 1
    codecs: list[str | None] = [None, "deflate", "lzw"]
    if photometric == "rgb":
        codecs += ["jpeg", "jpeg", "jpeg2000", "webp", "jpegxl", "lerc"]
    axis = pick(["C", "Z", "T"]) if photometric == "minisblack" else pick(["Z", "T"])
    return Layout(
        ome=ome,
        axis=axis if planes > 1 else "",
        planes=planes,
        series=pick([1, 1, 1, 2]) if ome else 1,
        label=generator.random() < 0.3,
        levels=pick([1, 2, 3]),
        in_pages=not ome and generator.random() < 0.6,
        padded=generator.random() < 0.4,
        photometric=photometric,
        compression=pick(codecs),
        tiled=generator.random() < 0.8,
        planar=pick(["contig", "contig", "separate"]) if photometric == "rgb" else "contig",
        bits=16 if generator.random() < 0.06 else 8,
        size=(generator.randrange(300, 900), generator.randrange(300, 900)),
        big_endian=generator.random() < 0.2,
    )


def ruler(size: tuple[int, int], plane: int) -> Array:
    """(height, width, 3) uint8."""
    width, height = size
    image = np.empty((height, width, 3))
    image[..., 0] = 20 + 210 * (np.arange(width) + 0.5) / width
    image[..., 1] = (20 + 210 * (np.arange(height) + 0.5) / height)[:, None]
    image[..., 2] = 60 + 50 * plane
    return np.rint(image).astype(np.uint8)


def _padded(image: Array, unit: int = 128) -> Array:
    height, width = image.shape[:2]
    extra = [(0, -height % unit), (0, -width % unit), *[(0, 0)] * (image.ndim - 2)]
    return np.pad(image, extra, mode="edge")


def _pyramid(image: Array, layout: Layout) -> list[Array]:
    levels = [image]
    for _ in range(layout.levels - 1):
        half = halved(levels[-1])
        levels.append(_padded(half) if layout.padded else half)
    return levels


def _stored(image: Array, layout: Layout) -> Array:
    """The ruler in the layout's colours."""
    if layout.photometric in ("minisblack", "miniswhite", "palette"):
        grey = image[..., 0] // 2 + image[..., 2] // 2
        return 255 - grey if layout.photometric == "miniswhite" else grey
    if layout.photometric == "separated":
        return np.dstack([255 - image, np.zeros_like(image[..., :1])])
    return image


def displayed(image: Array, layout: Layout) -> Array | None:
    """What must be seen of the ruler; None where only a colour library can say."""
    if layout.photometric in ("minisblack", "miniswhite", "palette"):
        grey = image[..., 0] // 2 + image[..., 2] // 2
        return np.repeat((255 - grey if layout.photometric == "palette" else grey)[..., None], 3, axis=2)
    return None if layout.photometric == "cielab" else image


def _options(layout: Layout) -> dict[str, Any]:
    options: dict[str, Any] = {"photometric": layout.photometric, "compression": layout.compression}
    if layout.tiled:
        options["tile"] = (128, 128)
    else:
        options["rowsperstrip"] = 64
    if layout.compression in _ENCODED:
        options["compressionargs"] = _ENCODED[layout.compression]
    if layout.photometric == "rgb" and layout.planar == "separate":
        options["planarconfig"] = "separate"
    if layout.photometric == "palette":
        options["colormap"] = np.repeat((255 - np.arange(256, dtype=np.uint16))[None] * 257, 3, axis=0)
    return options


def write(path: Path, layout: Layout) -> Path:
    """Write it; its pictures are ``ruler(size, plane + series)``."""
    endian = ">" if layout.big_endian else "<"
    with tifffile.TiffWriter(path, ome=layout.ome, byteorder=endian) as writer:
        if layout.label:
            _write_label(writer, layout)
        for series in range(layout.series):
            planes = [_stored(ruler(layout.size, plane + series), layout) for plane in range(layout.planes)]
            pyramids = [_pyramid(plane, layout) for plane in planes]
            levels = [np.stack(images) if layout.planes > 1 else images[0] for images in zip(*pyramids, strict=True)]
            if layout.bits == 16:
                levels = [level.astype(np.uint16) * 257 for level in levels]
            _write_levels(writer, levels, layout)
    return path


def _write_label(writer: tifffile.TiffWriter, layout: Layout) -> None:
    label = np.full((200, 260, 3), 99, np.uint8)
    if layout.ome:
        writer.write(label, photometric="rgb", metadata={"axes": "YXS", "Name": "Label"})
    else:
        writer.write(label, photometric="rgb", description="label 260x200", metadata=None)


def _write_levels(writer: tifffile.TiffWriter, levels: list[Array], layout: Layout) -> None:
    options = _options(layout)
    if layout.planar == "separate" and layout.photometric == "rgb":
        levels = [np.moveaxis(level, -1, -3) for level in levels]
    if layout.ome:
        colours = layout.photometric in ("rgb", "separated", "cielab")
        inner = ("SYX" if layout.planar == "separate" else "YXS") if colours else "YX"
        scale = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
        options["metadata"] = {"axes": layout.axis + inner, **scale}
    else:
        options |= {"metadata": None, "resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    below = 0 if layout.in_pages else len(levels) - 1
    writer.write(levels[0], subifds=below, **options)
    options.pop("metadata")
    options |= {} if layout.ome else {"metadata": None}
    for level in levels[1:]:
        writer.write(level, subfiletype=1, **options)


class Outcome(NamedTuple):
    """ "read", "refused: …" or "WRONG …", and what was read for how many tiles."""

    kind: str
    tiles: int = 0


def outcome(path: Path, layout: Layout, generator: random.Random) -> Outcome:
    """Read it as the command does, at a random scale, and compare every tile with what was written."""
    chosen, plane = "", 0
    joined = layout.axis == "C" and layout.planes == 3
    slide: dict[str, Any] = {}
    if layout.planes > 1 and not joined and generator.random() < 0.8:
        plane = generator.randrange(layout.planes)
        chosen = "channel" if layout.axis == "C" else "focus"
        slide[chosen] = str(plane + 1)
    mpp = generator.choice([0.5, 0.5, 0.9, 1.0, 1.3, 2.0])
    policy = Policy(slide=SlidePolicy(mpp=mpp, tile_size=TILE, tissue="none", **slide))
    found = discover([path], policy, Pseudonyms(b"k" * 16))
    if found.failures:
        return Outcome(f"refused: {found.failures[0].message.partition(': ')[2]}")
    tiles = 0
    for number, source in enumerate(found.sources):
        if source.format != "slide":
            stack = not layout.tiled and not layout.ome and layout.levels == 1 and not layout.label
            return Outcome("flat" if stack else f"WRONG: {source.format}")
        expected = _expected(layout, number, plane, joined=joined)
        try:
            tiles += _compared(source, policy, expected, lossy=layout.compression in ("jpeg", "jpegxl"))
        except InputError as error:
            return Outcome(f"refused: {error.message.partition(': ')[2]}")
        except AssertionError as error:
            return Outcome(f"WRONG: {error}")
    if len(found.sources) != layout.series:  # a picture nobody told of
        return Outcome(f"WRONG: {len(found.sources)} inputs of {layout.series}")
    return Outcome("read", tiles)


def _expected(layout: Layout, series: int, plane: int, *, joined: bool) -> Array | None:
    if joined:
        greys = [displayed(ruler(layout.size, k + series), layout) for k in range(3)]
        return np.dstack([grey[..., 0] for grey in greys if grey is not None])
    return displayed(ruler(layout.size, plane + series), layout)


def _compared(source: Any, policy: Policy, expected: Array | None, *, lossy: bool) -> int:
    reader = open_reader(source, policy)
    try:
        plan = reader.plan()
        tiles = reader.read(plan.regions)
    finally:
        reader.close()
    half = plan.tile_extent / 2
    inner = slice(TILE // 4, TILE - TILE // 4)  # at the border of a slide white shines in
    for region, tile in zip(plan.regions, tiles, strict=True):
        assert not isinstance(tile, RegionUnreadable), f"unreadable: {tile}"
        if expected is None:
            continue
        x, y = int(region["x"]), int(region["y"])
        difference = np.abs(tile[inner, inner].reshape(-1, 3).mean(axis=0) - _value_at(expected, x + half, y + half))
        assert difference.max() <= TOLERANCE + (0.5 if lossy else 0.0), f"tile {x}, {y}: {difference.round(2)}"
    return len(tiles)


def _value_at(image: Array, x: float, y: float) -> Array:
    """Bilinear, at fractional places; the middle of pixel 0 lies at 0.5."""
    left, top = int(x - 0.5), int(y - 0.5)
    u, v = x - 0.5 - left, y - 0.5 - top
    weights = np.array([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    corners = image[top : top + 2, left : left + 2].reshape(-1, 3)
    return np.asarray(weights[: len(corners)] @ corners / weights[: len(corners)].sum())


def tried(folder: Path, seed: int, count: int) -> Counter[str]:
    """Write and read that many layouts; kinds of outcomes, each fault with its layout and seed."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        generator = random.Random(seed * 1_000_003 + number)
        layout = drawn(generator)
        path = folder / "s.ome.tif" if layout.ome else folder / "s.tif"
        try:
            write(path, layout)
        except (ValueError, RuntimeError, TypeError) as error:  # tifffile does not write every combination
            outcomes[f"not written: {type(error).__name__} {str(error)[:60]}"] += 1
            continue
        told = outcome(path, layout, generator).kind
        outcomes[f"{told} ({layout}, number {number} of seed {seed})" if told.startswith("WRONG") else told] += 1
        path.unlink()
    return outcomes
