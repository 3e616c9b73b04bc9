"""An encoder from labelled tasks, with its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from umedfeat.policy import Policy
from umedfeat.pretraining.crew import is_first
from umedfeat.pretraining.forecast import Forecast, forecast
from umedfeat.pretraining.run import TrainResult, prepare, pretrain
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.report.training_page import write_training_report

__all__ = ["TrainingReport", "forecast_training", "pretrain_and_report"]


class TrainingReport(NamedTuple):
    """What a training made, and its page (None in the other processes of torchrun, which write nothing)."""

    result: TrainResult
    page: Path | None


def pretrain_and_report(
    tasks: Path | str,
    out: Path | str,
    *,
    encoder: str = "efficientnet-lite0",
    weights: Path | str | None = None,
    settings: TrainSettings | None = None,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
    tell: Callable[[float, str], None] = lambda share, line: None,
) -> TrainingReport:
    """``umedfeat.pretrain`` and the page about it, as ``umedfeat pretrain`` does; same arguments and errors."""
    result = pretrain(
        tasks,
        out,
        encoder=encoder,
        weights=weights,
        settings=settings,
        device=device,
        offline=offline,
        overwrite=overwrite,
        tell=tell,
    )
    return TrainingReport(result, write_training_report(result) if is_first() else None)


def forecast_training(
    tasks: Path | str,
    *,
    encoder: str = "efficientnet-lite0",
    weights: Path | str | None = None,
    settings: TrainSettings | None = None,
    device: str = "auto",
    offline: bool = False,
) -> Forecast:
    """Tasks, leaks, time and memory of a training (``pretrain --dry-run``); nothing is written. Errors: ``prepare``."""
    chosen = settings or TrainSettings()
    ready = prepare(tasks, encoder=encoder, weights=weights, settings=chosen, offline=offline)
    return forecast(ready, chosen, Policy(), device)
