"""What each class gets: sensitivity, precision, F1, AUROC, as means over the draws."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from umedfeat.fewshot.result import Judged, Predictions
from umedfeat.report.figures.agreement import onehot_of

__all__ = ["per_class"]


def per_class(result: Judged, part: Predictions) -> list[list[str]]:
    """(class, test patients, test items, precision, sensitivity, F1, AUROC) a class; "–" where a draw has none."""
    hits = onehot_of(result, part).astype(np.intp)
    scores = np.stack([_one_draw(result, hits, values) for values in part.values])
    rows = []
    for k, name in enumerate(result.cohort.classes):
        numbers = scores[:, :, k]
        cells = [f"{column.mean():.3f}" if np.isfinite(column).all() else "–" for column in numbers.T]
        patients = len(np.unique(result.cohort.patient[part.items[hits[:, k] > 0]]))
        rows.append([name, str(patients), str(int(hits[:, k].sum())), *cells])
    return rows


def _one_draw(
    result: Judged,
    hits: np.ndarray[tuple[int, int], np.dtype[np.intp]],
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(4, K): precision, sensitivity, F1, AUROC."""
    if result.task == "multilabel":
        said = (values > 0.5).astype(np.intp)
    else:
        said = np.eye(values.shape[1], dtype=np.intp)[values.argmax(axis=1)]
    precision, sensitivity, f1, _ = precision_recall_fscore_support(hits, said, average=None, zero_division=np.nan)
    areas = [
        roc_auc_score(hits[:, k], values[:, k]) if 0 < hits[:, k].sum() < len(hits) else np.nan
        for k in range(hits.shape[1])
    ]
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]] = np.stack([precision, sensitivity, f1, np.asarray(areas)])
    return table
