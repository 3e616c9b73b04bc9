"""The cohort in two dimensions: the first two principal components of its features."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from umedfeat.report.figures.axes import Axes, series_class

__all__ = ["MOST_POINTS", "embedding_map", "principal_plane"]

#: More points make the page heavy and no clearer.
MOST_POINTS = 3000
_GROUPS = 7
#: CSS class of what has no value.
_NONE = "none"


def principal_plane(features: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """(I, 2) coordinates on the first two principal components, and the share of the variance of each.

    The sign of each is set so that its largest loading is positive.
    """
    rows = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    power, axes = np.linalg.eigh(rows.T @ rows)
    best = axes[:, ::-1][:, :2]
    best = best * np.sign(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])])
    plane = np.zeros((len(rows), 2))
    plane[:, : best.shape[1]] = rows @ best
    shares = [*(power[::-1][:2] / max(power.sum(), 1e-30)).tolist(), 0.0]
    return plane, (shares[0], shares[1])


def _by_number(name: str) -> tuple[float, str]:
    """Names that begin with a number in its order, before the others."""
    found = re.match(r"-?\d[\d,]*(\.\d+)?", name)
    return (float(found[0].replace(",", "")) if found else math.inf), name


def embedding_map(
    plane: npt.NDArray[np.float64], shares: tuple[float, float], groups: npt.NDArray[np.str_], title: str
) -> tuple[Markup, list[tuple[str, str]]]:
    """The map coloured by a column, and its key: (CSS class, name). Rare groups share the last colour, and what has no
    value is grey, below the others and last in the key."""
    names, counts = np.unique(groups[groups != ""], return_counts=True)
    order = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    shown = sorted(order if len(order) <= _GROUPS else order[: _GROUPS - 1], key=_by_number)
    key = [(series_class(number), name) for number, name in enumerate(shown)]
    if len(shown) < len(order):
        key.append((series_class(_GROUPS - 1), f"{len(order) - len(shown)} others"))
    kinds = {"": _NONE, **dict(zip(shown, (kind for kind, _ in key), strict=False))}
    if (groups == "").any():
        key.append((_NONE, "unknown"))
    picked = np.linspace(0, len(plane) - 1, min(len(plane), MOST_POINTS)).astype(np.intp)
    spans = []
    for column in plane.T:
        pad = float(np.ptp(column)) * 0.05 or 1.0
        spans.append((float(column.min()) - pad, float(column.max()) + pad))
    labels = [f"principal component {k + 1} ({share:.0%} of the variance)" for k, share in enumerate(shares)]
    axes = Axes(spans[0], spans[1], [], [], labels[0], labels[1], title, width=520, height=420, left=34, bottom=34)
    for k in picked[np.argsort(groups[picked] != "", kind="stable")]:
        group = str(groups[k])
        x, y = plane[k].tolist()
        axes.dot(x, y, f"{kinds.get(group, series_class(_GROUPS - 1))} point", radius=3, tip=group)
    return axes.svg(), key
