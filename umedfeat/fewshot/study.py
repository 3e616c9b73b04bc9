"""One study: divide, draw, fit, predict, score."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from itertools import groupby, product

import numpy as np

from umedfeat._version import __version__
from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.classifiers.fitting import Fitter, Predicted
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard
from umedfeat.fewshot.cohort.cohort import Cohort, FlowStep
from umedfeat.fewshot.cohort.confounding import confounding_notes
from umedfeat.fewshot.draws.draws import Draw, plan_draws
from umedfeat.fewshot.draws.splits import divide, refuse_leaks
from umedfeat.fewshot.evaluate import Evaluation, drops_between, evaluate
from umedfeat.fewshot.metrics.metrics import PRIMARY
from umedfeat.fewshot.metrics.significance import permutable, significance_of
from umedfeat.fewshot.parallel import in_order
from umedfeat.fewshot.result import Budget, Fold, Predictions, ProbeResult, Significance
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.small_tests import small_test_sets
from umedfeat.machine import usable_cores

__all__ = [
    "NO_PATIENTS",
    "Origin",
    "Progress",
    "Study",
    "flow_of",
    "plan_warnings",
    "predict",
    "run_study",
]

#: Called after each fitted draw with (done, total).
Progress = Callable[[int, int], None]
NO_PATIENTS = (
    "No patient information: every item is taken as its own patient. If patients have several items, the results are "
    "too good and the intervals too narrow."
)
_FOLDS_NOTE = (
    "Cross-validation tests on every patient, but the folds train on one another's patients (a hold-out has none of "
    "this)."
)
_NO_P = " P-values need --permutations."
#: Features from which on a few of them may carry too much.
_MANY_FEATURES = 100


@dataclass(frozen=True)
class Origin:
    """Where features and labels come from, for the record; ``weights`` and ``policy`` as in FeatureTable."""

    encoder: str = ""
    source: str = ""
    fingerprint: str = ""
    label: str = ""
    command: str = ""
    weights: str = ""
    policy: str = ""


@dataclass(frozen=True)
class Study:
    """A cohort with its folds, budgets and draws: all that is decided before anything is fitted."""

    cohort: Cohort
    settings: ProbeSettings
    folds: tuple[Fold, ...]
    budgets: tuple[Budget, ...]
    draws: tuple[Draw, ...]
    classifiers: tuple[str, ...]

    @cached_property
    def pools(self) -> list[Standard | None]:
        """Statistics of the unlabelled rows of each fold's pool, where they are asked for."""
        if self.settings.scale != "pool":
            return [None] * len(self.folds)
        cohort = self.cohort
        return [Standard.of(cohort.rows[cohort.rows_of(cohort.items_of(fold.pool))]) for fold in self.folds]

    @classmethod
    def plan(cls, cohort: Cohort, settings: ProbeSettings, *, twins: bool = False) -> Study:
        """Divide and draw. ``twins`` lets identical content stand on both sides (labels without meaning only).

        Raises:
            CohortError: the cohort cannot hold such a study.
            LeakageError: a patient or identical content would stand on both sides.
        """
        settings = settings.settled(cohort.meta)
        for column in settings.subgroups or ():
            if column not in cohort.meta:
                there = ", ".join(cohort.meta) or "none"
                raise CohortError(f"--subgroup {column}: there is no such column", remedy=f"columns: {there}")
        folds = divide(cohort, settings)
        for fold in folds:
            refuse_leaks(cohort, fold, twins=twins)
        budgets, draws = plan_draws(cohort, folds, settings)
        classifiers = _usable(cohort, settings)
        if settings.pool == "abmil":
            if cohort.bags is None:
                raise CohortError("attention pooling needs the tiles of a feature file", remedy="use probe_file")
            classifiers = (*classifiers, "abmil")
        return cls(cohort, settings, folds, budgets, draws, classifiers)


def _usable(cohort: Cohort, settings: ProbeSettings) -> tuple[str, ...]:
    """The classifiers that can learn such a target."""
    unable = {"regression": {"prototype"}, "survival": {"knn", "prototype"}}.get(cohort.task, set())
    found = tuple(name for name in settings.classifiers if name not in unable)
    if not found or (cohort.task == "survival" and settings.pool == "abmil"):
        raise CohortError(f"{', '.join(settings.classifiers)}: none for {cohort.task}", remedy="--classifier linear")
    return found


def run_study(
    cohort: Cohort, settings: ProbeSettings, origin: Origin, progress: Progress | None = None, jobs: int | None = None
) -> ProbeResult:
    """Run a whole study; see ``umedfeat.fewshot.probe``. ``jobs`` threads (all cores by default) change no number."""
    began = time.perf_counter()
    study = Study.plan(cohort, settings)
    jobs = jobs or usable_cores()
    predictions = predict(study, progress, jobs)
    evaluation = _evaluate_all(study, predictions, origin.encoder, jobs)
    primary = PRIMARY[cohort.task]
    return ProbeResult(
        encoder=origin.encoder,
        source=origin.source,
        fingerprint=origin.fingerprint,
        label=origin.label,
        task=cohort.task,
        positive=1 if cohort.task == "binary" else -1,
        primary=primary,
        settings=study.settings,
        command=origin.command,
        weights=origin.weights,
        policy=origin.policy,
        cohort=cohort,
        flow=(*cohort.flow, *flow_of(study)),
        folds=study.folds,
        budgets=study.budgets,
        draws=_named_draws(study),
        predictions=predictions,
        scores=evaluation.scores,
        estimates=evaluation.estimates,
        significance=_significance(study, predictions),
        drops=drops_between(evaluation.points, study.settings.confidence),
        warnings=(*plan_warnings(study), *_stuck(predictions)),
        versions=_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - began,
    )


def predict(study: Study, progress: Progress | None = None, jobs: int = 1) -> tuple[Predictions, ...]:
    """Fit every classifier on every draw and collect what it says about the test items."""
    cohort = study.cohort
    fitter = Fitter(
        cohort.rows,
        cohort.truth[cohort.row_item],
        cohort.patient[cohort.row_item],
        cohort.task,
        cohort.n_classes,
        study.settings,
        cohort.bags,
    )
    _ = study.pools  # computed once, before the threads ask
    pieces: list[_Piece] = []
    fits = list(product(study.draws, study.classifiers))
    for number, found in enumerate(in_order(lambda each: list(_fit(study, fitter, *each)), fits, jobs), start=1):
        pieces += found
        if progress is not None and number % len(study.classifiers) == 0:
            progress(number // len(study.classifiers), len(study.draws))
    return tuple(_collect(study, pieces))


@dataclass(frozen=True)
class _Piece:
    """What one fitted classifier says about one test set of one fold."""

    classifier: str
    budget: str
    test_set: str
    repeat: int
    items: Ints
    predicted: Predicted
    n_patients: int
    n_items: int
    per_class: Ints
    n_pool: int


def _fit(study: Study, fitter: Fitter, draw: Draw, classifier: str) -> Iterator[_Piece]:
    cohort, fold = study.cohort, study.folds[draw.fold]
    items = cohort.items_of(draw.patients)
    tests = {name: cohort.items_of(patients) for name, patients in fold.tests.items()}
    rows = [cohort.rows_of(test) for test in tests.values()]
    found = fitter.predict(cohort.rows_of(items), rows, [classifier], study.pools[draw.fold])[classifier]
    counts = (len(draw.patients), len(items), cohort.per_class(draw.patients), len(fold.pool))
    for (name, test), test_rows, predicted in zip(tests.items(), rows, found, strict=True):
        pooled = _over_rows(predicted, cohort.row_item[test_rows], test)
        yield _Piece(classifier, draw.budget, name, draw.repeat, test, pooled, *counts)


def _over_rows(predicted: Predicted, row_item: Ints, items: Ints) -> Predicted:
    """Average the predictions of an item's rows (tiles): the item is what is scored."""
    if len(row_item) == len(items):
        return predicted
    place = np.searchsorted(items, row_item)
    sums = np.zeros((len(items), predicted.values.shape[1]))
    np.add.at(sums, place, predicted.values)
    return Predicted(sums / np.bincount(place, minlength=len(items))[:, None], predicted.chosen, predicted.converged)


def _collect(study: Study, pieces: Iterable[_Piece]) -> Iterator[Predictions]:
    """Join the folds of each repeat and stack the repeats; in the order classifier, budget, test set."""
    rank = {name: place for place, name in enumerate(study.classifiers)}
    budget_rank = {budget.name: place for place, budget in enumerate(study.budgets)}
    tests = list(dict.fromkeys(name for fold in study.folds for name in fold.tests))

    def key(piece: _Piece) -> tuple[int, int, int]:
        return rank[piece.classifier], budget_rank[piece.budget], tests.index(piece.test_set)

    for _, group in groupby(sorted(pieces, key=key), key=key):
        repeats: dict[int, list[_Piece]] = {}
        for piece in group:
            repeats.setdefault(piece.repeat, []).append(piece)
        yield _stack([repeats[number] for number in sorted(repeats)], study.settings.threshold)


def _stack(repeats: Sequence[Sequence[_Piece]], threshold: float) -> Predictions:
    first = repeats[0][0]
    items = np.concatenate([piece.items for piece in repeats[0]])
    values, folds = [], []
    for pieces in repeats:
        order = np.argsort(np.concatenate([piece.items for piece in pieces]), kind="stable")
        values.append(np.concatenate([piece.predicted.values for piece in pieces])[order])
        folds.append(np.repeat(np.arange(len(pieces)), [len(piece.items) for piece in pieces])[order])
    return Predictions(
        classifier=first.classifier,
        budget=first.budget,
        test_set=first.test_set,
        items=np.sort(items),
        values=np.asarray(values, dtype=np.float32),
        chosen=tuple("; ".join(dict.fromkeys(p.predicted.chosen for p in pieces)) for pieces in repeats),
        converged=np.asarray([all(p.predicted.converged for p in pieces) for pieces in repeats]),
        n_train_patients=np.asarray([np.mean([p.n_patients for p in pieces]) for pieces in repeats]),
        n_train_items=np.asarray([np.mean([p.n_items for p in pieces]) for pieces in repeats]),
        n_per_class=np.stack([np.mean([p.per_class for p in pieces], axis=0) for pieces in repeats]),
        threshold=threshold,
        fold=np.stack(folds) if len(repeats[0]) > 1 else None,
        n_pool=first.n_pool,
    )


def _evaluate_all(study: Study, predictions: Sequence[Predictions], encoder: str, jobs: int) -> Evaluation:
    budgets = {budget.name: budget for budget in study.budgets}

    def work(part: Predictions) -> Evaluation:
        return evaluate(study.cohort, part, budgets[part.budget], encoder, study.settings)

    parts = list(in_order(work, predictions, jobs))
    return Evaluation(
        tuple(score for part in parts for score in part.scores),
        tuple(estimate for part in parts for estimate in part.estimates),
        {key: point for part in parts for key, point in part.points.items()},
    )


def _significance(study: Study, predictions: Sequence[Predictions]) -> tuple[Significance, ...]:
    """Of predictions by classifiers that no test patient has trained."""
    found = [significance_of(study.cohort, p, study.settings) for p in predictions if p.fold is None]
    return tuple(each for each in found if each is not None)


def flow_of(study: Study) -> list[FlowStep]:
    """From the labelled items to pool and tests."""
    cohort = study.cohort
    steps = [FlowStep("in the study", len(cohort.ids), cohort.n_patients)]
    if study.settings.cv:
        return [
            *steps,
            FlowStep(f"tested out of fold ({study.settings.cv} folds)", len(cohort.ids), cohort.n_patients),
        ]
    for fold in study.folds:
        suffix = f" ({fold.name})" if len(study.folds) > 1 else ""
        for name, patients in {f"training pool{suffix}": fold.pool, **fold.tests}.items():
            steps.append(FlowStep(name, len(cohort.items_of(patients)), len(patients)))
    return steps


def _named_draws(study: Study) -> dict[str, dict[str, tuple[tuple[str, ...], ...]]]:
    named: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {}
    for draw in study.draws:
        of_fold = named.setdefault(study.folds[draw.fold].name, {})
        of_fold[draw.budget] = (*of_fold.get(draw.budget, ()), tuple(study.cohort.names[draw.patients].tolist()))
    return named


def plan_warnings(study: Study) -> list[str]:
    """What a reader must know before anything is fitted."""
    cohort = study.cohort
    found = list(cohort.warnings)
    if not cohort.patients_known:
        found.append(NO_PATIENTS)
    found += confounding_notes(cohort)
    found += _left_over(study)
    found += [budget.note for budget in study.budgets if budget.note]
    found += _few_features(study)
    lost = [name for name in study.settings.classifiers if name not in study.classifiers]
    if lost:
        found.append(f"Left out of the {cohort.task} study, which it cannot learn: {', '.join(lost)}.")
    if study.settings.cv:
        found.append(_FOLDS_NOTE + _NO_P * (not study.settings.permutations and permutable(cohort)))
    return [*found, *small_test_sets(cohort, study.folds if not study.settings.cv else ())]


def _left_over(study: Study) -> list[str]:
    """Patients whom a split column or earlier splits put on neither side."""
    cohort, settings = study.cohort, study.settings
    used = [patients for fold in study.folds for patients in (fold.pool, *fold.tests.values())]
    lost = np.setdiff1d(np.arange(cohort.n_patients), np.concatenate(used))
    if settings.train or not len(lost):
        return []
    marked = sorted(set(cohort.meta[settings.split][cohort.items_of(lost)].tolist())) if settings.split else []
    why = f" ({settings.split}: {', '.join(value or 'empty' for value in marked)})" if marked else ""
    some = "patient is" if len(lost) == 1 else "patients are"
    return [f"{len(lost)} {some} neither in training nor in test{why}."]


def _few_features(study: Study) -> list[str]:
    """Where a few features carry most of the variance, rows of unit length hardly show the others."""
    rows = study.cohort.embedding
    if study.settings.scale != "unit" or rows.shape[1] < _MANY_FEATURES or "linear" not in study.classifiers:
        return []
    ready = Scaler.of(rows).apply(rows)
    shares = np.cumsum(np.sort(ready.var(axis=0))[::-1])
    few = int(np.searchsorted(shares, 0.5 * shares[-1])) + 1
    if few > rows.shape[1] // 100:
        return []
    return [
        f"{few} of {rows.shape[1]} features carry half of the variance: the linear probe hardly sees the others; "
        f"--scale pool gives every feature the same weight."
    ]


def _stuck(predictions: Sequence[Predictions]) -> list[str]:
    stuck = sum(int((~p.converged).sum()) for p in predictions)
    return [f"{stuck} fits stopped at the iteration limit (column converged of results.csv)."] if stuck else []


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("numpy", "scipy", "scikit-learn")}
    return {"umedfeat": __version__, "python": platform.python_version(), **packages}
