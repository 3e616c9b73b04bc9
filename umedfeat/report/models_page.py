"""Several fixed models on one cohort: ``validation.csv``, ``differences.csv`` and ``report.html``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from umedfeat.errors import OutputError
from umedfeat.fewshot.coverage import Coverage, covered_differences, covered_model
from umedfeat.fewshot.metrics.metrics import METRICS, PRIMARY
from umedfeat.fewshot.result import Difference
from umedfeat.naming import write_csv
from umedfeat.prediction.comparing import ModelComparison
from umedfeat.report.answer import with_interval
from umedfeat.report.templating import render
from umedfeat.report.validation_files import ESTIMATE_COLUMNS, estimate_rows, number_text
from umedfeat.terminal.tables import render_table

__all__ = ["models_summary", "render_models", "write_models"]

_DIFFERENCE = ("model", "baseline", "metric", "value", "low", "high", "p", "p_holm")


def write_models(found: ModelComparison, folder: Path) -> Path:
    """Write the tables and the page; returns the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = folder / "report.html"
    estimates = [[name, *cells] for name, rows in found.estimates.items() for cells in estimate_rows(rows)]
    text = render(
        "models.html",
        found=found,
        headlines=headlines(found),
        columns=found.names,
        rows=list(_rows(found)),
        differences=list(_shown(found)),
        coverage=_coverage(found),
        items=len(next(iter(found.parts.values())).items),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, lines in (
            ("validation.csv", [["model", *ESTIMATE_COLUMNS], *estimates]),
            ("differences.csv", [list(_DIFFERENCE), *map(_cells, found.differences)]),
        ):
            with (folder / name).open("w", encoding="utf-8", newline="") as stream:
                write_csv(stream, lines)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})", remedy="choose another --out") from error
    return page


def _coverage(found: ModelComparison) -> list[Coverage]:
    task = found.cohort.task
    return [covered_model(task), *covered_differences(found.differences, task)]


def _cells(row: Difference) -> list[str]:
    numbers = (row.value, row.low, row.high, row.p, row.p_holm)
    return [row.encoder, row.baseline, row.metric, *map(number_text, numbers)]


def _rows(found: ModelComparison) -> Iterator[tuple[str, list[str]]]:
    """Metric, and its value with interval for each model."""
    by_model = [{row.metric: row for row in rows if not row.subgroup} for rows in found.estimates.values()]
    for metric in by_model[0]:
        yield METRICS[metric].label, [with_interval(rows[metric]) for rows in by_model]


def _shown(found: ModelComparison) -> Iterator[tuple[str, str, str, str, str]]:
    for row in found.differences:
        value = f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        yield row.encoder, METRICS[row.metric].label, value, f"{row.p:.4f}", f"{row.p_holm:.4f}"


def headlines(found: ModelComparison) -> list[str]:
    """One sentence a model: the primary metric against the baseline."""
    metric = PRIMARY[found.cohort.task]
    lines = []
    for row in found.differences:
        if row.metric == metric:
            word = "better than" if row.low > 0 else "worse than" if row.high < 0 else "not surely different from"
            lines.append(
                f"{row.encoder} is {word} {row.baseline}: {METRICS[metric].label} {row.value:+.3f} "
                f"[{row.low:+.3f}, {row.high:+.3f}], p = {row.p_holm:.4f}."
            )
    return lines


def render_models(found: ModelComparison) -> str:
    """For the terminal: metrics by model, differences, notes."""
    metrics = render_table(["metric", *found.names], [[name, *cells] for name, cells in _rows(found)])
    header = [f"model minus {found.baseline}", "metric", "difference", "p", "p (Holm)"]
    notes = [f"Note: {line}" for line in found.warnings]
    said = [textwrap.fill(kind.sentence, 80) for kind in _coverage(found)]
    tables = [metrics, render_table(header, list(_shown(found)))]
    return "\n\n".join(["\n".join([*headlines(found), *notes]), *tables, *said])


def models_summary(found: ModelComparison) -> dict[str, Any]:
    """JSON-able; what is not defined is null."""
    return {
        "models": list(found.names),
        "baseline": found.baseline,
        "items": len(next(iter(found.parts.values())).items),
        "estimates": [
            dict(zip(("model", *ESTIMATE_COLUMNS), [name, *cells], strict=True))
            for name, rows in found.estimates.items()
            for cells in estimate_rows(rows)
        ],
        "differences": [dict(zip(_DIFFERENCE, _cells(row), strict=True)) for row in found.differences],
        "coverage": [kind.described() for kind in _coverage(found)],
        "warnings": list(found.warnings),
    }
