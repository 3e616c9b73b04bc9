"""``umedfeat probe``: how few labels are enough?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.one_file import OneFile
from umedfeat.cli.study_options import command_line, labelling_of, settings_of, study_options

if TYPE_CHECKING:
    from umedfeat.prediction.fit import SaveOn

__all__ = ["command"]

#: What matters first.
_FIRST = "--features --label --labels --fraction --shots --classifier --task --splits --out --dry-run"

EPILOG = """\b
Examples:
  umedfeat probe --fraction 0.01              (feats.h5 here, its own labels)
  umedfeat probe --fraction 1%,5%,10%,50%,100%
  umedfeat probe --shots 1,2,4,8,16 --classifier linear
  umedfeat probe --labels labels.csv --label diagnosis --patient case
  umedfeat probe --labels ris.csv --by AccessionNumber   (a hospital's)
  umedfeat probe --external centre=B          (train elsewhere, test on B)
  umedfeat probe --cv 5 --subgroup sex
  umedfeat probe --splits probe/splits.json   (the same tests and draws)
  umedfeat probe --dry-run

Labels: the one column called label, labels, class, target, diagnosis, grade or category;
else class folders (benign/…, malignant/…); else --labels.

Exit codes: 0 done, 2 no study can be made of this, 3 leakage or a failed --sanity check.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@click.option(
    "-f",
    "--features",
    "--in",
    "features",
    cls=OneFile,
    type=click.Path(path_type=Path),
    default="feats.h5",
    show_default=True,
    help="Feature file.",
)
@study_options
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Output folder.  [default: probe/ beside the features]"
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of umedfeat preview: pictures for the report.  [default: preview/ beside the features, if there]",
)
@click.option(
    "--baseline",
    type=click.Choice(["trivial"]),
    help="Beside the encoder: what size, kind and brightness of the files alone tell of the label.",
)
@click.option(
    "--save",
    type=click.Choice(["linear", "knn", "prototype", "abmil"]),
    default="linear",
    show_default=True,
    help="Classifier that is saved as model.safetensors, for umedfeat predict (abmil: with --pool abmil).",
)
@click.option(
    "--save-on",
    type=click.Choice(["auto", "pool", "all"]),
    default="auto",
    show_default=True,
    help="Whom it is fitted on: the training pool, or everybody (its performance is then not measured).",
)
@click.option("--no-model", is_flag=True, help="Save no classifier.")
@click.option(
    "--no-novelty", is_flag=True, help="Save no features of training items; nothing is flagged as unlike them."
)
@click.option("--item-pseudonyms", is_flag=True, help="Pseudonyms for items too, in every output; no pictures.")
@click.option("--dry-run", is_flag=True, help="Print patients per budget and class, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def command(
    features: Path,
    out: Path | None,
    preview: Path | None,
    save: str,
    save_on: SaveOn,
    no_model: bool,
    no_novelty: bool,
    item_pseudonyms: bool,
    dry_run: bool,
    as_json: bool,
    jobs: int | None,
    **options: Any,
) -> None:
    """How few labels are enough? Linear probe, kNN and prototypes over fractions of the training patients."""
    from umedfeat.fewshot.sanity import refuse_failed
    from umedfeat.keys import load_key
    from umedfeat.naming import Pseudonyms
    from umedfeat.prediction.fit import Saving
    from umedfeat.report.files import summary_of
    from umedfeat.report.tables import render_plan, render_study
    from umedfeat.workflows.studies import plan_probe, probe_and_report

    pseudonyms = Pseudonyms(load_key(options["id_key"], make=not dry_run)) if item_pseudonyms else None
    labelling = labelling_of(options)
    settings = settings_of(options, labelling.event)
    if dry_run:
        plan = plan_probe(features, labelling=labelling, settings=settings, pseudonyms=pseudonyms)
        click.echo(render_plan(plan))
        return
    study = probe_and_report(
        features,
        out,
        labelling=labelling,
        settings=settings,
        saving=None if no_model else Saving(save, save_on, not no_novelty),
        preview=preview,
        pseudonyms=pseudonyms,
        jobs=jobs,
        command=command_line(),
    )
    text = render_study(study.result) + f"\n\nReport: {study.page}\nWritten to {study.folder}/"
    click.echo(json.dumps(summary_of(study.result)) if as_json else text)
    refuse_failed(study.result.sanity)
