"""Are patients or images of a model's training data among those that it is to be validated on?

A model names nobody. Images are recognised by the features of training items that its novelty keeps; patients by the
``splits.json`` that the study left beside the model, whose pseudonyms are those of every feature file under one key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umedfeat.arrays import Bools, Ints
from umedfeat.errors import LeakageError, SetupError
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.prediction.saved import SavedProbe

__all__ = ["Overlap", "overlap_of", "trained_patients"]

_FEW = 10


@dataclass(frozen=True)
class Overlap:
    """What of some items the model has seen.

    Attributes:
        seen: (J,) items that are training images, or of training patients.
        told: what was found, "" for nothing. unchecked: what could not be looked for, "" where everything was.
    """

    seen: Bools
    told: str
    unchecked: str

    def refuse(self) -> None:
        """Validation on what the model was trained on measures nothing.

        Raises:
            LeakageError: something was found.
        """
        if self.told:
            raise LeakageError(self.told, remedy="leave them out with --known skip, or validate on other patients")


def overlap_of(probe: SavedProbe, table: FeatureTable, items: Ints, trained: frozenset[str] | None) -> Overlap:
    """Look for the training data among some items.

    Args:
        items: (J,) of the table.
        trained: pseudonyms of the training patients (``trained_patients``), or None where nobody knows them.
    """
    images = np.zeros(len(items), dtype=bool)
    if probe.novelty is not None:
        images = probe.novelty.same(table.pooled(items, probe.pool))
    patients = np.isin(table.patients[items], sorted((trained or frozenset()) - {""}))
    told = []
    if patients.any():
        names = np.unique(table.patients[items[patients]]).tolist()
        told.append(f"{len(names)} patients stand in training and in the new cohort: {_some(names)}")
    if images.any():
        names = table.ids[items[images]].tolist()
        told.append(f"{len(names)} items are images of the training data: {_some(names)}")
    return Overlap(images | patients, "; ".join(told), _unchecked(probe, trained))


def _unchecked(probe: SavedProbe, trained: frozenset[str] | None) -> str:
    lost = []
    if trained is None:
        lost.append("training patients (no splits.json of the study lies beside the model)")
    if probe.novelty is None:
        lost.append("training images (the model keeps no features of them)")
    elif not probe.novelty.complete(probe.training["items"]):
        lost.append(f"all training images (the model keeps {len(probe.novelty.references):,} of them)")
    return f"Not looked for among the new items: {' and '.join(lost)}." if lost else ""


def trained_patients(probe: SavedProbe, model: Path) -> frozenset[str] | None:
    """Pseudonyms of the patients that a model was fitted on, from the study's ``splits.json`` beside its file; None
    without one.

    Raises:
        SetupError: another kind of file.
    """
    splits = model.with_name("splits.json")
    if not splits.is_file():
        return None
    try:
        content = json.loads(splits.read_text(encoding="utf-8"))
        pool = content["folds"][0]["pool"] if probe.training["where"] == "training pool" else content["patients"]
        return frozenset(map(str, pool))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SetupError(f"{splits.name}: not the splits.json of a study", remedy="umedfeat probe writes it") from error


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_FEW]) + (" …" if len(listed) > _FEW else "")
