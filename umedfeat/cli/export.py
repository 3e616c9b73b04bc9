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
  umedfeat export feats.h5 --layout stamp
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
Beside them items.csv: case_id, slide_id and the manifest's columns. A feature file of one slide needs no
export for tools that read features and coords: it opens as it is.
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
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(file: Path, layout: str, out: Path | None, nominal_magnification: bool, as_json: bool) -> int:
    """Write CLAM, TRIDENT, STAMP, .pt, Parquet or AnnData files of the features, or .npy of dense ones."""
    from umedfeat.store import FeatureFile, export
    from umedfeat.store.info import EMPTY_REMEDY
    from umedfeat.terminal.bar import Bar

    with FeatureFile(file) as features:
        rows = features.n_rows
    folder = out or file.with_name(f"{file.stem}-{layout}")
    with Bar(f"export {layout}", rows) as bar:
        done = export(file, folder, layout, nominal_magnification=nominal_magnification, on_rows=bar.update)
    if as_json:
        left_out = [{"id": name, "reason": reason} for name, reason in done.left_out]
        told = {"out": str(folder), "items": done.items, "empty": list(done.empty), "left_out": left_out}
        click.echo(json.dumps(told, indent=2))
        return 0
    click.echo(f"{printable(str(folder))}: {done.items:,} items")
    if done.empty:
        shown = ", ".join(done.empty[:10]) + (" …" if len(done.empty) > 10 else "")
        click.echo(printable(f"  {len(done.empty)} without a single region, written with no rows: {shown}"))
        click.echo(f"  {EMPTY_REMEDY}; tools that need rows are spared by the column rows of items.csv")
    for name, reason in done.left_out[:10]:
        click.echo(printable(f"  left out: {name} ({reason})"))
    if len(done.left_out) > 10:
        click.echo(f"  … and {len(done.left_out) - 10:,} more")
    return 0
