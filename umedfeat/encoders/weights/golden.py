"""The published values of UMedPT's authors, recomputed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from umedfeat.disk.regular import open_regular
from umedfeat.encoders import load_encoder
from umedfeat.encoders.weights.models import GOLDEN_UMEDPT

__all__ = ["golden_difference"]


def golden_difference(weights: Path, image: Path) -> float:
    """Largest difference of the first values of the embedding to the published ones.

    The image is resized to 256 × 256 bilinearly without antialiasing, as the authors did, and scaled to [0, 1].
    """
    with open_regular(image) as stream:
        rgb = np.asarray(Image.open(stream).convert("RGB"))
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(pixels, (256, 256), mode="bilinear", align_corners=False)
    # one image: compiling a graph for it would take longer than everything else
    encoder = load_encoder("umedpt", weights=weights, device="cpu", precision="fp32", runtime="torch")
    values = encoder(resized.round().clamp(0, 255) / 255)[0, : len(GOLDEN_UMEDPT)]
    return float((values - torch.tensor(GOLDEN_UMEDPT)).abs().max())
