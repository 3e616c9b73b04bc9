"""Regions of interest drawn by others: masks and QuPath annotations in, tissue and grid for QuPath out.

``--mask-dir`` holds one file per slide, found by the slide's id, name or stem::

    masks/CMU-1.geojson  or  masks/CMU-1.svs.geojson  or  masks/CMU-1.png  (.json, .tif, .tiff)

GeoJSON is what QuPath exports: a FeatureCollection, a list of features or one feature; Polygon and MultiPolygon (with
holes) in level-0 pixels. The region of interest is the union of all annotations less those whose class begins with
"Ignore" or "Exclude"; where only such classes are drawn it is the rest of the slide. Detections, cells and tiles,
points and lines are no regions. In mask images everything that is neither 0 nor
wholly transparent is of interest; any size, same aspect ratio as the slide.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.arrays import Mask
from umedfeat.contract import Source
from umedfeat.errors import InputError, SetupError, TooLarge, UnreadableInput
from umedfeat.readers.slides.geojson import SUFFIXES, read_areas
from umedfeat.readers.slides.polygons import Polygon, fill_polygons, trace_polygons

__all__ = ["NOT_REGIONS", "external_mask", "find_mask", "grid_geojson", "masks_digest", "refuse_shared_masks"]


GEOJSON = SUFFIXES
IMAGES = (".png", ".tif", ".tiff")
#: QuPath's own convention is a trailing star ("Ignore*").
EXCLUDING = ("ignore", "exclude")
#: QuPath objects that are results, not regions.
NOT_REGIONS = frozenset({"detection", "cell", "tile"})
#: Widths and heights of a mask may differ from the slide's shape by rounding, not by more.
ASPECT_TOLERANCE = 0.02


class Region(NamedTuple):
    """One polygon in level-0 pixels; ``excluded``: it is taken away."""

    polygon: Polygon
    excluded: bool


def external_mask(source: Source, mask_dir: Path | str, width: int, height: int, shape: tuple[int, int]) -> Mask:
    """The region of interest of one slide.

    Args:
        source: the slide.
        mask_dir: folder of masks and annotations (``--mask-dir``).
        width, height: of the slide at level 0, in pixels.
        shape: (H, W) of the wanted mask; it covers the whole slide.

    Returns:
        (H, W) bool.

    Raises:
        InputError: no mask for this slide, two of them, or one that cannot be read or does not fit the slide.
    """
    path = find_mask(source, Path(mask_dir))
    if path.suffix.lower() in GEOJSON:
        return _from_regions(_regions(path, source.name), path.name, source.name, (width, height), shape)
    return _from_image(path, source.name, (width, height), shape)


def find_mask(source: Source, mask_dir: Path) -> Path:
    """The one file of ``mask_dir`` that belongs to a slide.

    Raises:
        InputError: there is none, or more than one.
    """
    found = [mask_dir / name for name in _candidates(source) if (mask_dir / name).is_file()]
    if len(found) == 1:
        return found[0]
    stem = PurePosixPath(source.id).name
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{source.name}: several masks fit ({names})", remedy="keep one mask per slide in --mask-dir")
    raise InputError(
        f"{source.name}: no mask in --mask-dir",
        remedy=f"add {stem}.geojson or {stem}.png there, or leave the slide out of --input",
    )


def refuse_shared_masks(sources: Iterable[Source], mask_dir: Path | str) -> None:
    """A mask belongs to one slide: ``a/S1.svs`` and ``b/S1.svs`` cannot both mean ``S1.geojson``.

    Raises:
        SetupError: two sources would take the same file.
    """
    owners: dict[Path, Source] = {}
    for source in sources:
        for name in _candidates(source):
            path = Path(mask_dir) / name
            if path.is_file() and owners.setdefault(path, source) is not source:
                raise SetupError(
                    f"{name} in --mask-dir fits two slides: {owners[path].name} and {source.name}",
                    remedy=f"lay the masks in folders like the slides ({source.id}{path.suffix})",
                )


def _candidates(source: Source) -> list[str]:
    """File names that may belong to a slide, each once: by id, by relative name, by file name, by stem."""
    name = PurePosixPath(source.name)
    roots = [source.id, source.name, name.name, PurePosixPath(source.id).name, name.stem, str(name.with_suffix(""))]
    safe = [root for root in dict.fromkeys(roots) if root and ".." not in PurePosixPath(root).parts and root[0] != "/"]
    own = {source.name, name.name}  # a slide in the mask folder is not its own mask
    return [root + end for root in safe for end in (*GEOJSON, *IMAGES) if root + end not in own]


def masks_digest(mask_dir: Path | str) -> str:
    """Identity of a folder of masks: sha256 over the relative names and contents of its mask files.

    Raises:
        SetupError: no such folder, or no mask in it.
    """
    root = Path(mask_dir)
    if not root.is_dir():
        raise SetupError(f"{root.name}: no such folder of masks", remedy="--mask-dir takes a folder")
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix.lower() in (*GEOJSON, *IMAGES))
    if not files:
        raise SetupError(
            f"{root.name}: no mask in this folder", remedy=f"masks end in {', '.join((*GEOJSON, *IMAGES))}"
        )
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _from_regions(regions: list[Region], file: str, slide: str, size: tuple[int, int], shape: tuple[int, int]) -> Mask:
    scale = np.array([shape[1] / size[0], shape[0] / size[1]])
    drawn = np.vstack([ring for region in regions for ring in region.polygon])
    if (drawn.max(axis=0) <= 0).any() or (drawn.min(axis=0) >= size).any():
        raise UnreadableInput(
            f"{file}: every annotation lies outside {slide} ({size[0]} × {size[1]} pixels)",
            remedy="export the annotations of this slide, in full-resolution pixels",
        )
    wanted, excluded = (
        [[ring * scale for ring in region.polygon] for region in regions if region.excluded is taken_away]
        for taken_away in (False, True)
    )
    mask = fill_polygons(wanted, shape) if wanted else np.full(shape, True)
    return mask & ~fill_polygons(excluded, shape) if excluded else mask


def _regions(path: Path, slide: str) -> list[Region]:
    drawn = [area for area in read_areas(path) if area.kind not in NOT_REGIONS]
    if not drawn:
        raise UnreadableInput(
            f"{path.name}: no polygon among its annotations, the mask of {slide}",
            remedy="draw at least one area, or leave the slide out of --input",
        )
    return [Region(area.polygon, area.label.lower().startswith(EXCLUDING)) for area in drawn]


def _from_image(path: Path, slide: str, size: tuple[int, int], shape: tuple[int, int]) -> Mask:
    mask = _read_mask(path)
    height, width = mask.shape
    slack = ASPECT_TOLERANCE + 1 / min(width, height)
    if abs(width * size[1] / (height * size[0]) - 1) > slack:
        raise UnreadableInput(
            f"{path.name}: {width} × {height} pixels do not have the shape of {slide} ({size[0]} × {size[1]})",
            remedy="a mask covers the whole slide",
        )
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(share) >= 128


def _read_mask(path: Path) -> Mask:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                pixels = np.asarray(image)
                alpha = "A" in image.getbands()
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{path.name}: too large for a mask", remedy="masks may be smaller than the slide") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableInput(f"{path.name}: not a readable mask image", remedy="save it as PNG or TIFF") from error
    painted = pixels != 0
    if pixels.dtype.kind == "f":
        painted &= ~np.isnan(pixels)
    if pixels.ndim == 2:
        return np.asarray(painted)
    if alpha:  # what is wholly transparent is not painted
        return np.asarray(painted[..., :-1].any(axis=2) & painted[..., -1])
    return np.asarray(painted.any(axis=2))


def grid_geojson(
    corners: npt.ArrayLike,
    extent: float,
    tissue: npt.ArrayLike = (),
    mask: Mask | None = None,
    downsample: float = 1.0,
    aspect: float = 1.0,
) -> dict[str, Any]:
    """What was embedded, for QuPath: the tissue outline as one locked annotation, and every kept tile.

    Args:
        corners: (n, 2) x, y of the tiles' top-left corners in level-0 pixels.
        extent: width of a tile in level-0 pixels.
        tissue: (n,) tissue fractions; stored as a measurement of each tile.
        mask: (H, W) bool tissue mask, or None for no outline.
        downsample: level-0 pixels per pixel of the mask.
        aspect: height of a level-0 pixel by its width; tiles are square in micrometres.

    Returns:
        a GeoJSON FeatureCollection; QuPath reads it with File › Import objects from file, or by drag and drop.
    """
    features: list[dict[str, Any]] = []
    if mask is not None and mask.any():
        outline = [[_closed(ring * downsample) for ring in polygon] for polygon in trace_polygons(mask)]
        features.append(_feature("annotation", "Tissue", {"type": "MultiPolygon", "coordinates": outline}, locked=True))
    shares = np.broadcast_to(np.asarray(tissue, float), len(np.asarray(corners))) if np.size(tissue) else None
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [extent, extent / aspect]
    for k, corner in enumerate(np.asarray(corners, float).reshape(-1, 2)):
        tile = _feature("tile", "Tile", {"type": "Polygon", "coordinates": [_closed(corner + square)]}, locked=False)
        if shares is not None:
            tile["properties"]["measurements"] = {"Tissue fraction": round(float(shares[k]), 4)}
        features.append(tile)
    return {"type": "FeatureCollection", "features": features}


#: Okabe-Ito bluish green and blue.
_COLOURS = {"Tissue": [0, 158, 115], "Tile": [0, 114, 178]}


def _feature(kind: str, name: str, geometry: dict[str, Any], *, locked: bool) -> dict[str, Any]:
    properties = {
        "objectType": kind,
        "classification": {"name": name, "color": _COLOURS[name]},
        "isLocked": locked,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: npt.NDArray[np.float64]) -> list[list[float]]:
    points = np.round(ring, 2).tolist()
    return [*points, points[0]]
