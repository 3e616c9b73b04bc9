"""Masks of a segmentation: files of any kind become class numbers on the grid of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import InputError, SetupError
from umedfeat.readers.regions.flat import FlatMask, read_flat
from umedfeat.readers.regions.label_volume import LabelVolume
from umedfeat.readers.regions.masks import Mask, on_image, open_mask, refuse_off_image
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["IGNORED", "read_mask", "read_overview"]

#: Value of pixels that no loss and no score counts: unknown, or beside the image.
IGNORED = 255

_AFFINE_TOLERANCE = 1e-2  # millimetres
_ASPECT = 0.02  # by which the shape of a slide's mask may be off: rounding


def read_mask(path: Path, facts: StackFacts, classes: Sequence[str], task: str) -> npt.NDArray[np.uint8]:
    """(slices, rows, columns) of class numbers 0 … classes - 1 and IGNORED, on the grid of the image.

    Segments and structures that have names are taken by them; those that the task does not know are class 0.

    Raises:
        SetupError: no mask, beside the image, or a number or a name without a class.
    """
    where = f"task {task}: mask {path.name}"
    try:
        mask = open_mask(path, where)
        if not isinstance(mask, FlatMask):
            _refuse_elsewhere(mask, facts, where)
        grid = on_image(mask, facts, where)
    except InputError as error:
        raise SetupError(error.message, remedy=error.remedy) from error
    return _named(grid, mask.names, classes, where) if mask.names else _numbered(grid, len(classes), where)


def read_overview(path: Path, size: tuple[int, int], classes: Sequence[str], task: str) -> npt.NDArray[np.uint8]:
    """(H, W) of class numbers over the whole of a slide of ``size`` (width, height), at any scale.

    Raises:
        SetupError: not a mask of class numbers, or of another shape than the slide.
    """
    where = f"task {task}: mask {path.name}"
    try:
        grid = read_flat(path, where).values
    except InputError as error:
        raise SetupError(error.message, remedy=error.remedy) from error
    assert grid is not None  # areas of slides are read elsewhere
    height, width = grid.shape
    if abs(width * size[1] / (height * size[0]) - 1) > _ASPECT + 1 / min(width, height):
        message = f"{where}: {width} x {height} pixels do not have the shape of the slide ({size[0]} x {size[1]})"
        raise SetupError(message, remedy="a mask covers the whole slide")
    return _numbered(grid, len(classes), where)


def _refuse_elsewhere(mask: Mask, facts: StackFacts, where: str) -> None:
    """A mask of the image's own size was drawn on it: lying elsewhere it has lost its header."""
    refuse_off_image(mask, mask.numbers(), facts, where)
    if not isinstance(mask, LabelVolume) or mask.values.shape != facts.shape[::-1] or facts.affine is None:
        return
    if not np.allclose(mask.affine, facts.affine, atol=_AFFINE_TOLERANCE) and facts.origins is None:
        message = f"{where}: has the size of {facts.name}, but lies elsewhere"
        raise SetupError(message, remedy="save it with the image's header, or resample it")


def _numbered(grid: npt.NDArray[Any], classes: int, where: str) -> npt.NDArray[np.uint8]:
    values = np.unique(grid)
    wrong = values[(values != IGNORED) & ((values < 0) | (values >= classes))]
    if wrong.size:
        remedy = f"{classes} classes are numbered 0 to {classes - 1}; {IGNORED} is not counted"
        raise SetupError(f"{where}: value {wrong[0]:g} has no class", remedy=remedy)
    return grid.astype(np.uint8)


def _named(
    grid: npt.NDArray[Any], names: Mapping[int, str], classes: Sequence[str], where: str
) -> npt.NDArray[np.uint8]:
    """Numbers of a file to numbers of classes, by name; one segment alone is the only class beside class 0."""
    known = {name.lower(): number for number, name in enumerate(classes)}
    meant = {number: known[name.lower()] for number, name in names.items() if name.lower() in known}
    if not meant and len(names) == 1 and len(classes) == 2:
        meant = dict.fromkeys(names, 1)
    if not meant:
        there = ", ".join(sorted(set(names.values()))[:10])
        raise SetupError(f"{where}: none of its segments is a class of the task", remedy=f"it has {there}")
    found = np.zeros(grid.shape, np.uint8)
    for number, kind in meant.items():
        found[grid == number] = kind
    return found
