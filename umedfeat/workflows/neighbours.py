"""What resembles an item, a region or a new image, with pictures on a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.extraction.similar import SimilarResult, similar
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.prediction.similar import Match
from umedfeat.report.region_pictures import Place, region_pictures
from umedfeat.report.similar_page import Found, found_rows, write_similar
from umedfeat.store import FeatureFile

__all__ = ["SimilarReport", "similar_and_report"]


class SimilarReport(NamedTuple):
    """The hits, as they are shown, and the page."""

    found: SimilarResult
    rows: Sequence[Found]
    page: Path


def similar_and_report(
    query: str,
    features: Path | str = "feats.h5",
    out: Path | str | None = None,
    *,
    unit: str = "item",
    row: int | None = None,
    top: int = 12,
    other_patients: bool = False,
    images: Path | str | None = None,
    preview: Path | str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    pseudonyms: Pseudonyms | None = None,
) -> SimilarReport:
    """Find the nearest items or regions and write what ``umedfeat similar`` writes: ``similar.csv`` and a page.

    Args:
        query, unit, row, top, other_patients, weights, device: see ``umedfeat.similar``.
        features: the feature file that is searched.
        out: folder; ``similar`` beside the features by default.
        images: what the features were made of, for pictures of regions.
        preview: folder of ``umedfeat preview`` for pictures of items; ``preview`` beside the features by default.
        pseudonyms: with the key of the feature file; the user's own by default.

    Raises:
        SetupError: no such item or file. OutputError: the folder cannot be written.
    """
    path = Path(features)
    pseudonyms = pseudonyms or Pseudonyms(load_key(None))
    found = similar(
        query,
        path,
        unit=unit,
        row=row,
        top=top,
        other_patients=other_patients,
        weights=weights,
        device=device,
        pseudonyms=pseudonyms,
    )
    with FeatureFile(path) as file:
        pictures = _pictures(file, found.matches, images, pseudonyms)
        rows = found_rows(file, found.matches, Path(preview) if preview else path.parent / "preview", pictures)
        name = str(file.encoder.get("name", ""))
    folder = Path(out) if out is not None else path.parent / "similar"
    return SimilarReport(found, rows, write_similar(folder, found.query, name, rows))


def _pictures(
    file: FeatureFile, matches: Sequence[Match], images: Path | str | None, pseudonyms: Pseudonyms
) -> dict[Place, bytes]:
    """PNGs of the regions that were found, as far as their images are there."""
    places = [Place(match.item, match.x, match.y, match.slice) for match in matches if match.row >= 0]
    if images is None or not places or file.header.of_tiles is not None:  # a row of those is no region
        return {}
    return dict(region_pictures(Path(images), places, Policy.from_json(json.dumps(file.policy)), pseudonyms))
