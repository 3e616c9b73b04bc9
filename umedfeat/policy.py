"""How each modality becomes RGB in [0, 1]: the only place with modality numbers.

A Policy is stored with the features as JSON and is part of their fingerprint: two files with the same fingerprint
were read in the same way. ``Limits`` are not part of it: they decide whether an input is read, not how.
Every field keeps the rule that stands beside it; command-line options are made from the same rules.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

from umedfeat._version import __version__
from umedfeat.errors import SetupError
from umedfeat.rules import OneOf, Ruled, Within, Written, setting

__all__ = [
    "CT_RGB",
    "CT_WINDOWS",
    "DEFAULT_SIDE",
    "FITS",
    "PLANES",
    "ImagePolicy",
    "IntensityPolicy",
    "Limits",
    "Policy",
    "RoiPolicy",
    "SlidePolicy",
    "TissuePolicy",
    "VolumePolicy",
]

#: CT windows as (low, high) in Hounsfield units. Usual radiology presets, written as width/level:
#: lung 1500/-600, soft-tissue 400/40, bone 1800/400, brain 80/40.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "soft-tissue": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
}

#: Windows that ``--rgb windows`` shows as red, green and blue.
CT_RGB = ("lung", "soft-tissue", "bone")
CHANNELS = ("grey", "neighbours", "windows")

PLANES = ("acquired", "axial", "coronal", "sagittal")
FITS = ("pad", "squash", "crop")
#: Side of a tile or image where no encoder decides: UMedPT's.
DEFAULT_SIDE = 224


def _bounds(text: str) -> str:
    """LO,HI with LO below HI, both finite, as "{:g},{:g}"."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("LO,HI is two numbers, e.g. -160,240") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("LO,HI: LO must be below HI, and both finite, e.g. -160,240")
    return f"{low:g},{high:g}"


def _window(text: str, names: tuple[str, ...]) -> str:
    if text in names:
        return text
    try:
        return _bounds(text)
    except ValueError as error:
        raise ValueError(f"one of {', '.join(names)}, or LO,HI ({error})") from None


def _ct_window(text: str) -> str:
    return _window(text, (*CT_WINDOWS, "percentile", "file"))


def _grey_window(text: str) -> str:
    return _window(text, ("auto", "percentile", "file"))


def _selection(text: str) -> str:
    number = text.removeprefix("every-")
    if text != "all" and not (_is_number(number) and int(number) > 0):
        raise ValueError("all, a number from 1, or every-K (e.g. every-3)")
    return text


def _slice_selection(text: str) -> str:
    """As ``_selection``, or every-Kmm with K above 0, as "every-{:g}mm"."""
    if not (text.startswith("every-") and text.endswith("mm")):
        try:
            return _selection(text)
        except ValueError:
            raise ValueError("all, a number from 1, every-K (every-3), or every-Kmm (every-5mm)") from None
    try:
        step = float(text[len("every-") : -len("mm")])
    except ValueError:
        step = math.nan
    if not (math.isfinite(step) and step > 0):
        raise ValueError("every-Kmm: K is millimetres above 0, e.g. every-5mm")
    return f"every-{step:g}mm"


def _volume_index(text: str) -> str:
    if text not in {"", "mean", "all"} and not _is_number(text):
        raise ValueError("a number from 0, mean, or all")
    return text


def _focus(text: str) -> str:
    if text not in {"", "middle", "sharpest"} and not (_is_number(text) and int(text) > 0):
        raise ValueError("a number from 1, middle, or sharpest")
    return text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


_SIDE = Within(1, 4096, whole=True)
_SHARE = Within(0, 1)


@dataclass(frozen=True)
class SlidePolicy(Ruled):
    """Whole slides and tiled flat images.

    Attributes:
        mpp: target micrometres per pixel of the tiles.
        tile_size: side of a tile in pixels at the target scale; 0: the encoder's own.
        overlap: pixels at the target scale shared by neighbouring tiles.
        tissue: "auto" (mask on a thumbnail) or "none" (keep everything).
        min_tissue: smallest tissue fraction of a kept tile, 0..1.
        allow_upsample: read slides scanned coarser than ``mpp``.
        upsample_tolerance: an image may be this share coarser than ``mpp`` and still count as scanned at it
            (0.5022 for 0.5).
        level_tolerance: a level of the pyramid may be this share coarser than the target and still serve it.
        source_mpp: micrometres per pixel for slides that do not tell (``--source-mpp``), or None.
        icc: "keep" or "srgb".
        masks_sha256: identity of external masks (``--mask-dir``); "" without.
        focus: which of several focal planes: "K" (from 1), "middle" or "sharpest"; "" refuses such slides.
        channel: which of several channels: a name, a number from 1, or "rgb" (three planes are colours); "" refuses.
    """

    mpp: float = setting(0.5, Within(0.01, 100))
    tile_size: int = setting(0, _SIDE, unset=0)
    overlap: int = setting(0, Within(0, whole=True))
    tissue: str = setting("auto", OneOf(("auto", "none")))
    min_tissue: float = setting(0.25, _SHARE)
    allow_upsample: bool = False
    source_mpp: float | None = setting(None, Within(0, open_low=True), unset=None)
    icc: str = setting("keep", OneOf(("keep", "srgb")))
    masks_sha256: str = ""
    focus: str = setting("", Written(_focus))
    channel: str = ""
    upsample_tolerance: float = setting(0.02, _SHARE)
    level_tolerance: float = setting(0.01, _SHARE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile_size and self.overlap >= self.tile_size:
            message = f"overlap {self.overlap} is not below the tile size of {self.tile_size}"
            raise SetupError(message, remedy="a smaller --overlap, or a larger --tile-size")


@dataclass(frozen=True)
class TissuePolicy(Ruled):
    """What counts as tissue on a slide's thumbnail (``umedfeat.readers.slides.tissue``).

    Attributes:
        thumbnail_mpp: micrometres per pixel of the thumbnail.
        block_mpp: micrometres per pixel of the grid on which colours and shapes are judged.
        closing: gaps narrower than this are part of the tissue (fat cells, tears), in micrometres.
        speck: smaller islands are debris, square micrometres.
        hole: smaller holes are filled, square micrometres.
        crumb: parts smaller than this that touch ink all around are its rests, square micrometres.
        ink_texture: ink is smoother than this (mean step of the density from pixel to pixel over its mean); stained
            tissue is not.
        faint: optical density below which colour alone proves nothing: haze of stain on the glass is faint and smooth.
        rules: version of the arithmetic around these numbers (search for glass, hues of ink); changed with it.
    """

    thumbnail_mpp: float = setting(8.0, Within(0, open_low=True))
    block_mpp: float = setting(16.0, Within(0, open_low=True))
    closing: float = setting(64.0, Within(0))
    speck: float = setting(15_000.0, Within(0))
    hole: float = setting(40_000.0, Within(0))
    crumb: float = setting(150_000.0, Within(0))
    ink_texture: float = setting(0.035, Within(0))
    faint: float = setting(0.11, Within(0))
    rules: int = setting(3, Within(3, 3, whole=True))


@dataclass(frozen=True)
class IntensityPolicy(Ruled):
    """Stored values to [0, 1].

    Attributes:
        ct_window: a key of CT_WINDOWS, "LO,HI" in HU, "percentile" or "file" (the stored VOI).
        window: of every other grey modality: "auto" (PET in SUV by ``suv``, else percentiles), "percentile", "LO,HI" in
            the image's own values, or "file".
        suv: "LO,HI" of PET in standardised uptake values by body weight.
        percentiles: of the whole image or volume, padding excluded; 2.5 and 97.5 are UMedPT's training values.
        bright_tail: percent of the values that "auto" may clip at the bright end of PET and NM, and of phases with
            contrast agent; of XA at both ends.
        hu_offset: added to the values of a CT whose file does not tell their unit (NIfTI); None: they are Hounsfield
            units, and a volume without air is asked about.
        ct_air: values of a CT below this many HU are sentinels outside of the field of view: background.
        rgb: what red, green and blue show of grey images: "grey" (three times the same), "neighbours" (2.5-D: the slice
            before, the slice, the slice behind) or "windows" (CT: the windows of CT_RGB; other images stay grey).
    """

    ct_window: str = setting("soft-tissue", Written(_ct_window))
    window: str = setting("auto", Written(_grey_window))
    suv: str = setting("0,10", Written(_bounds))
    percentiles: tuple[float, float] = (2.5, 97.5)
    bright_tail: float = setting(0.1, Within(0, 49))
    hu_offset: float | None = setting(None, Within(-(2.0**31), 2.0**31), unset=None)
    ct_air: float = setting(-1024.0, Within(-(2.0**31), 2.0**31))
    rgb: str = setting("grey", OneOf(CHANNELS))

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise SetupError(f"percentiles {low:g} and {high:g}", remedy="0 ≤ low < high ≤ 100, e.g. 2.5 and 97.5")


@dataclass(frozen=True)
class VolumePolicy(Ruled):
    """Volumes and multi-frame images.

    Attributes:
        plane: "acquired", "axial", "coronal" or "sagittal".
        slices: "all", "N" (N slices, evenly spaced), "every-K", or "every-Kmm" (the slices next to every K
            millimetres).
        volume_index: which volume of a 4-D file: "N", "mean" or "all"; "" refuses 4-D files.
        frames: frames of a cine: "all", "N" (evenly spaced) or "every-K".
        include_derived: read derived, projection and MIP series too.
        for_processing: read raw radiographs (FOR PROCESSING) too that lie beside the same view FOR PRESENTATION.
        join_slices: take evenly spaced one-slice series of one patient and folder as one volume.
        modality: what NIfTI and flat images without a declared modality are taken as ("CT" windows them); "" unknown.
        max_shear: degrees of gantry tilt above which reslicing would shear anatomy: refused.
        max_step_error: share of the slice distance by which slices may be out of step when reslicing.
    """

    plane: str = setting("acquired", OneOf(PLANES))
    slices: str = setting("all", Written(_slice_selection))
    volume_index: str = setting("", Written(_volume_index))
    frames: str = setting("all", Written(_selection))
    include_derived: bool = False
    for_processing: bool = False
    join_slices: bool = False
    modality: str = setting("", Written(str.upper))
    max_shear: float = setting(2.0, Within(0, 90))
    max_step_error: float = setting(0.05, Within(0))


@dataclass(frozen=True)
class ImagePolicy(Ruled):
    """Whole images: radiographs, slices, frames, photographs.

    Attributes:
        size: side in pixels of the square that the encoder sees; 0: the encoder's own.
        fit: "pad" (letterbox on black), "squash" (ignore the aspect ratio) or "crop" (centre square).
        spacing: millimetres per pixel of the square, so that things look as large as they are whatever the field of
            view: the middle of the image, or of its region of interest, black beyond the image. None: ``fit`` decides.
        tile: tile flat images without known scale into ``SlidePolicy.tile_size`` squares instead of resizing.
    """

    size: int = setting(0, _SIDE, unset=0)
    fit: str = setting("pad", OneOf(FITS))
    tile: bool = False
    spacing: float | None = setting(None, Within(0, 1000, open_low=True), unset=None)


@dataclass(frozen=True)
class RoiPolicy(Ruled):
    """Regions of interest that a manifest names: masks, boxes and points.

    Attributes:
        margin: millimetres around the region on each side; the square around it holds both.
        size: side of a fixed field of view in millimetres, centred on the region; None: as large as the region.
    """

    margin: float = setting(0.0, Within(0, 10_000))
    size: float | None = setting(None, Within(0, 10_000, open_low=True), unset=None)


@dataclass(frozen=True)
class Limits(Ruled):
    """What is refused or forced; not part of the fingerprint.

    Attributes:
        max_pixels: of one decoded image, slice or thumbnail region.
        max_voxels: of one volume.
        max_unzipped: bytes that an archive may unfold to.
        max_unreadable: share of unreadable regions above which the whole source fails.
        force: read DICOM files without preamble or meta header.
        mask_dir: folder of external masks or GeoJSON files ("" for none).
        max_upsample: slides are blown up by at most this factor, even where ``allow_upsample`` is set.
    """

    max_pixels: int = setting(250_000_000, Within(1, whole=True))
    max_voxels: int = setting(8_000_000_000, Within(1, whole=True))
    max_unzipped: int = setting(64 << 30, Within(1, whole=True))
    max_unreadable: float = setting(0.01, _SHARE)
    force: bool = False
    mask_dir: str = ""
    max_upsample: float = setting(2.0, Within(1))


@dataclass(frozen=True)
class Policy:
    """Everything that decides which pixels reach the encoder."""

    slide: SlidePolicy = field(default_factory=SlidePolicy)
    intensity: IntensityPolicy = field(default_factory=IntensityPolicy)
    volume: VolumePolicy = field(default_factory=VolumePolicy)
    image: ImagePolicy = field(default_factory=ImagePolicy)
    tissue: TissuePolicy = field(default_factory=TissuePolicy)
    roi: RoiPolicy = field(default_factory=RoiPolicy)
    limits: Limits = field(default_factory=Limits, compare=False)

    def __post_init__(self) -> None:
        if self.image.spacing is not None and self.roi.size is not None:
            message = "spacing and roi_size both set the field of view"
            raise SetupError(message, remedy="--spacing, or --roi-size")

    def sized(self, side: int = DEFAULT_SIDE) -> Policy:
        """The policy with ``side`` pixels (an encoder's own) wherever it leaves a size open.

        Raises:
            SetupError: the overlap of tiles is not below that.
        """
        if self.slide.tile_size and self.image.size:
            return self
        slide = replace(self.slide, tile_size=self.slide.tile_size or side)
        return replace(self, slide=slide, image=replace(self.image, size=self.image.size or side))

    def to_dict(self) -> dict[str, Any]:
        """The settings that decide the pixels, as nested JSON-able dicts (limits left out)."""
        settings = dataclasses.asdict(self)
        del settings["limits"]
        return json.loads(json.dumps(settings))  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Inverse of ``to_json``; unknown keys are an error (they would change the pixels unseen).

        Raises:
            SetupError: keys or values that this version does not know.
        """
        try:
            return cls._of(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"settings of the pixels that umedfeat {__version__} does not know ({error})"
            raise SetupError(fault, remedy="use the version of umedfeat that wrote them") from error

    @classmethod
    def _of(cls, settings: dict[str, Any]) -> Policy:
        if unknown := settings.keys() - {field.name for field in dataclasses.fields(cls)}:
            raise ValueError(", ".join(sorted(unknown)))
        intensity = dict(settings["intensity"])
        intensity["percentiles"] = tuple(intensity["percentiles"])
        return cls(
            slide=SlidePolicy(**settings["slide"]),
            intensity=IntensityPolicy(**intensity),
            volume=VolumePolicy(**settings["volume"]),
            image=ImagePolicy(**settings["image"]),
            tissue=TissuePolicy(**settings.get("tissue", {})),  # earlier files: the same numbers, not yet written
            roi=RoiPolicy(**settings.get("roi", {})),
        )

    def sha256(self) -> str:
        """Hash of ``to_json``."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
