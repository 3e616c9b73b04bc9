"""Drawn slides with known tissue: the hard cases of a tissue mask, shared by the tests and the benchmark.

Every case is a thumbnail at 8 µm/px with its truth: 1 tissue, 0 none, 2 where either answer is right (the rim of the
tissue, ink over tissue). The colours are those of real stains; the textures are noise at the scale of nuclei (one or
two pixels) and of tissue architecture (tens of pixels).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

MPP = 8.0
SIZE = (512, 640)
EITHER = 2

Rgb = npt.NDArray[np.uint8]
Colour = Sequence[float]
Bool = npt.NDArray[np.bool_]


class Case(NamedTuple):
    """One drawn slide. ``truth``: (H, W) uint8 of 0, 1 and EITHER. ``precision``, ``recall``: what is asked."""

    name: str
    image: Rgb
    truth: npt.NDArray[np.uint8]
    precision: float = 0.95
    recall: float = 0.95


class Score(NamedTuple):
    """Precision and recall over the pixels that have one right answer; 1 where nothing was asked or claimed."""

    precision: float
    recall: float
    coverage: float


def score(mask: Bool, truth: npt.NDArray[np.uint8]) -> Score:
    """Compare a mask with the truth of a case."""
    asked = truth != EITHER
    hit = int((mask & (truth == 1)).sum())
    claimed, present = int((mask & asked).sum()), int((truth == 1).sum())
    return Score(hit / claimed if claimed else 1.0, hit / present if present else 1.0, float(mask.mean()))


class Slide:
    """A slide being drawn: an image in 0..255 floats and the tissue on it.

    ``shift`` draws the same cases with other noise and shapes.
    """

    shift: ClassVar[int] = 0

    def __init__(self, seed: int, glass: Colour = (243, 242, 244), noise: float = 1.5) -> None:
        self.rng = np.random.default_rng(seed + 1000 * self.shift)
        self.image = np.ones((*SIZE, 3)) * np.asarray(glass, float)
        self.noise = noise
        self.tissue = np.zeros(SIZE, bool)
        self.either = np.zeros(SIZE, bool)

    def waves(self, scale: float) -> npt.NDArray[np.float64]:
        """Smooth noise of unit variance; ``scale`` in pixels."""
        coarse = max(1, int(scale // 3))
        shape = tuple(-(-side // coarse) for side in SIZE)
        noise = ndimage.gaussian_filter(self.rng.normal(size=shape), scale / coarse, mode="wrap")
        if coarse > 1:
            noise = ndimage.zoom(noise, coarse, order=1)[: SIZE[0], : SIZE[1]]
        return noise / noise.std()  # type: ignore[no-any-return]

    def blob(self, y: float, x: float, radius: float, ragged: float = 0.15) -> Bool:
        """A disc with an irregular rim."""
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        distance = np.hypot(rows - y, columns - x) / radius
        return distance + ragged * self.waves(max(2.0, radius / 4)) < 1.0

    def discs(self, places: npt.ArrayLike, radii: npt.ArrayLike) -> Bool:
        """Many discs with slightly irregular rims at once; the radius of each in pixels."""
        area = np.zeros(SIZE, bool)
        ragged = 0.07 * self.waves(5)
        for (y, x), radius in zip(np.asarray(places, float), np.asarray(radii, float), strict=True):
            top, left = (max(0, int(c - 1.5 * radius)) for c in (y, x))
            rows, columns = np.mgrid[top : int(y + 1.5 * radius) + 1, left : int(x + 1.5 * radius) + 1]
            rows, columns = rows[: SIZE[0] - top, : SIZE[1] - left], columns[: SIZE[0] - top, : SIZE[1] - left]
            inside = np.hypot(rows - y, columns - x) / radius + ragged[rows, columns] < 1
            area[rows, columns] |= inside
        return area

    def paint(self, area: Bool, colour: npt.NDArray[np.float64] | Colour, opacity: float = 1.0) -> None:
        """Light through the glass and a layer of this colour, with a rim one pixel soft."""
        cover = ndimage.gaussian_filter(area.astype(float), 0.7)[..., None] * opacity
        self.image = self.image * (1 - cover) + self.image * (np.asarray(colour, float) / 255.0) * cover

    def tissue_of(self, area: Bool, light: Colour, dark: Colour, nuclei: float = 0.35, opacity: float = 1.0) -> None:
        """Tissue of two colours, mixed at the scale of architecture and of nuclei."""
        mix = np.clip(0.35 + 0.18 * self.waves(12) + nuclei * 0.6 * self.waves(0.8), 0, 1)[..., None]
        self.paint(area, np.asarray(light, float) * (1 - mix) + np.asarray(dark, float) * mix, opacity)
        self.tissue |= area

    def stroke(self, points: Sequence[tuple[float, float]], width: float, colour: Colour, opacity: float = 0.9) -> Bool:
        """A felt pen along a line of (y, x): nearly even ink, a little streaky, soft at the rim."""
        canvas = np.ones(SIZE, bool)
        for (y0, x0), (y1, x1) in pairwise(points):
            steps = int(2 * np.hypot(y1 - y0, x1 - x0)) + 2
            ys = np.clip(np.linspace(y0, y1, steps).round().astype(int), 0, SIZE[0] - 1)
            xs = np.clip(np.linspace(x0, x1, steps).round().astype(int), 0, SIZE[1] - 1)
            canvas[ys, xs] = False
        area = ndimage.distance_transform_edt(canvas) < width / 2
        streaks = 1 + 0.06 * self.waves(4)[..., None]
        cover = ndimage.gaussian_filter(area.astype(float), 1.5)[..., None] * opacity
        self.image = self.image * (1 - cover) + np.clip(np.asarray(colour, float) * streaks, 0, 255) * cover
        self.either |= (area | (cover[..., 0] > 0.02)) & self.tissue
        return area

    def finish(self, name: str, *, rim: int = 3, precision: float = 0.95, recall: float = 0.95, jpeg: int = 85) -> Case:
        """Sensor noise, JPEG, and a truth that does not quarrel about the rim."""
        noisy = self.image + self.rng.normal(0, self.noise, self.image.shape)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=jpeg)
        truth = self.tissue.astype(np.uint8)
        if self.tissue.any() and not self.tissue.all():
            outside = ndimage.distance_transform_edt(~self.tissue)
            inside = ndimage.distance_transform_edt(self.tissue)
            truth[(outside + inside <= rim) & ~(inside > min(rim, 2))] = EITHER
        truth[self.either] = EITHER
        return Case(name, np.asarray(Image.open(buffer).convert("RGB")), truth, precision, recall)


PINK, PURPLE = (232, 160, 200), (120, 60, 140)
BROWN, SLATE = (150, 100, 60), (120, 130, 180)


def _two_pieces(slide: Slide) -> Bool:
    return slide.blob(250, 210, 130) | slide.blob(300, 470, 80)


def haematoxylin_eosin() -> Case:
    slide = Slide(1)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("H&E")


def strong_jpeg() -> Case:
    slide = Slide(2)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    # Colour is stored for squares of 16 × 16 pixels: a fringe of 130 µm is in the file.
    return slide.finish("H&E, JPEG quality 25", jpeg=25, precision=0.93)


def pale() -> Case:
    slide = Slide(3)
    slide.tissue_of(_two_pieces(slide), (240, 218, 230), (205, 190, 215), nuclei=0.25)
    return slide.finish("pale H&E")


def faded() -> Case:
    slide = Slide(4, glass=(236, 236, 232))
    slide.tissue_of(_two_pieces(slide), (250, 238, 240), (235, 220, 232), nuclei=0.3)
    return slide.finish("faded old H&E", recall=0.9)


def dab() -> Case:
    slide = Slide(5)
    slide.tissue_of(_two_pieces(slide), (215, 190, 160), BROWN)
    return slide.finish("IHC, DAB positive")


def dab_negative() -> Case:
    slide = Slide(6, glass=(238, 238, 236))
    slide.tissue_of(_two_pieces(slide), (226, 228, 238), (150, 165, 205), nuclei=0.3)
    return slide.finish("IHC negative, pale blue counterstain")


def red_chromogen() -> Case:
    slide = Slide(7)
    slide.tissue_of(_two_pieces(slide), (215, 205, 225), (190, 60, 50), nuclei=0.5)
    return slide.finish("IHC, red chromogen")


def trichrome() -> Case:
    slide = Slide(8)
    area = _two_pieces(slide)
    slide.tissue_of(area, (120, 150, 205), (60, 80, 160), nuclei=0.3)
    slide.tissue_of(area & (slide.waves(15) > 0.4), (200, 80, 110), (120, 40, 80))
    return slide.finish("Masson trichrome, blue collagen")


def green_trichrome() -> Case:
    slide = Slide(9)
    area = _two_pieces(slide)
    slide.tissue_of(area, (130, 185, 165), (80, 130, 120), nuclei=0.3)
    slide.tissue_of(area & (slide.waves(15) > 0.2), (200, 80, 90), (120, 40, 60))
    return slide.finish("Goldner trichrome, green collagen", recall=0.9)


def alcian_blue() -> Case:
    slide = Slide(10)
    area = _two_pieces(slide)
    slide.tissue_of(area, (235, 190, 205), (190, 120, 150))
    slide.tissue_of(area & (slide.waves(8) > 1.0), (120, 190, 215), (60, 130, 180))
    return slide.finish("Alcian blue mucin")


def silver() -> Case:
    slide = Slide(11, glass=(235, 236, 236))
    slide.tissue_of(_two_pieces(slide), (205, 200, 195), (70, 65, 60), nuclei=0.5)
    return slide.finish("silver (reticulin), nearly grey")


def blood() -> Case:
    slide = Slide(12)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    slide.tissue_of(slide.blob(240, 200, 60), (205, 60, 70), (170, 40, 55), nuclei=0.15)
    return slide.finish("blood lake in H&E")


def melanin() -> Case:
    slide = Slide(13)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    slide.tissue_of(slide.blob(240, 200, 60), (90, 60, 45), (45, 30, 25), nuclei=0.4)
    return slide.finish("melanin in H&E")


def necrosis() -> Case:
    slide = Slide(14)
    slide.tissue_of(slide.blob(260, 220, 140), (228, 205, 210), (205, 180, 190), nuclei=0.08)
    slide.tissue_of(slide.blob(260, 500, 60), PINK, PURPLE)
    return slide.finish("necrosis, dull and without nuclei")


def fat() -> Case:
    slide = Slide(15)
    area = slide.blob(260, 280, 190)
    seeds = slide.rng.uniform((0, 0), SIZE, (int(SIZE[0] * SIZE[1] / 90), 2)).astype(int)
    marks = np.ones(SIZE, bool)
    marks[seeds[:, 0], seeds[:, 1]] = False
    cells = ndimage.distance_transform_edt(marks, return_distances=False, return_indices=True)
    names = cells[0] * SIZE[1] + cells[1]
    walls = (names != np.roll(names, 1, 0)) | (names != np.roll(names, 1, 1))
    slide.paint(area & walls, (225, 165, 195))
    septa = area & (np.abs(slide.waves(20)) < 0.08)
    slide.paint(septa, (225, 140, 185))
    slide.tissue = area
    return slide.finish("fat: thin walls around empty cells", rim=8, recall=0.9)


def tears() -> Case:
    slide = Slide(16)
    area = slide.blob(260, 300, 190)
    holes = ndimage.binary_dilation(np.abs(slide.waves(25)) < 0.02, iterations=2)
    slide.tissue_of(area & ~holes, PINK, PURPLE)
    slide.either |= holes & area
    return slide.finish("torn section")


def lumen() -> Case:
    slide = Slide(17)
    hole = slide.blob(260, 260, 70, 0.05)
    slide.tissue_of(slide.blob(260, 260, 180) & ~hole, PINK, PURPLE)
    return slide.finish("a lumen 1.1 mm wide is glass")


def _inked(seed: int, name: str, colour: Colour, opacity: float = 0.9) -> Case:
    slide = Slide(seed)
    slide.tissue_of(slide.blob(270, 250, 110) | slide.blob(350, 520, 45), PINK, PURPLE)
    slide.stroke([(60, 60), (50, 330), (120, 420)], 38, colour, opacity)
    slide.stroke([(470, 60), (480, 400)], 30, colour, opacity)
    slide.stroke([(60, 520), (160, 610)], 24, colour, opacity)
    slide.stroke([(160, 520), (60, 610)], 24, colour, opacity)
    slide.stroke([(200, 190), (330, 320)], 26, colour, opacity)
    return slide.finish(name)


def blue_pen() -> Case:
    return _inked(20, "blue pen", (40, 60, 190))


def navy_pen() -> Case:
    return _inked(21, "dark blue pen", (25, 30, 110))


def thin_blue_pen() -> Case:
    return _inked(22, "thin blue ink, translucent", (70, 110, 220), 0.7)


def green_pen() -> Case:
    return _inked(23, "green pen", (30, 130, 70))


def light_green_pen() -> Case:
    return _inked(24, "green ink, translucent", (60, 170, 110), 0.7)


def red_pen() -> Case:
    return _inked(25, "red pen", (205, 35, 45))


def black_pen() -> Case:
    return _inked(26, "black pen", (30, 30, 34))


def grey_pen() -> Case:
    return _inked(27, "black ink, translucent", (60, 60, 66), 0.8)


def pen_only() -> Case:
    slide = Slide(28)
    slide.stroke([(100, 100), (400, 500)], 36, (40, 60, 190))
    slide.stroke([(400, 100), (100, 500)], 36, (30, 130, 70))
    slide.stroke([(60, 300), (460, 300)], 36, (205, 35, 45))
    slide.stroke([(250, 60), (250, 600)], 36, (30, 30, 34))
    return slide.finish("pen of four colours, no tissue")


def coverslip() -> Case:
    slide = Slide(30)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    for shift, colour in ((0, (150, 152, 150)), (4, (205, 206, 205))):
        slide.stroke([(30 + shift, 0), (36 + shift, 639)], 2.5, colour, 0.8)
        slide.stroke([(0, 600 + shift), (511, 592 + shift)], 2.5, colour, 0.8)
    slide.image[:, :40] *= 0.93
    return slide.finish("coverslip edges")


def bubbles() -> Case:
    slide = Slide(31)
    slide.tissue_of(slide.blob(280, 220, 110), PINK, PURPLE)
    for y, x, r in ((120, 480, 60), (380, 520, 40), (90, 90, 30)):
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        distance = np.abs(np.hypot(rows - y, columns - x) - r)
        slide.image *= (1 - 0.6 * np.exp(-((distance / 2.5) ** 2)))[..., None]
    return slide.finish("air bubbles")


def shadow() -> Case:
    slide = Slide(32)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    slide.image *= (1 - 0.35 * (columns / SIZE[1]) ** 3 - 0.2 * (rows / SIZE[0]) ** 4)[..., None]
    return slide.finish("shadow across the slide")


def black_border() -> Case:
    slide = Slide(33)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    case = slide.finish("black border")
    image, truth = case.image.copy(), case.truth.copy()
    for part in (np.s_[:30], np.s_[-50:], np.s_[:, :25], np.s_[:, -60:]):
        image[part], truth[part] = 3, 0
    return case._replace(image=image, truth=truth)


def black_mostly() -> Case:
    case = haematoxylin_eosin()
    image, truth = np.zeros_like(case.image), np.zeros_like(case.truth)
    image[150:400, 100:350], truth[150:400, 100:350] = case.image[150:400, 100:350], case.truth[150:400, 100:350]
    return Case("scanned strip in a black field", image, truth)


def white_fill() -> Case:
    slide = Slide(48, glass=(240, 232, 214))
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    case = slide.finish("white where nothing was scanned, cream glass")
    image, truth = case.image.copy(), case.truth.copy()
    for part in (np.s_[:90], np.s_[-60:], np.s_[:, :60], np.s_[200:, -50:]):
        image[part], truth[part] = 255, 0
    return case._replace(image=image, truth=truth)


def several() -> Case:
    slide = Slide(34)
    places = [(70 + 120 * row, 60 + 104 * column) for row in range(4) for column in range(6)]
    slide.tissue_of(slide.discs(places, [36] * len(places)), PINK, PURPLE)
    return slide.finish("24 cores of a microarray")


def needle() -> Case:
    slide = Slide(35)
    lines = np.zeros(SIZE, bool)
    for k in range(4):
        line = np.abs(np.mgrid[: SIZE[0], : SIZE[1]][0] - 90 - 110 * k - 8 * np.sin(np.arange(SIZE[1]) / 60)) < 5
        line[:, : 40 + 20 * k] = line[:, -80 - 10 * k :] = False
        lines |= line
    slide.tissue_of(lines, PINK, PURPLE)
    return slide.finish("needle biopsies 80 µm thick", rim=5, recall=0.9)


def crumbs() -> Case:
    slide = Slide(36)
    places = slide.rng.uniform((30, 30), (SIZE[0] - 30, SIZE[1] - 30), (25, 2))
    slide.tissue_of(slide.discs(places, slide.rng.uniform(11, 20, 25)), PINK, PURPLE)
    return slide.finish("curettings, 0.2 to 0.3 mm", rim=5, recall=0.9)


def dust() -> Case:
    slide = Slide(37)
    slide.tissue_of(slide.blob(250, 210, 130), PINK, PURPLE)
    specks = slide.discs(slide.rng.uniform((0, 0), SIZE, (150, 2)), slide.rng.uniform(1, 4, 150))
    slide.paint(specks, (110, 108, 105), 0.8)
    for _ in range(6):
        y, x = slide.rng.uniform((20, 330), (490, 600))
        slide.stroke([(y, x), (y + 15, x + 18), (y + 10, x + 40)], 1.5, (90, 100, 150), 0.7)
    return slide.finish("dust and fibres")


def tinted_glass() -> Case:
    slide = Slide(38, glass=(240, 232, 214))
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("cream-coloured glass")


def blue_glass() -> Case:
    slide = Slide(39, glass=(216, 222, 240))
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("bluish glass")


def dim_glass() -> Case:
    slide = Slide(40, glass=(188, 188, 190))
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("dim lamp")


def stained_haze() -> Case:
    slide = Slide(41)
    slide.image *= 1 - 0.035 * np.clip(slide.waves(60), 0, 2)[..., None] * np.array([0.3, 1.0, 0.5])
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("eosin haze on the glass", precision=0.9)


def grainy() -> Case:
    slide = Slide(42, noise=7.0)
    slide.tissue_of(_two_pieces(slide), PINK, PURPLE)
    return slide.finish("grainy sensor")


def full_he() -> Case:
    slide = Slide(43)
    slide.tissue_of(np.ones(SIZE, bool), PINK, PURPLE)
    return slide.finish("tissue everywhere, H&E")


def full_pale() -> Case:
    slide = Slide(44)
    slide.tissue_of(np.ones(SIZE, bool), (240, 215, 228), (200, 180, 212), nuclei=0.3)
    return slide.finish("tissue everywhere, pale")


def full_ihc() -> Case:
    slide = Slide(45)
    slide.tissue_of(np.ones(SIZE, bool), (226, 226, 236), BROWN)
    return slide.finish("tissue everywhere, IHC")


def white() -> Case:
    return Case("all white", np.full((*SIZE, 3), 255, np.uint8), np.zeros(SIZE, np.uint8))


def empty_glass() -> Case:
    return Slide(46).finish("empty glass")


def empty_tinted() -> Case:
    slide = Slide(47, glass=(238, 228, 215), noise=3.0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    slide.image *= (1 - 0.12 * np.hypot(rows - 256, columns - 320) / 410)[..., None]
    return slide.finish("empty, tinted, vignetted")


def black() -> Case:
    return Case("all black", np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8))


def _shining(seed: int, name: str, colour: Colour, haze: float, cells: float) -> Case:
    slide = Slide(seed, glass=(4, 4, 4), noise=2.0)
    area = _two_pieces(slide)
    nuclei = np.clip(slide.waves(0.9) - 0.6, 0, 2) * cells * (1 + 0.3 * slide.waves(15))
    light = np.clip(haze * (1 + 0.3 * slide.waves(10)) + nuclei, 0, 255) * area
    slide.image += light[..., None] * np.asarray(colour, float) / 255.0
    slide.tissue = area
    return slide.finish(name, rim=7, recall=0.9, precision=0.9)


def dapi() -> Case:
    return _shining(50, "DAPI", (20, 20, 255), 8, 120)


def dapi_dim() -> Case:
    return _shining(51, "dim DAPI", (10, 10, 255), 6, 35)


def grey_fluorescence() -> Case:
    return _shining(52, "fluorescence, grey", (255, 255, 255), 15, 130)


def green_fluorescence() -> Case:
    return _shining(53, "autofluorescence, green", (60, 255, 60), 40, 40)


def dark_empty() -> Case:
    return Slide(54, glass=(4, 4, 5), noise=2.0).finish("fluorescence without tissue")


CASES: tuple[Callable[[], Case], ...] = (
    haematoxylin_eosin, strong_jpeg, pale, faded, dab, dab_negative, red_chromogen, trichrome, green_trichrome,
    alcian_blue, silver, blood, melanin, necrosis, fat, tears, lumen, blue_pen, navy_pen, thin_blue_pen, green_pen,
    light_green_pen, red_pen, black_pen, grey_pen, pen_only, coverslip, bubbles, shadow, black_border, black_mostly,
    white_fill, several, needle, crumbs, dust, tinted_glass, blue_glass, dim_glass, stained_haze, grainy, full_he,
    full_pale, full_ihc, white, empty_glass, empty_tinted, black, dapi, dapi_dim, grey_fluorescence, green_fluorescence,
    dark_empty,
)  # fmt: skip


def cases(shift: int = 0) -> Iterator[Case]:
    """All drawn cases; with another ``shift`` the same kinds of slides drawn anew."""
    for draw in CASES:
        Slide.shift = shift
        try:
            yield draw()
        finally:
            Slide.shift = 0
