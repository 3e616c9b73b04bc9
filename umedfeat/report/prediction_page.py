"""``index.html`` of a prediction: every item with what was said of it, the least certain first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Floats
from umedfeat.errors import OutputError
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.external import Validation
from umedfeat.prediction.novelty import FALSE_ALARMS
from umedfeat.report.figures.axes import series_class
from umedfeat.report.figures.files import write_figures
from umedfeat.report.prediction_pictures import MOST_CARDS, NO_EVIDENCE, Evidence
from umedfeat.report.templating import render
from umedfeat.report.validation_section import section_of
from umedfeat.terminal.words import counted

__all__ = ["write_prediction_page"]


#: What of the study's figures stands on the page; the file has them all.
_SHOWN = ("macro_f1", "auroc", "sensitivity", "specificity", "r2", "mae")


#: Classes of an item, the most probable ones, where there are more; classes of the training data that are named.
_MOST_CLASSES, _MOST_TOLD = 8, 20


class Chance(NamedTuple):
    """One class with its probability in percent and its colour."""

    name: str
    percent: float
    kind: str


class ItemCard(NamedTuple):
    """One item on the page; ``label`` is "" where it is not known, ``others`` what the chances left out come to."""

    name: str
    said: str
    label: str
    chances: list[Chance]
    others: str
    flagged: bool
    usual: str
    evidence: Evidence


def write_prediction_page(
    found: Predicted, folder: Path, evidence: Mapping[int, Evidence], validation: Validation | None = None
) -> Path:
    """Write ``folder/index.html``, and the figures of a validation into ``folder/figures``.

    Args:
        evidence: item of the table → its pictures.
        validation: how good the predictions are, where labels are known.

    Raises:
        OutputError: it cannot be written.
    """
    order = found.order
    truth = {} if validation is None else validation.truth
    cards = [
        _card(found, int(item), evidence.get(int(item), NO_EVIDENCE), truth.get(int(item), ""))
        for item in order[:MOST_CARDS]
    ]
    section = None if validation is None else section_of(validation)
    page = folder / "index.html"
    probe = found.probe
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = render(
            "prediction.html",
            probe=probe,
            encoder=str(probe.header.encoder.get("name", "")),
            total=len(order),
            cards=cards,
            classes=_trained_on(probe.training["per_class"]),
            tested=", ".join(_measured(*row) for row in probe.tested.items() if row[0] in _SHOWN),
            flags=int(found.flagged.sum()),
            can_flag=probe.novelty is not None and probe.novelty.can_flag(),
            rate=FALSE_ALARMS,
            empty=found.table.empty,
            failed=found.table.failed,
            validation=section,
        )
        page.write_text(text, encoding="utf-8")
        if section is not None:
            write_figures(section.figures, folder / "figures")
    except OSError as error:
        raise OutputError(f"{page}: cannot be written ({error.strerror})", remedy="choose another --out") from error
    return page


def _others(values: Floats, shown: Sequence[int]) -> str:
    """How many classes are not shown, with the largest probability of one of them."""
    left = np.delete(values, shown) if shown else values[:0]
    return f"{counted(len(left), 'other')}, each at most {100 * float(left.max()):.1f} %" if len(left) else ""


def _trained_on(per_class: Mapping[str, int]) -> str:
    told = [f"{count} {name}" for name, count in per_class.items()]
    more = len(told) - _MOST_TOLD
    return ", ".join(told[:_MOST_TOLD]) + (f" and {more} other classes" if more > 0 else "")


def _measured(metric: str, row: Sequence[float | None]) -> str:
    """The figure of a metric with its interval, as text."""
    value, low, high = row
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return f"{METRICS[metric].label} {value:.3f}{interval}"


def _card(found: Predicted, item: int, evidence: Evidence, label: str) -> ItemCard:
    values = found.values[item]
    shown = list(range(len(found.probe.classes)))
    if len(shown) > _MOST_CLASSES:
        shown = np.argsort(-values, kind="stable")[:_MOST_CLASSES].tolist()
    chances = [Chance(found.probe.classes[k], 100 * float(values[k]), series_class(k)) for k in shown]
    usual = float(found.usual[item])
    return ItemCard(
        name=str(found.table.ids[item]),
        said=found.said(item),
        label=label,
        chances=chances,
        others=_others(values, shown),
        flagged=bool(found.flagged[item]),
        usual=f"{usual:.3f}" if np.isfinite(usual) else "",
        evidence=evidence,
    )
