"""Pieces of a TIFF page (tiles or strips) as RGB on white: any codec and colour model that the flat reader knows.

Damage is an error, never grey. In JPEG streams the marker of the first one (JFIF, Adobe) tells the colours; it beats
what the TIFF says, and the contradiction is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile
from PIL import Image

from umedfeat.contract import RegionUnreadable
from umedfeat.errors import InputError, UnsupportedInput
from umedfeat.readers.images.tiff import tiff_colours
from umedfeat.readers.jpeg import colours_of_stream
from umedfeat.readers.slides.backends import Block, on_white
from umedfeat.readers.slides.shared_file import SharedFile
from umedfeat.readers.slides.streams import Damaged, JpegDecoder, Unusual

__all__ = ["Files", "PagePieces", "joined", "piece_shape", "refuse_unknown_pixels"]


_JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)
_P = tifffile.PHOTOMETRIC
_COLOURS = (_P.RGB, _P.YCBCR, _P.PALETTE, _P.SEPARATED, _P.CIELAB, _P.ICCLAB)
_GREYS = (_P.MINISBLACK, _P.MINISWHITE)
_REMEDY = "export an 8-bit RGB pyramid with the contrast that you want"


class Files:
    """Open files of a slide, by path: planes of an OME-TIFF may lie in several."""

    def __init__(self) -> None:
        self._open: dict[str, SharedFile] = {}

    def bytes_at(self, page: Any, offset: int, length: int) -> bytes:
        """Bytes of the file in which a page lies."""
        path = str(page.parent.filehandle.path)
        if path not in self._open:
            self._open[path] = SharedFile(Path(path))
        return self._open[path].bytes_at(offset, length)

    def close(self) -> None:
        """Close them all."""
        for file in self._open.values():
            file.close()
        self._open.clear()


def piece_shape(page: Any) -> tuple[int, int]:
    """(width, height) of the pieces."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))


def refuse_unknown_pixels(page: Any, name: str) -> None:
    """Only what is turned into 8-bit RGB without a guess is read.

    Raises:
        UnsupportedInput: names the reason.
    """
    bits = page.bitspersample if isinstance(page.bitspersample, tuple) else (page.bitspersample,)
    if page.dtype != np.uint8 or set(bits) != {8}:
        kind = page.dtype if set(bits) <= {8, 16, 32, 64} else f"{'/'.join(map(str, bits))}-bit"
        raise UnsupportedInput(f"{name}: {kind} pixels: only 8-bit slides are read", remedy=_REMEDY)
    if page.imagedepth > 1:
        raise UnsupportedInput(f"{name}: a volumetric TIFF page", remedy="save one page per plane")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        compression = getattr(page.compression, "name", page.compression)
        raise UnsupportedInput(f"{name}: compression {compression} is not read", remedy="save it as JPEG or deflate")
    fault = _unknown_colours(page)
    if fault:
        raise UnsupportedInput(f"{name}: {fault}: its colours are not read", remedy=_REMEDY)


def _unknown_colours(page: Any) -> str:
    samples, photometric = int(page.samplesperpixel), page.photometric
    said = f"{samples} samples of photometric {getattr(photometric, 'name', photometric)}"
    if photometric in _GREYS:
        return ""
    legal = {_P.RGB: (3, 4), _P.YCBCR: (3,), _P.PALETTE: (1,), _P.SEPARATED: (4,), _P.CIELAB: (3,), _P.ICCLAB: (3,)}
    if samples not in legal.get(photometric, ()):
        return said
    jpeg = page.compression in (*_JPEG, tifffile.COMPRESSION.ALT_JPEG)
    if photometric == _P.YCBCR and (not jpeg or page.planarconfig == 2):
        return f"{said} without JPEG"
    return f"{said} in JPEG" if jpeg and photometric in (_P.PALETTE, _P.CIELAB, _P.ICCLAB) else ""


class PagePieces:
    """Decodes pieces of one page.

    Args:
        page: of tifffile.
        files: where its bytes are read.
        sample: of several samples that are channels the one that is wanted (from 0); None: the pixels' colours.
        name: for messages.

    Attributes:
        decoder: what decodes the pieces.
        contradiction: what the streams say of their colours against the TIFF, or "".
    """

    def __init__(self, page: Any, files: Files, sample: int | None, name: str) -> None:
        self._page, self._files, self._sample, self._name = page, files, sample, name
        tables = page.tags.get("JPEGTables")
        self._tables = bytes(tables.value) if tables is not None else None
        width, height = piece_shape(page)
        self._count = -(-page.imagelength // height) * -(-page.imagewidth // width)
        self._planar = page.planarconfig == 2 and page.samplesperpixel > 1
        self._jpeg, self.contradiction = self._strict_decoder(width, height)
        self.decoder = "tifffile" if self._jpeg is None else self._jpeg.name

    def __call__(self, index: int) -> Block:
        """Piece ``index``, without what fills it up beyond the border of the page.

        Raises:
            RegionUnreadable: it is damaged or missing.
        """
        try:
            return self._decoded(index)
        except (RegionUnreadable, MemoryError):  # the latter: a lack here, no damage there
            raise
        except Damaged as error:
            raise RegionUnreadable(f"piece {index} is damaged ({error})") from error
        except InputError as error:
            raise RegionUnreadable(error.message) from error
        except Exception as error:  # codecs raise their own kinds
            raise RegionUnreadable(f"{type(error).__name__} in piece {index}") from error

    def _decoded(self, index: int) -> Block:
        if not self._page.databytecounts[index]:  # a sparse TIFF stores nothing where nothing was scanned
            width, height = piece_shape(self._page)
            return Block(np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool))
        if self._sample is not None:
            return _grey(self._channel(index, self._sample), self._page)
        if self._jpeg is not None:
            data = self._stream(index)
            with contextlib.suppress(Unusual):
                try:
                    return Block(self._jpeg(data))
                except Damaged as error:
                    raise RegionUnreadable(f"piece {index} is damaged ({error})") from error
        if self._planar:
            samples = range(int(self._page.samplesperpixel))
            return _in_rgb(np.dstack([self._channel(index, sample) for sample in samples]), self._page, self._name)
        return _in_rgb(self._values(index), self._page, self._name)

    def _channel(self, index: int, sample: int) -> npt.NDArray[np.uint8]:
        if self._planar:
            return self._values(index + sample * self._count)[..., 0]
        return self._values(index)[..., sample]

    def _values(self, index: int) -> npt.NDArray[np.uint8]:
        """(height, width, samples) as stored."""
        data = self._stream(index)
        if self._page.compression in _JPEG:
            _refuse_damaged_jpeg(data, self._tables, index)
        segment, _, shape = self._page.decode(data, index, jpegtables=self._tables)
        if segment is None:
            raise RegionUnreadable(f"piece {index} is missing")
        values: npt.NDArray[np.uint8] = segment[0][: shape[1], : shape[2]]
        if values.dtype != np.uint8 or values.shape[:2] != tuple(shape[1:3]):
            raise RegionUnreadable(f"piece {index} holds pixels of another kind")
        return values

    def _stream(self, index: int) -> bytes:
        """The bytes of a piece. A JPEG without its end would be filled up with grey by the decoder."""
        length = int(self._page.databytecounts[index])
        data = self._files.bytes_at(self._page, int(self._page.dataoffsets[index]), length)
        if len(data) < length or not data:
            raise RegionUnreadable(f"piece {index} is cut off ({len(data)} of {length} bytes)")
        if self._page.compression in _JPEG and (data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]):
            raise RegionUnreadable(f"piece {index} is no whole JPEG")
        return data

    def _strict_decoder(self, width: int, height: int) -> tuple[JpegDecoder | None, str]:
        """For whole tiles of JPEG in three colours, which tifffile's decoder would fill up where they are damaged."""
        page = self._page
        colours = page.photometric in (_P.RGB, _P.YCBCR) and page.samplesperpixel == 3 and not self._planar
        if not page.is_tiled or page.compression != tifffile.COMPRESSION.JPEG or not colours:
            return None, ""
        ycbcr = page.photometric == _P.YCBCR
        said = self._said_by_stream()
        contradiction = ""
        if said is not None and said != ycbcr:
            words = {True: "YCbCr", False: "RGB"}
            contradiction = f"the JPEG streams are {words[said]}, the TIFF says {words[ycbcr]}"
        try:
            return JpegDecoder(
                (width, height), self._tables or b"", ycbcr=ycbcr if said is None else said
            ), contradiction
        except Unusual:
            return None, ""

    def _said_by_stream(self) -> bool | None:
        """Is the first stream in YCbCr, as its own marker says? None where it does not say."""
        for offset, length in zip(self._page.dataoffsets, self._page.databytecounts, strict=False):
            if length > 0:
                data = self._files.bytes_at(self._page, int(offset), min(int(length), 65536))
                return colours_of_stream(data) if data else None
        return None


def joined(parts: Sequence[Callable[[int], Block]]) -> Callable[[int], Block]:
    """One page, or three of grey that are red, green and blue."""
    if len(parts) == 1:
        return parts[0]
    return lambda index: Block(np.dstack([part(index).rgb[..., 0] for part in parts]))


def _grey(values: npt.NDArray[np.uint8], page: Any) -> Block:
    values = 255 - values if page.photometric == _P.MINISWHITE else values
    return Block(np.repeat(values[..., None], 3, axis=2))


def _in_rgb(pixels: npt.NDArray[np.uint8], page: Any, name: str) -> Block:
    """Colours as the flat reader shows them; alpha is what the slide holds."""
    if (
        page.photometric == _P.RGB
        and pixels.shape[2] == 4
        and tuple(page.extrasamples) == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    ):
        return on_white(Image.fromarray(pixels))
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    shown = tiff_colours(page, pixels, name).values
    if shown.dtype != np.uint8:
        shown = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return Block(np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else np.ascontiguousarray(shown))


def _refuse_damaged_jpeg(data: bytes, shared: bytes | None, index: int) -> None:
    """libjpeg fills what it cannot decode with grey, and tifffile's codec does not pass its warning on."""
    whole = data if shared is None else data[:2] + shared[2:-2] + data[2:]
    try:
        simplejpeg.decode_jpeg(whole, "RGB", fastdct=True, fastupsample=True, strict=True)
    except ValueError as error:
        with contextlib.suppress(ValueError):  # of a kind that this codec does not know: not for it to judge
            simplejpeg.decode_jpeg(whole, "RGB", fastdct=True, fastupsample=True, strict=False)
            raise RegionUnreadable(f"piece {index} is damaged ({error})") from error
