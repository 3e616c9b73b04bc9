"""Whole-slide DICOM that OpenSlide reads wrongly or not at all: several focal planes or optical paths, colours that the
JPEG streams tell otherwise than the header, grey pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from umedfeat.arrays import RGB
from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnsupportedInput
from umedfeat.readers.jpeg import colours_of_stream
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.dicom_frames import Instance, frames_of, read_instance
from umedfeat.readers.slides.grid import believed_factors
from umedfeat.readers.slides.mosaic import Mosaic
from umedfeat.readers.slides.pieces import MosaicBackend
from umedfeat.readers.slides.planes import Component, Planes, choose_planes
from umedfeat.readers.slides.shared_file import SharedFile
from umedfeat.readers.slides.streams import Damaged, JpegDecoder, Unusual

__all__ = ["DicomBackend", "contradiction_of", "read_instances", "spacings_of"]


_JPEG = ("1.2.840.10008.1.2.4.50",)
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_PLAIN = ("1.2.840.10008.1.2.1",)


def read_instances(paths: Sequence[Path], name: str) -> list[Instance]:
    """Every file of a slide, the finest first.

    Raises:
        UnreadableInput: one is damaged.
    """
    found = [read_instance(path, name) for path in paths]
    return sorted(found, key=lambda one: (-one.size[0] * one.size[1], str(one.path)))


def contradiction_of(instance: Instance) -> str:
    """What the first JPEG stream says of its colours against the header, or ""."""
    if instance.syntax not in _JPEG or int(instance.header.SamplesPerPixel) != 3:
        return ""
    said = colours_of_stream(instance.first_frame())
    header = str(instance.header.PhotometricInterpretation)
    if said is None or said == header.startswith("YBR"):
        return ""
    return f"the JPEG streams are {'YCbCr' if said else 'RGB'}, the header says {header}"


class DicomBackend(MosaicBackend):
    """One whole-slide series, read frame by frame; see ``SlideBackend``.

    Args:
        instances: of ``read_instances``.
        name: for messages.
        channel, focus: see ``choose_planes``.
    """

    vendor = "dicom"

    def __init__(self, instances: Sequence[Instance], name: str, *, channel: str, focus: str) -> None:
        self._name = name
        finest = instances[0]
        frames = frames_of(finest, name)
        planes = Planes((("C", frames.paths), ("Z", frames.planes)), emitted=True)
        super().__init__(choose_planes(planes, name, channel=channel, focus=focus))
        sizes = list(dict.fromkeys(one.size for one in instances))
        by_size = [_one_of([one for one in instances if one.size == size], name) for size in sizes]
        factors = believed_factors(sizes, _declared(by_size), finest.tile)
        kept = [(one, factor) for one, factor in zip(by_size, factors, strict=True) if factor]
        self._frames = [frames, *(frames_of(one, name) for one, _ in kept[1:])]
        alike = [k for k, one in enumerate(self._frames) if one[1:] == frames[1:]]
        kept, self._frames = [kept[k] for k in alike], [self._frames[k] for k in alike]
        self._instances = [one for one, _ in kept]
        for one in self._instances:
            _refuse_unknown_pixels(one, name)
        self.levels = tuple(one.size for one in self._instances)
        self.downsamples = tuple(factor for _, factor in kept)
        self.origins = ((0.0, 0.0),) * len(self.levels)
        self.aligned = (True,) * len(self.levels)
        self.properties: Mapping[str, str] = _properties(finest)
        self.icc = _profile(finest)
        self.contents: Mapping[str, Json] = self._contents(len(sizes))
        self._files = [SharedFile(one.path) for one in self._instances]

    def _contents(self, sizes: int) -> dict[str, Json]:
        told: dict[str, Json] = {
            "planes": self._frames[0].planes * self._frames[0].paths,
            "planes_read": len({part for focal in self._chosen.focal for part in focal}),
            "levels": sizes,
            "levels_read": len(self.levels),
        }
        contradiction = contradiction_of(self._instances[0])
        return told | ({"colours": contradiction} if contradiction else {}) | self._chosen.told

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        syntax = self._instances[level].syntax
        return "libjpeg-turbo" if syntax in _JPEG else "openjpeg" if syntax in _JPEG_2000 else "none needed"

    def close(self) -> None:
        """Close all files."""
        super().close()
        for file in self._files:
            file.close()

    def _mosaic_of(self, level: int, parts: Sequence[Component]) -> Mosaic:
        one = self._instances[level]
        return Mosaic(one.size, one.tile, _joined([self._frame_reader(level, part) for part in parts]))

    def _frame_reader(self, level: int, part: Component) -> Callable[[int], Block]:
        one, frames, file = self._instances[level], self._frames[level], self._files[level]
        path, plane = divmod(part.plane, frames.planes)
        decode = _decoder(one)

        def frame(index: int) -> Block:
            place = frames.places.get((path, plane, index))
            width, height = one.tile
            if place is None:  # a sparse slide has nothing there
                return Block(np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool))
            data = file.bytes_at(*place)
            if len(data) < place[1]:
                raise RegionUnreadable(f"frame {index} is cut off")
            try:
                return Block(decode(data))
            except (Damaged, Unusual, ValueError, imagecodecs.Jpeg2kError) as error:
                raise RegionUnreadable(f"frame {index} is damaged ({error})") from error

        return frame


def _joined(parts: Sequence[Callable[[int], Block]]) -> Callable[[int], Block]:
    if len(parts) == 1:
        return parts[0]
    return lambda index: Block(np.dstack([part(index).rgb[..., 0] for part in parts]))


def _one_of(instances: Sequence[Instance], name: str) -> Instance:
    """One level may be spread over files that hold some of its frames each, by path or focal plane: not read."""
    if len(instances) > 1:
        message = f"{name}: {len(instances)} files hold one level"
        raise UnsupportedInput(message, remedy="join them, or list the file that is wanted in a manifest")
    return instances[0]


def _declared(instances: Sequence[Instance]) -> list[float | None]:
    finest = instances[0].spacing
    return [one.spacing / finest if finest and one.spacing else None for one in instances]


def _refuse_unknown_pixels(one: Instance, name: str) -> None:
    header = one.header
    bits, samples = int(header.BitsAllocated), int(header.SamplesPerPixel)
    if bits != 8 or samples not in (1, 3):
        message = f"{name}: {bits}-bit pixels of {samples} samples: only 8-bit slides are read"
        raise UnsupportedInput(message, remedy="export an 8-bit RGB pyramid with the contrast that you want")
    if one.syntax not in (*_JPEG, *_JPEG_2000, *_PLAIN):
        raise UnsupportedInput(f"{name}: transfer syntax {one.syntax} of slides is not read", remedy="save it as JPEG")


def _properties(one: Instance) -> dict[str, str]:
    spacing = one.spacing
    if spacing is None:
        return {}
    measures = one.header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return {"openslide.mpp-x": repr(spacing), "openslide.mpp-y": repr(float(measures.PixelSpacing[0]) * 1000)}


def _profile(one: Instance) -> bytes | None:
    try:
        profile = one.header.OpticalPathSequence[0].ICCProfile
        return bytes(profile) if profile else None
    except (AttributeError, IndexError):
        return None


def _decoder(one: Instance) -> Callable[[bytes], RGB]:
    """Bytes of a frame → (height, width, 3)."""
    width, height = one.tile
    samples = int(one.header.SamplesPerPixel)
    if samples == 3 and one.syntax in _JPEG:
        said = colours_of_stream(one.first_frame())
        ycbcr = str(one.header.PhotometricInterpretation).startswith("YBR") if said is None else said
        return JpegDecoder((width, height), b"", ycbcr=ycbcr)

    def decode(data: bytes) -> RGB:
        if one.syntax in _JPEG:
            values = imagecodecs.jpeg8_decode(data)
        elif one.syntax in _JPEG_2000:
            values = imagecodecs.jpeg2k_decode(data, numthreads=1)
        else:
            values = np.frombuffer(data, np.uint8, width * height * samples)
            if samples == 3 and int(one.header.get("PlanarConfiguration", 0) or 0):
                values = values.reshape(3, height, width).transpose(1, 2, 0)
        if values.size != width * height * samples or values.dtype != np.uint8:
            raise ValueError("pixels of another shape")
        shaped: RGB = values.reshape(height, width, samples)
        if str(one.header.PhotometricInterpretation) == "MONOCHROME1":
            shaped = 255 - shaped
        return np.repeat(shaped, 3, axis=2) if samples == 1 else np.ascontiguousarray(shaped)

    return decode


def spacings_of(instances: Sequence[Instance]) -> dict[tuple[int, int], float]:
    """Micrometres per pixel that every level declares."""
    return {one.size: one.spacing for one in instances if one.spacing}
