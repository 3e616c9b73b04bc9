"""Labels and splits of an export as the tables that MIL tools train from (``mil_writers`` knows which).

Tests and pools are those of a study (``splits.json``); tools that want a validation set get one of the pool's patients.
Items without a region are in no table: an empty bag ends a training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from umedfeat.errors import OutputError, SetupError
from umedfeat.fewshot.draws.orders import labelling_order
from umedfeat.fewshot.draws.saved import read_splits
from umedfeat.fewshot.settings import SavedFold, SavedSplits
from umedfeat.report.mil_writers import TABLES, Fold, Slide
from umedfeat.store import FeatureFile
from umedfeat.store.export import file_names

__all__ = ["MISSING", "VALIDATION", "write_tables"]

#: Share of the pool's patients that tools with a validation set validate on.
VALIDATION = 0.2
#: What pandas takes for no value (``pandas.read_csv``, ``na_values``): such a class would vanish without a word.
MISSING = (
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)


def write_tables(
    features: Path, folder: Path, layout: str, *, label: str, splits: Path | None = None, validation: float = VALIDATION
) -> tuple[Path, ...]:
    """Write the tables that belong to a layout of ``export``, beside its files.

    Args:
        features: the feature file that was exported. folder: where to.
        layout: "clam" (CLAM and TransMIL), "pt" (TransMIL, eva, slideflow), "trident" (Patho-Bench, MIL-Lab, torchmil)
            or "stamp".
        label: column of the class, one value an item; items without one are left out.
        splits: ``splits.json`` of a study: its pools and tests, one table each. None: no table of folds.
        validation: share of a pool's patients for tools that validate, class-proportional, the same every time.

    Returns:
        The paths.

    Raises:
        SetupError: the layout has no tables, there is no such column, or fewer than two classes.
        CohortError: ``splits`` is none, or of other items. OutputError: the folder cannot be written.
    """
    if layout not in TABLES:
        raise SetupError(f"layout {layout!r} has no tables", remedy=f"one of {', '.join(TABLES)}")
    with FeatureFile(features) as file:
        slides = _slides(file, label)
    saved = None if splits is None else read_splits(splits)
    folds = [] if saved is None else list(_folds(saved, slides, validation))
    try:
        written: list[Path] = []
        for write in TABLES[layout]:
            written += write(folder, label, list(slides.values()), folds)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}", remedy="choose another --out") from error
    return tuple(written)


def _slides(file: FeatureFile, label: str) -> dict[str, Slide]:
    """Item id → slide, of those with a region and a label."""
    texts = [str(value).strip() for value in file.labels(label)]
    there = [k for k, text in enumerate(texts) if text and file.items["count"][k]]
    classes = sorted({texts[k] for k in there})
    if lost := [text for text in classes if text in MISSING]:
        message = (
            f"{file.path.name}: class {lost[0]!r} of column {label!r} is a missing value to tools that read with pandas"
        )
        raise SetupError(message, remedy="call it otherwise, e.g. 'no finding'")
    if len(classes) < 2:
        raise SetupError(f"{file.path.name}: column {label!r} holds {len(classes)} class", remedy="another --label")
    names, cases = file_names(file.ids), file.items["patient"]
    return {file.ids[k]: Slide(names[k], str(cases[k]) or names[k], texts[k], classes.index(texts[k])) for k in there}


# ---- folds --------------------------------------------------------------------------------------------------------


def _folds(saved: SavedSplits, slides: Mapping[str, Slide], validation: float) -> Iterator[Fold]:
    """One for each pool and test of the study."""
    for fold in saved.folds:
        train, val = _validated(fold, saved, slides, validation)
        for name, patients in fold.tests.items():
            told = fold.name if len(fold.tests) == 1 else f"{fold.name}, {name}"
            yield Fold(told, train, val, _of(patients, saved, slides))


def _of(patients: Sequence[str], saved: SavedSplits, slides: Mapping[str, Slide]) -> tuple[Slide, ...]:
    return tuple(slides[item] for patient in patients for item in saved.items[patient] if item in slides)


def _validated(
    fold: SavedFold, saved: SavedSplits, slides: Mapping[str, Slide], share: float
) -> tuple[tuple[Slide, ...], tuple[Slide, ...]]:
    """The pool's slides, divided by patient; every class stays in both parts where it has two patients."""
    with_slides = [patient for patient in fold.pool if any(item in slides for item in saved.items[patient])]
    count = round(share * len(with_slides))
    if not count:
        return _of(with_slides, saved, slides), ()
    classes = 1 + max(slide.code for slide in slides.values())
    carries = np.zeros((len(with_slides), classes), dtype=bool)
    for row, patient in enumerate(with_slides):
        carries[row, [slides[item].code for item in saved.items[patient] if item in slides]] = True
    shared = carries & (carries.sum(axis=0) > 1)
    order, _ = labelling_order(shared, carries.argmax(axis=1), np.random.default_rng([0, count]))
    chosen = {with_slides[k] for k in order[:count]}
    kept = [patient for patient in with_slides if patient not in chosen]
    return _of(kept, saved, slides), _of(sorted(chosen), saved, slides)
