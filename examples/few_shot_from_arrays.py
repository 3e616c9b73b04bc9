"""Evaluate any frozen features with few labels, straight from arrays.

python examples/few_shot_from_arrays.py
"""

from __future__ import annotations

import numpy as np

import umedfeat


def main() -> None:
    """Two classes, forty patients with three images each; the signal sits in four of 64 dimensions."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 3)
    labels = np.where(patients % 2, "malignant", "benign")
    features = rng.normal(size=(len(patients), 64))
    features[:, :4] += (patients % 2)[:, None] * 1.5
    result = umedfeat.probe(features, labels, groups=patients, fractions=(0.1, 0.5, 1.0), repeats=5)
    for estimate in result.estimates:
        if estimate.metric == "auroc" and estimate.classifier == "linear":
            low, high = estimate.low, estimate.high
            print(f"{estimate.budget}: AUROC {estimate.value:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
