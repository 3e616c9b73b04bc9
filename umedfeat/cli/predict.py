"""``umedfeat predict``: a saved probe on new patients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.options import identity_options, log_options, run_options
from umedfeat.cli.study_options import judging_of, judging_options

if TYPE_CHECKING:
    from umedfeat.extraction.settings import RunSettings
    from umedfeat.naming import Pseudonyms
    from umedfeat.prediction.apply import Predicted
    from umedfeat.prediction.external import Known, Validation

__all__ = ["command"]

#: What matters first.
_FIRST = "--model --out --images --labels --label --class --known --weights --device --json"

EPILOG = """\b
Examples:
  umedfeat predict new.h5 --model probe/model.safetensors
  umedfeat predict new-slides/ --model probe/model.safetensors --out predict/predictions.csv
  umedfeat predict new.h5 --model probe/model.safetensors --images new-slides/ --class malignant
  umedfeat predict films/ --model probe/model.safetensors --explain occlusion
  umedfeat predict new.h5 --model probe/model.safetensors --labels truth.csv     (external validation)

\b
The model is what `umedfeat probe` leaves in probe/model.safetensors. Features of other settings are refused; images
are embedded with the model's encoder and policy, resumed if they were begun. Beside predictions.csv lie patients.csv,
index.html; --shard 3/16 writes them under shards/3-of-16/, and umedfeat merge
predict/feats.h5.shards/*.h5 --out predict/feats.h5 joins the features for one prediction of all. Of slides there are
heatmaps/: PNG, QuPath GeoJSON and OME-TIFF. Where labels are known (--labels, or the
column that the model was trained on), validation.csv and the page tell how good the fixed model is.
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
    from umedfeat.extraction.evidence import Showing, evidence_of
    from umedfeat.extraction.predicting import place_of_shard, predict, table_at
    from umedfeat.prediction.external import validate_if_labelled
    from umedfeat.prediction.overlap import trained_patients
    from umedfeat.prediction.saved import SavedProbe
    from umedfeat.report.prediction_files import prediction_rows, summary_of_predictions, write_predictions
    from umedfeat.report.prediction_page import write_prediction_page
    from umedfeat.report.validation_files import write_validation
    from umedfeat.terminal.bar import Bar
    from umedfeat.terminal.progress import make_progress

    probe = SavedProbe.load(model)
    probe.refuse_unknown(class_name)
    table = table_at(out)
    features, out = table.parent / "feats.h5", place_of_shard(table, run)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Bar("predict") as bar:
        found = predict(
            inputs,
            probe,
            features=features,
            weights=weights,
            device=device,
            run=run,
            pseudonyms=pseudonyms,
            progress=make_progress(progress),
            on_rows=bar.update,
        )
    labelling, settings = judging_of(judging)
    trained = trained_patients(probe, model)
    validation = validate_if_labelled(found, labelling, settings, known=known, trained=trained)
    write_predictions(found, out, validation)
    if validation is not None:
        write_validation(validation, out.parent)
    showing = Showing(class_name, pictures, explain == "occlusion", explain_most, weights, device)
    drawn = evidence_of(
        found, out.parent, showing, pseudonyms, inputs=inputs, images=images, tell=partial(click.echo, err=True)
    )
    page = write_prediction_page(found, out.parent, drawn, validation)
    if as_json:
        told = summary_of_predictions(found, validation)
        click.echo(json.dumps({**told, "predictions": list(prediction_rows(found, validation))}, indent=2))
    else:
        click.echo(_text(found, validation, out, page))
    return 1 if found.table.failed else 0


def _text(found: Predicted, validation: Validation | None, out: Path, page: Path) -> str:
    from umedfeat.report.prediction_tables import render_predictions, render_validation

    lines = [render_predictions(found)]
    if found.table.empty:
        lines.append(f"{found.table.empty} inputs without features (no tissue) were not predicted")
    if found.table.failed:
        lines.append(f"{found.table.failed} inputs failed: umedfeat info {found.table.path} lists them")
    if validation is not None:
        lines.append("\n" + render_validation(validation))
    return "\n".join([*lines, "", f"Table: {out}", f"Page:  {page}"])
