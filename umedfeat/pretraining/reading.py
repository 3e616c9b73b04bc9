"""Masks and boxes of all examples are read once before a training, which would else meet a bad one hours later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.pictures import Pictures

__all__ = ["refuse_unreadable"]

_SIDE = 32  # pixels of the square: the smallest is enough


def refuse_unreadable(tasks: Sequence[Task], policy: Policy) -> None:
    """Read a region of every example that has a mask or boxes, with its target; slides are left out, which are planned
    for minutes.

    Raises:
        SetupError: an image or a mask cannot be read, or they do not fit each other; naming both.
    """
    with contextlib.closing(Pictures(policy, 0)) as pictures:
        for task in tasks:
            for example in _drawn(task):
                pictures.read(task, example, 0.0, _SIDE)


def _drawn(task: Task) -> Iterator[Example]:
    for example in (*task.train, *task.heldout):
        if (example.mask is not None or example.boxes is not None) and example.source.format != "slide":
            yield example
