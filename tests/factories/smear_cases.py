"""Drawn smears and cytology: stained cells that lie alone on glass, and what looks like them.

Of lone cells the cells themselves are asked for; glass within 100 µm of one may count as tissue or not, the rest must
not.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from tissue_cases import EITHER, MPP, PINK, PURPLE, SIZE, Case, Slide

Bool = npt.NDArray[np.bool_]

_FINE = 8  # cells are drawn at 1 µm/px
_REACH = 100.0


def strewn(
    slide: Slide, count: int, radius: float, colour: tuple[int, int, int], *, within: Bool | None = None
) -> Bool:
    """Cells of some micrometres anywhere on the slide (or within an area); the pixels that one covers a bit."""
    cover = np.zeros(SIZE)
    reach = int(radius) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.hypot(x, y) <= radius
    places = np.argwhere(np.ones(SIZE, bool) if within is None else within)
    for row, column in places[slide.rng.integers(0, len(places), count)]:
        top, left = slide.rng.integers(0, _FINE, 2)
        patch = np.zeros((4 * _FINE, 4 * _FINE))
        begin_y, begin_x = _FINE + top - reach, _FINE + left - reach
        patch[max(0, begin_y) : begin_y + 2 * reach + 1, max(0, begin_x) : begin_x + 2 * reach + 1] = disc[
            max(0, -begin_y) :, max(0, -begin_x) :
        ][: 4 * _FINE - max(0, begin_y), : 4 * _FINE - max(0, begin_x)]
        small = patch.reshape(4, _FINE, 4, _FINE).mean(axis=(1, 3))
        rows, columns = (
            slice(max(0, row - 1), min(SIZE[0], row + 3)),
            slice(max(0, column - 1), min(SIZE[1], column + 3)),
        )
        cover[rows, columns] = np.maximum(
            cover[rows, columns],
            small[rows.start - row + 1 :, columns.start - column + 1 :][
                : rows.stop - rows.start, : columns.stop - columns.start
            ],
        )
    light = np.asarray(colour, float) / 255.0
    slide.image *= 1 - cover[..., None] * (1 - light)
    return cover > 0.3


def _smear(
    name: str, cells: Bool, slide: Slide, *, precision: float = 0.95, recall: float = 0.95, reach: float = _REACH
) -> Case:
    """The thumbnail of a scan whose JPEG has 2 µm/px: at 8 µm/px the colour of a lone cell would be lost in it."""
    fine = np.repeat(np.repeat(slide.image, 4, axis=0), 4, axis=1)
    fine += slide.rng.normal(0, 2 * slide.noise, fine.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    image = np.asarray(Image.open(buffer).convert("RGB").reduce(4))
    truth = (slide.tissue | cells).astype(np.uint8)
    near = ndimage.distance_transform_edt(truth == 0) * MPP <= reach
    truth[near & (truth == 0)] = EITHER
    truth[slide.either] = EITHER
    return Case(name, image, truth, precision, recall)


def lone_cells() -> Case:
    slide = Slide(60)
    return _smear("300 lone stained cells", strewn(slide, 300, 8, (110, 80, 150)), slide)


def few_lone_cells() -> Case:
    slide = Slide(61)
    return _smear("40 lone stained cells", strewn(slide, 40, 9, (110, 80, 150)), slide)


def pale_lone_cells() -> Case:
    slide = Slide(62, glass=(236, 238, 236))
    return _smear("300 lone pale cells (Papanicolaou)", strewn(slide, 300, 14, (170, 205, 205)), slide)


def orange_lone_cells() -> Case:
    slide = Slide(63)
    cells = strewn(slide, 150, 12, (225, 150, 95)) | strewn(slide, 150, 12, (125, 180, 185))
    return _smear("lone cells of two stains (Papanicolaou)", cells, slide)


def monolayer() -> Case:
    slide = Slide(64)
    area = slide.blob(256, 320, 170)
    strewn(slide, int(area.sum() * MPP**2 * 0.006), 3.5, (215, 130, 135), within=area)
    slide.tissue |= area
    return slide.finish("blood smear, monolayer of red cells", rim=12, recall=0.9)


def cells_beside_dust() -> Case:
    slide = Slide(65)
    specks = slide.discs(slide.rng.uniform((0, 0), SIZE, (150, 2)), slide.rng.uniform(1, 2.5, 150))
    slide.paint(specks, (110, 108, 105), 0.8)
    cells = strewn(slide, 200, 8, (110, 80, 150))
    slide.either |= specks
    return _smear("lone cells among dust", cells & ~specks, slide)


def cells_beside_ink() -> Case:
    slide = Slide(66)
    slide.stroke([(60, 40), (90, 300), (60, 600)], 16, (60, 70, 190))
    low = np.zeros(SIZE, bool)
    low[200:] = True
    return _smear("lone cells below a blue pen", strewn(slide, 200, 8, (110, 80, 150), within=low), slide)


def clump_and_cells() -> Case:
    slide = Slide(67)
    clump = slide.blob(250, 300, 22)
    slide.tissue_of(clump, PINK, PURPLE)
    cells = strewn(slide, 250, 8, (110, 80, 150))
    return _smear("a clump of cells, and lone ones", cells | clump, slide, recall=0.94)


def tinted_cells() -> Case:
    slide = Slide(68, glass=(240, 232, 214))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    slide.image *= (1 - 0.00000045 * ((y - 256) ** 2 + (x - 320) ** 2))[..., None]
    return _smear("lone cells on tinted, vignetted glass", strewn(slide, 200, 8, (110, 80, 150)), slide)


def frozen() -> Case:
    slide = Slide(69)
    area = slide.blob(250, 250, 150) | slide.blob(330, 500, 70)
    crystals = ndimage.binary_dilation(slide.waves(3) > 1.6)
    slide.tissue_of(area & ~crystals, (225, 170, 205), (140, 90, 160), nuclei=0.25)
    slide.tissue |= area
    return slide.finish("frozen section with ice crystals", recall=0.94)


def pale_dab() -> Case:
    slide = Slide(70, glass=(240, 240, 238))
    slide.tissue_of(slide.blob(260, 260, 150), (232, 234, 238), (185, 195, 215), nuclei=0.25)
    return slide.finish("IHC negative, very pale counterstain", recall=0.9)


def black_silver() -> Case:
    slide = Slide(71, glass=(238, 238, 238))
    slide.tissue_of(slide.blob(250, 260, 150), (215, 214, 212), (60, 58, 56), nuclei=0.5)
    return slide.finish("silver, black on grey")


def lone_nuclei() -> Case:
    slide = Slide(72, glass=(4, 4, 4), noise=1.5)
    cover = np.zeros(SIZE)
    places = slide.rng.integers((4, 4), (SIZE[0] - 4, SIZE[1] - 4), (400, 2))
    for row, column in places:
        cover[row : row + 2, column : column + 2] = 1
    slide.image += ndimage.gaussian_filter(cover, 0.5)[..., None] * np.array((30, 40, 160.0))
    return _smear("lone nuclei, DAPI", cover > 0.5, slide, precision=0.9, recall=0.85, reach=150)


def dirt() -> Case:
    slide = Slide(73)
    specks = slide.discs(slide.rng.uniform((0, 0), SIZE, (60, 2)), slide.rng.uniform(1, 3, 60))
    slide.paint(specks, (110, 108, 105), 0.8)
    strewn(slide, 4, 8, (110, 80, 150))
    return slide.finish("empty glass with grey dust and four coloured specks")


SMEARS: tuple[Callable[[], Case], ...] = (
    lone_cells, few_lone_cells, pale_lone_cells, orange_lone_cells, monolayer, cells_beside_dust, cells_beside_ink,
    clump_and_cells, tinted_cells, frozen, pale_dab, black_silver, lone_nuclei, dirt,
)  # fmt: skip


def smear_cases(shift: int = 0) -> Iterator[Case]:
    """All of them; with another ``shift`` drawn anew."""
    for draw in SMEARS:
        Slide.shift = shift
        try:
            yield draw()
        finally:
            Slide.shift = 0
