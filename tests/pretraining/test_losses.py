"""Losses against independent arithmetic; a guess costs about 1; nothing to count is 0 and has a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_backbone import batch_of, task_of

from umedfeat.pretraining.augment import Sample
from umedfeat.pretraining.boxes import BoxHead
from umedfeat.pretraining.decoders import BoxDecoder
from umedfeat.pretraining.heads import Batch
from umedfeat.pretraining.losses import classification_loss, multilabel_loss, regression_loss, segmentation_loss
from umedfeat.pretraining.masks import IGNORED


@pytest.mark.parametrize("kinds", [2, 5, 30])
def test_a_uniform_guess_costs_one(kinds: int) -> None:
    labels = torch.arange(60) % kinds
    assert float(classification_loss(torch.zeros(60, kinds), labels)) == pytest.approx(1.0)
    mask = (torch.arange(64 * 64) % kinds).view(1, 64, 64)
    loss = float(segmentation_loss(torch.zeros(1, kinds, 64, 64), mask))
    assert loss == pytest.approx((1 + 1 - 1 / kinds) / 2, abs=0.02)
    assert float(multilabel_loss(torch.zeros(60, 3), torch.ones(60, 3))) == pytest.approx(1.0)


def test_predicting_the_mean_costs_about_one() -> None:
    values = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    assert float(regression_loss(torch.zeros(20000), values)) == pytest.approx(0.9, abs=0.15)


def test_segmentation_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 2, (2, 5, 4), generator=generator)
    mask[0, 0, :] = IGNORED
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    known = mask.numpy() != IGNORED
    dices = []
    for kind in (0, 1):  # the third class is not in the mask
        true = (mask.numpy() == kind) & known
        dices.append((2 * shares[:, kind][true].sum() + 1) / (shares[:, kind][known].sum() + true.sum() + 1))
    focal = 0.0
    for n, y, x in zip(*np.nonzero(known), strict=True):
        p = shares[n, int(mask[n, y, x]), y, x]
        focal += -((1 - p) ** 2) * math.log(p)
    focal /= known.sum() * (2 / 3) ** 2 * math.log(3)
    wanted = ((1 - np.mean(dices)) + focal) / 2
    assert float(segmentation_loss(logits, mask)) == pytest.approx(wanted, rel=1e-12)


def test_nothing_to_count_is_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((2, 8, 8), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None and logits.grad.isfinite().all()
    labels = torch.full((2, 3), math.nan)
    assert float(multilabel_loss(torch.randn(2, 3), labels)) == 0


def test_unknown_labels_change_nothing() -> None:
    logits = torch.tensor([[0.3, -2.0]])
    known = multilabel_loss(logits[:, :1], torch.tensor([[1.0]]))
    assert torch.equal(multilabel_loss(logits, torch.tensor([[1.0, math.nan]])), known)


def test_a_mask_without_foreground_and_an_image_without_boxes_are_finite() -> None:
    empty = segmentation_loss(torch.randn(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long))
    assert empty.isfinite()
    task = task_of("detection")
    nothing = Sample(torch.rand(3, 64, 64), None, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    head, read = BoxHead(task), BoxDecoder((8, 8, 16, 24))(levels(1))
    loss = head.loss(read, Batch([nothing], None))
    loss.backward()
    assert loss.isfinite()


def test_boxes_that_are_learnt_cost_less() -> None:
    """The head itself can reach the boxes: its loss falls far below the first one."""
    torch.manual_seed(0)
    task, read = task_of("detection"), BoxDecoder((8, 8, 16, 24))(levels(2))
    fixed = [(a.detach(), b.detach()) for a, b in read]
    head, batch = BoxHead(task), batch_of(task, 2)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = head.loss(fixed, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def levels(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, c, s, s, generator=generator) for c, s in ((8, 16), (8, 8), (16, 4), (24, 2))]
