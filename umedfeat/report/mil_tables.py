"""Labels and splits of an export as the tables that MIL tools train from: CLAM, TransMIL, MIL-Lab, STAMP, Patho-Bench.

Tests and pools are those of a study (``splits.json``); tools that want a validation set get one of the pool's patients.
Items without a region are in no table: an empty bag ends a training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from umedfeat.errors import OutputError, SetupError
from umedfeat.fewshot.draws.orders import labelling_order
from umedfeat.fewshot.draws.saved import read_splits
from umedfeat.fewshot.settings import SavedFold, SavedSplits
from umedfeat.naming import write_csv
from umedfeat.store import FeatureFile
from umedfeat.store.export import file_names

__all__ = ["MISSING", "TABLES", "VALIDATION", "write_tables"]

#: Share of the pool's patients that tools with a validation set validate on.
VALIDATION = 0.2
_SIDES = ("train", "val", "test")
#: What pandas takes for no value (``pandas.read_csv``, ``na_values``): such a class would vanish without a word.
MISSING = (
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)


class Slide(NamedTuple):
    """One exported item: file name, patient ("" unknown: its own), class and its number."""

    name: str
    case: str
    label: str
    code: int


@dataclass(frozen=True)
class Fold:
    """Which slides are trained, validated and tested on."""

    name: str
    train: tuple[Slide, ...]
    val: tuple[Slide, ...]
    test: tuple[Slide, ...]

    @property
    def pool(self) -> tuple[Slide, ...]:
        """All that is not tested on."""
        return (*self.train, *self.val)


def write_tables(
    features: Path, folder: Path, layout: str, *, label: str, splits: Path | None = None, validation: float = VALIDATION
) -> tuple[Path, ...]:
    """Write the tables that belong to a layout of ``export``, beside its files.

    Args:
        features: the feature file that was exported. folder: where to.
        layout: "clam" (CLAM and TransMIL), "pt" (TransMIL), "trident" (Patho-Bench, MIL-Lab) or "stamp".
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


# ---- tables -------------------------------------------------------------------------------------------------------


def _table(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, rows, delimiter)
    return path


def _clam(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``dataset.csv``, and ``splits/splits_<k>.csv`` with the slides of each side."""
    rows = [["case_id", "slide_id", "label"], *([slide.case, slide.name, slide.label] for slide in slides)]
    written = [_table(folder / "dataset.csv", rows)]
    for k, fold in enumerate(folds):
        sides = ([slide.name for slide in getattr(fold, side)] for side in _SIDES)
        body = [[row, *cells] for row, cells in enumerate(zip_longest(*sides, fillvalue=""))]
        written.append(_table(_made(folder / "splits") / f"splits_{k}.csv", [["", *_SIDES], *body]))
    return written


def _transmil(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``folds/fold<k>.csv``: each side's slides beside their classes' numbers."""
    head = ["", *(name for side in _SIDES for name in (side, f"{side}_label"))]
    written = []
    for k, fold in enumerate(folds):
        columns = (
            column
            for side in _SIDES
            for column in ([s.name for s in getattr(fold, side)], [s.code for s in getattr(fold, side)])
        )
        body = [[row, *cells] for row, cells in enumerate(zip_longest(*columns, fillvalue=""))]
        written.append(_table(_made(folder / "folds") / f"fold{k}.csv", [head, *body]))
    return written


def _mil_lab(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``labels_<k>.csv``: slide_id, case_id, label (number), split."""
    written = []
    for k, fold in enumerate(folds):
        rows = [[s.name, s.case, s.code, side] for side in _SIDES for s in getattr(fold, side)]
        written.append(_table(folder / f"labels_{k}.csv", [["slide_id", "case_id", "label", "split"], *rows]))
    return written


def _stamp(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``clini_table.csv`` and ``slide_table.csv``: STAMP divides patients itself.

    A patient's slides stand in neighbouring rows: STAMP collects them with ``itertools.groupby``, without sorting.
    """
    of_case = {slide.case: slide.label for slide in slides}
    if _differ_within(slides):
        raise SetupError(f"column {label!r} differs between slides of a patient", remedy="STAMP's labels are patients'")
    clini = [["PATIENT", label], *([case, text] for case, text in of_case.items())]
    files = [
        ["PATIENT", "FILENAME"],
        *([slide.case, f"{slide.name}.h5"] for slide in sorted(slides, key=lambda slide: slide.case)),
    ]
    return [_table(folder / "clini_table.csv", clini), _table(folder / "slide_table.csv", files)]


def _patho_bench(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``k=all.tsv`` with a column per fold, and ``config.yaml`` of the task.

    Samples are patients; where the slides of a patient differ in the label, which Patho-Bench refuses, they are slides.
    """
    sides = [
        {slide.name: side for side, part in (("train", fold.pool), ("test", fold.test)) for slide in part}
        for fold in folds
    ]
    head = ["case_id", "slide_id", label, *(f"fold_{k}" for k in range(len(folds)))]
    used = [s for s in slides if not sides or any(s.name in side for side in sides)]
    body = [[s.case, s.name, s.code, *(side.get(s.name, "") for side in sides)] for s in used]
    config = {
        "task_col": label,
        "extra_cols": [],
        "task_type": "classification",
        "metrics": ["macro-ovr-auc"],
        "label_dict": {slide.code: slide.label for slide in sorted(slides, key=lambda slide: slide.code)},
        "sample_col": "slide_id" if _differ_within(slides) else "case_id",
    }
    task = folder / "config.yaml"
    task.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return [_table(folder / "k=all.tsv", [head, *body], "\t"), task]


def _differ_within(slides: Sequence[Slide]) -> bool:
    """Has a patient slides of two classes?"""
    of_case = {slide.case: slide.label for slide in slides}
    return any(of_case[slide.case] != slide.label for slide in slides)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_Writer = Callable[[Path, str, Sequence[Slide], Sequence[Fold]], list[Path]]
#: Layout of ``export`` → what is written beside it.
TABLES: dict[str, tuple[_Writer, ...]] = {
    "clam": (_clam, _transmil),
    "pt": (_transmil,),
    "trident": (_patho_bench, _mil_lab),
    "stamp": (_stamp,),
}
