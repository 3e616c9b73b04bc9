"""Labelled examples of a task: what a batch is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Source
from umedfeat.pretraining.areas import Areas
from umedfeat.pretraining.spec import TaskSpec

__all__ = ["Boxes", "Example", "Task"]


class Boxes(NamedTuple):
    """Boxes of one image.

    Attributes:
        corners: (n, 4) float32: left, top, right, bottom in pixels of the image.
        kinds: (n,) int64 place among the task's classes.
        drawn_on: (width, height) of the image, as whoever drew them says; None where nobody says.
    """

    corners: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]
    drawn_on: tuple[int, int] | None = None


#: Cases in a round. A batch holds one task only: of a single case its head learns the class that came last.
_FEWEST_CASES = 4


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled source.

    Attributes:
        source: what the readers open.
        patient: who is drawn before the image is; never stored.
        stratum: class that is drawn before the patient is; "" where the task has none.
        heldout: never trained on.
        case: what the label belongs to, where a task is grouped by cases; else "".
        label: classification: its place among the classes; multilabel: (L,) of 0, 1 and NaN; regression: the value.
        mask: segmentation: file of class numbers on the image's grid, or of areas; ``areas``: those of a slide.
        boxes: detection.
    """

    source: Source
    patient: str
    stratum: str
    heldout: bool
    case: str = ""
    label: npt.NDArray[np.float32] | None = None
    mask: Path | None = None
    areas: Areas | None = None
    boxes: Boxes | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """A task with its examples.

    Attributes:
        spec: as written.
        classes: in the order of the head's outputs (of one name for a regression).
        train, heldout: examples, sorted by the source's id.
        scale: regression: (mean, standard deviation) of the training values.
    """

    spec: TaskSpec
    classes: tuple[str, ...]
    train: tuple[Example, ...]
    heldout: tuple[Example, ...]
    scale: tuple[float, float] = (0.0, 1.0)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def type(self) -> str:
        """Kind of labels, as the task file names it."""
        return self.spec.type

    @property
    def bag(self) -> int:
        """Consecutive images of a batch that share one label."""
        return self.spec.bag if self.spec.group == "case" else 1

    def batch(self, default: int) -> int:
        """Images in a round: the task's own ``batch`` or the default; of cases whole bags, four cases at least."""
        images = self.spec.batch or default
        return images if self.bag == 1 else max(_FEWEST_CASES, images // self.bag) * self.bag

    def patients(self, examples: Sequence[Example]) -> int:
        """How many patients some examples are of."""
        return len({example.patient for example in examples})
