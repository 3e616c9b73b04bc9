"""Guards look at the features and count faults."""

from __future__ import annotations

import logging

import pytest
import torch

from umedfeat.errors import SetupError
from umedfeat.pretraining.guards import FaultCounter, health_of


def test_dead_dimensions_and_direction(caplog: pytest.LogCaptureFixture) -> None:
    start = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    start[:, 0] = 3.0  # constant at the start already: not killed by the training
    assert health_of(start, start) == (0.0, pytest.approx(1.0))
    now = start.clone()
    now[:, 1:5] = 0.0
    health = health_of(now, start)
    assert health.dead == pytest.approx(4 / 19)
    assert health.cosine < 1
    with caplog.at_level(logging.WARNING, "umedfeat"):
        health.checked()
    assert "dead" in caplog.text


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_too_many_dead_stop(value: float) -> None:
    start = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    now = start.clone()
    now[:, :10] = value
    with pytest.raises(SetupError, match="dead"):
        health_of(now, start).checked()


def test_five_faults_in_a_row_stop() -> None:
    faults = FaultCounter()
    for _ in range(4):
        faults.seen("a", finite=False)
    faults.seen("a", finite=True)
    for _ in range(4):
        faults.seen("a", finite=False)
    assert faults.total["a"] == 8
    with pytest.raises(SetupError, match="task a is not finite"):
        faults.seen("a", finite=False)
