"""Areas drawn on slides, as QuPath exports them: GeoJSON in pixels of level 0.

A FeatureCollection, a list of features or one feature; Polygon and MultiPolygon (with holes). Points and lines are no
areas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.errors import UnreadableInput
from umedfeat.readers.slides.polygons import Polygon

__all__ = ["SUFFIXES", "Drawn", "read_areas"]

SUFFIXES = (".geojson", ".json")


class Drawn(NamedTuple):
    """One polygon in level-0 pixels; ``label``: its class, "" for none; ``kind``: QuPath's object type, or ""."""

    polygon: Polygon
    label: str
    kind: str


def read_areas(path: Path) -> list[Drawn]:
    """Every polygon of a file, in its order.

    Raises:
        UnreadableInput: not the GeoJSON of annotations.
    """
    try:
        return list(_areas_of(json.loads(path.read_bytes())))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UnreadableInput(
            f"{path.name}: not the GeoJSON of annotations ({type(error).__name__})",
            remedy="export it from QuPath as GeoJSON (FeatureCollection)",
        ) from error


def _areas_of(document: Any) -> Iterator[Drawn]:
    for feature in _features(document):
        properties = feature.get("properties") or {}
        for polygon in _polygons(feature.get("geometry") or {}):
            yield Drawn(polygon, _class_of(properties), str(properties.get("objectType") or ""))


def _features(document: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(document, list):
        return document
    if document["type"] == "FeatureCollection":
        return document["features"]  # type: ignore[no-any-return]
    return [document if document["type"] == "Feature" else {"geometry": document}]


def _class_of(properties: Mapping[str, Any]) -> str:
    """QuPath's classification: an object with a name (or names, for derived classes), or plain text."""
    classification = properties.get("classification") or ""
    if isinstance(classification, str):
        return classification
    return str(classification.get("name") or " ".join(classification.get("names", [])))


def _polygons(geometry: Mapping[str, Any]) -> Iterator[Polygon]:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif kind in ("Polygon", "MultiPolygon"):
        coordinates = geometry["coordinates"]
        for rings in [coordinates] if kind == "Polygon" else coordinates:
            yield [_ring(points) for points in rings]


def _ring(points: Any) -> npt.NDArray[np.float64]:
    ring = np.asarray([point[:2] for point in points], np.float64)
    if ring.ndim != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring needs three finite points")
    return ring
