"""``report.html`` of a training: losses, held-out scores, health of the features, masks and boxes beside the truth."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image, ImageDraw

from umedfeat.errors import OutputError
from umedfeat.pretraining.examples import Boxes
from umedfeat.pretraining.gallery import Shown
from umedfeat.pretraining.masks import IGNORED
from umedfeat.pretraining.run import TrainResult
from umedfeat.pretraining.scores import METRICS
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class
from umedfeat.report.templating import render

__all__ = ["render_training_report", "write_training_report"]

#: Colours of classes on images, from the second on (the first is the background of a mask).
_COLOURS = ((0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178))
_CLEAR = 0.55  # of the image under a mask
_SIDE = 200  # pixels of a picture on the page


class TaskSection(NamedTuple):
    """One task on the page."""

    name: str
    type: str
    metric: str
    score: str
    losses: Markup
    scores: Markup
    pictures: list[tuple[str, str]]


def write_training_report(result: TrainResult) -> Path:
    """Write ``report.html`` into the training's folder.

    Raises:
        OutputError: it cannot be written.
    """
    path = result.folder / "report.html"
    try:
        path.write_text(render_training_report(result), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path.name}: cannot be written ({error.strerror})", remedy="free some space") from error
    return path


def render_training_report(result: TrainResult) -> str:
    """The page as text."""
    trained = [task for task in result.tasks if task.spec.role == "train"]
    sections = [_section(result, task.name, task.type) for task in trained]
    last = result.looks[-1] if result.looks else {"dead": math.nan, "cosine": math.nan}
    return render(
        "training.html",
        result=result,
        encoder=result.out.stem,
        trained=trained,
        sections=sections,
        last=last,
        health=_health(result.looks),
        alphas=_alpha_table(result.alphas),
    )


def _section(result: TrainResult, name: str, kind: str) -> TaskSection:
    losses = [(row["round"], row[f"loss {name}"]) for row in result.losses if math.isfinite(row[f"loss {name}"])]
    scores = [(float(look["round"]), look["scores"][name]) for look in result.looks if name in look["scores"]]
    found = [(x, y) for x, y in scores if math.isfinite(y)]
    pictures = [(_truth(shown), _found(shown)) for shown in result.gallery if shown.task == name]
    return TaskSection(
        name,
        kind,
        METRICS[kind],
        f"{found[-1][1]:.3f}" if found else "nothing held out",
        _lines([losses], "loss", f"loss of {name}"),
        _lines([found], METRICS[kind], f"held-out {METRICS[kind]} of {name}"),
        pictures,
    )


def _health(looks: Sequence[dict[str, Any]]) -> Markup:
    dead = [(float(look["round"]), float(look["dead"])) for look in looks]
    cosine = [(float(look["round"]), float(look["cosine"])) for look in looks if math.isfinite(look["cosine"])]
    return _lines([cosine, dead], "share or cosine", "cosine to the start and share of dead dimensions")


def _lines(series: Sequence[Sequence[tuple[float, float]]], label: str, title: str) -> Markup:
    points = [point for line in series for point in line]
    if len(points) < 2:
        return Markup("")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x = (min(0.0, *xs), max(xs))
    pad = max(0.02, (max(ys) - min(ys)) * 0.08)
    y = (min(ys) - pad, max(ys) + pad)
    axes = Axes(x, y, linear_ticks(*x), linear_ticks(*y), "rounds", label, title, width=420, height=240)
    for number, line in enumerate(series):
        axes.line(line, series_class(number))
        for place, value in line if len(line) <= 12 else []:
            axes.dot(place, value, series_class(number), radius=3, tip=f"round {place:g}: {value:.3f}")
    return axes.svg()


def _alpha_table(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[tuple[str, str, list[str]]]]:
    alphas = sorted({row["alpha"] for row in rows})
    table = []
    for task, role in dict.fromkeys((row["task"], row["role"]) for row in rows):
        by_alpha = {row["alpha"]: f"{row['macro_f1']:.3f}" for row in rows if row["task"] == task}
        table.append((task, "trained on" if role == "train" else "left out", [by_alpha.get(a, "") for a in alphas]))
    return alphas, table


def _truth(shown: Shown) -> str:
    return _picture(shown.pixels, shown.true_mask, shown.true_boxes)


def _found(shown: Shown) -> str:
    return _picture(shown.pixels, shown.found_mask, shown.found_boxes)


def _picture(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.int64] | None, boxes: Boxes | None) -> str:
    """A PNG as a data URI, with the mask laid over or the boxes drawn."""
    if mask is not None:
        pixels = _overlaid(pixels, mask)
    image = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    if boxes is not None:
        draw, scale = ImageDraw.Draw(image), _SIDE / len(pixels)
        for corners, kind in zip(boxes.corners, boxes.kinds, strict=True):
            draw.rectangle([float(side) * scale for side in corners], outline=_COLOURS[int(kind) % len(_COLOURS)])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _overlaid(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    colours = np.asarray(_COLOURS, np.float32)[(mask - 1) % len(_COLOURS)]
    drawn = ((mask > 0) & (mask != IGNORED))[..., None]
    mixed = np.where(drawn, pixels * _CLEAR + colours * (1 - _CLEAR), pixels)
    return np.rint(mixed).astype(np.uint8)
