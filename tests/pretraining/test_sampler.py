"""Batches depend on the seed, the round and the task's name alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
from tiny_backbone import task_of

from umedfeat.contract import Source
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.sampler import Sampler


def ids(sampler: Sampler, number: int) -> list[tuple[str, float, int]]:
    return [(draw.example.source.id, draw.place, draw.seed) for draw in sampler.batch(number)]


def test_a_batch_is_a_function_of_seed_round_and_name() -> None:
    task = task_of("classification", "one", images=40)
    sampler = Sampler(task, 8, 0)
    assert ids(sampler, 7) == ids(Sampler(task, 8, 0), 7)
    assert ids(sampler, 7) != ids(sampler, 8)
    assert ids(sampler, 7) != ids(Sampler(task, 8, 1), 7)
    assert ids(sampler, 7) != ids(Sampler(task_of("classification", "two", images=40), 8, 0), 7)


def test_classes_by_the_root_then_patients_alike() -> None:
    examples = []
    for kind, patient, count in (("common", "a", 60), ("common", "b", 4), ("rare", "c", 4)):
        for k in range(count):
            source = Source(f"{patient}{k}", "raster", None, (), "")  # type: ignore[arg-type]
            examples.append(Example(source, patient, kind, False, label=np.float32(0)))
    task = Task(task_of("classification").spec, ("common", "rare"), tuple(examples), ())
    seen = Counter(draw.example.patient for draw in Sampler(task, 6000, 0).batch(0))
    rare = 2 / (8 + 2)  # roots of 64 and 4 images
    assert abs(seen["c"] / 6000 - rare) < 0.02
    assert abs(seen["a"] / (seen["a"] + seen["b"]) - 0.5) < 0.03
