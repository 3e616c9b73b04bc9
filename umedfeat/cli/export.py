"""``umedfeat export``: a feature file in the layouts of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.naming import printable

if TYPE_CHECKING:
    from umedfeat.workflows.exports import ExportReport

__all__ = ["command"]

_FEW = 10  # items that are spelt out

EPILOG = """\b
Examples:
  umedfeat export feats.h5 --layout clam                  (writes feats-clam/)
  umedfeat export feats.h5 --layout trident --nominal-magnification
  umedfeat export feats.h5 --layout stamp --label diagnosis
  umedfeat export feats.h5 --layout clam --label grade --splits splits.json
  umedfeat export feats.h5 --layout parquet         (needs umedfeat[parquet])

\b
Layouts:
  clam     h5_files/<slide>.h5 (features, coords) and pt_files/<slide>.pt
  trident  features_<encoder>/<slide>.h5, patches/<slide>_patches.h5
  stamp    <slide>.h5: feats in half precision, coords in micrometres
  pt       <item>.pt, one float32 tensor (rows, values) each
  parquet  tiles.parquet and embeddings.parquet
  anndata  <item>.h5ad: X, obs (slice, tissue), obsm["spatial"]
  tokens   <item>.npy, dense features of `extract --tokens`
Of trident and stamp: slides only.

Beside them items.csv: case_id, slide_id and the manifest's columns.

\b
With --label the tables to train from:
  clam     dataset.csv, splits/ (CLAM), folds/ (TransMIL)
  pt       folds/ (TransMIL), manifest_<k>.csv (eva),
           annotations.csv (slideflow)
  trident  k=all.tsv and config.yaml (Patho-Bench),
           labels_<k>.csv (MIL-Lab, torchmil)
  stamp    clini_table.csv, slide_table.csv

A feature file of one slide needs no export for tools that read features and coords: it opens as it is.
"""


@click.command(epilog=EPILOG)
@click.argument("file", default="feats.h5", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    required=True,
    type=click.Choice(["clam", "trident", "stamp", "pt", "parquet", "anndata", "tokens"]),
    help="What to write.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: FILE-LAYOUT]")
@click.option("--nominal-magnification", is_flag=True, help="Magnifications rounded to the usual 5, 10, 20, 40, 80.")
@click.option("--skip-empty", is_flag=True, help="Leave out items without a region: empty bags end some trainings.")
@click.option("--label", metavar="COLUMN", help="Class of each item: also write the tables that the tool trains from.")
@click.option(
    "--splits",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="splits.json of a study: its tests, as the folds of these tables.",
)
@click.option(
    "--val",
    type=click.FloatRange(0, 0.9),
    metavar="FLOAT",
    default=0.2,
    show_default=True,
    help="Share of a pool's patients for tools that want a validation set.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(
    file: Path,
    layout: str,
    out: Path | None,
    nominal_magnification: bool,
    skip_empty: bool,
    label: str | None,
    splits: Path | None,
    val: float,
    as_json: bool,
) -> None:
    """Write CLAM, TRIDENT, STAMP, .pt, Parquet or AnnData files of the features, or .npy of dense ones."""
    from umedfeat.workflows.exports import export

    report = export(
        file,
        layout,
        out,
        nominal_magnification=nominal_magnification,
        skip_empty=skip_empty,
        label=label or "",
        splits=splits,
        validation=val,
    )
    click.echo(json.dumps(_as_dict(report), indent=2) if as_json else printable(_text(report), keep="\n"))


def _as_dict(report: ExportReport) -> dict[str, Any]:
    done = report.exported
    return {
        "out": str(done.folder),
        "items": done.items,
        "empty": list(done.empty),
        "left_out": [{"id": name, "reason": reason} for name, reason in done.left_out],
        "tables": _tables(report),
    }


def _tables(report: ExportReport) -> list[str]:
    return [str(path.relative_to(report.exported.folder)) for path in report.tables]


def _text(report: ExportReport) -> str:
    from umedfeat.store.info import EMPTY_REMEDY
    from umedfeat.terminal.words import counted

    done = report.exported
    lines = [f"{done.folder}: {counted(done.items, 'item')}"]
    if report.tables:
        lines.append(f"  tables: {', '.join(_tables(report))}")
    if done.empty:
        shown = ", ".join(done.empty[:_FEW]) + (" …" if len(done.empty) > _FEW else "")
        lines.append(f"  {len(done.empty)} without a single region, written with no rows: {shown}")
        lines.append(f"  {EMPTY_REMEDY}; tools that need rows are spared by the column rows of items.csv")
    lines += [f"  left out: {name} ({reason})" for name, reason in done.left_out[:_FEW]]
    if len(done.left_out) > _FEW:
        lines.append(f"  … and {len(done.left_out) - _FEW:,} more")
    return "\n".join(lines)
