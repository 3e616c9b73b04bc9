"""``umedfeat info``: what is inside a feature file."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat info                        (feats.h5 in this folder)
  umedfeat info feats.h5 --items       (one line per item)
  umedfeat info feats.h5 --items items.csv    (to fill in, for probe --labels)
  umedfeat info feats.h5 --failures    (what failed, why, and what to do)
  umedfeat info feats.h5 --skipped
  umedfeat info feats.h5 --json
"""


@click.command(epilog=EPILOG)
@click.argument("file", default="feats.h5", type=click.Path(path_type=Path))
@click.option(
    "--items",
    is_flag=False,
    flag_value="-",
    metavar="[CSV]",
    help="One line per item; a .csv file: a table to fill in.",
)
@click.option("--failures", "part", flag_value="failures", help="What failed, why, and what to do.")
@click.option("--skipped", "part", flag_value="skipped", help="Files that are not inputs, and why.")
@click.option("--dropped", "part", flag_value="dropped", help="Regions that could not be read, and why.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def command(file: Path, items: str | None, part: str | None, as_json: bool) -> None:
    """Tell what is inside a feature file: encoder, settings, items per modality, labels, failures."""
    from umedfeat.store import FeatureFile
    from umedfeat.store.info import describe, listing, overview, write_items

    if items not in (None, "-") and not str(items).lower().endswith(".csv"):
        raise click.UsageError(f"--items {items}: name a .csv file, or write --items behind the feature file")
    with FeatureFile(file) as features:
        if items not in (None, "-"):
            click.echo(f"{write_items(features, Path(str(items)))} items written to {items}")
            return
        part = "items" if items else part
        if part is not None:
            names, rows = listing(features, part)
            click.echo(
                json.dumps([dict(zip(names, row, strict=True)) for row in rows]) if as_json else _table(names, rows)
            )
        else:
            click.echo(json.dumps(describe(features), indent=2) if as_json else overview(describe(features)))


def _table(names: list[str], rows: list[list[object]]) -> str:
    from umedfeat.terminal.tables import render_table

    return render_table(names, rows) if rows else "none"


def _records(names: list[str], rows: list[list[object]]) -> str:
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2)
