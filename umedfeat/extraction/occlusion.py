"""Occlusion maps of single images: how far does the probability fall when a part is hidden?

A single image has one vector, in which nothing can be located; so squares of it are hidden one after the other and the
image is embedded anew each time (Zeiler and Fergus, ECCV 2014). That costs a forward pass a square, as is told first.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Ints
from umedfeat.contract import Encoder
from umedfeat.encoders.registry import load_chosen
from umedfeat.errors import InputError, SetupError
from umedfeat.extraction.like import choice_like
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.saved import SavedProbe
from umedfeat.readers import open_reader
from umedfeat.report.heatmap import ScoredTiles, paint
from umedfeat.report.prediction_pictures import Evidence, Images
from umedfeat.report.preview.cards import slug
from umedfeat.report.preview.drawing import to_rgb8

__all__ = ["MOST_EXPLAINED", "PASSES", "occlude_all", "occluded", "squares_of"]

#: Squares along a side; each is two steps wide, so that every point is hidden four times.
_GRID = 12
#: Forward passes of one image: every square, and the image as it is.
PASSES = (_GRID - 1) ** 2 + 1
#: Images that are explained unless more are asked for: the least certain ones.
MOST_EXPLAINED = 12
_BATCH = 32
_ENLARGED = 3

Pixels = npt.NDArray[np.generic]


class Hidden(NamedTuple):
    """Of one image: (S,) by how much the probability falls with each square hidden, and the probability as it is."""

    falls: Floats
    chance: float


def occlude_all(
    found: Predicted,
    class_name: str,
    folder: Path,
    images: Path | None,
    pseudonyms: Pseudonyms,
    *,
    weights: Path | None = None,
    device: str = "auto",
    most: int = MOST_EXPLAINED,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[int, Evidence]:
    """Occlusion maps of the least certain single images, written into ``folder/occlusion``.

    Args:
        class_name: class that is explained; "" the predicted one of each item.
        images: what the features were made of. weights, device: of the encoder.
        most: how many images. tell: receives what it will cost, before it is spent.

    Returns:
        Item of the table → its map.

    Raises:
        SetupError: no images, or a probe of rows that a single image does not have.
    """
    if images is None:
        raise SetupError("--explain occlusion needs the images", remedy="name them with --images")
    if found.probe.pool == "mean+std" or found.probe.unit == "patient" or found.probe.header.of_tiles is not None:
        raise SetupError("--explain occlusion explains single images, and this probe takes others")
    behind = Images.of(images, found, pseudonyms)
    chosen = [int(item) for item in found.order if found.table.count[item] == 1 and _is_there(found, int(item), behind)]
    chosen = chosen[:most]
    if not chosen:
        return {}
    encoder = load_chosen(choice_like(found.probe.header, weights, device))
    fixed = found.probe.classes.index(class_name) if class_name else -1
    drawn: dict[int, Evidence] = {}
    for number, item in enumerate(chosen):
        pixels = _pixels(found, item, behind)
        if pixels is None:
            continue
        if number == 0:
            tell(_cost(encoder, pixels, len(chosen)))
        column = fixed if fixed >= 0 else int(found.best[item])
        drawn[item] = _drawn(found, item, column, pixels, encoder, folder)
    return drawn


def _is_there(found: Predicted, item: int, behind: Images) -> bool:
    return str(found.table.ids[item]) in behind.sources


def _pixels(found: Predicted, item: int, behind: Images) -> Pixels | None:
    """(H, W, 3) as the encoder saw it; None for tiles of slides and for what cannot be read again."""
    source = behind.sources[str(found.table.ids[item])]
    if behind.policy is None:
        return None
    with contextlib.suppress(InputError), contextlib.closing(open_reader(source, behind.policy)) as reader:
        plan = reader.plan()
        pixels = reader.read(plan.regions[:1])[0] if not plan.tile_extent else None
        return pixels if isinstance(pixels, np.ndarray) else None
    return None


def _cost(encoder: Encoder, pixels: Pixels, images: int) -> str:
    """Forward passes and the time that they will take, from one batch after a first one."""
    batch = np.stack([pixels] * _BATCH)
    _embedded(encoder, batch)
    began = time.perf_counter()
    _embedded(encoder, batch)
    seconds = (time.perf_counter() - began) / _BATCH * PASSES * images
    return f"occlusion maps of {images} images: {PASSES * images:,} forward passes, about {seconds:,.0f} s"


def squares_of(side: tuple[int, int]) -> Ints:
    """(S, 4) x0, y0, x1, y1 of the squares that are hidden in an image of (height, width)."""
    rows, columns = (np.linspace(0, length, _GRID + 1).round().astype(np.intp) for length in side)
    places = [(columns[j], rows[i], columns[j + 2], rows[i + 2]) for i in range(_GRID - 1) for j in range(_GRID - 1)]
    return np.asarray(places, dtype=np.intp)


def occluded(probe: SavedProbe, column: int, pixels: Pixels, encoder: Encoder) -> Hidden:
    """How far the probability of a class falls with each of ``squares_of`` hidden behind the image's mean colour."""
    chances = np.concatenate([probe.predict(_embedded(encoder, batch)) for batch in _batches(pixels)])[:, column]
    return Hidden(chances[0] - chances[1:], float(chances[0]))


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    """The image as it is, then with each square hidden, some at a time."""
    grey = pixels.reshape(-1, 3).mean(axis=0).astype(pixels.dtype)
    batch = [pixels]
    for x0, y0, x1, y1 in squares_of((pixels.shape[0], pixels.shape[1])).tolist():
        hidden = pixels.copy()
        hidden[y0:y1, x0:x1] = grey
        batch.append(hidden)
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _embedded(encoder: Encoder, batch: Pixels) -> npt.NDArray[np.float32]:
    from umedfeat.engine.embed import Embedder, Uploader  # imports torch

    return Embedder(encoder)(Uploader(encoder.device)(batch)).features


def _drawn(found: Predicted, item: int, column: int, pixels: Pixels, encoder: Encoder, folder: Path) -> Evidence:
    hidden = occluded(found.probe, column, pixels, encoder)
    most = max(float(hidden.falls.max()), 0.0)
    what = f"P({found.probe.classes[column]})" if found.probe.classes else "value"
    squares = squares_of((pixels.shape[0], pixels.shape[1]))
    side = float(squares[0, 2] - squares[0, 0])
    tiles = ScoredTiles(
        squares[:, :2].astype(np.int64),
        np.clip(hidden.falls / most, 0, 1) if most > 0 else np.zeros(len(squares)),
        side,
        (pixels.shape[1], pixels.shape[0]),
        None,
        "relative fall",
    )
    picture = to_rgb8(pixels)
    enlarged = np.repeat(np.repeat(picture, _ENLARGED, axis=0), _ENLARGED, axis=1)
    path = folder / "occlusion" / f"{slug(str(found.table.ids[item]))}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    paint(tiles, enlarged, 1 / _ENLARGED).save(path)
    caption = f"occlusion: {what} is {hidden.chance:.3f} and falls by {most:.3f} where the brightest place is hidden"
    return Evidence({caption: f"occlusion/{path.name}"})
