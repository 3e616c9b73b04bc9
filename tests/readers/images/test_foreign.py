"""Pictures that are not read are named, with the way out."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from umedfeat.discovery import discover
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


def heic(path: Path) -> None:
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))


def jpeg2000(path: Path) -> None:
    path.write_bytes(imagecodecs.jpeg2k_encode(PIXELS))


def avif(path: Path) -> None:
    path.write_bytes(imagecodecs.avif_encode(PIXELS))


def jpegxl(path: Path) -> None:
    path.write_bytes(imagecodecs.jpegxl_encode(PIXELS))


WRITERS = [(heic, "a HEIC"), (jpeg2000, "a JPEG 2000"), (avif, "an AVIF"), (jpegxl, "a JPEG XL")]


@pytest.mark.parametrize(("write", "what"), WRITERS)
@pytest.mark.parametrize("name", ["picture", "picture.jpg"])
def test_a_picture_of_another_format_fails_by_name(tmp_path: Path, write, what: str, name: str) -> None:
    write(tmp_path / name)
    (failure,) = discover([tmp_path], Policy(), Pseudonyms(b"key")).failures
    assert failure.message == f"{name}: {what} picture, which is not read here"
    assert failure.remedy == "convert it to PNG or TIFF"
