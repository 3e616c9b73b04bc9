"""One frame of a DICOM file to stored values, by a pinned order of codecs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.dicom.bits import aligned
from umedfeat.readers.dicom.photometric import refuse_photometric

__all__ = ["FrameDecoder", "codec_package", "decode_frame", "decoders_of"]

#: Lossy frames differ slightly by decoder, so the order is fixed; the one that was used is recorded. GDCM comes last,
#: and never for baseline JPEG and JPEG 2000, where damaged files make it crash. Only pydicom's own RLE decoder survives
#: damaged RLE.
_PLUGINS = ("pyjpegls", "pylibjpeg", "pillow", "gdcm")
_PLUGINS_OF = {
    RLELossless: ("pydicom",),
    JPEGBaseline8Bit: ("pillow", "pylibjpeg"),
    JPEG2000Lossless: ("pylibjpeg", "pillow"),
    JPEG2000: ("pylibjpeg", "pillow"),
}
#: What decodes a transfer syntax, where it is not installed; JPEG 2000 and its high-throughput kin otherwise.
_PACKAGES = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pylibjpeg pylibjpeg-libjpeg",
    JPEGLosslessSV1: "python-gdcm",
    UID("1.2.840.10008.1.2.4.57"): "python-gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}
_J2K_PACKAGES = "pylibjpeg pylibjpeg-openjpeg"
#: Registered after the dictionary that pydicom brings (PS3.6 table A-1).
_NEWER = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
#: Without these no pixels can be decoded (PS3.3 C.7.6.3).
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
_DICOM_ROOT = "1.2.840.10008."
_KEPT_BYTES = 64 << 20
_JP2_START = b"\x00\x00\x00\x0cjP  "
_J2K_START = b"\xff\x4f\xff\x51"


class FrameDecoder:
    """``decode_frame`` that keeps the last small frame: a single image is asked for several times in a row."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: tuple[pydicom.Dataset, int, npt.NDArray[Any], str] | None = None

    def __call__(self, dataset: pydicom.Dataset, frame: int) -> tuple[npt.NDArray[Any], str]:
        """(stored values, decoder); the values are shared, do not write to them."""
        if self._last is not None and self._last[0] is dataset and self._last[1] == frame:
            return self._last[2:]
        stored, plugin = decode_frame(dataset, frame, self._name)
        self._last = (dataset, frame, stored, plugin) if stored.nbytes <= _KEPT_BYTES else None
        return stored, plugin


def decode_frame(dataset: pydicom.Dataset, frame: int, name: str) -> tuple[npt.NDArray[Any], str]:
    """(rows, columns[, 3]) stored values of one frame, colours as RGB, and the decoder that was used.

    Raises:
        UnsupportedInput: no installed codec decodes the transfer syntax, or colours that are not read here.
        UnreadableInput: the pixel data is damaged or too short.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    refuse_photometric(dataset, name)
    decoder = _decoder(syntax, name)
    plugins = decoders_of(syntax) or ("",)
    if syntax == JPEGExtended12Bit and int(dataset.get("BitsStored") or 0) > 8 and "pylibjpeg" not in plugins:
        message = f"{name}: 12-bit JPEG ({syntax.name}) is decoded by none of the permissive codecs"
        remedy = "pip install 'umedfeat[gpl-codecs]', which brings pylibjpeg-libjpeg (GPLv3)"
        raise UnsupportedInput(message, remedy=remedy)
    _refuse_strange_codestream(dataset, syntax, frame, name)
    fault: Exception | None = None
    for plugin in plugins:
        try:
            # unused bits stay: padding may be told with them, and what is in them is recorded
            options: dict[str, Any] = {"decoding_plugin": plugin, "raw": False, "correct_unused_bits": False}
            values, _ = decoder.as_array(dataset, index=frame, **options)
        except MemoryError:  # a lack here, no damage there
            raise
        except Exception as error:  # noqa: BLE001 - every codec has errors of its own
            fault = error
            continue
        return aligned(dataset, np.asarray(values)), plugin or "none"
    lacking = [tag for tag in _NEEDED if isinstance(fault, AttributeError) and dataset.get(tag) is None]
    if lacking:
        message = f"{name}: its header lacks {', '.join(lacking)}"
        raise UnreadableInput(message, remedy="export it again from the archive") from fault
    raise _undecodable(syntax, name, fault) from fault


def decoders_of(syntax: UID) -> tuple[str, ...]:
    """The installed decoders of a transfer syntax, in the order in which they are tried; none where it needs none.

    Raises:
        NotImplementedError: nothing decodes this syntax, whatever is installed.
    """
    available = get_decoder(syntax).available_plugins
    return tuple(plugin for plugin in _PLUGINS_OF.get(syntax, _PLUGINS) if plugin in available)


def codec_package(syntax: UID) -> str:
    """What to install for a compressed transfer syntax that nothing installed decodes."""
    return _PACKAGES.get(syntax, _J2K_PACKAGES)


def _decoder(syntax: UID, name: str) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        told = _told(syntax)
        if any(video in told for video in ("MPEG", "HEVC")):
            raise UnsupportedInput(
                f"{name}: a video ({told}), which is not decoded here", remedy="export its frames as images"
            ) from error
        remedy = "transcode it, for example to JPEG 2000 or without compression (gdcmconv, dcmconv)"
        raise UnsupportedInput(f"{name}: transfer syntax {told} is not decoded here", remedy=remedy) from error
    if not decoder.is_available:
        remedy = f"pip install {codec_package(syntax)}"
        raise UnsupportedInput(f"{name}: no codec for {syntax.name} is installed", remedy=remedy)
    return decoder


def _told(syntax: UID) -> str:
    """The name of a transfer syntax. Only numbers that DICOM has given are repeated."""
    if not syntax.startswith(_DICOM_ROOT):
        return "of a private kind"
    return _NEWER.get(syntax, str(syntax.name))


def _refuse_strange_codestream(dataset: pydicom.Dataset, syntax: UID, frame: int, name: str) -> None:
    """A JPEG 2000 stream that does not begin as one sends parsers into endless loops."""
    if "JPEG 2000" not in syntax.name:
        return
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    try:
        stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    except MemoryError:  # a lack here, no damage there
        raise
    except Exception as error:  # whatever a damaged encapsulation leads to
        raise _undecodable(syntax, name, error) from error
    begin = 0 if stream.startswith(_J2K_START) else _begin_of_codestream(stream)
    if begin is None:
        raise _undecodable(syntax, name, None)
    right, bottom, left, top = (int.from_bytes(stream[begin + k : begin + k + 4], "big") for k in (8, 12, 16, 20))
    if (bottom - top, right - left) != (dataset.Rows, dataset.Columns):  # a codec allocates what its stream promises
        message = f"{name}: frame {frame} is {right - left}x{bottom - top} in its code stream, not as its header says"
        raise UnreadableInput(message, remedy="export it again from the archive")


def _begin_of_codestream(stream: bytes) -> int | None:
    """Where the boxes of a JP2 file (ISO/IEC 15444-1 Annex I) lead, or None."""
    offset = 12 if stream.startswith(_JP2_START) else len(stream)
    while offset + 8 <= len(stream):
        if stream[offset + 4 : offset + 8] == b"jp2c":
            return offset + 8
        length = int.from_bytes(stream[offset : offset + 4], "big")
        if length < 8:  # a box cannot be shorter than its header: pydicom would never get past it
            return None
        offset += length
    return None


def _undecodable(syntax: UID, name: str, fault: Exception | None) -> UnreadableInput:
    kind = type(fault).__name__ if fault else "no code stream"
    message = f"{name}: the pixel data is damaged or truncated ({syntax.name}: {kind})"
    return UnreadableInput(message, remedy="export it again from the archive")
