"""Scores against known cases and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score

from umedfeat.pretraining.masks import IGNORED
from umedfeat.pretraining.scores import average_precision, balanced_accuracy, dice, explained, label_accuracy


def test_balanced_accuracy_is_sklearns() -> None:
    generator = torch.Generator().manual_seed(0)
    shares, labels = torch.rand(50, 4, generator=generator), torch.randint(0, 3, (50,), generator=generator)
    found = shares.argmax(1)
    wanted = np.mean([np.mean(found[labels == k].numpy() == k) for k in range(3)])
    assert balanced_accuracy(shares, labels) == pytest.approx(wanted)
    binary = (shares[:, :2].argmax(1), labels.clamp(max=1))
    assert balanced_accuracy(shares[:, :2], binary[1]) == pytest.approx(balanced_accuracy_score(binary[1], binary[0]))


def test_labels_and_values() -> None:
    shares, labels = torch.tensor([[0.9], [0.2], [0.7]]), torch.tensor([[1.0], [0.0], [math.nan]])
    assert label_accuracy(shares, labels) == 1
    truth, found = np.array([1.0, 2, 4]), np.array([1.5, 2, 3])
    assert explained(torch.tensor(found), torch.tensor(truth)) == pytest.approx(r2_score(truth, found))
    assert math.isnan(explained(torch.ones(3), torch.ones(3)))


def test_dice_is_f1_of_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    found, truth = (torch.randint(0, 3, (2, 9, 9), generator=generator) for _ in range(2))
    truth[0, 0] = IGNORED
    known = truth != IGNORED
    each = f1_score(truth[known].numpy(), found[known].numpy(), average=None)
    assert dice(found, truth, 3) == pytest.approx(each[1:].mean())
    assert math.isnan(dice(found, torch.zeros_like(truth), 3))


def boxes(
    rows: list[tuple[float, ...]], kinds: list[int], scores: list[float] | None = None
) -> dict[str, torch.Tensor]:
    image = {
        "boxes": torch.tensor(rows, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(kinds, dtype=torch.long),
    }
    return image if scores is None else image | {"scores": torch.tensor(scores)}


def test_average_precision_of_known_cases() -> None:
    truth = [boxes([(0, 0, 10, 10), (20, 20, 30, 30)], [0, 0])]
    assert average_precision([boxes([(0, 0, 10, 10), (20, 20, 30, 30)], [0, 0], [0.9, 0.8])], truth, 1) == 1
    assert average_precision([boxes([], [], [])], truth, 1) == 0
    twice = [boxes([(0, 0, 10, 10), (0, 0, 10, 10)], [0, 0], [0.9, 0.8])]
    assert average_precision(twice, truth, 1) == 0.5
    wrong_first = [boxes([(50, 50, 60, 60), (0, 0, 10, 10), (20, 20, 30, 30)], [0, 0, 0], [0.9, 0.8, 0.7])]
    assert average_precision(wrong_first, truth, 1) == pytest.approx(2 / 3)


def test_average_precision_is_torchmetrics() -> None:
    """Their 101 recall points against ours at every step: within a hundredth on many boxes."""
    detection = pytest.importorskip("torchmetrics.detection")
    rng = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(12):
        corner = rng.uniform(0, 60, (20, 2))
        real = np.hstack([corner, corner + rng.uniform(8, 24, (20, 2))])
        kinds = rng.integers(0, 2, 20)
        moved = real[:15] + rng.normal(0, 2.0, (15, 4))
        spurious = np.hstack([rng.uniform(0, 40, (6, 2)), rng.uniform(50, 80, (6, 2))])
        truth.append(boxes([tuple(row) for row in real], kinds.tolist()))
        scores = [*rng.uniform(0.3, 1, 15).tolist(), *rng.uniform(0, 0.8, 6).tolist()]
        rows = [tuple(row) for row in np.vstack([moved, spurious])]
        found.append(boxes(rows, [*kinds[:15].tolist(), *rng.integers(0, 2, 6).tolist()], scores))
    metric = detection.MeanAveragePrecision(iou_thresholds=[0.5])
    metric.update(found, truth)
    assert average_precision(found, truth, 2) == pytest.approx(float(metric.compute()["map_50"]), abs=0.01)
