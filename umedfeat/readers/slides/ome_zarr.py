"""OME-Zarr stores (NGFF 0.1 to 0.5, and what bioformats2raw writes): pictures, axes, levels and scales; no pixels.

A store is a folder. What stands for it as a file is the one in it that says what it is (``STORE_MARKERS``).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from umedfeat.disk.regular import open_regular
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers import STORE_MARKERS
from umedfeat.readers.slides.ome import OmeImage, ome_images
from umedfeat.readers.slides.tiff_layout import Layout, Level, Picture, sorted_out

__all__ = ["STORE_FAULTS", "ArrayPlace", "NoPicture", "damaged_store", "files_of_store", "is_store", "store_layout"]

#: What malformed attributes raise.
STORE_FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError)
_LARGEST_TEXT = 64 << 20
_OLD_AXES = "tczyx"  # of NGFF 0.1 and 0.2, which name none
_COLOURS = {"FF0000": "red", "00FF00": "green", "0000FF": "blue"}
#: Micrometres of a unit of space; NGFF writes them out.
_UNITS = {"micrometer": 1.0, "micron": 1.0, "µm": 1.0, "um": 1.0, "nanometer": 1e-3, "millimeter": 1e3}
_UNITS |= {"centimeter": 1e4, "meter": 1e6, "picometer": 1e-6, "angstrom": 1e-4, "inch": 25_400.0}


class NoPicture(UnsupportedInput):
    """A store of tables or other arrays."""


class ArrayPlace(NamedTuple):
    """The array of one level: its path in the store, its axes ("tczyx"), its corner in level-0 pixels (x, y)."""

    path: str
    axes: str
    corner: tuple[float, float]
    factor: float | None


def is_store(path: Path) -> bool:
    """Is this the file that stands for a Zarr store?"""
    return path.name in STORE_MARKERS


def files_of_store(marker: Path) -> tuple[Path, ...]:
    """Every file of a store, the marker first, the others sorted."""
    others = sorted(path for path in marker.parent.rglob("*") if path.is_file() and path != marker)
    return (marker, *others)


def damaged_store(name: str, error: Exception) -> UnreadableInput:
    """What to say of a store whose attributes are malformed."""
    message = f"{name}: the Zarr store is damaged ({type(error).__name__})"
    return UnreadableInput(message, remedy="copy the whole store again from its origin")


def store_layout(folder: Path, name: str) -> Layout:
    """What a store holds, without reading pixels.

    Raises:
        NoPicture: it holds none.
        UnsupportedInput: it holds the wells of a plate.
        OSError, ValueError …: ``STORE_FAULTS``, its attributes are malformed.
    """
    attributes = _attributes(folder)
    if "plate" in attributes or "well" in attributes:
        remedy = "give the fields of its wells (row/column/field) as inputs of their own"
        raise UnsupportedInput(f"{name}: an OME-Zarr plate of many wells, not a slide", remedy=remedy)
    single = "multiscales" in attributes
    pictures = [_picture(folder, "", "", None)] if single else list(_series(folder))
    if not pictures:
        message = f"{name}: a Zarr store without a picture (no multiscales in its attributes)"
        raise NoPicture(message, remedy="give an OME-Zarr image, as bioformats2raw writes it")
    return sorted_out(pictures, sum(len(picture.levels) for picture in pictures), Counter(), ())


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a group; {} where it has none."""
    for marker in ("zarr.json", ".zattrs"):
        path = folder / marker
        if path.is_file():
            with open_regular(path) as stream:
                told = json.loads(stream.read(_LARGEST_TEXT))
            told = told.get("attributes", {}) if marker == "zarr.json" else told
            return dict(told.get("ome", told))
    return {}


def _series(folder: Path) -> Iterator[Picture]:
    """The pictures of a store of several, each a group: as its list says, else 0, 1, 2 …"""
    listed = _attributes(folder / "OME").get("series", []) if (folder / "OME").is_dir() else []
    listed = listed or [str(k) for k in range(1000) if (folder / str(k)).is_dir()]
    told = _described(folder)
    for number, group in enumerate(listed):
        place = (folder / str(group)).resolve()
        if folder.resolve() in place.parents and "multiscales" in _attributes(place):
            own = told[number] if number < len(told) else None
            yield _picture(folder, str(group), own.name if own else "", own)


def _described(folder: Path) -> list[OmeImage]:
    path = folder / "OME" / "METADATA.ome.xml"
    if not path.is_file():
        return []
    with open_regular(path) as stream:
        return ome_images(stream.read(_LARGEST_TEXT).decode("utf-8", errors="replace"))


def _picture(folder: Path, group: str, name: str, told: OmeImage | None) -> Picture:
    attributes = _attributes(folder / group)
    scales = attributes["multiscales"][0]
    axes, units = _axes(scales)
    arrays = [f"{group}/{one['path']}".lstrip("/") for one in scales["datasets"]]
    shapes = [_shape(folder / path) for path in arrays]
    steps = [_transformed(scales, one, len(axes)) for one in scales["datasets"]]
    x, y = axes.index("x"), axes.index("y")
    levels = [
        Level((shape[x], shape[y]), (ArrayPlace(path, axes, _corner(steps[0], step, (x, y)), _factor(steps, step, x)),))
        for path, shape, step in zip(arrays, shapes, steps, strict=True)
    ]
    outer = tuple((axis.upper(), n) for axis, n in zip(axes, shapes[0], strict=True) if axis not in "xy")
    return Picture(
        name or str(scales.get("name", "") or ""),
        tuple(levels),
        outer,
        _channels(attributes, dict(outer).get("C", 1)) or (told.channels if told else ()),
        _scale(steps[0], units, (x, y)) or (told.scale if told else {}),
        bool(told and told.fluorescent),
    )


def _axes(scales: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Letters of the axes and their units ("" without)."""
    listed = scales.get("axes") or list(_OLD_AXES)
    names = [str(one["name"] if isinstance(one, dict) else one).lower() for one in listed]
    units = [str(one.get("unit", "") if isinstance(one, dict) else "") for one in listed]
    axes = "".join(name[0] for name in names)
    if len(set(axes)) != len(names) or not set(axes) <= set(_OLD_AXES):
        raise ValueError("axes of another kind")
    return axes, units


def _shape(array: Path) -> list[int]:
    marker = "zarr.json" if (array / "zarr.json").is_file() else ".zarray"
    with open_regular(array / marker) as stream:
        return [int(n) for n in json.loads(stream.read(_LARGEST_TEXT))["shape"]]


class _Step(NamedTuple):
    """Size of a pixel along every axis and the place of the middle of the first one; None where nothing is said."""

    scale: Sequence[float] | None
    shift: Sequence[float] | None


def _transformed(scales: Mapping[str, Any], dataset: Mapping[str, Any], axes: int) -> _Step:
    """The transformations of a level, then those of all levels."""
    scale: list[float] | None = None
    shift: list[float] | None = None
    for one in [*dataset.get("coordinateTransformations", []), *scales.get("coordinateTransformations", [])]:
        if one.get("type") == "scale":
            by = [float(value) for value in one["scale"]]
            scale = [a * b for a, b in zip(scale or [1.0] * axes, by, strict=True)]
            shift = [a * b for a, b in zip(shift, by, strict=True)] if shift else None
        elif one.get("type") == "translation":
            shift = [a + float(b) for a, b in zip(shift or [0.0] * axes, one["translation"], strict=True)]
    return _Step(scale, shift)


def _factor(steps: Sequence[_Step], step: _Step, axis: int) -> float | None:
    if steps[0].scale is None or step.scale is None or not steps[0].scale[axis] > 0:
        return None
    factor = step.scale[axis] / steps[0].scale[axis]
    return factor if math.isfinite(factor) and abs(factor - 1) > 0.01 else None


def _corner(first: _Step, step: _Step, axes: tuple[int, int]) -> tuple[float, float]:
    """Level-0 (x, y) of the outer corner of a level. Translations tell middles of pixels; without, corners agree."""
    if first.scale is None or step.scale is None or step.shift is None:
        return 0.0, 0.0
    if step.shift == (first.shift or [0.0] * len(step.shift)):
        return 0.0, 0.0  # written without a thought of middles
    begin = first.shift or [0.0] * len(step.shift)
    x, y = ((step.shift[k] - step.scale[k] / 2 - begin[k] + first.scale[k] / 2) / first.scale[k] for k in axes)
    return x, y


def _scale(step: _Step, units: Sequence[str], axes: tuple[int, int]) -> dict[str, str]:
    """ "ome.PhysicalSizeX" … in micrometres; nothing where a unit is missing: numbers alone are no scale."""
    if step.scale is None or any(units[k].lower() not in _UNITS for k in axes):
        return {}
    x, y = (step.scale[k] * _UNITS[units[k].lower()] for k in axes)
    return {"ome.PhysicalSizeX": f"{x:.12g}", "ome.PhysicalSizeY": f"{y:.12g}"}


def _channels(attributes: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the channels: of pure colours where they are called nothing better."""
    told = list(attributes.get("omero", {}).get("channels", []))
    if len(told) != count:
        return ()
    labels = [str(one.get("label", "") or "") for one in told]
    colours = [_COLOURS.get(str(one.get("color", "")).upper().removeprefix("#"), "") for one in told]
    unnamed = [label in ("", str(k), f"Channel {k}", f"C:{k}", f"Channel:0:{k}") for k, label in enumerate(labels)]
    return tuple(colour if blank else label for label, colour, blank in zip(labels, colours, unnamed, strict=True))
