"""``report.html`` of a comparison: all encoders on one page, each with a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from umedfeat.errors import OutputError
from umedfeat.fewshot.coverage import covered, covered_differences
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import Comparison, Difference
from umedfeat.report.figures.axes import series_class
from umedfeat.report.figures.curve import curve, line_of
from umedfeat.report.figures.files import write_figures
from umedfeat.report.headline import comparison_headlines
from umedfeat.report.tables import data_needed_sentence
from umedfeat.report.templating import render

__all__ = ["render_comparison_report", "write_comparison_report"]


class Section(NamedTuple):
    """All encoders with one classifier on one test set."""

    classifier: str
    test_set: str
    curve: Markup
    needed: list[str]
    differences: list[Difference]


def write_comparison_report(comparison: Comparison, folder: Path, links: Mapping[str, str]) -> Path:
    """Write ``folder/report.html`` and its figures. ``links``: encoder → its own page, relative to the folder.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(render_comparison_report(comparison, links), encoding="utf-8")
        write_figures(_figures(comparison), folder / "figures")
    except OSError as error:
        message = f"{path.name}: cannot be written ({error.strerror})"
        raise OutputError(message, remedy="choose another folder with --out") from error
    return path


def _figures(comparison: Comparison) -> dict[str, tuple[Markup, list[tuple[str, str]]]]:
    key = [(series_class(number), name) for number, name in enumerate(comparison.names)]
    shown = dict.fromkeys((part.classifier, part.test_set) for part in comparison.results[0].predictions)
    sections = [_section(comparison, classifier, test_set) for classifier, test_set in shown]
    return {f"data_efficiency_{each.classifier}_{each.test_set}": (each.curve, key) for each in sections}


def render_comparison_report(comparison: Comparison, links: Mapping[str, str]) -> str:
    """The page as text."""
    first = comparison.results[0]
    shown = dict.fromkeys((part.classifier, part.test_set) for part in first.predictions)
    sections = [_section(comparison, classifier, test_set) for classifier, test_set in shown]
    return render(
        "comparison.html",
        comparison=comparison,
        first=first,
        headlines=[*comparison_headlines(comparison), *sections[0].needed],
        sections=sections,
        encoders=[(series_class(k), name) for k, name in enumerate(comparison.names)],
        metric=METRICS[first.primary].label,
        coverage=(
            *covered_differences(comparison.differences, first.task),
            *covered([row for result in comparison.results for row in result.estimates], first.task),
        ),
        links=list(links.items()),
        warnings=dict.fromkeys([*comparison.warnings, *(w for r in comparison.results for w in r.warnings)]),
    )


def _section(comparison: Comparison, classifier: str, test_set: str) -> Section:
    first = comparison.results[0]
    lines = [
        line_of(result, classifier, test_set, name)
        for name, result in zip(comparison.names, comparison.results, strict=True)
    ]
    keys = (classifier, test_set, first.primary)
    return Section(
        classifier,
        test_set,
        curve(lines, first.budgets_of(test_set), first.primary, len(first.cohort.classes)),
        [data_needed_sentence(n) for n in comparison.data_needed if (n.classifier, n.test_set, n.metric) == keys],
        [d for d in comparison.differences if (d.classifier, d.test_set, d.metric) == keys],
    )
