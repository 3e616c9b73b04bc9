"""Do the intervals of differences tell the truth? Simulated studies as in ``probe_calibration.py``.

    python benchmarks/probe_calibration_differences.py --studies 1000            (--first, --rows, --jobs as there)

- "drop": trained in centre A, tested on other patients of A and on centre B, where the classes lie nearer together. The
  same classifiers, different patients: the headline of ``--external`` and ``--loco``.
- "difference": two encoders of the same patients, one with noise added; the same draws, the same test patients: the
  rows of ``umedfeat compare``.
- "equal encoders": both equally noisy: how often p <= 0.05.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from functools import partial

import numpy as np
from probe_calibration import SETTINGS, Line, Recorded, cohort_of, options_of, studied, table_head, table_rows, truths

import umedfeat.fewshot.classifiers.fitting as fitting
from umedfeat.fewshot.classifiers.linear import LinearProbe
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.compare import compare_cohorts
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Origin, run_study

DROPS = {  # name: patients of centre A and of B, distances of the classes there
    "drop, 30 and 60 patients, AUROC 0.85 to 0.76": ((100, 60), (1.5, 1.0)),
    "drop, 18 and 20 patients, AUROC 0.95 to 0.85": ((60, 20), (2.5, 1.5)),
}
DIFFERENCES = {  # name: patients, distance of the classes, standard deviation of the noise in the second encoder
    "difference, 90 test patients": (300, 1.0, 1.0),
    "difference, 30 test patients": (100, 1.5, 1.0),
    "difference, 18 test patients": (60, 2.5, 1.0),
}
#: Name: patients, distance of the classes.
NULLS = {"equal encoders, 90 test patients": (300, 1.0), "equal encoders, 18 test patients": (60, 2.0)}
Found = list[tuple[str, str, float, float, float, float]]


def drop_study(sizes: tuple[int, int], distances: tuple[float, float], seed: int) -> Found:
    """(budget, metric, true drop, estimate, low, high) of one study."""
    Recorded.found = []
    settings = ProbeSettings(**SETTINGS, seed=seed, external="centre=B")
    parts = [cohort_of(n, d, seed + k * 1_000_000) for k, (n, d) in enumerate(zip(sizes, distances, strict=True))]
    rows = np.concatenate([part[0] for part in parts])
    labels = [label for part in parts for label in part[1]]
    patients = [f"{centre}{name}" for centre, part in zip("AB", parts, strict=True) for name in part[2]]
    meta = {"centre": [name[0] for name in patients]}
    ids = [f"i{k:05d}" for k in range(len(rows))]
    cohort = build_cohort(rows, np.arange(len(rows)), labels, settings, ids=ids, patients=patients, meta=meta)
    result = run_study(cohort, settings, Origin(), jobs=1)
    weights = iter(Recorded.found)
    found: Found = []
    for budget in result.budgets:
        fits = [next(weights) for _ in range(budget.repeats)]
        inside, outside = ([truths(*fit, distance) for fit in fits] for distance in distances)
        for drop in result.drops:
            if drop.budget == budget.name and drop.metric in inside[0]:
                true = float(np.mean([a[drop.metric] - b[drop.metric] for a, b in zip(inside, outside, strict=True)]))
                found.append((budget.name, drop.metric, true, drop.drop, drop.low, drop.high))
    return found


def difference_study(patients: int, distance: float, noise: float, seed: int) -> Found:
    """(budget, metric, true difference, estimate, low, high) of one study."""
    Recorded.found = []
    settings = ProbeSettings(**SETTINGS, seed=seed)
    rows, labels, names = cohort_of(patients, distance, seed)
    added = np.random.default_rng([seed, 7]).normal(0, noise, rows.shape).astype(np.float32)
    ids = [f"i{k:05d}" for k in range(len(rows))]
    cohorts = {
        name: build_cohort(features, np.arange(len(rows)), labels, settings, ids=ids, patients=names)
        for name, features in {"noisy": rows + added, "clean": rows}.items()
    }
    result = compare_cohorts(cohorts, settings, baseline="clean", jobs=1)
    weights = iter(Recorded.found)
    true: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, spread in (("noisy", np.sqrt(1 + noise**2)), ("clean", 1.0)):
        for budget in result.results[0].budgets:
            fits = [next(weights) for _ in range(budget.repeats)]
            scaled = [truths(slope * spread, intercept, distance / spread) for slope, intercept in fits]
            true.setdefault(name, {})[budget.name] = scaled
    found: Found = []
    for row in result.differences:
        pairs = zip(true["noisy"][row.budget], true["clean"][row.budget], strict=True)
        if row.metric in true["noisy"][row.budget][0]:
            truth = float(np.mean([a[row.metric] - b[row.metric] for a, b in pairs]))
            found.append((row.budget, row.metric, truth, row.value, row.low, row.high))
    return found


def null_study(patients: int, distance: float, seed: int) -> list[Line]:
    """(classifier, budget, metric, p) of every difference between two encoders that are equally noisy."""
    settings = ProbeSettings(**{**SETTINGS, "classifiers": ("linear", "prototype"), "scale": "unit"}, seed=seed)
    rows, labels, names = cohort_of(patients, distance, seed)
    rng = np.random.default_rng([seed, 3])
    ids = [f"i{k:05d}" for k in range(len(rows))]
    cohorts = {}
    for name in ("one", "other"):
        noisy = rows + rng.normal(0, 1, rows.shape).astype(np.float32)
        cohorts[name] = build_cohort(noisy, np.arange(len(rows)), labels, settings, ids=ids, patients=names)
    found = compare_cohorts(cohorts, settings, baseline="one", jobs=1).differences
    return [(row.classifier, row.budget, row.metric, row.p) for row in found]


def null_rows(name: str, lines: list[Line]) -> None:
    """Share of small p, a line a classifier, budget and metric."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for *key, p in lines:
        found[tuple(map(str, key))].append(float(p))
    for key, each in found.items():
        p = np.asarray(each)[np.isfinite(each)]
        shares = " | ".join(f"{(p <= level + 1e-9).mean():.1%}" for level in (0.05, 0.1, 0.5))
        print(f"| {name} | {' | '.join(key)} | {len(p)} | {shares} |", flush=True)


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    options = options_of(parser)
    fitting.LinearProbe = Recorded
    table_head()
    for name, (sizes, distances) in DROPS.items():
        if options.only in name:
            table_rows(name, studied(name, partial(drop_study, sizes, distances), options))
    for name, (patients, distance, noise) in DIFFERENCES.items():
        if options.only in name:
            one = partial(difference_study, patients, distance, noise)
            table_rows(name, studied(name, one, options))
    fitting.LinearProbe = LinearProbe
    print("\n| scenario | probe | data | metric | studies | p <= 0.05 | <= 0.1 | <= 0.5 |\n|" + "---|" * 8)
    for name, (patients, distance) in NULLS.items():
        if options.only in name:
            null_rows(name, studied(name, partial(null_study, patients, distance), options))


if __name__ == "__main__":
    began = time.time()
    main()
    print(f"\n{time.time() - began:.0f} s")
