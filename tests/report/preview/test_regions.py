"""The overlay of a region of interest shows where the mask lies and what is cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nifti_factory import RAS, write
from PIL import Image

from umedfeat.policy import ImagePolicy, Policy, RoiPolicy
from umedfeat.report.preview import preview
from umedfeat.report.preview.drawing import ORANGE, SKY


def test_the_overlay_shows_the_outline_and_the_square(tmp_path: Path) -> None:
    """A mask of 4 x 4 of 24 x 20 voxels; 320 pixels show 24 voxels, so its outline is some 53 pixels wide."""
    mask = np.zeros((24, 20, 8), np.uint8)
    mask[10:14, 6:10, 2:4] = 1
    write(tmp_path / "image.nii.gz")
    write(tmp_path / "mask.nii.gz", mask, RAS)
    (tmp_path / "study.csv").write_text("path,mask\nimage.nii.gz,mask.nii.gz\n")
    policy = Policy(image=ImagePolicy(size=64), roi=RoiPolicy(margin=2.0))
    shown = preview(tmp_path / "study.csv", tmp_path / "out", policy=policy)
    assert shown.shown == 1 and shown.regions == 2
    (picture,) = (tmp_path / "out" / "pictures").glob("*.overlay.png")
    pixels = np.asarray(Image.open(picture).convert("RGB"))[:320, :320]
    for colour, width in ((SKY, 4 * 320 / 24), (ORANGE, 8 * 320 / 24)):
        rows, cols = np.nonzero((pixels == colour).all(axis=-1))
        assert np.ptp(cols) == np.ptp(rows) or abs(np.ptp(cols) - np.ptp(rows)) < 3
        assert abs(np.ptp(cols) - width) < 4
    assert picture.name in (tmp_path / "out" / "index.html").read_text()
