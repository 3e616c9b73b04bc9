"""Images to what an encoder takes, exactly as ``umedfeat extract`` makes flat 8-bit images: for one's own loaders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from umedfeat.errors import SetupError
from umedfeat.policy import FITS
from umedfeat.rules import OneOf, Ruled, setting
from umedfeat.squares import fit_square, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Transform"]


@dataclass(frozen=True)
class Transform(Ruled):
    """One picture to the square that an encoder takes; picklable, for the workers of a DataLoader.

    Mean and std are not applied: every encoder does that itself.

    Attributes:
        size: side of the square in pixels.
        fit: "pad" (everything visible, letterbox on black), "squash" or "crop" (centre square).
    """

    size: int
    fit: str = setting("pad", OneOf(FITS))

    def __call__(self, image: Image | npt.NDArray[Any]) -> torch.Tensor:
        """Resample a PIL image or an array (H, W) or (H, W, 3), uint8 or float in [0, 1].

        Returns:
            (3, size, size) float32 in [0, 1].

        Raises:
            SetupError: no picture, or an array of another kind.
        """
        pixels = image if isinstance(image, np.ndarray) else _pixels(image)
        if not _is_picture(pixels):
            raise _no_picture(f"{pixels.dtype} {pixels.shape}")
        square = fit_square(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32), self.size, self.fit)
        return torch.from_numpy(np.ascontiguousarray(to_rgb(square).transpose(2, 0, 1)))


def _pixels(image: Image) -> npt.NDArray[np.uint8]:
    """A PIL image of 8 bits as it is displayed; transparency lies on white."""
    from PIL import Image as Pillow

    if not isinstance(image, Pillow.Image):
        raise _no_picture(type(image).__name__)
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        raise SetupError(f"an image of mode {image.mode} has no scale", remedy="scale it to [0, 1], as an array")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", over.size, "white"), over)
    return np.asarray(image.convert("RGB"))


def _no_picture(what: str) -> SetupError:
    remedy = "a PIL image, or an array (H, W) or (H, W, 3), uint8 or float in [0, 1]"
    return SetupError(f"transform takes pictures, not {what}", remedy=remedy)


def _is_picture(pixels: npt.NDArray[Any]) -> bool:
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not shaped or not pixels.size or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        return False
    return pixels.dtype == np.uint8 or bool(pixels.min() >= 0 and pixels.max() <= 1)
