"""How fast is a study? Ours against a plain scikit-learn loop doing the same work.

    python benchmarks/probe.py                 10,000 items x 768, 3 classes, default fractions and repeats
    python benchmarks/probe.py --part plain --fractions 0.5
    python benchmarks/probe.py --tiles 100000  --unit tile: time and peak memory

The plain loop is timed on one draw per fraction and multiplied by the number of draws; its bootstrap is timed on a few
resamplings of one prediction and multiplied by their number. Both multiplications are said in the output. Processor
seconds are compared: wall seconds depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Collection, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.settings import FRACTIONS, KNN_NEIGHBOURS, LOGISTIC_C, ProbeSettings
from umedfeat.fewshot.study import Origin, Study, run_study

DIM, CLASSES = 768, 3


def features(items: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features with a falling spectrum and an offset, as encoders give; classes overlap; patients share variance."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), items // patients)
    label = (np.arange(patients) % CLASSES)[patient]
    scale = 5 / np.sqrt(1 + np.arange(DIM))
    own, rows = 0.5 * rng.normal(size=(patients, DIM)), rng.normal(size=(items, DIM))
    shift, offset = 0.12 * rng.normal(size=(CLASSES, DIM)), rng.normal(size=DIM)
    found = np.empty((items, DIM), dtype=np.float32)
    for start in range(0, items, 1000):  # the peak of memory is to be that of the study
        part = slice(start, start + 1000)
        found[part] = (own[patient[part]] + rows[part] + shift[label[part]]) * scale + offset
    return found, label, patient


def cohort_of(items: int, patients: int, settings: ProbeSettings, row_item: np.ndarray | None = None) -> Cohort:
    rows, label, patient = features(items, patients)
    owner = np.arange(items) if row_item is None else row_item
    first = np.unique(owner, return_index=True)[1]
    ids = [f"i{k:06d}" for k in range(len(first))]
    names = [f"p{k:05d}" for k in patient[first]]
    return build_cohort(rows, owner, label[first], settings, ids=ids, patients=names)


class Clock:
    """Wall and processor seconds since it was made; processor seconds hardly change on a busy machine."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __call__(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def plain_loop(cohort: Cohort, study: Study, fractions: Collection[float]) -> None:
    """The loop that everybody writes, extrapolated to all draws."""
    test = cohort.items_of(study.folds[0].tests["test"])
    chances, total = np.empty(0), 0.0
    for budget in study.budgets:
        if budget.fraction in fractions:
            draw = next(d for d in study.draws if d.budget == budget.name)
            clock = Clock()
            chances = _plain_draw(cohort, cohort.items_of(draw.patients), test)
            wall, cpu = clock()
            total += cpu * budget.repeats
            print(
                f"  plain, {budget.name}: {wall:.1f} s, {cpu:.1f} CPU s a draw x {budget.repeats} draws = "
                f"{cpu * budget.repeats:.0f} CPU s",
                flush=True,
            )
    clock = Clock()
    for _ in range(5):
        _plain_metrics(cohort, test, chances, np.random.default_rng(0))
    cpu = clock()[1] / 5
    draws = sum(budget.repeats for budget in study.budgets if budget.fraction in fractions) * 3
    print(f"  plain bootstrap: {cpu * 1e3:.1f} CPU ms a resampling x {study.settings.bootstrap} x {draws} = ", end="")
    print(f"{cpu * study.settings.bootstrap * draws:.0f} CPU s")
    print(f"plain: {total:.0f} CPU s of fitting + {cpu * study.settings.bootstrap * draws:.0f} CPU s of bootstrap")


def _plain_draw(cohort: Cohort, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    rows, label, group = cohort.rows, cohort.truth, cohort.patient
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": LOGISTIC_C}
    mean = rows[train].mean(axis=0)
    knn = make_pipeline(FunctionTransformer(lambda x: x - mean), Normalizer(), KNeighborsClassifier())
    few = {"kneighborsclassifier__n_neighbors": [k for k in KNN_NEIGHBOURS if k <= len(train) // 2]}
    chances = np.empty(0)
    for model, choices in ((knn, few), (linear, grid)):
        search = GridSearchCV(model, choices, scoring="neg_log_loss", cv=folds)
        search.fit(rows[train], label[train], groups=group[train])
        chances = search.predict_proba(rows[test])
    make_pipeline(Normalizer(), NearestCentroid()).fit(rows[train] - mean, label[train]).predict(rows[test] - mean)
    return chances


def _plain_metrics(cohort: Cohort, test: np.ndarray, chances: np.ndarray, rng: np.random.Generator) -> None:
    patients = np.unique(cohort.patient[test])
    weight = np.bincount(rng.choice(patients, len(patients)), minlength=cohort.n_patients)[cohort.patient[test]]
    truth, guess = cohort.truth[test], chances.argmax(axis=1)
    f1_score(truth, guess, average="macro", sample_weight=weight)
    balanced_accuracy_score(truth, guess, sample_weight=weight)
    roc_auc_score(truth, chances, multi_class="ovr", sample_weight=weight)
    average_precision_score(np.eye(CLASSES)[truth], chances, sample_weight=weight)


def compare_speed(part: str, fractions: Sequence[float]) -> None:
    settings = ProbeSettings(fractions=tuple(fractions))
    cohort = cohort_of(10_000, 5_000, settings)
    if part != "plain":
        clock = Clock()
        run_study(cohort, settings, Origin())
        wall, cpu = clock()
        print(
            f"ours: {wall:.1f} s, {cpu:.0f} CPU s for fits, inner selection, metrics, bootstrap, permutations",
            flush=True,
        )
    if part != "ours":
        plain_loop(cohort, Study.plan(cohort, settings), fractions)


def many_tiles(tiles: int) -> None:
    settings = ProbeSettings(unit="tile", fractions=(1.0,))
    per_item = 500
    owner = np.repeat(np.arange(tiles // per_item), per_item)
    cohort = cohort_of(tiles, tiles // per_item, settings, owner)
    began = time.perf_counter()
    result = run_study(cohort, settings, Origin())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    fits = sum(len(part.values) for part in result.predictions)
    print(f"{tiles:,} tiles: {time.perf_counter() - began:.0f} s for {fits} fits, peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=0)
    parser.add_argument("--part", choices=["all", "ours", "plain"], default="all")
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.tiles:
        many_tiles(arguments.tiles)
    else:
        compare_speed(arguments.part, arguments.fractions)
