"""DICOM files written by tests: series, radiographs, and what goes wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "DX": "1.2.840.10008.5.1.4.1.1.1.1"}


def image(modality: str, pixels: npt.NDArray[Any], **tags: Any) -> FileDataset:
    """One image; ``tags`` override everything."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(CLASSES.get(modality, CTImageStorage))
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, "ID-4711", "Canary^Bird"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: FileDataset, path: Path) -> Path:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def body(z: float, side: int = 32) -> npt.NDArray[np.int16]:
    """A disc of soft tissue whose density tells the position: stored 1024 + z + 40 in the middle."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    pixels = np.zeros((side, side), dtype=np.int16)
    pixels[np.hypot(x, y) < 0.8] = 1024 + 40 + round(z)
    pixels[np.hypot(x - 0.3, y) < 0.2] = 1024 + 100
    return pixels


def series(folder: Path, positions: list[float], modality: str = "CT", **tags: Any) -> list[Path]:
    """A series of parallel slices at the given millimetres."""
    shared = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    paths = []
    for number, z in enumerate(positions):
        place = {
            "ImagePositionPatient": [-16.0, -16.0, z],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1.0, 1.0],
            "SliceThickness": 5.0,
            "InstanceNumber": number + 1,
        }
        dataset = image(modality, body(z), **{**shared, **place, **tags})
        paths.append(save(dataset, folder / f"im{number:03d}.dcm"))
    return paths
