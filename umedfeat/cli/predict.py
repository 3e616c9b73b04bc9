"""``umedfeat predict``: a saved probe on new patients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.options import identity_options, log_options, run_options
from umedfeat.cli.study_options import asked_threshold, judging_of, judging_options

if TYPE_CHECKING:
    from umedfeat.extraction.settings import RunSettings
    from umedfeat.naming import Pseudonyms
    from umedfeat.prediction.external import Known
    from umedfeat.workflows.predictions import PredictionReport

__all__ = ["command"]

#: What matters first.
_FIRST = "--model --out --images --labels --label --class --known --weights --device --json"

EPILOG = """\b
Examples:
  umedfeat predict new.h5 --model probe/model.safetensors
  umedfeat predict new-slides/ --model probe/model.safetensors --out predict/
  umedfeat predict new.h5 --model probe/model.safetensors --images new-slides/
  umedfeat predict films/ --model probe/model.safetensors --explain occlusion
  umedfeat predict new.h5 --model probe/model.safetensors --labels truth.csv

The model is what `umedfeat probe` leaves in probe/model.safetensors. Features of other settings are refused; images
are embedded with the model's encoder and policy, resumed if they were begun. Of a slide encoder's model (`umedfeat
aggregate`) tiles will do.

Beside predictions.csv lie patients.csv and index.html; of slides heatmaps/: PNG, QuPath GeoJSON and OME-TIFF. Where
labels are known (--labels, or the column that the model was trained on), validation.csv and the page tell how good
the fixed model is.

--shard 3/16 writes them under shards/3-of-16/; `umedfeat merge` joins predict/feats.h5.shards/*.h5 for one prediction
of all.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@click.argument("inputs", metavar="FEATURES_OR_IMAGES", type=click.Path(path_type=Path, exists=True))
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Saved probe (.safetensors).")
@click.option(
    "-o",
    "--out",
    default="predict/predictions.csv",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Table of predictions, or a folder for it; everything else is written beside it.",
)
@click.option("--images", type=click.Path(path_type=Path, exists=True), help="Images of a feature file, for pictures.")
@click.option(
    "--class", "class_name", default="", help="Class that heatmaps and curves show.  [default: the predicted]"
)
@click.option(
    "--explain",
    type=click.Choice(["occlusion"]),
    help="Single images: how far the probability falls with each part hidden. Costs 122 forward passes an image; "
    "passes and time are told first.",
)
@click.option(
    "--explain-most",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Images that are explained, the least certain first.",
)
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Heatmaps and curves on the page.")
@click.option(
    "--weights", type=click.Path(path_type=Path, exists=True), help="Weights file of the encoder, for images."
)
@click.option("--device", default="auto", show_default=True, help="Where images are embedded: cpu, cuda:0 …")
@click.option("--json", "as_json", is_flag=True, help="The summary and all predictions as JSON on stdout.")
@judging_options
@click.option(
    "--known",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Labelled items of training patients, or training images themselves.",
)
@run_options
@log_options
@identity_options
def command(
    inputs: Path,
    model: Path,
    out: Path,
    images: Path | None,
    class_name: str,
    explain: str | None,
    explain_most: int,
    pictures: bool,
    weights: Path | None,
    device: str,
    as_json: bool,
    known: Known,
    run: RunSettings,
    pseudonyms: Pseudonyms,
    progress: str,
    **judging: Any,
) -> int:
    """Apply a saved probe to new features or images; where labels are known, tell how good it is."""
    from umedfeat.extraction.evidence import Showing
    from umedfeat.report.prediction_files import prediction_rows, summary_of_predictions
    from umedfeat.terminal.progress import make_progress
    from umedfeat.workflows.predictions import Truth, predict_and_report

    report = predict_and_report(
        inputs,
        model,
        out,
        images=images,
        truth=Truth(*judging_of(judging), known, asked_threshold()),
        showing=Showing(class_name, pictures, explain == "occlusion", explain_most),
        weights=weights,
        device=device,
        run=run,
        pseudonyms=pseudonyms,
        progress=make_progress(progress),
        tell=partial(click.echo, err=True),
    )
    if as_json:
        told = summary_of_predictions(report.predicted, report.validation)
        rows = list(prediction_rows(report.predicted, report.validation))
        click.echo(json.dumps({**told, "predictions": rows}, indent=2))
    else:
        click.echo(_text(report))
    return 1 if report.predicted.table.failed else 0


def _text(report: PredictionReport) -> str:
    from umedfeat.report.prediction_tables import render_predictions, render_validation
    from umedfeat.terminal.words import counted

    table = report.predicted.table
    lines = [render_predictions(report.predicted)]
    if table.empty:
        lines.append(f"not predicted: {counted(table.empty, 'input')} without features (no tissue)")
    if table.failed:
        lines.append(f"{counted(table.failed, 'input')} failed: umedfeat info {table.path} lists them")
    if report.validation is not None:
        lines.append("\n" + render_validation(report.validation))
    return "\n".join([*lines, "", f"Table: {report.table}", f"Page:  {report.page}"])
