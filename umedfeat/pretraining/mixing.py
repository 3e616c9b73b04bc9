"""Between the weights at the start and those at the end: the share α of the trained ones.

More training helps on the tasks and may hurt on everything else; a mix of both ends keeps what the start knew
(Wortsman et al. 2022, arXiv 2109.01903). α is chosen on patients that nothing was trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeSettings, probe
from umedfeat.pretraining.evaluation import features_of, spread
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.loader import Loader
from umedfeat.pretraining.model import Model

__all__ = ["ALPHAS", "FALLBACK", "choose_alpha", "mixed", "untouched"]

log = logging.getLogger("umedfeat")

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Where nothing is held out to choose on.
FALLBACK = 0.5
_MOST = 400  # images of a task that are looked at
_SETTINGS = ProbeSettings(fractions=(0.1, 1.0), repeats=5, bootstrap=100, label_of="item", on_missing_class="skip")
_METRIC = "macro_f1"


def mixed(
    start: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """(1 - alpha) · start + alpha · trained of every tensor of numbers; counters stay those of the start."""
    found = {}
    for name, before in start.items():
        after = trained[name].to(before.device)
        found[name] = torch.lerp(before, after, alpha) if before.is_floating_point() else before.clone()
    return found


def untouched(tasks: Sequence[Task]) -> list[tuple[Task, list[Example]]]:
    """Classification tasks with the images on which α may be chosen: of patients that no task trains on."""
    trained = {e.patient for task in tasks if task.spec.role == "train" for e in task.train}
    files = {e.source.files for task in tasks if task.spec.role == "train" for e in task.train}
    found = []
    for task in tasks:
        if task.type == "classification":
            examples = task.heldout if task.spec.role == "train" else (*task.train, *task.heldout)
            free = [e for e in examples if e.patient not in trained and e.source.files not in files]
            if len({e.stratum for e in free}) > 1:
                found.append((task, spread(free, _MOST)))
    return found


def choose_alpha(
    model: Model,
    loader: Loader,
    ends: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]],
    tasks: Sequence[Task],
    size: int,
) -> tuple[float, list[dict[str, Any]]]:
    """The share of ALPHAS with the best mean macro-F1 of few-shot probes; every score that was found.

    Trained tasks and tasks that were left out count as two halves, whatever their numbers.

    Args:
        model: its encoder's weights are replaced.
        ends: state of the encoder at the start and after the training.
    """
    wanted = untouched(tasks)
    rows = [row for alpha in ALPHAS for row in _scores(model, loader, mixed(*ends, alpha), alpha, wanted, size)]
    means = {alpha: _mean_of_halves(rows, alpha) for alpha in ALPHAS[1:]}
    known = {alpha: mean for alpha, mean in means.items() if np.isfinite(mean)}
    return (max(known, key=lambda alpha: known[alpha]) if known else FALLBACK), rows


def _scores(
    model: Model,
    loader: Loader,
    weights: Mapping[str, torch.Tensor],
    alpha: float,
    wanted: Sequence[tuple[Task, list[Example]]],
    size: int,
) -> Iterator[dict[str, Any]]:
    model.backbone.load_state_dict(weights)
    for task, examples in wanted:
        features = features_of(model, loader, [(task, examples)], size).numpy()
        score = few_shot_score(features, [e.stratum for e in examples], [e.patient for e in examples], task.name)
        if np.isfinite(score):
            yield {"alpha": alpha, "task": task.name, "role": task.spec.role, "macro_f1": score}


def few_shot_score(features: Any, labels: Sequence[str], patients: Sequence[str], name: str) -> float:
    """Mean macro-F1 over probes, fractions and draws; NaN where the images make no study."""
    try:
        result = probe(features, labels, patients, settings=_SETTINGS)
    except CohortError as error:
        log.warning("task %s: nothing to choose on (%s)", name, error.message)
        return float("nan")
    return float(np.nanmean([score.value for score in result.scores if score.metric == _METRIC]))


def _mean_of_halves(rows: Sequence[Mapping[str, Any]], alpha: float) -> float:
    halves = []
    for role in ("train", "select"):
        values = [row["macro_f1"] for row in rows if row["alpha"] == alpha and row["role"] == role]
        halves += [float(np.mean(values))] if values else []
    return float(np.mean(halves)) if halves else float("nan")
