"""Occlusion: what is hidden where the evidence lies counts, and what it costs is told before it is spent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from umedfeat.contract import Source
from umedfeat.discovery import discover
from umedfeat.errors import SetupError
from umedfeat.extraction import occlusion
from umedfeat.extraction.occlusion import PASSES, occlude_all, occluded, squares_of
from umedfeat.fewshot.classifiers.forms import LinearForm
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, Policy
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.readers import open_reader
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.store import FeatureStore, Header, Item

SIDE = 96
POLICY = Policy(image=ImagePolicy(size=SIDE))
KEY = Pseudonyms(b"k" * 32)
HEADER = Header({"name": "brightness"}, POLICY.to_dict())


class Brightness:
    """Mean, and share of bright pixels: the classifier looks at the second alone."""

    name, dim, image_size, device, precision = "brightness", 2, SIDE, "cpu", "fp32"
    settings: dict[str, Any] = {"name": "brightness"}  # noqa: RUF012
    seen = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        grey = images.mean(dim=1)
        return torch.stack([grey.mean(dim=(1, 2)), (grey > 0.8).float().mean(dim=(1, 2))], dim=1)


def _probe() -> SavedProbe:
    scaler = Scaler(Standard(np.zeros(2), np.ones(2)), np.zeros(2), 1.0)
    form = LinearForm(scaler, np.array([[0.0], [200.0]]), np.array([-3.0]), np.arange(2), 2, 2)
    training = {"patients": 2, "items": 2, "per_class": {}, "where": "all"}
    return SavedProbe("linear", form, "binary", ("dark", "bright"), "", "item", "mean", HEADER, training)


def _image() -> np.ndarray:
    pixels = np.full((SIDE, SIDE, 3), 60, dtype=np.uint8)
    pixels[48:64, 16:32] = 250
    return pixels


def test_the_fall_is_largest_where_the_bright_square_is_hidden() -> None:
    encoder = Brightness()
    hidden = occluded(_probe(), 1, _image(), encoder)
    assert encoder.seen == PASSES
    squares = squares_of((SIDE, SIDE))
    x0, y0, x1, y1 = squares[int(hidden.falls.argmax())]
    assert (x0, y0, x1, y1) == (16, 48, 32, 64)
    apart = (squares[:, 2] <= 16) | (squares[:, 0] >= 32) | (squares[:, 3] <= 48) | (squares[:, 1] >= 64)
    np.testing.assert_allclose(hidden.falls[apart], 0, atol=1e-9)
    assert hidden.chance > 0.9 and hidden.falls.max() > 0.5


def _features(images: Path, out: Path) -> Path:
    with FeatureStore(out, HEADER, dim=2) as store:
        for source in discover([images], POLICY, KEY).sources:
            store.add(_item(source))
        return store.finish({})


def _item(source: Source) -> Item:
    reader = open_reader(source, POLICY)
    plan = reader.plan()
    return Item(source, plan, np.array([[0.3, 0.028]], dtype=np.float32))


def test_maps_stand_on_the_page_and_the_cost_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, told = Brightness(), []
    monkeypatch.setattr(occlusion, "load_chosen", lambda choice: encoder)

    def tell(text: str) -> None:
        told.append((text, encoder.seen))

    (tmp_path / "films").mkdir()
    for number in range(3):
        Image.fromarray(_image()).save(tmp_path / "films" / f"{number}.png")
    found = apply_probe(_probe(), _features(tmp_path / "films", tmp_path / "feats.h5"))
    drawn = occlude_all(found, "bright", tmp_path / "out", tmp_path / "films", KEY, most=2, tell=tell)
    assert len(drawn) == 2 and encoder.seen == 2 * PASSES + 64  # two batches measure the time
    assert re.fullmatch(r"occlusion maps of 2 images: 244 forward passes, about \d+ s", told[0][0])
    assert told[0][1] == 64
    page = write_prediction_page(found, tmp_path / "out", drawn).read_text()
    pictures = list((tmp_path / "out" / "occlusion").iterdir())
    assert len(pictures) == 2 and all(f"occlusion/{path.name}" in page for path in pictures)
    assert "P(bright) is 0." in page
    shown = np.asarray(Image.open(pictures[0]).convert("RGB")).astype(int)[: 3 * SIDE]
    colour = shown[..., 1] - shown[..., 2]  # from violet, below 0, to green and yellow
    bright = np.argwhere(colour > 0.9 * colour.max())
    np.testing.assert_allclose(bright.mean(axis=0) / 3, (56, 24), atol=3)
    with pytest.raises(SetupError, match="needs the images"):
        occlude_all(found, "", tmp_path / "out", None, KEY)
