"""The frames of one file as a stack: an enhanced CT or MR, a cine, a single image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.dicom.decode import FrameDecoder
from umedfeat.readers.dicom.facts import (
    affine_of,
    detail_of,
    is_calibrated,
    pixel_facts,
    pixel_spacing,
    positive_pair,
    thickness_of,
    told_spacing,
)
from umedfeat.readers.dicom.frames import FrameVolume, NoPlace, chosen_volume, functional_group, volumes_in
from umedfeat.readers.dicom.load import load, parsing
from umedfeat.readers.dicom.numbers import number_of, numbers_of, whole_of
from umedfeat.readers.dicom.on_disk import close_pixels
from umedfeat.readers.dicom.pixels import grey_of, is_colour, is_float, is_inverted, physical, voi_of
from umedfeat.readers.dicom.repeats import NotParted
from umedfeat.readers.dicom.steps import steps_told
from umedfeat.readers.dicom.suv import suv_facts, voi_in_suv
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["FramesStack"]


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
        self._dataset = load(path, name, max_pixels)
        self._decode = FrameDecoder(name)
        dataset = self._dataset
        volumes = _volumes(dataset, name)
        detail: dict[str, Json] = {}
        affine, origins, spacing = None, None, pixel_spacing(dataset)
        if volumes:
            volume = chosen_volume(volumes, volume_index, name)
            self._frames, origins = volume.frames, volume.origins
            spacing, thickness = _measures(dataset, volume.frames[0][0])
            affine = affine_of(volume.orientation, spacing, origins, thickness)
            detail = steps_told(origins, volume.orientation)
            if len(volumes) > 1:
                detail |= {"volumes": len(volumes), "volume": volume_index}
                detail |= {"parted_by": volume.parted_by} if volume.parted_by else {}
        else:
            self._frames = tuple((frame,) for frame in range(whole_of(dataset, "NumberOfFrames") or 1))
            if modality in {"NM", "PT", "CT", "MR"} and len(self._frames) > 1:
                detail["orientation"] = "orientation unknown: frames as they are stored"
        decoder, pixels = self._decoded()
        self._grey_colours = bool(pixels.get("grey_as_colour"))
        suv = suv_facts(dataset, [path]) if modality == "PT" else {}
        self._factor: float | None = suv.get("factor")
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
            measured=told_spacing(dataset) is not None,
            colour=is_colour(dataset) and not self._grey_colours,
            invert=is_inverted(dataset),
            calibrated=is_calibrated(dataset, modality, name) and not self._grey_colours,
            suv=self._factor is not None,
            floating=is_float(dataset),
            detail={**detail_of(dataset, decoder), **pixels, **detail, **({"suv": suv} if suv else {})},
        )

    def slice(self, k: int) -> tuple[Floats32, Mask | None]:
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

    def _physical(self, frame: int) -> tuple[Floats32, Mask | None]:
        stored, _ = self._decode(self._dataset, frame)
        values, padding = physical(self._dataset, stored, frame, self._name)
        values = grey_of(values) if self._grey_colours else values
        return (values if self._factor is None else values * np.float32(self._factor)), padding

    def _decoded(self) -> tuple[str, dict[str, Json]]:
        """The decoder, and what the first frame's pixels tell; greys must be grey in the last and middle frame, too."""
        stored, decoder = self._decode(self._dataset, self._frames[0][0])
        pixels = pixel_facts(self._dataset, stored)
        for k in {len(self._frames) // 2, len(self._frames) - 1} - {0}:
            if pixels.get("grey_as_colour"):
                later, _ = self._decode(self._dataset, self._frames[k][0])
                pixels["grey_as_colour"] = bool(pixel_facts(self._dataset, later).get("grey_as_colour"))
        return decoder, pixels

    def stored_voi(self, k: int) -> StoredVoi | None:
        """Window stored with frame k."""
        with parsing(self._name):
            return voi_in_suv(voi_of(self._dataset, self._frames[k][0]), self._factor)

    def close(self) -> None:
        """Close the file, where its pixels have stayed on disk."""
        close_pixels(self._dataset)


def _volumes(dataset: pydicom.Dataset, name: str) -> list[FrameVolume]:
    try:
        return volumes_in(dataset)
    except NoPlace as error:
        raise UnreadableInput(f"{name}: {error}", remedy="repair the header") from error
    except NotParted as error:
        message = f"{name}: {error}".replace("images lie", "frames lie").replace("InstanceNumber", "their order")
        raise UnsupportedInput(message, remedy="export the phases as series of their own") from error


def _measures(dataset: pydicom.Dataset, frame: int) -> tuple[tuple[float, float], float]:
    """(row, column) millimetres of a frame's pixels and its thickness."""
    measures = functional_group(dataset, frame, "PixelMeasuresSequence")
    if measures is None:
        return pixel_spacing(dataset), thickness_of(dataset)
    spacing = positive_pair(numbers_of(measures, "PixelSpacing")) or pixel_spacing(dataset)
    return spacing, abs(number_of(measures, "SliceThickness") or 0.0) or 1.0
