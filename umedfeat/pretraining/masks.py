"""Masks: files of class numbers on the grid of their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.errors import SetupError
from umedfeat.policy import Limits
from umedfeat.readers.stacks.stack import StackFacts
from umedfeat.readers.volumes.header import head_of, header_kind, read_header
from umedfeat.readers.volumes.reader import NiftiStack

__all__ = ["IGNORED", "read_mask", "read_overview"]

#: Value of pixels that no loss and no score counts: unknown, or beside the image.
IGNORED = 255

_INDEX_MODES = frozenset({"1", "L", "P", "I", "I;16"})
_AFFINE_TOLERANCE = 1e-2  # millimetres
_ASPECT = 0.02  # by which the shape of a slide's mask may be off: rounding


def read_mask(path: Path, facts: StackFacts, classes: Sequence[str], task: str) -> npt.NDArray[np.uint8]:
    """(slices, rows, columns) of class numbers 0 … classes - 1 and IGNORED, on the grid of the image.

    Raises:
        SetupError: not a mask of class numbers, another grid, or a number without a class.
    """
    where = f"task {task}: mask {path.name}"
    with path.open("rb") as stream:
        head = stream.read(4096)
    grid = _volume(path, facts, where) if header_kind(head_of(path, head)) is not None else _flat(path, where)
    if grid.shape != (facts.slices, facts.rows, facts.cols):
        sizes = " but ".join("x".join(map(str, shape)) for shape in (grid.shape, facts.shape[::-1]))
        raise SetupError(
            f"{where}: {sizes} of {facts.name} (slices, rows, columns)", remedy="draw it on the image's grid"
        )
    return _numbers(grid, len(classes), where)


def read_overview(path: Path, size: tuple[int, int], classes: Sequence[str], task: str) -> npt.NDArray[np.uint8]:
    """(H, W) of class numbers over the whole of a slide of ``size`` (width, height), at any scale.

    Raises:
        SetupError: not a mask of class numbers, or of another shape than the slide.
    """
    where = f"task {task}: mask {path.name}"
    grid = _flat(path, where)[0]
    height, width = grid.shape
    if abs(width * size[1] / (height * size[0]) - 1) > _ASPECT + 1 / min(width, height):
        message = f"{where}: {width} x {height} pixels do not have the shape of the slide ({size[0]} x {size[1]})"
        raise SetupError(message, remedy="a mask covers the whole slide")
    return _numbers(grid, len(classes), where)


def _numbers(grid: npt.NDArray[Any], classes: int, where: str) -> npt.NDArray[np.uint8]:
    values = np.unique(grid)
    wrong = values[(values != IGNORED) & ((values < 0) | (values >= classes) | (values != np.rint(values)))]
    if wrong.size:
        remedy = f"{classes} classes are numbered 0 to {classes - 1}; {IGNORED} is not counted"
        raise SetupError(f"{where}: value {wrong[0]:g} has no class", remedy=remedy)
    return grid.astype(np.uint8)


def _flat(path: Path, where: str) -> npt.NDArray[Any]:
    try:
        with Image.open(path, formats=("PNG", "TIFF", "BMP")) as image:
            if image.mode not in _INDEX_MODES:
                raise SetupError(f"{where}: {image.mode} pixels", remedy="one channel of class numbers, or a palette")
            return np.asarray(image)[None].astype(np.int64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SetupError(
            f"{where}: cannot be read ({type(error).__name__})", remedy="a PNG of class numbers"
        ) from error


def _volume(path: Path, facts: StackFacts, where: str) -> npt.NDArray[Any]:
    stack = NiftiStack(read_header(path, path.name), path.name, "", "", Limits())
    try:
        ours, theirs = stack.facts.affine, facts.affine
        same = ours is not None and theirs is not None and np.allclose(ours, theirs, atol=_AFFINE_TOLERANCE)
        if not same:
            raise SetupError(f"{where}: lies elsewhere than {facts.name}", remedy="resample it to the image's grid")
        return np.stack([stack.slice(k)[0] for k in range(stack.facts.slices)])
    finally:
        stack.close()
