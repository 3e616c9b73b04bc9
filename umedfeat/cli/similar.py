"""``umedfeat similar``: what resembles this item, region or image?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from umedfeat.cli.one_file import OneFile

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat similar benign/slide-17 --in feats.h5
  umedfeat similar benign/slide-17 --row 240 --unit tile --images slides/
  umedfeat similar new-film.png --in xray.h5 --top 20

Regions are compared by the cosine of their features after subtracting the mean of the file; every region is
looked at. With --images the hits are read again from the images, so that the page shows what was found.
"""


@click.command(epilog=EPILOG)
@click.argument("query")
@click.option(
    "-f",
    "--in",
    "--features",
    "features",
    cls=OneFile,
    default="feats.h5",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Feature file that is searched.",
)
@click.option(
    "--unit", type=click.Choice(["item", "tile"]), default="item", show_default=True, help="Whole items or regions."
)
@click.option(
    "--row",
    type=click.IntRange(0),
    metavar="INTEGER",
    help="Region of the query item asked about.  [default: its mean]",
)
@click.option(
    "--top", type=click.IntRange(1, 10_000), metavar="INTEGER", default=12, show_default=True, help="Number of hits."
)
@click.option("--other-patients", is_flag=True, help="Leave out everything of the query's patient.")
@click.option("--images", type=click.Path(path_type=Path, exists=True), help="The images, for pictures of regions.")
@click.option(
    "--preview",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of umedfeat preview: pictures of items.  [default: preview/ beside the features, if there]",
)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Weights file, for a new image.")
@click.option("--device", default="auto", show_default=True, help="Where a new image is embedded.")
@click.option("--id-key", type=click.Path(path_type=Path), help="Key file of the pseudonyms.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder.  [default: similar/ beside the features]")
@click.option("--json", "as_json", is_flag=True, help="The hits as JSON on stdout.")
def command(
    query: str,
    features: Path,
    unit: str,
    row: int | None,
    top: int,
    other_patients: bool,
    images: Path | None,
    preview: Path | None,
    weights: Path | None,
    device: str,
    id_key: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """The nearest items or regions of a feature file, with pictures."""
    from umedfeat.keys import load_key
    from umedfeat.naming import Pseudonyms
    from umedfeat.report.similar_page import COLUMNS
    from umedfeat.terminal.tables import render_table
    from umedfeat.workflows.neighbours import similar_and_report

    report = similar_and_report(
        query,
        features,
        out,
        unit=unit,
        row=row,
        top=top,
        other_patients=other_patients,
        images=images,
        preview=preview,
        weights=weights,
        device=device,
        pseudonyms=Pseudonyms(load_key(id_key)),
    )
    if as_json:
        click.echo(json.dumps([asdict(match) for match in report.found.matches], indent=2))
        return
    click.echo(render_table(COLUMNS, [row.cells for row in report.rows]))
    click.echo(f"\nPage: {report.page}")
