"""``umedfeat export``: a feature file in the layouts of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click

from umedfeat.naming import printable

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat export feats.h5 --layout clam                  (writes feats-clam/)
  umedfeat export feats.h5 --layout trident --out trident/ --nominal-magnification
  umedfeat export feats.h5 --layout stamp --label diagnosis
  umedfeat export feats.h5 --layout clam --label diagnosis --splits probe/splits.json --skip-empty
  umedfeat export feats.h5 --layout parquet               (needs pip install 'umedfeat[parquet]')

\b
Layouts:
  clam     h5_files/<slide>.h5 (features, coords) and pt_files/<slide>.pt
  trident  features_<encoder>/<slide>.h5 and patches/<slide>_patches.h5 (slides only)
  stamp    <slide>.h5 with feats in half precision, coords in micrometres (slides only)
  pt       <item>.pt, one float32 tensor (rows, values) each
  parquet  tiles.parquet and embeddings.parquet
  anndata  <item>.h5ad: X, obs (slice, tissue), obsm["spatial"]
  tokens   <item>.npy, dense features (regions, rows, columns, values) of `extract --tokens`

\b
Beside them items.csv: case_id, slide_id and the manifest's columns. With --label the tables to train from:
  clam     dataset.csv, splits/ (CLAM), folds/ (TransMIL)
  pt       folds/ (TransMIL)
  trident  k=all.tsv and config.yaml (Patho-Bench), labels_<k>.csv (MIL-Lab)
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
) -> int:
    """Write CLAM, TRIDENT, STAMP, .pt, Parquet or AnnData files of the features, or .npy of dense ones."""
    from umedfeat.store import FeatureFile, export
    from umedfeat.store.info import EMPTY_REMEDY
    from umedfeat.terminal.bar import Bar

    if splits is not None and label is None:
        raise click.UsageError("--splits needs --label COLUMN")
    with FeatureFile(file) as features:
        rows = features.n_rows
    folder = out or file.with_name(f"{file.stem}-{layout}")
    with Bar(f"export {layout}", rows) as bar:
        done = export(
            file,
            folder,
            layout,
            nominal_magnification=nominal_magnification,
            skip_empty=skip_empty,
            on_rows=bar.update,
        )
    tables = _tables(file, folder, layout, label, splits, val)
    if as_json:
        left_out = [{"id": name, "reason": reason} for name, reason in done.left_out]
        told = {"out": str(folder), "items": done.items, "empty": list(done.empty), "left_out": left_out}
        told["tables"] = [str(path.relative_to(folder)) for path in tables]
        click.echo(json.dumps(told, indent=2))
        return 0
    click.echo(f"{printable(str(folder))}: {done.items:,} items")
    if tables:
        click.echo(printable(f"  tables: {', '.join(str(path.relative_to(folder)) for path in tables)}"))
    if done.empty:
        shown = ", ".join(done.empty[:10]) + (" …" if len(done.empty) > 10 else "")
        click.echo(printable(f"  {len(done.empty)} without a single region, written with no rows: {shown}"))
        click.echo(f"  {EMPTY_REMEDY}; tools that need rows are spared by the column rows of items.csv")
    for name, reason in done.left_out[:10]:
        click.echo(printable(f"  left out: {name} ({reason})"))
    if len(done.left_out) > 10:
        click.echo(f"  … and {len(done.left_out) - 10:,} more")
    return 0


def _tables(
    file: Path, folder: Path, layout: str, label: str | None, splits: Path | None, validation: float
) -> tuple[Path, ...]:
    if label is None:
        return ()
    from umedfeat.report.mil_tables import write_tables

    return write_tables(file, folder, layout, label=label, splits=splits, validation=validation)
