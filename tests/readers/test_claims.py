"""What a header claims costs a few bytes; what a reader believes of it may cost gigabytes or hours."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import image, save
from PIL import Image

from umedfeat.discovery import discover
from umedfeat.errors import UnreadableInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers.dicom.load import load
from umedfeat.readers.images.decode import read_header


@pytest.mark.parametrize("frames", [2**31 - 1, 100_000_000])
def test_a_dicom_that_claims_two_billion_frames_takes_no_memory(tmp_path: Path, frames: int) -> None:
    dataset = image("US", np.zeros((8, 8), np.uint16))
    dataset.NumberOfFrames = str(frames)
    path = tmp_path / "cine.dcm"
    save(dataset, path)
    tracemalloc.start()
    found = discover([path], Policy(), Pseudonyms(b"test key"))
    with pytest.raises(UnreadableInput, match=f"claims {frames:,} frames"):
        load(path, "cine.dcm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"claims {frames:,} frames" in found.failures[0].message
    assert peak < 50 << 20


def test_a_jpeg_of_three_thousand_scans_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(encoded, "JPEG", progressive=True)
    raw = encoded.getvalue()
    last = raw[raw.rindex(b"\xff\xda") : -2]
    sound, bomb = tmp_path / "sound.jpg", tmp_path / "bomb.jpg"
    sound.write_bytes(raw)
    bomb.write_bytes(raw[:-2] + last * 3000 + raw[-2:])
    assert read_header(sound, "sound.jpg", 10**6).width == 16
    with pytest.raises(UnreadableInput, match=r"JPEG of 30\d\d scans"):
        read_header(bomb, "bomb.jpg", 10**6)


def tiff_of(directories: int) -> bytes:
    """A grey TIFF of 8 × 8 pixels, the same for every directory."""
    tags = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 8)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in [*tags, (279, 4, 64)])
    size = 2 + len(entries) + 4
    chain = [
        struct.pack("<H", len(tags) + 1)
        + entries
        + struct.pack("<I", 72 + size * (k + 1) if k + 1 < directories else 0)
        for k in range(directories)
    ]
    return b"II*\0" + struct.pack("<I", 72) + bytes(range(64)) + b"".join(chain)


def test_a_tiff_of_too_many_directories_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pages.tif"
    path.write_bytes(tiff_of(300))
    assert len(read_header(path, "pages.tif", 10**6).pages) == 300
    monkeypatch.setattr("umedfeat.readers.images.tiff.MAX_FRAMES", 200)
    with pytest.raises(UnreadableInput, match="more than 200"):
        read_header(path, "pages.tif", 10**6)
