"""Generated images for the demo: arrays that look enough like the real thing to be worth a look. Pure numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from umedfeat.arrays import Floats

__all__ = ["ct_volume", "radiograph", "tissue_section"]


def radiograph(rng: np.random.Generator, *, opacity: bool, side: int = 512) -> npt.NDArray[np.uint16]:
    """A chest-like radiograph, (side, side) uint16, 12 bits used; ``opacity`` puts a consolidation into a lung."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    shift, width, height = rng.normal(0, 0.03), rng.uniform(0.27, 0.33), rng.uniform(0.5, 0.6)
    x, y = x - shift, y - rng.normal(0, 0.03)
    body = _soft(_ellipse(x, y, 0, 0.25, 0.88, 1.3))
    lungs = [_soft(_ellipse(x, y, sign * 0.38, 0.0, width, height)) for sign in (-1, 1)]
    image = 0.62 * body - 0.34 * np.maximum(*lungs)
    image += 0.22 * np.exp(-((x / 0.09) ** 2)) * body
    image += 0.16 * _soft(_ellipse(x, y, 0.12, 0.28, 0.26, 0.3))
    for rib in np.arange(-0.55, 0.6, 0.16) + rng.normal(0, 0.01):
        image += 0.05 * np.exp(-(((y - rib - 0.25 * x**2) / 0.028) ** 2)) * body
    if opacity:
        sign, depth = rng.choice([-1, 1]), rng.uniform(-0.25, 0.35)
        spot = np.exp(-(((x - sign * 0.38) / 0.16) ** 2) - ((y - depth) / 0.2) ** 2)
        cloud = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 40)
        image += rng.uniform(0.16, 0.3) * spot * (1 + 0.5 * cloud / cloud.std()).clip(0.2, 2)
    image += 0.015 * ndimage.gaussian_filter(rng.normal(size=(side, side)), 1) * 4
    return (np.clip(image, 0, 1) * 4000).astype(np.uint16)


def ct_volume(rng: np.random.Generator, *, slices: int = 24, side: int = 256) -> npt.NDArray[np.int16]:
    """A chest-like CT in Hounsfield units, (slices, side, side) int16: air, lungs, soft tissue, spine, a nodule."""
    z, y, x = np.mgrid[-1 : 1 : slices * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    volume = np.full(x.shape, -1000.0)
    volume[(x / 0.86) ** 2 + (y / 0.62) ** 2 < 1] = -90.0
    volume[(x / 0.80) ** 2 + (y / 0.56) ** 2 < 1] = 45.0
    for sign in (-1, 1):
        lung = ((x - sign * 0.38) / 0.28) ** 2 + (y / 0.4) ** 2 + (z / 1.15) ** 2 < 1
        volume[lung] = -850.0
    volume[(x / 0.1) ** 2 + ((y - 0.4) / 0.12) ** 2 < 1] = 450.0
    volume[((x - 0.4) / 0.07) ** 2 + ((y + 0.1) / 0.07) ** 2 + (z / 0.25) ** 2 < 1] = 30.0
    volume = ndimage.gaussian_filter(volume, (0.3, 1.0, 1.0)) + rng.normal(0, 18, volume.shape)
    return np.clip(volume, -1024, 3071).astype(np.int16)


def tissue_section(rng: np.random.Generator, *, side: int = 4096) -> npt.NDArray[np.uint8]:
    """A stained-tissue-like section on glass, (side, side, 3) uint8: pink stroma, purple nuclei, white lumina."""
    coarse = _cloud(rng, side, 12)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tissue = _grow(coarse) * 0.35 + 0.75 - np.hypot(x * 1.05, y * 0.95) > 0
    tissue &= ~(_grow(_cloud(rng, side, 40)) > 1.5)
    nuclei = ndimage.gaussian_filter(rng.normal(size=(side, side)).astype(np.float32), 3.2)
    dense = _grow(_cloud(rng, side, 24))
    nuclei = nuclei / nuclei.std() + 0.35 * dense > 1.55
    fibre = ndimage.gaussian_filter(rng.normal(size=(side, side)).astype(np.float32), (1.2, 7.0))
    image = np.empty((side, side, 3), dtype=np.float32)
    image[:] = (243, 242, 245)
    stroma = np.array([222, 158, 193], dtype=np.float32) + (fibre / fibre.std())[..., None] * np.array(
        [9, 14, 9], dtype=np.float32
    )
    image[tissue] = stroma[tissue]
    image[tissue & nuclei] = (104, 74, 148)
    image = ndimage.gaussian_filter(image, (0.8, 0.8, 0))
    image += rng.normal(0, 2.0, (side, side, 1)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, side: int, cells: int) -> Floats:
    cloud = ndimage.zoom(rng.normal(size=(cells, cells)), side / cells / 8, order=3)
    grown: Floats = ndimage.zoom(cloud / cloud.std(), side / cloud.shape[0], order=1)[:side, :side]
    return grown


def _grow(cloud: Floats) -> Floats:
    scaled: Floats = (cloud - cloud.mean()) / cloud.std()
    return scaled


def _ellipse(x: Floats, y: Floats, cx: float, cy: float, rx: float, ry: float) -> Floats:
    inside: Floats = 1 - np.hypot((x - cx) / rx, (y - cy) / ry)
    return inside


def _soft(inside: Floats) -> Floats:
    smooth: Floats = 1 / (1 + np.exp(-25 * inside))
    return smooth
