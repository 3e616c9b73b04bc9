"""A series as a stack: one file a slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnreadableInput
from umedfeat.readers.dicom.decode import FrameDecoder
from umedfeat.readers.dicom.facts import (
    affine_of,
    detail_of,
    is_calibrated,
    pixel_facts,
    pixel_spacing,
    thickness_of,
    told_spacing,
)
from umedfeat.readers.dicom.load import load, parsing
from umedfeat.readers.dicom.numbers import number_of, numbers_of, texts_of
from umedfeat.readers.dicom.pixels import grey_of, is_colour, is_float, is_inverted, physical, voi_of
from umedfeat.readers.dicom.steps import steps_told
from umedfeat.readers.dicom.suv import suv_facts, voi_in_suv
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["SeriesStack"]

_UNPLACED: dict[str, Json] = {"orientation": "orientation unknown: slices in the order of InstanceNumber"}


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
        orientation = numbers_of(first, "ImageOrientationPatient")
        places = carry.get("places") or [self._place(k) for k in range(len(files))]
        placed = bool(orientation) and all(len(place) == 4 for place in places)
        self._origins = origins = np.array([place[:3] for place in places], dtype=float) if placed else None
        spacing = pixel_spacing(first)
        decoder, pixels = carry.get("decoded") or self._decoded()
        self._grey_colours = bool(pixels.get("grey_as_colour"))
        suv: dict[str, Any] = carry.get("suv") or (suv_facts(first, files) if modality == "PT" else {})
        self._factor = suv.get("factor")
        self.facts = StackFacts(
            name=name,
            format=f"dicom-{modality.lower() or 'image'}",
            modality=modality or "OT",
            cols=int(first.Columns),
            rows=int(first.Rows),
            slices=len(files),
            affine=None if origins is None else affine_of(orientation, spacing, origins, thickness_of(first)),
            origins=origins,
            pixel_spacing=spacing,
            measured=told_spacing(first) is not None,
            colour=is_colour(first) and not self._grey_colours,
            invert=is_inverted(first),
            calibrated=is_calibrated(first, modality, name) and not self._grey_colours,
            suv=self._factor is not None,
            bolus=modality == "MR" and bool(told.get("parted_by")) and bool(texts_of(first, "ContrastBolusAgent")),
            floating=is_float(first),
            detail={
                **detail_of(first, decoder),
                **pixels,
                **(_UNPLACED if origins is None else steps_told(origins, orientation, [place[3] for place in places])),
                **{key: text for key, text in told.items() if text},
                **({"suv": suv} if suv else {}),
            },
            carry={"places": places, "decoded": (decoder, pixels), "suv": suv},
        )

    def slice(self, k: int) -> tuple[Floats32, Mask | None]:
        """Slice k in physical units: Hounsfield units, SUV where the tags allow it."""
        try:
            with parsing(self._name):
                dataset = self._dataset(k)
                stored, _ = self._decode(dataset, 0)
                values, padding = physical(dataset, stored, 0, self._name)
                values = grey_of(values) if self._grey_colours else values
                return (values if self._factor is None else values * np.float32(self._factor)), padding
        except UnreadableInput as error:
            place = "" if self._origins is None else ", ".join(f"{value:g}" for value in self._origins[k])
            where = f"at ({place}) mm" if place else f"slice {k + 1}"
            raise RegionUnreadable(f"{where}: {error.message.partition(': ')[2]}") from error

    def stored_voi(self, k: int) -> StoredVoi | None:
        """Window stored with slice k."""
        with parsing(self._name):
            return voi_in_suv(voi_of(self._dataset(k), 0), self._factor)

    def close(self) -> None:
        """Nothing stays open."""
        self._open = None

    def _dataset(self, k: int) -> pydicom.Dataset:
        if self._open is None or self._open[0] != k:
            self._open = (k, load(self._files[k], self._name, self._max_pixels))
        return self._open[1]

    def _place(self, k: int) -> list[float]:
        """The first voxel of slice k in LPS millimetres, and the thickness (0 where it is not told)."""
        tags = ["ImagePositionPatient", "SliceThickness"]
        header = pydicom.dcmread(self._files[k], stop_before_pixels=True, specific_tags=tags, force=True)
        return [*numbers_of(header, "ImagePositionPatient"), number_of(header, "SliceThickness") or 0.0]

    def _decoded(self) -> tuple[str, dict[str, Json]]:
        """The decoder of the first slice, and what its pixels tell."""
        first = self._dataset(0)
        try:
            stored, decoder = self._decode(first, 0)
        except UnreadableInput:  # this slice is lost, the others may be sound
            return "unknown", {}
        return decoder, pixel_facts(first, stored)
