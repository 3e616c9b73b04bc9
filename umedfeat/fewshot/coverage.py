"""What intervals cover, and how often intervals of their kind held the truth in simulated studies.

The words and figures of page, terminal, ``methods.txt`` and ``summary.json`` are these. The simulations are
``benchmarks/probe_calibration*.py``, their tables ``benchmarks/probe.md`` and ``benchmarks/few_labels.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from umedfeat.fewshot.metrics.bootstrap import FOLDS_VARIANCE
from umedfeat.fewshot.metrics.metrics import CLASSES
from umedfeat.fewshot.result import Difference, Drop, Estimate, ProbeResult
from umedfeat.fewshot.settings import Task

__all__ = [
    "OF_CLASSES",
    "Coverage",
    "covered",
    "covered_differences",
    "covered_drops",
    "covered_model",
    "covered_study",
]

#: Percent of simulated studies from which on, and up to which, 95 % intervals are neither too narrow nor too wide, as
#: far as some hundred studies tell.
_RIGHT = (93, 98)


class Coverage(NamedTuple):
    """Intervals of one kind.

    Attributes:
        kind: as ``Estimate.covers``, or "model", "drop", "difference".
        covers: what they are about. where: what the simulated studies were, "" where there were none.
        low, high: percent of these studies in which 95 % intervals held the truth, the lowest and the highest over
            metrics and scenarios, in whole points; 0 where there were none.
    """

    kind: str
    covers: str
    where: str = ""
    low: int = 0
    high: int = 0

    @property
    def sentence(self) -> str:
        """For everybody."""
        if not self.where:
            return f"{self.covers} (how often they hold the truth was not simulated for such a target)."
        held = f"In {self.where}, {self.low} to {self.high} % of 95 % intervals held the truth"
        return f"{self.covers}. {held}{self._verdict()}."

    def described(self) -> dict[str, object]:
        """By name, for files."""
        return self._asdict() | {"sentence": self.sentence}

    def _verdict(self) -> str:
        narrow, wide = self.low < _RIGHT[0], self.high > _RIGHT[1]
        if wide and not narrow:
            return ": rather too wide than too narrow, so a real difference may hide in them"
        if narrow:
            return f": some are too narrow{', others too wide' if wide else ''}"
        return ""


_DRAWS = "Intervals of several draws say what to expect on new patients of the same kind, whoever had been labelled"
_SINGLE = (
    "Intervals of a single draw are about this very classifier on new patients of the same kind; they do not cover the "
    "choice of training patients"
)
_FOLDS = (
    "Intervals of cross-validation are about classifiers trained on so many of these patients; their variance is "
    f"multiplied by {FOLDS_VARIANCE:g}, because the folds train on one another's patients"
)
_MODEL = "Intervals are about this very model on new patients of the same kind"
_DROP = "Intervals of a drop are about the same classifiers on new patients of both groups"
_DIFFERENCE = (
    "Intervals of a difference are about both encoders on the same new patients and, of several draws, whoever had "
    "been labelled"
)
_TWO_CLASSES = "simulated studies of two classes with {tests} test patients"

#: Of targets with classes.
OF_CLASSES = {
    "patients and draws": Coverage("patients and draws", _DRAWS, _TWO_CLASSES.format(tests="12 to 90"), 93, 96),
    "patients": Coverage("patients", _SINGLE, _TWO_CLASSES.format(tests="12 to 90"), 93, 98),
    "folds": Coverage("folds", _FOLDS, "simulated noise of 5 to 60 patients a class", 92, 99),
    "model": Coverage("model", _MODEL, _TWO_CLASSES.format(tests="12 to 90"), 93, 98),
    "drop": Coverage("drop", _DROP, _TWO_CLASSES.format(tests="18 to 60"), 94, 100),
    "difference": Coverage("difference", _DIFFERENCE, _TWO_CLASSES.format(tests="18 to 30"), 93, 99),
}


def covered(estimates: Iterable[Estimate], task: Task) -> tuple[Coverage, ...]:
    """Of the kinds of intervals among some estimates."""
    there = {row.covers for row in estimates}
    return tuple(_of(kind, task) for kind in OF_CLASSES if kind in there)


def covered_study(result: ProbeResult) -> tuple[Coverage, ...]:
    """Of all intervals of a study."""
    return (*covered(result.estimates, result.task), *covered_drops(result.drops, result.task))


def covered_model(task: Task) -> Coverage:
    """Of the performance of a fixed model on new patients."""
    return _of("model", task)


def covered_drops(drops: Iterable[Drop], task: Task) -> tuple[Coverage, ...]:
    """Of drops with an interval."""
    return (_of("drop", task),) if any(row.low == row.low for row in drops) else ()


def covered_differences(differences: Iterable[Difference], task: Task) -> tuple[Coverage, ...]:
    """Of differences with an interval."""
    return (_of("difference", task),) if any(row.low == row.low for row in differences) else ()


def _of(kind: str, task: Task) -> Coverage:
    found = OF_CLASSES[kind]
    return found if task in CLASSES else Coverage(kind, found.covers)
