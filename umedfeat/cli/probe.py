"""``umedfeat probe``: how few labels are enough?"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["FractionsType", "command"]

EPILOG = """\b
Examples:
  umedfeat probe --fraction 0.01                 (feats.h5 in this folder, its own labels)
  umedfeat probe --fraction 1%,5%,10%,50%,100%
  umedfeat probe --shots 1,2,4,8,16 --classifier linear
  umedfeat probe --labels labels.csv --label diagnosis --patient case
  umedfeat probe --external centre=B             (train elsewhere, test on centre B)
  umedfeat probe --cv 5 --subgroup sex
  umedfeat probe --dry-run

\b
Labels: the one column called label, labels, class, target, diagnosis, grade or category;
else class folders (benign/…, malignant/…); else --labels.
Exit codes: 0 done, 2 no study can be made of this, 3 leakage or a failed --sanity check.
"""


class FractionsType(click.ParamType[Any]):
    """ "0.01", "1%", or a list of them."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        found = []
        for text in str(value).replace(" ", "").split(","):
            try:
                number = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
            except ValueError:
                self.fail(f"{text!r} is neither a share like 0.01 nor a percentage like 1%", param, ctx)
            if not 0 < number <= 1:
                self.fail(f"{text!r} is not above 0 and at most 1 (100 %)", param, ctx)
            found.append(number)
        return tuple(found)


class ShotsType(click.ParamType[Any]):
    """Whole numbers from 1, as a list."""

    name = "n,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).replace(" ", "").split(",")
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers like 1,2,4,8", param, ctx)
        return tuple(int(part) for part in parts)


@click.command(epilog=EPILOG)
@click.option(
    "-f", "--features", type=click.Path(path_type=Path), default="feats.h5", show_default=True, help="Feature file."
)
@click.option(
    "--fraction",
    "fractions",
    type=FractionsType(),
    multiple=True,
    help="Share of the training patients: 0.01, 1%, or a list. Repeatable.  [default: 1%,5%,10%,50%,100%]",
)
@click.option("--shots", type=ShotsType(), help="Patients per class instead of fractions: 1,2,4,8,16.")
@click.option("--label", default="", help="Label column, or folder:N for class folders.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with a column for the item and one for the label.")
@click.option("--patient", default="", help="Patient column; none = every item is its own patient.")
@click.option(
    "--unmatched",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Items without label, label rows without item.",
)
@click.option(
    "--label-of",
    type=click.Choice(["patient", "item"]),
    default="patient",
    show_default=True,
    help="item: labels of cells, regions or lesions; a patient may carry several.",
)
@click.option(
    "--classifier",
    "classifiers",
    type=click.Choice(["linear", "knn", "prototype"]),
    multiple=True,
    help="Repeatable.  [default: all]",
)
@click.option(
    "--repeats", type=click.IntRange(1), help="Draws per budget.  [default: 50 below 10 %, 20 below 100 %, 1]"
)
@click.option(
    "--task",
    type=click.Choice(["auto", "binary", "multiclass", "ordinal", "multilabel", "regression"]),
    default="auto",
    show_default=True,
    help="Kind of target.",
)
@click.option("--ordinal", is_flag=True, help="Classes are grades: same as --task ordinal.")
@click.option(
    "--unit",
    type=click.Choice(["item", "tile", "patient"]),
    default="item",
    show_default=True,
    help="What the classifier sees as one row; items are scored, patients never divided.",
)
@click.option(
    "--pool", type=click.Choice(["mean", "max", "mean+std"]), default="mean", show_default=True, help="Tiles to item."
)
@click.option(
    "--test-size", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Share held out.  [default: 0.3]"
)
@click.option("--split", default="", help="Column with train and test.  [default: a column called split]")
@click.option("--cv", type=click.IntRange(2), help="Folds of cross-validation instead of a hold-out.")
@click.option("--cv-repeats", type=click.IntRange(1), default=5, show_default=True, help="Partitions of --cv.")
@click.option("--external", default="", metavar="COLUMN=VALUE", help="Test on these patients, train on the others.")
@click.option("--loco", default="", metavar="COLUMN", help="Leave each value (centre) out in turn.")
@click.option("--subgroup", "subgroups", multiple=True, metavar="COLUMN", help="Break results down. Repeatable.")
@click.option(
    "--on-missing-class",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="A budget that cannot hold every class.",
)
@click.option(
    "--bootstrap", type=click.IntRange(100), default=1000, show_default=True, help="Resamplings of the test patients."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every draw.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Output folder.  [default: probe/ beside the features]"
)
@click.option("--dry-run", is_flag=True, help="Print patients per budget and class, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def command(
    features: Path,
    label: str,
    labels: Path | None,
    patient: str,
    unmatched: str,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """How few labels are enough? Linear probe, kNN and prototypes over fractions of the training patients."""
    from umedfeat.fewshot.sources import cohort_of, label_items
    from umedfeat.fewshot.study import Origin, Study, run_study
    from umedfeat.fewshot.table import read_table
    from umedfeat.fewshot.terminal import render_budgets, render_study
    from umedfeat.fewshot.write import summary_of, write_study

    table = read_table(features)
    labelled = label_items(table, label=label, labels=labels, patient=patient, unmatched=unmatched)
    settings = _settings(options)
    if _may_use_split(options) and "split" in labelled.meta:
        settings = replace(settings, split="split")
    cohort = cohort_of(table, labelled, settings)
    if dry_run:
        study = Study.plan(cohort, settings)
        click.echo(render_budgets(study.budgets, cohort.table.classes))
        return
    origin = Origin(table.encoder, features.name, table.fingerprint, labelled.name, _command_line())
    with _Bar() as bar:
        result = run_study(cohort, settings, origin, bar.update)
    folder = out or features.parent / "probe"
    write_study(result, folder)
    click.echo(json.dumps(summary_of(result)) if as_json else render_study(result) + f"\n\nWritten to {folder}/")


def _settings(options: dict[str, Any]) -> ProbeSettings:
    """Options of the command line that decide the study; what was not given keeps its default."""
    from umedfeat.fewshot.settings import ProbeSettings

    values = {name: value for name, value in options.items() if value not in (None, (), "")}
    if values.pop("ordinal", False):
        values["task"] = "ordinal"
    if "fractions" in values:
        values["fractions"] = tuple(sorted({number for group in values["fractions"] for number in group}))
    if "shots" in values:
        if "fractions" in values:
            raise click.UsageError("--fraction and --shots exclude each other")
        values["fractions"] = ()
        values["shots"] = tuple(sorted(set(values["shots"])))
    ways = [f"--{name.replace('_', '-')}" for name in ("split", "cv", "external", "loco") if values.get(name)]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(ways)} are different ways to choose the test set: give one")
    return ProbeSettings(**values)


def _may_use_split(options: dict[str, Any]) -> bool:
    """A column called split counts where nothing else was said about the test set."""
    return not any(options[name] for name in ("split", "cv", "external", "loco", "test_size"))


def _command_line() -> str:
    """The command as typed, paths reduced to their names."""
    words = ["umedfeat", *sys.argv[1:]]
    return " ".join(Path(word).name if "/" in word and "=" not in word else word for word in words)


class _Bar:
    """A tqdm bar over the draws, on stderr, with ETA."""

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        self._bar = tqdm(total=None, desc="fitting", unit="draw", file=sys.stderr, dynamic_ncols=True, leave=False)
        return self

    def update(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(self, *_: object) -> None:
        self._bar.close()
