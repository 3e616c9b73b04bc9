"""Task files: what is wrong is said with the task and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from umedfeat.errors import SetupError
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.spec import read_task_file

GOOD = "{name: a, type: classification, labels: labels.csv}"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "labels.csv").write_text("path,label\n")
    (tmp_path / "coco.json").write_text("{}")
    path = tmp_path / "tasks.yaml"
    path.write_text(text)
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    text = (
        "tasks:\n- {name: a, type: segmentation, labels: labels.csv, classes: [bg, x], where: {label: [CT, 3]},"
        " weight: 2, batch: 4, flip: false, modality: CT, mpp: 0.25, licence: CC0, attribution: us}\n"
        "- {name: b, coco: coco.json}\n"
    )
    first, second = read_task_file(written(tmp_path, text))
    assert first.labels == tmp_path / "labels.csv"
    assert first.where == {"label": ("CT", "3")}
    assert (first.classes, first.weight, first.batch, first.flip) == (("bg", "x"), 2, 4, False)
    assert second.type == "detection"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one key `tasks`"),
        ("tasks: []", "no task"),
        ("tasks: 3", "one key `tasks`"),
        ("tasks: [3]", "is no task"),
        ("tasks: [{name: [", "not YAML"),
        ("tasks:\n\t- {name: a}", "line 2: found character"),
        ("!!python/object/apply:os.system [echo]", "not YAML"),
        ("tasks: [{name: a, typ: classification}]", "did you mean 'type'"),
        ("tasks: [{name: a, type: clasification, labels: labels.csv}]", "did you mean classification"),
        ("tasks: [{type: classification, labels: labels.csv}]", "no name"),
        ("tasks: [{name: a, type: classification}]", "needs `labels:`"),
        ("tasks: [{name: a, type: detection, labels: labels.csv}]", "needs `coco:`"),
        ("tasks: [{name: a, type: classification, labels: no.csv}]", "no such file"),
        ("tasks: [{name: a/b, type: classification, labels: labels.csv}]", "letters, digits"),
        ("tasks: [{name: a, type: segmentation, labels: labels.csv}]", "needs its classes"),
        ("tasks: [{name: a, type: segmentation, labels: labels.csv, classes: [x, x]}]", "named twice"),
        ("tasks: [{name: a, type: classification, labels: labels.csv, weight: -1}]", "weight -1"),
        ("tasks: [{name: a, type: classification, labels: labels.csv, batch: 100000}]", "batch 100000"),
        ("tasks: [{name: a, type: classification, labels: labels.csv, batch: four}]", "not a number"),
        ("tasks: [{name: a, type: classification, labels: labels.csv, flip: 1}]", "not true or false"),
        (f"tasks: [{GOOD}, {GOOD}]", "two tasks are called 'a'"),
        ("tasks: [{name: a, type: classification, labels: labels.csv, role: select}]", "at least one task"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SetupError) as fault:
        read_task_file(written(tmp_path, text))
    assert said in str(fault.value)
    assert fault.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"minutes": 0},
        {"image_sizes": (100,)},
        {"image_sizes": (65536,)},
        {"image_sizes": ()},
        {"batch": 0},
        {"lr": 0.0},
        {"trainable": "last-0"},
        {"trainable": "first-2"},
        {"alpha": 1.5},
        {"alpha": "half"},
        {"holdout": 1.0},
        {"precision": "fp8"},
        {"storage": "int4"},
        {"ema": 1.0},
        {"seed": 0.5},
        {"batch": True},
        {"lr": float("nan")},
    ],
)
def test_settings_that_cannot_train(wrong: dict[str, object]) -> None:
    with pytest.raises(SetupError) as fault:
        TrainSettings(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)) in fault.value.message and fault.value.remedy


def test_settings_are_kept_in_one_way() -> None:
    written = TrainSettings(image_sizes="128, 224", alpha="0.5", holdout="0.15")  # type: ignore[arg-type]
    assert written == TrainSettings(image_sizes=(128, 224), alpha=0.5, holdout=0.15)
