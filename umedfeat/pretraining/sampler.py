"""What a batch holds: a pure function of the seed, the round and the task's name.

A resumed training needs no generator's state, and a task that is added or removed does not move the others' data.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from umedfeat.pretraining.examples import Example, Task

_T = TypeVar("_T")

__all__ = ["Draw", "Sampler", "even_draws", "generator_of", "middle_draws"]


class Draw(NamedTuple):
    """One image of a batch.

    Attributes:
        example: what is drawn.
        place: in [0, 1): which of its regions (slice, tile), whatever their number.
        seed: of its augmentation.
    """

    example: Example
    place: float
    seed: int


def generator_of(*parts: object) -> np.random.Generator:
    """A generator that depends on the given parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


class Sampler:
    """Draws batches of one task: a class by the square root of its images, a patient of it, an image of the patient.

    Of a task grouped by cases the image stands for its case, of which ``bag`` images are drawn then.

    The root lies between the classes as they are and all classes alike. A patient with many images counts no more than
    one with few.

    Args:
        task: its training examples are drawn from.
        size: images in a batch (``Task.batch``).
        seed: of the run.
    """

    def __init__(self, task: Task, size: int, seed: int) -> None:
        self._name, self._seed, self._bag = task.name, seed, task.bag
        self._units = size // task.bag
        self._cases: dict[str, list[Example]] = defaultdict(list)
        strata: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
        for example in task.train:
            strata[example.stratum][example.patient].append(example)
            self._cases[example.case].append(example)
        self._strata = [list(strata[name].values()) for name in sorted(strata)]
        roots = np.sqrt([sum(map(len, patients)) for patients in self._strata])
        self._share = roots / roots.sum()

    def batch(self, number: int) -> list[Draw]:
        """The draws of round ``number`` (from 0)."""
        rng = generator_of(self._seed, self._name, number)
        return [draw for _ in range(self._units) for draw in self._unit(rng)]

    def _unit(self, rng: np.random.Generator) -> list[Draw]:
        patients = self._strata[int(rng.choice(len(self._share), p=self._share))]
        example = _any(_any(patients, rng), rng)
        if self._bag == 1:
            return [_varied(example, rng)]
        return [_varied(_any(self._cases[example.case], rng), rng) for _ in range(self._bag)]


def middle_draws(examples: Sequence[Example]) -> list[Draw]:
    """The middle region of each."""
    return [Draw(example, 0.5, 0) for example in examples]


def even_draws(examples: Sequence[Example], count: int) -> list[Draw]:
    """``count`` regions, evenly over the images of a case and over the regions of each."""
    places = [(number + 0.5) / count * len(examples) for number in range(count)]
    return [Draw(examples[int(place)], place % 1.0, 0) for place in places]


def _varied(example: Example, rng: np.random.Generator) -> Draw:
    return Draw(example, float(rng.random()), int(rng.integers(2**62)))


def _any(values: Sequence[_T], rng: np.random.Generator) -> _T:
    return values[int(rng.integers(len(values)))]
