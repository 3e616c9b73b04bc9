"""DICOM files as a stack of slices: one file a slice, or the frames of one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import TooLarge, UmedfeatError, UnreadableInput, UnsupportedInput
from umedfeat.policy import Limits
from umedfeat.readers.dicom.decode import FrameDecoder
from umedfeat.readers.dicom.frames import FrameVolume, chosen_volume, functional_group, volumes_in
from umedfeat.readers.dicom.header import without_warnings
from umedfeat.readers.dicom.on_disk import close_pixels, read_dataset
from umedfeat.readers.dicom.pixels import (
    Mask,
    Values,
    claims_hounsfield,
    is_colour,
    is_float,
    is_inverted,
    is_secondary_capture,
    physical,
    voi_of,
)
from umedfeat.readers.dicom.repeats import NotParted
from umedfeat.readers.dicom.steps import steps_told
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["FramesStack", "SeriesStack", "parsing"]

#: Defined terms of ViewPosition (PS3.3 C.7.3.1, C.8.7.1, C.8.11.5, C.8.11.7) and the usual mammography views.
_VIEWS = frozenset({
    "AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL", "CC", "MLO", "ML", "LM", "LMO", "SIO", "ISO",
    "FB", "XCC", "XCCL", "XCCM", "CV", "AT", "RM", "TAN",
})  # fmt: skip
_SIDES = frozenset({"L", "R", "B", "U"})

Origins = npt.NDArray[np.float64]


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """pydicom parses values when they are asked for, and raises whatever damaged bytes lead to.

    Raises:
        UnreadableInput: in place of any such error.
    """
    try:
        with without_warnings():
            yield
    except (UmedfeatError, RegionUnreadable):
        raise
    except Exception as error:
        message = f"{name}: the DICOM file is damaged ({type(error).__name__})"
        raise UnreadableInput(message, remedy="export it again from the archive") from error


def _load(path: Path, name: str, max_pixels: int = Limits.max_pixels) -> pydicom.Dataset:
    with parsing(name):
        dataset = read_dataset(path)
        if "PixelData" not in dataset and not is_float(dataset):
            raise UnreadableInput(f"{name}: no pixel data", remedy="export it again from the archive")
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        if rows * columns > max_pixels:
            message = f"{name}: {columns}x{rows} pixels, more than {max_pixels}"
            raise TooLarge(message, remedy="raise --max-pixels if this is right")
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    return dataset


def _guessed_syntax(dataset: pydicom.Dataset) -> pydicom.uid.UID:
    """Bare data sets (read with --force only) are uncompressed; the parser has found out how they are encoded."""
    implicit, little = dataset.original_encoding
    if implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian


def _calibrated(dataset: pydicom.Dataset, modality: str, name: str) -> bool:
    return modality != "CT" or claims_hounsfield(dataset, name)


def _detail(dataset: pydicom.Dataset, decoder: str) -> dict[str, Json]:
    """Facts worth keeping; only these tags, none of them free text."""
    detail: dict[str, Json] = {"decoder": decoder, "transfer_syntax": str(dataset.file_meta.TransferSyntaxUID.name)}
    for tag, key in (("ViewPosition", "view"), ("ImageLaterality", "laterality"), ("Laterality", "laterality")):
        value = str(dataset.get(tag, "") or "").upper()
        if value in (_VIEWS if key == "view" else _SIDES):
            detail.setdefault(key, value)
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        detail["burned_in_annotation"] = True
    if str(next(iter(dataset.get("ImageType") or [""]), "")).upper() == "DERIVED":
        detail["derived"] = True
    if dataset.get("LossyImageCompression") == "01":
        detail["lossy"] = True
    if dataset.get("ConcatenationUID"):  # other files hold the rest (PS3.3 C.7.6.16.2.2.4)
        number, total = dataset.get("InConcatenationNumber"), dataset.get("InConcatenationTotalNumber")
        detail["part"] = f"{int(number or 0) or '?'} of {int(total or 0) or '?'}"
    if is_secondary_capture(dataset):
        detail["secondary_capture"] = True
    return detail


def _pixel_spacing(dataset: pydicom.Dataset) -> tuple[float, float]:
    for tag in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        pair = _positive_pair(dataset.get(tag))
        if pair is not None:
            return pair
    aspect = _positive_pair(dataset.get("PixelAspectRatio"))
    return (aspect[0] / aspect[1], 1.0) if aspect is not None else (1.0, 1.0)


def _positive_pair(value: Any) -> tuple[float, float] | None:
    """Two positive numbers, or None for anything else that headers hold there."""
    if not isinstance(value, pydicom.multival.MultiValue | list | tuple) or len(value) != 2:
        return None
    first, second = float(value[0]), float(value[1])
    return (first, second) if first > 0 and second > 0 else None


def _affine(orientation: Sequence[float], spacing: tuple[float, float], origins: Origins, thickness: float) -> Origins:
    """(4, 4) of (column, row, slice, 1) to LPS millimetres; PS3.3 C.7.6.2.1.1."""
    across, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    step = np.cross(across, down) * thickness
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * spacing[1], down * spacing[0]
    affine[:3, 2], affine[:3, 3] = step, origins[0]
    return affine


class SeriesStack:
    """SliceStack over single-frame files, sorted along the normal already.

    Args:
        files: one a slice.
        name, modality: of the source.
        carry: ``StackFacts.carry`` of an earlier plan, or empty.
        told: facts of the grouping to store ("parted_by", "note"), those that are not empty.
        max_pixels: of one slice.
    """

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        modality: str,
        carry: dict[str, Any],
        told: Mapping[str, str],
        max_pixels: int,
    ) -> None:
        self._max_pixels = max_pixels
        self._files = files
        self._name = name
        self._open: tuple[int, pydicom.Dataset] | None = None
        self._decode = FrameDecoder(name)
        first = self._dataset(0)
        orientation = [float(value) for value in first.ImageOrientationPatient]
        places = carry.get("places") or [self._place(k) for k in range(len(files))]
        self._origins = origins = np.array([place[:3] for place in places], dtype=float)
        spacing = _pixel_spacing(first)
        thickness = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0) or 1.0
        decoder = carry.get("decoder") or self._decoder()
        self.facts = StackFacts(
            name=name,
            format=f"dicom-{modality.lower() or 'image'}",
            modality=modality or "OT",
            cols=int(first.Columns),
            rows=int(first.Rows),
            slices=len(files),
            affine=_affine(orientation, spacing, origins, abs(thickness)),
            origins=origins,
            pixel_spacing=spacing,
            colour=is_colour(first),
            invert=is_inverted(first),
            calibrated=_calibrated(first, modality, name),
            floating=is_float(first),
            detail={
                **_detail(first, decoder),
                **steps_told(origins, orientation, [place[3] for place in places]),
                **{key: text for key, text in told.items() if text},
            },
            carry={"places": places, "decoder": decoder},
        )

    def slice(self, k: int) -> tuple[Values, Mask | None]:
        """Slice k in physical units."""
        try:
            with parsing(self._name):
                dataset = self._dataset(k)
                stored, _ = self._decode(dataset, 0)
                return physical(dataset, stored, 0, self._name)
        except UnreadableInput as error:
            place = ", ".join(f"{value:g}" for value in self._origins[k])
            raise RegionUnreadable(f"at ({place}) mm: {error.message.partition(': ')[2]}") from error

    def stored_voi(self, k: int) -> StoredVoi | None:
        """Window stored with slice k."""
        with parsing(self._name):
            return voi_of(self._dataset(k), 0)

    def close(self) -> None:
        """Nothing stays open."""
        self._open = None

    def _dataset(self, k: int) -> pydicom.Dataset:
        if self._open is None or self._open[0] != k:
            self._open = (k, _load(self._files[k], self._name, self._max_pixels))
        return self._open[1]

    def _place(self, k: int) -> list[float]:
        """The first voxel of slice k in LPS millimetres, and the thickness (0 where it is not told)."""
        tags = ["ImagePositionPatient", "SliceThickness"]
        header = pydicom.dcmread(self._files[k], stop_before_pixels=True, specific_tags=tags, force=True)
        return [*(float(value) for value in header.ImagePositionPatient), float(header.get("SliceThickness") or 0)]

    def _decoder(self) -> str:
        try:
            return self._decode(self._dataset(0), 0)[1]
        except UnreadableInput:  # this slice is lost, the others may be sound
            return "unknown"


class FramesStack:
    """SliceStack over the frames of one file: an enhanced CT or MR (sorted by position), a cine, a single image.

    Args:
        path: the file.
        name, modality: of the source.
        volume_index: "N" or "mean", where an enhanced file holds several volumes.
        max_pixels: of one frame.
    """

    def __init__(self, path: Path, name: str, modality: str, volume_index: str, max_pixels: int) -> None:
        self._name = name
        self._frames: tuple[tuple[int, ...], ...]
        self._dataset = _load(path, name, max_pixels)
        self._decode = FrameDecoder(name)
        dataset = self._dataset
        volumes = _volumes(dataset, name)
        detail: dict[str, Json] = {}
        affine, origins, spacing = None, None, _pixel_spacing(dataset)
        if volumes:
            volume = chosen_volume(volumes, volume_index, name)
            self._frames, origins = volume.frames, volume.origins
            spacing, thickness = _measures(dataset, volume.frames[0][0])
            affine = _affine(volume.orientation, spacing, origins, thickness)
            detail = steps_told(origins, volume.orientation)
            if len(volumes) > 1:
                detail |= {"volumes": len(volumes), "volume": volume_index}
                detail |= {"parted_by": volume.parted_by} if volume.parted_by else {}
        else:
            self._frames = tuple((frame,) for frame in range(int(dataset.get("NumberOfFrames", 1) or 1)))
        _, decoder = self._decode(dataset, self._frames[0][0])
        self.facts = StackFacts(
            name=name,
            format=f"dicom-{modality.lower() or 'image'}",
            modality=modality or "OT",
            cols=int(dataset.Columns),
            rows=int(dataset.Rows),
            slices=len(self._frames),
            affine=affine,
            origins=origins,
            pixel_spacing=spacing,
            colour=is_colour(dataset),
            invert=is_inverted(dataset),
            calibrated=_calibrated(dataset, modality, name),
            floating=is_float(dataset),
            detail={**_detail(dataset, decoder), **detail},
        )

    def slice(self, k: int) -> tuple[Values, Mask | None]:
        """Slice k in physical units, the mean where several volumes are averaged."""
        try:
            with parsing(self._name):
                read = [self._physical(frame) for frame in self._frames[k]]
        except UnreadableInput as error:
            if len(self._frames) == 1:
                raise
            frame = self._frames[k][0] + 1
            raise RegionUnreadable(f"frame {frame}: {error.message.partition(': ')[2]}") from error
        if len(read) == 1:
            return read[0]
        paddings = [padding for _, padding in read if padding is not None]
        values = np.asarray(np.mean([values for values, _ in read], axis=0, dtype=np.float64), dtype=np.float32)
        return values, np.logical_or.reduce(paddings) if paddings else None

    def _physical(self, frame: int) -> tuple[Values, Mask | None]:
        stored, _ = self._decode(self._dataset, frame)
        return physical(self._dataset, stored, frame, self._name)

    def stored_voi(self, k: int) -> StoredVoi | None:
        """Window stored with frame k."""
        with parsing(self._name):
            return voi_of(self._dataset, self._frames[k][0])

    def close(self) -> None:
        """Close the file, where its pixels have stayed on disk."""
        close_pixels(self._dataset)


def _volumes(dataset: pydicom.Dataset, name: str) -> list[FrameVolume]:
    try:
        return volumes_in(dataset)
    except NotParted as error:
        message = f"{name}: {error}".replace("images lie", "frames lie").replace("InstanceNumber", "their order")
        raise UnsupportedInput(message, remedy="export the phases as series of their own") from error


def _measures(dataset: pydicom.Dataset, frame: int) -> tuple[tuple[float, float], float]:
    """(row, column) millimetres of a frame's pixels and its thickness."""
    measures = functional_group(dataset, frame, "PixelMeasuresSequence")
    if measures is None:
        return _pixel_spacing(dataset), 1.0
    spacing = _positive_pair(measures.get("PixelSpacing")) or _pixel_spacing(dataset)
    return spacing, float(measures.get("SliceThickness") or 1.0) or 1.0
