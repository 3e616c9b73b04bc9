"""How each modality becomes RGB in [0, 1]: the only place with modality numbers.

A Policy is stored with the features as JSON and is part of their fingerprint: two files with the same fingerprint
were read in the same way. ``Limits`` are not part of it: they decide whether an input is read, not how.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from umedfeat.errors import SetupError

__all__ = [
    "CT_WINDOWS",
    "FITS",
    "PLANES",
    "ImagePolicy",
    "IntensityPolicy",
    "Limits",
    "Policy",
    "SlidePolicy",
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


PLANES = ("acquired", "axial", "coronal", "sagittal")
FITS = ("pad", "squash", "crop")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_range(text: str) -> bool:
    """LO,HI with LO below HI, both finite."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        return False
    return math.isfinite(low) and math.isfinite(high) and low < high


def _require(name: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise SetupError(f"{name} {value!r} is unknown", remedy=f"one of {', '.join(legal)}")


@dataclass(frozen=True)
class SlidePolicy:
    """Whole slides and tiled flat images.

    Attributes:
        mpp: target micrometres per pixel of the tiles.
        tile_size: side of a tile in pixels at the target scale.
        overlap: pixels at the target scale shared by neighbouring tiles.
        tissue: "auto" (mask on a thumbnail) or "none" (keep everything).
        min_tissue: smallest tissue fraction of a kept tile, 0..1.
        allow_upsample: read slides scanned coarser than ``mpp``.
        source_mpp: micrometres per pixel for slides that do not tell (``--source-mpp``), or None.
        icc: "keep" or "srgb".
        masks_sha256: identity of external masks (``--mask-dir``); "" without.
    """

    mpp: float = 0.5
    tile_size: int = 224
    overlap: int = 0
    tissue: str = "auto"
    min_tissue: float = 0.25
    allow_upsample: bool = False
    source_mpp: float | None = None
    icc: str = "keep"
    masks_sha256: str = ""


@dataclass(frozen=True)
class IntensityPolicy:
    """Stored values to [0, 1].

    Attributes:
        ct_window: a key of CT_WINDOWS, "LO,HI" in HU, "percentile" or "file" (the stored VOI).
        window: the same for every other grey modality, without the CT names; default "percentile".
        percentiles: of the whole image or volume, padding excluded; 2.5 and 97.5 are UMedPT's training values.
    """

    ct_window: str = "soft-tissue"
    window: str = "percentile"
    percentiles: tuple[float, float] = (2.5, 97.5)

    def __post_init__(self) -> None:
        for name, text in (("ct_window", self.ct_window), ("window", self.window)):
            if text not in {*CT_WINDOWS, "percentile", "file"} and not _is_range(text):
                message = f"{name} {text!r} is unknown, or its LO is not below its HI"
                raise SetupError(message, remedy=f"one of {', '.join(CT_WINDOWS)}, LO,HI, percentile, file")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise SetupError(f"percentiles {low:g} and {high:g}", remedy="0 ≤ low < high ≤ 100, e.g. 2.5 and 97.5")


@dataclass(frozen=True)
class VolumePolicy:
    """Volumes and multi-frame images.

    Attributes:
        plane: "acquired", "axial", "coronal" or "sagittal".
        slices: "all", "N" (N slices, evenly spaced) or "every-K".
        volume_index: which volume of a 4-D file: "N", "mean" or "all"; "" refuses 4-D files.
        frames: frames of a cine: "all" or "N" (evenly spaced).
        include_derived: read derived, projection and MIP series too.
        modality: what NIfTI and flat images without a declared modality are taken as ("CT" windows them); "" unknown.
    """

    plane: str = "acquired"
    slices: str = "all"
    volume_index: str = ""
    frames: str = "all"
    include_derived: bool = False
    modality: str = ""

    def __post_init__(self) -> None:
        _require("plane", self.plane, PLANES)
        for name, text in (("slices", self.slices), ("frames", self.frames)):
            number = text.removeprefix("every-")
            if text != "all" and not (_is_number(number) and int(number) > 0):
                raise SetupError(f"{name} {text!r} is unknown", remedy="all, a number from 1, or every-K, e.g. every-3")
        if self.volume_index not in {"", "mean", "all"} and not _is_number(self.volume_index):
            raise SetupError(f"volume_index {self.volume_index!r} is unknown", remedy="a number from 0, mean, or all")


@dataclass(frozen=True)
class ImagePolicy:
    """Whole images: radiographs, slices, frames, photographs.

    Attributes:
        size: side in pixels of the square that the encoder sees.
        fit: "pad" (letterbox on black), "squash" (ignore the aspect ratio) or "crop" (centre square).
        tile: tile flat images without known scale into ``SlidePolicy.tile_size`` squares instead of resizing.
    """

    size: int = 224
    fit: str = "pad"
    tile: bool = False

    def __post_init__(self) -> None:
        _require("fit", self.fit, FITS)


@dataclass(frozen=True)
class Limits:
    """What is refused or forced; not part of the fingerprint.

    Attributes:
        max_pixels: of one decoded image, slice or thumbnail region.
        max_voxels: of one volume.
        max_unreadable: share of unreadable regions above which the whole source fails.
        force: read DICOM files without preamble or meta header.
        mask_dir: folder of external masks or GeoJSON files ("" for none).
    """

    max_pixels: int = 250_000_000
    max_voxels: int = 8_000_000_000
    max_unreadable: float = 0.01
    force: bool = False
    mask_dir: str = ""


@dataclass(frozen=True)
class Policy:
    """Everything that decides which pixels reach the encoder."""

    slide: SlidePolicy = field(default_factory=SlidePolicy)
    intensity: IntensityPolicy = field(default_factory=IntensityPolicy)
    volume: VolumePolicy = field(default_factory=VolumePolicy)
    image: ImagePolicy = field(default_factory=ImagePolicy)
    limits: Limits = field(default_factory=Limits, compare=False)

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
        """Inverse of ``to_json``; unknown keys are an error (they would change the pixels unseen)."""
        settings = json.loads(text)
        intensity = dict(settings["intensity"])
        intensity["percentiles"] = tuple(intensity["percentiles"])
        return cls(
            slide=SlidePolicy(**settings["slide"]),
            intensity=IntensityPolicy(**intensity),
            volume=VolumePolicy(**settings["volume"]),
            image=ImagePolicy(**settings["image"]),
        )

    def sha256(self) -> str:
        """Hash of ``to_json``."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
