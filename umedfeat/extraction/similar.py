"""``umedfeat.similar``: what in a feature file resembles an item, a region, or a new image?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError
from umedfeat.extraction.alike import features_like
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.similar import Match, nearest, row_vector
from umedfeat.store import FeatureFile
from umedfeat.terminal.progress import Progress

__all__ = ["SimilarResult", "similar"]


@dataclass(frozen=True)
class SimilarResult:
    """The query as it was understood, and the hits, best first."""

    query: str
    matches: tuple[Match, ...]


def similar(
    query: str,
    features: Path | str,
    *,
    unit: str = "item",
    row: int | None = None,
    top: int = 12,
    other_patients: bool = False,
    weights: Path | None = None,
    device: str = "auto",
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
) -> SimilarResult:
    """The nearest items or regions of a feature file by cosine, exact, in flat memory.

    Args:
        query: id of an item of the file, or the path of an image (embedded with the file's encoder and policy).
        unit: "item" (means of items) or "tile" (every region).
        row: region of the query item that is asked about; its mean by default.
        top: how many hits.
        other_patients: leave out all items of the query's patient. The query itself is never a hit for whole items.
        weights, device, pseudonyms, progress: for a new image; see ``umedfeat.extract``.

    Raises:
        SetupError: no such item or file, or the image cannot be embedded like the file.
    """
    with FeatureFile(features) as file:
        if query in file.ids or not Path(query).exists():
            number = file.find(query)
            vector = row_vector(file, number, row)
            without = _left_out(file, number, unit, other_patients)
        else:
            vector, without = _embedded(query, file, weights, device, pseudonyms, progress), None
        return SimilarResult(query, tuple(nearest(file, vector, unit=unit, top=top, without=without)))


def _left_out(file: FeatureFile, number: int, unit: str, other_patients: bool) -> npt.NDArray[np.bool_]:
    own = np.arange(len(file)) == number if unit == "item" else np.zeros(len(file), dtype=bool)
    patient = str(file.items["patient"][number])
    if other_patients:
        own |= (np.asarray(file.items["patient"], dtype=np.str_) == patient) if patient else own
        own[number] = True
    return own


def _embedded(
    query: str,
    file: FeatureFile,
    weights: Path | None,
    device: str,
    pseudonyms: Pseudonyms | None,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    with tempfile.TemporaryDirectory(prefix="umedfeat-") as folder:
        out = Path(folder, "query.h5")
        made = features_like(
            query, out, file.header, weights=weights, device=device, pseudonyms=pseudonyms, progress=progress
        )
        with FeatureFile(made) as found:
            if len(found) != 1:
                raise SetupError(f"{query}: holds {len(found)} inputs", remedy="give one image, slide or series")
            return row_vector(found, 0)
