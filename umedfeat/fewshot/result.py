"""The result of a few-shot study: frozen, complete, and all that the report, the tables and the files are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from umedfeat.arrays import Bools, Floats, Floats32, Ints
from umedfeat.fewshot.cohort.cohort import Cohort, FlowStep
from umedfeat.fewshot.settings import ProbeSettings, Task

__all__ = [
    "Budget",
    "Comparison",
    "DataNeeded",
    "Difference",
    "Drop",
    "Estimate",
    "Fold",
    "Judged",
    "Predictions",
    "ProbeResult",
    "Sanity",
    "Score",
    "Significance",
]


class Judged(Protocol):
    """What figures of right and wrong need besides the predictions: a study, or a fixed model on new patients.

    Attributes:
        task: what is predicted; ``cohort``: whom it was predicted for.
    """

    @property
    def task(self) -> Task: ...
    @property
    def cohort(self) -> Cohort: ...


@dataclass(frozen=True)
class Fold:
    """One division into pool and tests: one for a hold-out, folds × partitions for cross-validation, one per centre.

    Attributes:
        name: "hold-out", "fold 3", "without centre=B" …
        partition: which drawing of the folds it belongs to (0 but for repeated cross-validation).
        pool: (n,) numbers of the patients that training patients are drawn from, ascending.
        tests: test set name → (m,) numbers of its patients. Names: "test", "out-of-fold", "external centre=B" …
    """

    name: str
    partition: int
    pool: Ints
    tests: Mapping[str, Ints]


@dataclass(frozen=True)
class Budget:
    """One amount of training data.

    Attributes:
        name: "1 %" or "4 shots".
        fraction: asked share of the pool's patients (NaN for shots).
        shots: asked patients per class (0 for fractions).
        n_patients: patients really drawn, of the first fold.
        n_pool: patients of the pool it was drawn from, of the first fold.
        n_items: mean number of items drawn.
        per_class: patients drawn that carry each class, mean over draws; () for regression.
        repeats: number of draws.
        note: "" or what was done to the request ("1 % of 120 patients: 2 used, the floor of 2 classes × 1").
    """

    name: str
    fraction: float
    shots: int
    n_patients: int
    n_pool: int
    n_items: float
    per_class: tuple[float, ...]
    repeats: int
    note: str = ""


@dataclass(frozen=True)
class Predictions:
    """What one classifier predicted on one test set at one budget, for every draw.

    Attributes:
        classifier, budget, test_set: keys (budget by name).
        items: (n,) indices into the cohort.
        values: (R, n, K) probabilities over ``classes`` (multilabel: (R, n, L) probability of each label;
            regression: (R, n, 1) predicted value), float32. Never averaged or voted over draws.
        chosen: (R,) the selected hyperparameter as text ("C=0.01", "k=5"); folds joined by "; ".
        converged: (R,) bool; False if a solver hit its iteration limit.
        n_train_patients, n_train_items: (R,) what one classifier was trained on, for cross-validation the mean over
            the folds. n_per_class: (R, C) patients of it that carry each class, (R, 0) for regression.
        threshold: of two classes, the probability above which an item is called positive.
        fold: (R, n) which fold's classifier predicted each item, for cross-validation alone.
        n_pool: patients that those of the first fold were drawn from, 0 where nobody was drawn.
    """

    classifier: str
    budget: str
    test_set: str
    items: Ints
    values: Floats32
    chosen: tuple[str, ...]
    converged: Bools
    n_train_patients: Floats
    n_train_items: Floats
    n_per_class: Floats
    threshold: float = 0.5
    fold: Ints | None = None
    n_pool: int = 0

    @property
    def share(self) -> float:
        """Of the pool's patients in each draw."""
        return float(self.n_train_patients.mean()) / self.n_pool if self.n_pool else 0.0


@dataclass(frozen=True)
class Score:
    """One metric of one draw: a row of ``results.csv``. NaN where undefined; never imputed."""

    encoder: str
    classifier: str
    budget: str
    fraction: float
    shots: int
    repeat: int
    test_set: str
    subgroup: str
    metric: str
    value: float
    n_train_patients: float
    n_per_class: tuple[float, ...]
    hyperparameters: str
    converged: bool


@dataclass(frozen=True)
class Estimate:
    """One metric over all draws of a budget: the row of a table, the point of a curve.

    Attributes:
        classifier, budget, fraction, shots, test_set, subgroup, metric: keys; subgroup is "" or "sex=f".
        value: mean of the metric over the draws on the test set as it is (not the bootstrap mean); the calibration
            slope is that of the predictions of all draws together.
        low, high: confidence interval by resampling test PATIENTS, and the variance between draws: see ``covers``.
        sd, q25, q75, minimum, maximum: spread of the metric over the draws (which patients happened to be labelled);
            sd is NaN with a single draw.
        draws: draws with a defined value. undefined: draws without.
        test_items, test_patients: n of the test set.
        interval: "bootstrap-t", "joined recalls" (metrics of the confusion matrix: from the intervals of the recalls),
            "exact bound" (every resampling gave the same extreme value), or "" (no interval).
        covers: what the interval is about: "patients and draws": the expected metric on new patients, whoever had been
            labelled; "patients": of the classifier of this very training set (a single draw, or the calibration
            slope); "folds": cross-validation, the expected metric of classifiers trained on so many of these patients;
            its variance is widened for the dependence between folds, and only approximate.
    """

    classifier: str
    budget: str
    fraction: float
    shots: int
    test_set: str
    subgroup: str
    metric: str
    value: float
    low: float
    high: float
    sd: float
    q25: float
    q75: float
    minimum: float
    maximum: float
    draws: int
    undefined: int
    test_items: int
    test_patients: int
    interval: str = ""
    covers: Literal["", "patients", "patients and draws", "folds"] = ""


@dataclass(frozen=True)
class Significance:
    """Permutation test of one result against chance.

    ``p = (1 + b) / (1 + B)`` for the metric named; ``chance`` is its value for a classifier that knows nothing. Labels
    are exchanged between test patients and the predictions kept; where every patient also trains (cross-validation),
    labels are exchanged between all patients before anything is fitted.
    """

    classifier: str
    budget: str
    test_set: str
    metric: str
    value: float
    chance: float
    p: float
    permutations: int


@dataclass(frozen=True)
class Drop:
    """Internal minus external performance of the same fitted classifiers, with its interval (independent patients)."""

    classifier: str
    budget: str
    external: str
    metric: str
    internal_value: float
    external_value: float
    drop: float
    low: float
    high: float


@dataclass(frozen=True)
class Sanity:
    """The whole study on permuted labels: the metric must sit at chance.

    Attributes:
        metric: "balanced_accuracy" ("r2" has no exact chance level, regression uses "spearman").
        chance: expected value. values: one per permutation. p: two-sided test that their mean is chance.
        passed: p is above 0.001.
    """

    classifier: str
    metric: str
    chance: float
    values: tuple[float, ...]
    p: float
    passed: bool


@dataclass(frozen=True)
class Difference:
    """Encoder minus baseline on the same draws and the same test patients (``compare``).

    Attributes:
        value, low, high: difference of the means over draws, with the interval of the paired patient bootstrap.
        p: paired permutation test, (1 + b) / (1 + B). p_holm: corrected over the budgets.
    """

    encoder: str
    baseline: str
    classifier: str
    budget: str
    test_set: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class DataNeeded:
    """How much data an encoder needs to reach the baseline with the largest budget.

    Attributes:
        target: the baseline's metric at its largest budget, named ``target_budget``.
        margin: how much worse still counts as reached.
        budget: the smallest budget whose difference to the target has an interval above -margin; "" if none.
        n_patients: of that budget, 0 if none.
        share: where the encoder's curve crosses target - margin (share of the largest budget's patients, interpolated
            over the logarithm of the patients); inf if it never does.
        low, high: interval of ``share`` by the paired patient bootstrap (inf: more than the largest budget; NaN: none,
            as there is none of the difference).
        smallest: share of the smallest budget; a share at it may be smaller. confidence: level of the interval.
    """

    encoder: str
    baseline: str
    classifier: str
    test_set: str
    metric: str
    target: float
    target_budget: str
    margin: float
    budget: str
    n_patients: int
    share: float
    low: float
    high: float
    smallest: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """Several encoders on the same patients, draws and test sets.

    Attributes:
        results: one study per encoder. names: their names, unique, in the same order.
        baseline: name of the one the others are compared with.
        differences, data_needed: encoder against baseline.
        warnings: full sentences.
    """

    results: tuple[ProbeResult, ...]
    names: tuple[str, ...]
    baseline: str
    differences: tuple[Difference, ...]
    data_needed: tuple[DataNeeded, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeResult:
    """A whole study.

    Attributes:
        encoder: name as stored in the feature file, or as given.
        source: name of the feature file (no folder), "" for arrays.
        fingerprint: of the features, "" for arrays. weights: SHA-256 of the encoder's weights. policy: how the images
            were prepared, as text.
        label: name of the label column (or "class folders", or the labels file).
        task: what kind of target.
        positive: class index that AUROC, AUPRC … of a binary task speak of (1), else -1.
        primary: the metric of headlines: "macro_f1"; multilabel "auroc", ordinal "quadratic_kappa", regression "r2".
        settings: as run. command: the command line, "" from Python.
        cohort: the items; every index refers to it. flow: from file to train and test.
        folds: pools and tests. budgets: amounts of training data, ascending.
        draws: fold name → budget name → per repeat the drawn patients' pseudonyms (what ``splits.json`` holds).
        predictions, scores, estimates: raw, per draw, per budget.
        significance: permutation p-values. drops: cross-centre. sanity: if asked for.
        warnings: what a reader must know, full sentences.
        versions: package → version. created: ISO 8601 UTC. seconds: wall time.
    """

    encoder: str
    source: str
    fingerprint: str
    label: str
    task: Task
    positive: int
    primary: str
    settings: ProbeSettings
    command: str
    cohort: Cohort
    flow: tuple[FlowStep, ...]
    folds: tuple[Fold, ...]
    budgets: tuple[Budget, ...]
    draws: Mapping[str, Mapping[str, tuple[tuple[str, ...], ...]]]
    predictions: tuple[Predictions, ...]
    scores: tuple[Score, ...]
    estimates: tuple[Estimate, ...]
    significance: tuple[Significance, ...]
    drops: tuple[Drop, ...] = ()
    sanity: tuple[Sanity, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0
    weights: str = ""
    policy: str = ""

    def estimate(self, classifier: str, budget: str, metric: str, test_set: str = "", subgroup: str = "") -> Estimate:
        """Look one estimate up; ``test_set=""`` takes the first one.

        Raises:
            KeyError: there is none.
        """
        for row in self.estimates:
            keys = (row.classifier, row.budget, row.metric, row.subgroup)
            if keys == (classifier, budget, metric, subgroup) and test_set in ("", row.test_set):
                return row
        raise KeyError((classifier, budget, metric, test_set, subgroup))

    def budgets_of(self, test_set: str) -> tuple[Budget, ...]:
        """The budgets with the patients that the classifiers of this test set were trained on: of several folds their
        mean, where each centre is left out in turn those of its own pool."""
        trained = {part.budget: part.n_train_patients for part in self.predictions if part.test_set == test_set}
        return tuple(replace(b, n_patients=round(float(trained[b.name].mean()))) for b in self.budgets)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the test sets in order of appearance."""
        return tuple(dict.fromkeys(p.test_set for p in self.predictions))
