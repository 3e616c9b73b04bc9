"""``umedfeat compare``: encoders on the same draws and the same test patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.study_options import (
    asked_threshold,
    command_line,
    judging_of,
    labelling_of,
    refuse_fitting,
    settings_of,
    study_options,
)

if TYPE_CHECKING:
    from umedfeat.prediction.external import Known

__all__ = ["command"]

#: What matters first.
_FIRST = "--label --labels --fraction --baseline --margin --model --classifier --splits --task --out"

EPILOG = """\b
Examples:
  umedfeat compare umedpt.h5 imagenet.h5
  umedfeat compare a.h5 b.h5 c.h5 --baseline b.h5 --margin 0.01
  umedfeat compare a.h5 b.h5 --labels labels.csv --label-of item
  umedfeat compare new.h5 --model ours.safetensors --model theirs.safetensors

The last file is the baseline unless --baseline says otherwise. Labels, patients and
further columns are those of the first file (or of --labels). With --model nothing is fitted: each saved
probe is applied to the file of its encoder, and all are compared on the same labelled patients.

Exit codes: 0 done, 2 no study can be made of this, 3 leakage.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Saved probes, applied as they are instead of fitting anything. Repeatable.",
)
@click.option(
    "--known",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="With --model: labelled items of training patients, or training images themselves.",
)
@click.option(
    "--baseline", default="", help="File, encoder or model that the others are compared with.  [default: the last]"
)
@click.option(
    "--margin",
    type=click.FloatRange(0),
    default=0.02,
    show_default=True,
    help="How much worse than the baseline still counts as equal.",
)
@study_options
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Output folder.  [default: compare/ beside the first file]"
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def command(
    files: tuple[Path, ...],
    baseline: str,
    margin: float,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
    models: tuple[Path, ...],
    known: Known,
    **options: Any,
) -> None:
    """Which encoder needs less data? Or, with --model: which saved probe is better on these patients? Paired."""
    if models:
        refuse_fitting("--model")
        click.echo(_models(files, models, known, baseline, out, as_json, options))
        return
    from umedfeat.report.files import comparison_summary
    from umedfeat.report.tables import render_comparison
    from umedfeat.workflows.studies import compare_and_report

    if options["sanity"]:
        raise click.UsageError("--sanity belongs to umedfeat probe")
    labelling = labelling_of(options)
    report = compare_and_report(
        files,
        out,
        labelling=labelling,
        settings=settings_of(options, labelling.event),
        baseline=baseline,
        margin=margin,
        jobs=jobs,
        command=command_line(),
    )
    if as_json:
        click.echo(json.dumps(comparison_summary(report.comparison)))
    else:
        click.echo(f"{render_comparison(report.comparison)}\n\nReport: {report.page}\nWritten to {report.folder}/")


def _models(
    files: tuple[Path, ...],
    models: tuple[Path, ...],
    known: Known,
    baseline: str,
    out: Path | None,
    as_json: bool,
    options: dict[str, Any],
) -> str:
    from umedfeat.report.models_page import models_summary, render_models
    from umedfeat.workflows.studies import compare_models_and_report

    labelling, settings = judging_of(options)
    report = compare_models_and_report(
        files,
        models,
        out,
        labelling=labelling,
        settings=settings,
        baseline=baseline,
        known=known,
        threshold=asked_threshold(),
    )
    if as_json:
        return json.dumps(models_summary(report.comparison))
    return f"{render_models(report.comparison)}\n\nReport: {report.page}\nWritten to {report.folder}/"
