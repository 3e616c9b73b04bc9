"""The labelled patients of a study: who belongs together, which classes they carry, what makes no study of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from umedfeat.errors import CohortError, LeakageError
from umedfeat.fewshot.classifiers.attention import Bags
from umedfeat.fewshot.cohort.labels import MISSING, Target, as_text, encode
from umedfeat.fewshot.result import CohortTable, FlowStep
from umedfeat.fewshot.settings import ProbeSettings, Task

__all__ = ["Cohort", "build_cohort", "refuse_overlap", "refuse_twins", "relabelled"]

_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Cohort:
    """A study's patients, items and rows.

    Attributes:
        table: the items.
        task: of the target.
        rows: (N, D) float32, what a classifier sees: one row per item, tile or patient.
        row_item: (N,) item of each row.
        patient: (I,) patient number of each item. names: (P,) pseudonyms by number.
        carries: (P, C) which classes occur among a patient's items; for multilabel (P, 2 L): each label's presence and
            absence; for regression quartiles of the patient's mean.
        stratum: (P,) the patient's own class: of mixed patients the class with the fewest carriers.
        content: (I,) identity of the content, "" where unknown.
        flow: how many items and patients were left out before.
        bags: the tiles of each item, for attention pooling alone.
    """

    table: CohortTable
    task: Task
    rows: npt.NDArray[np.float32]
    row_item: npt.NDArray[np.intp]
    patient: npt.NDArray[np.intp]
    names: npt.NDArray[np.str_]
    carries: npt.NDArray[np.bool_]
    stratum: npt.NDArray[np.intp]
    content: npt.NDArray[np.str_]
    flow: tuple[FlowStep, ...]
    warnings: tuple[str, ...] = ()
    bags: Bags | None = None

    @property
    def n_patients(self) -> int:
        return len(self.names)

    @property
    def n_classes(self) -> int:
        """Width of a prediction: classes, labels, or 1 for regression."""
        return len(self.table.classes) or 1

    @property
    def requirement_names(self) -> tuple[str, ...]:
        """Names of the columns of ``carries``, for messages."""
        if self.task == "regression":
            return tuple(f"quartile {q + 1}" for q in range(self.carries.shape[1]))
        if self.task == "multilabel":
            return tuple(f"{sign} {name}" for name in self.table.classes for sign in ("with", "without"))
        return self.table.classes

    def per_class(self, patients: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """(C,) how many of some patients carry each class or label; (0,) for regression."""
        counts = self.carries[patients].sum(axis=0)
        return np.asarray(counts[::2] if self.task == "multilabel" else counts[: len(self.table.classes)])

    def items_of(self, patients: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Item indices of some patients, ascending."""
        return np.flatnonzero(np.isin(self.patient, patients))

    def rows_of(self, items: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Row indices of some items, ascending."""
        return np.flatnonzero(np.isin(self.row_item, items))


def build_cohort(
    rows: npt.NDArray[np.float32],
    row_item: npt.NDArray[np.intp],
    labels: Sequence[object] | npt.NDArray[np.generic],
    settings: ProbeSettings,
    *,
    ids: Sequence[str],
    patients: Sequence[str] | None = None,
    meta: Mapping[str, Sequence[str]] | None = None,
    content: Sequence[str] | None = None,
    flow: tuple[FlowStep, ...] = (),
) -> Cohort:
    """Build the study's cohort out of complete labels and check that it is one.

    Args:
        rows: (N, D) features. row_item: (N,) index into the items.
        labels: (I,) one per item (an (I, L) 0/1 matrix for multilabel).
        patients: (I,) patient of each item; "" or None takes the item as its own patient.

    Raises:
        CohortError: missing or constant labels, patients in two classes, a class with one patient, bad features.
    """
    ids_ = np.asarray(ids, dtype=np.str_)
    known, patients_ = _patients(ids_, patients)
    target = _target(labels, settings, ids_)
    names, patient = np.unique(patients_, return_inverse=True)
    table = CohortTable(
        ids=ids_,
        patients=patients_,
        patients_known=known,
        truth=target.truth,
        classes=target.classes,
        meta={name: np.asarray(column, dtype=np.str_) for name, column in (meta or {}).items()},
        embedding=_pooled(rows, row_item, len(ids_)),
    )
    _refuse_bad_features(rows, row_item, ids_)
    carries = _carries(target, patient, len(names))
    if settings.label_of == "patient":
        _refuse_mixed(target, patient, names, carries)
    cohort = Cohort(
        table=table,
        task=target.task,
        rows=rows,
        row_item=row_item,
        patient=patient,
        names=names,
        carries=carries,
        stratum=_strata(carries, target.task),
        content=np.asarray(content if content is not None else [""] * len(ids_), dtype=np.str_),
        flow=flow,
    )
    _refuse_thin_classes(cohort)
    return _as_unit(cohort, settings)


def _patients(ids: npt.NDArray[np.str_], patients: Sequence[str] | None) -> tuple[bool, npt.NDArray[np.str_]]:
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


def _target(
    labels: Sequence[object] | npt.NDArray[np.generic], settings: ProbeSettings, ids: npt.NDArray[np.str_]
) -> Target:
    matrix = np.asarray(labels)
    if matrix.ndim == 2:
        names = tuple(str(column) for column in range(matrix.shape[1]))
        return Target("multilabel", (matrix > 0).astype(np.intp), names)
    texts = as_text(labels)
    if len(texts) != len(ids):
        raise CohortError(f"{len(texts)} labels for {len(ids)} items")
    missing = [name for name, text in zip(ids, texts, strict=True) if text.lower() in MISSING]
    if missing and settings.task != "multilabel":
        raise CohortError(
            f"{len(missing)} of {len(texts)} items have no label, {str(missing[0])!r} among them",
            remedy="fill the label column, or leave these items out with --unmatched skip",
        )
    return encode(texts, settings.task)


def _pooled(rows: npt.NDArray[np.float32], row_item: npt.NDArray[np.intp], n_items: int) -> npt.NDArray[np.float32]:
    if len(rows) == n_items and np.array_equal(row_item, np.arange(n_items)):
        return rows
    sums = np.zeros((n_items, rows.shape[1]))
    np.add.at(sums, row_item, rows)
    return (sums / np.maximum(np.bincount(row_item, minlength=n_items), 1)[:, None]).astype(np.float32)


def _refuse_bad_features(
    rows: npt.NDArray[np.float32], row_item: npt.NDArray[np.intp], ids: npt.NDArray[np.str_]
) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        name = ids[row_item[np.flatnonzero(bad)[0]]]
        raise CohortError(f"{name}: its features hold NaN or infinite values", remedy="umedfeat verify tells more")


def _carries(target: Target, patient: npt.NDArray[np.intp], n_patients: int) -> npt.NDArray[np.bool_]:
    if target.task == "regression":
        return _quartiles(target.truth.astype(np.float64), patient, n_patients)
    if target.task == "multilabel":
        both = np.stack([target.truth == 1, target.truth == 0], axis=-1).reshape(len(target.truth), -1)
    else:
        both = np.equal.outer(target.truth, np.arange(len(target.classes)))
    carries = np.zeros((n_patients, both.shape[1]), dtype=bool)
    np.logical_or.at(carries, patient, both)
    return carries


def _quartiles(truth: npt.NDArray[np.float64], patient: npt.NDArray[np.intp], n_patients: int) -> npt.NDArray[np.bool_]:
    means = np.bincount(patient, truth, n_patients) / np.bincount(patient, minlength=n_patients)
    bins = np.searchsorted(np.unique(np.quantile(means, _QUARTILES)), means, side="left")
    return np.asarray(np.equal.outer(bins, np.unique(bins)))


def _strata(carries: npt.NDArray[np.bool_], task: Task) -> npt.NDArray[np.intp]:
    """The rarest class each patient carries (for multilabel: among the labels present, "none" where there is none)."""
    usable = carries[:, ::2] if task == "multilabel" else carries
    rarity = np.where(usable, usable.sum(axis=0), usable.size + 1)
    stratum = rarity.argmin(axis=1)
    return np.asarray(np.where(usable.any(axis=1), stratum, usable.shape[1]), dtype=np.intp)


def _refuse_mixed(
    target: Target, patient: npt.NDArray[np.intp], names: npt.NDArray[np.str_], carries: npt.NDArray[np.bool_]
) -> None:
    if target.task in ("regression", "multilabel"):
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
    for name, count in zip(cohort.requirement_names, counts, strict=True):
        if count < 2:
            raise CohortError(
                f"class {name!r} has {count} patient{'' if count == 1 else 's'}: it cannot stand in training and test",
                remedy="add patients of this class, or leave it out of the labels",
            )


def _as_unit(cohort: Cohort, settings: ProbeSettings) -> Cohort:
    """Pool items into patients where the patient is the unit; labels must then belong to patients."""
    if settings.unit != "patient" or cohort.n_patients == len(cohort.table.ids):
        return cohort
    if settings.label_of == "item":
        raise CohortError("--unit patient needs one label per patient", remedy="leave --label-of item out")
    first = np.unique(cohort.patient, return_index=True)[1]
    truth = cohort.table.truth[first]
    if cohort.task == "regression":
        sums = np.bincount(cohort.patient, cohort.table.truth.astype(np.float64))
        truth = sums / np.bincount(cohort.patient)
    rows = _pooled(cohort.table.embedding, cohort.patient, cohort.n_patients)
    table = replace(
        cohort.table,
        ids=cohort.names,
        patients=cohort.names,
        truth=truth,
        meta={name: column[first] for name, column in cohort.table.meta.items()},
        embedding=rows,
    )
    everyone = np.arange(cohort.n_patients)
    step = FlowStep("pooled into patients", cohort.n_patients, cohort.n_patients)
    return replace(
        cohort,
        table=table,
        rows=rows,
        row_item=everyone,
        patient=everyone,
        content=np.asarray([""] * cohort.n_patients),
        flow=(*cohort.flow, step),
    )


def relabelled(cohort: Cohort, truth: npt.NDArray[np.generic]) -> Cohort:
    """The same patients and features with other labels of the same kind (for permutation checks)."""
    carries = _carries(Target(cohort.task, truth, cohort.table.classes), cohort.patient, cohort.n_patients)
    return replace(
        cohort,
        table=replace(cohort.table, truth=truth),
        carries=carries,
        stratum=_strata(carries, cohort.task),
    )


def refuse_overlap(cohort: Cohort, pool: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> None:
    """Refuse patients on both sides.

    Args:
        pool, test: item indices.

    Raises:
        LeakageError: listing the patients.
    """
    overlap = np.intersect1d(cohort.patient[pool], cohort.patient[test])
    if len(overlap):
        raise LeakageError(
            f"{len(overlap)} patients stand in training and in test: {_some(cohort.names[overlap])}",
            remedy="correct the split so that each patient is on one side",
        )


def refuse_twins(cohort: Cohort, pool: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> None:
    """Refuse identical content in pool and test (same sha256, or bit-identical embeddings).

    Args:
        pool, test: item indices.

    Raises:
        LeakageError: listing the pairs.
    """
    pairs = _twins(cohort, pool, test)
    if pairs:
        shown = _some([f"{a} = {b}" for a, b in pairs])
        raise LeakageError(
            f"{len(pairs)} items of different patients have identical content in training and in test: {shown}",
            remedy="remove the copies, or give both the same patient",
        )


def _twins(cohort: Cohort, pool: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> list[tuple[str, str]]:
    ids = cohort.table.ids
    seen = {key: ids[item] for item in pool for key in _keys(cohort, item)}
    pairs = {}
    for item in test:
        for key in _keys(cohort, item):
            if key in seen:
                pairs[ids[item]] = seen[key]
    return [(str(twin), str(item)) for item, twin in pairs.items()]


def _keys(cohort: Cohort, item: int) -> tuple[object, ...]:
    embedding = cohort.table.embedding[item].tobytes()
    content = str(cohort.content[item])
    return (embedding, content) if content else (embedding,)


def _some(names: Sequence[str] | npt.NDArray[np.str_], limit: int = 10) -> str:
    return ", ".join(map(str, names[:limit])) + (" …" if len(names) > limit else "")
