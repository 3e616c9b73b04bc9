"""A plan in words: one headline, facts with units, and flags that deserve a second look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from umedfeat.contract import Plan
from umedfeat.policy import CT_WINDOWS
from umedfeat.report.preview.contact import Letters

__all__ = ["LETTERS", "facts", "flags", "headline"]

#: Radiological display: left, right, top, bottom of the picture.
LETTERS: Mapping[str, Letters] = {
    "axial": Letters("R", "L", "A", "P"),
    "coronal": Letters("R", "L", "H", "F"),
    "sagittal": Letters("A", "P", "H", "F"),
}

#: Shown elsewhere, or of no use to a reader of the page.
_KNOWN = frozenset({"plane", "intensity", "fit", "slices_selected", "slices_total", "grid"})
_LABELS = {"icc": "ICC profile", "downsample": "Downsample of the level", "resample": "Resampled by"}
_FEW_TILES = 10

#: What a reader recorded → what is worth a second look, given the value (nothing where it is the good case).
_FLAGS: Mapping[str, Callable[[Any], str]] = {
    "burned_in_annotation": lambda yes: "burned-in annotation: text in the pixels" if yes else "",
    "part": lambda which: f"part {which} of one image: other files hold the rest",
    "secondary_capture": lambda yes: "secondary capture: a picture of images" if yes else "",
    "hounsfield": lambda yes: "" if yes else "CT without Hounsfield units: percentiles instead of a window",
    "missing_slices": lambda count: f"{count} slice{'s' * (count != 1)} missing" if count else "",
    "gantry_tilt_degrees": lambda angle: f"gantry tilt {angle:.3g}°" if angle else "",
    "sform_qform_difference": lambda gap: "sform and qform disagree: sform taken" if gap else "",
    "pages_left_out": lambda count: f"{count} page{'s' * (count != 1)} of another size left out" if count else "",
    "orientation": str,
    "note": str,
}


def headline(plan: Plan) -> str:
    """The one line under a picture: "412 tiles · 0.499 µm/px", "48 of 96 slices · axial", "2140 × 1760 px"."""
    if plan.tile_extent:
        count = len(plan.regions)
        return " · ".join([f"{count:,} tile{'s' * (count != 1)}", *([f"{plan.mpp[0]:.4g} µm/px"] if plan.mpp else [])])
    if plan.depth > 1:
        of = f"{len(plan.regions)} of {plan.depth}" if len(plan.regions) != plan.depth else f"{plan.depth}"
        plane = str(plan.detail.get("plane", ""))
        return f"{of} {_slices(plan)}" + (f" · {plane}" if plane in LETTERS else "")
    return f"{plan.width} × {plan.height} px"


def facts(plan: Plan) -> list[tuple[str, str]]:
    """What a reviewer wants to know, as (label, value with unit)."""
    return [(label, text) for label, text in _facts(plan) if text]


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "Modality", f"{plan.modality} ({plan.format})"
    yield "Size", _size(plan)
    if plan.mpp:
        yield "Scale", f"{_scale(plan.mpp)}, from {plan.mpp_source}"
    if plan.tile_extent:
        yield "Tiles", _tiles(plan)
    elif plan.depth > 1:
        yield _slices(plan).capitalize(), f"{len(plan.regions)} of {plan.depth}"
    yield "Spacing", _spacing(plan.spacing)
    plane = str(plan.detail.get("plane", ""))
    yield "Plane", f"{plane}, radiological display" if plane in LETTERS else ""
    yield "Intensity", _intensity(plan.detail.get("intensity"), plan.modality)
    yield "Encoder gets", _square(plan)
    for key, value in plan.detail.items():
        if key not in _KNOWN:
            yield _LABELS.get(key, key.replace("_", " ").capitalize()), _plain(value)


def flags(plan: Plan, unreadable: int = 0, *, tissue: bool = False) -> list[str]:
    """What deserves a look.

    Args:
        unreadable: regions of the contact sheet that could not be read.
        tissue: whether the mask of a slide holds any.
    """
    found = [text for key, say in _FLAGS.items() if key in plan.detail and (text := say(plan.detail[key]))]
    found += [plan.hint] if plan.hint else []
    if plan.tile_extent and not len(plan.regions):
        why = "no tile has enough tissue" if tissue else "no tissue"
        found += [] if "note" in plan.detail else [f"0 tiles: {why}"]
    elif plan.tile_extent and len(plan.regions) < _FEW_TILES:
        found.append(f"only {len(plan.regions)} tile{'s' * (len(plan.regions) != 1)}")
    if plan.mpp_source == "flag":
        found.append("scale given by --source-mpp")
    if unreadable:
        found.append(f"{unreadable} unreadable of those shown")
    return found


def _slices(plan: Plan) -> str:
    return "slices" if plan.spacing or plan.detail.get("plane") in LETTERS else "frames"


def _size(plan: Plan) -> str:
    text = f"{plan.width:,} × {plan.height:,} px" + (f" × {plan.depth}" if plan.depth > 1 else "")
    if plan.mpp:
        text += f" ({plan.width * plan.mpp[0] / 1000:.3g} × {plan.height * plan.mpp[1] / 1000:.3g} mm)"
    return text


def _spacing(spacing: str) -> str:
    """ "5\\0.7\\0.7" → "5 × 0.7 × 0.7 mm (slices × rows × columns)"."""
    parts = [part for part in spacing.split("\\") if part]
    axes = ("slices", "rows", "columns")[3 - len(parts) :]
    return f"{' × '.join(f'{float(part):.4g}' for part in parts)} mm ({' × '.join(axes)})" if parts else ""


def _scale(mpp: tuple[float, float]) -> str:
    x, y = (f"{value:.4g}" for value in mpp)
    return f"{x} µm/px" if x == y else f"{x} × {y} µm/px"


def _tiles(plan: Plan) -> str:
    micrometres = f", {plan.tile_extent * plan.mpp[0]:.4g} µm" if plan.mpp else ""
    grid = plan.detail.get("grid")
    places = f" of {grid['columns'] * grid['rows']:,} on the grid" if _counted(grid) else ""
    return f"{len(plan.regions):,}{places}, each {plan.tile_extent:.5g} px at level 0{micrometres}"


def _counted(grid: Any) -> TypeGuard[Mapping[str, int]]:
    return isinstance(grid, Mapping) and all(isinstance(grid.get(key), int) for key in ("columns", "rows"))


def _intensity(intensity: Any, modality: str) -> str:
    if not isinstance(intensity, Mapping):
        return _plain(intensity)
    text = str(intensity.get("window", ""))
    # Percentiles are also taken of a CT that is not in Hounsfield units: no unit is claimed for them.
    unit = "HU" if modality == "CT" and (text in CT_WINDOWS or "," in text) else ""
    unit = "" if text == "SUV" else unit
    if "low" in intensity and "high" in intensity:
        text += f": {float(intensity['low']):.5g} to {float(intensity['high']):.5g} {unit}".rstrip()
    if intensity.get("nonfinite"):
        text += f"; {intensity['nonfinite']} non-finite values as background"
    return text


def _square(plan: Plan) -> str:
    fit = plan.detail.get("fit")
    how = f", {fit}" if fit else ""
    return f"{plan.shape[1]} × {plan.shape[0]} px {plan.dtype}{how}"


def _plain(value: Any) -> str:
    """A JSON value for reading: at most a dozen entries of a list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(entry) for entry in value[:12])
        return f"{shown}, … ({len(value)})" if len(value) > 12 else shown
    return "" if value is None else str(value)
