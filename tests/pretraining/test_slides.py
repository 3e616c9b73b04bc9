"""Tasks on slides: areas, boxes and masks lie on what they were drawn on; tiles come from what somebody looked at."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_factory import tissue_like, write_slide

from umedfeat.errors import SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.masks import IGNORED
from umedfeat.pretraining.pictures import Picture, Pictures
from umedfeat.pretraining.spec import read_task_file
from umedfeat.pretraining.tasks import load_task

SIDE = 64
#: Dark squares on the slide, in level-0 pixels: left, top, right, bottom.
SQUARES = [(300, 300, 460, 420), (700, 620, 800, 760)]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,024 pixels of tissue at 0.5 µm with two black rectangles."""
    pixels = tissue_like(1024, 1024)
    for left, top, right, bottom in SQUARES:
        pixels[top:bottom, left:right] = (25, 10, 40)
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "one.tif", pixels, 0.5, compression=None)
    return folder / "one.tif"


def rectangle(left: float, top: float, right: float, bottom: float, label: str, **properties: Any) -> dict[str, Any]:
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    named = {"classification": {"name": label}} if label else {}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **named, **properties}}


def drawn(folder: Path, features: list[dict[str, Any]], name: str = "one.geojson") -> Path:
    path = folder / name
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def task_of(folder: Path, text: str) -> Task:
    (folder / "tasks.yaml").write_text("tasks:\n- {name: a, " + text + "}\n")
    spec = read_task_file(folder / "tasks.yaml")[0]
    return load_task(spec, Policy(), holdout=0.5 if spec.slides else "split", seed=0)


def listed(folder: Path, slide: Path, mask: str) -> str:
    (folder / "labels.csv").write_text(f"path,patient,split,mask\n{slide},p,train,{mask}\n")
    return "type: segmentation, labels: labels.csv, mpp: 1.0"


def all_pictures(task: Task) -> list[Picture]:
    """The tiles that may be drawn, each once."""
    found: dict[int, Picture] = {}
    example = (*task.train, *task.heldout)[0]
    with contextlib.closing(Pictures(Policy(), 1 << 30)) as pictures:
        for place in np.linspace(0, 1, 400, endpoint=False):
            picture = pictures.read(task, example, float(place), SIDE)
            found[id(picture)] = picture
    return list(found.values())


def dark(picture: Picture) -> np.ndarray:
    return np.asarray(picture.pixels.astype(np.float32).mean(0) < 0.25)


def test_areas_cover_what_they_were_drawn_on(tmp_path: Path, slide: Path) -> None:
    drawn(tmp_path, [rectangle(*square, "Dark") for square in SQUARES])
    task = task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [rest, dark]")
    pictures = all_pictures(task)
    assert 4 <= len(pictures) <= 10  # of 64 tiles of 128 level-0 pixels: those that the squares touch
    found, truth = (np.stack(parts) for parts in zip(*((p.mask == 1, dark(p)) for p in pictures), strict=True))
    assert found.any((1, 2)).all()
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    assert found.sum() == pytest.approx(sum((c - a) * (d - b) for a, b, c, d in SQUARES) / 4, rel=0.03)


def test_regions_bound_what_counts_and_where_tiles_come_from(tmp_path: Path, slide: Path) -> None:
    areas = [rectangle(256, 256, 512, 512, "Region*"), rectangle(300, 300, 460, 420, "dark")]
    areas += [rectangle(320, 320, 360, 360, "Ignore*"), rectangle(700, 620, 800, 760, "dark")]
    drawn(tmp_path, areas)
    task = task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [rest, dark]")
    pictures = all_pictures(task)
    masks = np.stack([p.mask for p in pictures if p.mask is not None])
    assert len(masks) == 4  # exactly the tiles of the region
    assert (masks == IGNORED).sum() == 400  # the area that is ignored, at 1 µm
    assert (masks == 1).sum() == pytest.approx(160 * 120 / 4 - 400)


def test_what_lies_within_an_area_is_drawn_over_it(tmp_path: Path, slide: Path) -> None:
    drawn(tmp_path, [rectangle(320, 320, 360, 360, "c"), rectangle(300, 300, 460, 420, "b")])
    task = task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [a, b, c]")
    masks = np.stack([p.mask for p in all_pictures(task) if p.mask is not None])
    assert ((masks == 2).sum(), (masks == 1).sum()) == (400, 160 * 120 // 4 - 400)


def test_where_class_0_is_drawn_the_rest_is_unknown(tmp_path: Path, slide: Path) -> None:
    drawn(tmp_path, [rectangle(0, 0, 256, 256, "rest"), rectangle(300, 300, 460, 420, "dark")])
    task = task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [rest, dark]")
    masks = np.stack([p.mask for p in all_pictures(task) if p.mask is not None])
    assert {0, 1, IGNORED} == set(np.unique(masks))
    assert (masks == 0).sum() == 256 * 256 // 4


def test_a_mask_of_the_whole_slide(tmp_path: Path, slide: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    for left, top, right, bottom in SQUARES:
        mask[top // 4 : bottom // 4, left // 4 : right // 4] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pictures = all_pictures(task_of(tmp_path, listed(tmp_path, slide, "mask.png") + ", classes: [rest, dark]"))
    assert len(pictures) == 64
    found, truth = (np.stack(parts) for parts in zip(*((p.mask == 1, dark(p)) for p in pictures), strict=True))
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    Image.fromarray(mask[:128]).save(tmp_path / "mask.png")
    with pytest.raises(SetupError, match="do not have the shape of the slide"):
        all_pictures(task_of(tmp_path, listed(tmp_path, slide, "mask.png") + ", classes: [rest, dark]"))


def coco(folder: Path, slide: Path, boxes: list[list[float]], side: int = 1024) -> str:
    image = {"id": 1, "file_name": str(slide), "width": side, "height": side, "patient": "p", "split": "train"}
    notes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    content = {"images": [image], "annotations": notes, "categories": [{"id": 1, "name": "dark"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    return "type: detection, coco: coco.json, mpp: 1.0"


def test_boxes_on_a_slide(tmp_path: Path, slide: Path) -> None:
    boxes: list[list[float]] = [[a, b, c - a, d - b] for a, b, c, d in SQUARES]
    pictures = all_pictures(task_of(tmp_path, coco(tmp_path, slide, boxes)))
    assert 4 <= len(pictures) <= 10
    for picture in pictures:
        assert picture.boxes is not None and len(picture.boxes.corners) == 1
        left, top, right, bottom = np.clip(picture.boxes.corners[0], 0, SIDE)
        rows, columns = np.nonzero(dark(picture))
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [left, top, right, bottom] == pytest.approx(seen, abs=1.01)


def test_boxes_outside_of_the_slide_are_refused(tmp_path: Path, slide: Path) -> None:
    with pytest.raises(SetupError, match="the image has 1024 x 1024 pixels"):
        all_pictures(task_of(tmp_path, coco(tmp_path, slide, [[3000, 3000, 50, 50], [10, 10, 50, 50]], 4096)))


def test_a_folder_of_slides_with_outlines(tmp_path: Path, slide: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / f"{name}.tif").symlink_to(slide)
        if name != "e":
            drawn(tmp_path, [rectangle(*square, "", objectType="detection") for square in SQUARES], f"{name}.geojson")
    text = 'type: detection, slides: ., annotations: "*.geojson", mpp: 1.0, classes: [dark]'
    task = task_of(tmp_path, text)
    examples = (*task.train, *task.heldout)
    assert sorted(example.source.id for example in examples) == ["a", "b", "c", "d"]
    assert examples[0].boxes is not None
    assert np.array_equal(examples[0].boxes.corners, np.array(SQUARES, np.float32))
    masks = task_of(tmp_path, 'type: segmentation, slides: ., annotations: "**/*.geojson", classes: [rest, dark]')
    assert len(masks.train) + len(masks.heldout) == 4


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([rectangle(300, 300, 460, 420, "stroma")], "an area of class 'stroma'"),
        ([], "no polygon in it"),
        ([rectangle(300, 300, float("nan"), 420, "dark")], "not the GeoJSON"),
        ([rectangle(5000, 5000, 5100, 5100, "dark")], "has no region to train on"),
    ],
)
def test_faults_of_areas(tmp_path: Path, slide: Path, features: list[dict[str, Any]], said: str) -> None:
    drawn(tmp_path, features)
    with pytest.raises(SetupError, match=said) as fault:
        all_pictures(task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [rest, dark]"))
    assert fault.value.remedy and "task a" in str(fault.value)


@pytest.mark.parametrize(
    "points",
    [
        [[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300], [-1e300, 1e300]],
        [[300, 300], [460, 420], [460, 300], [300, 420]],  # crosses itself
        [[300, 300], [300, 300], [300, 300]],  # no area
        [[-50, -50], [5000, -50], [5000, 5000], [-50, 5000]],
        [[300.4, 300], [300.6, 300], [300.5, 900]],  # thinner than a pixel
    ],
)
def test_strange_polygons_are_read_as_far_as_they_lie_on_the_slide(
    tmp_path: Path, slide: Path, points: list[list[float]]
) -> None:
    area = rectangle(0, 0, 1, 1, "dark")
    area["geometry"]["coordinates"] = [[*points, points[0]]]
    drawn(tmp_path, [area])
    pictures = all_pictures(task_of(tmp_path, listed(tmp_path, slide, "one.geojson") + ", classes: [rest, dark]"))
    assert 1 <= len(pictures) <= 64
    assert all(p.mask is not None and set(np.unique(p.mask)) <= {0, 1} for p in pictures)


def test_areas_on_a_flat_image(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 200, np.uint8)
    pixels[10:30, 20:50] = 20
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    drawn(tmp_path, [rectangle(20, 10, 50, 30, "dark")])
    task = task_of(tmp_path, listed(tmp_path, tmp_path / "patch.png", "one.geojson") + ", classes: [rest, dark]")
    (picture,) = all_pictures(task)
    assert picture.mask is not None
    assert np.array_equal(picture.mask == 1, dark(picture))
