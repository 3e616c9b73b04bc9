"""Do intervals of values, of several labels and of survival hold the truth?

    python benchmarks/probe_calibration_targets.py --studies 200
    python benchmarks/probe_calibration_targets.py --studies 50 --first 200 --rows rows.csv     (parts that add up)

Each study: patients of 1 to 4 items that share half of their variance, 60 of them to train on; linear probes on all of
them (a single draw) and on five draws of 30 %. The truth is measured: the same classifiers on further patients.
Of a single draw it is that of this very classifier, of several draws the mean over all studies.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from probe_calibration import DIM, SHARED, Line, studied, table_head, table_rows

from umedfeat.fewshot import probe

POOL = 60
#: Patients that the truth is measured on (survival compares all pairs).
NEW = {"regression": 3000, "multilabel": 3000, "survival": 500}
SETTINGS: dict[str, Any] = {
    "fractions": (0.3, 1.0),
    "repeats": 5,
    "classifiers": ("linear",),
    "scale": "standard",
    "subgroups": (),
}
METRICS = {
    "regression": ("r2", "mae", "spearman"),
    "multilabel": ("auroc", "auprc", "macro_f1", "balanced_accuracy", "brier"),
    "survival": ("c_index",),
}
TESTS = (20, 40, 90)


def study(task: str, tests: int, seed: int) -> list[Line]:
    """(budget, metric, truth, estimate, low, high) of one study."""
    rows, labels, patient = _cohort(task, POOL + tests + NEW[task], seed)
    side = np.repeat(["pool", "test", "new"], [POOL, tests, NEW[task]])[patient]
    small, large = (
        probe(
            rows,
            labels,
            [f"p{k:04d}" for k in patient],
            meta={"side": side.tolist()},
            task=task,
            train="side=pool",
            test=f"side={name}",
            bootstrap=resamplings,
            seed=seed,
            **SETTINGS,
        )
        for name, resamplings in (("test", 500), ("new", 100))
    )
    found: list[Line] = []
    for budget in small.budgets:
        for metric in METRICS[task]:
            row, truth = (each.estimate("linear", budget.name, metric) for each in (small, large))
            found.append((budget.name, metric, truth.value, row.value, row.low, row.high))
    return found


def _cohort(task: str, patients: int, seed: int) -> tuple[Any, Any, Any]:
    """Rows, labels and the patient of each item; labels are a patient's, values an item's own."""
    rng = np.random.default_rng([seed, 2027])
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    shared, own = rng.normal(size=(patients, DIM)), rng.normal(size=(len(patient), DIM))
    if task == "multilabel":
        labels = rng.random((patients, 3)) < (0.5, 0.3, 0.2)
        shared[:, :3] += 1.5 * labels
        truth: Any = labels[patient].astype(int)
    elif task == "survival":
        times, censored = rng.exponential(np.exp(-shared[:, 0])), rng.exponential(2.0, patients)
        truth = np.stack([np.minimum(times, censored), times <= censored], axis=1)[patient]
    else:
        noise = rng.normal(size=patients)
        truth = shared[patient, 0] + (noise[patient] + rng.normal(size=len(patient))) / 2
    rows = np.sqrt(SHARED) * shared[patient] + np.sqrt(1 - SHARED) * own
    return rows.astype(np.float32), truth, patient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--task", choices=list(METRICS), action="append")
    options = parser.parse_args()
    table_head()
    for task in options.task or METRICS:
        for tests in TESTS:
            name = f"{task}, {tests} test patients"
            table_rows(name, studied(name, partial(study, task, tests), options))


if __name__ == "__main__":
    main()
