"""Images, masks and boxes as the encoder sees them: through the product's own readers and policy, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, RegionUnreadable
from umedfeat.errors import InputError, SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Boxes, Example, Task
from umedfeat.pretraining.targets import Opened, Targets, with_targets
from umedfeat.readers import open_reader

__all__ = ["Picture", "Pictures", "policy_of"]

_OPEN_READERS = 4


class Picture(NamedTuple):
    """One region with its target.

    Attributes:
        pixels: (1 or 3, S, S) float16 in [0, 1]; one channel where all are equal.
        mask: (S, S) uint8 of class numbers and IGNORED, or None.
        boxes: in pixels of the square, or None.
    """

    pixels: npt.NDArray[np.float16]
    mask: npt.NDArray[np.uint8] | None = None
    boxes: Boxes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return self.pixels.nbytes + (0 if self.mask is None else self.mask.nbytes)


def policy_of(task: Task, policy: Policy, size: int) -> Policy:
    """The policy under which a task's images become squares of ``size`` pixels."""
    mpp = task.spec.mpp or policy.slide.mpp
    return replace(
        policy,
        slide=replace(policy.slide, tile_size=size, mpp=mpp),
        image=replace(policy.image, size=size),
    )


class Pictures:
    """Reads regions of examples; what fits into ``limit`` bytes is read once.

    Not safe to share between threads.
    """

    def __init__(self, policy: Policy, limit: int) -> None:
        self._policy, self._left = policy, limit
        self._kept: dict[tuple[object, ...], Picture] = {}
        self._counts: dict[tuple[object, ...], int] = {}
        self._readers: OrderedDict[tuple[object, ...], Opened] = OrderedDict()
        self._plans: dict[tuple[object, ...], Plan] = {}  # planning looks at every pixel of a volume, once
        self._targets = Targets()

    def read(self, task: Task, example: Example, place: float, size: int) -> Picture:
        """The region at ``place`` (0 up to, not including, 1) of an example, as a square of ``size`` pixels.

        Raises:
            SetupError: the image or the mask cannot be read.
        """
        owner = (task.name, example.source.id, size)
        index = int(place * self._counts[owner]) if owner in self._counts else None
        if index is not None and (picture := self._kept.get((*owner, index))) is not None:
            return picture
        try:
            opened = self._open(owner, task, example)
            count = self._counts[owner] = len(opened.plan.regions)
            picture = self._read(task, example, opened, int(place * count))
        except InputError as error:
            raise SetupError(f"task {task.name}: {error.message}", remedy=error.remedy) from error
        if picture.nbytes <= self._left:
            self._left -= picture.nbytes
            kept = (*owner, int(place * count))
            self._kept[kept] = picture
        return picture

    def close(self) -> None:
        """Close every reader."""
        while self._readers:
            self._readers.popitem()[1].reader.close()

    def _open(self, owner: tuple[object, ...], task: Task, example: Example) -> Opened:
        if owner in self._readers:
            self._readers.move_to_end(owner)
            return self._readers[owner]
        policy, former = policy_of(task, self._policy, int(str(owner[-1]))), self._plans.get(owner)
        reader = open_reader(example.source, policy, None if former is None else former.prepared)
        plan = former or with_targets(example, reader.plan())
        if not len(plan.regions):
            reader.close()
            raise SetupError(
                f"task {task.name}: {example.source.name} has no region to train on",
                remedy="leave it out (umedfeat preview shows its tissue; areas and boxes must lie on it)",
            )
        self._plans[owner] = plan
        self._readers[owner] = Opened(reader, plan)
        while len(self._readers) > _OPEN_READERS:
            self._readers.popitem(last=False)[1].reader.close()
        return self._readers[owner]

    def _read(self, task: Task, example: Example, opened: Opened, index: int) -> Picture:
        read = opened.reader.read(opened.plan.regions[index : index + 1])[0]
        if isinstance(read, RegionUnreadable):
            message = f"task {task.name}: {example.source.name}: region {index}: {read}"
            raise SetupError(message, remedy="copy the file again, or leave it out")
        pixels = compact(read)
        if example.boxes is not None:
            return Picture(pixels, boxes=self._targets.boxes(task, example, opened, index))
        if example.mask is not None:
            return Picture(pixels, self._targets.mask(task, example, opened, index))
        return Picture(pixels)


def compact(region: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """(S, S, 3) uint8 or float32 in [0, 1] → (1 or 3, S, S) float16."""
    unit = region.astype(np.float32) / np.float32(255) if region.dtype == np.uint8 else region
    grey = np.array_equal(unit[..., 0], unit[..., 1]) and np.array_equal(unit[..., 0], unit[..., 2])
    kept = unit[..., :1] if grey else unit
    return np.ascontiguousarray(kept.transpose(2, 0, 1), dtype=np.float16)
