"""What fails for lack of memory is no damaged file, and none of its regions is dropped as one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from dicom_factory import body, image, save

from umedfeat.discovery import discover
from umedfeat.engine.local.worker import named_faults
from umedfeat.errors import UnreadableInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader
from umedfeat.readers.dicom import decode
from umedfeat.readers.slides.tiff_pieces import PagePieces


def lacking(*_: Any, **__: Any) -> None:
    raise MemoryError


def read(folder: Path) -> None:
    policy = Policy(slide=SlidePolicy(tile_size=64, tissue="none"))
    (source,) = discover([folder], policy, Pseudonyms(b"k" * 16)).sources
    with named_faults(source), contextlib.closing(open_reader(source, policy)) as reader:
        reader.read(reader.plan().regions)


def test_of_a_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    pixels = np.zeros((256, 256, 3), np.uint8)
    tifffile.imwrite(tmp_path / "s.ome.tif", pixels, tile=(128, 128), photometric="rgb", ome=True, metadata=sizes)
    monkeypatch.setattr(PagePieces, "_decoded", lacking)
    with pytest.raises(UnreadableInput, match="not enough memory") as caught:
        read(tmp_path)
    assert "--workers" in caught.value.remedy


def test_of_a_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(image("CT", body(0)), tmp_path / "a.dcm")
    codec = type("Codec", (), {"as_array": lacking})()
    monkeypatch.setattr(decode, "_decoder", lambda *_: codec)
    assert pydicom.dcmread(tmp_path / "a.dcm").Modality == "CT"
    with pytest.raises(UnreadableInput, match="not enough memory"):
        read(tmp_path)
