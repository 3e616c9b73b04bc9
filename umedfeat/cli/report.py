"""``umedfeat report``: what is in a cohort, on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from umedfeat.report.overview import Overview

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat report feats.h5                         (writes feats.html)
  umedfeat report feats.h5 --by diagnosis --by scanner
  umedfeat report feats.h5 --preview preview/      (with pictures)

Kinds, scales, tissue, items without a region, failures, copies, items far from the others, and maps of the
features by any column. The page holds everything inside and depends on the file alone.
"""


@click.command(epilog=EPILOG)
@click.argument("file", default="feats.h5", type=click.Path(path_type=Path))
@click.option("--by", multiple=True, metavar="COLUMN", help="Colour a map by it.  [default: labels, centres, modality]")
@click.option(
    "--preview",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of umedfeat preview: pictures of items.  [default: preview/ beside the features, if there]",
)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Page.  [default: FILE.html]")
@click.option("--json", "as_json", is_flag=True, help="The facts as JSON on stdout.")
def command(file: Path, by: tuple[str, ...], preview: Path | None, out: Path | None, as_json: bool) -> None:
    """A cohort at a glance: kinds, scales, tissue, copies, outliers, maps of the features."""
    from umedfeat.naming import printable
    from umedfeat.report.overview_page import notes_of, overview

    page = out or file.with_suffix(".html")
    found = overview(file, page, by=by, preview=preview)
    if as_json:
        click.echo(json.dumps(_as_dict(found), indent=2))
        return
    for note in notes_of(found):
        click.echo(printable(note))
    click.echo(printable(f"Page: {page}"))


def _as_dict(found: Overview) -> dict[str, Any]:
    return {
        "file": found.file,
        "items": found.items,
        "regions": found.regions,
        "patients": found.patients,
        "kinds": [{"modality": k.modality, "format": k.format, "items": k.items} for k in found.kinds],
        "empty": list(found.empty),
        "failed": len(found.failures),
        "copies": [[pair.first, pair.second, pair.how, pair.apart] for pair in found.pairs],
        "outliers": [[each.item, round(each.times, 3)] for each in found.outliers],
    }
