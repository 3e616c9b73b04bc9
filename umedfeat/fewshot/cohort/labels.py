"""Labels as text become targets: which task it is, which classes there are, what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.selection import order_of
from umedfeat.fewshot.settings import Task
from umedfeat.naming import printable

__all__ = ["MISSING", "Target", "as_text", "encode", "encode_known", "infer_task", "numbers_of", "survival_target"]

#: Cells that mean "no label", those of spreadsheets and registries among them.
MISSING = frozenset(
    {"", "nan", "na", "n/a", "n.a.", "n.a", "<na>", "null", "?", "missing", "not available", "[not available]"}
    | {"#n/a", "#na", "#n/a n/a", "#value!", "#ref!", "#name?", "#div/0!", "#null!", "#num!"}
)

_MANY_CLASSES = 20


@dataclass(frozen=True)
class Target:
    """Encoded labels: truth as in ``CohortTable.truth``, classes in label-space order."""

    task: Task
    truth: npt.NDArray[np.generic]
    classes: tuple[str, ...]


def as_text(labels: Sequence[object] | npt.NDArray[np.generic]) -> list[str]:
    """Labels of any type as stripped text; None and NaN become ""."""
    return ["" if _is_missing(value) else _text(value) for value in np.asarray(labels, dtype=object).ravel()]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float | np.floating) and math.isnan(float(value)))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def infer_task(texts: Sequence[str]) -> Task:
    """Decide the task of ``auto``: numbers with decimals are regression, ``a|b`` is multilabel, the rest are classes.

    Raises:
        CohortError: whole numbers with so many values that they are hardly classes.
    """
    distinct = sorted(set(texts))
    if any("|" in text or ";" in text for text in distinct):
        return "multilabel"
    numbers = numbers_of(distinct)
    if numbers is not None and len(distinct) > 2 and any(not number.is_integer() for number in numbers):
        return "regression"
    if numbers is not None and len(distinct) > _MANY_CLASSES:
        raise CohortError(
            f"the label column holds {len(distinct)} different whole numbers, too many to be taken for classes unasked",
            remedy="say --task regression, --task multiclass or --task ordinal",
        )
    return "binary" if len(distinct) == 2 else "multiclass"


def encode(texts: Sequence[str], task: str, order: Sequence[str] = ()) -> Target:
    """Encode complete labels (no missing ones).

    Classes come in the ``order`` given (those that nobody carries are left out), else sorted as numbers where all are
    numbers, else alphabetically; the second class of two is "positive".

    Raises:
        CohortError: constant labels, labels that do not fit the task.
    """
    texts = [printable(text) for text in texts]
    chosen: Task = infer_task(texts) if task == "auto" else task  # type: ignore[assignment]
    if len(set(texts)) < 2:
        shown = repr(texts[0]) if texts else "nothing"
        raise CohortError(
            f"the label column is constant: every item is {shown}", remedy="choose another column with --label"
        )
    if chosen == "regression":
        return Target(chosen, _regression(texts), ())
    if chosen == "multilabel":
        return _multilabel(texts)
    if chosen == "survival":
        return survival_target(np.asarray([_time_and_event(text) for text in texts]))
    return _classes(texts, chosen, order)


def encode_known(texts: Sequence[str], task: Task, classes: tuple[str, ...]) -> Target:
    """Encode labels for a classifier that is there already: its classes, in its order, whoever carries them.

    Raises:
        CohortError: a label that it does not know, or that does not fit the task.
    """
    texts = [printable(text) for text in texts]
    if task == "regression":
        return Target(task, _regression(texts), ())
    sets = _label_sets(texts) if task == "multilabel" else [{text} for text in texts]
    unknown = sorted(set().union(*sets) - set(classes))
    if unknown:
        raise CohortError(
            f"{len(unknown)} labels are none of its classes, {unknown[0]!r} among them",
            remedy=f"its classes: {', '.join(classes)}; --merge {unknown[0]}+{classes[0]}={classes[0]} or --drop-class",
        )
    truth = np.asarray([[name in labels for name in classes] for labels in sets], dtype=np.intp)
    truth = truth.reshape(len(texts), len(classes))
    return Target(task, truth if task == "multilabel" else truth.argmax(axis=1), classes)


def numbers_of(texts: Sequence[str]) -> list[float] | None:
    """Finite numbers, None where one of the texts is none."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _regression(texts: Sequence[str]) -> Floats:
    numbers = numbers_of(texts)
    if numbers is None:
        wrong = next(text for text in texts if numbers_of([text]) is None)
        comma = numbers_of([wrong.replace(",", ".")]) is not None
        raise CohortError(
            f"--task regression needs numbers, and {wrong!r} is none",
            remedy="write decimals with a point" if comma else "choose another column with --label",
        )
    return np.asarray(numbers, dtype=np.float64)


def _classes(texts: Sequence[str], task: Task, order: Sequence[str]) -> Target:
    distinct = _ordered(set(texts), order)
    if task == "ordinal" and not order and numbers_of(distinct) is None:
        raise CohortError(
            f"--ordinal needs numeric grades, and the labels are {', '.join(distinct[:5])}",
            remedy="write the grades as 0, 1, 2 …, or say their order: --order low,mid,high",
        )
    if task == "binary" and len(distinct) != 2:
        raise CohortError(f"--task binary needs two classes, and there are {len(distinct)}", remedy="leave --task out")
    if task == "multiclass" and len(distinct) == 2:
        task = "binary"
    index = {text: code for code, text in enumerate(distinct)}
    return Target(task, np.asarray([index[text] for text in texts], dtype=np.intp), tuple(distinct))


#: How an event column says that the event was seen, and that it was not.
_SEEN = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def _time_and_event(text: str) -> tuple[float, float]:
    """ "12.5;1" """
    time, _, event = text.partition(";")
    numbers, seen = numbers_of([time]), _seen(event)
    if numbers is None or seen is None:
        raise CohortError(
            f"--task survival needs a time and an event, and {text!r} is none",
            remedy="--label names the column of the times, --event that of the events (1 seen, 0 censored)",
        )
    return numbers[0], seen


def _seen(event: str) -> float | None:
    """1 or 0, as tables write them ("1.0" where cells are missing); None for anything else."""
    number = numbers_of([event])
    return number[0] if number in ([0.0], [1.0]) else _SEEN.get(event.strip().lower())


def survival_target(outcome: npt.NDArray[np.generic]) -> Target:
    """Of (I, 2) times and events.

    Raises:
        CohortError: another shape, times that are not above 0, events other than 0 and 1, no event at all.
    """
    if outcome.ndim != 2 or outcome.shape[1] != 2:
        raise CohortError(f"survival labels of shape {outcome.shape}", remedy="one row (time, event) an item")
    truth = outcome.astype(np.float64)
    if not np.isfinite(truth).all() or (truth[:, 0] <= 0).any():
        raise CohortError("survival times must be numbers above 0", remedy="correct the column of the times")
    if not np.isin(truth[:, 1], (0, 1)).all():
        raise CohortError("events must be 1 (seen) or 0 (censored)", remedy="correct the column of the events")
    return Target("survival", truth, ())


def _ordered(classes: set[str], asked: Sequence[str]) -> list[str]:
    order = order_of(asked, classes)
    unknown = sorted(classes - set(order))
    if order and unknown:
        raise CohortError(f"--order leaves class {unknown[0]!r} out", remedy="name every class, or --drop-class it")
    if order:
        return [name for name in dict.fromkeys(order) if name in classes]
    numbers = numbers_of(sorted(classes))
    if numbers is None:
        return sorted(classes)
    return [text for _, text in sorted(zip(numbers, sorted(classes), strict=True))]


def _multilabel(texts: Sequence[str]) -> Target:
    sets = _label_sets(texts)
    names = sorted(set().union(*sets))
    truth = np.asarray([[name in labels for name in names] for labels in sets], dtype=np.intp)
    constant = [name for name, column in zip(names, truth.T, strict=True) if column.all()]
    if constant:
        raise CohortError(f"every item carries the label {constant[0]!r}: nothing can be learned about it")
    return Target("multilabel", truth, tuple(names))


def _label_sets(texts: Sequence[str]) -> list[set[str]]:
    """ "a|b" or "a;b" → {"a", "b"}; "none" → nothing."""
    return [{part.strip() for part in text.replace(";", "|").split("|")} - {"", "none", "None"} for text in texts]
