"""Do cross-validation's intervals and p-values hold? Simulated studies as in ``probe_calibration.py``, and pure noise.

    python benchmarks/probe_calibration_folds.py --studies 1000                  (about an hour on two cores)
    python benchmarks/probe_calibration_folds.py --studies 200 --part 6:30
    python benchmarks/probe_calibration_folds.py --studies 400 --part "p hold-out, 15:15 of 50:50"
    python benchmarks/probe_calibration_folds.py --studies 50 --first 50 --rows rows.csv --part 30:30   (adds up)

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
from functools import partial

import numpy as np
from probe_calibration import Line, options_of, studied
from scipy.stats import norm

from umedfeat.fewshot import probe
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.metrics.bootstrap import NOTHING, drawn_variance, interval, own_variance, patient_weights
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.metrics.ranking import Ranking
from umedfeat.fewshot.refitting import refitted_significance
from umedfeat.fewshot.settings import ProbeSettings

SIZES = ("10:10", "6:30", "30:30", "5:60")
DRAWS = {"2 patients": 2, "8 patients": 8, "34 patients": 34}
#: Of the classes, where there is something to learn.
DISTANCE = 1.5
DIM = 20
CLASSIFIERS = ("linear", "prototype")


def noise(size: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    first, second = map(int, size.split(":"))
    labels = np.repeat([0, 1], [first, second])
    rows = np.random.default_rng([seed, 11]).normal(size=(len(labels), DIM)).astype(np.float32)
    return rows, labels, [f"p{k:04d}" for k in range(len(labels))]


def fold_study(size: str, seed: int) -> list[Line]:
    """(classifier, metric, estimate, low, high) of one study."""
    chosen = ProbeSettings(cv=5, fractions=(1.0,), classifiers=CLASSIFIERS, bootstrap=300, seed=seed)
    result = probe(*noise(size, seed), settings=chosen)
    keys = [(classifier, metric) for classifier in CLASSIFIERS for metric in ("auroc", "balanced_accuracy")]
    found = [result.estimate(classifier, "100 %", metric) for classifier, metric in keys]
    return [(*key, each.value, each.low, each.high) for key, each in zip(keys, found, strict=True)]


def folds(size: str, options: argparse.Namespace) -> None:
    """Coverage of 0.5 under noise, where there is an interval."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for classifier, metric, *numbers in studied(size, partial(fold_study, size), options):
        found[classifier, metric].append(list(map(float, numbers)))
    for (classifier, metric), each in found.items():
        value, low, high = np.asarray(each).T
        some = np.isfinite(low)
        held = ((low <= 0.5) & (high >= 0.5))[some].mean()
        print(
            f"| {size} | {classifier} | {metric} | {len(value)} | {value.mean():.3f} | {value.std():.3f} | "
            f"{held:.1%} | {1 - some.mean():.1%} | {np.nanmean(high - low):.3f} |",
            flush=True,
        )


def _expected(train: int, distance: float) -> float:
    """Mean true AUROC of nearest-mean directions from ``train`` patients of two Gaussian classes."""
    rng = np.random.default_rng(1)
    size = (10_000, train // 2, 5)
    slope = rng.normal(size=size).mean(axis=1) - rng.normal(size=size).mean(axis=1)
    slope[:, 0] += distance
    return float(norm.cdf(slope[:, 0] * distance / np.sqrt(2 * (slope**2).sum(axis=1))).mean())


def draw_study(name: str, expected: float, seed: int) -> list[Line]:
    """Whether the interval of the mean over draws holds the expected AUROC, without and with whom one labels; the probe
    is a ridge of the limit C → 0, whose direction is that of the class means."""
    train, stratum, held = DRAWS[name], np.repeat([0, 1], 15), []
    rng = np.random.default_rng([seed, 13])
    pool, test = rng.normal(size=(2, 35, 5)), rng.normal(size=(30, 5))
    pool[1, :, 0] += DISTANCE
    test[15:, 0] += DISTANCE
    weights = np.vstack([np.ones((1, 30)), patient_weights(stratum, 300, rng)]).T.astype(np.float32)
    areas = []
    for _ in range(20):
        means = [side[rng.permutation(35)[: train // 2]].mean(axis=0) for side in pool]
        ranking = Ranking.of(test @ (means[1] - means[0]), stratum == 1, np.arange(30), 30)
        areas.append(ranking.sums(weights).areas()[0])
    values = np.asarray(areas)
    whom = drawn_variance(values[:, 0], own_variance(values[:, 1:].astype(float)), train / 70)
    for drawn in (NOTHING, whom):
        given = (float(values[:, 0].mean()), values[:, 1:].mean(axis=0), METRICS["auroc"], stratum, 0.95)
        bounds = interval(*given, drawn=drawn)
        held.append(float(bounds.low <= expected <= bounds.high))
    return [tuple(held)]


def draws(name: str, options: argparse.Namespace) -> None:
    """Coverage of the expected AUROC by the interval of the mean over draws."""
    expected = _expected(DRAWS[name], DISTANCE)
    lines = studied(name, partial(draw_study, name, expected), options)
    alone, both = np.asarray(lines, dtype=np.float64).mean(axis=0)
    print(f"| {name}, 20 draws | {len(lines)} | {expected:.3f} | {alone:.1%} | {both:.1%} |", flush=True)


def p_of_folds(seed: int) -> list[Line]:
    """Of cross-validation, every permutation fitted anew: 20 labellings make p ≤ 0.05 exact."""
    rows, labels, patients = noise("9:12", seed)
    chosen = ProbeSettings(cv=3, fractions=(1.0,), classifiers=("prototype",), seed=seed, permutations=19)
    ids = [f"i{k}" for k in range(len(rows))]
    cohort = build_cohort(rows, np.arange(len(rows)), labels, chosen, ids=ids, patients=patients)
    return [(refitted_significance(cohort, chosen)[0].p,)]


def p_of_hold_out(seed: int) -> list[Line]:
    """Of a hold-out, predictions kept."""
    chosen = ProbeSettings(fractions=(1.0,), classifiers=("prototype",), bootstrap=100, seed=seed)
    return [(probe(*noise("50:50", seed), settings=chosen).significance[0].p,)]


P_VALUES = {"p cross-validation, 9:12": p_of_folds, "p hold-out, 15:15 of 50:50": p_of_hold_out}


def p_values(name: str, options: argparse.Namespace) -> None:
    """Share of small p under noise."""
    p = np.asarray(studied(name, P_VALUES[name], options), dtype=np.float64)[:, 0]
    shares = ", ".join(f"≤ {level}: {(p <= level + 1e-9).mean():.1%}" for level in (0.05, 0.1, 0.5))
    print(f"- {name}, {len(p)} studies: {shares}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["all", *SIZES, "draws", *P_VALUES], default="all")
    options = options_of(parser)
    began = time.time()
    parts: dict[str, tuple[str, tuple[str, ...], Callable[[str, argparse.Namespace], None]]] = {
        "folds": (
            "| patients | probe | metric | studies | mean | SD | 0.5 held | no interval | mean width |",
            SIZES,
            folds,
        ),
        "draws": (
            "| trained on | studies | expected AUROC | held, tested patients alone | held, draws too |",
            (*DRAWS,),
            draws,
        ),
    }
    for part, (head, names, function) in parts.items():
        wanted = [name for name in names if options.part in ("all", part, name)]
        if wanted:
            print(f"\n{head}\n|{'---|' * (head.count('|') - 1)}")
            for name in wanted:
                function(name, options)
    for name in P_VALUES:
        if options.part in ("all", name):
            p_values(name, options)
    print(f"\n{time.time() - began:.0f} s")
