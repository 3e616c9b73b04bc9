"""What settings may be: one rule for the command line and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umedfeat.errors import SetupError
from umedfeat.rules import OneOf, Rule, Within

__all__ = ["FEWEST_RESAMPLINGS", "TASKS", "refuse_settings"]

TASKS = ("auto", "binary", "multiclass", "ordinal", "multilabel", "regression", "survival")
#: Fewer resamplings leave the width of an interval to luck.
FEWEST_RESAMPLINGS = 100
_INSIDE = Within(0.0, 1.0, open_low=True)
_RULES: dict[str, Rule] = {
    "repeats": Within(1, whole=True),
    "task": OneOf(TASKS),
    "unit": OneOf(("item", "tile", "patient")),
    "pool": OneOf(("mean", "max", "mean+std", "abmil")),
    "baseline": OneOf(("", "trivial")),
    "label_of": OneOf(("patient", "item")),
    "on_missing_class": OneOf(("stop", "skip")),
    "cv_repeats": Within(1, whole=True),
    "bootstrap": Within(FEWEST_RESAMPLINGS, whole=True),
    "sanity": Within(0, whole=True),
    "seed": Within(0, whole=True),
}
_RULES_OF_EACH: dict[str, Rule] = {
    "fractions": _INSIDE,
    "shots": Within(1, whole=True),
    "classifiers": OneOf(("linear", "knn", "prototype")),
}
#: Shares that neither 0 nor 1 can be.
_SHARES = ("test_size", "confidence", "threshold")
_WAYS = ("splits", "split", "cv", "external", "loco", "train")


def refuse_settings(values: Mapping[str, Any]) -> None:
    """Refuse what no study can be made of.

    Args:
        values: name → value of the fields of ProbeSettings.

    Raises:
        SetupError: naming the setting, the value and what is legal.
    """
    for name, rule in _RULES.items():
        if values[name] is not None:
            _apply(name, values[name], rule)
    for name, rule in _RULES_OF_EACH.items():
        for value in values[name]:
            _apply(name, value, rule)
    for name in _SHARES:
        if values[name] is not None and not 0 < values[name] < 1:
            raise SetupError(f"{name} {values[name]!r} is not legal", remedy="a number between 0 and 1")
    if values["cv"] != 0:
        _apply("cv", values["cv"], Within(2, whole=True))
    _refuse_combinations(values)


def _apply(name: str, value: Any, rule: Rule) -> None:
    try:
        rule(value)
    except ValueError as error:
        raise SetupError(f"{name} {value!r} is not legal", remedy=str(error)) from error


def _refuse_combinations(values: Mapping[str, Any]) -> None:
    if not values["classifiers"]:
        raise SetupError("classifiers is empty", remedy="some of linear, knn, prototype")
    if bool(values["fractions"]) == bool(values["shots"]):
        what = "exclude each other" if values["shots"] else "are both empty"
        raise SetupError(f"--fraction and --shots {what}", remedy="give one of them")
    if bool(values["train"]) != bool(values["test"]):
        raise SetupError("--train and --test belong together", remedy="e.g. --train centre=A --test centre=B")
    told = [f"--{name}" for name in ("split", "cv", "train") if values[name]]
    if values["test_size"] is not None and told and values["splits"] is None:
        raise SetupError(f"--test-size means nothing with {told[0]}", remedy="leave one of them out")
    ways = [f"--{name}" for name in _WAYS if values[name]]
    if len(ways) > 1 and values["splits"] is None:
        raise SetupError(f"{' and '.join(ways)} are different ways to choose the test set", remedy="give one")
