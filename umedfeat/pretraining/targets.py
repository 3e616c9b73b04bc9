"""What an example's mask or boxes say of one region of its image: through the geometry of the region's own reader."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, Reader
from umedfeat.errors import SetupError
from umedfeat.pretraining.areas import Tile, tiles_touching
from umedfeat.pretraining.examples import Boxes, Example, Task
from umedfeat.pretraining.masks import IGNORED, read_mask, read_overview
from umedfeat.readers.slides.polygons import Polygon
from umedfeat.readers.stacks.volume import VolumeReader

__all__ = ["Opened", "Targets", "with_targets"]

Mask = npt.NDArray[np.uint8]

_KEPT_MASKS = 8
_TOLERANCE = 1.0  # pixels that a box may stick out by rounding


class Opened(NamedTuple):
    """A reader with its plan. A plan of tiles tells their extent; anything else is a stack of slices."""

    reader: Reader
    plan: Plan


def with_targets(example: Example, plan: Plan) -> Plan:
    """The plan with those regions only that may be drawn: of tiles with areas or boxes those that they touch.

    What nobody annotated on a slide is unknown, not empty.
    """
    polygons = _polygons(example)
    if not plan.tile_extent or polygons is None:
        return plan
    return replace(plan, regions=plan.regions[tiles_touching(plan, polygons)])


class Targets:
    """Masks and boxes of regions; the masks of the last few images are kept."""

    def __init__(self) -> None:
        self._masks: OrderedDict[tuple[object, ...], Mask] = OrderedDict()

    def mask(self, task: Task, example: Example, opened: Opened, index: int) -> Mask:
        """(S, S) class numbers and IGNORED of region ``index`` of the plan.

        Raises:
            SetupError: the mask cannot be read, or lies on another grid.
        """
        plan, side, path = opened.plan, opened.plan.shape[0], example.mask
        assert path is not None
        if not plan.tile_extent:
            reader = _of_slices(task, example, opened)
            grid = self._kept((task.name, path), lambda: _grid(task, example, path, reader))
            return _aligned(grid, reader, int(plan.regions["slice"][index]), len(task.classes))
        if example.areas is not None:
            return example.areas.fitted(Tile.of(plan, index), (side, side))
        size = (plan.width, plan.height)
        overview = self._kept((task.name, path), lambda: read_overview(path, size, task.classes, task.name))
        return _cut(overview, size, Tile.of(plan, index), side)

    def boxes(self, task: Task, example: Example, opened: Opened, index: int) -> Boxes:
        """The boxes of region ``index`` in pixels of its square; they may stick out of a tile.

        Raises:
            SetupError: a box lies outside of the image.
        """
        boxes, plan = example.boxes, opened.plan
        assert boxes is not None
        _refuse_outside(task, example, boxes, plan)
        if plan.tile_extent:
            return _in_tile(boxes, Tile.of(plan, index), plan.shape[0])
        return Boxes(_of_slices(task, example, opened).placed(boxes.corners), boxes.kinds)

    def _kept(self, key: tuple[object, ...], read: Callable[[], Mask]) -> Mask:
        if key not in self._masks:
            self._masks[key] = read()
            while len(self._masks) > _KEPT_MASKS:
                self._masks.popitem(last=False)
        return self._masks[key]


def _polygons(example: Example) -> tuple[Polygon, ...] | None:
    if example.areas is not None:
        return example.areas.where_drawn
    if example.boxes is None:
        return None
    corners = example.boxes.corners.tolist()
    return tuple([np.array([[a, b], [c, b], [c, d], [a, d]], np.float64)] for a, b, c, d in corners)


def _of_slices(task: Task, example: Example, opened: Opened) -> VolumeReader:
    if not isinstance(opened.reader, VolumeReader):
        message = f"task {task.name}: {example.source.name}: a {task.type} is not read from this kind of image"
        raise SetupError(message, remedy="slides, flat images or volumes")
    return opened.reader


def _grid(task: Task, example: Example, path: Path, reader: VolumeReader) -> Mask:
    facts = reader.facts
    if example.areas is None or facts.slices > 1:
        return read_mask(path, facts, task.classes, task.name)
    return example.areas.fitted(Tile(0, 0, facts.cols, facts.rows), (facts.rows, facts.cols))[None]


def _aligned(grid: Mask, reader: VolumeReader, row: int, classes: int) -> Mask:
    """The class that covers most of each pixel: every class goes through the image's own resampling."""
    values = [number for number in (*range(classes), IGNORED) if number == 0 or (grid == number).any()]
    covered = np.stack([reader.aligned(row, grid == number) for number in values])
    fitted = np.asarray(values, np.uint8)[covered.argmax(0)]
    fitted[covered.sum(0) < 0.5] = IGNORED  # beside the image
    result: Mask = fitted
    return result


def _cut(grid: Mask, size: tuple[int, int], tile: Tile, side: int) -> Mask:
    """The part of a mask of a whole slide that a tile shows, at the centres of its pixels."""
    across = (tile.x + (np.arange(side) + 0.5) * tile.width / side) * grid.shape[1] / size[0]
    down = (tile.y + (np.arange(side) + 0.5) * tile.height / side) * grid.shape[0] / size[1]
    columns, rows = (np.floor(places).astype(np.int64) for places in (across, down))
    found = grid[np.clip(rows, 0, grid.shape[0] - 1)[:, None], np.clip(columns, 0, grid.shape[1] - 1)]
    return np.asarray(found, np.uint8)


def _refuse_outside(task: Task, example: Example, boxes: Boxes, plan: Plan) -> None:
    if boxes.drawn_on is not None and boxes.drawn_on != (plan.width, plan.height):
        width, height = boxes.drawn_on
        said = f"boxes were drawn on {width} x {height}, and the image has {plan.width} x {plan.height} pixels"
        message = f"task {task.name}: {example.source.name}: {said}"
        raise SetupError(message, remedy="correct width and height, or bring the boxes to the pixels of the image")
    if len(boxes.corners) and (boxes.corners[:, 2:].max(0) > (plan.width + _TOLERANCE, plan.height + _TOLERANCE)).any():
        right, bottom = boxes.corners[:, 2:].max(0)
        said = f"a box reaches to {right:g}, {bottom:g}, but the image has {plan.width} x {plan.height} pixels"
        message = f"task {task.name}: {example.source.name}: {said}"
        raise SetupError(message, remedy="boxes are in pixels of the full image")


def _in_tile(boxes: Boxes, tile: Tile, side: int) -> Boxes:
    left, top, right, bottom = boxes.corners.T
    touching = (left < tile.x + tile.width) & (right > tile.x) & (top < tile.y + tile.height) & (bottom > tile.y)
    origin, scale = np.tile((tile.x, tile.y), 2), side / np.tile((tile.width, tile.height), 2)
    moved = ((boxes.corners[touching] - origin) * scale).astype(np.float32)
    return Boxes(moved, boxes.kinds[touching])
