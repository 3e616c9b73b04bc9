"""Do the estimates tell the truth? Simulated studies whose true performance is known in closed form.

    python benchmarks/probe_calibration.py --studies 1000
    python benchmarks/probe_calibration.py --studies 1000 --part noise
    python benchmarks/probe_calibration.py --studies 250 --first 500 --rows rows.csv --jobs 2     (parts that add up)

Each study: patients of two classes, 1 to 4 items each that share half of their variance; a stratified hold-out; linear
probes on nested draws (``scale="standard"``). A linear score of Gaussian features is Gaussian, so the true AUROC,
balanced accuracy, sensitivity and, at equal classes, macro-F1 and PPV of every fitted classifier follow from its
weights. The truth is what the interval is said to cover: with a single draw of everybody (100 %) the performance of
this very classifier on endlessly many new patients; with several draws (10 %) its expectation over whom one labels,
which is the mean over all studies. "survival": concordance of a score with times, 40 and 80 patients.

Study s of a scenario is the same in every run: with ``--rows FILE`` what is found is added to a table, studies that are
there are not run again, and the lines that are printed are of everything in it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import kstest, norm

import umedfeat.fewshot.classifiers.fitting as fitting
from umedfeat.fewshot import probe
from umedfeat.fewshot.classifiers.linear import LinearProbe
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.metrics.bootstrap import interval, patient_weights
from umedfeat.fewshot.metrics.concordance import concordance
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Origin, run_study

DIM = 5
SETTINGS = {
    "fractions": (0.1, 1.0),
    "repeats": 5,
    "classifiers": ("linear",),
    "scale": "standard",
    "bootstrap": 500,
}
#: The budget of a single draw.
ALONE = "100 %"
SHARED = 0.5
#: One line of a study: names, then numbers.
Line = tuple[str | float, ...]
#: The shape of the intervals was chosen on seeds below a thousand: these are others.
FIRST_SEED = 10_000
SCENARIOS = {  # name: patients, distance of the classes
    "90 test patients, AUROC 0.76": (300, 1.0),
    "30 test patients, AUROC 0.85": (100, 1.5),
    "18 test patients, AUROC 0.95": (60, 2.5),
    "18 test patients, AUROC 0.72": (60, 1.0),
    "12 test patients, AUROC 0.90": (40, 2.0),
}


class Recorded(LinearProbe):
    """A linear probe that leaves its weights behind, on the features as given."""

    found: ClassVar[list[tuple[np.ndarray, float]]] = []

    def fit(self, X, y, groups=None, weights=None, pool=None):
        super().fit(X, y, groups, weights, pool)
        standard, coef = self.scaler_.standard, self.weights_.coef[:, 0] / self.scaler_.length
        slope = coef / standard.scale
        Recorded.found.append(
            (slope, float(self.weights_.intercept[0] - coef @ self.scaler_.mean - slope @ standard.mean))
        )
        return self


def cohort_of(patients: int, distance: float, seed: int, tiles: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng([seed, 2026])
    count = rng.integers(1, 5, patients) if not tiles else np.full(patients, tiles)
    patient = np.repeat(np.arange(patients), count)
    own, shared = rng.normal(size=(len(patient), DIM)), rng.normal(size=(patients, DIM))
    rows = np.sqrt(SHARED) * shared[patient] + np.sqrt(1 - SHARED) * own
    rows[:, 0] += distance * (patient % 2)
    return rows.astype(np.float32), [f"c{p % 2}" for p in patient], [f"p{p:04d}" for p in patient]


def truths(slope: np.ndarray, intercept: float, distance: float) -> dict[str, float]:
    spread = float(np.linalg.norm(slope))
    low, high = intercept, intercept + distance * slope[0]
    specificity, sensitivity = norm.cdf(-low / spread), norm.cdf(high / spread)
    return {
        "auroc": float(norm.cdf((high - low) / (np.sqrt(2) * spread))),
        "balanced_accuracy": float((specificity + sensitivity) / 2),
        "macro_f1": float((_f1(sensitivity, specificity) + _f1(specificity, sensitivity)) / 2),
        "sensitivity": float(sensitivity),
        "ppv": float(sensitivity / (sensitivity + 1 - specificity)),
    }


def _f1(hit: float, other: float) -> float:
    return 2 * hit / (2 * hit + (1 - other) + (1 - hit))


def study(patients: int, distance: float, seed: int) -> list[tuple[str, str, float, float, float, float]]:
    """(budget, metric, truth, estimate, low, high) of one study."""
    Recorded.found = []
    chosen = ProbeSettings(**SETTINGS, seed=seed)
    rows, labels, patient = cohort_of(patients, distance, seed)
    ids = [f"i{k:05d}" for k in range(len(rows))]
    cohort = build_cohort(rows, np.arange(len(rows)), labels, chosen, ids=ids, patients=patient)
    result = run_study(cohort, chosen, Origin(), jobs=1)
    weights = iter(Recorded.found)
    found = []
    for budget in result.budgets:
        each = [truths(*next(weights), distance) for _ in range(budget.repeats)]
        for metric in each[0]:
            estimate = result.estimate("linear", budget.name, metric)
            truth = float(np.mean([t[metric] for t in each]))
            found.append((budget.name, metric, truth, estimate.value, estimate.low, estimate.high))
    return found


def studied(name: str, one: Callable[[int], Sequence[Line]], options: argparse.Namespace) -> list[list[str]]:
    """The lines of every study of a scenario: of those in the table of earlier runs, and of the others, run now and
    added to it."""
    kept = _kept(name, options.rows)
    done = {int(seed) for seed, *_ in kept}
    first = FIRST_SEED + options.first
    seeds = [seed for seed in range(first, first + options.studies) if seed not in done]
    with options.rows.open("a", newline="") if options.rows else nullcontext() as stream:
        for seed, lines in zip(seeds, _mapped(one, seeds, options.jobs), strict=True):
            found = [[str(seed), *map(str, line)] for line in lines]
            kept += found
            if stream:
                csv.writer(stream).writerows([name, *line] for line in found)
                stream.flush()
    return [line for _, *line in kept]


def _kept(name: str, path: Path | None) -> list[list[str]]:
    if path is None or not path.is_file():
        return []
    with path.open(newline="") as stream:
        return [line[1:] for line in csv.reader(stream) if line[0] == name]


def _mapped(one: Callable[[int], Sequence[Line]], seeds: Sequence[int], jobs: int) -> Iterator[Sequence[Line]]:
    if jobs == 1:
        yield from map(one, seeds)
        return
    with get_context("fork").Pool(jobs) as pool:  # forked, so that recording probes stay in place
        yield from pool.imap(one, seeds)


def calibration(scenarios: Iterable[str], options: argparse.Namespace) -> None:
    fitting.LinearProbe = Recorded
    table_head()
    for name in scenarios:
        table_rows(name, studied(name, partial(study, *SCENARIOS[name]), options))
    fitting.LinearProbe = LinearProbe


def table_head() -> None:
    heads = [
        "scenario",
        "budget",
        "metric",
        "studies",
        "mean truth",
        "bias ± its SE",
        "coverage of 95 %",
        "truth above",
    ]
    print("|", " | ".join([*heads, "truth below", "mean width", "no interval"]), "|")
    print("|" + "---|" * (len(heads) + 3), flush=True)


def table_rows(name: str, lines: Iterable[Sequence[str]]) -> None:
    """One line per budget and metric from (budget, metric, truth, estimate, low, high) of every study.

    ``truth`` is that of the very classifiers; of several draws the expectation over whom one labels takes its place.
    """
    by_key: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    for budget, metric, *numbers in lines:
        by_key[budget, metric].append(tuple(map(float, numbers)))
    for (budget, metric), rows in by_key.items():
        truth, value, low, high = np.asarray(rows).T
        error, none = value - truth, np.isnan(low).mean()
        truth = truth if budget == ALONE else np.full_like(truth, np.nanmean(truth))
        truth, low, high = (each[np.isfinite(low)] for each in (truth, low, high))
        inside = (low <= truth) & (truth <= high)
        print(
            f"| {name} | {budget} | {metric} | {len(rows)} | {truth.mean():.3f} | {error.mean():+.4f} ± "
            f"{error.std() / np.sqrt(len(error)):.4f} | {inside.mean():.1%} | {(truth > high).mean():.1%} | "
            f"{(truth < low).mean():.1%} | {(high - low).mean():.3f} | {none:.1%} |",
            flush=True,
        )


def survival(patients: int, truth: float, seed: int) -> list[Line]:
    """A score that knows part of the hazard; a third is censored."""
    rng = np.random.default_rng([seed, 17])
    outcome, score = _outcomes(rng, patients)
    stratum = outcome[:, 1].astype(np.intp)
    weights = np.vstack([np.ones((1, patients)), patient_weights(stratum, 500, rng)])
    values = concordance(outcome, score, np.arange(patients), weights)
    bounds = interval(values[0], values[1:], METRICS["c_index"], stratum, 0.95)
    return [(ALONE, "c_index", truth, values[0], bounds.low, bounds.high)]


def _true_concordance() -> float:
    """Of a hundred thousand patients."""
    known = np.random.default_rng(0)
    return float(np.mean([_concordance(*_outcomes(known, 2_000)) for _ in range(50)]))


def _outcomes(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
    hazard = rng.normal(size=patients)
    times, ends = rng.exponential(np.exp(-hazard)), rng.exponential(2.5, patients)
    return np.stack([np.minimum(times, ends), times <= ends], axis=1).astype(float), hazard + rng.normal(size=patients)


def _concordance(outcome: np.ndarray, score: np.ndarray) -> float:
    return float(concordance(outcome, score, np.arange(len(score)), np.ones((1, len(score))))[0])


def noise(seed: int) -> list[Line]:
    """AUROC, bounds and p of 40 patients × 30 tiles, labels without any relation to the features."""
    rows, labels, patient = cohort_of(40, 0.0, seed, tiles=30)
    result = probe(rows, labels, patient, fractions=(1.0,), classifiers=("prototype",), bootstrap=300, seed=seed)
    estimate = result.estimate("prototype", "100 %", "auroc")
    return [(estimate.value, estimate.low, estimate.high, result.significance[0].p)]


def noise_line(options: argparse.Namespace) -> None:
    value, low, high, p = np.asarray(studied("noise", noise, options), dtype=np.float64).T
    print(f"\nNoise, {len(p)} studies of 40 patients × 30 items: mean AUROC {value.mean():.3f}", end=" ")
    held = ((low <= 0.5) & (high >= 0.5)).mean()
    print(f"± {value.std() / np.sqrt(len(p)):.3f}, interval holds 0.5 in {held:.1%};", end=" ")
    shares = ", ".join(f"p ≤ {level}: {np.mean(p <= level):.1%}" for level in (0.01, 0.05, 0.1, 0.5))
    print(f"{shares}; Kolmogorov-Smirnov p = {kstest(p, 'uniform').pvalue:.2f}")


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of every simulation."""
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument("--rows", type=Path, help="table of what is found, added to")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["all", *SCENARIOS, "survival", "noise"], default="all")
    options = options_of(parser)
    began = time.time()
    chosen = [name for name in SCENARIOS if options.part in ("all", name)]
    if chosen:
        calibration(chosen, options)
    if options.part in ("all", "survival"):
        table_head()
        for patients in (40, 80):
            name, one = f"survival, {patients} patients", partial(survival, patients, _true_concordance())
            table_rows(name, studied(name, one, options))
    if options.part in ("all", "noise"):
        noise_line(options)
    print(f"\n{time.time() - began:.0f} s")
