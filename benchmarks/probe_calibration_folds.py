"""Do cross-validation's intervals and p-values hold? Simulated studies as in ``probe_calibration.py``, and pure noise.

    python benchmarks/probe_calibration_folds.py --studies 1000                  (about an hour on two cores)
    python benchmarks/probe_calibration_folds.py --studies 200 --part 6:30
    python benchmarks/probe_calibration_folds.py --studies 400 --part "p hold-out, 15:15 of 50:50"

- "10:10" and so on: patients of the two classes, 20 features that say nothing, 5 folds, 5 partitions. The truth of
  AUROC and balanced accuracy is 0.5. AUROC is compared within folds: its mean says whether it is unbiased.
- "draws": 30 test patients, the expected AUROC of probes trained on n patients, whoever they are, which follows from
  ten thousand training sets: does the interval of a mean over draws hold it?
- "p …": how often p ≤ 0.05 on noise, with ``cv`` (19 permutations with refitting) and with a hold-out.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from umedfeat.fewshot import probe
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.refitting import refitted_significance
from umedfeat.fewshot.settings import ProbeSettings

#: The variance of out-of-fold metrics was looked at on other seeds.
FIRST_SEED = 10_000
SIZES = ("10:10", "6:30", "30:30", "5:60")
DRAWS = {"2 patients": 2, "8 patients": 8, "34 patients": 34}
DIM = 20
CLASSIFIERS = ("linear", "prototype")


def noise(size: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    first, second = map(int, size.split(":"))
    labels = np.repeat([0, 1], [first, second])
    rows = np.random.default_rng([seed, 11]).normal(size=(len(labels), DIM)).astype(np.float32)
    return rows, labels, [f"p{k:04d}" for k in range(len(labels))]


def folds(size: str, studies: int) -> None:
    """Coverage of 0.5 under noise, where there is an interval."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + studies):
        chosen = ProbeSettings(cv=5, fractions=(1.0,), classifiers=CLASSIFIERS, bootstrap=300, seed=seed)
        result = probe(*noise(size, seed), settings=chosen)
        for classifier in CLASSIFIERS:
            for metric in ("auroc", "balanced_accuracy"):
                estimate = result.estimate(classifier, "100 %", metric)
                found[classifier, metric].append((estimate.value, estimate.low, estimate.high))
    for (classifier, metric), each in found.items():
        value, low, high = np.asarray(each).T
        some = np.isfinite(low)
        held = ((low <= 0.5) & (high >= 0.5))[some].mean()
        print(
            f"| {size} | {classifier} | {metric} | {value.mean():.3f} | {value.std():.3f} | {held:.1%} | "
            f"{1 - some.mean():.1%} | {np.nanmean(high - low):.3f} |",
            flush=True,
        )


def _expected(train: int, distance: float) -> float:
    """Mean true AUROC of nearest-mean directions from ``train`` patients of two Gaussian classes."""
    rng = np.random.default_rng(1)
    size = (10_000, train // 2, 5)
    slope = rng.normal(size=size).mean(axis=1) - rng.normal(size=size).mean(axis=1)
    slope[:, 0] += distance
    return float(norm.cdf(slope[:, 0] * distance / np.sqrt(2 * (slope**2).sum(axis=1))).mean())


def draws(name: str, studies: int) -> None:
    """Coverage of the expected AUROC by the interval of the mean over draws; the probe is a ridge of the limit C → 0,
    whose direction is that of the class means."""
    from umedfeat.fewshot.metrics.bootstrap import NOTHING, drawn_variance, interval, patient_weights
    from umedfeat.fewshot.metrics.metrics import METRICS
    from umedfeat.fewshot.metrics.ranking import Ranking

    train, distance, expected = DRAWS[name], 1.5, _expected(DRAWS[name], 1.5)
    stratum, held = np.repeat([0, 1], 15), np.zeros(2)
    for seed in range(studies):
        rng = np.random.default_rng([seed, 13])
        pool, test = rng.normal(size=(2, 35, 5)), rng.normal(size=(30, 5))
        pool[1, :, 0] += distance
        test[15:, 0] += distance
        weights = np.vstack([np.ones((1, 30)), patient_weights(stratum, 300, rng)]).T.astype(np.float32)
        areas = []
        for _ in range(20):
            means = [side[rng.permutation(35)[: train // 2]].mean(axis=0) for side in pool]
            ranking = Ranking.of(test @ (means[1] - means[0]), stratum == 1, np.arange(30), 30)
            areas.append(ranking.sums(weights).areas()[0])
        values = np.asarray(areas)
        for place, drawn in enumerate((NOTHING, drawn_variance(values[:, 0]))):
            given = (float(values[:, 0].mean()), values[:, 1:].mean(axis=0), METRICS["auroc"], stratum, 0.95)
            bounds = interval(*given, drawn=drawn)
            held[place] += bounds.low <= expected <= bounds.high
    print(f"| {name}, 20 draws | {expected:.3f} | {held[0] / studies:.1%} | {held[1] / studies:.1%} |", flush=True)


def p_of_folds(seed: int) -> float:
    """Of cross-validation, every permutation fitted anew: 20 labellings make p ≤ 0.05 exact."""
    rows, labels, patients = noise("9:12", seed)
    chosen = ProbeSettings(cv=3, fractions=(1.0,), classifiers=("prototype",), seed=seed, permutations=19)
    ids = [f"i{k}" for k in range(len(rows))]
    cohort = build_cohort(rows, np.arange(len(rows)), labels, chosen, ids=ids, patients=patients)
    return refitted_significance(cohort, chosen)[0].p


def p_of_hold_out(seed: int) -> float:
    """Of a hold-out, predictions kept."""
    chosen = ProbeSettings(fractions=(1.0,), classifiers=("prototype",), bootstrap=100, seed=seed)
    return probe(*noise("50:50", seed), settings=chosen).significance[0].p


P_VALUES = {"p cross-validation, 9:12": p_of_folds, "p hold-out, 15:15 of 50:50": p_of_hold_out}


def p_values(name: str, studies: int) -> None:
    """Share of small p under noise."""
    p = np.asarray([P_VALUES[name](seed) for seed in range(FIRST_SEED, FIRST_SEED + studies)])
    shares = ", ".join(f"≤ {level}: {(p <= level + 1e-9).mean():.1%}" for level in (0.05, 0.1, 0.5))
    print(f"- {name}, {studies} studies: {shares}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--part", choices=["all", *SIZES, "draws", *P_VALUES], default="all")
    arguments = parser.parse_args()
    began = time.time()
    parts: dict[str, tuple[str, tuple[str, ...], Callable[[str, int], None]]] = {
        "folds": ("| patients | probe | metric | mean | SD | 0.5 held | no interval | mean width |", SIZES, folds),
        "draws": ("| trained on | expected AUROC | held, tested patients alone | held, draws too |", (*DRAWS,), draws),
    }
    for part, (head, names, function) in parts.items():
        wanted = [name for name in names if arguments.part in ("all", part, name)]
        if wanted:
            print(f"\n{head}\n|{'---|' * (head.count('|') - 1)}")
            for name in wanted:
                function(name, arguments.studies)
    for name in P_VALUES:
        if arguments.part in ("all", name):
            p_values(name, arguments.studies)
    print(f"\n{time.time() - began:.0f} s")
