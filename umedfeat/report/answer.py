"""The answer that stands on top: what each classifier reaches with the least and with the most data, and chance."""

from __future__ import annotations

import math
from typing import NamedTuple

from umedfeat.fewshot.metrics.chance import chance_level
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.metrics.operating import OPERATING
from umedfeat.fewshot.result import Estimate, ProbeResult

__all__ = ["Answer", "answer_of", "classifiers_of", "operating_sentence", "positive_sentence", "with_interval"]


class Answer(NamedTuple):
    """(classifier, (value, "[low, high]") a column) by row; ``chance`` is "" where the metric has no fixed one."""

    columns: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    chance: str


def classifiers_of(result: ProbeResult) -> list[str]:
    """Names of the classifiers in their declared order; the first speaks in the headline."""
    return list(dict.fromkeys(part.classifier for part in result.predictions))


def with_interval(row: Estimate) -> str:
    """ "0.944 [0.801, 0.984]", without brackets where there is no interval, "undefined" where there is no value."""
    return " ".join(filter(None, _parts(row)))


def _parts(row: Estimate) -> tuple[str, str]:
    if not math.isfinite(row.value):
        return "undefined", ""
    return f"{row.value:.3f}", f"[{row.low:.3f}, {row.high:.3f}]" if row.interval else ""


def answer_of(result: ProbeResult) -> Answer:
    """The primary metric of every classifier on the first test set, at the smallest and at the largest budget."""
    spent = result.budgets_of(result.test_sets[0])
    budgets = [spent[0]] if len(spent) == 1 else [spent[0], spent[-1]]
    who = "patients" if result.cohort.patients_known else "items"
    label = METRICS[result.primary].label
    columns = [f"{label} with {budget.n_patients} labelled {who}" for budget in budgets]
    rows = [
        (name, [_parts(result.estimate(name, b.name, result.primary, result.test_sets[0])) for b in budgets])
        for name in classifiers_of(result)
    ]
    level = chance_level(result.primary, len(result.cohort.classes))
    return Answer(columns, rows, f"{level:.3f}" if math.isfinite(level) else "")


def positive_sentence(result: ProbeResult) -> str:
    """Which class counts as positive; "" where none does."""
    if result.positive < 0:
        return ""
    positive, other = result.cohort.classes[result.positive], result.cohort.classes[1 - result.positive]
    return f"Positive means “{positive}”, negative “{other}”."


def operating_sentence(result: ProbeResult) -> str:
    """What the yes-or-no answer of the headline's classifier is worth with the most data; "" but for two classes."""
    if result.positive < 0:
        return ""
    classifier, budget = classifiers_of(result)[0], result.budgets[-1]
    found = {name: result.estimate(classifier, budget.name, name, result.test_sets[0]) for name in OPERATING}
    prevalence = result.estimate(classifier, budget.name, "prevalence", result.test_sets[0])
    positive = result.cohort.classes[result.positive]
    sensitivity, specificity, ppv, npv = (_percent(found[name]) for name in OPERATING)
    where = f"In the test set “{result.test_sets[0]}”, calling" if len(result.test_sets) > 1 else "Calling"
    return (
        f"{where} everything above a probability of {result.settings.threshold:g} “{positive}”, the {classifier} "
        f"probe finds {sensitivity} of the items with it (sensitivity) and clears {specificity} of those without "
        f"(specificity). Where {prevalence.value:.0%} have it, as here, a positive answer is right in {ppv} (PPV) and "
        f"a negative one in {npv} (NPV)."
    )


def _percent(row: Estimate) -> str:
    if not math.isfinite(row.value):
        return "an undefined share"
    bounds = f" [{row.low:.0%}, {row.high:.0%}]" if row.interval else ""
    return f"{row.value:.0%}{bounds}"
