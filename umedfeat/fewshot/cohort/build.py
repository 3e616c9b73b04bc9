"""Labels and features become a cohort; what makes no study of them is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Bools, Floats, Floats32, Ints, Rows, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort, FlowStep
from umedfeat.fewshot.cohort.doubts import doubts
from umedfeat.fewshot.cohort.labels import MISSING, Target, as_text, encode, encode_known, survival_target
from umedfeat.fewshot.cohort.selection import order_of
from umedfeat.fewshot.cohort.twins import find_twins, screened
from umedfeat.fewshot.settings import ProbeSettings, Task
from umedfeat.naming import printable

__all__ = ["build_cohort", "build_known", "in_range", "range_exponent", "refuse_shapes", "relabelled"]

_QUARTILES = (0.25, 0.5, 0.75)
#: Classes of one patient from which on the column may hold names or values.
_MANY_THIN = 3
#: Share of the items above which a single patient is pointed out.
_MOST_OF_ALL = 0.5
#: Largest features between these are left as they are.
_LEAST, _MOST = 1e-6, 1e6


def build_cohort(
    rows: Floats32,
    row_item: Ints,
    labels: Sequence[object] | npt.NDArray[np.generic],
    settings: ProbeSettings,
    *,
    ids: Sequence[str],
    patients: Sequence[str] | None = None,
    meta: Mapping[str, Sequence[str]] | None = None,
    content: Sequence[str] | None = None,
    flow: tuple[FlowStep, ...] = (),
    facts: Mapping[str, Texts] | None = None,
) -> Cohort:
    """Build the study's cohort out of complete labels and check that it is one.

    Args:
        rows: (N, D) features. row_item: (N,) index into the items.
        labels: (I,) one per item (an (I, L) 0/1 matrix for multilabel).
        patients: (I,) patient of each item; "" or None takes the item as its own patient.

    Raises:
        CohortError: missing or constant labels, patients in two classes, a class with one patient, bad features,
            columns of different lengths, an id that is there twice.
    """
    refuse_shapes(ids, {"labels": labels, "patients": patients, "content": content, **(meta or {})})
    ids_ = np.asarray(ids, dtype=np.str_)
    target = _target(labels, settings, ids_)
    cohort = _assembled(rows, row_item, target, settings, ids_, patients, meta, content)
    _refuse_thin_classes(cohort)
    return _as_unit(replace(cohort, flow=flow, facts=dict(facts or {})), settings)


def build_known(
    rows: Floats32,
    labels: Sequence[str],
    classes: tuple[str, ...],
    settings: ProbeSettings,
    *,
    ids: Sequence[str],
    patients: Sequence[str] | None,
    meta: Mapping[str, Sequence[str]],
    content: Sequence[str],
    flow: tuple[FlowStep, ...],
) -> Cohort:
    """The same for a classifier that is there already: its task (of the settings) and its classes, however few
    patients carry them.

    Args:
        rows: (I, D), one per item.

    Raises:
        CohortError: a label it does not know, patients in two classes, bad features.
    """
    target = encode_known(labels, settings.task, classes)  # type: ignore[arg-type]
    ids_ = np.asarray(ids, dtype=np.str_)
    cohort = _assembled(rows, np.arange(len(ids_)), target, settings, ids_, patients, meta, content)
    return _as_unit(replace(cohort, flow=flow), settings)


def _assembled(
    rows: Floats32,
    row_item: Ints,
    target: Target,
    settings: ProbeSettings,
    ids: Texts,
    patients: Sequence[str] | None,
    meta: Mapping[str, Sequence[str]] | None,
    content: Sequence[str] | None,
) -> Cohort:
    """Patients by number, who carries what, which items are one image."""
    known, patients_ = _patients(ids, patients)
    names, patient = np.unique(patients_, return_inverse=True)
    _refuse_bad_features(rows, row_item, ids)
    exponent = range_exponent(rows)
    rows = in_range(rows).astype(np.float32, copy=False)
    carries = _carries(target, patient, len(names))
    if settings.label_of == "patient":
        _refuse_mixed(target, patient, names, carries)
    embedding = _pooled(rows, row_item, len(ids))
    hashes = np.asarray(content if content is not None else [""] * len(ids), dtype=np.str_)
    twins = find_twins(embedding, hashes)
    return Cohort(
        ids=ids,
        patient=patient,
        names=names,
        patients_known=known,
        task=target.task,
        truth=target.truth,
        classes=target.classes,
        meta={name: _shown(np.asarray(column, dtype=np.str_)) for name, column in (meta or {}).items()},
        embedding=embedding,
        rows=rows,
        row_item=row_item,
        carries=carries,
        stratum=_strata(carries, target.task),
        exponent=exponent,
        twins=tuple((int(patient[a]), int(patient[b]), str(ids[a]), str(ids[b])) for a, b in twins.identical),
        warnings=(*_notes(target, settings, patient, names), *screened(twins, ids, patient, target)),
    )


def _shown(column: Texts) -> Texts:
    """(I,) values that terminal, page and table can show."""
    values, place = np.unique(column, return_inverse=True)
    return np.asarray([printable(value) for value in values.tolist()], dtype=np.str_)[place]


def in_range(rows: Rows) -> Rows:
    """Rows whose squares float32 can hold: where it cannot, all are divided by one power of two, which no classifier
    notices."""
    exponent = range_exponent(rows)
    return np.ldexp(rows, -exponent) if exponent else rows


def range_exponent(rows: Rows) -> int:
    """Exponent of the power of two that brings rows into a range whose squares float32 can hold; 0 where they are."""
    peak = float(np.abs(rows).max(initial=0.0))
    if not np.isfinite(peak) or peak == 0 or _LEAST < peak < _MOST:
        return 0
    return int(np.frexp(peak)[1])


def refuse_shapes(ids: Sequence[str], columns: Mapping[str, Any]) -> None:
    """Refuse columns that do not go with the items, and ids that do not tell them apart.

    Raises:
        CohortError: naming the column and its length, or the id.
    """
    for name, column in columns.items():
        if column is not None and len(column) != len(ids):
            raise CohortError(f"{len(column)} {name} for {len(ids)} items", remedy="give one for each item")
    twice = [name for name, count in Counter(map(str, ids)).items() if count > 1]
    if twice:
        raise CohortError(
            f"{len(twice)} ids are there more than once, {twice[0]!r} among them", remedy="name each once"
        )


def _notes(target: Target, settings: ProbeSettings, patient: Ints, names: Texts) -> list[str]:
    """What looks wrong and need not be."""
    found = doubts(target)
    absent = [name for name in order_of(settings.order, target.classes) if name not in target.classes]
    if absent:
        found.append(f"Nobody carries {', '.join(map(repr, absent))}: left out of the classes.")
    counts = np.bincount(patient)
    if len(names) > 2 and counts.max() > _MOST_OF_ALL * len(patient) and counts.max() > 1:
        found.append(
            f"Patient {names[counts.argmax()]} has {counts.max()} of the {len(patient)} items: what is learned and "
            "tested on items is that patient."
        )
    return found


def _patients(ids: Texts, patients: Sequence[str] | None) -> tuple[bool, Texts]:
    if patients is None:
        return False, ids
    given = np.asarray([text if text.lower() not in MISSING else "" for text in as_text(patients)], dtype=np.str_)
    if not (given != "").any():
        return False, ids
    missing = given == ""
    if missing.any():
        raise CohortError(
            f"{int(missing.sum())} of {len(ids)} items have no patient, {str(ids[missing][0])!r} among them",
            remedy="fill the patient column, or take every item as its own patient with --patient none",
        )
    return True, given


def _target(labels: Sequence[object] | npt.NDArray[np.generic], settings: ProbeSettings, ids: Texts) -> Target:
    matrix = np.asarray(labels)
    if settings.task == "survival" and matrix.ndim == 2:
        return survival_target(matrix)
    if matrix.ndim == 2:
        return _label_matrix(matrix, ids)
    texts = as_text(labels)
    missing = [name for name, text in zip(ids, texts, strict=True) if text.lower() in MISSING]
    if missing:
        raise CohortError(
            f"{len(missing)} of {len(texts)} items have no label ({_cells(texts)} count as none), {str(missing[0])!r} "
            "among them",
            remedy="fill the label column ('none' where none of several labels applies), or leave these items out with "
            "--unmatched skip",
        )
    return encode(texts, settings.task, settings.order)


def _cells(texts: Sequence[str]) -> str:
    return ", ".join(sorted({repr(text) for text in texts if text.lower() in MISSING}))


def _label_matrix(matrix: npt.NDArray[np.generic], ids: Texts) -> Target:
    """Several labels as a 0/1 matrix. A label that nobody looked for is no absent label: such items are refused."""
    if len(matrix) != len(ids):
        raise CohortError(f"{len(matrix)} rows of labels for {len(ids)} items")
    known = np.isin(matrix, (0, 1))
    if not known.all():
        item, column = np.argwhere(~known)[0]
        value = matrix[item, column]
        raise CohortError(
            f"item {ids[item]!s}: label {column} is {value!s}, and labels of a matrix are 0 (absent) or 1 (present); "
            f"{int((~known).any(axis=1).sum())} items have other values",
            remedy="leave items out whose labels are not known, or study one label at a time",
        )
    return Target("multilabel", matrix.astype(np.intp), tuple(str(column) for column in range(matrix.shape[1])))


def _pooled(rows: Floats32, row_item: Ints, n_items: int) -> Floats32:
    if len(rows) == n_items and np.array_equal(row_item, np.arange(n_items)):
        return rows
    sums = np.zeros((n_items, rows.shape[1]))
    np.add.at(sums, row_item, rows)
    return (sums / np.maximum(np.bincount(row_item, minlength=n_items), 1)[:, None]).astype(np.float32)


def _refuse_bad_features(rows: Floats32, row_item: Ints, ids: Texts) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        name = ids[row_item[np.flatnonzero(bad)[0]]]
        raise CohortError(f"{name}: its features hold NaN or infinite values", remedy="umedfeat verify tells more")


def _carries(target: Target, patient: Ints, n_patients: int) -> Bools:
    if target.task == "regression":
        return _quartiles(target.truth.astype(np.float64), patient, n_patients)
    if target.task == "survival":
        both = np.equal.outer(target.truth[:, 1], (0, 1))
        if len(set(patient[both[:, 0]].tolist())) < 2:  # nobody need be censored, and one cannot stand on both sides
            both = np.ones((len(patient), 1), dtype=bool)
    elif target.task == "multilabel":
        both = np.stack([target.truth == 1, target.truth == 0], axis=-1).reshape(len(target.truth), -1)
    else:
        both = np.equal.outer(target.truth, np.arange(len(target.classes)))
    carries = np.zeros((n_patients, both.shape[1]), dtype=bool)
    np.logical_or.at(carries, patient, both)
    return carries


def _quartiles(truth: Floats, patient: Ints, n_patients: int) -> Bools:
    means = np.bincount(patient, truth, n_patients) / np.bincount(patient, minlength=n_patients)
    bins = np.searchsorted(np.unique(np.quantile(means, _QUARTILES)), means, side="left")
    return np.asarray(np.equal.outer(bins, np.unique(bins)))


def _strata(carries: Bools, task: Task) -> Ints:
    """The rarest class each patient carries (for multilabel: among the labels present, "none" where there is none)."""
    usable = carries[:, ::2] if task == "multilabel" else carries
    rarity = np.where(usable, usable.sum(axis=0), usable.size + 1)
    stratum = rarity.argmin(axis=1)
    return np.asarray(np.where(usable.any(axis=1), stratum, usable.shape[1]), dtype=np.intp)


def _refuse_mixed(target: Target, patient: Ints, names: Texts, carries: Bools) -> None:
    if target.task == "survival":
        first = np.unique(patient, return_index=True)[1]
        torn = np.flatnonzero((target.truth != target.truth[first][patient]).any(axis=1))
        if len(torn):
            name = names[patient[torn[0]]]
            raise CohortError(f"{name}: its items have different times or events", remedy="give one outcome a patient")
    if target.task in ("regression", "multilabel", "survival"):
        return
    mixed = np.flatnonzero(carries.sum(axis=1) > 1)
    if len(mixed):
        first = mixed[0]
        classes = " and ".join(name for name, has in zip(target.classes, carries[first], strict=True) if has)
        raise CohortError(
            f"{len(mixed)} of {len(names)} patients stand in two classes: {names[first]} is {classes}",
            remedy="correct the labels, or say --label-of item where labels belong to cells, regions or lesions",
        )


def _refuse_thin_classes(cohort: Cohort) -> None:
    if cohort.task == "regression":
        if cohort.n_patients < 4:
            raise CohortError(f"{cohort.n_patients} patients are too few for a regression study (at least 4)")
        return
    counts = cohort.carries.sum(axis=0)
    thin = int((counts < 2).sum())
    if thin > _MANY_THIN:
        rarest = cohort.requirement_names[counts.argmin()]
        raise CohortError(
            f"{thin} of {len(counts)} classes have fewer than 2 patients, {rarest!r} among them: "
            "they cannot stand in training and test",
            remedy="choose another column with --label, or --merge or --drop-class them; values: --task regression",
        )
    for name, count in zip(cohort.requirement_names, counts, strict=True):
        if count < 2:
            raise CohortError(
                f"class {name!r} has {count} patient{'' if count == 1 else 's'}: it cannot stand in training and test",
                remedy="add patients of this class, or leave it out of the labels",
            )


def _as_unit(cohort: Cohort, settings: ProbeSettings) -> Cohort:
    """Pool items into patients where the patient is the unit; labels must then belong to patients."""
    if settings.unit != "patient" or cohort.n_patients == len(cohort.ids):
        return cohort
    if settings.label_of == "item":
        raise CohortError("--unit patient needs one label per patient", remedy="leave --label-of item out")
    first = np.unique(cohort.patient, return_index=True)[1]
    truth = cohort.truth[first]
    if cohort.task == "multilabel":
        torn = (cohort.truth != truth[cohort.patient]).any(axis=1)
        if torn.any():
            raise CohortError(
                f"--unit patient: the items of {cohort.patients[torn][0]} carry different labels",
                remedy="give all of a patient's items the labels that any of them has, or leave --unit out",
            )
    if cohort.task == "regression":
        truth = np.bincount(cohort.patient, cohort.truth.astype(np.float64)) / np.bincount(cohort.patient)
    rows = _pooled(cohort.embedding, cohort.patient, cohort.n_patients)
    everyone = np.arange(cohort.n_patients)
    meta = {name: _of_patients(column, cohort.patient) for name, column in cohort.meta.items()}
    several = {name: np.flatnonzero(column != cohort.meta[name][first]) for name, column in meta.items()}
    return replace(
        cohort,
        ids=cohort.names,
        patient=everyone,
        truth=truth,
        meta=meta,
        torn={name: str(cohort.names[torn[0]]) for name, torn in several.items() if len(torn)},
        facts={name: column[first] for name, column in cohort.facts.items()},
        embedding=rows,
        rows=rows,
        row_item=everyone,
        flow=(*cohort.flow, FlowStep("pooled into patients", cohort.n_patients, cohort.n_patients)),
    )


def _of_patients(column: Texts, patient: Ints) -> Texts:
    """(P,) the value of each patient; all of them, "A and B", where its items differ."""
    found: list[set[str]] = [set() for _ in range(int(patient.max()) + 1)]
    for number, value in zip(patient.tolist(), column.tolist(), strict=True):
        found[number].add(value)
    return np.asarray(
        [" and ".join(sorted(value or "missing" for value in own)) if len(own) > 1 else own.pop() for own in found],
        dtype=np.str_,
    )


def relabelled(cohort: Cohort, truth: npt.NDArray[np.generic]) -> Cohort:
    """The same patients and features with other labels of the same kind (for permutation checks)."""
    carries = _carries(Target(cohort.task, truth, cohort.classes), cohort.patient, cohort.n_patients)
    return replace(cohort, truth=truth, carries=carries, stratum=_strata(carries, cohort.task))
