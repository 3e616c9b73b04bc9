"""Options of a few-shot study, the same for ``probe`` and ``compare``, and the ProbeSettings they become."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from umedfeat.fewshot.cohort.sources import Labelling
    from umedfeat.fewshot.settings import ProbeSettings

__all__ = [
    "FractionsType",
    "asked_threshold",
    "command_line",
    "judging_of",
    "judging_options",
    "labelling_of",
    "refuse_fitting",
    "settings_of",
    "study_options",
]

_SANITY_RUNS = 20
_LABELLING = frozenset({"label", "labels", "by", "patient", "unmatched"})
#: What a splits.json decides.
_DRAWN = {
    "fractions": "fraction",
    "shots": "shots",
    "repeats": "repeats",
    "test_size": "test-size",
    **{name: name for name in ("split", "cv", "external", "loco", "train")},
}


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


class NamesType(click.ParamType[Any]):
    """Names, as a list."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"{value!r} is not a list of different names like low,mid,high", param, ctx)
        return names


def _threshold(usual: str = "") -> Callable[[Any], Any]:
    """The option; ``usual``: what counts where nobody gives it, as text."""
    return click.option(
        "--threshold",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.5,
        show_default=usual or True,
        help="Two classes: probability above which an item is called positive.",
    )


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--fraction",
        "fractions",
        type=FractionsType(),
        multiple=True,
        help="Share of the training patients: 0.01, 1%, or a list. Repeatable.  [default: 1%,5%,10%,50%,100%]",
    ),
    click.option("--shots", type=ShotsType(), help="Patients per class instead of fractions: 1,2,4,8,16."),
    click.option("--label", default="", help="Label column, or folder:N for class folders."),
    click.option(
        "--labels", type=click.Path(path_type=Path), help="CSV with a column for the item and one for the label."
    ),
    click.option("--event", default="", help="Survival: column of events (1 seen, 0 censored); --label: the time."),
    click.option(
        "--by",
        default="",
        metavar="IDENTIFIER",
        help="--labels joins by PatientID, AccessionNumber, StudyInstanceUID or SeriesInstanceUID.  "
        "[default: found by the columns' names]",
    ),
    click.option(
        "--id-key",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="UMEDFEAT_ID_KEY",
        help="File with the key of the features' pseudonyms, for such a join.",
    ),
    click.option("--patient", default="", help="Patient column; none = every item is its own patient."),
    click.option(
        "--unmatched",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="Items without label, label rows without item.",
    ),
    click.option(
        "--label-of",
        type=click.Choice(["patient", "item"]),
        default="patient",
        show_default=True,
        help="item: labels of cells, regions or lesions; a patient may carry several.",
    ),
    click.option(
        "--classifier",
        "classifiers",
        type=click.Choice(["linear", "knn", "prototype"]),
        multiple=True,
        help="Repeatable.  [default: all]",
    ),
    click.option(
        "--repeats", type=click.IntRange(1), help="Draws per budget.  [default: 50 below 10 %, 20 below 100 %, 1]"
    ),
    click.option(
        "--task",
        type=click.Choice(["auto", "binary", "multiclass", "ordinal", "multilabel", "regression", "survival"]),
        default="auto",
        show_default=True,
        help="Kind of target.",
    ),
    click.option("--ordinal", is_flag=True, help="Classes are grades: same as --task ordinal."),
    click.option(
        "--unit",
        type=click.Choice(["item", "tile", "patient"]),
        default="item",
        show_default=True,
        help="What the classifier sees as one row; items are scored, patients never divided.",
    ),
    click.option(
        "--pool",
        type=click.Choice(["mean", "max", "mean+std", "abmil"]),
        default="mean",
        show_default=True,
        help="Tiles to item; abmil adds a trained gated attention beside the others, which see the mean. "
        "Slide encoders: umedfeat aggregate.",
    ),
    click.option(
        "--scale",
        type=click.Choice(["unit", "standard", "pool"]),
        default="unit",
        show_default=True,
        help="Linear probe: rows of unit length; or features by their spread over the drawn rows, or over the pool.",
    ),
    click.option(
        "--weights",
        type=click.Choice(["item", "patient"]),
        default="item",
        show_default=True,
        help="patient: every training patient counts once, whatever the number of items.",
    ),
    click.option(
        "--test-size", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Share held out.  [default: 0.3]"
    ),
    click.option("--split", default="", help="Column with train and test.  [default: a column called split]"),
    click.option(
        "--splits",
        type=click.Path(path_type=Path, dir_okay=False),
        help="splits.json of an earlier study: its tests, draws and seed instead of new ones.",
    ),
    click.option("--cv", type=click.IntRange(2), help="Folds of cross-validation instead of a hold-out."),
    click.option("--cv-repeats", type=click.IntRange(1), default=5, show_default=True, help="Partitions of --cv."),
    click.option("--external", default="", metavar="COLUMN=VALUE", help="Test on these patients, train on the others."),
    click.option("--train", default="", metavar="COLUMN=VALUES", help="Train on these patients (with --test)."),
    click.option("--test", default="", metavar="COLUMN=VALUES", help="Test on these patients (with --train)."),
    click.option("--where", multiple=True, metavar="COLUMN=VALUES", help="Only items that are so. Repeatable."),
    click.option("--drop-class", multiple=True, metavar="CLASS", help="Leave a class out. Repeatable."),
    click.option("--merge", multiple=True, metavar="A+B=C", help="Make classes one. Repeatable."),
    click.option("--order", type=NamesType(), help="Classes, lowest first; of two the last is positive."),
    click.option("--loco", default="", metavar="COLUMN", help="Leave each value (centre) out in turn."),
    click.option(
        "--subgroup",
        "subgroups",
        multiple=True,
        metavar="COLUMN",
        help="Break results down; none = not. Repeatable.  [default: sex, centre, scanner … where they are there]",
    ),
    _threshold(),
    click.option(
        "--on-missing-class",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="A budget that cannot hold every class.",
    ),
    click.option("--calibrate", is_flag=True, help="Temperature scaling, chosen inside the drawn patients."),
    click.option(
        "--bootstrap",
        type=click.IntRange(100),
        default=1000,
        show_default=True,
        help="Resamplings of the test patients.",
    ),
    click.option(
        "--permutations",
        type=click.IntRange(19),
        help="With --cv: p-values by fitting everything on so many permutations of the labels.  [default: no p-values]",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every draw."),
    click.option("--sanity", is_flag=True, help="Also run on permuted labels: it must find nothing (else exit 3)."),
    click.option("--jobs", type=click.IntRange(1), help="Threads; they change no number.  [default: all cores]"),
]


def study_options(command: Any) -> Any:
    """Add the options of a study; the command takes them as keywords and gives them to ``settings_of``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


#: Options that say what the truth is and how predictions are compared with it, whatever was predicted how.
_JUDGING = (
    "label", "labels", "by", "patient", "unmatched", "label_of", "where", "drop_class", "merge", "subgroups",
    "threshold", "bootstrap", "seed",
)  # fmt: skip


def judging_options(command: Any) -> Any:
    """Add the options of a study that also mean something for a classifier that is there already."""
    for option in reversed(_OPTIONS):
        name = _parameter(option).name
        if name in _JUDGING:
            command = (_threshold("that of the study") if name == "threshold" else option)(command)
    return command


def asked_threshold() -> float | None:
    """What ``--threshold`` says; None where nobody gave it, and that of the study counts."""
    context = click.get_current_context()
    usual = context.get_parameter_source("threshold") is click.core.ParameterSource.DEFAULT
    return None if usual else float(context.params["threshold"])


def _parameter(option: Callable[[Any], Any]) -> click.Parameter:
    """What an option of the list adds to a command."""
    parameter: click.Parameter = option(click.Command("")).params[0]
    return parameter


def judging_of(options: dict[str, Any]) -> tuple[Labelling, ProbeSettings]:
    """What ``judging_options`` say, with the key of ``--id-key``; all that is in ``options``."""
    id_key = click.get_current_context().params.get("id_key")
    labelling = labelling_of(options | {"id_key": id_key, "event": ""})
    given = {name: options[name] for name in _JUDGING if name not in _LABELLING}
    return labelling, settings_of({"task": "auto", **given})


def refuse_fitting(flag: str) -> None:
    """Options of a study that mean nothing where nothing is fitted, and were given all the same.

    Raises:
        UsageError: naming them.
    """
    context = click.get_current_context()
    fitting = [each for each in map(_parameter, _OPTIONS) if each.name not in {*_JUDGING, "id_key", "jobs"}]
    typed = click.core.ParameterSource.COMMANDLINE
    told = [each.opts[0] for each in fitting if context.get_parameter_source(str(each.name)) is typed]
    if told:
        raise click.UsageError(f"with {flag} nothing is fitted: leave {', '.join(told)} out")


def labelling_of(options: dict[str, Any]) -> Labelling:
    """Options of the command line that say where labels and patients come from; taken out of ``options``."""
    from umedfeat.fewshot.cohort.hospital import LabelTable
    from umedfeat.fewshot.cohort.sources import Labelling

    labels, by, id_key = (options.pop(name) for name in ("labels", "by", "id_key"))
    rest = {name: options.pop(name) for name in ("label", "patient", "unmatched", "event")}
    return Labelling(labels=LabelTable(labels, by, id_key) if labels else None, **rest)


def settings_of(options: dict[str, Any], event: str = "") -> ProbeSettings:
    """Options of the command line that decide the study; what was not given keeps its default."""
    from umedfeat.fewshot.draws.saved import with_splits
    from umedfeat.fewshot.settings import ProbeSettings

    values = {name: value for name, value in options.items() if value not in (None, (), "")}
    if values.pop("ordinal", False):
        values["task"] = "ordinal"
    if event and values["task"] == "auto":
        values["task"] = "survival"
    if values.get("subgroups") == ("none",):
        values["subgroups"] = ()
    values["sanity"] = _SANITY_RUNS if values.pop("sanity", False) else 0
    if "fractions" in values:
        values["fractions"] = tuple(sorted({number for group in values["fractions"] for number in group}))
    if "shots" in values:
        values.setdefault("fractions", ())
        values["shots"] = tuple(sorted(set(values["shots"])))
    saved = values.pop("splits", None)
    if saved is None:
        return ProbeSettings(**values)
    drawn = [f"--{flag}" for name, flag in _DRAWN.items() if values.get(name)]
    if drawn:
        raise click.UsageError(f"--splits holds tests and draws already: leave {' and '.join(drawn)} out")
    return with_splits(ProbeSettings(**values), saved)


def command_line() -> str:
    """The command as typed, paths reduced to their names."""
    words = ["umedfeat", *sys.argv[1:]]
    return " ".join(Path(word).name if "/" in word and "=" not in word else word for word in words)
