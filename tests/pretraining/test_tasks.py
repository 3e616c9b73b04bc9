"""Tasks from files: labels, masks and boxes; faults name the file, the row and the remedy; no patient on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_tasks import draw_images, write_tasks
from PIL import Image

from umedfeat.errors import LeakageError, SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.leaks import digests_of, refuse_leaks
from umedfeat.pretraining.masks import IGNORED
from umedfeat.pretraining.mixing import untouched
from umedfeat.pretraining.pictures import Pictures
from umedfeat.pretraining.reading import refuse_unreadable
from umedfeat.pretraining.spec import read_task_file
from umedfeat.pretraining.tasks import load_task

KINDS = ("classification", "segmentation", "detection", "regression", "multilabel")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    draw_images(tmp_path / "drawn", patients=6)
    return tmp_path / "drawn"


def loaded(folder: Path, *kinds: str, holdout: float | str = "split", **changes: Any) -> list[Task]:
    specs = read_task_file(write_tasks(folder / "tasks.yaml", folder, *kinds, **changes))
    return [load_task(spec, Policy(), holdout=holdout, seed=0) for spec in specs]


def first_picture(task: Task, size: int = 64) -> Any:
    return Pictures(Policy(), 0).read(task, task.train[0], 0.0, size)


def test_all_label_types(drawn: Path) -> None:
    tasks = loaded(drawn, *KINDS)
    assert [(len(task.train), len(task.heldout)) for task in tasks] == [(8, 4)] * 5
    assert tasks[0].classes == ("disc", "square")
    assert tasks[3].scale[1] > 0
    boxes = first_picture(tasks[2]).boxes
    mask = first_picture(tasks[1]).mask
    y, x = np.nonzero(mask)
    assert boxes.corners[0] == pytest.approx([x.min(), y.min(), x.max() + 1, y.max() + 1], abs=1)


def test_masks_and_boxes_go_where_their_image_goes(tmp_path: Path) -> None:
    """A bright bar in a wide image: letterboxed to a square, mask and box still lie on it; beside it nothing counts."""
    draw_images(tmp_path / "drawn", patients=3)
    picture, mask = np.zeros((64, 128), np.uint8), np.zeros((64, 128), np.uint8)
    picture[10:30, 40:100], mask[10:30, 40:100] = 200, 1
    picture[0, 0] = 255
    name = "p00_0.png"
    Image.fromarray(picture).save(tmp_path / "drawn" / "images" / name)
    Image.fromarray(mask).save(tmp_path / "drawn" / "masks" / name)
    coco = json.loads((tmp_path / "drawn" / "coco.json").read_text())
    coco["images"][0]["width"], coco["annotations"][0]["bbox"] = 128, [40, 10, 60, 20]
    (tmp_path / "drawn" / "coco.json").write_text(json.dumps(coco))
    seen = [first_picture(task, 64) for task in loaded(tmp_path / "drawn", "segmentation", "detection")]
    bright = seen[0].pixels[0] > 0.5
    rows, cols = np.nonzero(seen[0].mask == 1)
    assert (seen[0].mask[:16] == IGNORED).all() and (seen[0].mask[48:] == IGNORED).all()
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (21, 30, 20, 49)
    assert np.array_equal(bright, seen[0].mask == 1)
    assert seen[1].boxes.corners[0] == pytest.approx([20, 21, 50, 31])


def test_a_palette_mask_holds_its_numbers(drawn: Path) -> None:
    path = drawn / "masks" / "p00_0.png"
    image = Image.fromarray(np.asarray(Image.open(path)), "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    image.save(path)
    assert set(np.unique(first_picture(loaded(drawn, "segmentation")[0]).mask)) <= {0, 1, 2}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_faults_of_tables(drawn: Path) -> None:
    with pytest.raises(SetupError, match="no column 'grade'"):
        loaded(drawn, "classification", label="grade")
    with pytest.raises(SetupError, match="none of square, circle"):
        loaded(drawn, "classification", classes=["square", "circle"])
    with pytest.raises(SetupError, match="is no number"):
        loaded(drawn, "regression", label="label")
    change(drawn / "labels.csv", ",square,", ",1e300,")
    with pytest.raises(SetupError, match="'1e300' is no number"):
        loaded(drawn, "regression", label="label", where={"label": ["1e300"]})
    change(drawn / "labels.csv", ",1e300,", ",square,")
    with pytest.raises(SetupError, match="0, 1 or empty"):
        loaded(drawn, "multilabel", label="size")
    with pytest.raises(SetupError, match="lists no image"):
        loaded(drawn, "classification", where={"label": "circle"})
    with pytest.raises(SetupError, match="one class only"):
        loaded(drawn, "classification", where={"label": "disc"})
    change(drawn / "labels.csv", "masks/p00_0.png", "masks/none.png")
    with pytest.raises(SetupError, match=r"mask masks/none\.png: no such file"):
        loaded(drawn, "segmentation")
    change(drawn / "labels.csv", ",heldout,", ",,")
    with pytest.raises(SetupError, match="split ''"):
        loaded(drawn, "classification")


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((32, 64), np.uint8), "a mask of 64x32 pixels for an image of 64x64"),
        (np.full((64, 64), 7, np.uint8), "value 7 has no class"),
        (np.zeros((64, 64, 3), np.uint8), "RGB pixels"),
    ],
)
def test_faults_of_masks(drawn: Path, mask: np.ndarray, said: str) -> None:
    Image.fromarray(mask).save(drawn / "masks" / "p00_0.png")
    with pytest.raises(SetupError, match=said) as fault:
        first_picture(loaded(drawn, "segmentation")[0])
    assert "p00_0.png" in str(fault.value) and fault.value.remedy


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bbox", [50, 50, 30, 30], "is not inside"),
        ("bbox", [-20, 0, 30, 30], "is not inside"),
        ("bbox", [5, 5, 0, 3], "is not inside"),
        ("bbox", [float("nan"), 5, 3, 3], "is not inside"),
        ("bbox", "wide", "no COCO file"),
        ("category_id", 9, "unknown image or class"),
        ("image_id", 999, "unknown image or class"),
    ],
)
def test_faults_of_coco(drawn: Path, key: str, value: object, said: str) -> None:
    coco = json.loads((drawn / "coco.json").read_text())
    coco["annotations"][0][key] = value
    (drawn / "coco.json").write_text(json.dumps(coco))
    with pytest.raises(SetupError, match=said) as fault:
        loaded(drawn, "detection")
    assert "coco.json" in str(fault.value)


def test_boxes_of_another_size_of_the_image_are_refused(drawn: Path) -> None:
    """They would lie inside, and elsewhere."""
    coco = json.loads((drawn / "coco.json").read_text())
    coco["images"][0] |= {"width": 640, "height": 640}
    (drawn / "coco.json").write_text(json.dumps(coco))
    with pytest.raises(SetupError, match=r"p00_0\.png: boxes were drawn on 640 x 640, and the image has 64 x 64 pix"):
        refuse_unreadable(loaded(drawn, "detection"), Policy())


@pytest.mark.parametrize("name", ["p00_0.png", "p05_1.png"])
def test_every_mask_is_read_before_a_training(name: str, drawn: Path) -> None:
    refuse_unreadable(loaded(drawn, *KINDS), Policy())
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(drawn / "masks" / name)
    with pytest.raises(SetupError, match=f"mask {name}: value 7"):
        refuse_unreadable(loaded(drawn, *KINDS), Policy())


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"images": 3}'])
def test_no_coco(drawn: Path, text: str) -> None:
    (drawn / "coco.json").write_text(text)
    with pytest.raises(SetupError, match="no COCO file"):
        loaded(drawn, "detection")


def test_a_patient_on_both_sides_is_found_over_all_tasks(drawn: Path) -> None:
    tasks = loaded(drawn, *KINDS)
    refuse_leaks(tasks, digests_of(tasks))
    coco = json.loads((drawn / "coco.json").read_text())
    coco["images"][0]["split"] = "heldout"
    (drawn / "coco.json").write_text(json.dumps(coco))
    tasks = loaded(drawn, *KINDS)
    with pytest.raises(LeakageError, match=r"images/p00_0.png \(held out, task detection2\)"):
        refuse_leaks(tasks, digests_of(tasks))


def test_an_image_under_two_names_is_found(drawn: Path) -> None:
    (drawn / "images" / "p02_0.png").write_bytes((drawn / "images" / "p00_0.png").read_bytes())
    tasks = loaded(drawn, "classification")
    with pytest.raises(LeakageError, match="is an image that is trained on"):
        refuse_leaks(tasks, digests_of(tasks))


def test_a_share_holds_out_the_same_patients_in_every_task(drawn: Path) -> None:
    tasks = loaded(drawn, *KINDS, holdout=0.5)
    refuse_leaks(tasks, digests_of(tasks))
    sides = [{e.patient for e in task.heldout} for task in tasks]
    assert all(side == sides[0] for side in sides)
    assert 0 < len(sides[0]) < 4
    assert sum(len(task.train) + len(task.heldout) for task in tasks) == 5 * 8  # rows of "heldout" are left alone


def test_alpha_is_chosen_on_patients_that_nothing_trains_on(drawn: Path) -> None:
    specs = read_task_file(write_tasks(drawn / "tasks.yaml", drawn, "segmentation", "classification"))
    trained = load_task(specs[0], Policy(), holdout="split", seed=0)
    left_out = load_task(specs[1], Policy(), holdout="split", seed=0)
    left_out = Task(
        type(specs[1])(**{**vars(specs[1]), "role": "select"}), left_out.classes, left_out.train, left_out.heldout
    )
    ((_, free),) = untouched([trained, left_out])
    assert {example.patient for example in free} == {"p02", "p05"}
