"""Micrometres per pixel of slides and tiled images: where they come from, when they are believed, what they allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from umedfeat.errors import ScaleError
from umedfeat.policy import Policy

__all__ = ["Scale", "believable_header", "refuse_upsampling", "scale_note", "scale_of"]

_MAX_MPP = 100.0
#: A scanner's own scale is never coarser: what a resolution tag says then is of a printer or a screen.
_MAX_HEADER_MPP = 20.0
_ROUND_DPI = (72, 96, 150, 300, 600)
_MAX_ANISOTROPY = 0.05
_REMEDY = "give it in a manifest column mpp, or with --source-mpp for all slides"

#: Micrometres of one TIFF resolution unit.
_TIFF_UNITS = {
    "2": 25_400.0,
    "INCH": 25_400.0,
    "inch": 25_400.0,
    "3": 10_000.0,
    "CENTIMETER": 10_000.0,
    "centimeter": 10_000.0,
}
#: Micrometres of one OME unit; the micro sign comes as two characters.
_OME_UNITS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6, "Å": 1e-4}
_OME_UNITS |= {"in": 25_400.0, "dm": 1e5, "micron": 1.0}


class Scale(NamedTuple):
    """(x, y) micrometres per pixel of level 0 and their origin: "header:<key>", "manifest" or "flag"."""

    x: float
    y: float
    source: str


def scale_of(properties: Mapping[str, str], name: str, *, manifest: float | None, flag: float | None) -> Scale:
    """The scale of a slide: the manifest's, else a believable one of the header, else the flag's.

    Raises:
        ScaleError: there is none, or it is absurd (≤ 0; above 100, in a header above 20; x and y over 5 % apart).
    """
    if manifest is not None:
        return _believable(Scale(manifest, manifest, "manifest"), name)
    header = _from_header(properties)
    if header is not None and (flag is None or _fault(header) is None):
        return _believable(header, name)
    if flag is not None:
        return _believable(Scale(flag, flag, "flag"), name)
    raise ScaleError(f"{name}: the slide does not tell its micrometres per pixel", remedy=_REMEDY)


def _believable(scale: Scale, name: str) -> Scale:
    fault = _fault(scale)
    if fault is not None:
        raise ScaleError(f"{name}: {scale.x:g} × {scale.y:g} µm per pixel ({scale.source}): {fault}", remedy=_REMEDY)
    return scale


def _fault(scale: Scale) -> str | None:
    header = scale.source.startswith("header:")
    most = _MAX_HEADER_MPP if header else _MAX_MPP
    if math.isnan(scale.x) or math.isnan(scale.y):
        return "no number, or in no unit of length"
    if not (0 < scale.x <= most and 0 < scale.y <= most):
        dpi = _round_dpi(scale) if header else None
        return "cannot be true" + (f" ({dpi} dpi, of a screen or a printer)" if dpi else "")
    if abs(scale.x - scale.y) > _MAX_ANISOTROPY * max(scale.x, scale.y):
        return "x and y differ by more than 5 %"
    return None


def _round_dpi(scale: Scale) -> int | None:
    """The usual number of dots per inch that a scale is, if it is one."""
    if not (scale.x > 0 and math.isfinite(scale.x)):
        return None
    return next((dpi for dpi in _ROUND_DPI if abs(25_400 / scale.x - dpi) < 0.01 * dpi), None)


def believable_header(properties: Mapping[str, str]) -> Scale | None:
    """The scale that a header tells, if it can be one."""
    header = _from_header(properties)
    return header if header is not None and _fault(header) is None else None


def scale_note(properties: Mapping[str, str], scale: Scale, flag: float | None) -> str:
    """What the user should know of the choice: a header that was overridden, a flag that changed nothing; or ""."""
    header = _from_header(properties)
    if flag is not None and scale.source != "flag":
        remedy = "" if scale.source == "manifest" else "; a manifest column mpp overrides it"
        return f"--source-mpp changed nothing: the scale comes from the {scale.source.partition(':')[0]}{remedy}"
    if scale.source.startswith("header:"):
        return _disagreement(properties, scale)
    if header is None or abs(header.x / scale.x - 1) < 0.01:
        return ""
    by = "--source-mpp" if scale.source == "flag" else "the manifest"
    return f"the header's {header.x:.4g} µm per pixel were overridden by {by}: {scale.x:g}"


def _disagreement(properties: Mapping[str, str], scale: Scale) -> str:
    """Another believable scale in the header, which was not taken; or ""."""
    others = (one for one in _in_header(properties) if _fault(one) is None)
    other = next((one for one in others if abs(one.x / scale.x - 1) > _MAX_ANISOTROPY), None)
    if other is None:
        return ""
    told = (f"{one.x:.4g} ({one.source.partition(':')[2]})" for one in (scale, other))
    return (
        f"the header tells two scales, {' and '.join(told)} µm per pixel: the first was taken; a manifest overrides it"
    )


def refuse_upsampling(finest: float, policy: Policy, name: str, tiles: int) -> None:
    """Pixels that were never scanned are not made, or only where the user asked for it.

    Args:
        finest: micrometres per pixel of the image, the finer side.
        tiles: how many tiles there would be.

    Raises:
        ScaleError: the image is coarser than the target.
    """
    slide, factor = policy.slide, finest / policy.slide.mpp
    if factor <= 1 + slide.upsample_tolerance:
        return
    if not slide.allow_upsample:
        raise ScaleError(
            f"{name}: scanned at {finest:g} µm per pixel, coarser than the target {slide.mpp:g}",
            remedy=f"choose --mpp {finest:g} or above, or --allow-upsample",
        )
    if factor > policy.limits.max_upsample:
        raise ScaleError(
            f"{name}: {finest:g} µm per pixel would be blown up {factor:.3g} times, to {tiles:,} tiles",
            remedy=f"choose --mpp {finest:g}, correct the scale (manifest column mpp, --source-mpp), or --max-upsample",
        )


def _from_header(properties: Mapping[str, str]) -> Scale | None:
    """The first believable scale of the header, else the first one; OME-XML is written for it, so it is asked first."""
    told = list(_in_header(properties))
    return next((scale for scale in told if _fault(scale) is None), told[0] if told else None)


def _in_header(properties: Mapping[str, str]) -> Iterator[Scale]:
    """Every scale that the header tells."""
    pairs = (
        ("ome.PhysicalSizeX", "ome.PhysicalSizeY", lambda value, axis: value * _ome_unit(properties, axis)),
        ("openslide.mpp-x", "openslide.mpp-y", lambda value, _: value),
        ("scanner.mpp-x", "scanner.mpp-y", lambda value, _: value),
        ("aperio.MPP", "aperio.MPP", lambda value, _: value),
        ("qptiff.PixelSizeMicrons", "qptiff.PixelSizeMicrons", lambda value, _: value),
        ("tiff.XResolution", "tiff.YResolution", lambda value, _: _tiff_mpp(value, properties)),
    )
    for key_x, key_y, convert in pairs:
        if key_x in properties:
            x = convert(_number(properties[key_x]), "X")
            y = convert(_number(properties.get(key_y, properties[key_x])), "Y")
            if x is not None and y is not None:
                yield Scale(x, y, f"header:{key_x}")


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return float("nan")


def _ome_unit(properties: Mapping[str, str], axis: str) -> float:
    return _OME_UNITS.get(properties.get(f"ome.PhysicalSize{axis}Unit", "µm"), float("nan"))


def _tiff_mpp(per_unit: float, properties: Mapping[str, str]) -> float | None:
    """TIFF stores pixels per unit; without a unit the number says nothing."""
    unit = _TIFF_UNITS.get(properties.get("tiff.ResolutionUnit", ""))
    if unit is None or per_unit == 0 or per_unit == 1:
        return None
    return unit / per_unit
