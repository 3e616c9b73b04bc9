"""What a saved probe says of itself, checked before anything relies on it: the file may come from anybody."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.fewshot.classifiers.forms import Form, LinearForm, NeighboursForm, PrototypeForm

__all__ = ["SAVED_TASKS", "check_arrays", "check_told", "unique_keys"]

#: What a form can predict; survival models are not saved.
SAVED_TASKS = ("binary", "multiclass", "ordinal", "multilabel", "regression")
_CHOICES = {"task": SAVED_TASKS, "unit": ("item", "tile", "patient"), "pool": ("mean", "max", "mean+std")}
_FEWEST_CLASSES = {"regression": 0, "multilabel": 1}
#: Arrays of whole numbers; all others hold float32 or float64.
_WHOLE = frozenset({"form.columns", "form.link", "form.k", "form.present", "form.of_labels"})
_LINKS = {"regression": 0, "multilabel": 1}
_CLASSES_LINK = 2


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says everything once (``object_pairs_hook``).

    Raises:
        ValueError: a key is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def check_arrays(tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Kinds of numbers as documented, all finite.

    Raises:
        ValueError: naming the array.
    """
    for name, values in tensors.items():
        whole = name in _WHOLE
        if values.dtype.kind not in "iu" if whole else values.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} holds {values.dtype}, not {'whole numbers' if whole else 'float32 or float64'}")
        if not whole and not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are no numbers")


def check_told(told: Mapping[str, Any], form: Form) -> None:
    """The JSON fits the arrays, and its parts fit each other.

    Raises:
        ValueError, KeyError, TypeError: what does not.
    """
    for key, known in _CHOICES.items():
        if told[key] not in known:
            raise ValueError(f"{key} {told[key]!r} is none of {', '.join(known)}")
    if not 0 < float(told["temperature"]) < 1e6:
        raise ValueError(f"temperature {told['temperature']!r}")
    if not 0 < float(told.get("threshold", 0.5)) < 1:
        raise ValueError(f"threshold {told['threshold']!r}")
    _check_classes(told["classes"], told["task"], form)
    _check_output(told["task"], form)
    _check_training(told["training"])
    _check_tested(told["tested"])


def _check_classes(classes: Any, task: str, form: Form) -> None:
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes are no list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("a class is there twice")
    wanted = 0 if task == "regression" else form.width
    if len(classes) != wanted:
        raise ValueError(f"{len(classes)} classes for {form.width} columns")
    if len(classes) < _FEWEST_CLASSES.get(task, 2) or (task == "binary" and len(classes) > 2):
        raise ValueError(f"{len(classes)} classes for the task {task}")


def _check_output(task: str, form: Form) -> None:
    """Classes and labels come out as probabilities, values as one column."""
    if task == "regression" and form.width != 1:
        raise ValueError(f"{form.width} columns of values")
    if isinstance(form, LinearForm | AttentionForm) and form.link != _LINKS.get(task, _CLASSES_LINK):
        raise ValueError(f"link {form.link} for the task {task}")
    if isinstance(form, PrototypeForm) and form.of_labels != (task == "multilabel"):
        raise ValueError(f"prototypes of another task than {task}")
    if isinstance(form, NeighboursForm) and task != "regression":
        both = np.concatenate([form.targets.ravel(), form.prior])
        if both.min() < 0 or both.max() > 1:
            raise ValueError("targets are no probabilities")


def _check_training(training: Any) -> None:
    for key in ("patients", "items"):
        _count(training[key], f"training {key}", least=1)
    if training["where"] not in ("training pool", "all"):
        raise ValueError(f"training where {training['where']!r}")
    if not isinstance(training["per_class"], dict):
        raise TypeError("training per_class is no object")
    for name, count in training["per_class"].items():
        _count(count, f"training patients of {name!r}", least=0)


def _count(value: Any, what: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
        raise ValueError(f"{what}: {value!r} is no count")


def _check_tested(tested: Any) -> None:
    """metric → [value, low, high]; the bounds may be unknown."""
    if not isinstance(tested, dict):
        raise TypeError("tested is no object")
    for metric, (value, *bounds) in tested.items():
        numbers = [value, *(bound for bound in bounds if bound is not None)]
        if len(bounds) != 2 or not all(_is_number(number) for number in numbers):
            raise ValueError(f"tested {metric!r} is no value with its bounds")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
