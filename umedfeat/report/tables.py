"""A study for the terminal: headline, table, curve."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TypeVar

from umedfeat.fewshot.coverage import Coverage, covered, covered_differences, covered_drops
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import Comparison, DataNeeded, Estimate, ProbeResult, Sanity
from umedfeat.fewshot.study import Study, flow_of, plan_warnings
from umedfeat.report.answer import classifiers_of, operating_sentence, positive_sentence
from umedfeat.report.headline import comparison_headlines, headlines
from umedfeat.report.study_tables import shown_drops
from umedfeat.terminal.tables import render_table

__all__ = ["data_needed_sentence", "render_comparison", "render_plan", "render_study"]

#: The second metric of the table, after the primary one; more do not fit into 80 columns.
_SECOND = {
    "binary": "auroc",
    "multiclass": "auroc",
    "ordinal": "auroc",
    "multilabel": "auprc",
    "regression": "spearman",
}
#: Classes that are named; of more the first and the last.
_MOST_CLASSES = 12
_WIDTH = 40
T = TypeVar("T")


def render_study(result: ProbeResult) -> str:
    """Everything a person wants to see at once."""
    answer = [textwrap.fill(line.replace("\N{NO-BREAK SPACE}", " "), 80) for line in _answer(result)]
    parts = [*answer, _headline(result)]
    for test_set in result.test_sets:
        parts += [_table(result, test_set), _curve(result, test_set)]
    parts += _said(covered(result.estimates, result.task))
    if shown_drops(result):
        parts += [_drops(result), *_said(covered_drops(result.drops, result.task))]
    parts += _against_chance(result)
    parts += [_sanity(check) for check in result.sanity]
    parts += [_note(warning) for warning in result.warnings]
    return "\n\n".join(parts)


def _answer(result: ProbeResult) -> list[str]:
    """What stands on top: the sentences of the page, the yes-or-no answer among them."""
    said = f"{operating_sentence(result)} {positive_sentence(result)}".strip()
    return [*headlines(result), *([said] if said else [])]


def _said(kinds: Iterable[Coverage]) -> list[str]:
    """What the intervals above cover."""
    return [textwrap.fill(kind.sentence, 80) for kind in kinds]


def _note(warning: str) -> str:
    return textwrap.fill(f"Note: {warning}", 80)


def _sanity(check: Sanity) -> str:
    mean = sum(check.values) / len(check.values)
    return (
        f"Sanity, {check.classifier}: {METRICS[check.metric].label} {mean:.3f} over {len(check.values)} runs on "
        f"permuted labels, chance {check.chance:.3f}, p = {check.p:.3g}: {'passed' if check.passed else 'FAILED'}"
    )


def _against_chance(result: ProbeResult) -> list[str]:
    """Of the first classifier with the most data, on each test set."""
    budget, classifier = result.budgets[-1].name, classifiers_of(result)[0]
    rows = [row for row in result.significance if (row.classifier, row.budget) == (classifier, budget)]
    return [
        textwrap.fill(
            f"{row.classifier}, {row.budget}, {row.test_set}: {METRICS[row.metric].label} {row.value:.3f}, chance "
            f"{row.chance:.3f}, p = {row.p:.3g} ({row.permutations} permutations of the labels).",
            80,
        )
        for row in rows
    ]


def render_plan(study: Study) -> str:
    """What ``--dry-run`` shows: the cohort flow, and patients per budget and class."""
    cohort = study.cohort
    flow = [[step.name, step.items, step.patients or "", step.note] for step in (*cohort.flow, *flow_of(study))]
    few = len(cohort.classes) <= _MOST_CLASSES
    header = ["budget", "patients", "of", "items", "draws", *(cohort.classes if few else ("a class",))]
    rows = [
        [b.name, b.n_patients, b.n_pool, f"{b.n_items:.1f}", b.repeats, *_per_class(b.per_class, few)]
        for b in study.budgets
    ]
    notes = [_note(warning) for warning in plan_warnings(study)]
    tables = [render_table(["cohort", "items", "patients", "left out"], flow), render_table(header, rows)]
    return "\n\n".join([*tables, *notes])


def _per_class(counts: Sequence[float], few: bool) -> list[str]:
    return [f"{n:.1f}" for n in counts] if few else [f"{min(counts):.1f} to {max(counts):.1f}"]


def _headline(result: ProbeResult) -> str:
    patients = len(set(result.cohort.patients.tolist()))
    classes = _named(result.cohort.classes) or ("time to an event" if result.task == "survival" else "a number")
    who = f"{patients} patients" if result.cohort.patients_known else "no patient information"
    what = f"{result.task} on {result.label or 'labels'} ({classes})"
    line = f"{result.encoder or 'features'}: {len(result.cohort.ids)} items, {who}; {what}"
    return textwrap.fill(line, 80)


def _named(classes: Sequence[str]) -> str:
    if len(classes) <= _MOST_CLASSES:
        return ", ".join(classes)
    return f"{len(classes)} classes: {', '.join(classes[:3])} … {classes[-1]}"


def _row(estimate: Estimate) -> str:
    if estimate.value != estimate.value:
        return "undefined"
    bounds = "" if not estimate.interval else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{bounds}"


def _table(result: ProbeResult, test_set: str) -> str:
    metrics = [name for name in (result.primary, _SECOND.get(result.task)) if name]
    rows = []
    classifiers = list(dict.fromkeys(part.classifier for part in result.predictions))
    for budget in result.budgets_of(test_set):
        for classifier in classifiers:
            first, *others = (result.estimate(classifier, budget.name, metric, test_set) for metric in metrics)
            spread = f"±{first.sd:.3f}" if first.draws > 1 else ""
            rows.append([budget.name, budget.n_patients, classifier, _row(first), spread, *map(_row, others)])
    count = result.estimate(classifiers[0], result.budgets[0].name, result.primary, test_set)
    who = "patients" if result.cohort.patients_known else "items"
    tested = f"{count.test_items} items" + f" of {count.test_patients} patients" * result.cohort.patients_known
    several = any(row[4] for row in rows)
    what = ("Mean over draws", ", ±SD over draws") if several else ("Value", "")
    title = f"{test_set}: {tested}\n{what[0]} [{result.settings.confidence:.0%} interval]{what[1]}"
    header = [
        "budget",
        who,
        "classifier",
        METRICS[metrics[0]].label,
        "",
        *(METRICS[name].label for name in metrics[1:]),
    ]
    if not several:
        header, rows = _without(header, 4), [_without(row, 4) for row in rows]
    return title + "\n\n" + render_table(header, rows)


def _without(cells: Sequence[T], place: int) -> list[T]:
    return [*cells[:place], *cells[place + 1 :]]


def _curve(result: ProbeResult, test_set: str) -> str:
    """The primary metric as bars from 0 to 1, with the interval drawn into them."""
    lines = [f"{METRICS[result.primary].label} from 0 to 1 (█ estimate, ─ interval)"]
    classifiers = list(dict.fromkeys(part.classifier for part in result.predictions))
    for classifier in classifiers:
        for budget in result.budgets:
            estimate = result.estimate(classifier, budget.name, result.primary, test_set)
            value = f"{estimate.value:.3f}" if estimate.value == estimate.value else "undefined"
            lines.append(f"{classifier:>9} {budget.name:>9} {_bar(estimate)} {value}")
    return "\n".join(lines)


def _bar(estimate: Estimate) -> str:
    def place(value: float) -> int:
        return min(_WIDTH - 1, max(0, round(value * (_WIDTH - 1)))) if value == value else -1

    low, high, at = place(estimate.low), place(estimate.high), place(estimate.value)
    cells = []
    for column in range(_WIDTH):
        if column == at:
            cells.append("█")
        else:
            cells.append("─" if 0 <= low <= column <= high else "·")
    return "".join(cells)


def _signed(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if low == low else f"{value:+.3f}"


def _drops(result: ProbeResult) -> str:
    rows = [
        [
            d.external,
            d.budget,
            d.classifier,
            d.internal_value,
            d.external_value,
            _signed(d.drop, d.low, d.high),
        ]
        for d in shown_drops(result)
    ]
    header = ["left out", "budget", "classifier", "internal", "external", "drop"]
    return f"Cross-centre drop of {METRICS[result.primary].label}\n" + render_table(header, rows)


def render_comparison(comparison: Comparison) -> str:
    """The answer and the data needed first, then the differences of the primary metric."""
    primary = comparison.results[0].primary
    said = [line.replace("\N{NO-BREAK SPACE}", " ") for line in comparison_headlines(comparison)]
    parts = [textwrap.fill(line, 80) for line in [*said, *map(data_needed_sentence, comparison.data_needed)]]
    header = ["encoder", "classifier", "test", "budget", f"Δ {METRICS[primary].label}", "p", "p (Holm)"]
    single = len(comparison.results[0].test_sets) == 1
    rows = [
        [
            d.encoder,
            d.classifier,
            d.test_set,
            d.budget,
            _signed(d.value, d.low, d.high),
            f"{d.p:.4f}",
            f"{d.p_holm:.4f}",
        ]
        for d in comparison.differences
        if d.metric == primary
    ]
    if single:
        header, rows = _without(header, 2), [_without(row, 2) for row in rows]
    parts.append(
        f"Difference to {comparison.baseline}, same draws and same test patients\n" + render_table(header, rows)
    )
    task = comparison.results[0].task
    parts += _said(covered_differences(comparison.differences, task))
    for result in comparison.results:
        parts.append(_headline(result))
        parts += [_table(result, test_set) for test_set in result.test_sets]
    parts += _said(covered([row for result in comparison.results for row in result.estimates], task))
    notes = dict.fromkeys([*comparison.warnings, *(note for result in comparison.results for note in result.warnings)])
    return "\n\n".join([*parts, *map(_note, notes)])


def data_needed_sentence(row: DataNeeded) -> str:
    """How much data the encoder needs for what the baseline reaches with all: first what is sure, then the estimate."""
    goal = (
        f"{row.baseline} at {row.target_budget} ({METRICS[row.metric].label} {row.target:.3f}, margin {row.margin:g})"
    )
    verdict = (
        f"{row.budget} ({row.n_patients} patients) is the smallest budget that is surely not worse than {goal}"
        if row.budget
        else f"no budget is surely not worse than {goal}"
    )
    estimate = (
        "does not reach it with these budgets"
        if row.share == float("inf")
        else f"reaches it with {_share(row.share, row.smallest)} of the patients"
    )
    return f"{row.encoder}, {row.classifier}, {row.test_set}: {verdict}. Point estimate: it {estimate}{_bounds(row)}."


def _bounds(row: DataNeeded) -> str:
    if row.low != row.low:
        return ""
    low, high = (_share(share, row.smallest) for share in (row.low, row.high))
    return f" ({row.confidence * 100:g} % interval {low}" + f" to {high}" * (low != high) + ")"


def _share(share: float, smallest: float) -> str:
    if share == float("inf"):
        return "more than all"
    return f"{share * 100:.3g} %{' or less' if share <= smallest else ''}"
