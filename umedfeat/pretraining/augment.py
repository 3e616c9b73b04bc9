"""How a picture varies from draw to draw: torchvision's transforms with parameters of our own generator.

Image, mask and boxes go through one transform. Greys are mirrored and turned a little, coloured pictures (microscopy)
in every direction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from umedfeat.pretraining.masks import IGNORED
from umedfeat.pretraining.pictures import Picture

__all__ = ["MARGIN", "Sample", "plain", "varied"]

#: Pictures are read so much larger than they are trained on, so that a part of them needs no enlarging.
MARGIN = 1.25

_TILT = 15.0  # degrees, either way
_AREA = (0.5, 1.0)  # of the picture that is seen
_STRETCH = 1.15
_LIGHT, _COLOUR, _HUE = 0.25, 0.2, 0.04
_SMALLEST_SIDE, _SMALLEST_SHARE = 2.0, 0.25  # of boxes that are cut: pixels, share of their area


class Sample(NamedTuple):
    """One image as it is trained on.

    Attributes:
        image: (3, S, S) float32 in [0, 1].
        mask: (S, S) int64 or None.
        boxes: (n, 4) float32 left, top, right, bottom; kinds: (n,) int64; or None.
    """

    image: torch.Tensor
    mask: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    kinds: torch.Tensor | None = None


def plain(picture: Picture) -> Sample:
    """The picture as it is."""
    image = torch.from_numpy(picture.pixels.astype(np.float32))
    mask = None if picture.mask is None else torch.from_numpy(picture.mask.astype(np.int64))
    if picture.boxes is None:
        return Sample(_rgb(image), mask)
    side = image.shape[-1]
    boxes, kinds = _visible(torch.from_numpy(picture.boxes.corners), torch.from_numpy(picture.boxes.kinds), side)
    return Sample(_rgb(image), None, boxes, kinds)


def varied(picture: Picture, size: int, rng: np.random.Generator, *, flip: bool) -> Sample:
    """A random part of the picture, mirrored, turned and lit at random, as a square of ``size`` pixels."""
    image = tv_tensors.Image(torch.from_numpy(picture.pixels.astype(np.float32)))
    parts: list[torch.Tensor] = [image]
    if picture.mask is not None:
        parts.append(tv_tensors.Mask(torch.from_numpy(picture.mask)))
    if picture.boxes is not None:
        shape = tuple(image.shape[-2:])
        corners = torch.from_numpy(picture.boxes.corners)
        parts.append(tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=shape))
    coloured = len(image) == 3
    turned = _turned(parts, rng, flip=flip, coloured=coloured, tilt=picture.boxes is None)
    cut = _cut(turned, size, rng)
    lit = _rgb(_lit(cut[0].as_subclass(torch.Tensor), rng))
    if picture.mask is not None:
        return Sample(lit, cut[1].as_subclass(torch.Tensor).long())
    if picture.boxes is None:
        return Sample(lit)
    kinds = torch.from_numpy(picture.boxes.kinds)
    boxes, kinds = _visible(cut[1].as_subclass(torch.Tensor), kinds, size)
    return Sample(lit, None, boxes, kinds)


def _turned(
    parts: list[torch.Tensor], rng: np.random.Generator, *, flip: bool, coloured: bool, tilt: bool
) -> list[torch.Tensor]:
    across, down, quarter, lean = rng.random(), rng.random(), int(rng.integers(4)), rng.uniform(-_TILT, _TILT)
    if flip and across < 0.5:
        parts = [transforms.horizontal_flip(part) for part in parts]
    if flip and coloured and down < 0.5:
        parts = [transforms.vertical_flip(part) for part in parts]
    if flip and coloured and quarter % 2:
        parts = [transforms.rotate(part, 90.0) for part in parts]
    elif tilt and not coloured and quarter % 2:
        parts = [_leaning(part, lean) for part in parts]
    return parts


def _leaning(part: torch.Tensor, degrees: float) -> torch.Tensor:
    if isinstance(part, tv_tensors.Mask):
        return transforms.rotate(part, degrees, fill=IGNORED)  # type: ignore[no-any-return]
    return transforms.rotate(part, degrees, interpolation=InterpolationMode.BILINEAR)  # type: ignore[no-any-return]


def _cut(parts: list[torch.Tensor], size: int, rng: np.random.Generator) -> list[torch.Tensor]:
    side = parts[0].shape[-1]
    area, stretch = rng.uniform(*_AREA), math.exp(rng.uniform(-1, 1) * math.log(_STRETCH))
    height = min(side, max(1, round(side * math.sqrt(area * stretch))))
    width = min(side, max(1, round(side * math.sqrt(area / stretch))))
    top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
    return [transforms.resized_crop(part, top, left, height, width, [size, size]) for part in parts]


def _lit(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Contrast and brightness; coloured pictures also the balance and depth of colours."""
    contrast, brightness, hue, depth = (float(rng.uniform(-1, 1)) for _ in range(4))
    balance = torch.from_numpy(rng.uniform(-_HUE, _HUE, (3, 1, 1)).astype(np.float32))
    gain = math.exp(contrast * _LIGHT)
    image = (image - 0.5) * gain + 0.5 + brightness * _LIGHT / 2
    if len(image) == 3:
        grey = image.mean(0, keepdim=True)
        image = grey + (image - grey) * (1 + depth * _COLOUR) + balance * (1 + hue)
    return image.clamp(0, 1)


def _rgb(image: torch.Tensor) -> torch.Tensor:
    return image.expand(3, -1, -1)


def _visible(boxes: torch.Tensor, kinds: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes cut to the square, without those of which little is left."""
    cut = boxes.clamp(0, side)
    sides, whole = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides.min(1).values >= _SMALLEST_SIDE) & (sides.prod(1) >= _SMALLEST_SHARE * whole.prod(1))
    return cut[kept], kinds[kept]
