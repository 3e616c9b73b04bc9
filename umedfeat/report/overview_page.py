"""The overview of a cohort as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from umedfeat.errors import OutputError
from umedfeat.report.figures.embedding_map import MOST_POINTS, embedding_map, principal_plane
from umedfeat.report.figures.histogram import histogram
from umedfeat.report.overview import Kind, Overview, overview_of
from umedfeat.report.templating import render
from umedfeat.report.thumbnails import data_uri, thumbnail
from umedfeat.store.info import EMPTY_REMEDY
from umedfeat.terminal.words import counted

__all__ = ["notes_of", "overview", "render_overview"]

_LARGEST_PICTURE = 120_000
_SHOWN_PAIRS, _SHOWN_OUTLIERS, _SHOWN_NAMES, _GALLERY = 40, 24, 60, 24


class Map(NamedTuple):
    """The map coloured by one column."""

    by: str
    figure: Markup
    key: list[tuple[str, str]]


class Pictured(NamedTuple):
    """An item with its picture as a data URI, or ""."""

    name: str
    picture: str
    note: str = ""


def overview(
    features: Path | str, out: Path | str | None = None, *, by: Sequence[str] = (), preview: Path | str | None = None
) -> Overview:
    """Look through a feature file and write what is in it onto one page: kinds and scales, tissue, items without a
    region, failures, copies, items far from the others, and maps of the features coloured by columns.

    Args:
        features: the feature file.
        out: the page; None: ``<features>.html`` beside it, so ``feats.html``.
        by: columns that colour the maps (the manifest's, or modality, format, patient, mpp_x …); () takes labels,
            centres and the modality.
        preview: folder of ``umedfeat preview`` for pictures; None: ``preview`` beside the features, if it is there.

    Returns:
        The facts. The page depends on the file (and its pictures) alone: the same bytes give the same page.

    Raises:
        SetupError: no such file or column, or no item has a region.
        OutputError: the page cannot be written.
    """
    path = Path(features)
    found = overview_of(path, by)
    page = Path(out) if out is not None else path.with_suffix(".html")
    pictures = Path(preview) if preview is not None else path.parent / "preview"
    try:
        page.write_text(render_overview(found, pictures), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{page}: cannot be written ({error.strerror})", remedy="choose another --out") from error
    return found


def render_overview(found: Overview, preview: Path | None = None) -> str:
    """The page as text; everything is inside, nothing is fetched."""
    plane, shares = principal_plane(found.embedding)
    maps = [Map(by, *embedding_map(plane, shares, groups, f"Items by {by}")) for by, groups in found.columns.items()]
    return render(
        "overview.html",
        found=found,
        headline=_headline(found),
        notes=notes_of(found),
        kinds=[_kind_row(kind) for kind in found.kinds],
        maps=maps,
        thinned=len(found.ids) > MOST_POINTS,
        most_points=MOST_POINTS,
        figures=_figures(found),
        gallery=_gallery(found, plane[:, 0], preview),
        pairs=[(pair, *(_pictured(name, preview) for name in (pair.first, pair.second))) for pair in found.pairs][
            :_SHOWN_PAIRS
        ],
        outliers=[
            _pictured(each.item, preview, f"{each.modality}, {each.times:.1f} × the median")
            for each in found.outliers[:_SHOWN_OUTLIERS]
        ],
        empty=found.empty[:_SHOWN_NAMES],
        empty_remedy=EMPTY_REMEDY,
        failures=found.failures[:_SHOWN_NAMES],
        skipped=list(found.skipped.items())[:_SHOWN_NAMES],
    )


def notes_of(found: Overview) -> list[str]:
    """What deserves a look, in sentences."""
    notes = []
    if crossing := sum(pair.apart for pair in found.pairs):
        notes.append(
            f"{counted(crossing, 'pair')} of items of different patients {_are(crossing)} one image: if they are one "
            "patient's, training and test of a study may share it."
        )
    if found.outliers:
        notes.append(
            f"{counted(len(found.outliers), 'item')} lie{_s(len(found.outliers))} far from all others (below)."
        )
    if found.empty:
        notes.append(f"{counted(len(found.empty), 'item')} without a region {_are(len(found.empty))} not embedded.")
    if found.failures:
        notes.append(f"{counted(len(found.failures), 'input')} failed.")
    if found.flagged_scale:
        notes.append(f"The scale of {counted(found.flagged_scale, 'item')} was given by --source-mpp.")
    if found.unknown_patients and found.patients:
        notes.append(f"{counted(found.unknown_patients, 'item')} {_have(found.unknown_patients)} no patient.")
    return notes


def _headline(found: Overview) -> str:
    embedded = found.items - len(found.empty)
    who = f" of {counted(found.patients, 'patient')}" if found.patients else ", patients unknown"
    inputs = found.items + len(found.failures)
    regions = counted(found.regions, "region")
    return f"{embedded:,} of {counted(inputs, 'input')}{who}: {regions} embedded by {found.encoder}."


def _kind_row(kind: Kind) -> list[str]:
    return [
        kind.modality or "unknown",
        kind.format,
        f"{kind.items:,}",
        f"{kind.patients:,}" if kind.patients else "–",
        f"{kind.regions:,}",
        _span(kind.size, "{:,.0f}"),
        _span(kind.mpp, "{:.4g}"),
        _span(kind.depth, "{:,.0f}") if kind.depth[2] > 1 else "–",
    ]


def _span(values: tuple[float, float, float], form: str) -> str:
    """ "0.25 (0.2498 to 0.5)": the median, and the ends where they differ."""
    low, middle, high = (form.format(value) for value in values)
    if np.isnan(values[1]):
        return "–"
    return middle if low == high else f"{middle} ({low} to {high})"


def _figures(found: Overview) -> list[tuple[Markup, str]]:
    figures = []
    if len(found.tissue):
        bars = histogram(found.tissue, "share of tissue", "tiles", (0.0, 1.0))
        figures.append((bars, "Tissue of the tiles, as the mask saw it. Tiles below the limit are not in the file."))
    several = found.per_item[found.per_item > 1]
    if len(several) > 1:
        bars = histogram(several.astype(np.float64), "regions of an item", "items", log=True)
        single = len(found.per_item) - len(several)
        left_out = f"; {counted(single, 'item')} of one region {_are(single)} not drawn" if single else ""
        figures.append((bars, f"Regions of each item, on a logarithmic axis{left_out}."))
    return figures


def _gallery(
    found: Overview, order: np.ndarray[tuple[int], np.dtype[np.float64]], preview: Path | None
) -> list[Pictured]:
    """Items from one end of the first principal component to the other, as far as they have pictures."""
    sorted_ids = found.ids[np.argsort(order, kind="stable")]
    picked = np.unique(np.linspace(0, len(sorted_ids) - 1, min(len(sorted_ids), _GALLERY)).astype(np.intp))
    shown = [_pictured(str(sorted_ids[k]), preview) for k in picked]
    return [each for each in shown if each.picture]


def _pictured(name: str, preview: Path | None, note: str = "") -> Pictured:
    return Pictured(name, data_uri(thumbnail(name, preview, _LARGEST_PICTURE)), note)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _s(count: int) -> str:
    return "s" if count == 1 else ""
