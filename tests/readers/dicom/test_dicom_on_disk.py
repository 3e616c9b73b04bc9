"""Pixels that stay on disk are the same pixels, and a file that is too short is damaged all the same."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import body, image, save
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset
from test_dicom import SMALL, find, read

from umedfeat.errors import UmedfeatError
from umedfeat.readers import open_reader
from umedfeat.readers.dicom import on_disk as dicom_on_disk
from umedfeat.readers.dicom.decode import decode_frame
from umedfeat.readers.dicom.load import load, parsing
from umedfeat.readers.dicom.on_disk import close_pixels


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_on_disk, "_DEFERRED_BYTES", 64)


def decoded(path: Path) -> np.ndarray | str:
    """The last frame, or the kind of the fault."""
    try:
        dataset = load(path, "x")
        with parsing("x"):
            return decode_frame(dataset, int(dataset.get("NumberOfFrames", 1) or 1) - 1, "x")[0]
    except UmedfeatError as error:
        return type(error).__name__


def is_buffered(dataset: Dataset) -> bool:
    return bool(dataset["PixelData"].is_buffered)


def test_every_file_of_pydicom_gives_the_same_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [path for path in sorted(Path(DATA_ROOT, "test_files").glob("*.dcm")) if path.stat().st_size < 1 << 20]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [decoded(path) for path in paths]
        monkeypatch.setattr(dicom_on_disk, "_DEFERRED_BYTES", 64)
        buffered = 0
        for path, theirs in zip(paths, expected, strict=True):
            ours = decoded(path)
            assert np.array_equal(ours, theirs), path.name
            buffered += not isinstance(ours, str) and is_buffered(load(path, "x"))
    assert buffered >= 15


def test_a_cine_is_read_by_frame_and_closed(on_disk: None, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 4000, (400, 64, 64)).astype(np.uint16)
    save(image("US", frames[0], NumberOfFrames=len(frames), PixelData=frames.tobytes()), tmp_path / "a.dcm")
    source = find(tmp_path).sources[0]
    tracemalloc.start()
    reader = open_reader(source, SMALL)
    for k in (0, 7, 399):
        assert np.array_equal(reader._stack.slice(k)[0], frames[k])  # type: ignore[attr-defined]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.nbytes / 2
    dataset = reader._stack._dataset  # type: ignore[attr-defined]
    assert is_buffered(dataset)
    reader.close()
    reader.close()
    assert dataset["PixelData"].value.closed
    close_pixels(Dataset())


def test_a_file_that_is_too_short_stays_on_no_disk(on_disk: None, tmp_path: Path) -> None:
    pixels = np.stack([body(k) for k in range(3)])
    path = save(image("US", pixels[0], NumberOfFrames=3, PixelData=pixels.tobytes()), tmp_path / "a.dcm")
    whole = path.read_bytes()
    for cut in (100, 3000, 5000):
        path.write_bytes(whole[:-cut])
        with pytest.raises(UmedfeatError, match="damaged"):
            read(find(tmp_path).sources[0])
