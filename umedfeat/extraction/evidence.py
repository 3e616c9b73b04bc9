"""What stands behind predictions, as pictures: heatmaps and curves, and occlusion where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from umedfeat.extraction.occlusion import MOST_EXPLAINED, occlude_all
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import Predicted
from umedfeat.report.prediction_pictures import NO_EVIDENCE, Evidence, draw_all

__all__ = ["Showing", "evidence_of"]


@dataclass(frozen=True)
class Showing:
    """Which pictures are made.

    Attributes:
        class_name: class that is shown; "" the predicted one of each item.
        pictures: heatmaps of slides, curves and slices of volumes.
        occlusion: hide one part of single images after the other. most: how many images, the least certain first.
        weights, device: of the encoder, for occlusion.
    """

    class_name: str = ""
    pictures: bool = True
    occlusion: bool = False
    most: int = MOST_EXPLAINED
    weights: Path | None = None
    device: str = "auto"


def evidence_of(
    found: Predicted,
    folder: Path,
    showing: Showing,
    pseudonyms: Pseudonyms,
    *,
    inputs: Path,
    images: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[int, Evidence]:
    """Pictures of every item, written into ``folder``.

    Args:
        inputs: what was predicted; images show themselves, where no others are named.
        images: what a feature file was made of.
        tell: receives what occlusion will cost, before it is spent.

    Returns:
        Item of the table → pictures.

    Raises:
        SetupError: occlusion without images, or of a probe that takes no single images.
    """
    shown = images or (inputs if found.table.path != inputs else None)
    drawn = draw_all(found, showing.class_name, folder, shown, pseudonyms) if showing.pictures else {}
    if not showing.occlusion:
        return drawn
    maps = occlude_all(
        found,
        showing.class_name,
        folder,
        shown,
        pseudonyms,
        weights=showing.weights,
        device=showing.device,
        most=showing.most,
        tell=tell,
    )
    return _joined(drawn, maps)


def _joined(drawn: dict[int, Evidence], more: dict[int, Evidence]) -> dict[int, Evidence]:
    """Both kinds of evidence of every item."""
    found = dict(drawn)
    for item, evidence in more.items():
        before = found.get(item, NO_EVIDENCE)
        found[item] = before._replace(heatmaps={**before.heatmaps, **evidence.heatmaps})
    return found
