"""A feature file in another tool's layout, with the tables that the tool trains from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from umedfeat.errors import SetupError
from umedfeat.report.mil_tables import VALIDATION, write_tables
from umedfeat.store import Exported, FeatureFile
from umedfeat.store import export as export_rows
from umedfeat.terminal.bar import Bar

__all__ = ["ExportReport", "export"]


class ExportReport(NamedTuple):
    """What was written, and the tables to train from, () without a label."""

    exported: Exported
    tables: tuple[Path, ...]


def export(
    features: Path | str,
    layout: str,
    out: Path | str | None = None,
    *,
    nominal_magnification: bool = False,
    skip_empty: bool = False,
    label: str = "",
    splits: Path | str | None = None,
    validation: float = VALIDATION,
    progress: bool | None = None,
) -> ExportReport:
    """Write what ``umedfeat export`` writes: another tool's files, ``items.csv``, and with ``label`` its tables.

    Args:
        features: the feature file.
        layout: "clam", "trident", "stamp", "pt", "parquet", "anndata" or "tokens".
        out: folder; ``<features>-<layout>`` beside the file by default.
        nominal_magnification: magnifications rounded to the usual 5, 10, 20, 40, 80.
        skip_empty: leave out items without a region, whose bags end some trainings.
        label: column of the class. splits: ``splits.json`` of a study: its tests, as the folds of the tables.
        validation: share of a pool's patients for tools that want a validation set.
        progress: None: a bar where somebody watches.

    Raises:
        SetupError: unknown layout, missing extra, no item that fits; splits without label, no such column.
        CohortError: ``splits`` is none, or of other items. OutputError: the folder cannot be written.

    Example:
        >>> umedfeat.export("feats.h5", "clam", label="diagnosis").tables  # doctest: +SKIP
    """
    if splits is not None and not label:
        raise SetupError("splits need the column of the label", remedy="--label COLUMN")
    path = Path(features)
    folder = Path(out) if out is not None else path.with_name(f"{path.stem}-{layout}")
    with FeatureFile(path) as file:
        rows = file.n_rows
    with Bar(f"export {layout}", rows, shown=progress) as bar:
        done = export_rows(
            path,
            folder,
            layout,
            nominal_magnification=nominal_magnification,
            skip_empty=skip_empty,
            on_rows=bar.update,
        )
    if not label:
        return ExportReport(done, ())
    table = None if splits is None else Path(splits)
    return ExportReport(done, write_tables(path, folder, layout, label=label, splits=table, validation=validation))
