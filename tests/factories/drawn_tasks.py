"""Labelled tasks whose answer is known: squares and discs on noise, with classes, masks and boxes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

__all__ = ["draw_images", "write_tasks"]

SIDE = 64


def draw_images(folder: Path, *, patients: int = 12, each: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    """Images ``p<patient>_<k>.png`` with a bright square or disc, and masks; a third of the patients is held out."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for patient in range(patients):
        for k in range(each):
            kind = ("square", "disc")[(patient + k) % 2]
            name = f"p{patient:02d}_{k}.png"
            mask, box = _shape(rng, kind)
            picture = np.clip(rng.normal(70, 20, (SIDE, SIDE)) + 110 * (mask > 0), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / "images" / name)
            Image.fromarray(mask).save(folder / "masks" / name)
            split = "heldout" if patient % 3 == 2 else "train"
            rows.append(
                {"path": f"images/{name}", "label": kind, "patient": f"p{patient:02d}", "split": split}
                | {"mask": f"masks/{name}", "size": str(box[2]), "bright": str(int(kind == "square")), "box": box}
            )
    _write_manifest(folder / "labels.csv", rows)
    _write_coco(folder / "coco.json", rows)
    return rows


def write_tasks(path: Path, folder: Path, *types: str, **changes: Any) -> Path:
    """A task file with one task of each type (repeated types get numbers); ``changes`` go into the first one."""
    entries = []
    for number, kind in enumerate(types):
        entry: dict[str, Any] = {"name": f"{kind}{number}", "type": kind, "batch": 4}
        entry["coco" if kind == "detection" else "labels"] = str(
            folder / ("coco.json" if kind == "detection" else "labels.csv")
        )
        if kind == "segmentation":
            entry["classes"] = ["background", "square", "disc"]
        if kind == "regression":
            entry["label"] = "size"
        if kind == "multilabel":
            entry["label"] = "bright"
        entries.append(entry)
    entries[0] |= changes
    path.write_text(yaml.safe_dump({"tasks": entries}), encoding="utf-8")
    return path


def _shape(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, list[int]]:
    side = int(rng.integers(18, 30))
    left, top = (int(rng.integers(4, SIDE - side - 4)) for _ in range(2))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if kind == "square":
        mask[top : top + side, left : left + side] = 1
    else:
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5
        mask[(x - left - side / 2) ** 2 + (y - top - side / 2) ** 2 < (side / 2) ** 2] = 2
    return mask, [left, top, side, side]


def _write_manifest(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = [column for column in rows[0] if column != "box"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _write_coco(path: Path, rows: list[dict[str, Any]]) -> None:
    images, notes = [], []
    for number, row in enumerate(rows):
        facts = {"id": number, "file_name": row["path"], "width": SIDE, "height": SIDE}
        images.append(facts | {"patient": row["patient"], "split": row["split"]})
        kind = 1 if row["label"] == "square" else 2
        notes.append({"id": number, "image_id": number, "category_id": kind, "bbox": row["box"], "iscrowd": 0})
    kinds = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": kinds}), encoding="utf-8")
