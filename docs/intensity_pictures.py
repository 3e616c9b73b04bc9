"""Draw the pictures of docs/intensity.md from files that pydicom and nibabel ship.

python docs/intensity_pictures.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel.testing
import numpy as np
import pydicom.data
from PIL import Image, ImageDraw, ImageFont

from umedfeat.contract import Found, Reader, Source
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers import reader_format

SIDE, GAP, CAPTION = 168, 8, 20
CT = Path(str(pydicom.data.get_testdata_file("CT_small.dcm", download=False)))
MR = Path(nibabel.testing.data_path) / "example4d.nii.gz"
IMAGES = Path(__file__).parent / "images"


def opened(path: Path, policy: Policy) -> Reader:
    """The reader of a single file."""
    module = reader_format("dicom" if path.suffix == ".dcm" else "nifti")
    source: Source = module.collect([Found(path, path.name, {})], policy, Pseudonyms(b"pictures")).sources[0]
    return module.open_source(source, policy)


def seen(path: Path, policy: Policy) -> np.ndarray:
    """What the encoder sees of the middle slice, as 8 bit for the page."""
    reader = opened(path, policy)
    plan = reader.plan()
    middle = plan.regions[len(plan.regions) // 2 :][:1]
    (image,) = reader.read(middle)
    reader.close()
    return np.rint(np.asarray(image) * 255).astype(np.uint8)


def row(name: str, tiles: Sequence[tuple[str, np.ndarray]]) -> None:
    """Tiles side by side with captions."""
    width = len(tiles) * (SIDE + GAP) - GAP
    sheet = Image.new("L", (width, SIDE + CAPTION), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for k, (caption, tile) in enumerate(tiles):
        sheet.paste(Image.fromarray(tile[..., 0]), (k * (SIDE + GAP), 0))
        draw.text((k * (SIDE + GAP) + SIDE // 2, SIDE + 3), caption, fill=0, font=font, anchor="ma")
    sheet.quantize(64).save(IMAGES / name, optimize=True)


def policy(ct_window: str = "soft-tissue", fit: str = "pad", plane: str = "acquired") -> Policy:
    return Policy(
        intensity=IntensityPolicy(ct_window=ct_window),
        image=ImagePolicy(size=SIDE, fit=fit),
        volume=VolumePolicy(volume_index="0", plane=plane),
    )


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    windows = ("lung", "soft-tissue", "bone", "brain", "percentile")
    row("ct-windows.png", [(name, seen(CT, policy(name))) for name in windows])
    row("fit.png", [(fit, seen(MR, policy(fit=fit))) for fit in ("pad", "squash", "crop")])
    row("planes.png", [(plane, seen(MR, policy(plane=plane))) for plane in ("axial", "coronal", "sagittal")])


if __name__ == "__main__":
    main()
