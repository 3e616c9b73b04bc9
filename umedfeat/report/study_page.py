"""``report.html``: a study on one self-contained page."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from umedfeat.errors import OutputError
from umedfeat.fewshot.coverage import covered, covered_drops
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.metrics.operating import OPERATING
from umedfeat.fewshot.result import Predictions, ProbeResult
from umedfeat.fewshot.settings import SITE_COLUMNS
from umedfeat.report.answer import answer_of, classifiers_of, operating_sentence, positive_sentence
from umedfeat.report.checklists import write_checklists
from umedfeat.report.figures.agreement import calibration, confusion, roc, scatter
from umedfeat.report.figures.axes import series_class
from umedfeat.report.figures.curve import Line, curve, line_of
from umedfeat.report.figures.decision import decision_curve
from umedfeat.report.figures.embedding_map import MOST_POINTS, embedding_map, principal_plane
from umedfeat.report.figures.files import write_figures
from umedfeat.report.figures.survival import RISK_KEY, survival_curves
from umedfeat.report.headline import headlines
from umedfeat.report.methods import methods_text
from umedfeat.report.neighbours import mistakes_of
from umedfeat.report.numbers import plain
from umedfeat.report.participants import participants_of
from umedfeat.report.per_class import per_class
from umedfeat.report.study_tables import Row, shown_drops, spreads_of, subgroups_of, table_of, wide_metrics
from umedfeat.report.templating import render

__all__ = ["render_report", "write_report"]

#: Tables of so many classes leave room for the figures beside them.
_FEW_CLASSES = 3


class Section(NamedTuple):
    """All figures of one test set."""

    test_set: str
    curve: Markup
    table: list[Row]
    prevalence: str
    operating: list[Row]
    decision: Markup | None
    decision_key: list[tuple[str, str]]
    detail: list[Detail]


class Detail(NamedTuple):
    """One classifier with the largest budget."""

    classifier: str
    budget: str
    draws: int
    confusion: Markup | None
    roc: Markup | None
    calibration: Markup | None
    scatter: Markup | None
    per_class: list[list[str]]


class Map(NamedTuple):
    """The map coloured by one column."""

    by: str
    figure: Markup
    key: list[tuple[str, str]]


def write_report(result: ProbeResult, folder: Path, *, preview: Path | None = None) -> Path:
    """Write ``folder/report.html``, every figure of it into ``folder/figures``, and the reporting checklists.

    Args:
        result: the study.
        folder: made if missing.
        preview: folder of ``umedfeat preview`` whose pictures are shown beside misclassified items.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / "report.html"
    sections, maps = [_section(result, test_set) for test_set in result.test_sets], _maps(result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page = _page(result, sections, maps, preview)
        path.write_text(page, encoding="utf-8")
        write_figures(_figures(result, sections, maps), folder / "figures")
        write_checklists(result, folder, page)
    except OSError as error:
        message = f"{path.name}: cannot be written ({error.strerror})"
        raise OutputError(message, remedy="choose another folder with --out") from error
    return path


def render_report(result: ProbeResult, *, preview: Path | None = None) -> str:
    """The page as text; everything is inside, nothing is fetched."""
    sections = [_section(result, test_set) for test_set in result.test_sets]
    return _page(result, sections, _maps(result), preview)


def _page(result: ProbeResult, sections: list[Section], maps: list[Map], preview: Path | None) -> str:
    sharpest = _sharpest(result, result.test_sets[0])
    labelled = result.task not in ("multilabel", "regression", "survival")
    return render(
        "study.html",
        result=result,
        headlines=headlines(result),
        answer=answer_of(result),
        positive=positive_sentence(result),
        operating=operating_sentence(result),
        metric=METRICS[result.primary].label,
        metrics=[METRICS[name].label for name in wide_metrics(result)],
        spreads=[METRICS[name].label for name in spreads_of(result)],
        names=classifiers_of(result),
        labels={name: metric.label for name, metric in METRICS.items()},
        few_classes=len(result.cohort.classes) <= _FEW_CLASSES,
        operating_names=[METRICS[name].label for name in OPERATING],
        sections=sections,
        classifiers=_classifier_key(result),
        classes=_class_key(result),
        maps=maps,
        thinned=len(result.cohort.ids) > MOST_POINTS,
        most_points=MOST_POINTS,
        mistakes=mistakes_of(result, sharpest, preview) if labelled else [],
        mistakes_by=sharpest,
        coverage=covered(result.estimates, result.task),
        drops=shown_drops(result),
        coverage_of_drops=covered_drops(result.drops, result.task),
        subgroups=subgroups_of(result),
        participants=participants_of(result),
        settings=[(name, _text(value)) for name, value in result.settings.described().items()],
        methods=methods_text(result).replace("\n", " "),
    )


def _figures(
    result: ProbeResult, sections: list[Section], maps: list[Map]
) -> dict[str, tuple[Markup, list[tuple[str, str]]]]:
    """Every figure of the page by the name of its file, with its key."""
    found: dict[str, tuple[Markup, list[tuple[str, str]]]] = {}
    for section in sections:
        suffix = f"_{section.test_set}" if len(sections) > 1 else ""
        found[f"data_efficiency{suffix}"] = (section.curve, _classifier_key(result))
        if section.decision is not None:
            found[f"decision_curve{suffix}"] = (section.decision, section.decision_key)
        for detail in section.detail:
            each = {"roc": detail.roc, "calibration": detail.calibration, "scatter": detail.scatter}
            for kind, figure in each.items():
                if figure is not None:
                    found[f"{kind}_{detail.classifier}{suffix}"] = (figure, _class_key(result))
    return found | {f"map_by_{each.by}": (each.figure, each.key) for each in maps}


def _section(result: ProbeResult, test_set: str) -> Section:
    found = [_largest(result, test_set, name) for name in classifiers_of(result)]
    parts = [part for part in found if part is not None]
    decision, key = decision_curve(result, parts) if result.positive >= 0 else (None, [])
    shares = [
        row for row in result.estimates if (row.test_set, row.metric, row.subgroup) == (test_set, "prevalence", "")
    ]
    return Section(
        test_set,
        curve(_lines(result, test_set), result.budgets_of(test_set), result.primary, len(result.cohort.classes)),
        table_of(result, test_set, wide_metrics(result)),
        f"{shares[0].value:.3f}" if shares else "",
        table_of(result, test_set, list(OPERATING)) if result.positive >= 0 else [],
        decision,
        key,
        [_detail(result, part) for part in parts],
    )


def _lines(result: ProbeResult, test_set: str) -> list[Line]:
    return [line_of(result, name, test_set, name) for name in classifiers_of(result)]


def _detail(result: ProbeResult, part: Predictions) -> Detail:
    classes = result.task not in ("regression", "survival")
    single = classes and result.task != "multilabel"
    return Detail(
        part.classifier,
        part.budget,
        len(part.values),
        confusion(result, part) if single else None,
        roc(result, part) if classes else None,
        calibration(result, part) if classes else None,
        None if classes else survival_curves(result, part) if result.task == "survival" else scatter(result, part),
        per_class(result, part) if classes else [],
    )


def _largest(result: ProbeResult, test_set: str, classifier: str) -> Predictions | None:
    found = {p.budget: p for p in result.predictions if (p.test_set, p.classifier) == (test_set, classifier)}
    return next((found[budget.name] for budget in reversed(result.budgets) if budget.name in found), None)


def _sharpest(result: ProbeResult, test_set: str) -> Predictions:
    """Predictions of the first classifier with the largest budget."""
    return next(p for p in (_largest(result, test_set, name) for name in classifiers_of(result)) if p is not None)


def _classifier_key(result: ProbeResult) -> list[tuple[str, str]]:
    return [(series_class(number), name) for number, name in enumerate(classifiers_of(result))]


def _class_key(result: ProbeResult) -> list[tuple[str, str]]:
    if result.task == "survival":
        return RISK_KEY
    classes = result.cohort.classes
    if result.task == "binary":
        return [(series_class(0), classes[1])]
    return [(series_class(k), name) for k, name in enumerate(classes[:7])]


def _maps(result: ProbeResult) -> list[Map]:
    plane, shares = principal_plane(result.cohort.embedding)
    columns = {"label": _labels(result)}
    site = next((name for name in SITE_COLUMNS if name in result.cohort.meta), None)
    if site is not None and len(set(result.cohort.meta[site].tolist())) > 1:
        columns[site] = result.cohort.meta[site]
    return [Map(by, *embedding_map(plane, shares, groups, f"Items by {by}")) for by, groups in columns.items()]


def _labels(result: ProbeResult) -> np.ndarray[Any, np.dtype[np.str_]]:
    classes, truth = np.asarray(result.cohort.classes, dtype=np.str_), result.cohort.truth
    if result.task == "multilabel":
        return np.asarray(["+".join(classes[row.astype(bool)]) or "none" for row in truth], dtype=np.str_)
    if result.task == "survival":
        return np.where(truth[:, 1].astype(np.float64) > 0, "with event", "censored")
    if result.task == "regression":
        edges = np.quantile(truth.astype(np.float64), [0, 0.25, 0.5, 0.75, 1])
        names = np.asarray([f"{plain(a)} to {plain(b)}" for a, b in pairwise(edges)], dtype=np.str_)
        return names[np.searchsorted(edges[1:-1], truth.astype(np.float64))]
    return classes[truth.astype(np.intp)]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "default" if value is None else "none" if value == "" else str(value)
