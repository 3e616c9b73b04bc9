"""Precision and recall of the tissue mask, case by case, beside Otsu's threshold on the saturation.

    python benchmarks/tissue.py                         print the table
    python benchmarks/tissue.py --write                 write benchmarks/tissue.md and benchmarks/tissue.jpg

Drawn cases come from tests/factories/tissue_cases.py and smear_cases.py. Real slides are looked for in ../shared/data;
their truth was outlined by eye at 4 µm/px, with a rim of 40 µm and the empty cavities left out of the count. Smears and
stained fields are photographs laid side by side (tissue_smears.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide
import tifffile
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "factories"), str(ROOT)]

from smear_cases import smear_cases  # noqa: E402
from tissue_cases import EITHER, MPP, Case, cases, score  # noqa: E402
from tissue_smears import smears  # noqa: E402

from umedfeat.readers.slides.polygons import fill_polygon  # noqa: E402
from umedfeat.readers.slides.tissue import tissue_mask  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
Mask = npt.NDArray[np.bool_]

# Level-0 pixels of CMU-1-Small-Region.svs, outlined by eye.
CMU_TISSUE = [
    (1060, 70), (1180, 150), (1320, 210), (1400, 340), (1500, 430), (1590, 580), (1610, 750), (1610, 1000),
    (1400, 1080), (1290, 1250), (1210, 1600), (1340, 1840), (1500, 1650), (1760, 1320), (1800, 1380), (1780, 1450),
    (1620, 1620), (1530, 1720), (1480, 1830), (1600, 1850), (1760, 1800), (1860, 1850), (1830, 1950), (1840, 2150),
    (1880, 2250), (1850, 2330), (1870, 2440), (1790, 2450), (1770, 2560), (1730, 2700), (1700, 2967), (540, 2967),
    (510, 2700), (590, 2550), (700, 2400), (770, 2050), (830, 1700), (880, 1300), (870, 1120), (600, 1090),
    (300, 1140), (70, 1150), (70, 1130), (400, 1030), (560, 1005), (800, 1075), (860, 1080), (920, 900), (950, 750),
    (980, 620), (960, 500), (820, 510), (830, 495), (960, 470), (920, 350), (870, 200), (790, 250), (830, 160),
    (930, 170), (1000, 140),
]  # fmt: skip
CMU_EITHER = [
    [
        (1210, 1600), (1290, 1250), (1400, 1080), (1610, 1000), (1730, 950), (2000, 1330), (1890, 1420),
        (1760, 1330), (1500, 1650), (1340, 1840),
    ],
    [(1090, 300), (1300, 360), (1480, 430), (1450, 600), (1330, 760), (1350, 640), (1180, 580), (1150, 450)],
    [(1480, 1830), (1560, 1650), (1700, 1600), (1750, 1800)],
]  # fmt: skip


def real_cases() -> Iterator[Case]:
    """Thumbnails of real slides at 8 µm/px."""
    path = DATA / "wsi" / "CMU-1-Small-Region.svs"
    if path.exists():
        with openslide.OpenSlide(path) as slide:
            image = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB").reduce(16))
        outline, *cavities = (np.array(ring, float) / 16 for ring in [CMU_TISSUE, *CMU_EITHER])
        truth = _with_rim(fill_polygon([outline], image.shape[:2]))
        for cavity in cavities:
            truth[fill_polygon([cavity], image.shape[:2])] = EITHER
        yield Case("real: skin, H&E (Aperio SVS)", image, truth)
        yield _scanned_field(image, truth)
    path = DATA / "wsi" / "test3-DAPI-2-(387).ndpi"
    if path.exists():
        with openslide.OpenSlide(path) as slide:
            image = np.asarray(slide.get_thumbnail((139, 139)).convert("RGB"))
        height, width = image.shape[:2]
        ring = np.array([(0, 0), (1, 0), (1, 0.91), (0.5, 0.895), (0.2, 0.83), (0, 0.80)]) * (width, height)
        truth = _with_rim(fill_polygon([ring], (height, width)), rim=8)
        truth[: height // 4, : width // 8] = EITHER
        yield Case("real: skin, DAPI (Hamamatsu NDPI)", image, truth, 0.9, 0.9)
    for name, path, mpp in (
        ("real: colon, IHC, fills the image", DATA / "images" / "ihc.png", 2.0),
        ("real: H&E, fills the image (OME-TIFF)", DATA / "wsi" / "OS-1-detail.ome.tif", 0.227),
    ):
        if path.exists():
            pixels = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path).convert("RGB"))
            if pixels.shape[0] == 3:
                pixels = np.moveaxis(pixels, 0, 2)
            size = [max(1, round(side * mpp / MPP)) for side in pixels.shape[1::-1]]
            image = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
            yield Case(name, image, np.ones(image.shape[:2], np.uint8))


def _scanned_field(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> Case:
    """The real section in the black field of a scanner that saves only what it scanned."""
    canvas, wanted = np.zeros((400, 500, 3), np.uint8), np.zeros((400, 500), np.uint8)
    place = np.s_[100 : 100 + image.shape[0], 180 : 180 + image.shape[1]]
    canvas[place], wanted[place] = image, truth
    return Case("real: the same in a black field", canvas, wanted)


def _with_rim(tissue: Mask, rim: int = 5) -> npt.NDArray[np.uint8]:
    truth = tissue.astype(np.uint8)
    near = ndimage.binary_dilation(tissue, iterations=rim) & ~ndimage.binary_erosion(
        tissue, iterations=rim, border_value=1
    )
    truth[near] = EITHER
    return truth


def otsu(image: npt.NDArray[np.uint8]) -> Mask:
    """The usual recipe: saturation, median filter, Otsu's threshold, closing."""
    most, least = image.max(axis=2).astype(float), image.min(axis=2).astype(float)
    saturation = ndimage.median_filter(np.divide(most - least, most, out=np.zeros_like(most), where=most > 0) * 255, 7)
    counts = np.bincount(saturation.astype(np.uint8).ravel(), minlength=256).astype(float)
    below, mean = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mean / below - (mean[-1] - mean) / above) ** 2
    return ndimage.binary_closing(saturation > np.nanargmax(np.nan_to_num(between)), np.ones((4, 4)))


def main() -> None:
    """Run all cases, print the table, write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--redrawn", type=int, default=10, help="how often the drawn cases are drawn anew")
    options = parser.parse_args()
    lines = [
        "| case | precision | recall | coverage | expected | Otsu precision | Otsu recall |",
        "|---|---|---|---|---|---|---|",
    ]
    pictures, passed, beside, every = [], 0, 0, [*cases(), *smear_cases(), *real_cases(), *smears(DATA.parent)]
    for case in every:
        mask = tissue_mask(case.image, MPP)
        got, other = score(mask, case.truth), score(otsu(case.image), case.truth)
        expected = (case.truth == 1).mean(), (case.truth != 0).mean()
        passed += (good := got.precision >= case.precision and got.recall >= case.recall)
        beside += other.precision >= case.precision and other.recall >= case.recall
        name = case.name if good else f"{case.name} **missed**"
        lines.append(
            f"| {name} | {got.precision:.3f} | {got.recall:.3f} | {got.coverage:.3f} "
            f"| {expected[0]:.3f}–{expected[1]:.3f} | {other.precision:.3f} | {other.recall:.3f} |"
        )
        pictures.append(_picture(case, mask))
    verdict = f"{passed} of {len(every)} cases reach what is asked of them (Otsu on the saturation: {beside})."
    speed = "\n".join(_speed())
    unseen = "\n".join(_unseen(range(1, 1 + options.redrawn)))
    print("\n".join(lines), verdict, unseen, speed, sep="\n\n")
    if options.write:
        text = HEAD.format(table="\n".join(lines), verdict=verdict, speed=speed, unseen=unseen)
        (ROOT / "benchmarks" / "tissue.md").write_text(text, encoding="utf-8")
        _sheet(pictures).save(ROOT / "benchmarks" / "tissue.jpg", quality=80)


HEAD = """# Tissue mask: precision and recall, case by case

`python benchmarks/tissue.py --write` wrote this page and `tissue.jpg` (each case beside its mask).

Precision: share of the mask that is tissue. Recall: share of the tissue that is in the mask. Pixels with no right
answer (a rim of 24 µm, ink over tissue, small tears, glass within 100 to 150 µm of a lone cell) do not count; 1.000
also where nothing is there and nothing is claimed. Expected coverage: without and with those pixels. Drawn cases are
512 × 640 pixels at 8 µm/px with noise and JPEG; they share the textures of stains, not their biology. Real cases were
outlined by eye; real smears, stained and fluorescent fields are photographs (BCCD, NIH malaria, Data Science Bowl 2018)
laid side by side on drawn glass, at a scale told by the size of their cells.

{table}

{verdict}

## The same kinds of slides, drawn anew

The numbers of the mask were chosen while looking at the cases above, so these guard against regressions and do not
estimate an error rate. Drawn anew with other shapes and noise, which nobody looked at:

{unseen}

## Limits

- No slide with a real pen mark was at hand: ink is drawn. Strokes of 100 µm and wider are taken out, 64 µm lines are
  not. Translucent ink over tissue may count as tissue or not.
- Ink is told from blue and green stains by its smoothness; a stain that is smooth from pixel to pixel over hundreds of
  micrometres would be taken for ink. `--mask-dir` or `--tissue none` overrule the mask.
- Without any colour, lone cells and dust look alike: grey cells are found where they lie densely. A thumbnail that was
  itself stored as JPEG with halved colour at 8 µm/px has lost the colour of a cell of 16 µm.
- Fewer than 12 lone cells are taken for dirt: a slide with so few is empty, and named so.
- Holes wider than 200 µm are glass, gaps up to 64 µm belong to the tissue, islands below 0.015 mm² are debris.

## Time

{speed}
"""


def _unseen(shifts: range) -> Iterator[str]:
    worst: dict[str, tuple[float, float]] = {}
    missed = total = 0
    for shift in shifts:
        for case in (*cases(shift), *smear_cases(shift)):
            got = score(tissue_mask(case.image, MPP), case.truth)
            total += 1
            if got.precision < case.precision or got.recall < case.recall:
                missed += 1
                before = worst.get(case.name, (1.0, 1.0))
                worst[case.name] = min(before[0], got.precision), min(before[1], got.recall)
    yield f"{total - missed} of {total} reach what is asked of them." + (
        " Worst of those that do not:\n" if worst else ""
    )
    for name, (precision, recall) in sorted(worst.items()):
        yield f"- {name}: precision {precision:.3f}, recall {recall:.3f}"


def _speed() -> Iterator[str]:
    image = next(cases()).image
    for tiles in ((4, 3), (8, 6)):
        large = np.tile(image, (*tiles, 1))
        taken = []
        for _ in range(7):
            begin = time.process_time()
            tissue_mask(large, MPP)
            taken.append(time.process_time() - begin)
        yield f"- {large.shape[1]} × {large.shape[0]} pixels: {np.median(taken):.2f} s of one core (median of 7)"


def _picture(case: Case, mask: Mask) -> Image.Image:
    washed = case.image.copy()
    washed[~mask] = (washed[~mask] * 0.5 + (40 if washed.mean() < 60 else 0)).astype(np.uint8)
    washed[ndimage.binary_dilation(mask) ^ mask] = (0, 158, 115)
    cell = Image.new("RGB", (400, 184), (255, 255, 255))
    pair = Image.fromarray(np.concatenate([case.image, washed], axis=1))
    pair.thumbnail((400, 160))
    cell.paste(pair, (0, 0))
    ImageDraw.Draw(cell).text((3, 163), case.name, fill=(30, 30, 30), font=ImageFont.load_default(14))
    return cell


def _sheet(pictures: list[Image.Image], columns: int = 4) -> Image.Image:
    page = Image.new("RGB", (columns * 410, -(-len(pictures) // columns) * 190), (255, 255, 255))
    for k, picture in enumerate(pictures):
        page.paste(picture, (k % columns * 410, k // columns * 190))
    return page


if __name__ == "__main__":
    main()
