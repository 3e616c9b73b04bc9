"""COCO JSON: images with boxes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError

__all__ = ["CocoFile", "CocoImage", "read_coco"]

_TOLERANCE = 1.0  # pixels that a box may stick out by rounding


class CocoImage(NamedTuple):
    """One image: ``corners`` (n, 4) left, top, right, bottom; ``kinds`` (n,); ``row`` its further keys as text."""

    path: Path
    name: str
    row: Mapping[str, str]
    size: tuple[int, int]
    corners: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]


class CocoFile(NamedTuple):
    """All of a file."""

    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]


def read_coco(path: Path, task: str, wanted: Sequence[str] = ()) -> CocoFile:
    """Read and check a COCO file; crowds are left out.

    Args:
        task: for messages.
        wanted: classes in the order of the head; () takes the file's, by id.

    Raises:
        SetupError: no COCO, a box outside its image, an unknown image or class.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        images = {int(image["id"]): image for image in content["images"]}
        rows: dict[int, list[tuple[str, list[float]]]] = {number: [] for number in images}
        for note in content["annotations"]:
            if not note.get("iscrowd", 0):
                box = _checked(note, images, names, f"task {task}: {path.name}")
                rows[int(note["image_id"])].append((names[int(note["category_id"])], box))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"[:120]
        message = f"task {task}: {path.name} is no COCO file ({fault})"
        raise SetupError(message, remedy="images, categories and annotations are needed") from error
    classes = tuple(wanted) or tuple(names[number] for number in sorted(names))
    unknown = sorted(set(classes) - set(names.values()))
    if unknown or not classes:
        raise SetupError(
            f"task {task}: {path.name} has no class {unknown}", remedy=f"it has {', '.join(names.values())}"
        )
    return CocoFile(classes, tuple(_image(path, images[n], rows[n], classes, task) for n in sorted(images)))


def _checked(note: Mapping[str, Any], images: Mapping[int, Any], names: Mapping[int, str], where: str) -> list[float]:
    number = note.get("id")
    if int(note["image_id"]) not in images or int(note["category_id"]) not in names:
        raise SetupError(f"{where}: annotation {number} is of an unknown image or class", remedy="correct the file")
    image = images[int(note["image_id"])]
    x, y, width, height = (float(value) for value in note["bbox"])
    right, bottom = x + width, y + height
    inside = x >= -_TOLERANCE and y >= -_TOLERANCE
    inside = inside and right <= image["width"] + _TOLERANCE and bottom <= image["height"] + _TOLERANCE
    if not (inside and width > 0 and height > 0):
        size = f"{image['width']}x{image['height']}"
        message = f"{where}: annotation {number}: box {note['bbox']} is not inside {image['file_name']} ({size})"
        raise SetupError(message, remedy="x, y, width, height in pixels of the image")
    return [x, y, right, bottom]


def _image(
    path: Path, image: Mapping[str, Any], rows: Sequence[tuple[str, list[float]]], classes: Sequence[str], task: str
) -> CocoImage:
    place = path.parent / str(image["file_name"])
    if not place.is_file():
        message = f"task {task}: {path.name}: image {image['file_name']}: no such file"
        raise SetupError(message, remedy="file names are relative to the COCO file")
    kept = [(classes.index(kind), box) for kind, box in rows if kind in classes]
    return CocoImage(
        place,
        str(image["file_name"]),
        {key: str(value) for key, value in image.items()},
        (int(image["width"]), int(image["height"])),
        np.asarray([box for _, box in kept], np.float32).reshape(-1, 4),
        np.asarray([kind for kind, _ in kept], np.int64),
    )
