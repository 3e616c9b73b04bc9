"""Figures as files of their own: SVG with the colours written into it, and PDF where svglib is installed."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from umedfeat.report.figures.axes import series_class

__all__ = ["standalone", "write_figures"]

_SVG = "http://www.w3.org/2000/svg"
_INK, _MUTED, _GRID = "#1d2126", "#626a73", "#e2e4e6"
#: The light colours of the page, by class.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0589a", "#a07800", "#3a9fd0", "#7a7f85")
_SERIES = {series_class(number): colour for number, colour in enumerate(_COLOURS)}
#: What the style sheet of the page says, by class: later ones go before earlier ones.
_STYLES: tuple[tuple[str, dict[str, str]], ...] = (
    ("axis", {"stroke": _MUTED}),
    ("tick", {"stroke": _MUTED}),
    ("grid", {"stroke": _GRID}),
    ("line", {"fill": "none", "stroke-width": "2.2", "stroke-linejoin": "round"}),
    ("whisker", {"stroke-width": "1.4", "stroke-opacity": "0.7"}),
    ("other", {"stroke-width": "1", "stroke-opacity": "0.3"}),
    ("all", {"stroke-width": "1.2"}),
    ("chance", {"stroke": _MUTED, "stroke-width": "1", "stroke-dasharray": "4 4"}),
    ("area", {"fill-opacity": "0.14"}),
    ("draw", {"fill-opacity": "0.28"}),
    ("point", {"fill-opacity": "0.7"}),
)


def standalone(figure: Markup, key: list[tuple[str, str]] | None = None) -> bytes:
    """A figure of the page as an SVG file for papers and slides: no style sheet, a white ground, its key below."""
    root = ET.fromstring(str(figure))
    _, _, width, height = (float(number) for number in root.get("viewBox", "0 0 1 1").split())
    entries = key or []
    total = height + 18 * len(entries)
    for element in root.iter():
        _styled(element)
    root.insert(0, ET.Element("rect", {"width": f"{width:g}", "height": f"{total:g}", "fill": "#ffffff"}))
    for number, (kind, text) in enumerate(entries):
        root.extend(_entry(kind, text, height + 18 * number + 6))
    size = {"width": f"{width:g}", "height": f"{total:g}", "viewBox": f"0 0 {width:g} {total:g}"}
    root.attrib.update({"xmlns": _SVG, "font-family": "Helvetica, Arial, sans-serif", **size})
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _styled(element: ET.Element) -> None:
    classes = element.attrib.pop("class", "").split()
    colour = next((_SERIES[name] for name in classes if name in _SERIES), _INK)
    for name, style in _STYLES:
        if name in classes:
            element.attrib.update(style)
    if element.tag == "text":
        element.attrib.update({"fill": _INK if "name" in classes else _MUTED, "font-size": "12"})
    elif "line" in classes:
        element.attrib.setdefault("stroke", colour)
    elif {"area", "dot"} & set(classes):
        element.set("fill", colour)


def _entry(kind: str, text: str, top: float) -> list[ET.Element]:
    dot = ET.Element("circle", {"cx": "70", "cy": f"{top:g}", "r": "5", "fill": _SERIES.get(kind, _INK)})
    name = ET.Element("text", {"x": "82", "y": f"{top + 4:g}", "font-size": "12", "fill": _INK})
    name.text = text
    return [dot, name]


def write_figures(figures: Mapping[str, tuple[Markup, list[tuple[str, str]]]], folder: Path) -> list[Path]:
    """Write every figure as ``name.svg``, and as ``name.pdf`` where the extra "figures" is installed.

    Args:
        figures: name → figure and key. folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (figure, key) in figures.items():
        content = standalone(figure, key)
        path = folder / f"{''.join(letter if letter.isalnum() or letter in '-_.=' else '_' for letter in name)}.svg"
        path.write_bytes(content)
        written.append(path)
        if find_spec("svglib") is not None:
            _write_pdf(content, path.with_suffix(".pdf"))
            written.append(path.with_suffix(".pdf"))
    return written


def _write_pdf(content: bytes, path: Path) -> None:
    from reportlab.graphics import renderPDF
    from svglib.svglib import svg2rlg

    drawing = svg2rlg(io.BytesIO(content))
    if drawing is None:
        raise ValueError(f"{path.name}: svglib does not read the figure")
    renderPDF.drawToFile(drawing, str(path))
