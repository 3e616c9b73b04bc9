"""What each tool trains from, as its own loaders read it: CLAM, TransMIL, MIL-Lab, torchmil, STAMP, Patho-Bench, eva,
slideflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

from umedfeat.errors import SetupError
from umedfeat.naming import write_csv

__all__ = ["TABLES", "Fold", "Slide"]

_SIDES = ("train", "val", "test")


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


def _eva(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``manifest_<k>.csv``: eva's names of item, file, class number and side."""
    head = ["wsi_id", "embeddings", "target", "split"]
    written = []
    for k, fold in enumerate(folds):
        rows = [[s.name, f"{s.name}.pt", s.code, side] for side in _SIDES for s in getattr(fold, side)]
        written.append(_table(folder / f"manifest_{k}.csv", [head, *rows]))
    return written


def _slideflow(folder: Path, label: str, slides: Sequence[Slide], folds: Sequence[Fold]) -> list[Path]:
    """``annotations.csv``: patient, slide, class, and the side of each fold in a column to filter by."""
    sides = [{slide.name: side for side in _SIDES for slide in getattr(fold, side)} for fold in folds]
    taken = ("patient", "slide")
    head = [*taken, f"{label} (label)" if label in taken else label, *(f"fold_{k}" for k in range(len(folds)))]
    rows = [[s.case, s.name, s.label, *(side.get(s.name, "") for side in sides)] for s in slides]
    return [_table(folder / "annotations.csv", [head, *rows])]


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
    "pt": (_transmil, _eva, _slideflow),
    "trident": (_patho_bench, _mil_lab),
    "stamp": (_stamp,),
}
