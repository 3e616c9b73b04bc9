"""How fast is a study? Ours against a plain scikit-learn loop doing the same work.

    python benchmarks/probe.py                 10,000 items x 768, 3 classes, default fractions and repeats
    python benchmarks/probe.py --tiles 100000  --unit tile: time and peak memory

The plain loop is timed on one draw per fraction and multiplied by the number of draws; its bootstrap is timed on a few
resamplings of one prediction and multiplied by their number. Both multiplications are said in the output.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from umedfeat.fewshot.cohort import Cohort, build_cohort
from umedfeat.fewshot.settings import KNN_NEIGHBOURS, LOGISTIC_C, ProbeSettings
from umedfeat.fewshot.study import Origin, Study, run_study

DIM, CLASSES = 768, 3


def features(items: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features with a falling spectrum and an offset, as encoders give; classes overlap; patients share variance."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), items // patients)
    label = (np.arange(patients) % CLASSES)[patient]
    scale = 5 / np.sqrt(1 + np.arange(DIM))
    rows = 0.5 * rng.normal(size=(patients, DIM))[patient] + rng.normal(size=(items, DIM))
    rows += 0.12 * rng.normal(size=(CLASSES, DIM))[label]
    rows = rows * scale + rng.normal(size=DIM)
    return rows.astype(np.float32), label, patient


def cohort_of(items: int, patients: int, settings: ProbeSettings, row_item: np.ndarray | None = None) -> Cohort:
    rows, label, patient = features(items, patients)
    owner = np.arange(items) if row_item is None else row_item
    first = np.unique(owner, return_index=True)[1]
    ids = [f"i{k:06d}" for k in range(len(first))]
    names = [f"p{k:05d}" for k in patient[first]]
    return build_cohort(rows, owner, label[first], settings, ids=ids, patients=names)


def plain_loop(cohort: Cohort, study: Study) -> tuple[float, float]:
    """(fitting, bootstrap) seconds of the loop that everybody writes, extrapolated to all draws."""
    test = study.folds[0].tests["test"]
    fitting = 0.0
    for budget in study.budgets:
        draw = next(d for d in study.draws if d.budget == budget.name)
        train = cohort.items_of(draw.patients)
        began = time.perf_counter()
        chances = _plain_draw(cohort, train, test)
        seconds = time.perf_counter() - began
        fitting += seconds * budget.repeats
        print(f"  plain, {budget.name}: {seconds:.1f} s a draw x {budget.repeats} draws", flush=True)
    began = time.perf_counter()
    for _ in range(5):
        _plain_metrics(cohort, test, chances, np.random.default_rng(0))
    a_resampling = (time.perf_counter() - began) / 5
    draws = sum(budget.repeats for budget in study.budgets) * 3
    print(f"  plain bootstrap: {a_resampling * 1e3:.1f} ms a resampling x {study.settings.bootstrap} x {draws}")
    return fitting, a_resampling * study.settings.bootstrap * draws


def _plain_draw(cohort: Cohort, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    rows, label, group = cohort.rows, cohort.table.truth, cohort.patient
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
    truth, guess = cohort.table.truth[test], chances.argmax(axis=1)
    f1_score(truth, guess, average="macro", sample_weight=weight)
    balanced_accuracy_score(truth, guess, sample_weight=weight)
    roc_auc_score(truth, chances, multi_class="ovr", sample_weight=weight)
    average_precision_score(np.eye(CLASSES)[truth], chances, sample_weight=weight)


def compare_speed() -> None:
    settings = ProbeSettings()
    cohort = cohort_of(10_000, 5_000, settings)
    began = time.perf_counter()
    run_study(cohort, settings, Origin())
    ours = time.perf_counter() - began
    print(f"ours: {ours:.1f} s for everything (fits, inner selection, metrics, bootstrap, permutations)", flush=True)
    study = Study.plan(cohort, settings)
    fitting, bootstrap = plain_loop(cohort, study)
    print(f"plain: {fitting:.0f} s of fitting + {bootstrap:.0f} s of bootstrap (extrapolated as said)")
    print(f"ratio: {fitting / ours:.1f} for the plain fitting alone, {(fitting + bootstrap) / ours:.1f} with bootstrap")


def many_tiles(tiles: int) -> None:
    settings = ProbeSettings(unit="tile", fractions=(0.1, 1.0), repeats=2)
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
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.tiles:
        many_tiles(arguments.tiles)
    else:
        compare_speed()
