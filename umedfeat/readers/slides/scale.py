"""Micrometres per pixel of a slide: where they come from, and when they are not to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from umedfeat.errors import ScaleError

__all__ = ["Scale", "ome_scale", "scale_of"]

_MAX_MPP = 100.0
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
        ScaleError: there is none, or it is absurd (≤ 0, > 100, x and y more than 5 % apart).
    """
    if manifest is not None:
        return _believable(Scale(manifest, manifest, "manifest"), name)
    described = ome_scale(properties.get("tiff.ImageDescription", ""))
    header = _from_header({**properties, **described})
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
    if not (0 < scale.x <= _MAX_MPP and 0 < scale.y <= _MAX_MPP):
        return "cannot be true"
    if abs(scale.x - scale.y) > _MAX_ANISOTROPY * max(scale.x, scale.y):
        return "x and y differ by more than 5 %"
    return None


def _from_header(properties: Mapping[str, str]) -> Scale | None:
    """The first believable scale of the header, else the first one; OME-XML is written for it, so it is asked first."""
    pairs = (
        ("ome.PhysicalSizeX", "ome.PhysicalSizeY", lambda value, axis: value * _ome_unit(properties, axis)),
        ("openslide.mpp-x", "openslide.mpp-y", lambda value, _: value),
        ("tiff.XResolution", "tiff.YResolution", lambda value, _: _tiff_mpp(value, properties)),
    )
    told = []
    for key_x, key_y, convert in pairs:
        if key_x in properties:
            x = convert(_number(properties[key_x]), "X")
            y = convert(_number(properties.get(key_y, properties[key_x])), "Y")
            if x is not None and y is not None:
                told.append(Scale(x, y, f"header:{key_x}"))
    return next((scale for scale in told if _fault(scale) is None), told[0] if told else None)


def ome_scale(xml: str) -> dict[str, str]:
    """PhysicalSize attributes of OME-XML as properties "ome.PhysicalSizeX" …; none where it is something else."""
    if "OME" not in xml[:2000]:
        return {}
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return {}
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels") or node.tag == "Pixels"), None)
    if pixels is None:
        return {}
    names = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")
    return {f"ome.{name}": pixels.attrib[name] for name in names if name in pixels.attrib}


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
