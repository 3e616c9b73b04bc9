"""Real smears, stained fields and fluorescence for ``tissue.py``: photographs laid side by side on drawn glass.

No whole slide of a smear was at hand, but photographs of fields and of cells were. They are brought to 1 µm/px by the
scale of a red cell (7.5 µm) or of a nucleus (about 10 µm), laid on glass of their own colour, averaged to 8 µm/px.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from tissue_cases import EITHER, MPP, Case

RGB = npt.NDArray[np.uint8]

_SIDE = 4096  # µm, and pixels of the canvas
_REACH = 100.0


def smears(shared: Path) -> Iterator[Case]:
    """Every case whose photographs are there."""
    blood = shared / "pretrain" / "bccd_blood"
    if blood.is_dir():
        fields = [_opened(path) for path in _listed(blood, "path", "")]
        yield _filled("real: blood smear, fields of red and white cells", fields, 48 / 256)
        yield _filled("real: the same, scanned in grey", [_grey(field) for field in fields], 48 / 256, recall=0.9)
    malaria = shared / "data" / "labelled" / "malaria"
    if malaria.is_dir():
        cells = [_opened(path) for path in _listed(malaria, "file", "")]
        yield _strewn("real: red cells of a malaria smear, dense (grey)", cells, 7.5 / 50, 40_000, recall=0.9)
    nuclei = shared / "pretrain" / "dsb2018_nuclei"
    if nuclei.is_dir():
        yield from _nuclei(nuclei)


def _nuclei(folder: Path) -> Iterator[Case]:
    stained = [_opened(path) for path in _listed(folder, "path", "stained_bright")]
    yield _filled("real: stained fields (DSB 2018)", stained, 0.5)
    for kind, name, recall in (
        ("grey_dark", "real: fluorescence, fields of lone nuclei (DSB 2018)", 0.9),
        ("grey_bright", "real: grey cells in bright field (DSB 2018)", 0.85),
    ):
        with (folder / "labels.csv").open(encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["label"] == kind]
        fields = [_opened(folder / row["path"]) for row in rows]
        masks = [np.asarray(Image.open(folder / row["mask"])) > 0 for row in rows]
        yield _fields(name, fields, masks, 0.65, recall=recall)


def _listed(folder: Path, column: str, label: str) -> list[Path]:
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if not label or row["label"] == label]
    paths = [folder / row[column] for row in rows]
    return [path for path in paths if path.is_file()]


def _opened(path: Path) -> RGB:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _grey(field: RGB) -> RGB:
    luma = np.rint(field @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def _scaled(image: npt.NDArray[np.generic], mpp: float) -> npt.NDArray[np.generic]:
    """To 1 µm/px."""
    height, width = (max(1, round(side * mpp)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _glass(fields: Sequence[RGB], share: float) -> npt.NDArray[np.float64]:
    """The colour of what is empty in the fields."""
    sample = np.concatenate([field[::7, ::7].reshape(-1, 3) for field in fields[:60]])
    level = np.percentile(sample.sum(axis=1), share)
    near = sample[np.abs(sample.sum(axis=1) - level) < 12]
    return np.asarray(np.median(near, axis=0), float)


def _canvas(glass: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(0)
    canvas = np.ones((_SIDE, _SIDE, 3), np.float32) * glass.astype(np.float32)
    canvas += generator.normal(0, 1.5, (_SIDE, _SIDE, 1)).astype(np.float32)
    return canvas


def _thumbnail(canvas: npt.NDArray[np.float32]) -> RGB:
    step = int(MPP)
    small = canvas.reshape(_SIDE // step, step, _SIDE // step, step, 3).mean(axis=(1, 3))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _places(height: int, width: int, side: int) -> Iterator[tuple[int, int]]:
    begin = (_SIDE - side) // 2
    for top in range(begin, begin + side - height, height):
        for left in range(begin, begin + side - width, width):
            yield top, left


def _filled(name: str, fields: Sequence[RGB], mpp: float, *, recall: float = 0.95) -> Case:
    """Fields side by side over 2 mm: all of it is specimen."""
    canvas = _canvas(_glass(fields, 97))
    wanted = np.zeros((_SIDE, _SIDE), bool)
    small = [_scaled(field, mpp) for field in fields]
    height, width = (min(image.shape[axis] for image in small) for axis in (0, 1))
    for k, (top, left) in enumerate(_places(height, width, 2000)):
        canvas[top : top + height, left : left + width] = small[k % len(small)][:height, :width]
        wanted[top : top + height, left : left + width] = True
    truth = wanted[:: int(MPP), :: int(MPP)].astype(np.uint8)
    rim = ndimage.binary_dilation(truth, iterations=5) & ~ndimage.binary_erosion(truth, iterations=5)
    truth[rim] = EITHER
    return Case(name, _thumbnail(canvas), truth, 0.95, recall)


def _fields(
    name: str, fields: Sequence[RGB], masks: Sequence[npt.NDArray[np.bool_]], mpp: float, *, recall: float
) -> Case:
    """Fields with outlined nuclei: nuclei are asked for, what lies near one may count, the rest must not."""
    canvas = _canvas(np.zeros(3) + np.median([np.median(field) for field in fields]))
    wanted = np.zeros((_SIDE, _SIDE), bool)
    pairs = [(_scaled(field, mpp), _scaled(mask, mpp)) for field, mask in zip(fields, masks, strict=True)]
    height, width = (min(image.shape[axis] for image, _ in pairs) for axis in (0, 1))
    for k, (top, left) in enumerate(_places(height, width, 3000)):
        image, mask = pairs[k % len(pairs)]
        canvas[top : top + height, left : left + width] = image[:height, :width]
        wanted[top : top + height, left : left + width] = mask[:height, :width]
    return _asked(name, canvas, wanted, recall, 0.9, reach=150.0)


def _strewn(name: str, cells: Sequence[RGB], mpp: float, count: int, *, recall: float) -> Case:
    """Cut-out cells on black, strewn over a disc of glass."""
    generator = np.random.default_rng(1)
    canvas = _canvas(np.array([225.0, 225.0, 225.0]))
    wanted = np.zeros((_SIDE, _SIDE), bool)
    small = [_scaled(cell, mpp) for cell in cells]
    for angle, share in zip(generator.uniform(0, 2 * np.pi, count), generator.uniform(0, 1, count), strict=True):
        image = small[int(generator.integers(len(small)))]
        reach = 1200 * np.sqrt(share)
        top, left = (int(_SIDE / 2 + reach * turn) for turn in (np.sin(angle), np.cos(angle)))
        inside = image.min(axis=2) > 60
        canvas[top : top + image.shape[0], left : left + image.shape[1]][inside] = image[inside]
    y, x = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2
    wanted = np.hypot(x, y) < 1150
    truth = wanted[:: int(MPP), :: int(MPP)].astype(np.uint8)
    rim = ndimage.binary_dilation(truth, iterations=12) & ~truth.astype(bool)
    truth[rim] = EITHER
    return Case(name, _thumbnail(canvas), truth, 0.95, recall)


def _asked(
    name: str,
    canvas: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.bool_],
    recall: float,
    precision: float,
    reach: float,
) -> Case:
    step = int(MPP)
    share = wanted.reshape(_SIDE // step, step, _SIDE // step, step).mean(axis=(1, 3))
    nuclei = share > 0.3
    truth = nuclei.astype(np.uint8)
    near = ndimage.distance_transform_edt(~nuclei) * MPP <= reach
    truth[near & ~nuclei] = EITHER
    return Case(name, _thumbnail(canvas), truth, precision, recall)
