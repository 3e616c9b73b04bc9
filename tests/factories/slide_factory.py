"""Slides written by tests: tiled pyramids with known scale and landmarks at known micrometres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

RGB = npt.NDArray[np.uint8]


def tissue_like(height: int, width: int, seed: int = 0) -> RGB:
    """Pink and purple texture that every tissue detector accepts, smooth enough for JPEG."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), 3)
    noise /= noise.std()
    texture = np.empty((height, width, 3), np.uint8)
    for channel, (ground, contrast, nucleus) in enumerate(
        zip((205, 130, 175), (18, 22, 14), (100, 70, 150), strict=True)
    ):
        texture[..., channel] = np.clip(ground + noise * contrast, 0, 255)
        texture[..., channel][noise > 1.3] = nucleus
    return texture


def halved(image: RGB) -> RGB:
    """Area-averaged by two, as scanners do; half of a grey value to the even one."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    rows = image[0:height:2, :width].astype(np.uint16)
    rows += image[1:height:2, :width]
    sums = rows[:, 0::2] + rows[:, 1::2]
    return ((sums + 1 + (sums >> 2 & 1)) >> 2).astype(np.uint8)


def write_slide(
    path: Path,
    pixels: RGB,
    mpp: float | None,
    *,
    levels: int = 3,
    flavour: str = "generic",
    compression: str | None = "jpeg",
    mpp_y: float | None = None,
) -> Path:
    """Write a pyramid: "generic" (scale in the resolution tags), "svs" (Aperio description) or "ome" (OME-XML)."""
    if flavour == "ome":
        return _write_ome(path, pixels, mpp, levels)
    with tifffile.TiffWriter(path) as writer:
        for number in range(levels):
            options: dict[str, Any] = {}
            if flavour == "svs":
                scale = "" if mpp is None else f"|AppMag = 20|MPP = {mpp}"
                height, width = pixels.shape[:2]
                options["description"] = (
                    f"Aperio Image Library v11\r\n{width}x{height} [0,0 {width}x{height}] (256x256){scale}"
                )
            elif mpp is not None:
                per_cm = (1e4 / (mpp * 2**number), 1e4 / ((mpp_y or mpp) * 2**number))
                options |= {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
            writer.write(
                pixels,
                tile=(256, 256),
                photometric="rgb",
                compression=compression,
                compressionargs={"level": 95} if compression == "jpeg" else None,
                subfiletype=1 if number and flavour != "svs" else 0,
                metadata=None,
                **options,
            )
            pixels = halved(pixels)
    return path


def _write_ome(path: Path, pixels: RGB, mpp: float | None, levels: int) -> Path:
    metadata = {"axes": "YXS"}
    if mpp is not None:
        metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, tile=(256, 256), photometric="rgb", subifds=levels - 1, metadata=metadata)
        for _ in range(levels - 1):
            pixels = halved(pixels)
            writer.write(pixels, tile=(256, 256), photometric="rgb", subfiletype=1)
    return path
