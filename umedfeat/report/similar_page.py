"""What resembles a query: ``similar.csv`` and a page with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.errors import OutputError
from umedfeat.naming import write_csv
from umedfeat.prediction.similar import Match
from umedfeat.report.region_pictures import Place
from umedfeat.report.templating import render
from umedfeat.report.thumbnails import data_uri, thumbnail
from umedfeat.store import FeatureFile

__all__ = ["COLUMNS", "Found", "found_rows", "write_similar"]

COLUMNS = ("rank", "cosine", "id", "row", "x", "y", "slice", "modality", "patient")
_LARGEST_PICTURE = 400_000


class Found(NamedTuple):
    """One hit as it is shown: a cell per column, the manifest's own columns, a picture as a data URI or ""."""

    cells: tuple[str, ...]
    meta: tuple[tuple[str, str], ...]
    picture: str


def found_rows(
    file: FeatureFile, matches: Sequence[Match], preview: Path | None, pictures: Mapping[Place, bytes]
) -> list[Found]:
    """The hits with what the file knows of their items.

    Args:
        preview: folder of ``umedfeat preview``, for pictures of whole items.
        pictures: PNG bytes of single regions.
    """
    return [_row(rank, file, match, preview, pictures) for rank, match in enumerate(matches, start=1)]


def _row(rank: int, file: FeatureFile, match: Match, preview: Path | None, pictures: Mapping[Place, bytes]) -> Found:
    place = ("", "", "", "") if match.row < 0 else (match.row, match.x, match.y, match.slice)
    items = file.items
    cells = (rank, f"{match.cosine:.4f}", match.item, *place, items["modality"][match.number])
    picture = pictures.get(Place(match.item, match.x, match.y, match.slice), b"")
    picture = picture or thumbnail(match.item, preview, _LARGEST_PICTURE)
    return Found(
        (*map(str, cells), str(items["patient"][match.number])),
        tuple((name, str(values[match.number])) for name, values in file.meta.items()),
        data_uri(picture),
    )


def write_similar(folder: Path, query: str, encoder: str, rows: Sequence[Found]) -> Path:
    """Write ``similar.csv`` and ``index.html``; returns the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "similar.csv").open("w", encoding="utf-8", newline="") as stream:
            header = [*COLUMNS, *(name for name, _ in rows[0].meta)] if rows else COLUMNS
            write_csv(stream, [header, *([*row.cells, *(value for _, value in row.meta)] for row in rows)])
        page.write_text(render("similar.html", query=query, encoder=encoder, rows=rows), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror})", remedy="choose another folder with --out"
        ) from error
    return page
