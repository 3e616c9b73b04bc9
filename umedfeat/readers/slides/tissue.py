"""Tissue on a thumbnail: which of its pixels belong to the specimen.

Stained tissue differs from glass in *colour*; dust, coverslip edges, shadows and black borders do not. So the mask
asks for optical density that differs between the channels, measured against the slide's own glass, and then removes
ink (smooth, saturated, of hues that stains do not have) and specks. A slide with a dark background (fluorescence) is
asked for light instead. Plain numpy and scipy; no learned weights, no state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from umedfeat.arrays import RGB, Floats32, Mask
from umedfeat.policy import TissuePolicy
from umedfeat.readers.slides.lone_cells import shining_cells, stained_cells
from umedfeat.readers.slides.optics import block_means, density_of, drop_small, find_glass, least_of, most_of

__all__ = ["Tissue", "find_tissue", "tissue_fractions", "tissue_mask"]

_DEFAULTS = TissuePolicy()

#: Optical density of black borders and ink, above that of grey tissue.
_BLACK = 2.2
#: Lone cells are gathered over this many micrometres; a field of them is larger than that many square micrometres, and
#: cells touch at least this share of it.
_FIELD, _SMALLEST_FIELD, _LONELY = 100.0, 250_000.0, 0.06
#: A slide with less of its area in tissue may be a smear: this many lone cells, apart from tissue and ink by so many
#: micrometres, with at least this share of the tissue's area.
_LITTLE, _MANY, _APART, _SHARE = 0.02, 12, 96.0, 0.2
#: On dark ground the fields of lone cells are so many times what is found without them.
_MORE = 1.5
#: Steps of density above this are no noise of any scan.
_NOISY = 0.02


class Tissue(NamedTuple):
    """(H, W) bool, all False for an empty slide; ``by``: "colour", "light" (fluorescence), "density" (no colour),
    "cells" (lone on glass).
    """

    mask: Mask
    by: str


def tissue_mask(thumbnail: RGB, mpp: float, scanned: Mask | None = None, policy: TissuePolicy = _DEFAULTS) -> Mask:
    """The mask of ``find_tissue``, which see."""
    return find_tissue(thumbnail, mpp, scanned, policy).mask


def find_tissue(thumbnail: RGB, mpp: float, scanned: Mask | None = None, policy: TissuePolicy = _DEFAULTS) -> Tissue:
    """Tissue of a slide, and what told it.

    Args:
        thumbnail: (H, W, 3) uint8 RGB; about 8 µm/px is what the numbers were chosen on, 4 to 32 work.
        mpp: micrometres per pixel of the thumbnail.
        scanned: (H, W) bool, what the slide holds (None: everything). The rest is white in the thumbnail and never
            tissue, and says nothing about the background of the slide.
        policy: the numbers that decide.

    """
    height, width = thumbnail.shape[:2]
    if height == 0 or width == 0:
        return Tissue(np.zeros((height, width), bool), "colour")
    if scanned is not None and not scanned.any():
        return Tissue(np.zeros((height, width), bool), "colour")
    factor = max(1, round(policy.block_mpp / mpp))
    blocks = block_means(thumbnail, factor)
    seen = np.ones(blocks.shape[:2], bool) if scanned is None else block_means(scanned[..., None], factor)[..., 0] == 1
    if is_dark_field(blocks if seen.all() or not seen.any() else blocks[seen][None]):
        tissue, by = _emission(blocks, mpp * factor, seen, policy), "light"
        cells = shining_cells(thumbnail, mpp, np.zeros((height, width), bool) if scanned is None else ~scanned)
        if cells.number >= _MANY and cells.field.sum() > _MORE * tissue.sum() * factor**2:
            return Tissue(cells.field | _enlarged(tissue, factor, (height, width)), "cells")
    else:
        fine = _Fine(thumbnail, factor)
        tissue, by = _absorption(blocks, mpp * factor, fine, policy), "colour"
        if tissue.mean() < _LITTLE:
            return _sparse(thumbnail, mpp, blocks, Tissue(tissue, by), fine, scanned, policy)
    mask = _enlarged(tissue, factor, (height, width))
    return Tissue(mask if scanned is None else np.asarray(mask & scanned, bool), by)


def _sparse(
    thumbnail: RGB, mpp: float, blocks: Floats32, found: Tissue, fine: _Fine, scanned: Mask | None, policy: TissuePolicy
) -> Tissue:
    """Of a slide with little or no coloured tissue: the larger of lone cells and of what density tells."""
    tissue, by = found
    if not tissue.any():
        tissue, by = _neutral(blocks, mpp * fine.factor, fine, policy), "density"
    mask = _enlarged(tissue, fine.factor, (thumbnail.shape[0], thumbnail.shape[1]))
    cells = _smear(thumbnail, mpp, blocks, found.mask, fine, policy)
    if cells is not None and cells.sum() > mask.sum():
        mask, by = mask | cells if found.mask.any() else cells, "cells"
    return Tissue(mask if scanned is None else np.asarray(mask & scanned, bool), by)


def _enlarged(blocks: Mask, factor: int, size: tuple[int, int]) -> Mask:
    """Blocks as pixels."""
    return np.repeat(np.repeat(blocks, factor, axis=0), factor, axis=1)[: size[0], : size[1]]


def _smear(
    thumbnail: RGB, mpp: float, blocks: Floats32, tissue: Mask, fine: _Fine, policy: TissuePolicy
) -> Mask | None:
    """(H, W) bool, the surroundings of lone cells; None where there are few, or little beside the tissue."""
    glass = find_glass(blocks, mpp * fine.factor)
    density = [density_of(blocks[..., c], white) for c, white in enumerate(glass.white)]
    colour = np.maximum(np.maximum(density[0], density[1]), density[2])
    colour = colour - np.minimum(np.minimum(density[0], density[1]), density[2])
    near = max(1, round(_APART / (mpp * fine.factor)))
    taken = ndimage.binary_dilation(tissue | _ink(density, colour, fine, policy.ink_texture), iterations=near)
    cells = stained_cells(thumbnail, mpp, glass, _enlarged(taken, fine.factor, thumbnail.shape[:2]))
    held = float(tissue.sum()) * (mpp * fine.factor) ** 2
    return cells.field if cells.number >= _MANY and cells.area >= _SHARE * held else None


def tissue_fractions(mask: Mask, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Share of each box that is tissue; exact for boxes with fractional corners.

    Args:
        mask: (H, W) bool.
        boxes: (n, 4) as x0, y0, x1, y1 in pixels of the mask (x1, y1 exclusive). What lies outside is no tissue.

    Returns:
        (n,) float32 in 0..1; 0 for boxes without area.
    """
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    table[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    inside = _table_at(table, x1, y1) - _table_at(table, x0, y1) - _table_at(table, x1, y0) + _table_at(table, x0, y0)
    area = np.maximum((x1 - x0) * (y1 - y0), 0.0)
    share = np.divide(inside, area, out=np.zeros_like(area), where=area > 0)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _table_at(
    table: npt.NDArray[np.float64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The integral image at fractional corners: bilinear, which is exact for piecewise constant masks."""
    x = np.clip(x, 0, table.shape[1] - 1)
    y = np.clip(y, 0, table.shape[0] - 1)
    i = np.minimum(y.astype(np.intp), table.shape[0] - 2)
    j = np.minimum(x.astype(np.intp), table.shape[1] - 2)
    v, u = y - i, x - j
    upper = table[i, j] * (1 - u) + table[i, j + 1] * u
    lower = table[i + 1, j] * (1 - u) + table[i + 1, j + 1] * u
    return upper * (1 - v) + lower * v  # type: ignore[no-any-return]


def is_dark_field(image: npt.NDArray[np.generic]) -> bool:
    """Fluorescence: mostly dark, and what is lit is neither glass nor tissue on glass.

    A slide of which only a strip was scanned is mostly black too, but there the lit part is bright in every channel.
    """
    step = max(1, min(image.shape[:2]) // 512)
    sample = image[::step, ::step].astype(np.float32)
    brightest, darkest = most_of(sample), least_of(sample)
    lit = brightest > 40
    if lit.mean() > 0.6:
        return False
    if not lit.any():
        return True
    brightest, darkest = brightest[lit], darkest[lit]
    ordinary = np.median(brightest) > 130 and np.median(darkest / brightest) > 0.3
    return not (ordinary and (brightest - darkest > 12).mean() + (darkest > 170).mean() > 0.2)


def _emission(blocks: Floats32, scale: float, seen: Mask, policy: TissuePolicy) -> Mask:
    """Tissue that shines on black: light above the dark level and its noise, gathered over cells.

    Args:
        seen: (h, w) bool, blocks that were scanned; the others are taken as dark.
    """
    light = most_of(blocks)
    if not seen.any():
        return np.zeros(seen.shape, bool)
    light = np.where(seen, light, np.percentile(light[seen], 2)).astype(np.float32)
    sigma = 24.0 / scale
    smooth = ndimage.gaussian_filter(light, sigma)
    dark = float(np.percentile(smooth[seen], 2))
    both = seen[:, 1:] & seen[:, :-1]
    steps = np.abs(np.diff(light, axis=1))[both & (light[:, 1:] <= np.median(light[seen]))]
    noise = 0.886 * float(steps.mean()) if steps.size else 0.0  # the mean difference of two normals is 2σ/√π
    # A Gaussian of that width divides white noise by 2√π times its own; six deviations are kept away from.
    return _shape(smooth > dark + max(2.0, 6.0 * noise / (3.54 * max(sigma, 0.5))), scale, policy)


def _absorption(blocks: Floats32, scale: float, fine: _Fine, policy: TissuePolicy) -> Mask:
    """Tissue that absorbs light: coloured against the glass, without haze, without ink."""
    glass = find_glass(blocks, scale)
    density = [density_of(blocks[..., c], white) for c, white in enumerate(glass.white)]
    most = np.maximum(np.maximum(density[0], density[1]), density[2])
    colour = most - np.minimum(np.minimum(density[0], density[1]), density[2])
    stained = (colour > glass.noise) & (colour > 0.08 * most)
    faint = stained & (most <= policy.faint)
    if faint.any():
        stained &= ~faint | _uneven(most, stained)
    ink = _ink(density, colour, fine, policy.ink_texture)
    if not ink.any():
        return _shape(stained, scale, policy)
    return _without_crumbs(_shape(stained & ~ink, scale, policy) & ~ink, ink, policy.crumb / scale**2)


def _neutral(blocks: Floats32, scale: float, fine: _Fine, policy: TissuePolicy) -> Mask:
    """Where colour finds nothing: grey tissue (silver, grey scans) by density and texture, else fields of lone cells.

    Shadows, borders and smooth pen strokes are dense without texture. Lone cells are smaller than a block, so they are
    gathered over 100 µm; a few specks of dust are no field.
    """
    glass = find_glass(blocks, scale)
    density = [density_of(blocks[..., c], white) for c, white in enumerate(glass.white)]
    most = np.maximum(np.maximum(density[0], density[1]), density[2])
    colour = most - np.minimum(np.minimum(density[0], density[1]), density[2])
    rough = _rough(blocks, fine, policy) & ~_ink(density, colour, fine, policy.ink_texture) & (most < _BLACK)
    tissue = _shape(rough & (most > policy.faint), scale, policy)
    if tissue.any():
        return tissue
    above = most - ndimage.minimum_filter(ndimage.uniform_filter(most, 3), 9)  # vignetting and tints are no cells
    lone = rough & (above > 2 * glass.noise)
    share = ndimage.gaussian_filter(lone.astype(np.float32), _FIELD / 2 / scale)
    return drop_small(share > _LONELY, _SMALLEST_FIELD / scale**2)


def _rough(blocks: Floats32, fine: _Fine, policy: TissuePolicy) -> Mask:
    """Blocks whose density steps from pixel to pixel more than ink and more than the noise of the scan."""
    texture = fine.texture((slice(0, blocks.shape[0]), slice(0, blocks.shape[1])))
    steps = texture * np.maximum(density_of(blocks.mean(axis=2), 250.0), np.float32(0.05))
    return np.asarray((texture > policy.ink_texture) & (steps > min(2 * float(np.percentile(steps, 25)), _NOISY)), bool)


def _uneven(density: Floats32, stained: Mask) -> Mask:
    """Where the density varies more over 100 µm than it does on the glass: faint tissue, not haze."""
    values = np.stack([density, density * density], axis=2)
    mean, square = np.moveaxis(block_means(values, 2), 2, 0)
    mean, square = ndimage.uniform_filter(mean, 3), ndimage.uniform_filter(square, 3)
    variance = square - mean * mean
    glass = variance[~stained[::2, ::2]]
    level = float(np.median(glass[:: max(1, glass.size // 50_000)])) if glass.size > 100 else 0.0
    uneven = variance > max(3.0 * level, 2.5e-5)
    return np.repeat(np.repeat(uneven, 2, axis=0), 2, axis=1)[: density.shape[0], : density.shape[1]]


class _Fine(NamedTuple):
    """The thumbnail at its own scale, looked at only where ink is suspected."""

    thumbnail: RGB
    factor: int

    def texture(self, place: tuple[slice, ...]) -> Floats32:
        """Per block: mean step of the density from pixel to pixel, over the mean density."""
        f = self.factor
        rows, columns = (slice(part.start * f, part.stop * f) for part in place)
        crop = self.thumbnail[rows, columns].mean(axis=2, dtype=np.float32)
        density = density_of(crop, 250.0)
        step = 0.5 * (
            np.abs(np.diff(density, axis=0, append=density[-1:]))
            + np.abs(np.diff(density, axis=1, append=density[:, -1:]))
        )
        mean = np.maximum(block_means(density[..., None], f)[..., 0], np.float32(0.05))
        return np.asarray(block_means(step[..., None], f)[..., 0] / mean, np.float32)


def _ink(density: list[Floats32], colour: Floats32, fine: _Fine, texture: float) -> Mask:
    """Felt-pen ink: green, blue, red or black of hues that routine stains rarely have, and smooth."""
    red, green, blue = density
    suspect = (red - green > 0.08) & (blue - green > -0.02) & (colour > 0.12)
    suspect |= (red - blue > 0.45) & (green < 0.97 * red) & (green > blue)
    suspect |= (green - red > 0.6) & (blue > 0.85 * green) & (red < 0.3 * green)
    suspect |= (red > 1.2) & (red < 2.45) & (colour < 0.2 * red)
    ink = np.zeros_like(suspect)
    if not suspect.any():
        return ink
    suspect = ndimage.binary_opening(suspect)
    labels, _ = ndimage.label(suspect)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[place] == number
        core = ndimage.binary_erosion(part)
        if core.sum() >= 8 and float(np.median(fine.texture(place)[core])) < texture:
            ink[place] |= part
    return np.asarray(ndimage.binary_dilation(ink, iterations=4), bool) if ink.any() else ink


def _without_crumbs(tissue: Mask, ink: Mask, area: float) -> Mask:
    """Without small parts that hang on ink with half their rim: rests of the ink itself."""
    labels, count = ndimage.label(tissue)
    rim = tissue & ~ndimage.binary_erosion(tissue, border_value=1)
    at_ink = rim & ndimage.binary_dilation(ink, iterations=2)
    size, length, touching = (np.bincount(labels[where], minlength=count + 1) for where in (tissue, rim, at_ink))
    crumb = (size < area) & (touching > 0.5 * length)
    crumb[0] = False
    return np.asarray(tissue & ~crumb[labels], bool)


def _shape(evidence: Mask, scale: float, policy: TissuePolicy) -> Mask:
    """Join what belongs together, drop specks, fill small holes. ``scale``: micrometres per pixel."""
    support = ndimage.uniform_filter(evidence.astype(np.float32), 5, mode="nearest")
    tissue = _close(evidence & (support >= 0.16), round(policy.closing / 2 / scale))
    tissue = drop_small(tissue, policy.speck / scale**2)
    # Gaps larger than the tissue are no holes in it: all of a small image may be glass.
    return ~drop_small(~tissue, min(policy.hole / scale**2, float(tissue.sum())))


def _close(mask: Mask, radius: int) -> Mask:
    """Closing with a square; what lies beyond the border of the image is taken as empty."""
    if radius < 1:
        return mask
    size = 2 * radius + 1
    grown = ndimage.maximum_filter(np.pad(mask, radius).view(np.uint8), size, mode="constant", cval=0)
    closed = np.asarray(ndimage.minimum_filter(grown, size, mode="constant", cval=0), np.uint8).view(np.bool_)
    return closed[radius:-radius, radius:-radius]
