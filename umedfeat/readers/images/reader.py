"""Flat images: PNG, JPEG, BMP, WebP and TIFF that is no slide.

- A picture is resized as a whole to ``policy.image.size`` (``policy.image.fit``). ``policy.image.tile`` cuts it into
  squares instead: see ``raster_tiles``.
- Colours keep their full range. Greys (one channel, or three equal ones) are taken as radiographs and get
  ``policy.intensity.window``, percentiles of the whole image by default, whatever their depth; a declared modality of
  FULL_RANGE_MODALITIES keeps the full range of 8-bit greys too.
- Pages of a TIFF and frames of an animation are slices of one item; ``policy.volume.frames`` selects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Collected, Found, Reader, RegionUnreadable, Source
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.images.decode import decode, read_header
from umedfeat.readers.images.foreign import is_foreign_picture, picture_refusal
from umedfeat.readers.images.pixels import DAMAGED, Header, Page
from umedfeat.readers.images.tiff import is_tiff
from umedfeat.readers.images.tiles import TileReader
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.volume import StackFacts, VolumeReader

__all__ = ["FULL_RANGE_MODALITIES", "RasterStack", "collect", "open_source", "sniff"]

#: Declared modalities whose greys are shown as they are: photographs and microscopy.
FULL_RANGE_MODALITIES = frozenset({"PHOTO", "HISTOLOGY", "WSI", "XC", "GM", "SM", "ES", "OP"})

#: A picture that is shrunk more than this loses what a pathologist looks for.
_MUCH_SMALLER = 10
_CACHED_BYTES = 64 << 20
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


def sniff(path: Path, head: bytes) -> bool:
    """Is this a flat image, one of a format that is not read included? By its magic bytes."""
    return is_foreign_picture(head) or (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
        or is_tiff(head)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS)
    )


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """One source per file; pictures of other formats fail by name."""
    refusals = {file.path: refusal for file in found if (refusal := picture_refusal(file.path, file.name)) is not None}
    read = [file for file in found if file.path not in refusals]
    sources = [Source(stem_of(file.name), "raster", file.path, (file.path,), file.name) for file in read]
    return Collected(sources, [], list(refusals.values()))


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open one image.

    Raises:
        InputError: damaged, too large, or of a kind that is not read.
    """
    stack = RasterStack(source, policy, dict(prepared or {}).get("stack"))
    if policy.image.tile:
        if source.roi is not None:
            message = f"{source.name}: a region of interest is cut out, not tiled"
            raise UnsupportedInput(message, remedy="leave out --tile, or the columns mask, box and point")
        return TileReader(stack, source, policy, prepared)
    return VolumeReader(stack, policy, prepared, source.roi)


class RasterStack:
    """SliceStack over the pages of one image file, without geometry.

    Args:
        source: the file; its modality decides whether greys keep their full range.
        policy: ``limits.max_pixels`` and the modality of the undeclared.
        carried: what an earlier plan learned from the first page, or None.
    """

    def __init__(self, source: Source, policy: Policy, carried: Mapping[str, Any] | None) -> None:
        self._path, self._name = source.path, source.name
        self._header = header = read_header(source.path, source.name, policy.limits.max_pixels)
        self._cache: tuple[int, Page] | None = None
        modality = (source.modality or policy.volume.modality).upper()
        if carried is None:
            first = self._first_readable()
            eight = first.values.dtype == np.uint8
            plain = eight and modality in FULL_RANGE_MODALITIES
            carried = {"displayed": first.displayed or plain, "invert": first.invert, "grey": first.values.ndim == 2}
            carried["calibrated"] = modality != "CT" or not eight  # pictures of CT are not in Hounsfield units
        self._grey = bool(carried["grey"])
        self.facts = StackFacts(
            name=source.name,
            format=header.format,
            modality=modality or ("unknown" if self._grey else "photo"),
            cols=header.width,
            rows=header.height,
            slices=len(header.pages),
            pixel_spacing=_millimetres(source),
            measured=source.mpp is not None,
            colour=bool(carried["displayed"]),
            invert=bool(carried["invert"]),
            calibrated=bool(carried["calibrated"]),
            detail={**header.detail, **_shrunk(header, policy)},
            carry=dict(carried),
        )

    def page(self, k: int) -> Page:
        """Page k, decoded; the last small one is kept.

        Raises:
            UnreadableInput: the only page is damaged.
            RegionUnreadable: this page of several is.
        """
        if self._cache is not None and self._cache[0] == k:
            return self._cache[1]
        try:
            page = decode(self._path, self._header, k, self._name)
        except UnreadableInput as error:
            if len(self._header.pages) == 1:
                raise
            raise RegionUnreadable(error.message) from error
        self._cache = (k, page) if page.values.nbytes <= _CACHED_BYTES else None
        return page

    def _first_readable(self) -> Page:
        for k in range(len(self._header.pages)):
            try:
                return self.page(k)
            except RegionUnreadable:
                continue
        message = f"{self._name}: none of {len(self._header.pages)} pages can be read"
        raise UnreadableInput(message, remedy=DAMAGED)

    def slice(self, k: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Page k as StackFacts says: displayed pixels, or float32 grey values."""
        values = self.page(k).values
        if (values.ndim == 2) != self._grey:
            values = _as_the_first(values, self._grey)
        return (values if self.facts.colour else values.astype(np.float32)), None

    def stored_voi(self, k: int) -> StoredVoi | None:
        """Flat images hold none."""
        return None

    def close(self) -> None:
        """Nothing is held open."""
        self._cache = None


def _millimetres(source: Source) -> tuple[float, float]:
    """(row, column) of a pixel, where a manifest tells; else the ratio alone."""
    side = 1.0 if source.mpp is None else source.mpp / 1000
    return side, side


def _shrunk(header: Header, policy: Policy) -> dict[str, str]:
    """A slide without a scale would become one small picture: that is pointed out."""
    factor = max(header.width, header.height) / policy.sized().image.size
    if policy.image.tile or factor <= _MUCH_SMALLER:
        return {}
    return {"hint": "shrunk more than 10 times: --tile cuts it; a slide needs its scale (--source-mpp, manifest)"}


def _as_the_first(values: npt.NDArray[Any], grey: bool) -> npt.NDArray[Any]:
    """Animations may start grey and turn coloured: follow the first page (luma of Rec. 601)."""
    if not grey:
        return np.repeat(values[..., None], 3, axis=2)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    luma: npt.NDArray[Any] = (values.astype(np.float32) @ weights).astype(values.dtype)
    return luma
