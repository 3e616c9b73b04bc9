"""Whole-slide DICOM written by tests: levels, focal planes and optical paths, with the scale that a test wants."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

RGB = npt.NDArray[np.uint8]

CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 256


def tiles_of(pixels: RGB) -> list[RGB]:
    """Whole tiles, row by row, the last ones filled up."""
    extra = [(0, -pixels.shape[0] % TILE), (0, -pixels.shape[1] % TILE), *[(0, 0)] * (pixels.ndim - 2)]
    whole = np.pad(pixels, extra, mode="edge")
    return [
        whole[y : y + TILE, x : x + TILE]
        for y in range(0, whole.shape[0], TILE)
        for x in range(0, whole.shape[1], TILE)
    ]


def jpeg(tile: RGB) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(tile).save(stream, "JPEG", quality=98, subsampling=0)
    return stream.getvalue()


def write_instance(
    path: Path,
    planes: list[RGB],
    mpp: float,
    *,
    series: str,
    photometric: str = "YBR_FULL_422",
    size: tuple[int, int] | None = None,
    paths: int = 1,
    lossless: bool = False,
    kind: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"),
) -> Path:
    """One level.

    Args:
        planes: pixels of every optical path and focal plane, paths outermost.
        size: (width, height) of the total pixel matrix, where it is not that of the pixels.
        lossless: uncompressed instead of JPEG.
    """
    height, width = planes[0].shape[:2]
    frames = [tile for plane in planes for tile in tiles_of(plane)]
    colours = planes[0].ndim == 3
    header = _header(series, mpp, size or (width, height), kind)
    header.SamplesPerPixel, header.PhotometricInterpretation = (3, photometric) if colours else (1, "MONOCHROME2")
    if colours:
        header.PlanarConfiguration = 0
    header.NumberOfFrames = len(frames)
    header.NumberOfOpticalPaths, header.TotalPixelMatrixFocalPlanes = paths, len(planes) // paths
    header.OpticalPathSequence = Sequence([_optical_path(k) for k in range(paths)])
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if lossless else JPEGBaseline8Bit
    if lossless:
        header.PixelData = b"".join(tile.tobytes() for tile in frames)
        header["PixelData"].VR = "OB"
    else:
        header.PixelData = encapsulate([jpeg(tile) for tile in frames])
    header.save_as(path, enforce_file_format=True)
    return path


def _optical_path(number: int) -> Dataset:
    path = Dataset()
    path.OpticalPathIdentifier = str(number + 1)
    return path


def _header(series: str, mpp: float, size: tuple[int, int], kind: tuple[str, ...]) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = CLASS
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.SOPClassUID, header.SOPInstanceUID = CLASS, header.file_meta.MediaStorageSOPInstanceUID
    header.ImageType, header.Modality, header.VolumetricProperties = list(kind), "SM", "VOLUME"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3.4", series, "1.2.3.5"
    header.InstanceNumber, header.DimensionOrganizationType = 1, "TILED_FULL"
    header.Rows = header.Columns = TILE
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = size
    header.ImagedVolumeWidth, header.ImagedVolumeHeight = size[0] * mpp / 1000, size[1] * mpp / 1000
    header.ImagedVolumeDepth = 0.001
    header.ContainerIdentifier, header.FocusMethod, header.ExtendedDepthOfField = "c", "AUTO", "NO"
    header.BurnedInAnnotation, header.LossyImageCompression = "NO", "01"
    header.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin, measures, shared = Dataset(), Dataset(), Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = "20", "40"
    header.TotalPixelMatrixOriginSequence = Sequence([origin])
    measures.PixelSpacing = [f"{mpp / 1000:.8g}", f"{mpp / 1000:.8g}"]
    measures.SliceThickness = "0.001"
    shared.PixelMeasuresSequence = Sequence([measures])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    return header


def write_pyramid(folder: Path, levels: list[tuple[RGB, float]], **options: Any) -> list[Path]:
    """A series: (pixels, micrometres per pixel) of every level."""
    folder.mkdir(exist_ok=True)
    series = generate_uid()
    kinds = [("ORIGINAL", "PRIMARY", "VOLUME", "NONE")] + [("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")] * len(levels)
    return [
        write_instance(folder / f"level{k}.dcm", [pixels], mpp, series=series, kind=kind, **options)
        for k, ((pixels, mpp), kind) in enumerate(zip(levels, kinds, strict=False))
    ]


def read_back(path: Path) -> pydicom.Dataset:
    """The file as pydicom reads it."""
    return pydicom.dcmread(path)
