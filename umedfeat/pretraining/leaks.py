"""No patient and no image may be trained on in one task and held out in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from umedfeat.errors import LeakageError
from umedfeat.naming import content_sha256
from umedfeat.pretraining.examples import Example, Task

__all__ = ["digests_of", "refuse_leaks"]

_REMEDY = "correct the column split, give --holdout a share, or prefix ids that mean different people"


def digests_of(tasks: Sequence[Task]) -> dict[tuple[Path, ...], str]:
    """Content of every source, by its files."""
    files = {e.source.files for task in tasks for e in (*task.train, *task.heldout)}
    return {each: content_sha256(each) for each in sorted(files)}


def refuse_leaks(tasks: Sequence[Task], digests: Mapping[tuple[Path, ...], str]) -> None:
    """Look over all tasks together.

    Raises:
        LeakageError: the patient or the image, both tasks, and the remedy.
    """
    trained: dict[str, tuple[Task, Example]] = {}
    for task in tasks:
        if task.spec.role == "train":
            for example in task.train:
                trained[f"patient {example.patient}"] = (task, example)
                trained[digests[example.source.files]] = (task, example)
    for task in tasks:
        for example in task.heldout:
            for key, what in (
                (f"patient {example.patient}", "is of a patient"),
                (digests[example.source.files], "is an image"),
            ):
                if key in trained:
                    other, twin = trained[key]
                    raise LeakageError(
                        f"{example.source.name} (held out, task {task.name}) {what} that is trained on:"
                        f" {twin.source.name} (task {other.name})",
                        remedy=_REMEDY,
                    )
